"""The gate before every figure: an engine's error against the reference, as a multiple of what rounding explains.

Both run the same K = steps · inner_steps primal steps behind a feed-forward pass of L layers. Each rounds the states to
ε/2 · max|z|, a few times over (products of N terms, sums of a few). The iteration is stable, so that no rounding grows:

    |Δz|, |Δλ| ≤ (K + L) ε Z,   Z = max(|z|, |λ|, 1)                              (measured: less than half of it)

The weight gradients are held against the reference's at the engine's own state, where they differ by the rounding of q
and of their own sums: with |Δq| ≤ 4 ε Z in every entry and the Cauchy-Schwarz inequality, in the Frobenius norm

    ‖ΔG_l‖ ≤ 4 ε Z s_l √(B N) ‖φ(z_{l-1})‖ / B

In float32 a relu unit that comes within rounding of its kink may take either side, which moves its sample by far more
than rounding. That is no error, and rare: one sample in sixteen may do so.
"""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor

from pcalm import dynamics
from pcalm.dynamics import State
from pcalm.engines import Engine, Solution, reference
from pcalm.methods import BP, Method
from pcalm.network import ResidualMLP


class Truth:
    """The reference's answer in float64, to hold answers in any dtype against.

    Args:
        net, method, x, y, initial: a problem, as in `pcalm.solve`.
    """

    def __init__(self, net: ResidualMLP, method: Method, x: Tensor, y: Tensor, initial: State | None = None) -> None:
        self.net = ResidualMLP.from_weights([weight.double() for weight in net.weights], net.activation)
        self.method, self.x, self.y = method, x.double(), y.double()
        start = None if initial is None else State(*(part.double() for part in initial))
        self.state = reference.solve(self.net, method, self.x, self.y, start).state

    def replica(self, index: int) -> Truth:
        """The truth for one of several replicas."""
        other = copy.copy(self)
        other.net = self.net.replica(index)
        other.x, other.y = self.x[index], self.y[index]
        other.state = State(*(part[index] for part in self.state))
        return other

    def disagreement(self, found: Solution) -> float:
        """The largest error of a solution over its bound: at most 1 agrees. Infinite where a value is not finite."""
        net, dtype = self.net, found.state.activities.dtype
        own = State(*(part.double() for part in found.state))
        eps, batch = torch.finfo(dtype).eps, self.x.shape[-2]
        size = max(1.0, *(float(part.abs().max()) for part in self.state))
        roundings = net.depth + (0 if isinstance(self.method, BP) else self.method.steps * self.method.inner_steps)
        doubtful = batch // 16 if net.activation == "relu" and dtype == torch.float32 else 0
        ratios = []
        for part, exact in zip(own, self.state, strict=True):
            by_sample = (part - exact).abs().amax(dim=(-3, -1))
            ratios.append(by_sample.sort(dim=-1).values[..., : batch - doubtful] / (roundings * eps * size))
        at_own = dynamics.gradients(net, self.method, self.x, self.y, own)
        below = (self.x, own.activities[..., :-1, :, :], own.activities[..., -1, :, :])
        rows = (net.width, net.width, net.output_dim)
        for gradient, right, scale, source, units in zip(found.gradients, at_own, net.scales, below, rows, strict=True):
            bound = 4 * eps * size * scale * math.sqrt(batch * units) / batch * _norm(source)
            ratios.append(_norm(gradient.double() - right) / bound)
        largest = max(float(ratio.max()) for ratio in ratios)
        return largest if all(bool(ratio.isfinite().all()) for ratio in ratios) else math.inf


def disagreement(
    engine: Engine, net: ResidualMLP, method: Method, x: Tensor, y: Tensor, initial: State | None = None
) -> float:
    """`Truth.disagreement` of an engine's own answer."""
    return Truth(net, method, x, y, initial).disagreement(engine.solve(net, method, x, y, initial))


def _norm(matrices: Tensor) -> Tensor:
    return matrices.flatten(-2).norm(dim=-1)
