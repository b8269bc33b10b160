"""The suite's own training loop, so that every implementation is trained alike: Adam in NumPy around `solve`.

Adam with learning rate lr·√(N/L), β = (0.9, 0.999), ε = 1e-8; batches of 64 in the order
default_rng(seed + epoch).permutation(n), the last partial batch dropped; weights stay in the problem's dtype.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from pcalm_conformance import oracle
from pcalm_conformance.checking import Check
from pcalm_conformance.problems import Recipe, dataset
from pcalm_conformance.vectors import cosine

BATCH = 64
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


@dataclasses.dataclass(frozen=True)
class Trained:
    """Test accuracy in 0..1, and the cosine of the gradient to BP's on the first 64 training samples after training."""

    accuracy: float
    cosine: float


def train(check: Check, recipe: Recipe, lr: float) -> Trained:
    """Trains the recipe's network on its data set for its epochs, once for all requirements.

    Raises:
        Nonconformity: the loss' gradient is no longer finite (as the check of every solution).
    """
    recipe = recipe.but(batch=BATCH)
    key = recipe.resolved(), lr
    if key not in check.answers.trained:
        check.answers.trained[key] = _train(check, recipe, lr)
    trained: Trained = check.answers.trained[key]
    return trained


def _train(check: Check, recipe: Recipe, lr: float) -> Trained:
    images, labels, test_images, test_labels = dataset(recipe.data)
    problem = recipe.problem()
    dtype, targets = np.dtype(problem.dtype), np.eye(10)
    weights = [np.asarray(weight) for weight in problem.weights]
    first = [np.zeros_like(weight) for weight in weights]
    second = [np.zeros_like(weight) for weight in weights]
    rate, step = lr * math.sqrt(recipe.width / recipe.depth), 0
    for epoch in range(recipe.epochs):
        order = np.random.default_rng(recipe.seed + epoch).permutation(len(images))
        for chosen in order[: len(order) // BATCH * BATCH].reshape(-1, BATCH):
            batch = {"inputs": images[chosen].astype(dtype), "targets": targets[labels[chosen]].astype(dtype)}
            gradients = check.gradients(recipe, weights=weights, **batch)
            step += 1
            first = [BETA1 * m + (1 - BETA1) * g for m, g in zip(first, gradients, strict=True)]
            second = [BETA2 * v + (1 - BETA2) * g**2 for v, g in zip(second, gradients, strict=True)]
            scale = rate * math.sqrt(1 - BETA2**step) / (1 - BETA1**step)
            shrunk = EPSILON * math.sqrt(1 - BETA2**step)
            weights = [
                (w - scale * m / (np.sqrt(v) + shrunk)).astype(dtype)
                for w, m, v in zip(weights, first, second, strict=True)
            ]
    after = dataclasses.replace(problem, weights=weights)
    net = oracle.Network(dataclasses.replace(after, inputs=test_images, targets=np.zeros((len(test_labels), 10))))
    accuracy = float((net.output_error(net.feedforward()).argmax(axis=1) == test_labels).mean())
    found = check.gradients(recipe, weights=weights)
    return Trained(accuracy, cosine(found, oracle.backprop(after)))
