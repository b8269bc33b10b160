"""pcx 0.6.3: BP and PC as in its examples, an EnergyModule of Linear layers and Vodes trained by pxf and pxu.Optim.

Deviates in: nothing that is computed. It has no μPC parameterisation, so the scales stand in the model; its energy is
the sum over the batch, so its weight gradients are divided by B.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pcx
import pcx.functional as pxf
import pcx.nn as pxnn
import pcx.predictive_coding as pxc
import pcx.utils as pxu
from jax_library import Array, JaxLibrary, Program, start
from pcalm_conformance.protocol import Problem

# For the whole process, which is the adapter's own: a pcx model keeps its arrays between calls.
jax.config.update("jax_enable_x64", True)

PHI = {"linear": lambda u: u, "tanh": jnp.tanh, "relu": jax.nn.relu}
CACHE = pxc.VodeParam.Cache
STATES = pxu.M(pxc.VodeParam | CACHE).to((None, 0))  # what has a sample axis


def hidden() -> pxu.M:
    """The mask of all states but the output's, a new one at each call: `to` changes a mask in place."""
    return pxu.M_hasnot(pxc.VodeParam, frozen=True)


def energy_of(vode: pxc.Vode, rkg: Any = None) -> Array:
    """ρ/2 (z − pred)², with the ρ that the model was called with."""
    return vode.get("rho") * pxc.se_energy(vode)


class Chain(pxc.EnergyModule):
    """The protocol's network, called with one sample."""

    def __init__(self, depth: int, width: int, inputs: int, outputs: int, activation: str) -> None:
        super().__init__()
        sizes = [inputs, *[width] * (depth - 1), outputs]
        self.phi = pcx.static(PHI[activation])
        self.scales = pcx.static((inputs**-0.5, *[(width * depth) ** -0.5] * (depth - 2), 1 / width))
        self.layers = [pxnn.Linear(*pair, bias=False) for pair in itertools.pairwise(sizes)]
        self.vodes = [pxc.Vode(energy_fn=energy_of) for _ in range(depth)]
        self.vodes[-1].h.frozen = True

    def __call__(self, x: Array, penalties: Array, y: Array | None = None) -> Array:
        scales, phi = self.scales.get(), self.phi.get()
        z = self.vodes[0](scales[0] * self.layers[0](x), rho=penalties[0])
        for layer in range(1, len(self.layers) - 1):
            change = scales[layer] * self.layers[layer](phi(z))
            z = self.vodes[layer](z + change, rho=penalties[layer])
        self.vodes[-1](scales[-1] * self.layers[-1](phi(z)), rho=jnp.ones_like(penalties[0]))
        if y is not None:
            self.vodes[-1].set("h", y)
        return self.vodes[-1].get("u")


@pxf.vmap(STATES, in_axes=(0, None, 0), out_axes=0)
def forward(x: Array, penalties: Array, y: Array, *, model: Chain) -> Array:
    return model(x, penalties, y)


@pxf.vmap(STATES, in_axes=(0, None), out_axes=None, axis_name="batch")
def energy(x: Array, penalties: Array, *, model: Chain) -> Array:
    model(x, penalties)
    return jax.lax.psum(model.energy().sum(), "batch")


@pxf.vmap(STATES, in_axes=(0, None, 0), out_axes=None, axis_name="batch")
def loss(x: Array, penalties: Array, y: Array, *, model: Chain) -> Array:
    return jax.lax.psum(((model(x, penalties) - y) ** 2).sum() / 2, "batch")


def weight_gradients(of: Callable[..., Array], *arguments: Array, model: Chain) -> list[Array]:
    """Of the batch mean."""
    _, found = pxf.value_and_grad(pxu.M(pxnn.LayerParam).to([False, True]))(of)(*arguments, model=model)
    return [layer.nn.weight.get() / len(arguments[0]) for layer in found["model"].layers]


def states(model: Chain) -> list[Array]:
    return [vode.h.get() for vode in model.vodes[:-1]]


@pxf.jit()
def backprop(x: Array, y: Array, penalties: Array, *, model: Chain) -> tuple[list[Array], list[Array]]:
    with pxu.step(model, (pxc.STATUS.INIT, None), clear_params=CACHE):
        gradients = weight_gradients(loss, x, penalties, y, model=model)
    return states(model), gradients


def one(
    left: Array, x: Array, penalties: Array, step_size: Array, *, model: Chain, optim: pxu.Optim
) -> tuple[Array, ...]:
    """A primal step, while there are any `left`."""
    with pxu.step(model, clear_params=CACHE):
        _, slope = pxf.value_and_grad(hidden().to([False, True]))(energy)(x, penalties, model=model)
    optim.step(model, slope["model"], scale_by=step_size)
    return left - 1, x, penalties, step_size


@pxf.jit()
def infer(
    x: Array,
    y: Array,
    initial: Array,
    cold: Array,
    steps: Array,
    step_size: Array,
    penalties: Array,
    *,
    model: Chain,
) -> tuple[list[Array], list[Array]]:
    """Hidden states and weight gradients after the whole budget; `cold`: from the feed-forward states."""
    with pxu.step(model, (pxc.STATUS.INIT, None), clear_params=CACHE):
        forward(x, penalties, y, model=model)
    for vode, z in zip(model.vodes[:-1], initial, strict=True):
        vode.h.set(jnp.where(cold, vode.h.get(), z))
    optim = pxu.Optim(lambda: optax.sgd(1.0), hidden()(model))
    loop = pxf.while_loop(one, cond_fun=lambda left, *_, **__: left > 0)
    loop(steps, x, penalties, step_size, model=model, optim=optim)
    with pxu.step(model, clear_params=CACHE):
        gradients = weight_gradients(energy, x, penalties, model=model)
    return states(model), gradients


@functools.cache
def chain(depth: int, width: int, inputs: int, outputs: int, activation: str) -> Chain:
    """One model for each structure: a new one would compile anew."""
    return Chain(depth, width, inputs, outputs, activation)


class Pcx(JaxLibrary):
    """One compiled program per shape, activation and precision, and another for BP; all settings are its arguments."""

    name = "pcx"

    def supports(self, problem: Problem) -> bool:
        one_rate = not isinstance(problem.step_size, tuple)  # pxu.Optim has one rate for all states
        return problem.method == "bp" or (problem.method == "pc" and one_rate)

    def program(self, problem: Problem) -> Program:
        kind = problem.dtype
        weights, x, y = jax.device_put((list(problem.weights), problem.inputs, problem.targets))
        (width, inputs), layers = weights[0].shape, len(weights) - 1
        model = chain(len(weights), width, inputs, len(weights[-1]), problem.activation)
        penalties = jnp.asarray(np.broadcast_to(problem.penalty, layers), kind)
        if problem.method == "bp":
            call = functools.partial(backprop, x, y, penalties, model=model)
        else:
            budget = jnp.asarray(problem.steps), jnp.asarray(problem.step_size, kind)
            call = functools.partial(infer, x, y, *start(problem), *budget, penalties, model=model)

        def run() -> tuple[list[Array], list[Array]]:
            for layer, weight in zip(model.layers, weights, strict=True):
                layer.nn.weight.set(weight)
            for vode in model.vodes:
                vode.h.set(None)
            return call()

        return run


impl = Pcx()
