"""The suite's own training loop, so that every implementation is trained alike: `optimiser` around `solve`."""

from __future__ import annotations

import dataclasses

import numpy as np

from pcalm_conformance import oracle
from pcalm_conformance.checking import Check
from pcalm_conformance.optimiser import BATCH, Adam, batches
from pcalm_conformance.problems import Recipe, dataset
from pcalm_conformance.vectors import cosine


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
    adam = Adam(problem.weights, lr)
    for chosen in batches(len(images), recipe.epochs, recipe.seed):
        batch = {"inputs": images[chosen].astype(dtype), "targets": targets[labels[chosen]].astype(dtype)}
        adam.step(check.gradients(recipe, weights=adam.weights, **batch))
    after = dataclasses.replace(problem, weights=adam.weights)
    net = oracle.Network(dataclasses.replace(after, inputs=test_images, targets=np.zeros((len(test_labels), 10))))
    accuracy = float((net.output_error(net.feedforward()).argmax(axis=1) == test_labels).mean())
    found = check.gradients(recipe, weights=adam.weights)
    return Trained(accuracy, cosine(found, oracle.backprop(after)))
