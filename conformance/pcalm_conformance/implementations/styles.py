"""PC-ALM, PC and BP in the styles that right implementations differ in: where scales are applied, in which order sums
are taken, whether the skip connection is a part of the matrix, and what is kept between steps.

All do the same arithmetic up to rounding. `python -m pcalm_conformance.rounding_study` measures how much that is, and
the suite takes them as it takes any module: `--implementation pcalm_conformance.implementations.styles`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from pcalm_conformance.protocol import Problem, Solution

Array = np.ndarray


Dot = Callable[[Array, Array], Array]


def in_cache(dot: Dot, a: Array, b: Array) -> Array:
    """The products of a stack, by as many of its matrices at a time as make 256 KiB of a result."""
    b = np.ascontiguousarray(b)
    if a.ndim == 2:
        return dot(a, b)
    part = max(1, 2**18 // (a.shape[-2] * b.shape[-1] * a.itemsize))
    return np.concatenate([dot(a[i : i + part], b[i : i + part]) for i in range(0, max(1, len(a)), part)])


def in_turn(a: Array, b: Array) -> Array:
    total = a[..., :1] * b[..., :1, :]
    term = np.empty_like(total)
    for i in range(1, b.shape[-2]):
        total += np.multiply(a[..., i : i + 1], b[..., i : i + 1, :], out=term)
    return total


def by_halves(a: Array, b: Array) -> Array:
    if b.shape[-2] == 1:
        return a * b
    half = b.shape[-2] // 2
    return by_halves(a[..., :half], b[..., :half, :]) + by_halves(a[..., half:], b[..., half:, :])


def one_by_one(a: Array, b: Array) -> Array:
    """a [..., p, n] b [..., n, q], term after term in the arrays' dtype."""
    return in_cache(in_turn, a, b)


def backwards(a: Array, b: Array) -> Array:
    return one_by_one(a[..., ::-1], b[..., ::-1, :])


def pairwise(a: Array, b: Array) -> Array:
    return in_cache(by_halves, a, b)


def fused(a: Array, b: Array) -> Array:
    """Every product and its addition with one rounding (products of float64 with 11 bits more)."""
    exact, wide = a.dtype, np.float64 if a.dtype == np.float32 else np.longdouble
    a, b = a.astype(wide), b.astype(wide)
    total = np.zeros_like(a[..., :1] * b[..., :1, :])
    for i in range(b.shape[-2]):
        total = (total + a[..., i : i + 1] * b[..., i : i + 1, :]).astype(exact)
    return total


def columns(a: Array, b: Array) -> Array:
    """With the samples as columns of contiguous arrays."""
    return turned(np.ascontiguousarray(turned(b)) @ np.ascontiguousarray(turned(a)))


def by_einsum(a: Array, b: Array) -> Array:
    found: Array = np.einsum("...pn,...nq->...pq", a, b)
    return found


def turned(matrices: Array) -> Array:
    """The transpose of one matrix, or of each in a stack."""
    return np.swapaxes(matrices, -1, -2)


class Layers(NamedTuple):
    """The hidden layers' states z, their φ(z) and φ'(z), and the residuals c, as stacks."""

    z: Array
    phi: Array
    slope: Array
    c: Array


