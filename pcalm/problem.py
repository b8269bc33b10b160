"""The public calls: check the arguments, pick the engine, run it.

    state = infer(net, method, x, y)        the activities and multipliers after the method's budget
    grads = gradients(net, method, x, y)    the weight gradients there
    solve(net, method, x, y)                both, at the price of one
    backward(net, method, x, y)             the gradients put into .grad, for any optimiser

All arguments keep their values; only `backward` writes, and only to .grad. What surrounds a call (autocast, inference
mode, a compiler, …; see `pcalm.surroundings`) does not change its figures.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor

from pcalm import blocks, dynamics, integrity, refusals
from pcalm.blocks import Blocks
from pcalm.checks import finite, require
from pcalm.dynamics import State
from pcalm.engines import Engine, resolve
from pcalm.methods import BP, METHODS, PC, SETTINGS, Method, laid_out
from pcalm.network import ResidualMLP
from pcalm.surroundings import accumulate, independent, plain, unwrapped

Initial = State | tuple[Tensor, Tensor]


class Solution(NamedTuple):
    """What `solve` returns: the state after inference, and the weight gradients there, as `gradients` returns them."""

    state: State
    gradients: list[Tensor]


class Prepared(NamedTuple):
    """The arguments of a call, checked.

    Attributes:
        net: the network as the engine reads it.
        learned: the tensors whose gradients the engine finds, in its order, as autograd knows them.
        x: the inputs with their graph, and for replicas [R, B, D].
        y, start: targets and initial state without graphs.
        engine: the one to run.
    """

    net: Any
    learned: list[Tensor]
    method: Method
    x: Tensor
    y: Any
    start: State | None
    engine: Engine

    def run(self) -> Any:
        return self.engine.solve(self.net, self.method, self.x.detach(), self.y, self.start)


@independent
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
        net: the network, or a DistributedDataParallel, DataParallel or compiled module of it; its weights are read,
            never written.
        method: BP(), PC(...) or PCALM(...).
        x: inputs [B, D], of the network's dtype and device; with R replicas [R, B, D], or [B, D] shared by all. For
            `Blocks` [B, …] of any dtype. A graph behind x or y is left alone: results are figures, see `backward`.
        y: targets, float [B, C] (one-hot for classes); with R replicas [R, B, C], or [B, C] shared by all. For `Blocks`
            what their loss takes.
        initial: a state to start from instead of the feed-forward one: what `infer` returns, or a pair (activities,
            multipliers), each [L−1, B, N], for `Blocks` L−1 tensors [B, …]. PC rejects non-zero multipliers, BP rejects
            any initial state.
        engine: one of `pcalm.engines()`, or "auto"; of `Blocks` "reference", "torch" or "compiled".

    Returns:
        Solution with `state` (activities and multipliers, each [L−1, B, N]) and `gradients` (G_1..G_L, shaped as
        `net.weights`; for `Blocks` one per parameter).

    Raises:
        ValueError: an argument of the wrong type, shape, dtype, device or range, or a network that is not its model any
            more (an overridden method, a hook); the message names it and the way out.
    """
    found = _prepare(net, method, x, y, initial, engine).run()
    return Solution(found.state, found.gradients.as_list())


@independent
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
        For `Blocks` each [L−1, B, …] where all hidden layers have one shape, else a tuple of L−1 tensors [B, …].
    """
    return _prepare(net, method, x, y, initial, engine).run().state


@independent
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
        G_1..G_L, shaped as `net.weights`, of frozen weights too; for `Blocks` one per parameter, None for frozen ones.
    """
    return _prepare(net, method, x, y, initial, engine).run().gradients.as_list()


