"""Where a run became non-finite: which replica, at which update, inference step and layer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pcalm import blocks, dynamics
from pcalm.blocks import Blocks
from pcalm.methods import Method
from pcalm.network import ResidualMLP

Row = dict[str, Any]


@dataclass(frozen=True)
class Divergence:
    """Where a run became non-finite.

    Attributes:
        step: the weight update, from 1, whose gradient could not be used.
        inference_step: the primal step, from 1; 0 is the feed-forward pass.
        layer: from 1.
        margin: the stability margin at these weights; None for BP, or where the weights are non-finite themselves.
        message: all of it as a sentence, with the way out.
    """

    step: int
    inference_step: int
    layer: int
    margin: float | None
    message: str


class DivergenceError(RuntimeError):
    """A run that diverged: `divergence` says where, `metrics` holds the rows that were logged before."""

    def __init__(self, divergence: Divergence, metrics: list[Row]) -> None:
        super().__init__(divergence, metrics)
        self.divergence, self.metrics = divergence, metrics

    def __str__(self) -> str:
        return self.divergence.message


def nonfinite(parts: Iterable[Tensor]) -> list[int]:
    """The replicas with NaN or infinity in one of the parts, each [R, ...]."""
    parts = list(parts)
    # A sum is non-finite if any entry is; only then (or on overflow of the sum) is it worth looking entry by entry.
    sums = torch.stack([part.detach().flatten(1).sum(1) for part in parts])
    if torch.isfinite(sums).all():
        return []
    finite = torch.stack([torch.isfinite(part).flatten(1).all(1) for part in parts]).all(0)
    return (~finite).nonzero().flatten().tolist()


def first_nonfinite(layers: Sequence[Tensor]) -> int:
    """The first layer, from 1, with NaN or infinity; 0 if there is none."""
    return next((layer for layer, part in enumerate(layers, 1) if not torch.isfinite(part).all()), 0)


def first_nonfinite_state(net: ResidualMLP | Blocks, method: Method, x: Tensor, y: Tensor) -> tuple[int, int]:
    """The first inference step at which a state or credit is NaN or infinite, and its first layer; (0, 0) if none."""
    found: list[tuple[int, int]] = []

    def observe(step: int, q: Iterable[Tensor], z: Iterable[Tensor]) -> None:
        layer = 0 if found else first_nonfinite([credit + each for credit, each in zip(q, z, strict=True)])
        if layer:
            found.append((step, layer))

    z_ff = list(net.feedforward(x))
    observe(0, map(torch.zeros_like, z_ff), z_ff)
    if isinstance(net, Blocks):
        blocks.infer(net, method, x, y, observe=observe)
    else:
        dynamics.infer(net, method, x, y, observe=observe)
    return found[0] if found else (0, 0)
