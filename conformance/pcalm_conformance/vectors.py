"""Cosine, relative error and norm ratio of gradients, in float64: NumPy, since the suite must not share code with
what it tests."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Gradients = Sequence[np.ndarray]


def vector(gradients: Gradients) -> np.ndarray:
    return np.concatenate([np.asarray(gradient, np.float64).ravel() for gradient in gradients])


def cosine(a: Gradients, b: Gradients) -> float:
    """⟨a, b⟩ / (‖a‖‖b‖); NaN where a norm is zero."""
    left, right = vector(a), vector(b)
    norms = np.linalg.norm(left) * np.linalg.norm(right)
    return float(left @ right / norms) if norms > 0 else float("nan")


def relative_error(a: Gradients, b: Gradients) -> float:
    """‖a − b‖ / ‖b‖."""
    return float(np.linalg.norm(vector(a) - vector(b)) / np.linalg.norm(vector(b)))


def norm_ratio(a: Gradients, b: Gradients) -> float:
    """‖a‖ / ‖b‖."""
    return float(np.linalg.norm(vector(a)) / np.linalg.norm(vector(b)))
