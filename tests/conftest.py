"""What the tests of the core share: small problems, and the rounding that two right computations may differ by."""

from __future__ import annotations

import signal
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from pcalm.dynamics import State
from pcalm.network import ACTIVATIONS, ResidualMLP

# The background jobs of a shell ignore Ctrl-C and hand that on; the tests that send it would then wait for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


class Drawn(NamedTuple):
    """A network with inputs [B, D], targets [B, C] and a state off the feed-forward one (with replicas behind [R])."""

    net: ResidualMLP
    x: Tensor
    y: Tensor
    state: State


def draw(
    activation: str = "tanh",
    *,
    depth: int = 5,
    width: int = 4,
    batch: int = 3,
    replicas: int | None = None,
    dtype: torch.dtype = torch.float64,
) -> Drawn:
    """A small problem; everything is N(0, 1) but the activities, which are the feed-forward ones plus N(0, 1)."""
    seed = 0 if replicas is None else list(range(replicas))
    net = ResidualMLP(depth, width, 6, 2, activation, seed=seed, dtype=dtype)
    lead = () if replicas is None else (replicas,)
    generator = torch.Generator().manual_seed(1)
    x, y, z, multipliers = (
        torch.randn(*lead, *shape, generator=generator, dtype=dtype)
        for shape in ((batch, 6), (batch, 2), (depth - 1, batch, width), (depth - 1, batch, width))
    )
    return Drawn(net, x, y, State(z + net.feedforward(x).detach(), multipliers))


def rounding(net: ResidualMLP, iterations: int = 1) -> float:
    """How far two right computations may be apart, relative to the largest value in them.

    To first order a dot product of length n rounds by n·ε of the size of its terms. A pass through all layers has one
    of length D, one of length C, and two of length N with some 8 elementwise operations in each of L layers; a stable
    iteration carries the error of the one before it on without growth, and adds its own.
    """
    operations = net.input_dim + net.output_dim + net.depth * (2 * net.width + 8)
    return iterations * operations * torch.finfo(net.dtype).eps


def assert_near(found: Tensor, truth: Tensor, bound: float) -> None:
    """The same shape, dtype and values, these up to `bound` relative to the largest of the truth (at least 1)."""
    scale = max(1.0, float(truth.detach().abs().max()))
    torch.testing.assert_close(found, truth, rtol=0, atol=bound * scale)


@pytest.fixture(params=list(ACTIVATIONS))
def activation(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=[None, 2], ids=["single", "replicas"])
def replicas(request: pytest.FixtureRequest) -> int | None:
    value: int | None = request.param
    return value
