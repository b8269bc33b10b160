"""jpc, as in its examples: make_mlp layers and a skip model, param_type="mupc", updates of the states by optax.sgd.

Deviates in: its energy is the mean over the batch, and weighs the output against the hidden layers, not these against
the output. So E = ρ E_jpc with the output's energy scaled by 1/ρ, and its rate is η ρ B. jpc is on no package index and
could not be reached where this was written last: what runs there is a test against a stand-in of its calls.
"""

from __future__ import annotations

import functools
from typing import Any

import equinox
import jax
import jax.numpy as jnp
import jpc
import optax
from jax_library import Array, JaxLibrary, Program, start
from pcalm_conformance.protocol import Problem

# For the whole process, which is the adapter's own.
jax.config.update("jax_enable_x64", True)

Model = list[Any]  # the layers, each a Sequential of an activation and a Linear
MUPC = "mupc"


@functools.cache
def architecture(depth: int, width: int, inputs: int, outputs: int, activation: str) -> Model:
    return jpc.make_mlp(
        jax.random.PRNGKey(0), inputs, width, depth, outputs, activation, use_bias=False, param_type=MUPC
    )


def model_of(weights: list[Array], activation: str) -> Model:
    (width, inputs), outputs = weights[0].shape, len(weights[-1])
    layers = architecture(len(weights), width, inputs, outputs, activation)
    return [
        equinox.tree_at(lambda part: part[1].weight, layer, weight)
        for layer, weight in zip(layers, weights, strict=True)
    ]


def feedforward(model: Model, x: Array) -> list[Array]:
    """The hidden states and the output."""
    skip = jpc.make_skip_model(len(model))
    return jpc.init_activities_with_ffwd(model, x, skip_model=skip, param_type=MUPC)


@equinox.filter_jit
def backprop(model: Model, x: Array, y: Array) -> tuple[list[Array], list[Array]]:
    def loss(model: Model) -> tuple[Array, list[Array]]:
        states = feedforward(model, x)
        return jpc.mse_loss(states[-1], y), states

    (_, states), gradients = equinox.filter_value_and_grad(loss, has_aux=True)(model)
    return states[:-1], [layer[1].weight for layer in gradients]


@equinox.filter_jit
def infer(
    model: Model, x: Array, y: Array, initial: Array, cold: Array, steps: Array, step_size: Array, penalty: Array
) -> tuple[list[Array], list[Array]]:
    """Hidden states and weight gradients after the whole budget; `cold`: from the feed-forward states."""
    parts = {"params": (model, jpc.make_skip_model(len(model))), "param_type": MUPC}
    start = feedforward(model, x)
    states = [jnp.where(cold, z, given) for z, given in zip(start, initial, strict=False)] + start[-1:]
    optim = optax.sgd(step_size * penalty * len(x))
    memory = optim.init(states)

    def one(_: Array, states: list[Array]) -> list[Array]:
        found = jpc.update_pc_activities(
            activities=states,
            optim=optim,
            opt_state=memory,
            output=y,
            input=x,
            output_energy_scaling=1 / penalty,
            **parts,
        )
        return found["activities"]

    states = jax.lax.fori_loop(0, steps, one, states)
    gradients, _ = jpc.compute_pc_param_grads(activities=states, y=y, x=x, output_energy_scaling=1 / penalty, **parts)
    return states[:-1], [penalty * layer[1].weight for layer in gradients]


class Jpc(JaxLibrary):
    """One compiled program per shape, activation and precision, and another for BP; all settings are its arguments."""

    name = "jpc"

    def supports(self, problem: Problem) -> bool:
        one_each = not (isinstance(problem.step_size, tuple) or isinstance(problem.penalty, tuple))
        return problem.method == "bp" or (problem.method == "pc" and one_each)

    def program(self, problem: Problem) -> Program:
        kind = problem.dtype
        weights, x, y = jax.device_put((list(problem.weights), problem.inputs, problem.targets))
        model = model_of(weights, problem.activation)
        if problem.method == "bp":
            return functools.partial(backprop, model, x, y)
        rates = jnp.asarray(problem.step_size, kind), jnp.asarray(problem.penalty, kind)
        return functools.partial(infer, model, x, y, *start(problem), jnp.asarray(problem.steps), *rates)


impl = Jpc()
