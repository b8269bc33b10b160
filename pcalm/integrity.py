"""A network as engines may read it: still the model, whatever has been done to it as a torch module since.

Torch lets anybody replace a weight, prune or parametrise it, override or hook a method, or convert a part of a network.
What leaves the model's equations as they are is followed; everything else is refused, never computed wrongly.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pcalm.checks import choice, finite
from pcalm.network import ACTIVATIONS, DTYPES, ResidualMLP, resolve_device, scales
from pcalm.surroundings import plain

PARTS = ("input_weight", "hidden_weight", "output_weight")
NAMES = {name: f"weights (the {name.removesuffix('_weight')} part)" for name in PARTS}
# What the equations of `pcalm.dynamics` have in them; only an activation may be another one.
FIXED, OPEN = ("forward", "feedforward", "readout"), ("phi", "dphi")
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def readable(net: ResidualMLP) -> tuple[ResidualMLP, list[Tensor]]:
    """The network as engines read it, with plain weights, and the three weights as autograd knows them.

    Those are the parameters, or what a parametrisation makes of others, evaluated once.

    Raises:
        ValueError: weights or methods that are not those of the model any more; the message says the way out.
    """
    with torch.enable_grad():
        parts = [plain(name, getattr(net, name)) for name in PARTS]
    _check_weights(net, parts)
    _check_module(net)
    parametrised = any(not isinstance(part, nn.Parameter) for part in parts)
    return holding(net, parts) if parametrised else net, parts


# Every call comes through here, so messages are put together only where they are needed.
def _check_weights(net: ResidualMLP, parts: Sequence[Tensor]) -> None:
    first, hidden, last = parts
    dtype, device = first.dtype, first.device
    if device.type == "meta":
        resolve_device(device)
    if dtype not in DTYPES:
        raise ValueError(f"net must be torch.float32 or torch.float64, got {dtype}; convert it with net.float()")
    lead, width = first.shape[:-2], first.shape[-2]
    if (
        hidden.shape[:-3] != lead
        or hidden.shape[-2:] != (width, width)
        or last.shape[:-2] != lead
        or last.shape[-1] != width
        or net.scales != scales(*parts)
    ):
        raise ValueError(
            "net must keep the sizes and scales that it was made with: its weights are "
            f"{', '.join(str(list(part.shape)) for part in parts)} and its scales {net.scales}; "
            "make another one with ResidualMLP.from_weights"
        )
    for name, part in zip(PARTS, parts, strict=True):
        if part.dtype != dtype or part.device != device:
            raise ValueError(
                f"net must have one dtype and device: {name} is {part.dtype} on {part.device}, input_weight {dtype} on "
                f"{device}; convert it with net.to(device, dtype)"
            )
        finite(NAMES[name], part)


def _check_module(net: ResidualMLP) -> None:
    if any(net.__dict__[kind] for kind in HOOKS):
        hooks = [hook for kind in HOOKS for hook in net.__dict__[kind].values()]
        raise ValueError(
            f"net must have no module hooks, which PC-ALM's calls do not run, got {', '.join(map(_named, hooks))}: "
            "remove them (torch.nn.utils.prune.remove(net, name) makes pruning permanent), or use "
            "torch.nn.utils.parametrize, whose weights are differentiated through"
        )
    choice("net.activation", net.activation, ACTIVATIONS)
    replaced = [name for name in FIXED if _replaced(net, name)]
    if replaced:
        raise ValueError(
            f"net must compute what ResidualMLP does, but {type(net).__name__} has its own {', '.join(replaced)}, "
            "which no engine runs; pcalm.Blocks takes a network of any modules"
        )
    own = [name for name in OPEN if _replaced(net, name)]
    if len(own) == 1:
        raise ValueError(
            f"net must have phi and its derivative dphi of one activation, but {type(net).__name__} has its own "
            f"{own[0]} alone"
        )


def _named(hook: object) -> str:
    return getattr(hook, "__qualname__", type(hook).__name__)


def _replaced(net: ResidualMLP, name: str) -> bool:
    """Whether a subclass, or somebody who assigned to the network, put another method in the place of ours."""
    return getattr(getattr(net, name), "__func__", None) is not getattr(ResidualMLP, name)


def own_activation(net: ResidualMLP) -> bool:
    """Whether φ is none of ACTIVATIONS, but a subclass's."""
    return _replaced(net, "phi")


def holding(net: ResidualMLP, parts: Sequence[Tensor]) -> ResidualMLP:
    """A network with the activation of `net` and other weights, which it shares with whoever has them."""
    other = ResidualMLP.__new__(ResidualMLP)
    nn.Module.__init__(other)
    other._adopt([part.detach() for part in parts], net.activation)
    if own_activation(net):
        for name in OPEN:
            setattr(other, name, getattr(net, name))
    return other
