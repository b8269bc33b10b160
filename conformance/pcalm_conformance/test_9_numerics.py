"""Chapter 9, numerics: independence of samples and calls, precision, and sizes at which fast code goes wrong."""

from __future__ import annotations

from typing import Any

from pcalm_conformance import oracle, rounding
from pcalm_conformance.checking import Check, Unsupported, covers, gap
from pcalm_conformance.problems import (
    ACTIVATIONS,
    RAGGED,
    RAGGED_QUICK,
    RAGGED_RUNS,
    SHAPES,
    Recipe,
    Settings,
    cases,
    levels,
    product,
)
from pcalm_conformance.protocol import Solution
from pcalm_conformance.requirements import METHODS
from pcalm_conformance.test_3_dynamics import SETTINGS

RUNS: tuple[Settings, ...] = (
    {"method": "bp"},
    {"method": "pc", "steps": 6},
    {"method": "pcalm", "steps": 6},
    {"method": "pcalm", "steps": 6, "start": "random", "credit": "after"},
    {"method": "pcalm", "steps": 6, "penalty": 0.2, "dual_step": 3.0, "anchor": 0.4},
)
SAMPLE = Recipe(depth=6, width=5, input_dim=7, output_dim=3)


MANY: Settings = {**SHAPES[1], "batch": 19}
MANY_QUICK = [
    Recipe(**MANY, activation=activation, **run)
    for activation, run in zip(("tanh", "relu", "relu", "tanh", "relu"), RUNS, strict=True)
]


@covers("NUM-1", levels(MANY_QUICK, product(SHAPES[1:], RUNS, activation=("tanh", "relu"), batch=(MANY["batch"],)), []))
def test_samples_do_not_interact(check: Check, case: Recipe) -> None:
    problem = case.problem()
    whole, bounds = check.solve(case), rounding.bounds(problem)
    for chosen in ((0,), (18,), tuple(range(18, -1, -1))):
        part = check.solve(case.but(samples=chosen))
        what = f"samples {list(chosen)} of 19"
        for name, mine, right, bound in (
            ("activities", part.activities, whole.activities, bounds.activities),
            ("multipliers", part.multipliers, whole.multipliers, bounds.multipliers),
        ):
            check.near(f"difference of the {name}, {what}", mine, right[:, chosen], 2 * bound[:, chosen], case)


@covers("NUM-2", cases(product(SHAPES[1:2], RUNS, activation=ACTIVATIONS)))
def test_calls_do_not_interact(check: Check, case: Recipe) -> None:
    first = check.solve(case, again=True)
    others = [
        case.but(seed=1),
        case.but(**SHAPES[2], activation="relu"),
        *(case.but(method=method, steps=4, dual_step=0.5, start="feedforward") for method in METHODS),
        case.but(activation="tanh" if case.activation != "tanh" else "relu"),
    ]
    for other in filter(check.supports, others):
        check.solve(other, again=True)
        again = check.solve(case, again=True)
        moved = max(gap(again.activities, first.activities), gap(again.multipliers, first.multipliers))
        moved = max(moved, *(gap(a, b) for a, b in zip(again.gradients, first.gradients, strict=True)))
        check.at_most(f"difference after a call with {other}", moved, 0, case)


@covers("NUM-3", cases(product(SHAPES[:2], RUNS, activation=ACTIVATIONS)))
def test_arguments_keep_their_values(check: Check, case: Recipe) -> None:
    check.solve(case, again=True)
    written = [*check.subject.modified]
    check.solve(case.but(seed=1), again=True)
    written += check.subject.modified
    check.at_most(f"arrays written to ({'; '.join(written) or 'none'})", len(written), 0, case)


SINGLE = ({"method": "bp"}, *SETTINGS)


@covers(
    "NUM-4",
    levels(
        product(SHAPES[1:2], activation=("tanh", "relu"), settings=SINGLE, dtype=("float32",)),
        product(SHAPES, activation=ACTIVATIONS, settings=SINGLE, dtype=("float32",)),
        [],
    ),
)
def test_single_precision(check: Check, case: Recipe) -> None:
    problem = case.problem()
    check.same(check.solve(case), oracle.solve(problem), problem, case)


@covers("NUM-5", cases(product(SHAPES, RUNS, activation=("linear", "relu"))))
def test_homogeneity(check: Check, case: Recipe) -> None:
    problem, one = case.problem(), check.solve(case)
    for factor in (2.0**-10, 2.0**10):
        two = check.solve(case.but(scale=factor))
        back = Solution(two.activities / factor, two.multipliers / factor, [g / factor**2 for g in two.gradients])
        check.same(back, one, problem, case, what=f"difference at {factor:g}", runs=2)


@covers(
    "NUM-6",
    levels(
        RAGGED_QUICK,
        product(RAGGED, RAGGED_RUNS, depth=(5,), activation=("relu", "tanh"), dtype=(None, "float32")),
        [],
    ),
)
def test_ragged_sizes(check: Check, case: Recipe) -> None:
    problem = case.problem()
    check.same(check.solve(case), oracle.solve(problem), problem, case)


@covers(
    "NUM-7",
    levels(
        [Recipe(depth=200, width=3, activation=a, method=m, steps=5) for a, m in (("relu", "bp"), ("tanh", "pcalm"))]
        + [Recipe(depth=4, width=6, batch=1000, activation="relu", method=m, steps=5) for m in METHODS],
        [Recipe(depth=200, width=3, activation=a, method=m, steps=5) for a, m in (("tanh", "bp"), ("relu", "pcalm"))]
        + [Recipe(depth=130, width=9, activation="tanh", method="pcalm", steps=150)],
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
    74: {"step_size": 0.05, "penalty": 0.5, "dual_step": 0.5, "anchor": 0.3},
    90: {"steps": 2, "inner_steps": 2, "credit": "after"},
}


@covers("NUM-9", cases([FRESH.but(width=width) for width in FIRST_CALLS]))
def test_the_first_call_decides_nothing(check: Check, case: Recipe) -> None:
    # The fullest method that it has; an implementation without the anchor is asked with κ = 0 the first time, too.
    mine = next((m for m in ("pcalm", "pc") if check.supports(case.but(method=m))), "bp")
    case, first = case.but(method=mine), dict(FIRST_CALLS[case.width])
    if "dtype" in first:
        first["dtype"] = "float32" if case.dtype == "float64" else "float64"
    if first.get("method") == mine or (mine == "bp" and "start" in first):
        raise Unsupported
    if "anchor" in first and not check.supports(case.but(**first)):
        del first["anchor"]
    check.ask(case, case.but(**first))
    check.solve(case.but(**first), again=True)
    problem = case.problem()
    check.same(check.solve(case, again=True), oracle.solve(problem), problem, case)


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
