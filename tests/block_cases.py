"""Networks of blocks for the tests: what people build, small, in float64."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pcalm.blocks import Blocks
from pcalm.engines import Solution as OfAnEngine
from pcalm.experiments.networks import Residual
from pcalm.network import ResidualMLP
from pcalm.problem import Solution
from tests.conftest import assert_near

EPS = torch.finfo(torch.float64).eps


class Case(NamedTuple):
    """A network, inputs, targets, and how far two right computations of it may be apart, relative to the largest."""

    net: Blocks
    x: Tensor
    y: Any
    bound: float


class Dense(nn.Module):
    """z + s φ(z) Wᵀ, s φ(z) Wᵀ or s z Wᵀ: the layers of `ResidualMLP`."""

    def __init__(self, weight: Tensor, scale: float, phi: Callable[[Tensor], Tensor] | None, skip: bool) -> None:
        super().__init__()
        self.weight, self.scale, self.phi, self.skip = nn.Parameter(weight.detach().clone()), scale, phi, skip

    def forward(self, z: Tensor) -> Tensor:
        out = self.scale * (z if self.phi is None else self.phi(z)) @ self.weight.mT
        return z + out if self.skip else out


PHI: dict[str, Callable[[Tensor], Tensor] | None] = {"linear": None, "tanh": torch.tanh, "relu": torch.relu}


def as_blocks(net: ResidualMLP) -> Blocks:
    """The residual MLP, written as blocks; its parameters are W_1..W_L."""
    (s_in, s, s_out), phi, (first, *hidden, last) = net.scales, PHI[net.activation], net.weights
    return Blocks(
        [
            Dense(first, s_in, None, False),
            *(Dense(weight, s, phi, True) for weight in hidden),
            Dense(last, s_out, phi, False),
        ]
    )


class Readout(nn.Module):
    """Mean over all positions, and a linear map."""

    def __init__(self, channels: int, classes: int, first: int) -> None:
        super().__init__()
        self.linear, self.first = nn.Linear(channels, classes), first

    def forward(self, z: Tensor) -> Tensor:
        return self.linear(z.flatten(2).mean(2) if self.first == 1 else z.mean(1))


class Attention(nn.Module):
    """Pre-LayerNorm self-attention of width d on [B, positions, d]."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm, self.qkv, self.out = nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.heads = heads

    def forward(self, z: Tensor) -> Tensor:
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.qkv(self.norm(z)).chunk(3, dim=-1)
        )
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


def convolutional(depth: int, channels: int = 8, size: int = 8, classes: int = 10) -> list[nn.Module]:
    """Stem, depth − 2 times z + conv(relu z)/√L, pooled readout, for images [B, 1, size, size]."""

    def branch() -> nn.Module:
        return nn.Sequential(nn.ReLU(), nn.Conv2d(channels, channels, 3, padding=1))

    hidden = [Residual(branch(), 1 / math.sqrt(depth)) for _ in range(depth - 2)]
    return [nn.Conv2d(1, channels, 3, padding=1), *hidden, Readout(channels, classes, 1)]


def transformer(depth: int, width: int = 16, heads: int = 4, tokens: int = 7, classes: int = 10) -> list[nn.Module]:
    """Embedding of tokens, (depth − 2)/2 times an attention and an MLP block, readout of the mean position."""
    blocks: list[nn.Module] = [nn.Embedding(tokens, width)]
    for index in range(depth - 2):
        mlp = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        blocks.append(Residual(mlp if index % 2 else Attention(width, heads), 1 / math.sqrt(depth)))
    return [*blocks, Readout(width, classes, 2)]


def case(name: str, batch: int = 3) -> Case:
    """One of CASES, the same at every call."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return CASES[name](batch)


def _conv(batch: int) -> Case:
    net = Blocks(convolutional(5, 3, 4, 4), "cross_entropy").double()
    # Products of 27 or fewer terms, sums over 16 positions, 5 blocks, forward and back.
    return Case(net, torch.randn(batch, 1, 4, 4).double(), torch.arange(batch) % 4, 500 * EPS)


def _shapes(batch: int) -> Case:
    """Every state has another shape, batch norm with its running statistics, and pooling."""
    blocks = [
        nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.BatchNorm2d(3)),
        nn.Sequential(nn.Tanh(), nn.AvgPool2d(2), nn.Conv2d(3, 4, 1)),
        nn.Sequential(nn.Tanh(), nn.Flatten(), nn.Linear(16, 6)),
        nn.Sequential(nn.Tanh(), nn.Linear(6, 2)),
    ]
    net = Blocks(blocks).double().eval()
    return Case(net, torch.randn(batch, 2, 4, 4).double(), torch.randn(batch, 2).double(), 500 * EPS)


def _transformer(batch: int) -> Case:
    net = Blocks(transformer(6, 8, 2, 5, 3), "cross_entropy").double()
    return Case(net, torch.arange(4 * batch).view(batch, 4) % 5, torch.arange(batch) % 3, 1000 * EPS)


def _tied(batch: int) -> Case:
    """One module in three places and its weight in the readout too, and a loss of its own."""
    hidden, readout = nn.Linear(4, 4), nn.Linear(4, 4)
    readout.weight = hidden.weight
    step = nn.Sequential(nn.Tanh(), hidden)

    def loss(out: Tensor, y: Tensor) -> Tensor:
        return F.huber_loss(out, y, reduction="none").sum(1)

    net = Blocks([nn.Linear(3, 4), step, step, step, nn.Sequential(nn.Tanh(), readout)], loss).double()
    return Case(net, torch.randn(batch, 3).double(), torch.randn(batch, 4).double(), 200 * EPS)


def _frozen(batch: int) -> Case:
    """A frozen block and bias, blocks without parameters (one of which hands its input on), an unused parameter."""
    net = Blocks(
        [nn.Flatten(), nn.Linear(6, 5), nn.Tanh(), nn.Identity(), nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 2)]
    ).double()
    net.blocks[4].requires_grad_(False)
    net.blocks[1].bias.requires_grad_(False)
    net.blocks[6].register_parameter("unused", nn.Parameter(torch.zeros(2).double()))
    return Case(net, torch.randn(batch, 2, 3).double(), torch.randn(batch, 2).double(), 200 * EPS)


CASES: dict[str, Callable[[int], Case]] = {
    "convolutional": _conv,
    "shapes": _shapes,
    "transformer": _transformer,
    "tied": _tied,
    "frozen": _frozen,
}


def assert_agree(found: Solution | OfAnEngine, truth: Solution | OfAnEngine, bound: float) -> None:
    """Two engines' states and gradients, which may have None where a parameter is frozen or unused.

    Gradients lie in memory alike, too: one that does not lie as its parameter does is misread by fused optimisers.
    """
    for part, exact in zip(found.state, truth.state, strict=True):
        for mine, own in zip(part, exact, strict=True):
            assert_near(mine, own, 10 * bound)
    for gradient, right in zip(found.gradients, truth.gradients, strict=True):
        assert (gradient is None) == (right is None)
        if gradient is not None:
            assert_near(gradient, right, 10 * bound)
            assert gradient.stride() == right.stride()
