"""Measures of gradients and of credit: one definition each, used by everything else.

A gradient is a list of tensors (or one tensor); its cosine and norm are those of all entries as one vector, in float64.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pcalm.checks import require

Gradient = Tensor | Sequence[Tensor]


def cosine(a: Gradient, b: Gradient) -> float:
    """⟨a, b⟩ / (‖a‖ ‖b‖); NaN where a norm is zero, since the angle is undefined there."""
    left, right = _pair(a, b)
    norms = left.norm() * right.norm()
    return float(left @ right / norms) if norms > 0 else float("nan")


def relative_error(a: Gradient, b: Gradient) -> float:
    """‖a − b‖ / ‖b‖, with b the truth; infinite where only b is zero, 0 where both are."""
    left, right = _pair(a, b)
    difference, norm = float((left - right).norm()), float(right.norm())
    return difference / norm if norm > 0 else (0.0 if difference == 0 else float("inf"))


def norm_ratio(a: Gradient, b: Gradient) -> float:
    """‖a‖ / ‖b‖, with b the truth; NaN where b is zero."""
    left, right = _pair(a, b)
    return float(left.norm() / right.norm()) if right.norm() > 0 else float("nan")


def credit_share(grads: Sequence[Tensor], truth: Sequence[Tensor]) -> list[float]:
    """r_l = ‖G_l‖ / ‖G_l^BP‖ for the layers l = 1..L−1 (the output layer's gradient is BP's own in every method)."""
    _pair(grads, truth)
    return [norm_ratio(gradient, exact) for gradient, exact in zip(grads[:-1], truth[:-1], strict=True)]


def evenness(shares: Sequence[float]) -> tuple[float, float]:
    """(min r / max r, standard deviation / mean) of the credit shares: (1, 0) is perfectly even."""
    r = torch.tensor(list(shares), dtype=torch.float64, device="cpu")
    return float(r.min() / r.max()), float(r.std(correction=0) / r.mean())


def credit_arrival(norms: Tensor, truth: Tensor, fraction: float) -> list[int | None]:
    """When credit reaches each layer: the first iteration at which ‖q_l‖ is at least a fraction of ‖δ_l‖.

    Args:
        norms: ‖q_l‖ after iterations 1..T, [T, L−1], over batch and units.
        truth: ‖δ_l‖ of BP's adjoint, [L−1].
        fraction: in (0, 1].

    Returns:
        For each layer l = 1..L−1 the iteration, counted from 1, or None if it did not arrive within T.
    """
    require(0 < fraction <= 1, f"fraction must be in (0, 1], got {fraction}")
    arrived = norms >= fraction * truth
    first = arrived.to(torch.int8).argmax(dim=0) + 1
    return [int(step) if bool(seen) else None for step, seen in zip(first, arrived.any(dim=0), strict=True)]


def arrival_exponent(distances: Sequence[float], arrivals: Sequence[float]) -> tuple[float, float]:
    """(exponent, factor) of the fit arrival = factor · distance^exponent, by least squares on logarithms."""
    require(len(distances) >= 2, f"distances must be at least 2 for a fit, got {len(distances)}")
    x, y = (torch.tensor(list(values), dtype=torch.float64, device="cpu").log() for values in (distances, arrivals))
    centred = x - x.mean()
    exponent = float(centred @ (y - y.mean()) / (centred @ centred))
    return exponent, float((y.mean() - exponent * x.mean()).exp())


def _pair(a: Gradient, b: Gradient) -> tuple[Tensor, Tensor]:
    left, right = ([g] if isinstance(g, Tensor) else list(g) for g in (a, b))
    shapes = [[list(part.shape) for part in side] for side in (left, right)]
    require(shapes[0] == shapes[1], f"gradients must have the same shapes, got {shapes[0]} and {shapes[1]}")
    return _vector(left), _vector(right)


def _vector(parts: Sequence[Tensor]) -> Tensor:
    return torch.cat([part.detach().double().flatten() for part in parts])
