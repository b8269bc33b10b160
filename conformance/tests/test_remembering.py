"""What the suite has computed for a problem is found again for an equal one, and for no other."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from pcalm_conformance import oracle, remembering
from pcalm_conformance.problems import Recipe
from pcalm_conformance.protocol import Problem, Solution

PROBLEM = Recipe(depth=4, width=3, batch=2, method="pcalm", steps=2, seed=3).problem()


def counted() -> tuple[Any, list[Problem]]:
    asked: list[Problem] = []

    def solve(problem: Problem) -> Solution:
        asked.append(problem)
        return Solution(problem.inputs.copy(), problem.targets.copy(), [weight.copy() for weight in problem.weights])

    return remembering.remembered(solve), asked


def test_an_equal_problem_is_solved_once() -> None:
    find, asked = counted()
    same = dataclasses.replace(PROBLEM, weights=[weight.copy() for weight in PROBLEM.weights])
    assert find(PROBLEM) is find(same)
    assert len(asked) == 1


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(Problem)])
def test_a_problem_that_differs_in_anything_is_another(field: str) -> None:
    find, asked = counted()
    value: Any = getattr(PROBLEM, field)
    changed: Any
    if isinstance(value, np.ndarray):
        changed = np.nextafter(value, np.inf)
    elif field == "weights":
        changed = [*value[:-1], np.nextafter(value[-1], np.inf)]
    elif field == "initial":
        changed = (np.zeros((3, 2, 3)), np.zeros((3, 2, 3)))
    elif field == "wants":
        changed = value[:1]
    else:
        changed = value + "x" if isinstance(value, str) else value + 1
    find(PROBLEM)
    find(dataclasses.replace(PROBLEM, **{field: changed}))
    assert len(asked) == 2


def test_answers_are_read_only() -> None:
    with pytest.raises(ValueError, match="read-only"):
        oracle.solve(PROBLEM).activities[0] = 0


def test_the_oldest_answers_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    find, asked = counted()
    answer = find(PROBLEM)
    size = sum(array.nbytes for array in (answer.activities, answer.multipliers, *answer.gradients))
    monkeypatch.setattr(remembering, "MOST", 2 * size)
    others = [dataclasses.replace(PROBLEM, steps=steps) for steps in (3, 4)]
    for problem in (*others, PROBLEM, others[1]):
        find(problem)
    assert [problem.steps for problem in asked] == [2, 3, 4, 2]