@independent
def backward(net: ResidualMLP | Blocks, method: Method, x: Tensor, y: Tensor, engine: str = "auto") -> None:
    """Adds the gradients of the batch mean of the energy to `.grad`, as autograd's backward does.

    Arguments and errors as in `solve`. Frozen parameters get none; behind a parametrised weight its originals get
    theirs. An x that requires a gradient, or has a graph (an encoder in front), gets ∂E/∂x = −J_1ᵀ q_1 / B, which goes
    on through that graph. Hooks of tensors run. In a DistributedDataParallel, `.grad` is the mean over all processes.

    Raises:
        ValueError: also where nothing requires a gradient, or y does.
    """
    given = _prepare(net, method, x, y, None, engine)
    require(
        not (isinstance(y, Tensor) and y.requires_grad),
        "y must not require a gradient, which is not computed for targets: use y.detach()",
    )
    require(
        given.x.requires_grad or any(tensor.requires_grad for tensor in given.learned),
        "net must have a parameter that requires a gradient, or x must, but all are frozen: call .requires_grad_() on "
        "what is to learn",
    )
    found = given.run()
    tensors, values = list(given.learned), list(found.gradients)
    if given.x.requires_grad:
        module = blocks if isinstance(given.net, Blocks) else dynamics
        tensors.append(given.x)
        values.append(module.input_gradient(given.net, given.method, given.x.detach(), given.y, found.state))
    accumulate(unwrapped(net), tensors, values)


def _prepare(net: Any, method: Any, x: Any, y: Any, initial: Any, engine: str) -> Prepared:
    """Checks everything, before anything is computed."""
    net = unwrapped(net)
    if not isinstance(net, (ResidualMLP, Blocks)):
        raise ValueError(
            f"net must be a pcalm.ResidualMLP or pcalm.Blocks, got {type(net).__name__}; "
            "pcalm.Blocks.from_sequential(net) takes a torch.nn.Sequential, pcalm.Blocks a list of modules"
        )
    if not isinstance(method, Method):
        names = ", ".join(kind.__name__ for kind in METHODS.values())
        raise ValueError(f"method must be an instance of {names}, got {method!r}")
    if isinstance(net, Blocks):
        chosen = resolve(engine, net)
        check_settings(net, method)
        x, y, start = refusals.check_problem(net, method, x, y, initial)
        return Prepared(net, list(net.parameters()), method, x, y, start, chosen)
    net, learned = integrity.readable(net)
    chosen = resolve(engine, net)
    check_settings(net, method)
    x = check_inputs(net, x)
    y = check_targets(net, x, y)
    start = None if initial is None else check_initial(net, method, x, initial)
    return Prepared(net, learned, method, x, y.detach(), start, chosen)


def check_settings(net: ResidualMLP | Blocks, method: Method) -> None:
    for name in () if isinstance(method, BP) else SETTINGS:
        value = getattr(method, name)
        if isinstance(value, tuple):
            laid_out(name, value, net.replicas, net.depth - 1)


def check_inputs(net: ResidualMLP, x: Any) -> Tensor:
    """x as [B, D], or [R, B, D] for replicas, with its graph."""
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
    parts = [_tensor(net, f"initial {name}", part) for name, part in zip(State._fields, initial, strict=True)]
    for name, part in zip(State._fields, parts, strict=True):
        require(
            list(part.shape) == shape,
            f"initial {name} must be [L-1, B, N] = {shape}, got {list(part.shape)}",
        )
        finite(f"initial {name}", part)
    require(
        not isinstance(method, PC) or not bool(parts[1].any()),
        "initial multipliers must be zero for PC, which has none; use PCALM(..., dual_step=0) to hold them fixed",
    )
    return State(*(part.detach() for part in parts))


# Every call comes through here, so messages are put together only where they are needed.
def _batch(net: ResidualMLP, name: str, value: Any, columns: int, rows: int | None) -> Tensor:
    value = _tensor(net, name, value)
    lead = [] if net.replicas is None else [net.replicas]
    if lead and value.ndim == 2:
        value = value.expand(*lead, *value.shape)
    shape = list(value.shape)
    rows_fit = len(shape) >= 2 and shape[-2] >= 1 and rows in (None, shape[-2])
    if len(shape) != len(lead) + 2 or shape[:-2] != lead or shape[-1] != columns or not rows_fit:
        expected = ", ".join(str(size) for size in (*lead, "B" if rows is None else rows, columns))
        raise ValueError(f"{name} must have shape [{expected}], got {shape}")
    finite(name, value)
    return value


def _tensor(net: ResidualMLP, name: str, value: Any) -> Tensor:
    value = plain(name, value)
    if value.dtype != net.dtype or value.device != net.device:
        raise ValueError(
            f"{name} must be {net.dtype} on {net.device} like the network, got {value.dtype} on {value.device}; "
            "convert it with .to(net.device, net.dtype)"
        )
    return value
