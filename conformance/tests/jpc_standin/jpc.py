"""What conformance/peers/jpc_adapter.py calls of jpc, with jpc's conventions: the energy is the mean over the batch,
its rate is that of the optimiser that it is given, and the scales of μPC are applied in the forward pass.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

Array = Any
PHI: dict[str, Callable[[Array], Array]] = {
    "linear": lambda u: u,
    "tanh": jnp.tanh,
    "relu": jax.nn.relu,
}


@dataclass(frozen=True)
class Linear:
    weight: Array


@dataclass(frozen=True)
class Sequential:
    """An activation, then a Linear."""

    activation: str
    linear: Linear

    def __getitem__(self, place: int) -> Linear:
        assert place == 1
        return self.linear

    def __call__(self, z: Array) -> Array:
        return PHI[self.activation](z) @ self.linear.weight.T


jax.tree_util.register_dataclass(Linear, ["weight"], [])
jax.tree_util.register_dataclass(Sequential, ["linear"], ["activation"])


def make_mlp(
    key: Array,
    input_dim: int,
    width: int,
    depth: int,
    output_dim: int,
    act_fn: str,
    *,
    use_bias: bool,
    param_type: str,
) -> list[Sequential]:
    assert (use_bias, param_type) == (False, "mupc")
    sizes = [input_dim, *[width] * (depth - 1), output_dim]
    activations = ["linear", *[act_fn] * (depth - 1)]
    keys = jax.random.split(key, depth)
    return [
        Sequential(activations[layer], Linear(jax.random.normal(keys[layer], (sizes[layer + 1], sizes[layer]))))
        for layer in range(depth)
    ]


def make_skip_model(depth: int) -> list[Callable[[Array], Array] | None]:
    return [None, *[lambda z: z] * (depth - 2), None]


def predictions(params: Any, inputs: list[Array]) -> list[Array]:
    """What every layer makes of its input."""
    model, skip = params
    width, input_dim = model[0][1].weight.shape
    scales = [input_dim**-0.5, *[(width * len(model)) ** -0.5] * (len(model) - 2), 1 / width]
    made = [scale * layer(z) for scale, layer, z in zip(scales, model, inputs, strict=True)]
    return [new if over is None else new + over(z) for new, over, z in zip(made, skip, inputs, strict=True)]


def init_activities_with_ffwd(
    model: list[Sequential], input: Array, *, skip_model: Any, param_type: str
) -> list[Array]:
    assert param_type == "mupc"
    states = [input]
    for layer in range(len(model)):
        padded = [*states, *[jnp.zeros((len(input), len(one[1].weight))) for one in model[layer:-1]]]
        states.append(predictions((model, skip_model), padded)[layer])
    return states[1:]


def mse_loss(preds: Array, labels: Array) -> Array:
    return 0.5 * ((labels - preds) ** 2).sum(axis=1).mean()


def pc_energy_fn(params: Any, activities: list[Array], y: Array, x: Array, output_energy_scaling: Array) -> Array:
    made = predictions(params, [x, *activities[:-1]])
    hidden = sum(mse_loss(below, z) for below, z in zip(made, activities[:-1], strict=False))
    return output_energy_scaling * mse_loss(made[-1], y) + hidden


def update_pc_activities(
    params: Any,
    activities: list[Array],
    optim: Any,
    opt_state: Any,
    output: Array,
    *,
    input: Array,
    param_type: str,
    output_energy_scaling: Array,
) -> dict[str, Any]:
    assert param_type == "mupc"
    energy, grads = jax.value_and_grad(pc_energy_fn, argnums=1)(
        params, activities, output, input, output_energy_scaling
    )
    updates, opt_state = optim.update(grads, opt_state, activities)
    activities = [z + update for z, update in zip(activities, updates, strict=True)]
    return {"energy": energy, "activities": activities, "grads": grads, "opt_state": opt_state}


def compute_pc_param_grads(
    params: Any,
    activities: list[Array],
    y: Array,
    *,
    x: Array,
    param_type: str,
    output_energy_scaling: Array,
) -> tuple[Any, Any]:
    assert param_type == "mupc"
    model, skip = params
    of_model = jax.grad(lambda model: pc_energy_fn((model, skip), activities, y, x, output_energy_scaling))(model)
    return of_model, [None] * len(skip)
