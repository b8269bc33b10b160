"""The public calls: check the arguments, pick the engine, run it.

    state = infer(net, method, x, y)        the activities and multipliers after the method's budget
    grads = gradients(net, method, x, y)    the weight gradients there
    solve(net, method, x, y)                both, at the price of one
    backward(net, method, x, y)             the gradients put into .grad, for any optimiser

All arguments keep their values; only `backward` writes, and only to .grad.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from pcalm import refusals
from pcalm.blocks import Blocks
from pcalm.checks import finite, require
from pcalm.dynamics import Gradients, State
from pcalm.engines import Solution, resolve
from pcalm.methods import BP, METHODS, PC, SETTINGS, Method, laid_out
from pcalm.network import ResidualMLP

Initial = State | tuple[Tensor, Tensor]


def solve(
    net: ResidualMLP | Blocks,
    method: Method,
    x: Tensor,
    y: Tensor,
    initial: Initial | None = None,
    engine: str = "auto",
) -> Solution:
    """Inference and weight gradients in one call.

    Args:
        net: the network; its weights are read, never written.
        method: BP(), PC(...) or PCALM(...).
        x: inputs [B, D], of the network's dtype and device; with R replicas [R, B, D], or [B, D] shared by all.
        y: targets, float [B, C] (one-hot for classes); with R replicas [R, B, C], or [B, C] shared by all.
        initial: a state to start from instead of the feed-forward one: what `infer` returns, or a pair (activities,
            multipliers), each [L−1, B, N]. PC rejects non-zero multipliers, BP rejects any initial state.
        engine: one of `pcalm.engines()`, or "auto".

    Returns:
        Solution with `state` (activities and multipliers, each [L−1, B, N]) and `gradients` (parameter-shaped).

    Raises:
        ValueError: an argument of the wrong type, shape, dtype, device or range; the message names it and the way out.
    """
    require(
        isinstance(net, (ResidualMLP, Blocks)),
        f"net must be a pcalm.ResidualMLP or pcalm.Blocks, got {type(net).__name__}; "
        "pcalm.Blocks.from_sequential(net) takes a torch.nn.Sequential, pcalm.Blocks a list of modules",
    )
    names = ", ".join(kind.__name__ for kind in METHODS.values())
    require(isinstance(method, tuple(METHODS.values())), f"method must be an instance of {names}, got {method!r}")
    chosen = resolve(engine, net)
    x, y, start = check_problem(net, method, x, y, initial)
    return chosen.solve(net, method, x, y, start)


def check_problem(
    net: ResidualMLP | Blocks, method: Method, x: Any, y: Any, initial: Any
) -> tuple[Tensor, Tensor, State | None]:
    """x, y and the initial state as the engines take them."""
    if not isinstance(method, BP):
        for name in SETTINGS:
            laid_out(name, getattr(method, name), net.replicas, net.depth - 1)
    if isinstance(net, Blocks):
        return refusals.check_problem(net, method, x, y, initial)
    x = check_inputs(net, x)
    y = check_targets(net, x, y)
    start = None if initial is None else check_initial(net, method, x, initial)
    for index, weight in enumerate((net.input_weight, net.hidden_weight, net.output_weight)):
        finite(f"weights (the {('input', 'hidden', 'output')[index]} part)", weight)
    return x, y, start


def infer(
    net: ResidualMLP | Blocks,
    method: Method,
    x: Tensor,
    y: Tensor,
    initial: Initial | None = None,
    engine: str = "auto",
) -> State:
    """The state after the method's whole budget; arguments and errors as in `solve`.

    Returns:
        State with `activities` and `multipliers`, each [L−1, B, N]; for BP the feed-forward states and zero.
    """
    return solve(net, method, x, y, initial, engine).state


def gradients(
    net: ResidualMLP | Blocks,
    method: Method,
    x: Tensor,
    y: Tensor,
    initial: Initial | None = None,
    engine: str = "auto",
) -> list[Tensor]:
    """The weight gradients of the batch mean of the energy after inference; arguments and errors as in `solve`.

    Returns:
        G_1..G_L, shaped as `net.weights`.
    """
    return solve(net, method, x, y, initial, engine).gradients.as_list()


def backward(net: ResidualMLP | Blocks, method: Method, x: Tensor, y: Tensor, engine: str = "auto") -> None:
    """Puts the weight gradients into `.grad` of the network's parameters, adding to what is there as autograd does.

    Arguments and errors as in `solve`.
    """
    accumulate(net, solve(net, method, x, y, None, engine).gradients)


def accumulate(net: ResidualMLP | Blocks, found: Gradients) -> None:
    """Adds gradients to `.grad` of the parameters, as autograd's backward does."""
    for parameter, gradient in zip(net.parameters(), found, strict=True):
        if gradient is not None:
            parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient


def check_inputs(net: ResidualMLP, x: Any) -> Tensor:
    """x as [B, D], or [R, B, D] for replicas."""
    return _batch(net, "x", x, net.input_dim, None)


def check_targets(net: ResidualMLP, x: Tensor, y: Any) -> Tensor:
    if isinstance(y, Tensor) and not y.is_floating_point():
        raise ValueError(
            f"y must be float targets [B, {net.output_dim}], got {y.dtype} of shape {list(y.shape)}; "
            f"one-hot labels with torch.nn.functional.one_hot(y, {net.output_dim}).to({net.dtype})"
        )
    return _batch(net, "y", y, net.output_dim, x.shape[-2])


def check_initial(net: ResidualMLP, method: Method, x: Tensor, initial: Any) -> State:
    require(not isinstance(method, BP), "initial must be None for BP: backpropagation has no state to start from")
    require(
        isinstance(initial, tuple) and len(initial) == 2,
        f"initial must be a state from infer() or a pair (activities, multipliers), got {type(initial).__name__}",
    )
    shape = [*x.shape[:-2], net.depth - 1, x.shape[-2], net.width]
    for name, part in zip(State._fields, initial, strict=True):
        _tensor(net, f"initial {name}", part)
        require(
            list(part.shape) == shape,
            f"initial {name} must be [L-1, B, N] = {shape}, got {list(part.shape)}",
        )
        finite(f"initial {name}", part)
    require(
        not isinstance(method, PC) or not bool(initial[1].any()),
        "initial multipliers must be zero for PC, which has none; use PCALM(..., dual_step=0) to hold them fixed",
    )
    return State(*(part.detach() for part in initial))


def _batch(net: ResidualMLP, name: str, value: Any, columns: int, rows: int | None) -> Tensor:
    _tensor(net, name, value)
    lead = [] if net.replicas is None else [net.replicas]
    if lead and value.ndim == 2:
        value = value.expand(*lead, *value.shape)
    expected = ", ".join(str(size) for size in (*lead, "B" if rows is None else rows, columns))
    require(
        value.ndim == len(lead) + 2
        and list(value.shape[:-2]) == lead
        and value.shape[-1] == columns
        and value.shape[-2] >= 1
        and rows in (None, value.shape[-2]),
        f"{name} must have shape [{expected}], got {list(value.shape)}",
    )
    finite(name, value)
    return value.detach()


def _tensor(net: ResidualMLP, name: str, value: Any) -> None:
    require(isinstance(value, Tensor), f"{name} must be a torch tensor, got {type(value).__name__}")
    require(
        value.dtype == net.dtype and value.device == net.device,
        f"{name} must be {net.dtype} on {net.device} like the network, got {value.dtype} on {value.device}; "
        f"convert it with .to(net.device, net.dtype)",
    )
