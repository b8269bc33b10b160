"""Does it learn: bp, pc and pcalm trained through the adapter, by the suite's optimiser on the suite's batches.

The network is that of requirement TRN-1 (digits, N = 16, L = 32, relu, T = 2L). Test accuracy is computed here from the
weights, so that nothing but gradients comes from the adapter; and of the steps one, which nobody knows before, is held
against the oracle: where it is wrong, no accuracy is shown. Time is that of the gradients alone.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from pcalm_conformance.checking import Nonconformity, NotRun
from pcalm_conformance.comparison import cells
from pcalm_conformance.comparison.timing import Contender, Disagreement
from pcalm_conformance.optimiser import BATCH
from pcalm_conformance.problems import Recipe, dataset
from pcalm_conformance.protocol import Problem
from pcalm_conformance.trainer import accuracy, epochs

RECIPE = Recipe(
    depth=32,
    width=16,
    activation="relu",
    data="digits",
    step_size=None,
    budget=cells.BUDGET,
    batch=BATCH,
    dtype="float32",
    epochs=10,
)
RATE = 1e-2
LONGEST = 60.0  # seconds of gradients, after which no further epoch begins


@dataclass
class Training:
    """One implementation and method.

    Attributes:
        missing: why there is no accuracy.
        curve: [epoch, seconds of gradients so far, test accuracy].
        steps: gradients computed.
        cut: whether epochs are missing, for the time that they would take.
    """

    missing: str = ""
    curve: list[tuple[int, float, float]] = field(default_factory=list)
    steps: int = 0
    cut: bool = False

    @property
    def accuracy(self) -> float | None:
        return self.curve[-1][2] if self.curve and not self.missing else None

    @property
    def steps_per_second(self) -> float | None:
        return self.steps / self.curve[-1][1] if self.curve and not self.missing and self.curve[-1][1] > 0 else None


def train(
    contender: Contender, method: str, recipe: Recipe = RECIPE, tell: Callable[[str], None] = lambda _: None
) -> Training:
    """Trains, until the recipe's epochs or LONGEST are over."""
    recipe = recipe.but(method=method)
    problem = recipe.problem()
    found = Training()
    steps = len(dataset(recipe.data)[0]) // BATCH
    # Whatever is wrong in most steps is found, and what is wrong in a few does little.
    checked = int(np.random.default_rng(time.time_ns()).integers(steps))
    kept: list[tuple[Problem, Sequence[np.ndarray]]] = []
    spent = 0.0

    def gradients(asked: Problem) -> Sequence[np.ndarray]:
        nonlocal spent
        answer, seconds = contender.solve(asked)
        spent += seconds
        if found.steps == checked:
            kept.append((asked, answer))
        found.steps += 1
        return answer

    try:
        if not contender.isolated.supports(problem):
            return Training(missing="unsupported")
        for epoch, weights in enumerate(epochs(recipe, RATE, gradients), 1):
            found.curve.append((epoch, spent, accuracy(dataclasses.replace(problem, weights=weights), recipe.data)))
            tell(f"{contender.name}: {method}, epoch {epoch} of {recipe.epochs}")
            if spent > LONGEST and epoch < recipe.epochs:
                found.cut = True
                break
        asked, answer = kept[0]
        off = cells.truth(asked).disagreement(answer)
        if not off <= 1:
            raise Disagreement(f"step {checked + 1} is wrong: its error is {off:.3g} times what rounding explains")
    except (Disagreement, Nonconformity, NotRun) as error:
        found.missing = str(error).splitlines()[0]
    return found
