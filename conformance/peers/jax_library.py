"""What the adapters of libraries of BP and PC in JAX have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from pcalm_conformance.protocol import Problem, Solution

Array = Any  # jax.Array, or a tracer of one
Program = Callable[[], tuple[list[Array], list[Array]]]


class JaxLibrary:
    """An adapter by its `program`."""

    def program(self, problem: Problem) -> Program:
        """What computes hidden states and gradients, its arguments on the device."""
        raise NotImplementedError

    def solve(self, problem: Problem) -> Solution:
        z, gradients = self.program(problem)()
        states = np.stack([np.asarray(layer) for layer in z])
        return Solution(states, np.zeros_like(states), [np.array(gradient) for gradient in gradients])

    def prepare(self, problem: Problem) -> Callable[[], list[Array]]:
        run = self.program(problem)
        return lambda: jax.block_until_ready(run())[1]


def start(problem: Problem) -> tuple[Array, Array]:
    """The initial states [L−1, B, N], zero where there are none, and whether there are none."""
    shape = len(problem.weights) - 1, len(problem.inputs), len(problem.weights[0])
    given = problem.initial
    initial = jnp.zeros(shape, problem.dtype) if given is None else jax.device_put(given[0])
    return initial, jnp.asarray(given is None)
