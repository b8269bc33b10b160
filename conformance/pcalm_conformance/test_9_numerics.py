"""Chapter 9, numerics: independence of samples and calls, precision, and sizes at which fast code goes wrong."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from pcalm_conformance import oracle, rounding
from pcalm_conformance.checking import Check, covers, gap, mapped
from pcalm_conformance.problems import Recipe, cases, levels, product
from pcalm_conformance.protocol import Problem, Solution
from pcalm_conformance.test_1_model import ACTIVATIONS, SHAPES
from pcalm_conformance.test_3_dynamics import SETTINGS

METHODS = (
    {"method": "bp"},
    {"method": "pc", "steps": 6},
    {"method": "pcalm", "steps": 6},
    {"method": "pcalm", "steps": 6, "start": "random", "credit": "after"},
    {"method": "pcalm", "steps": 6, "penalty": 0.2, "dual_step": 3.0, "anchor": 0.4},
)
SAMPLE = Recipe(depth=6, width=5, input_dim=7, output_dim=3)


def rows(problem: Problem, chosen: np.ndarray) -> Problem:
    """The problem with only those samples, in that order."""
    return dataclasses.replace(
        problem,
        inputs=problem.inputs[chosen],
        targets=problem.targets[chosen],
        initial=mapped(problem.initial, lambda part: part[:, chosen]),
    )


@covers("NUM-1", cases(product(SHAPES[1:], METHODS, activation=("tanh", "relu"), batch=(19,))))
def test_samples_do_not_interact(check: Check, case: Recipe) -> None:
    problem = case.problem()
    whole, bounds = check.solve(case), rounding.bounds(problem)
    for chosen in (np.array([0]), np.array([18]), np.arange(18, -1, -1), np.arange(7)):
        part = check.solve(rows(problem, chosen))
        what = f"samples {chosen.tolist()} of 19"
        for name, mine, right, bound in (
            ("activities", part.activities, whole.activities, bounds.activities),
            ("multipliers", part.multipliers, whole.multipliers, bounds.multipliers),
        ):
            check.near(f"difference of the {name}, {what}", mine, right[:, chosen], 2 * bound[:, chosen], case)


@covers("NUM-2", cases(product(SHAPES[1:2], METHODS, activation=ACTIVATIONS)))
def test_calls_do_not_interact(check: Check, case: Recipe) -> None:
    first = check.solve(case)
    others = [
        case.but(seed=1),
        case.but(batch=case.batch + 3),
        case.but(method="pcalm", steps=4, dual_step=0.5, start="feedforward"),
        case.but(depth=case.depth + 2, width=case.width + 1),
        case.but(activation="tanh" if case.activation != "tanh" else "relu"),
    ]
    for other in others:
        check.solve(other)
        again = check.solve(case)
        moved = max(gap(again.activities, first.activities), gap(again.multipliers, first.multipliers))
        moved = max(moved, *(gap(a, b) for a, b in zip(again.gradients, first.gradients, strict=True)))
        check.at_most(f"difference after a call with {other}", moved, 0, case)


@covers("NUM-3", cases(product(SHAPES[:2], METHODS, activation=ACTIVATIONS)))
def test_arguments_keep_their_values(check: Check, case: Recipe) -> None:
    check.solve(case)
    written = [*check.subject.modified]
    check.solve(case.but(seed=1))
    written += check.subject.modified
    check.at_most(f"arrays written to ({'; '.join(written) or 'none'})", len(written), 0, case)


@covers(
    "NUM-4",
    cases(
        product(SHAPES, activation=ACTIVATIONS, settings=({"method": "bp"}, *SETTINGS), dtype=("float32",)), quick=24
    ),
)
def test_single_precision(check: Check, case: Recipe) -> None:
    problem = case.problem()
    check.same(check.solve(case), oracle.solve(problem), problem, case)


@covers("NUM-5", cases(product(SHAPES, METHODS, activation=("linear", "relu"))))
def test_homogeneity(check: Check, case: Recipe) -> None:
    problem, one = case.problem(), check.solve(case)
    for factor in (2.0**-10, 2.0**10):

        def scale(part: np.ndarray, factor: float = factor) -> np.ndarray:
            return part * part.dtype.type(factor)

        scaled = dataclasses.replace(
            problem,
            inputs=scale(problem.inputs),
            targets=scale(problem.targets),
            initial=mapped(problem.initial, scale),
        )
        two = check.solve(scaled)
        back = Solution(two.activities / factor, two.multipliers / factor, [g / factor**2 for g in two.gradients])
        check.same(back, one, problem, case, what=f"difference at {factor:g}", runs=2)


RAGGED = (
    *({"width": width, "batch": 5} for width in (1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 65, 100)),
    *({"width": 6, "batch": batch} for batch in (1, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 65, 100)),
    {"width": 17, "batch": 17, "output_dim": 1},
    {"width": 33, "batch": 33, "output_dim": 11, "input_dim": 129},
)


ALL_SETTINGS = {"anchor": 0.3, "penalty": 0.5, "inner_steps": 2, "steps": 3, "credit": "after", "start": "random"}


@covers(
    "NUM-6",
    cases(
        product(
            RAGGED,
            ({"method": "bp"}, {"method": "pc", "steps": 6}, {"method": "pcalm", "steps": 6}, ALL_SETTINGS),
            depth=(5,),
            activation=("relu", "tanh"),
            dtype=(None, "float32"),
        ),
        quick=107,
    ),
)
def test_ragged_sizes(check: Check, case: Recipe) -> None:
    problem = case.problem()
    check.same(check.solve(case), oracle.solve(problem), problem, case)


@covers(
    "NUM-7",
    levels(
        [Recipe(depth=200, width=3, activation=a, method=m, steps=5) for a in ("tanh", "relu") for m in ("bp", "pcalm")]
        + [Recipe(depth=4, width=6, batch=1000, activation="relu", method=m, steps=5) for m in ("bp", "pc", "pcalm")],
        [Recipe(depth=130, width=9, activation="tanh", method="pcalm", steps=150)],
        [Recipe(depth=1000, width=4, activation="tanh", method="pcalm", steps=20)],
    ),
)
def test_great_sizes(check: Check, case: Recipe) -> None:
    problem = case.problem()
    check.same(check.solve(case), oracle.solve(problem), problem, case)


@covers(
    "NUM-8",
    levels(
        [SAMPLE.but(activation="linear", budget=40)],
        [
            SAMPLE.but(activation="linear", budget=40, anchor=0.2),
            SAMPLE.but(activation="tanh", budget=100, anchor=0.5, penalty=0.5),
        ],
        [SAMPLE.but(activation="linear", budget=400)],
    ),
)
def test_long_budgets(check: Check, case: Recipe) -> None:
    problem = case.problem()
    check.same(check.solve(case), oracle.solve(problem), problem, case)


# Shapes that no other requirement has, so that the first call of each is the one made here; not even padded to whole
# vectors are two of them the same.
FRESH = Recipe(depth=4, input_dim=9, output_dim=3, batch=6, steps=4)
FIRST_CALLS: dict[int, dict[str, Any]] = {
    26: {"dtype": "the other"},
    34: {"seed": 1},
    42: {"activation": "relu"},
    50: {"method": "bp"},
    58: {"method": "pc"},
    66: {"start": "random"},
    74: {"step_size": 0.05},
    82: {"penalty": 0.5, "dual_step": 0.5, "anchor": 0.3},
    90: {"steps": 2, "inner_steps": 2, "credit": "after"},
}


@covers("NUM-9", cases([FRESH.but(width=width) for width in FIRST_CALLS]))
def test_the_first_call_decides_nothing(check: Check, case: Recipe) -> None:
    first = dict(FIRST_CALLS[case.width])
    if "dtype" in first:
        first["dtype"] = "float32" if case.dtype == "float64" else "float64"
    check.solve(case.but(**first))
    problem = case.problem()
    check.same(check.solve(case), oracle.solve(problem), problem, case)


COMMON = Recipe(depth=5, width=64, input_dim=300, output_dim=20, batch=64, steps=6, activation="tanh")


@covers(
    "NUM-10",
    levels(
        [COMMON, COMMON.but(activation="relu", method="bp"), COMMON.but(method="pc")],
        [
            COMMON.but(depth=32, width=32, input_dim=784, output_dim=10, budget=2, activation=activation)
            for activation in ("tanh", "relu")
        ]
        + [COMMON.but(width=256, input_dim=784, output_dim=100, batch=128, anchor=0.3, dtype="float32")],
        [COMMON.but(width=1024, input_dim=3072, batch=256, dtype=dtype) for dtype in ("float64", "float32")],
    ),
)
def test_common_sizes(check: Check, case: Recipe) -> None:
    problem = case.problem()
    check.same(check.solve(case), oracle.solve(problem), problem, case)
