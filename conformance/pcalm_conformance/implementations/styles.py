"""PC-ALM, PC and BP in the styles that right implementations differ in: where scales are applied, in which order sums
are taken, whether the skip connection is a part of the matrix, and what is kept between steps.

All do the same arithmetic up to rounding. `python -m pcalm_conformance.rounding_study` measures how much that is, and
the suite takes them as it takes any module: `--implementation pcalm_conformance.implementations.styles`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from pcalm_conformance.protocol import Problem, Solution

Array = np.ndarray


def one_by_one(a: Array, b: Array) -> Array:
    """a [p, n] b [n, q], term after term in the arrays' dtype."""
    total = np.zeros((len(a), b.shape[1]), a.dtype)
    for i in range(len(b)):
        total = total + a[:, i : i + 1] * b[i]
    return total


def backwards(a: Array, b: Array) -> Array:
    return one_by_one(a[:, ::-1], b[::-1])


def pairwise(a: Array, b: Array) -> Array:
    if len(b) == 1:
        return a * b
    half = len(b) // 2
    return pairwise(a[:, :half], b[:half]) + pairwise(a[:, half:], b[half:])


def fused(a: Array, b: Array) -> Array:
    """Every product and its addition with one rounding (products of float64 with 11 bits more)."""
    wide = np.float64 if a.dtype == np.float32 else np.longdouble
    total = np.zeros((len(a), b.shape[1]), a.dtype)
    for i in range(len(b)):
        total = (total + a[:, i : i + 1].astype(wide) * b[i].astype(wide)).astype(a.dtype)
    return total


def columns(a: Array, b: Array) -> Array:
    """With the samples as columns of contiguous arrays."""
    return (np.ascontiguousarray(b.T) @ np.ascontiguousarray(a.T)).T


def by_einsum(a: Array, b: Array) -> Array:
    found: Array = np.einsum("pn,nq->pq", a, b)
    return found


