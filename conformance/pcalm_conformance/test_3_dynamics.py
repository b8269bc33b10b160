"""Chapter 3, primal and dual dynamics: what is updated when, from which state."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pcalm_conformance import oracle, rounding
from pcalm_conformance.checking import Check, NotRun, Unsupported, covers, gap
from pcalm_conformance.problems import (
    ACTIVATIONS,
    QUICK_NETWORKS,
    RAGGED_QUICK,
    SHAPES,
    SMALLEST_QUICK,
    Recipe,
    any_settings,
    any_shape,
    cases,
    gauge_weights,
    product,
    uneven,
)
from pcalm_conformance.protocol import Problem, Solution

SETTINGS = (
    {"method": "pc", "steps": 1},
    {"method": "pc", "steps": 7, "penalty": 0.5},
    {"method": "pcalm", "steps": 1},
    {"method": "pcalm", "steps": 2, "credit": "after"},
    {"method": "pcalm", "steps": 7, "penalty": 0.5, "dual_step": 1.5},
    {"method": "pcalm", "steps": 6, "penalty": 1.5, "dual_step": 0.4, "credit": "after"},
    {"method": "pcalm", "steps": 4, "inner_steps": 3},
    {"method": "pcalm", "steps": 3, "inner_steps": 2, "credit": "after", "dual_step": 0.7},
    {"method": "pcalm", "steps": 7, "penalty": 0.1, "dual_step": 3.5, "anchor": 0.6},
    {"method": "pcalm", "steps": 3, "inner_steps": 2, "anchor": 0.9, "credit": "after"},
)
TWO_LAYERS = product(SHAPES, activation=ACTIVATIONS, penalty=(1.0, 0.4), dual_step=(1.0, 0.6))


@covers("DYN-1", cases(product(SHAPES, activation=ACTIVATIONS, settings=SETTINGS)))
def test_trajectory_from_the_feedforward_start(check: Check, case: Recipe) -> None:
    problem = case.problem()
    check.same(check.solve(case), oracle.solve(problem), problem, case)


@covers("DYN-2", cases(product(SHAPES, activation=ACTIVATIONS, settings=SETTINGS, start=("random",))))
def test_trajectory_from_any_state(check: Check, case: Recipe) -> None:
    problem = case.problem()
    check.same(check.solve(case), oracle.solve(problem), problem, case)


@covers("DYN-3", cases(product(SHAPES, activation=ACTIVATIONS, dual_step=(0.0,), steps=(8,), penalty=(1.0, 0.4))))
def test_pc_is_pcalm_without_dual_steps(check: Check, case: Recipe) -> None:
    pc = check.solve(case.but(method="pc"))
    check.at_most("PC's largest multiplier", gap(pc.multipliers, np.zeros(())), 0, case)
    check.same(check.solve(case), pc, case.problem(), case, what="α = 0 against PC: difference", runs=2)


def first_step(problem: Problem) -> tuple[oracle.Layers, np.ndarray]:
    """The feed-forward states, and how far z_{L-1} moves in the first step, from the equations of one layer."""
    net = oracle.Network(problem)
    z = net.feedforward()
    top = z[net.L - 1]
    error = net.s[net.L] * net.phi(top) @ net.W[net.L].T - net.y
    return z, -problem.step_size * net.s[net.L] * (error @ net.W[net.L]) * net.dphi(top)


@covers("DYN-4", cases([recipe.but(steps=1) for recipe in TWO_LAYERS]))
def test_one_step_by_hand(check: Check, case: Recipe) -> None:
    found, problem = check.solve(case), case.problem()
    z, move = first_step(problem)
    net = oracle.Network(problem)
    bounds, zero = rounding.bounds(problem), np.zeros(())
    check.near("error of z_{L-1}", found.activities[-1], z[-1] + move, bounds.activities[-1], case)
    check.near("movement below", found.activities[:-1], oracle.stack(z)[:-1], bounds.activities[:-1], case)
    check.near("largest multiplier", found.multipliers, zero, bounds.multipliers, case)
    credit = problem.penalty * move
    right = -net.s[net.L - 1] * credit.T @ net.phi(z[net.L - 2]) / case.batch
    check.near("error of G_{L-1}", found.gradients[-2], right, bounds.gradients[-2], case)
    for layer in range(1, net.L - 1):
        check.near(f"size of G_{layer}", found.gradients[layer - 1], zero, bounds.gradients[layer - 1], case)


@covers("DYN-5", cases([recipe.but(steps=2) for recipe in TWO_LAYERS]))
def test_two_steps_by_hand(check: Check, case: Recipe) -> None:
    found, problem = check.solve(case), case.problem()
    z, move = first_step(problem)
    net = oracle.Network(problem)
    s, W = net.s[net.L - 1], net.W[net.L - 1]
    lam = problem.dual_step * move
    credit = problem.penalty * move + lam
    below, top = z[net.L - 2], z[-1] + move
    error = net.s[net.L] * net.phi(top) @ net.W[net.L].T - net.y
    pull = net.s[net.L] * (error @ net.W[net.L]) * net.dphi(top)
    bounds = rounding.bounds(problem)
    check.near("error of λ_{L-1}", found.multipliers[-1], lam, bounds.multipliers[-1], case)
    z_top = top - problem.step_size * (credit + pull)
    check.near("error of z_{L-1}", found.activities[-1], z_top, bounds.activities[-1], case)
    z_below = below + problem.step_size * (credit + s * (credit @ W) * net.dphi(below))
    check.near("error of z_{L-2}", found.activities[-2], z_below, bounds.activities[-2], case)


@covers(
    "DYN-6",
    cases(product(SHAPES, activation=ACTIVATIONS, steps=(1, 4), start=("feedforward", "random"), dual_step=(0.7,))),
)
def test_credit_before_and_after(check: Check, case: Recipe) -> None:
    problem = case.problem()
    before, after = check.solve(case), check.solve(case.but(credit="after"))
    bounds, last = rounding.bounds(problem), rounding.bounds(case.but(credit="after").problem())
    check.near("difference of the activities", before.activities, after.activities, 2 * bounds.activities, case)
    c = oracle.stack(oracle.Network(problem).residuals(oracle.unstack(after.activities)))
    # λ_before of either run, and the last dual step.
    bound = 2 * bounds.multipliers + last.multipliers
    moved = after.multipliers.astype(np.float64) - before.multipliers
    check.near("error of λ_after − λ_before", moved, problem.dual_step * c, bound, case)


@covers(
    "DYN-7",
    cases(
        product(SHAPES, activation=ACTIVATIONS, steps=(7,), anchor=(0.0, 0.5), inner_steps=(1, 2), credit=("after",))
    ),
)
def test_a_run_can_be_cut(check: Check, case: Recipe) -> None:
    first = check.solve(case.but(steps=3))
    state = first.activities, first.multipliers
    second = check.solve(case.but(steps=4, start="random"), initial=state)
    what = "3 + 4 steps against 7: difference"
    check.same(second, check.solve(case), case.problem(), case, what=what, runs=2)


@covers("DYN-8", cases(product(SHAPES, activation=ACTIVATIONS, steps=(3,), inner_steps=(4,))))
def test_inner_steps(check: Check, case: Recipe) -> None:
    problem = case.problem()
    nested = check.solve(case.but(dual_step=0.0))
    flat = check.solve(case.but(method="pc", steps=12, inner_steps=1))
    plain = dataclasses.replace(problem, dual_step=0.0)
    check.same(nested, flat, plain, case, what="3 rounds of 4 against 12 PC steps: difference", runs=2)
    dual = check.solve(case)
    effect = gap(dual.activities, flat.activities) / float(np.abs(flat.activities).max())
    check.at_least("effect of the dual steps", effect, check.requirement.limits["effect"], case)


@covers(
    "DYN-9",
    cases(product(SHAPES, activation=ACTIVATIONS, steps=(1,), start=("random",), credit=("after",), dual_step=(0.7,))),
)
def test_dual_step_at_the_new_activities(check: Check, case: Recipe) -> None:
    problem = case.problem()
    assert problem.initial is not None
    found = check.solve(case)
    c = oracle.stack(oracle.Network(problem).residuals(oracle.unstack(found.activities)))
    right = problem.initial[1] + problem.dual_step * c
    check.near("error of λ", found.multipliers, right, rounding.bounds(problem).multipliers, case)


# What any problem is made from at the quick level: the programs that are compiled for other requirements in any case.
COMPILED = [
    *product(
        [{**shape, "activation": activation} for shape, activation in QUICK_NETWORKS],
        (
            {"method": "bp"},
            *({"method": method, "start": start} for method in ("pc", "pcalm") for start in ("feedforward", "random")),
        ),
    ),
    *SMALLEST_QUICK,
    *RAGGED_QUICK,
]


SHAPE = ("depth", "width", "input_dim", "output_dim", "batch", "activation", "method", "start", "dtype")


def recipes(draw: Callable[[Any], Any], level: str, dtype: str, per_layer: bool) -> Recipe:
    """Any problem inside the stable region; `draw` is Hypothesis'. With settings per layer, BP has no place."""
    from hypothesis import strategies as st

    def whole(low: int, high: int) -> int:
        return int(draw(st.integers(low, high)))

    def choice(options: Sequence[Any]) -> Any:
        return draw(st.sampled_from(options))

    if level == "quick":
        given = choice([one for one in COMPILED if one.method != "bp"] if per_layer else COMPILED).given()
        shape = Recipe(**{name: value for name, value in given.items() if name in SHAPE})
    else:
        shape = any_shape(whole, choice)
        if per_layer and shape.method == "bp":
            shape = shape.but(method="pcalm")
    return any_settings(shape.but(dtype=shape.dtype or dtype), whole, choice, per_layer)


