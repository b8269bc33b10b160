"""PC-ALM, PC and BP in JAX: layers stacked, steps in `lax.scan`, derivatives by `jax.grad`.

float64 is switched on around each call only, so that importing this module changes nothing for anybody else.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pcalm_conformance.protocol import Problem, Solution

Array = Any  # jax.Array, or a tracer of one

PHI = {"linear": lambda u: u, "tanh": jnp.tanh, "relu": jax.nn.relu}


class Weights(NamedTuple):
    first: Array  # [N, D]
    blocks: Array  # [L−2, N, N]
    last: Array  # [C, N]


class Settings(NamedTuple):
    step_size: Array
    penalty: Array
    dual_step: Array
    anchor: Array


def predictions(weights: Weights, activation: str, x: Array, z: Array) -> tuple[Array, Array]:
    """(pred_1..pred_{L-1} [L−1, B, N], out [B, C]) from the hidden layers z [L−1, B, N]."""
    width, inputs = weights.first.shape
    depth = len(weights.blocks) + 2
    active = PHI[activation](z)
    first = x @ weights.first.T / np.sqrt(inputs)
    blocks = z[:-1] + jnp.einsum("lbi,loi->lbo", active[:-1], weights.blocks) / np.sqrt(width * depth)
    return jnp.concatenate([first[None], blocks]), active[-1] @ weights.last.T / width


def feedforward(weights: Weights, activation: str, x: Array) -> Array:
    """The feed-forward states [L−1, B, N]."""
    width, inputs = weights.first.shape
    scale = 1 / np.sqrt(width * (len(weights.blocks) + 2))

    def up(z: Array, block: Array) -> tuple[Array, Array]:
        z = z + scale * PHI[activation](z) @ block.T
        return z, z

    first = x @ weights.first.T / np.sqrt(inputs)
    _, rest = jax.lax.scan(up, first, weights.blocks)
    return jnp.concatenate([first[None], rest])


def loss(out: Array, y: Array) -> Array:
    """½‖out − y‖², summed over the batch."""
    return ((out - y) ** 2).sum() / 2


@functools.partial(jax.jit, static_argnames=["activation"])
def backprop(weights: Weights, x: Array, y: Array, activation: str) -> tuple[Array, Weights]:
    def objective(weights: Weights) -> tuple[Array, Array]:
        z = feedforward(weights, activation, x)
        return loss(predictions(weights, activation, x, z)[1], y) / len(x), z

    gradients, z = jax.grad(objective, has_aux=True)(weights)
    return z, gradients


@functools.partial(jax.jit, static_argnames=["activation", "steps", "inner_steps", "last_dual"])
def infer(
    weights: Weights,
    x: Array,
    y: Array,
    initial: tuple[Array, Array] | None,
    settings: Settings,
    activation: str,
    steps: int,
    inner_steps: int,
    last_dual: bool,
) -> tuple[Array, Array, Weights]:
    """(activities, multipliers, gradients) after the whole budget."""
    step_size, penalty, dual_step, anchor = settings
    start = feedforward(weights, activation, x)

    def energy(z: Array, multipliers: Array, weights: Weights) -> Array:
        below, out = predictions(weights, activation, x, z)
        return loss(out, y) + penalty / 2 * ((z - below + multipliers / penalty) ** 2).sum()

    def primal(z: Array, multipliers: Array) -> Array:
        return z - step_size * (jax.grad(energy)(z, multipliers, weights) + anchor * (z - start))

    def one(state: tuple[Array, Array], is_last: Array) -> tuple[tuple[Array, Array], None]:
        z, multipliers = state
        z, _ = jax.lax.scan(lambda z, _: (primal(z, multipliers), None), z, length=inner_steps)
        errors = z - predictions(weights, activation, x, z)[0]
        return (z, multipliers + jnp.where(is_last, last_dual, 1) * dual_step * errors), None

    state = (start, jnp.zeros_like(start)) if initial is None else initial
    (z, multipliers), _ = jax.lax.scan(one, state, jnp.arange(1, steps + 1) == steps)
    return z, multipliers, jax.grad(lambda w: energy(z, multipliers, w) / len(x))(weights)


class JaxScan:
    """One compiled program per shape, activation and budget; all other settings are its arguments."""

    name = "jax-scan"

    def solve(self, problem: Problem) -> Solution:
        with jax.enable_x64(problem.dtype == "float64"):
            kind = problem.dtype
            x, y = jnp.asarray(problem.inputs, kind), jnp.asarray(problem.targets, kind)
            first, *blocks, last = (jnp.asarray(weight, kind) for weight in problem.weights)
            weights = Weights(first, jnp.stack(blocks), last)
            if problem.method == "bp":
                z, gradients = backprop(weights, x, y, problem.activation)
                multipliers = jnp.zeros_like(z)
            else:
                is_pc = problem.method == "pc"
                settings = problem.step_size, problem.penalty, problem.dual_step, problem.anchor
                if is_pc:
                    settings = problem.step_size, problem.penalty, 0.0, 0.0
                initial = problem.initial
                z, multipliers, gradients = infer(
                    weights,
                    x,
                    y,
                    None if initial is None else (jnp.asarray(initial[0], kind), jnp.asarray(initial[1], kind)),
                    Settings(*(jnp.asarray(value, kind) for value in settings)),
                    activation=problem.activation,
                    steps=problem.steps,
                    inner_steps=1 if is_pc else problem.inner_steps,
                    last_dual=problem.credit == "after",
                )
            parts = [gradients.first, *gradients.blocks, gradients.last]
            return Solution(np.array(z), np.array(multipliers), [np.array(part) for part in parts])


impl = JaxScan()
