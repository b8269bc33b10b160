"""The networks that training knows, all of them chains of L blocks on flat images [B, D].

    mlp          the paper's residual MLP: `pcalm.ResidualMLP`, or the same as blocks for another loss than the squared
    conv         stem, L−2 blocks z + conv3×3(φ(z))/√L, readout; N channels
    transformer  patches with learned positions, L−2 blocks, attention and MLP in turn, z + f(LayerNorm(z))/√L, readout;
                 tokens of size N, 4 heads (as many of them as divide N), MLPs of 4N units
    plain-mlp    L linear maps with φ between them, N units; no skip connections
    plain-conv   conv without its skip connections

All but mlp have biases. A readout is φ (LayerNorm in the transformer), the mean over positions, a linear map. States
are small enough for a CPU: digits, 8×8, have a state of N × 8×8; the stem of larger images, 28×28, cuts them into
patches of 4×4, to N × 7×7. The transformer has 4×4 patches, of 2×2 and 7×7 pixels, so 16 tokens.

Weights are drawn by torch's generator for CPUs, seeded, in float32: residual ones as torch does it by itself, uniform
in ±1/√(fan-in), positions from N(0, 0.02²); plain ones as He et al. (arXiv:1502.01852) do for φ, without which a signal
dies out over depth, and biases zero.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pcalm.blocks import Blocks
from pcalm.checks import choice, integer, require
from pcalm.network import ACTIVATIONS, ResidualMLP, resolve_device

FLOAT: dict[str, Any] = {"dtype": torch.float32, "device": "cpu"}
Linear: Callable[..., nn.Module] = functools.partial(nn.Linear, **FLOAT)
Conv: Callable[..., nn.Module] = functools.partial(nn.Conv2d, **FLOAT)
LayerNorm: Callable[..., nn.Module] = functools.partial(nn.LayerNorm, **FLOAT)
PHI: dict[str, Callable[[], nn.Module]] = {
    "linear": nn.Identity,
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "gelu": nn.GELU,
}
# Whose gain He et al.'s weights have: gelu is relu with a rounded corner.
HE: dict[str, Any] = {"linear": "linear", "tanh": "tanh", "relu": "relu", "gelu": "relu"}
TOKENS = 4  # patches in a row


class Dense(nn.Module):
    """s φ(z) Wᵀ, and z + that with a skip connection: a layer of `ResidualMLP`."""

    def __init__(self, weight: Tensor, scale: float, activation: str, skip: bool) -> None:
        super().__init__()
        self.weight, self.scale, self.activation, self.skip = nn.Parameter(weight.detach()), scale, activation, skip

    def forward(self, z: Tensor) -> Tensor:
        out = self.scale * ACTIVATIONS[self.activation][0](z) @ self.weight.mT
        return z + out if self.skip else out


class Residual(nn.Module):
    """z + s f(z)."""

    def __init__(self, branch: nn.Module, scale: float) -> None:
        super().__init__()
        self.branch, self.scale = branch, scale

    def forward(self, z: Tensor) -> Tensor:
        return z + self.scale * self.branch(z)


class Attention(nn.Module):
    """Self-attention with several heads over tokens [B, n, N]."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.qkv, self.out, self.heads = Linear(width, 3 * width), Linear(width, width), heads

    def forward(self, z: Tensor) -> Tensor:
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.qkv(z).chunk(3, dim=-1))
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Patches(nn.Module):
    """A flat image [B, D] as tokens [B, n, N] with learned positions."""

    def __init__(self, side: int, width: int) -> None:
        super().__init__()
        patch = side // TOKENS
        self.image = nn.Unflatten(1, (1, side, side))
        self.embedding = Conv(1, width, patch, stride=patch)
        self.positions = nn.Parameter(0.02 * torch.randn(TOKENS**2, width, **FLOAT))

    def forward(self, x: Tensor) -> Tensor:
        return self.embedding(self.image(x)).flatten(2).transpose(1, 2) + self.positions


class Mean(nn.Module):
    """The mean over positions."""

    def __init__(self, *dimensions: int) -> None:
        super().__init__()
        self.dimensions = dimensions

    def forward(self, z: Tensor) -> Tensor:
        return z.mean(self.dimensions)


@dataclass(frozen=True)
class Shape:
    """What a network is built from: L, N, D, C, φ and the seed."""

    depth: int
    width: int
    pixels: int
    classes: int
    activation: str
    seed: int

    @property
    def side(self) -> int:
        side = math.isqrt(self.pixels)
        require(
            side**2 == self.pixels and side % TOKENS == 0,
            f"dataset must have square images whose side is a multiple of {TOKENS} for this network, got {self.pixels} "
            "pixels; use network 'mlp' or 'plain-mlp'",
        )
        return side