EXAMPLES = {"quick": 60, "default": 300, "full": 2000}


def any_problem(check: Check, case: Recipe) -> None:
    problem = case.problem()
    check.same(check.solve(case), oracle.solve(problem), problem, case)


@covers("DYN-10", lambda level: [EXAMPLES[level]])
def test_any_problem(check: Check, case: int | Recipe) -> None:
    any_problems(check, case)


def any_problems(check: Check, case: int | Recipe, per_layer: bool = False) -> None:
    """So many problems, or one."""
    if isinstance(case, Recipe):
        any_problem(check, case)
        return
    try:
        import hypothesis
    except ModuleNotFoundError as error:
        raise NotRun("it needs the package hypothesis") from error
    solved = 0

    @hypothesis.settings(
        derandomize=True,
        database=None,
        deadline=None,
        max_examples=case,
        report_multiple_bugs=False,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(hypothesis.strategies.data())
    def holds(data: Any) -> None:
        nonlocal solved
        try:
            any_problem(check, recipes(data.draw, check.level, check.dtype, per_layer))
        except Unsupported:
            return
        solved += 1

    holds()
    if not solved:
        raise Unsupported


# Each setting alone, and all at once.
EACH = {"step_size": 0.12, "penalty": 0.6, "dual_step": 1.2, "anchor": 0.3}
ALONE: tuple[tuple[dict[str, Any], tuple[str, ...]], ...] = (
    *(({"method": "pc"}, (name,)) for name in ("step_size", "penalty")),
    *(({"method": "pcalm"}, (name,)) for name in EACH),
    ({"method": "pcalm", "start": "random", "inner_steps": 2, "credit": "after"}, tuple(EACH)),
)


@covers(
    "DYN-11",
    cases(
        [
            recipe.but(**{name: uneven(EACH[name], recipe.depth) for name in names})
            for run, names in ALONE
            for recipe in product(SHAPES, activation=ACTIVATIONS, steps=(5,), settings=(run,))
        ],
        quick=28,
    ),
)
def test_settings_per_layer(check: Check, case: Recipe) -> None:
    problem = case.problem()
    check.same(check.solve(case), oracle.solve(problem), problem, case)


@covers("DYN-12", lambda level: [EXAMPLES[level]])
def test_any_settings_per_layer(check: Check, case: int | Recipe) -> None:
    any_problems(check, case, per_layer=True)


GAUGED = (
    {"method": "pc", "steps": 5, "penalty": 0.5},
    {"method": "pcalm", "steps": 6},
    {"method": "pcalm", "steps": 3, "penalty": 0.1, "dual_step": 3.5, "anchor": 0.6, "inner_steps": 2},
    {"method": "pcalm", "steps": 5, "penalty": 0.5, "anchor": 0.3, "credit": "after", "start": "random"},
)


@covers(
    "DYN-13",
    cases(
        [
            recipe.but(gauge=uneven(1.0, recipe.depth))
            for recipe in product(SHAPES, GAUGED, activation=ACTIVATIONS, step_size=(None,))
        ],
        quick=16,
    ),
)
def test_gauge(check: Check, case: Recipe) -> None:
    right = oracle.solve_rescaled(case.without_gauge().problem(), gauge_weights(case))
    # Twice the bound, since multiplying and dividing by w rounds as well.
    check.same(check.solve(case), right, case.problem(), case, runs=2)


# A power of two, so that nothing rounds differently but for the order of operations.
@covers("DYN-14", cases(product(SHAPES, GAUGED, activation=("linear", "relu"), gauge=(0.25, 4.0))))
def test_one_weight_for_all_layers(check: Check, case: Recipe) -> None:
    w, one = case.gauge, check.solve(case)
    two = check.solve(case.without_gauge().but(stretched=w))
    first, *hidden, last = two.gradients
    back = Solution(two.activities / w, two.multipliers * w, [first * w, *hidden, last / w])
    check.same(back, one, case.problem(), case, what="difference", runs=2)
