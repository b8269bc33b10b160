"""How far a right implementation may be from the oracle: a running first-order error analysis.

The oracle's equations are evaluated a second time. Every quantity carries, beside its value, the first-order error
that rounding may have left in it: each operation adds an error of its own, and what was there before is carried on by
the derivative of the equations.

**What one operation adds.** With the unit roundoff u = ε/2, a sum of n products rounds by at most n·u·Σ|terms|, in
whatever order it is taken: pairwise, sequential, reversed, by fused multiply-add or in blocks. A factor that
multiplies the sum adds u wherever it is applied (to the weights, to the states, at the end), and another u for its own
rounding to the dtype; 1/√(N·L) takes a square root and a division, so 2 u. Sums are counted over their terms before
anything cancels: c_l = z_l − z_{l-1} − s φ(z_{l-1}) W_lᵀ by (N + 5) u (|z_l| + |z_{l-1}| + s|φ||W_l|ᵀ), so that the
skip connection may be added first, last, or be part of the matrix; q_l by ρ|c_l| + |λ_l|, so that it need not be
formed. The counts stand at each equation below. An activation is allowed 4 units in the last place, as vector
libraries promise.

**How errors travel.** Taken in absolute values, I − ηH and the network's Jacobians grow as a power of the iterations
and layers, although the maps themselves do not: the spectral radius is below 1. So the true derivative carries the
errors, for m samples of them: in each, every operation's error is its greatest possible size times random signs (Monte
Carlo arithmetic, Parker 1997, to first order). A sign has two halves: one drawn anew for every step and sample, and
one that a unit keeps through all steps and samples, since an iteration at rest, or outside the light cone, commits the
same error again and again.

**The bound.** A sum of independent errors, each uniform within ±d_i as roundings are, exceeds Λ·√(Σ d_i²) with
probability 2·exp(−3Λ²/2) at most (Hoeffding's argument; Higham and Mary 2019 use it for rounding errors), and whatever
their distribution never where there are Λ² of them or fewer. The bound is Λ times the root mean square over the m
samples, the greatest over the units of a layer (over the entries of a gradient).

**relu's kink.** A unit whose |z| is within its bound may have either slope. Then the whole term that the slope
multiplies counts as an error of that unit, and of no other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from pcalm_conformance import oracle
from pcalm_conformance.protocol import Problem
from pcalm_conformance.remembering import remembered

SAFETY = 4.0  # Λ: 2·exp(−3Λ²/2) = 8e-11
TANH = 8  # 4 units in the last place, in u
SAMPLES = 64  # numbers that a root mean square is taken over: samples of the error times units of a layer


@dataclass(frozen=True)
class Bounds:
    """The greatest absolute error of a right solution.

    Attributes:
        activities: of every layer and sample, [L−1, B, 1].
        multipliers: likewise.
        gradients: one number per weight matrix, [L].
    """

    activities: np.ndarray
    multipliers: np.ndarray
    gradients: np.ndarray


class Rounded(NamedTuple):
    """A value, the size of the terms that it was summed from, and samples of its error [m, ...]."""

    value: np.ndarray
    size: np.ndarray
    error: np.ndarray


class Layer(NamedTuple):
    """A layer's state z and what follows from it: φ(z), φ'(z), and which units' slope is undecided (relu)."""

    z: Rounded
    phi: Rounded
    slope: Rounded
    undecided: np.ndarray


def unit_roundoff(dtype: str) -> float:
    return float(np.finfo(dtype).eps) / 2


@remembered
def bounds(problem: Problem) -> Bounds:
    """How far a right solution of the problem may be from the oracle's; with steps = 0 only the weight gradients at its
    initial state are computed."""
    return _Analysis(problem).solve()


