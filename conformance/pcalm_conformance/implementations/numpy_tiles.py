"""PC-ALM, PC and BP organised like a fast kernel: a tile of samples goes through all steps, in buffers that are reused.

Units are padded with zeros to whole vectors. Zero rows and columns of the weights keep the padding at zero, so only
the scales and what is returned need the true width.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pcalm_conformance.protocol import Problem, Solution

TILE = 16  # samples that go through all steps together
VECTOR = 8  # units in a vector


class Buffers:
    """Arrays for one tile, reused by later calls of the same shape and dtype."""

    def __init__(self, layers: int, width: int, dtype: np.dtype[np.generic]) -> None:
        self.z, self.multipliers, self.start, self.active, self.slope, self.q = np.zeros(
            (6, layers, TILE, width), dtype
        )


class NumpyTiles:
    """One upward sweep for φ, φ' and q, and one downward sweep that moves z in place."""

    name = "numpy-tiles"

    def __init__(self) -> None:
        self.buffers: dict[tuple[int, int, str], Buffers] = {}

    def solve(self, problem: Problem) -> Solution:
        width, inputs = problem.weights[0].shape
        depth, batch = len(problem.weights), len(problem.inputs)
        padded = -(-width // VECTOR) * VECTOR
        dtype = np.dtype(problem.dtype)
        key = (depth, padded, problem.dtype)
        if key not in self.buffers:
            self.buffers[key] = Buffers(depth - 1, padded, dtype)
        s_input, s_block, s_output = 1 / math.sqrt(inputs), 1 / math.sqrt(width * depth), 1 / width

        weights = np.zeros((depth - 2, padded, padded), dtype)
        weights[:, :width, :width] = s_block * np.stack(problem.weights[1:-1])
        readout = np.zeros((len(problem.weights[-1]), padded), dtype)
        readout[:, :width] = s_output * problem.weights[-1]

        activities = np.zeros((depth - 1, batch, width), dtype)
        multipliers = np.zeros_like(activities)
        gradients = [np.zeros_like(weight) for weight in problem.weights]
        for first in range(0, batch, TILE):
            tile = slice(first, min(first + TILE, batch))
            run = Tile(self.buffers[key], problem, tile, weights, readout)
            run.infer()
            activities[:, tile] = run.z[:, :, :width]
            multipliers[:, tile] = run.multipliers[:, :, :width]
            gradients[0] -= s_input / batch * (run.q[0, :, :width].T @ problem.inputs[tile])
            for layer in range(1, depth - 1):
                product = run.q[layer, :, :width].T @ run.active[layer - 1, :, :width]
                gradients[layer] -= s_block / batch * product
            gradients[-1] += s_output / batch * (run.error.T @ run.active[-1, :, :width])
        return Solution(activities, multipliers, gradients)


class Tile:
    """The samples of one tile, from the start to the end of the budget."""

    def __init__(
        self, buffers: Buffers, problem: Problem, tile: slice, weights: np.ndarray, readout: np.ndarray
    ) -> None:
        self.problem, self.weights, self.readout = problem, weights, readout
        self.targets = problem.targets[tile]
        width, inputs = problem.weights[0].shape
        samples = len(self.targets)
        parts = (buffers.z, buffers.multipliers, buffers.start, buffers.active, buffers.slope, buffers.q)
        self.z, self.multipliers, self.start, self.active, self.slope, self.q = (part[:, :samples] for part in parts)

        self.first = np.zeros((samples, weights.shape[-1]), weights.dtype)
        self.first[:, :width] = problem.inputs[tile] @ problem.weights[0].T / math.sqrt(inputs)
        self.start[0] = self.first
        for layer, weight in enumerate(weights, 1):
            self.active[layer - 1] = self.phi(self.start[layer - 1])
            self.start[layer] = self.start[layer - 1] + self.active[layer - 1] @ weight.T
        self.z[:], self.multipliers[:] = self.start, 0
        if problem.initial is not None:
            self.z[:, :, :width] = problem.initial[0][:, tile]
            self.multipliers[:, :, :width] = problem.initial[1][:, tile]

    def phi(self, u: np.ndarray) -> np.ndarray:
        if self.problem.activation == "tanh":
            return np.tanh(u)
        return np.maximum(u, 0) if self.problem.activation == "relu" else u

    def each(self, setting: Any) -> np.ndarray:
        """A setting of every hidden layer, [L−1]."""
        return np.broadcast_to(np.asarray(setting, self.q.dtype), len(self.q))

    def evaluate(self, setting: Any) -> None:
        """φ, φ', q and the output's error from z and λ."""
        penalty = self.each(setting)
        self.active[:] = self.phi(self.z)
        if self.problem.activation == "tanh":
            self.slope[:] = 1 - self.active**2
        else:
            self.slope[:] = 1 if self.problem.activation == "linear" else self.z > 0
        self.q[0] = penalty[0] * (self.z[0] - self.first) + self.multipliers[0]
        for layer, weight in enumerate(self.weights, 1):
            below = self.z[layer - 1] + self.active[layer - 1] @ weight.T
            self.q[layer] = penalty[layer] * (self.z[layer] - below) + self.multipliers[layer]
        self.error = self.active[-1] @ self.readout.T - self.targets

    def from_above(self, layer: int) -> np.ndarray:
        """−∂E/∂z of a layer without its own q; it needs nothing but q and φ', so z may already have moved."""
        if layer == len(self.weights):
            return -(self.error @ self.readout) * self.slope[layer]
        return self.q[layer + 1] + self.q[layer + 1] @ self.weights[layer] * self.slope[layer]

    def infer(self) -> None:
        problem, top = self.problem, len(self.weights)
        if problem.method == "bp":
            self.evaluate(0.0)
            for layer in range(top, -1, -1):
                self.q[layer] = self.from_above(layer)
            return
        is_pc = problem.method == "pc"
        settings = (problem.step_size, 0.0, 0.0) if is_pc else (problem.step_size, problem.dual_step, problem.anchor)
        step_size, dual_step, anchor = map(self.each, settings)
        for t in range(1, problem.steps + 1):
            for _ in range(1 if is_pc else problem.inner_steps):
                self.evaluate(problem.penalty)
                for layer in range(top, -1, -1):
                    force = self.q[layer] - self.from_above(layer) + anchor[layer] * (self.z[layer] - self.start[layer])
                    self.z[layer] -= step_size[layer] * force
            self.evaluate(1.0)
            if t < problem.steps or problem.credit == "after":
                self.multipliers += dual_step[:, None, None] * (self.q - self.multipliers)
        self.evaluate(problem.penalty)


impl = NumpyTiles()
