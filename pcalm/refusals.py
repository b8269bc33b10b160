"""What a chain of blocks must not do, found out before anything is computed, and said with the way out.

The energy of a sample may depend on that sample and the weights alone, and be the same at every evaluation. So no block
may normalise over the batch, draw random numbers, change its buffers, parameters or inputs, or mix samples. What a look
at the modules does not show, one pass of every block on the feed-forward states does, and a second one on the first
sample alone: the price of one feed-forward pass and a bit.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from pcalm.blocks import Blocks, as_state
from pcalm.checks import choice, finite, require
from pcalm.dynamics import State
from pcalm.methods import BP, PC, Method
from pcalm.network import DTYPES
from pcalm.surroundings import plain


def check_problem(net: Blocks, method: Method, x: Any, y: Any, initial: Any) -> tuple[Tensor, Any, State | None]:
    """The arguments of `pcalm.solve` for blocks, checked; x with its graph.

    Raises:
        ValueError: an argument of the wrong type, shape, dtype, device or range, or a block that PC-ALM cannot run on.
    """
    x, states = check_inputs(net, x)
    check_targets(net, states[-1], y)
    start = None if initial is None else check_initial(net, method, states[:-1], initial)
    return x, _usable(y.detach()) if isinstance(y, Tensor) else y, start


def check_inputs(net: Blocks, x: Any) -> tuple[Tensor, list[Tensor]]:
    """x with its graph, and z_1..z_{L-1} and out at the feed-forward state."""
    check_modules(net)
    x = plain("x", x)
    require(x.ndim >= 1 and len(x) >= 1, f"x must have shape [B, …] with B >= 1, got {list(x.shape)}")
    require(
        x.device == net.device, f"x must be on {net.device} like the network, got {x.device}; convert it with .to(…)"
    )
    if x.is_floating_point():
        finite("x", x)
    x = _usable(x)
    return x, feedforward(net, x.detach())


def _usable(tensor: Tensor) -> Tensor:
    """The tensor, or a copy that autograd may keep where it was made in inference mode."""
    return tensor.clone() if tensor.is_inference() else tensor


def check_modules(net: Blocks) -> None:
    """What the modules and parameters say by themselves."""
    for name, module in net.named_modules():
        what = f"{name} ({type(module).__name__})"
        require(
            not isinstance(module, _BatchNorm) or not (module.training or module.running_mean is None),
            f"{what} normalises over the batch, so that samples interact: call .eval() on it, which takes its running "
            "statistics, or use GroupNorm or LayerNorm",
        )
        probability = getattr(module, "p" if isinstance(module, _DropoutNd) else "dropout", 0.0)
        require(
            not isinstance(module, (_DropoutNd, nn.MultiheadAttention, nn.RNNBase))
            or not (module.training and probability > 0),
            f"{what} drops at random, so that the energy changes at every evaluation: call .eval() on it, or set its "
            "probability to 0",
        )
    for name, parameter in net.named_parameters():
        require(
            not isinstance(parameter, nn.parameter.UninitializedParameter),
            f"{name} has no shape yet: call net(x) once before",
        )
        require(
            not parameter.is_inference(),
            f"{name} was made in inference mode, so that nothing can be derived by it: build the network outside",
        )
        require(
            not parameter._backward_hooks,
            f"{name} has a hook (register_hook), which would run on derivatives that are no gradients of it: "
            "remove it, or use register_post_accumulate_grad_hook, which runs once .grad is filled",
        )
        choice(f"the dtype of {name}", parameter.dtype, DTYPES)
        require(
            parameter.dtype == net.dtype and parameter.device == net.device,
            f"the parameters must share one dtype and device: {name} is {parameter.dtype} on {parameter.device}, the "
            f"first one {net.dtype} on {net.device}; convert them with net.to(device, dtype)",
        )
        finite(name, parameter)


@torch.no_grad()
def feedforward(net: Blocks, x: Tensor) -> list[Tensor]:
    """z_1..z_{L-1} and out, every block watched while it computes its own."""
    states: list[Tensor] = []
    held, chance = _held(net), _random_state(net.device)
    before = {name: (part, part._version) for name, part in held.items()}
    for index, block in enumerate(net.blocks):
        what, below = f"blocks.{index} ({type(block).__name__})", states[-1] if states else x
        version = below._version
        out = _call(what, block, below)
        require(
            below._version == version,
            f"{what} changes its input in place, which is a state of the network: use an operation that returns a new "
            "tensor, such as inplace=False",
        )
        _check_output(net, what, out, len(x))
        states.append(out)
    after = _held(net)
    for name, (part, version) in before.items():
        require(
            after.get(name) is part and part._version == version,
            f"{name} changes when its block is evaluated, so that the energy does: call .eval() on the block, or keep "
            "what it holds fixed during inference",
        )
    if not all(map(torch.equal, chance, _random_state(net.device))):
        raise ValueError(
            f"{_drawing(net, x, states)} draws random numbers, so that the energy changes at every evaluation: call "
            ".eval() on it"
        )
    for index, block in enumerate(net.blocks):
        _check_alone(
            f"blocks.{index} ({type(block).__name__})", block, states[index - 1] if index else x, states[index]
        )
    return states


def _held(net: Blocks) -> dict[str, Tensor]:
    return {**dict(net.named_parameters()), **dict(net.named_buffers())}


def _drawing(net: Blocks, x: Tensor, states: list[Tensor]) -> str:
    """The first block that draws random numbers from torch's generators, given that one does."""
    for index, (block, below) in enumerate(zip(net.blocks, [x, *states], strict=False)):
        chance = _random_state(net.device)
        block(below)
        if not all(map(torch.equal, chance, _random_state(net.device))):
            return f"blocks.{index} ({type(block).__name__})"
    return "a block"


