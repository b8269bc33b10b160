"""The suite's own optimiser: Adam in NumPy, with learning rate lr·√(N/L), β = (0.9, 0.999) and ε = 1e-8; batches of 64
in the order default_rng(seed + epoch).permutation(n), the last partial batch dropped; weights stay in their dtype."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

BATCH = 64
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


class Adam:
    """The weights of a network that learns; `weights` are new arrays after every step.

    Args:
        weights: W_1 [N, D], ..., W_L [C, N].
        lr: the learning rate before √(N/L).
    """

    def __init__(self, weights: Sequence[np.ndarray], lr: float) -> None:
        self.weights = list(weights)
        self.first = [np.zeros_like(weight) for weight in weights]
        self.second = [np.zeros_like(weight) for weight in weights]
        self.rate, self.steps = lr * math.sqrt(len(weights[0]) / len(weights)), 0

    def step(self, gradients: Sequence[np.ndarray]) -> None:
        self.steps += 1
        self.first = [BETA1 * m + (1 - BETA1) * g for m, g in zip(self.first, gradients, strict=True)]
        self.second = [BETA2 * v + (1 - BETA2) * g**2 for v, g in zip(self.second, gradients, strict=True)]
        scale = self.rate * math.sqrt(1 - BETA2**self.steps) / (1 - BETA1**self.steps)
        shrunk = EPSILON * math.sqrt(1 - BETA2**self.steps)
        self.weights = [
            (w - scale * m / (np.sqrt(v) + shrunk)).astype(w.dtype)
            for w, m, v in zip(self.weights, self.first, self.second, strict=True)
        ]


def batches(samples: int, epochs: int, seed: int) -> Iterator[np.ndarray]:
    """Which samples each update sees."""
    for epoch in range(epochs):
        order = np.random.default_rng(seed + epoch).permutation(samples)
        yield from order[: samples // BATCH * BATCH].reshape(-1, BATCH)
