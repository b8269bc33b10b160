"""Chapter 1, model: feed-forward states, BP's gradient, and what the parameterisation implies."""

from __future__ import annotations

import dataclasses

import numpy as np

from pcalm_conformance import oracle, rounding
from pcalm_conformance.checking import Check, covers, gap
from pcalm_conformance.problems import (
    ACTIVATIONS,
    SHAPES,
    SMALLEST,
    SMALLEST_QUICK,
    Recipe,
    cases,
    direction,
    levels,
    product,
    unit_order,
)

BP = product(SHAPES, activation=ACTIVATIONS, method=("bp",))
MEANINGLESS = {"penalty": 0.3, "dual_step": 2.0, "inner_steps": 2, "credit": "after", "anchor": 0.5}  # for BP
ONE_OF_EACH = product(
    SHAPES[1:2],
    activation=("tanh", "relu"),
    settings=(
        {"method": "bp"},
        *({"method": "pc", "start": start} for start in ("feedforward", "random")),
        {"method": "pcalm", "penalty": 0.5},
        {"method": "pcalm", "penalty": 0.5, "anchor": 0.3},
        {"method": "pcalm", "penalty": 0.5, "anchor": 0.3, "start": "random"},
    ),
)


@covers("MOD-1", cases(BP))
def test_feedforward_states(check: Check, case: Recipe) -> None:
    problem = case.problem()
    check.same(check.solve(case), oracle.solve(problem), problem, case, parts="z")


@covers("MOD-2", cases([recipe.but(**settings) for recipe in BP for settings in ({}, MEANINGLESS)], quick=18))
def test_backpropagation(check: Check, case: Recipe) -> None:
    problem = case.problem()
    check.same(check.solve(case), oracle.solve(problem), problem, case, parts="lg")


@covers("MOD-3", cases(product(SHAPES[:2], activation=ACTIVATIONS, method=("bp",), dtype=("float64",))))
def test_gradient_is_the_derivative_of_the_loss(check: Check, case: Recipe) -> None:
    problem = case.problem()
    found = check.solve(case)
    step = 1e-5
    for layer, weight in enumerate(problem.weights, 1):
        losses = []
        for sign in (1, -1):
            shifted = case.but(nudged=(layer, sign * step))
            top, moved = check.solve(shifted, ["states"]).activities[-1], shifted.problem().weights
            phi = {"linear": top, "tanh": np.tanh(top), "relu": np.maximum(top, 0)}[problem.activation]
            out = phi @ moved[-1].T / moved[0].shape[0]
            losses.append(0.5 * ((out - problem.targets) ** 2).sum(axis=-1).mean())
        slope = (losses[0] - losses[1]) / (2 * step)
        gradient, along = found.gradients[layer - 1], direction(layer, weight.shape)
        predicted = float((gradient * along).sum())
        size = float(np.linalg.norm(gradient) * np.linalg.norm(along)) + 1e-3
        check.at_most(
            f"difference of ⟨G_{layer}, d⟩ from the loss' slope",
            abs(predicted - slope) / size,
            check.requirement.limits["difference"],
            case,
        )


@covers(
    "MOD-4", levels(SMALLEST_QUICK, product(SMALLEST, activation=("tanh", "relu"), method=("bp", "pc", "pcalm")), [])
)
def test_smallest_shapes(check: Check, case: Recipe) -> None:
    problem = case.problem()
    check.same(check.solve(case), oracle.solve(problem), problem, case)


@covers("MOD-5", cases(product(SHAPES[:2], activation=("relu",), method=("bp", "pc", "pcalm"), input_weight=("zero",))))
def test_no_credit_through_the_kink(check: Check, case: Recipe) -> None:
    found = check.solve(case)
    check.at_most("largest activity", gap(found.activities, np.zeros(())), 0, case)
    for layer, gradient in enumerate(found.gradients, 1):
        check.at_most(f"largest entry of G_{layer}", gap(gradient, np.zeros(())), 0, case)


@covers("MOD-6", cases(ONE_OF_EACH))
def test_units_have_no_order(check: Check, case: Recipe) -> None:
    problem = case.problem()
    order = unit_order(case.width)
    one, two = check.solve(case), check.solve(case.but(permuted=True))
    states = dataclasses.replace(
        one,
        activities=one.activities[..., order],
        multipliers=one.multipliers[..., order],
        gradients=[
            one.gradients[0][order],
            *(g[np.ix_(order, order)] for g in one.gradients[1:-1]),
            one.gradients[-1][:, order],
        ],
    )
    check.same(two, states, problem, case, what="difference", runs=2)


# Each method, with the anchor and from any state, too.
TWICE_QUICK = [ONE_OF_EACH[i] for i in (0, 3, 6, 8, 11)]


@covers("MOD-7", levels(TWICE_QUICK, ONE_OF_EACH, []))
def test_gradients_are_batch_means(check: Check, case: Recipe) -> None:
    twice = case.but(duplicates=2)
    one, two = check.solve(case), check.solve(twice)
    bounds = rounding.bounds(twice.problem())
    for half in (slice(None, case.batch), slice(case.batch, None)):
        for name in ("activities", "multipliers"):
            mine, bound = (getattr(part, name)[:, half] for part in (two, bounds))
            check.near(f"difference of the {name}", mine, getattr(one, name), 2 * bound, case)
    check.near_gradients("difference", two.gradients, one.gradients, 2 * bounds.gradients, case)


@covers("MOD-8", cases(product(SHAPES[:2], activation=ACTIVATIONS, method=("bp",), blocks=("zero",))))
def test_skip_chain(check: Check, case: Recipe) -> None:
    found = check.solve(case)
    check.at_most("difference from z_1", gap(found.activities, found.activities[:1]), 0, case)