@dataclass(frozen=True)
class Style:
    """One right way to write it.

    Attributes:
        dot: how a product of matrices is summed.
        scale: s_l multiplies the product ("last"), the weights, or the states.
        skip_in_weights: the skip connection is the identity in (I + s_l W_l) where φ is linear; the first term of the
            sum elsewhere.
        term_by_term: every term of the gradient moves z by itself, and ρ is folded into η.
        keeps_credit: λ is returned as q − ρ c.
    """

    name: str
    dot: Callable[[Array, Array], Array] = np.matmul
    scale: str = "last"
    skip_in_weights: bool = False
    term_by_term: bool = False
    keeps_credit: bool = False

    def scaled(self, scale: float, states: Array, weights: Array) -> Array:
        """scale · states [p, n] weights [n, q]."""
        if self.scale == "weights":
            return self.dot(states, scale * weights)
        if self.scale == "states":
            return self.dot(scale * states, weights)
        return scale * self.dot(states, weights)

    def plus_scaled(self, skip: Array, scale: float, states: Array, weights: Array) -> Array:
        """skip + scale · states weights."""
        if not self.skip_in_weights:
            return skip + self.scaled(scale, states, weights)
        identity = np.eye(len(weights), dtype=weights.dtype)
        if states is skip:
            return self.dot(skip, identity + scale * weights)
        return self.dot(np.hstack([skip, states]), np.vstack([identity, scale * weights]))

    def solve(self, problem: Problem) -> Solution:
        weights, x, y = problem.weights, problem.inputs, problem.targets
        (width, inputs), depth, batch = weights[0].shape, len(problem.weights), len(problem.inputs)
        first, block, last = 1 / math.sqrt(inputs), 1 / math.sqrt(width * depth), 1 / width
        top, hidden = depth - 2, range(depth - 1)

        def phi(u: Array) -> Array:
            if problem.activation == "tanh":
                return np.tanh(u)
            return np.maximum(u, 0) if problem.activation == "relu" else u

        def slope(u: Array) -> Array:
            if problem.activation == "tanh":
                return 1 - np.tanh(u) ** 2
            return (u > 0).astype(u.dtype) if problem.activation == "relu" else np.ones_like(u)

        def prediction(z: list[Array], layer: int) -> Array:
            if layer == 0:
                return self.scaled(first, x, weights[0].T)
            return self.plus_scaled(z[layer - 1], block, phi(z[layer - 1]), weights[layer].T)

        def loss_signal(z: list[Array]) -> Array:
            return self.scaled(last, phi(z[top]), weights[-1].T) - y

        def sent(signal: Array, z: list[Array], layer: int) -> Array:
            """A signal of the layer above, through its weights."""
            return self.scaled(last if layer == top else block, signal, weights[layer + 1]) * slope(z[layer])

        def weight_gradients(q: list[Array], z: list[Array]) -> list[Array]:
            below, signals = [x, *map(phi, z)], [*(-layer for layer in q), loss_signal(z)]
            scales = [first, *[block] * (depth - 2), last]
            return [self.scaled(s / batch, d.T, b) for s, d, b in zip(scales, signals, below, strict=True)]

        start: list[Array] = []
        for layer in hidden:
            start.append(prediction(start, layer))
        z, lam = start, [np.zeros_like(layer) for layer in start]
        if problem.method == "bp":
            delta = [sent(loss_signal(z), z, top)]
            for layer in reversed(hidden[:-1]):
                delta.insert(0, delta[0] + sent(delta[0], z, layer))
            return Solution(np.stack(z), np.stack(lam), weight_gradients([-layer for layer in delta], z))
        if problem.initial is not None:
            z, lam = (list(part) for part in problem.initial)
        is_pc = problem.method == "pc"
        inner = 1 if is_pc else problem.inner_steps

        def each(setting: Any) -> list[float]:
            """A setting of every hidden layer."""
            return list(setting) if np.ndim(setting) else [setting] * len(hidden)

        eta, rho, alpha = each(problem.step_size), each(problem.penalty), each(problem.dual_step)
        kappa = each(0.0 if is_pc else problem.anchor)

        def credit(z: list[Array], lam: list[Array]) -> list[Array]:
            c = [z[layer] - prediction(z, layer) for layer in hidden]
            if self.term_by_term:
                return [rho[layer] * (c[layer] + lam[layer] / rho[layer]) for layer in hidden]
            return [rho[layer] * c[layer] + lam[layer] for layer in hidden]

        def primal(z: list[Array], lam: list[Array]) -> list[Array]:
            q, moved = credit(z, lam), []
            for layer in hidden:
                terms = [q[layer]]
                if layer == top:
                    terms += [sent(loss_signal(z), z, top)]
                else:
                    terms += [-q[layer + 1], -sent(q[layer + 1], z, layer)]
                if kappa[layer]:
                    terms += [kappa[layer] * (z[layer] - start[layer])]
                here = z[layer]
                for term in terms if self.term_by_term else [sum(terms[1:], terms[0])]:
                    here = here - eta[layer] * term
                moved.append(here)
            return moved

        for t in range(1, problem.steps + 1):
            for _ in range(inner):
                z = primal(z, lam)
            if not is_pc and (t < problem.steps or problem.credit == "after"):
                lam = [lam[layer] + alpha[layer] * (z[layer] - prediction(z, layer)) for layer in hidden]
        q = credit(z, lam)
        if self.keeps_credit and not is_pc:
            lam = [q[layer] - rho[layer] * (z[layer] - prediction(z, layer)) for layer in hidden]
        return Solution(np.stack(z), np.stack(lam), weight_gradients(q, z))


STYLES = (
    Style("as the equations read"),
    Style("scales in the weights", scale="weights"),
    Style("scales in the states", scale="states"),
    Style("samples as columns", columns, scale="weights"),
    Style("einsum", by_einsum, keeps_credit=True),
    Style("pairwise sums", pairwise),
    Style("sequential sums", one_by_one, scale="weights"),
    Style("reversed sums", backwards, scale="states", keeps_credit=True),
    Style("fused multiply-add", fused, scale="weights"),
    Style("skip in the weights", skip_in_weights=True, keeps_credit=True),
    Style("term by term", one_by_one, skip_in_weights=True, term_by_term=True),
)


def implementations(device: str) -> list[str]:
    """What --implementation MODULE tests."""
    return [style.name for style in STYLES]


def __getattr__(name: str) -> Style:
    """Styles are attributes of the module by their names, which have spaces."""
    for style in STYLES:
        if style.name == name:
            return style
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
