"""PC-ALM, PC and BP in plain NumPy: the state is two arrays [L−1, B, N], and one function holds the whole method.

Hidden layers are counted from 0 here: `weights[layer]` leads to `z[layer]`, and `weights[-1]` to the output.
"""

from __future__ import annotations

import math

import numpy as np

from pcalm_conformance.protocol import Problem, Solution


class NumpyLoop:
    """Everything in the problem's dtype, in the order of the equations."""

    name = "numpy-loop"

    def solve(self, problem: Problem) -> Solution:
        weights, x, y = problem.weights, problem.inputs, problem.targets
        width, inputs = weights[0].shape
        depth, batch = len(weights), len(x)
        top, hidden, blocks = depth - 2, range(depth - 1), range(1, depth - 1)
        s_input, s_block, s_output = 1 / math.sqrt(inputs), 1 / math.sqrt(width * depth), 1 / width

        def phi(u: np.ndarray) -> np.ndarray:
            if problem.activation == "tanh":
                return np.tanh(u)
            return np.maximum(u, 0) if problem.activation == "relu" else u

        def slope(u: np.ndarray) -> np.ndarray:
            if problem.activation == "tanh":
                return 1 - np.tanh(u) ** 2
            return (u > 0).astype(u.dtype) if problem.activation == "relu" else np.ones_like(u)

        def prediction(z: np.ndarray, layer: int) -> np.ndarray:
            if layer == 0:
                return s_input * (x @ weights[0].T)
            return z[layer - 1] + s_block * (phi(z[layer - 1]) @ weights[layer].T)

        def residuals(z: np.ndarray) -> np.ndarray:
            return np.stack([z[layer] - prediction(z, layer) for layer in hidden])

        def output_error(z: np.ndarray) -> np.ndarray:
            return s_output * (phi(z[top]) @ weights[-1].T) - y

        def from_above(q: np.ndarray, z: np.ndarray, layer: int) -> np.ndarray:
            """What a hidden layer hears from above: −∂E/∂z_l without the layer's own q_l."""
            if layer == top:
                return -s_output * (output_error(z) @ weights[-1]) * slope(z[top])
            return q[layer + 1] + s_block * (q[layer + 1] @ weights[layer + 1]) * slope(z[layer])

        def weight_gradients(q: np.ndarray, z: np.ndarray) -> list[np.ndarray]:
            gradients = [-s_input / batch * (q[0].T @ x)]
            gradients += [-s_block / batch * (q[layer].T @ phi(z[layer - 1])) for layer in blocks]
            return [*gradients, s_output / batch * (output_error(z).T @ phi(z[top]))]

        feedforward = np.zeros((depth - 1, batch, width), x.dtype)
        for layer in hidden:
            feedforward[layer] = prediction(feedforward, layer)
        multipliers = np.zeros_like(feedforward)

        if problem.method == "bp":
            q = np.zeros_like(feedforward)
            for layer in reversed(hidden):
                q[layer] = from_above(q, feedforward, layer)
            return Solution(feedforward, multipliers, weight_gradients(q, feedforward))

        penalty, step_size, dual_step, anchor = problem.penalty, problem.step_size, problem.dual_step, problem.anchor
        inner_steps, credit = problem.inner_steps, problem.credit
        if problem.method == "pc":
            dual_step, anchor, inner_steps, credit = 0.0, 0.0, 1, "before"
        # [1, 1, 1], or one for each hidden layer [L−1, 1, 1].
        step_size, penalty, dual_step, anchor = (
            np.reshape(setting, (-1, 1, 1)).astype(x.dtype) for setting in (step_size, penalty, dual_step, anchor)
        )
        z = feedforward
        if problem.initial is not None:
            z, multipliers = problem.initial
        for t in range(1, problem.steps + 1):
            for _ in range(inner_steps):
                q = penalty * residuals(z) + multipliers
                gradient = anchor * (z - feedforward)
                for layer in hidden:
                    gradient[layer] += q[layer] - from_above(q, z, layer)
                z = z - step_size * gradient
            if t < problem.steps or credit == "after":
                multipliers = multipliers + dual_step * residuals(z)
        q = penalty * residuals(z) + multipliers
        return Solution(z, multipliers, weight_gradients(q, z))


impl = NumpyLoop()