class _Analysis:
    """The oracle's equations once more, as `oracle.Network` and `oracle.solve` have them, on `Rounded` quantities."""

    def __init__(self, problem: Problem) -> None:
        self.problem, self.net = problem, oracle.Network(problem)
        self.u = unit_roundoff(problem.dtype) + unit_roundoff("float64")  # the oracle rounds as well
        self.samples = max(8, SAMPLES // self.net.N)
        self.rng = np.random.default_rng(0)
        self.kept: dict[tuple[str, int], np.ndarray] = {}
        self.absolute = [np.abs(weight) for weight in self.net.W]
        is_pc = problem.method == "pc"
        each = self.net.each
        self.eta, self.rho, self.alpha = map(each, (problem.step_size, problem.penalty, problem.dual_step))
        self.kappa, self.inner_steps = each(0.0 if is_pc else problem.anchor), 1 if is_pc else problem.inner_steps

    def signs(self, *shape: int) -> np.ndarray:
        return 2 * self.rng.integers(0, 2, (self.samples, *shape), dtype=np.int8) - 1

    def errors(self, operation: str, layer: int, size: np.ndarray) -> np.ndarray:
        """Errors [m, B, n] of a size [B, n] that the operation commits at a layer."""
        batch, units = size.shape
        if (operation, layer) not in self.kept:
            self.kept[operation, layer] = self.signs(1, units)
        return size * (self.kept[operation, layer] + self.signs(batch, units)) / math.sqrt(2)

    def bound(self, error: np.ndarray) -> np.ndarray:
        """Λ times the root mean square over the samples."""
        return SAFETY * np.sqrt((error**2).mean(axis=0))

    def exact(self, value: np.ndarray) -> Rounded:
        return Rounded(value, np.abs(value), np.zeros((self.samples, *value.shape)))

    def layer(self, index: int, value: np.ndarray, error: np.ndarray) -> Layer:
        """z_l with its activation."""
        z = Rounded(value, np.abs(value), error)
        phi, slope = self.net.phi(value), self.net.dphi(value)
        decided = np.zeros(value.shape, bool)
        if index == 0 or self.problem.activation == "linear":
            return Layer(z, z, self.exact(np.ones_like(value)), decided)
        if self.problem.activation == "relu":
            reach = self.bound(error).max(axis=-1, keepdims=True)
            undecided = (z.size <= reach) & (reach > 0)
            return Layer(z, Rounded(phi, phi, error * np.maximum(slope, undecided)), self.exact(slope), undecided)
        # tanh' = 1 − t² with t = tanh z, whose derivative is −2 t (1 − t²).
        t = np.abs(phi)
        phi_error = error * slope + self.errors("φ", index, TANH * self.u * t)
        slope_error = -2 * phi * phi_error + self.errors("φ'", index, 2 * self.u * (1 + t**2))
        return Layer(z, Rounded(phi, t, phi_error), Rounded(slope, slope, slope_error), decided)

    def forward(self, index: int, below: Layer) -> Rounded:
        """s_l φ W_lᵀ, without a rounding of its own."""
        s, W, phi = self.net.s[index], self.net.W[index], below.phi
        return Rounded(s * phi.value @ W.T, s * phi.size @ self.absolute[index].T, s * phi.error @ W.T)

    def prediction(self, index: int, below: Layer) -> Rounded:
        """pred_l, without a rounding of its own."""
        change = self.forward(index, below)
        if index == 1:
            return change
        return Rounded(*(skip + part for skip, part in zip(below.z, change, strict=True)))

    def length(self, index: int) -> int:
        """The roundings of a term of pred_l: products and their sum, and three for the scale."""
        return (self.net.D if index == 1 else self.net.N) + 3

    def feedforward(self) -> list[Layer]:
        state = [self.layer(0, self.net.x, np.zeros((self.samples, *self.net.x.shape)))]
        for index in range(1, self.net.L):
            value, size, error = self.prediction(index, state[-1])
            own = (self.length(index) + 1) * self.u * size  # one more sum, with the skip connection
            state.append(self.layer(index, value, error + self.errors("pred", index, own)))
        return state

    def residual(self, index: int, state: list[Layer]) -> tuple[Rounded, np.ndarray]:
        """c_l, and by how much it rounds; two more sums, with the skip connection and with z_l."""
        here, below = state[index].z, self.prediction(index, state[index - 1])
        value = here.value - below.value
        own = (self.length(index) + 2) * self.u * (here.size + below.size)
        return Rounded(value, np.abs(value), here.error - below.error), own

    def plus_residual(
        self, operation: str, factors: list[float], state: list[Layer], lam: list[Rounded]
    ) -> list[Rounded]:
        """factor·c_l + λ_l; four roundings, as in factor·(c_l + λ_l/factor)."""
        found = [lam[0]]
        for index in range(1, self.net.L):
            (c, own), factor = self.residual(index, state), factors[index]
            size = factor * c.size + lam[index].size
            error = factor * c.error + lam[index].error
            error = error + self.errors(operation, index, factor * own + 4 * self.u * size)
            found.append(Rounded(factor * c.value + lam[index].value, size, error))
        return found

    def returned(self, state: list[Layer], lam: list[Rounded]) -> list[Rounded]:
        """λ_l as (ρ c_l + λ_l) − ρ c_l: two residuals and four roundings."""
        found = [lam[0]]
        for index in range(1, self.net.L):
            (c, own), rho = self.residual(index, state), self.rho[index]
            size = 2 * rho * own + 4 * self.u * (rho * c.size + lam[index].size)
            found.append(lam[index]._replace(error=lam[index].error + self.errors("returned", index, size)))
        return found

    def output_error(self, top: Layer) -> Rounded:
        """out − y."""
        out, y = self.forward(self.net.L, top), self.net.y
        size = out.size + np.abs(y)
        own = (self.length(self.net.L) + 1) * self.u * size
        return Rounded(out.value - y, size, out.error + self.errors("out", self.net.L, own))

    def backward(self, index: int, signal: Rounded, layer: Layer) -> Rounded:
        """s_l (signal W_l) ⊙ φ'(z_{l-1}); products and their sum, three roundings for the scale, one for the slope."""
        s, W = self.net.s[index], self.net.W[index]
        arrived, size = s * signal.value @ W, s * signal.size @ self.absolute[index]
        own = (len(W) + 4) * self.u * size * layer.slope.size + size * layer.undecided
        error = s * signal.error @ W * layer.slope.value + arrived * layer.slope.error
        size = size * np.maximum(layer.slope.size, layer.undecided)
        return Rounded(arrived * layer.slope.value, size, error + self.errors("sent", index, own))

    def primal(self, state: list[Layer], lam: list[Rounded], anchor: list[Layer]) -> list[Layer]:
        """z − η (q_l − q_{l+1} − s_{l+1} (q_{l+1} W_{l+1}) ⊙ φ' + κ (z − z^ff)): the four terms may be subtracted one
        by one, and η and κ round."""
        top, after = self.net.L - 1, [state[0]]
        q = self.plus_residual("credit", self.rho, state, lam)
        for index in range(1, self.net.L):
            here, start, eta, kappa = state[index].z, anchor[index].z, self.eta[index], self.kappa[index]
            terms = [(1.0, q[index])]
            if index < top:
                terms += [(-1.0, q[index + 1]), (-1.0, self.backward(index + 1, q[index + 1], state[index]))]
            else:
                terms += [(1.0, self.backward(self.net.L, self.output_error(state[top]), state[top]))]
            if kappa:
                terms += [(kappa, here), (-kappa, start)]
            value = here.value - eta * sum(factor * term.value for factor, term in terms)
            size = here.size + eta * sum(abs(factor) * term.size for factor, term in terms)
            error = here.error - eta * sum(factor * term.error for factor, term in terms)
            after.append(self.layer(index, value, error + self.errors("step", index, 6 * self.u * size)))
        return after

    def adjoint(self, state: list[Layer]) -> list[Rounded]:
        """BP's −δ_l."""
        top = self.net.L - 1
        loss = self.backward(self.net.L, self.output_error(state[top]), state[top])
        q = [self.exact(np.empty((0, 0)))] * top + [Rounded(-loss.value, loss.size, -loss.error)]
        for index in range(top - 1, 0, -1):
            above, sent = q[index + 1], self.backward(index + 1, q[index + 1], state[index])
            value, size, error = (skip + part for skip, part in zip(above, sent, strict=True))
            own = (self.net.N + 4) * self.u * size  # the skip connection may be part of the matrix here, too
            q[index] = Rounded(value, np.abs(value), error + self.errors("adjoint", index, own))
        return q

    def weight_gradients(self, q: list[Rounded], state: list[Layer]) -> np.ndarray:
        """The bounds [L] of −s_l q_lᵀ φ(z_{l-1})/B: products and their sum, three roundings for the scale, two for the
        mean."""
        found = []
        for index in range(1, self.net.L + 1):
            signal = q[index] if index < self.net.L else self.output_error(state[-1])
            phi, scale = state[index - 1].phi, self.net.s[index] / len(self.net.x)
            own = (len(self.net.x) + 5) * self.u * scale * (signal.size.T @ phi.size)
            error = np.swapaxes(signal.error, 1, 2) @ phi.value + signal.value.T @ phi.error
            found.append(self.bound(scale * error + self.errors("gradient", index, own)).max())
        return np.array(found)

    def solve(self) -> Bounds:
        problem, start = self.problem, self.feedforward()
        state, lam = start, [self.exact(np.zeros_like(layer.z.value)) for layer in start]
        if problem.method == "bp":
            return self.result(state, lam, self.weight_gradients(self.adjoint(state), state))
        if problem.initial is not None:
            (_, *z), lam = ([*map(self.exact, oracle.unstack(part))] for part in problem.initial)
            state = [start[0], *(self.layer(index, one.value, one.error) for index, one in enumerate(z, 1))]
        for t in range(1, problem.steps + 1):
            for _ in range(self.inner_steps):
                state = self.primal(state, lam, start)
            if problem.method == "pcalm" and (t < problem.steps or problem.credit == "after"):
                lam = self.plus_residual("dual", self.alpha, state, lam)
        lam = self.returned(state, lam)
        q = self.plus_residual("credit", self.rho, state, lam)
        gradients = self.weight_gradients(q, state)
        return self.result(state, lam, gradients)

    def result(self, state: list[Layer], lam: list[Rounded], gradients: np.ndarray) -> Bounds:
        activities, multipliers = (
            np.stack([self.bound(one.error).max(axis=-1, keepdims=True) for one in part])
            for part in ([layer.z for layer in state[1:]], lam[1:])
        )
        return Bounds(activities, multipliers, gradients)
