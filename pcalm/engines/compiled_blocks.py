"""The compiled engine for blocks: the stacked engine, each iteration of which is one program made by `torch.compile`.

An iteration reads and writes every stack of states a dozen times, and that traffic is most of its time; compiled, its
elementwise operations are fused with each other and with those of the blocks. Making the programs takes seconds at the
first call of a network, a batch size and a kind of method; settings and weights are data of theirs. So the light cone
is cut in two only: the upper half of the layers alone, as long as nothing has moved below it, then all of them.

A network that the compiler cannot see through runs in the stacked engine as it is.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from pcalm.blocks import Blocks, plain_attention
from pcalm.checks import first_line
from pcalm.dynamics import State
from pcalm.engines import Solution, reference_blocks, say_once, stacked_blocks, sweep
from pcalm.engines.stacked_blocks import Rows, Sweep, stacked
from pcalm.methods import BP, Method

# Programs of one function that torch keeps: one for each network, batch shape and kind of method, twice for the cone.
MAX_PROGRAMS = 256
SMALLEST_CONE = 8  # hidden layers, below which half a cone saves less than its program costs


def unavailable(device: torch.device, dtype: torch.dtype) -> str | None:
    if device.type != "cpu":
        return None if importlib.util.find_spec("triton") else "torch.compile needs triton there: pip install triton"
    try:
        sweep.target()
    except RuntimeError as error:
        return str(error)
    return None


@torch.no_grad()
def solve(net: Blocks, method: Method, x: Tensor, y: Any, initial: State | None) -> Solution:
    if isinstance(method, BP):
        return reference_blocks.solve(net, method, x, y, initial)
    state = Sweep(net, method, x, y, initial)
    try:
        _advance(state, method.steps, method.inner_steps)
    except Exception as error:  # whatever it is: if it is not the compiler's, the stacked engine raises it again
        say_once(f"{net.depth} blocks run in engine 'torch', since torch.compile fails: {first_line(error)}")
        return stacked_blocks.solve(net, method, x, y, initial)
    if method.credit == "after":
        state.dual_step()
    return state.solution()


class _Group(NamedTuple):
    """What a program knows of the stacked engine's group; its parameters and buffers are data, empty for one block."""

    block: nn.Module
    stacked: bool
    inputs: tuple[int, ...]
    below: Rows
    above: Rows


def _advance(state: Sweep, steps: int, inner_steps: int) -> None:
    """All steps but the last dual one."""
    groups, data = [], []
    for each in state.groups:
        several = len(each.blocks) > 1
        groups.append(_Group(each.blocks[0], several, tuple(each.inputs), each.below, each.above))
        data.append((each.parameters, each.buffers) if several else ({}, {}))
    eta, rho, alpha, kappa = (
        [_as_tensor(one, state.z[0]) for one in part] for part in (state.eta, state.rho, state.alpha, state.kappa)
    )
    no_dual = [torch.zeros_like(each) for each in alpha]
    half = (state.top + 1) // 2 if state.top >= SMALLEST_CONE else 0
    with _many_programs(), plain_attention():
        for number in range(steps * inner_steps):
            low = half if state.low >= half else 0
            _program()(
                *(groups, data, state.net.blocks[-1], state.net.losses, state.y),
                *(state.z, state.lam, state.z_ff, eta, rho, kappa),
                alpha if number and number % inner_steps == 0 else no_dual,
                low=low,
                starts=[sum(h < low for h in each) for each in state.members],
                bottom=state.place[0],
                top=state.place[state.top],
                dual=state.dual,
                anchored=state.anchored,
            )
            state.low = max(0, state.low - 1)
    state.linearise()


def _as_tensor(setting: Any, like: Tensor) -> Tensor:
    """A number as data, so that another one needs no other program."""
    return setting if isinstance(setting, Tensor) else torch.tensor(setting, dtype=like.dtype, device=like.device)


@functools.cache
def _program() -> Callable[..., None]:
    # In the memory format that the compiler prefers for convolutions the states would be copied to and fro.
    return torch.compile(_iteration, fullgraph=True, dynamic=False, options={"layout_optimization": False})


def _many_programs() -> contextlib.AbstractContextManager[Any]:
    """torch keeps eight programs of a function and then gives up, however many networks there are."""
    import torch._dynamo  # takes half a second

    return torch._dynamo.config.patch(recompile_limit=MAX_PROGRAMS, accumulated_recompile_limit=MAX_PROGRAMS)


def _iteration(
    groups: Sequence[_Group],
    data: Sequence[tuple[dict[str, Tensor], dict[str, Tensor]]],
    last: nn.Module,
    losses: Callable[[Tensor, Any], Tensor],
    y: Any,
    z: Sequence[Tensor],
    lam: Sequence[Tensor],
    z_ff: Sequence[Tensor],
    eta: Sequence[Tensor],
    rho: Sequence[Tensor],
    kappa: Sequence[Tensor],
    alpha: Sequence[Tensor],
    *,
    low: int,
    starts: Sequence[int],
    bottom: tuple[int, int],
    top: tuple[int, int],
    dual: bool,
    anchored: bool,
) -> None:
    """λ ← λ + α c, the dual step of before (α = 0 where there was none), then z ← z − η ∂E/∂z, both in place.

    Only hidden layers from `low` up move, in the stack of shape s its rows from starts[s] up. There is one such program
    for each network, shape of x, `low`, and kind of method, which `dual` and `anchored` say.
    """
    eta, rho, kappa, alpha = (
        [each[at:] if each.dim() else each for each, at in zip(part, starts, strict=True)]
        for part in (eta, rho, kappa, alpha)
    )
    moving, lam = ([each[at:] for each, at in zip(part, starts, strict=True)] for part in (z, lam))
    c = [torch.zeros_like(each) for each in moving]
    if low == 0:
        shape, row = bottom
        c[shape][row] = z[shape][row] - z_ff[shape][row]
    pulls = []
    for group, (parameters, buffers) in zip(groups, data, strict=True):
        first = sum(h < low for h in group.inputs)
        if first == len(group.inputs):
            continue
        below, above = (rows.of_part(first, starts) for rows in (group.below, group.above))
        if group.stacked:
            own, fixed = ({name: part[first:] for name, part in each.items()} for each in (parameters, buffers))
            run = stacked(group.block, own, fixed)
        else:
            run = functools.partial(_single, group.block)
        f, pull = cast(tuple[Tensor, Callable[[Tensor], tuple[Tensor]]], torch.func.vjp(run, below.of(moving)))
        above.of(c).copy_(above.of(moving) - f)
        pulls.append((below, above, pull))
    if dual:
        for multiplier, a, each in zip(lam, alpha, c, strict=True):
            multiplier.copy_(torch.where(a != 0, multiplier + a * each, multiplier))
    q = [r * each + multiplier for r, each, multiplier in zip(rho, c, lam, strict=True)]
    slope = [each.clone() for each in q]
    if anchored:
        slope = [
            each + k * (here - ff[at:])
            for each, k, here, ff, at in zip(slope, kappa, moving, z_ff, starts, strict=True)
        ]
    for below, above, pull in pulls:
        below.of(slope).sub_(pull(above.of(q))[0])
    shape, row = top[0], top[1] - starts[top[0]]
    slope[shape][row] += torch.func.grad(lambda here: losses(last(here), y).sum())(moving[shape][row])
    for here, step, each in zip(moving, slope, eta, strict=True):
        here.sub_(each * step)


def _single(block: nn.Module, z: Tensor) -> Tensor:
    return block(z[0]).unsqueeze(0)