@dataclass(frozen=True)
class Style:
    """One right way to write it.

    Attributes:
        dot: how a product of matrices is summed, or each of a stack.
        scale: s_l multiplies the product ("last"), the weights, or the states.
        skip_in_weights: the skip connection is the identity in (I + s_l W_l) where φ is linear; the first term of the
            sum elsewhere.
        term_by_term: every term of the gradient moves z by itself, and ρ is folded into η.
        keeps_credit: λ is returned as q − ρ c.
    """

    name: str
    dot: Dot = np.matmul
    scale: str = "last"
    skip_in_weights: bool = False
    term_by_term: bool = False
    keeps_credit: bool = False

    def scaled(self, scale: float, states: Array, weights: Array) -> Array:
        """scale · states [..., p, n] weights [..., n, q]."""
        if self.scale == "weights":
            return self.dot(states, scale * weights)
        if self.scale == "states":
            return self.dot(scale * states, weights)
        return scale * self.dot(states, weights)

    def plus_scaled(self, skip: Array, scale: float, states: Array, weights: Array) -> Array:
        """skip + scale · states weights."""
        if not self.skip_in_weights:
            return skip + self.scaled(scale, states, weights)
        identity = np.broadcast_to(np.eye(weights.shape[-1], dtype=weights.dtype), weights.shape)
        if states is skip:
            return self.dot(skip, identity + scale * weights)
        return self.dot(np.concatenate([skip, states], -1), np.concatenate([identity, scale * weights], -2))

    def solve(self, problem: Problem) -> Solution:
        """All layers at once, since they move at the same time; the blocks between first and last are one stack."""
        first, last, x = problem.weights[0], problem.weights[-1], problem.inputs
        (width, inputs), depth, batch = first.shape, len(problem.weights), len(x)
        blocks = np.stack(problem.weights[1:-1]) if depth > 2 else np.zeros((0, width, width), first.dtype)
        s_first, s_block, s_last = 1 / math.sqrt(inputs), 1 / math.sqrt(width * depth), 1 / width

        def phi(u: Array) -> Array:
            if problem.activation == "tanh":
                return np.tanh(u)
            return np.maximum(u, 0) if problem.activation == "relu" else u

        def slope(activity: Array) -> Array:
            """φ' by φ."""
            if problem.activation == "tanh":
                return 1 - activity**2
            return (activity > 0).astype(activity.dtype) if problem.activation == "relu" else np.ones_like(activity)

        at_first = self.scaled(s_first, x, turned(first))[None]

        def at(z: Array) -> Layers:
            activity, below = phi(z), z[:-1]
            sent_up = below if activity is z else activity[:-1]
            predictions = np.concatenate([at_first, self.plus_scaled(below, s_block, sent_up, turned(blocks))])
            return Layers(z, activity, slope(activity), z - predictions)

        def loss_signal(of: Layers) -> Array:
            return self.scaled(s_last, of.phi[-1], turned(last)) - problem.targets

        def sent_by_loss(of: Layers) -> Array:
            return self.scaled(s_last, loss_signal(of), last) * of.slope[-1]

        def sent(signals: Array, weights: Array, slopes: Array) -> Array:
            """The signals of blocks, through their weights, to the states below that have these slopes."""
            return self.scaled(s_block, signals, weights) * slopes

        def weight_gradients(q: Array, of: Layers) -> list[Array]:
            of_first = self.scaled(s_first / batch, turned(-q[0]), x)
            of_blocks = self.scaled(s_block / batch, turned(-q[1:]), of.phi[:-1])
            return [of_first, *of_blocks, self.scaled(s_last / batch, turned(loss_signal(of)), of.phi[-1])]

        forward = [at_first[0]]
        for weights in blocks:
            forward.append(self.plus_scaled(forward[-1], s_block, phi(forward[-1]), weights.T))
        start = np.stack(forward)
        lam = np.zeros_like(start)
        if problem.method == "bp":
            layers = at(start)
            delta = [sent_by_loss(layers)]
            for weights, slopes in zip(blocks[::-1], layers.slope[-2::-1], strict=True):
                delta.insert(0, delta[0] + sent(delta[0], weights, slopes))
            return Solution(start, lam, weight_gradients(-np.stack(delta), layers))
        first_z, lam = (start, lam) if problem.initial is None else problem.initial
        is_pc = problem.method == "pc"

        def each(setting: Any) -> Array:
            """A setting of every hidden layer [L−1, 1, 1]."""
            return np.broadcast_to(np.asarray(setting, start.dtype), depth - 1)[:, None, None]

        eta, rho, alpha = each(problem.step_size), each(problem.penalty), each(problem.dual_step)
        kappa = each(0.0 if is_pc else problem.anchor)

        def credit(c: Array, lam: Array) -> Array:
            return rho * (c + lam / rho) if self.term_by_term else rho * c + lam

        def primal(of: Layers, lam: Array) -> Array:
            q, top, z = credit(of.c, lam), sent_by_loss(of)[None], of.z
            from_blocks = sent(q[1:], blocks, of.slope[:-1])
            terms = [q, np.concatenate([-q[1:], np.zeros_like(top)]), np.concatenate([-from_blocks, top])]
            if kappa.any():
                terms += [kappa * (z - start)]
            for term in terms if self.term_by_term else [sum(terms[1:], terms[0])]:
                z = z - eta * term
            return z

        layers = at(first_z)
        for t in range(1, problem.steps + 1):
            for _ in range(1 if is_pc else problem.inner_steps):
                layers = at(primal(layers, lam))
            if not is_pc and (t < problem.steps or problem.credit == "after"):
                lam = lam + alpha * layers.c
        q = credit(layers.c, lam)
        if self.keeps_credit and not is_pc:
            lam = q - rho * layers.c
        return Solution(layers.z, lam, weight_gradients(q, layers))


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