def _call(what: str, block: nn.Module, below: Tensor) -> Any:
    try:
        return block(below)
    except Exception as error:
        raise ValueError(
            f"{what} fails on an input of shape {list(below.shape)} and {below.dtype}: {type(error).__name__}: {error}"
        ) from error


def _random_state(device: torch.device) -> list[Tensor]:
    states = [torch.get_rng_state()]
    return [*states, torch.cuda.get_rng_state(device)] if device.type == "cuda" else states


def _check_output(net: Blocks, what: str, out: Any, batch: int) -> None:
    require(isinstance(out, Tensor), f"{what} must return one tensor [B, …], got {type(out).__name__}")
    require(
        out.ndim >= 1 and len(out) == batch,
        f"{what} must return a state of shape [B, …] with B = {batch}, the samples first, got {list(out.shape)}",
    )
    require(
        out.dtype == net.dtype and out.device == net.device,
        f"{what} must return {net.dtype} on {net.device} like the network, got {out.dtype} on {out.device}",
    )
    finite(f"the feed-forward state behind {what}", out)


def _check_alone(what: str, block: nn.Module, below: Tensor, out: Tensor) -> None:
    """The first sample alone gives what it gives in the batch.

    Both round, and may take other kernels, on GPUs in tf32 (2⁻¹¹ a product): ε^¼ of the largest value, 1.9e-2 in
    float32 and 1.2e-4 in float64, leaves room for that, and for nothing that mixes samples by more.
    """
    alone = _call(f"{what}, given the first sample of the batch alone,", block, below[:1])
    same_shape = isinstance(alone, Tensor) and alone.shape == out[:1].shape
    gap = float((alone - out[:1]).abs().max()) if same_shape and out.numel() else 0.0
    size = float(out[:1].abs().max()) if out.numel() else 0.0
    require(
        same_shape and gap <= torch.finfo(out.dtype).eps ** 0.25 * size,
        f"{what} gives another result for the first sample alone than in the batch (they differ by {gap:.2g}, of "
        f"{size:.2g}): it mixes samples or draws random numbers; normalise within a sample, and draw nothing",
    )


def check_targets(net: Blocks, out: Tensor, y: Any) -> None:
    if isinstance(net.loss, str):
        require(isinstance(y, Tensor), f"y must be a torch tensor, got {type(y).__name__}")
        require(y.device == out.device, f"y must be on {out.device} like the network, got {y.device}")
    if net.loss == "squared":
        require(
            y.shape == out.shape and y.dtype == out.dtype,
            f"y must be {out.dtype} of the outputs' shape {list(out.shape)} for the squared loss, got {y.dtype} of "
            f"shape {list(y.shape)}; one-hot labels with torch.nn.functional.one_hot, or use loss='cross_entropy'",
        )
    elif net.loss == "cross_entropy":
        require(
            out.ndim == 2, f"cross_entropy needs outputs [B, C], got {list(out.shape)}; give loss a callable -> [B]"
        )
        require(
            y.shape == out.shape[:1] and y.dtype == torch.int64,
            f"y must be class indices [B] = [{len(out)}], int64, for cross_entropy, got {y.dtype} of shape "
            f"{list(y.shape)}",
        )
        outside = (y < 0) | (y >= out.shape[1])
        require(
            not bool(outside.any()),
            f"y must be class indices from 0 to {out.shape[1] - 1}, got {int(y[outside][0]) if outside.any() else 0}",
        )
    if isinstance(y, Tensor) and y.is_floating_point():
        finite("y", y)
    with torch.no_grad():
        value = net.losses(out, y)
    shape = list(value.shape) if isinstance(value, Tensor) else type(value).__name__
    require(
        shape == [len(out)],
        f"loss must return one value per sample, shape [{len(out)}], got {shape}; a loss of torch does with "
        "reduction='none', summed over all dimensions but the first",
    )


def check_initial(net: Blocks, method: Method, z_ff: list[Tensor], initial: Any) -> State:
    require(not isinstance(method, BP), "initial must be None for BP: backpropagation has no state to start from")
    require(
        isinstance(initial, tuple) and len(initial) == 2,
        f"initial must be a state from infer() or a pair (activities, multipliers), got {type(initial).__name__}",
    )
    for name, part in zip(State._fields, initial, strict=True):
        expected = [list(each.shape) for each in z_ff]
        require(
            isinstance(part, (Tensor, tuple, list)) and [list(each.shape) for each in part] == expected,
            f"initial {name} must be {len(z_ff)} hidden layers of shapes {expected}, got "
            f"{[list(each.shape) for each in part] if isinstance(part, (Tensor, tuple, list)) else part!r}",
        )
        for layer, each in enumerate(part, 1):
            require(
                each.dtype == net.dtype and each.device == net.device,
                f"initial {name} must be {net.dtype} on {net.device} like the network, layer {layer} is {each.dtype} "
                f"on {each.device}",
            )
            finite(f"initial {name} of layer {layer}", each)
    require(
        not isinstance(method, PC) or not any(bool(each.any()) for each in initial[1]),
        "initial multipliers must be zero for PC, which has none; use PCALM(..., dual_step=0) to hold them fixed",
    )
    activities, multipliers = ([_usable(each.detach()) for each in part] for part in initial)
    return as_state(activities, multipliers)