def _mlp(shape: Shape) -> list[nn.Module]:
    net = ResidualMLP(shape.depth, shape.width, shape.pixels, shape.classes, shape.activation, seed=shape.seed)
    (s_in, s, s_out), (first, *hidden, last) = net.scales, net.weights
    middle = [Dense(weight, s, shape.activation, True) for weight in hidden]
    return [Dense(first, s_in, "linear", False), *middle, Dense(last, s_out, shape.activation, False)]


def _conv(shape: Shape) -> list[nn.Module]:
    stem, *branches, readout = _plain_conv(shape)
    return [stem, *(Residual(branch, 1 / math.sqrt(shape.depth)) for branch in branches), readout]


def _transformer(shape: Shape) -> list[nn.Module]:
    width, scale = shape.width, 1 / math.sqrt(shape.depth)
    phi, heads = PHI[shape.activation], math.gcd(4, width)
    blocks: list[nn.Module] = [Patches(shape.side, width)]
    for index in range(shape.depth - 2):
        mlp = (Linear(width, 4 * width), phi(), Linear(4 * width, width))
        branch = mlp if index % 2 else (Attention(width, heads),)
        blocks.append(Residual(nn.Sequential(LayerNorm(width), *branch), scale))
    return [*blocks, nn.Sequential(LayerNorm(width), Mean(1), Linear(width, shape.classes))]


def _plain_mlp(shape: Shape) -> list[nn.Module]:
    sizes = [shape.pixels, *[shape.width] * (shape.depth - 1), shape.classes]
    first, *rest = (Linear(below, above) for below, above in itertools.pairwise(sizes))
    return [first, *(nn.Sequential(PHI[shape.activation](), each) for each in rest)]


def _plain_conv(shape: Shape) -> list[nn.Module]:
    width, phi, stride = shape.width, PHI[shape.activation], -(-shape.side // 8)
    stem = Conv(1, width, 3, padding=1) if stride == 1 else Conv(1, width, stride, stride=stride)
    hidden = [nn.Sequential(phi(), Conv(width, width, 3, padding=1)) for _ in range(shape.depth - 2)]
    image = nn.Unflatten(1, (1, shape.side, shape.side))
    return [nn.Sequential(image, stem), *hidden, nn.Sequential(phi(), Mean(2, 3), Linear(width, shape.classes))]


@dataclass(frozen=True)
class Network:
    """A kind of network, with what is used where nothing else is asked for.

    Attributes:
        blocks: makes its blocks f_1..f_L.
        plain: whether it lacks skip connections.
        loss, activation, lr: the defaults; 3e-3 is what held-out training samples of digits favoured for gauged PC-ALM
            on conv (against 1e-2), and no other network's lr was searched.
    """

    blocks: Callable[[Shape], list[nn.Module]]
    plain: bool = False
    loss: str = "cross_entropy"
    activation: str = "relu"
    lr: float = 3e-3

    @property
    def activations(self) -> tuple[str, ...]:
        return tuple(ACTIVATIONS if self.blocks is _mlp else PHI)


NETWORKS = {
    "mlp": Network(_mlp, loss="squared", lr=1e-3),
    "conv": Network(_conv),
    "transformer": Network(_transformer, activation="gelu"),
    "plain-mlp": Network(_plain_mlp, plain=True),
    "plain-conv": Network(_plain_conv, plain=True),
}


def build(
    network: str,
    depth: int,
    width: int,
    pixels: int,
    classes: int,
    *,
    activation: str,
    loss: str,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
) -> Blocks:
    """The network of that name with freshly drawn weights, as blocks.

    Args:
        network: one of NETWORKS.
        depth: L ≥ 3, the number of blocks.
        width: N ≥ 1: units, channels, or the size of a token.
        pixels: D, of a flat image.
        classes: C, the outputs.
        activation: "linear", "tanh", "relu" or, but for "mlp", "gelu".
        loss: "squared", for targets [B, C], or "cross_entropy", for labels [B].
        seed: the same network on every device and in every dtype.

    Raises:
        ValueError: an argument out of its range, or images that the network cannot take; the message names it.
    """
    kind = NETWORKS[choice("network", network, NETWORKS)]
    choice("activation", activation, kind.activations)
    shape = Shape(integer("depth", depth, 3), integer("width", width, 1), pixels, classes, activation, seed)
    where = resolve_device(device)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        blocks = kind.blocks(shape)
        for module in (each for block in blocks for each in block.modules()):
            if kind.plain and isinstance(module, (nn.Linear, nn.Conv2d)):
                nn.init.kaiming_uniform_(module.weight, nonlinearity=HE[activation])
                assert module.bias is not None
                nn.init.zeros_(module.bias)
    return Blocks(blocks, loss).to(device=where, dtype=dtype)
