"""PC-ALM, PC and BP in JAX: layers stacked, steps in `lax.fori_loop`, derivatives by `jax.grad`.

float64 is switched on around each call only, so that importing this module changes nothing for anybody else.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
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
    """All of them are arguments of the program, the numbers of steps, too: one compilation serves every budget, and
    one number for each hidden layer [L−1, 1, 1] as well as one for all."""

    step_size: Array
    penalty: Array
    dual_step: Array
    anchor: Array
    steps: Array
    inner_steps: Array
    last_dual: Array  # whether the last dual step is taken
    cold: Array  # whether to start at the feed-forward states, whatever the initial state says


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


@functools.partial(jax.jit, static_argnames=["activation"])
def infer(
    weights: Weights, x: Array, y: Array, initial: tuple[Array, Array], settings: Settings, activation: str
) -> tuple[Array, Array, Weights]:
    """(activities, multipliers, gradients) after the whole budget."""
    start = feedforward(weights, activation, x)

    def energy(z: Array, multipliers: Array, weights: Weights) -> Array:
        below, out = predictions(weights, activation, x, z)
        return loss(out, y) + (settings.penalty / 2 * (z - below + multipliers / settings.penalty) ** 2).sum()

    def primal(z: Array, multipliers: Array) -> Array:
        slope = jax.grad(energy)(z, multipliers, weights) + settings.anchor * (z - start)
        return z - settings.step_size * slope

    def one(t: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
        z, multipliers = state
        z = jax.lax.fori_loop(0, settings.inner_steps, lambda _, z: primal(z, multipliers), z)
        errors = z - predictions(weights, activation, x, z)[0]
        taken = (t < settings.steps) | settings.last_dual
        return z, multipliers + jnp.where(taken, settings.dual_step, 0) * errors

    state = jnp.where(settings.cold, start, initial[0]), jnp.where(settings.cold, 0, initial[1])
    z, multipliers = jax.lax.fori_loop(1, settings.steps + 1, one, state)
    return z, multipliers, jax.grad(lambda w: energy(z, multipliers, w) / len(x))(weights)


class JaxScan:
    """One compiled program per shape, activation and precision, and another for BP; all settings are its arguments."""

    name = "jax-scan"

    def solve(self, problem: Problem) -> Solution:
        z, multipliers, gradients = self.program(problem)()
        return Solution(np.array(z), np.array(multipliers), [np.array(part) for part in gradients])

    def prepare(self, problem: Problem) -> Callable[[], list[np.ndarray]]:
        run = self.program(problem)
        return lambda: [np.asarray(part) for part in run()[2]]  # NumPy waits for the device

    def program(self, problem: Problem) -> Callable[[], tuple[Array, Array, list[Array]]]:
        """A function that gives activities, multipliers and gradients; its arguments are on the device already."""
        kind, double = problem.dtype, problem.dtype == "float64"
        with jax.enable_x64(double):
            x, y = jnp.asarray(problem.inputs, kind), jnp.asarray(problem.targets, kind)
            first, *blocks, last = (jnp.asarray(weight, kind) for weight in problem.weights)
            weights = Weights(first, jnp.stack(blocks), last)
            settings, initial = settings_of(problem), initial_of(problem)

        def run() -> tuple[Array, Array, list[Array]]:
            with jax.enable_x64(double):
                if problem.method == "bp":
                    z, gradients = backprop(weights, x, y, problem.activation)
                    multipliers = jnp.zeros_like(z)
                else:
                    z, multipliers, gradients = infer(weights, x, y, initial, settings, activation=problem.activation)
                return z, multipliers, [gradients.first, *gradients.blocks, gradients.last]

        return run


def settings_of(problem: Problem) -> Settings:
    is_pc = problem.method == "pc"
    layers = (len(problem.weights) - 1, 1, 1)

    def each(setting: Any) -> Array:
        return jnp.asarray(np.broadcast_to(np.reshape(setting, (-1, 1, 1)), layers), problem.dtype)

    return Settings(
        each(problem.step_size),
        each(problem.penalty),
        each(0 if is_pc else problem.dual_step),
        each(0 if is_pc else problem.anchor),
        jnp.asarray(problem.steps),
        jnp.asarray(1 if is_pc else problem.inner_steps),
        jnp.asarray(problem.credit == "after"),
        jnp.asarray(problem.initial is None),
    )


def initial_of(problem: Problem) -> tuple[Array, Array]:
    """The initial state, zero where there is none."""
    shape = len(problem.weights) - 1, len(problem.inputs), len(problem.weights[0])
    state = (np.zeros(shape),) * 2 if problem.initial is None else problem.initial
    return jnp.asarray(state[0], problem.dtype), jnp.asarray(state[1], problem.dtype)


impl = JaxScan()
