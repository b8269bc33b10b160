"""Linear networks: the iteration as an affine map (z, λ) → M (z, λ) + b, read off any implementation.

Samples do not interact, so one call with the zero vector and all basis vectors of (z, λ) in the batch gives b and M's
columns.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from pcalm_conformance import oracle
from pcalm_conformance.problems import Recipe
from pcalm_conformance.protocol import Problem, Solution

Solve = Callable[[Problem], Solution]


def affine_map(solve: Solve, recipe: Recipe) -> tuple[np.ndarray, np.ndarray]:
    """(M [2n, 2n], b [2n]) with n = (L−1)·N: one round of a one-sample linear problem; z before λ, layer by layer."""
    base = recipe.but(batch=1, steps=1, budget=None, credit="after", start="feedforward").problem()
    layers, width = len(base.weights) - 1, base.weights[0].shape[0]
    n = layers * width
    vectors = np.concatenate([np.zeros((1, 2 * n)), np.eye(2 * n)]).astype(base.dtype)
    halves = vectors.reshape(2 * n + 1, 2, layers, width).transpose(1, 2, 0, 3)
    found = solve(
        dataclasses.replace(
            base,
            inputs=np.repeat(base.inputs, 2 * n + 1, axis=0),
            targets=np.repeat(base.targets, 2 * n + 1, axis=0),
            initial=(np.ascontiguousarray(halves[0]), np.ascontiguousarray(halves[1])),
        )
    )
    images = np.stack([found.activities, found.multipliers]).astype(np.float64)
    images = images.transpose(2, 0, 1, 3).reshape(2 * n + 1, 2 * n)
    return (images[1:] - images[0]).T, images[0]


def constraint_matrix(recipe: Recipe) -> np.ndarray:
    """A = ∂c/∂z [n, n] of a linear network: identity blocks on the diagonal, −(I + s_l W_l) below it."""
    problem = recipe.but(batch=1).problem()
    net = oracle.Network(problem)
    size = net.N
    matrix = np.eye((net.L - 1) * size)
    for layer in range(2, net.L):
        row, column = (layer - 1) * size, (layer - 2) * size
        matrix[row : row + size, column : column + size] = -(np.eye(size) + net.s[layer] * net.W[layer])
    return matrix


def spectral_radius(matrix: np.ndarray) -> float:
    return float(np.abs(np.linalg.eigvals(matrix)).max())


def flat(activities: np.ndarray, multipliers: np.ndarray) -> np.ndarray:
    """One sample's (z, λ), each [L−1, 1, N], as a vector [2n]."""
    return np.concatenate([np.asarray(activities, np.float64).ravel(), np.asarray(multipliers, np.float64).ravel()])
