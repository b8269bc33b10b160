"""The engines: one truth and its fast twins, all with the same three names.

An engine is a module of this package with

    solve(net, method, x, y, initial) -> Solution    arguments already checked; all shapes as in `pcalm.dynamics`
    unavailable(device, dtype) -> str | None         why it cannot run there (the reason is shown to the user), or None

`reference` is `pcalm.dynamics` as it stands. Every other engine is tested against it, and passes `pytest conformance`.
For `Blocks`, `reference` and `torch` are modules of their own, `pcalm.blocks` as it stands and its twin, and `compiled`
makes programs of the twin.
"""

from __future__ import annotations

import functools
import importlib
import logging
from typing import Any, NamedTuple, Protocol, cast

import torch
from torch import Tensor

from pcalm.blocks import Blocks
from pcalm.checks import choice, require
from pcalm.dynamics import Gradients, State
from pcalm.integrity import own_activation
from pcalm.methods import Method
from pcalm.network import ACTIVATIONS, ResidualMLP, resolve_device

# name: module of this package
MODULES = {"reference": "reference", "cpu": "sweep", "torch": "stacked", "triton": "sweep_triton"}
# the same for a network of blocks; what is missing in one of them is written for the other
BLOCKS = {"reference": "reference_blocks", "torch": "stacked_blocks", "compiled": "compiled_blocks"}
ENGINES = tuple(dict.fromkeys(("auto", *MODULES, *BLOCKS)))


class Solution(NamedTuple):
    """What an engine returns: the state after inference, and the weight gradients there.

    Each gradient lies in memory as its parameter does. For `Blocks` the gradients are a
    `pcalm.blocks.ParameterGradients`, one per parameter.
    """

    state: State
    gradients: Gradients


class Engine(Protocol):
    def solve(self, net: Any, method: Method, x: Tensor, y: Any, initial: State | None) -> Solution: ...

    def unavailable(self, device: torch.device, dtype: torch.dtype) -> str | None: ...


def load(name: str, modules: dict[str, str] = MODULES) -> Engine:
    """The engine of that name.

    Raises:
        ValueError: no such engine, or it is written for the other kind of network.
    """
    choice("engine", name, ENGINES)
    if name not in modules:
        own, other = ("ResidualMLP", "other blocks") if name in MODULES else ("Blocks", "a ResidualMLP")
        raise ValueError(f"engine {name!r} is written for {own}, and does not run {other}; use engine='auto'")
    return cast(Engine, importlib.import_module(f"pcalm.engines.{modules[name]}"))


def reasons(
    device: torch.device, dtype: torch.dtype = torch.float32, modules: dict[str, str] = MODULES
) -> dict[str, str | None]:
    """Every engine's name, with None where it works on the device in the dtype, else the reason why not."""
    return {name: load(name, modules).unavailable(device, dtype) for name in modules}


def engines(device: str = "cpu") -> list[str]:
    """The names of the engines for `ResidualMLP` that work on this machine, on the device, for float32.

    Of them "reference" and "torch" run `Blocks`, too; "compiled" runs nothing else.

    Raises:
        ValueError: no such device on this machine.
    """
    return [name for name, reason in reasons(resolve_device(device)).items() if reason is None]


def choose(name: str, net: ResidualMLP | Blocks) -> str:
    """The engine's name if it works for the network; for "auto" that of the fastest that does.

    Raises:
        ValueError: no such engine, or it does not work for the network's device and dtype (with the reason).
    """
    modules = _modules(net)
    if isinstance(net, ResidualMLP) and own_activation(net):
        require(
            choice("engine", name, ENGINES) in ("auto", "reference"),
            f"engine {name!r} knows the activations {', '.join(ACTIVATIONS)} alone, and {type(net).__name__} has its "
            "own phi: use engine='reference'",
        )
        return "reference"
    if name == "auto":
        name = _fastest(net) if isinstance(net, ResidualMLP) else "torch"
    reason = load(name, modules).unavailable(net.device, net.dtype)
    if reason is not None:
        raise ValueError(f"engine {name!r} does not work for {net.dtype} on {net.device}: {reason}; use engine='auto'")
    return name


def resolve(name: str, net: ResidualMLP | Blocks) -> Engine:
    """The engine that `choose` names."""
    return load(choose(name, net), _modules(net))


def _modules(net: ResidualMLP | Blocks) -> dict[str, str]:
    return MODULES if isinstance(net, ResidualMLP) else BLOCKS


def _fastest(net: ResidualMLP) -> str:
    """On CPUs "cpu", else "torch".

    There is no crossover on CPUs: in float32 and float64, widths 1 to 512, depths 3 to 128 and batches 1 to 1024, "cpu"
    took 6 to 71 % of the time of "torch" (one thread, BP and PC-ALM). "triton" is never picked: it has been compiled
    for GPUs and interpreted, but not timed on one.
    """
    if net.device.type != "cpu":
        return "torch"
    reason = load("cpu").unavailable(net.device, net.dtype)
    if reason is None:
        return "cpu"
    say_once(f"engine 'cpu' is not available, so engine 'torch' is used, which is slower: {reason}")
    return "torch"


@functools.cache
def say_once(message: str) -> None:
    """A warning in the log, once in a process."""
    logging.getLogger("pcalm").warning(message)
