"""The suite's own training loop, so that every implementation is trained alike: `optimiser` around `solve`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from pcalm_conformance import oracle
from pcalm_conformance.checking import Check
from pcalm_conformance.optimiser import BATCH, Adam, batches
from pcalm_conformance.problems import Recipe, dataset
from pcalm_conformance.protocol import Problem
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
    return check.answers.once((Trained, recipe.resolved(), lr), lambda: _train(check, recipe, lr))


def _train(check: Check, recipe: Recipe, lr: float) -> Trained:
    def gradients(problem: Problem) -> Sequence[np.ndarray]:
        return check.gradients(recipe, weights=problem.weights, inputs=problem.inputs, targets=problem.targets)

    *_, weights = epochs(recipe, lr, gradients)
    after = dataclasses.replace(recipe.problem(), weights=weights)
    found = check.gradients(recipe, weights=weights)
    return Trained(accuracy(after, recipe.data), cosine(found, oracle.backprop(after)))


def epochs(
    recipe: Recipe, lr: float, gradients: Callable[[Problem], Sequence[np.ndarray]]
) -> Iterator[list[np.ndarray]]:
    """The weights after every epoch of the recipe's training.

    Args:
        recipe: network, method, data and number of epochs; its batch is BATCH.
        lr: the learning rate, before its factor √(N/L).
        gradients: the weight gradients of a problem, which is the recipe's with other weights and batch.
    """
    images, labels, _, _ = dataset(recipe.data)
    problem = dataclasses.replace(recipe.problem(), wants=("gradients",))
    dtype, targets = np.dtype(problem.dtype), np.eye(10)
    adam = Adam(problem.weights, lr)
    for epoch in range(recipe.epochs):
        for chosen in batches(len(images), 1, recipe.seed + epoch):
            batch = {"inputs": images[chosen].astype(dtype), "targets": targets[labels[chosen]].astype(dtype)}
            adam.step(gradients(dataclasses.replace(problem, weights=adam.weights, **batch)))
        yield adam.weights


def accuracy(problem: Problem, data: str) -> float:
    """The part of the test set that the problem's network classifies right."""
    _, _, images, labels = dataset(data)
    net = oracle.Network(dataclasses.replace(problem, inputs=images, targets=np.zeros((len(labels), 10))))
    return float((net.output_error(net.feedforward()).argmax(axis=1) == labels).mean())
