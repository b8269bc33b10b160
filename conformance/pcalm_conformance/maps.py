"""Linear networks: the iteration as an affine map (z, λ) → M (z, λ) + b, read off any implementation.

Samples do not interact, so one call with the zero vector and all basis vectors of (z, λ) in the batch gives b and M's
columns.
"""

from __future__ import annotations

import numpy as np

from pcalm_conformance import oracle, rounding
from pcalm_conformance.problems import Recipe
from pcalm_conformance.protocol import Solution


def probe(recipe: Recipe) -> Recipe:
    """One round of the recipe's first sample, from zero and from every basis vector of (z, λ) [2n + 1 samples]."""
    return recipe.but(batch=1, steps=1, budget=None, credit="after", start="basis")


def affine_map(found: Solution) -> tuple[np.ndarray, np.ndarray]:
    """(M [2n, 2n], b [2n]) with n = (L−1)·N, of the solution of a `probe`; z before λ, layer by layer."""
    images = np.stack([found.activities, found.multipliers]).astype(np.float64)
    images = images.transpose(2, 0, 1, 3).reshape(images.shape[2], -1)
    return (images[1:] - images[0]).T, images[0]


def map_error(recipe: Recipe) -> float:
    """How far rounding may leave an affine map M [2n, 2n] from the exact one, in the 2-norm: 2n times what it does to
    an entry, which is the difference of two images."""
    problem = probe(recipe).problem()
    bounds = rounding.bounds(problem)
    entry = 2 * float(max(bounds.activities.max(), bounds.multipliers.max()))
    return (len(problem.inputs) - 1) * entry


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
