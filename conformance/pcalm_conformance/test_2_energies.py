"""Chapter 2, energies and gradients: one step from arbitrary states, against the oracle and against differences of
E."""

from __future__ import annotations

import dataclasses

import numpy as np

from pcalm_conformance import oracle, rounding
from pcalm_conformance.checking import Check, covers
from pcalm_conformance.problems import ACTIVATIONS, SHAPES, Recipe, cases, product
from pcalm_conformance.protocol import Problem

ONE = {"steps": 1, "start": "random"}
PENALTIES = ({"penalty": 1.0}, {"penalty": 0.3}, {"penalty": 2.0})


@covers("ENE-1", cases(product(SHAPES, PENALTIES, activation=ACTIVATIONS, method=("pc",), settings=(ONE,))))
def test_one_pc_step(check: Check, case: Recipe) -> None:
    problem = case.problem()
    check.same(check.solve(case), oracle.solve(problem), problem, case, parts="z")


@covers(
    "ENE-2",
    cases(product(SHAPES, PENALTIES, activation=ACTIVATIONS, dual_step=(1.0, 0.4), anchor=(0.0, 0.7), settings=(ONE,))),
)
def test_one_pcalm_step(check: Check, case: Recipe) -> None:
    problem = case.problem()
    check.same(check.solve(case), oracle.solve(problem), problem, case, parts="zl")


@covers(
    "ENE-3",
    cases(
        product(
            SHAPES[:2], PENALTIES[1:2], activation=ACTIVATIONS, anchor=(0.0, 0.7), settings=(ONE,), dtype=("float64",)
        )
    ),
)
def test_step_goes_down_the_energy(check: Check, case: Recipe) -> None:
    problem = case.problem()
    assert problem.initial is not None
    net = oracle.Network(problem)
    start, lam = problem.initial
    force = (check.solve(case).activities - start) / problem.step_size
    rng, step = np.random.default_rng(3), 1e-5
    for layer in range(case.depth - 1):
        direction = np.zeros_like(start)
        direction[layer] = rng.standard_normal(direction[layer].shape)
        up, down = (
            net.energy(
                oracle.unstack(start + sign * step * direction), oracle.unstack(lam), problem.penalty, problem.anchor
            )
            for sign in (1, -1)
        )
        slope = float((up - down).sum()) / (2 * step)
        size = float(np.linalg.norm(force[layer]) * np.linalg.norm(direction[layer])) + 1e-3
        figure = abs(float((force * direction).sum()) + slope) / size
        check.at_most(f"difference at layer {layer + 1}", figure, check.requirement.limits["difference"], case)


@covers(
    "ENE-4",
    cases(
        product(
            SHAPES,
            activation=ACTIVATIONS,
            settings=(
                {"method": "pc", "penalty": 0.6},
                {"method": "pcalm", "penalty": 0.6},
                {"method": "pcalm", "penalty": 0.6, "credit": "after"},
                {"method": "pcalm", "penalty": 0.6, "anchor": 0.8},
            ),
            start=("feedforward", "random"),
        )
    ),
)
def test_weight_gradients_of_the_returned_state(check: Check, case: Recipe) -> None:
    problem = case.problem()
    found = check.solve(case)
    there = dataclasses.replace(problem, steps=0, initial=(found.activities, found.multipliers))
    check.same(found, oracle.solve(there), there, case, parts="g")


@covers(
    "ENE-5",
    cases(product(SHAPES[:2], PENALTIES[1:2], activation=ACTIVATIONS, settings=(ONE,), dtype=("float64",))),
)
def test_weight_gradients_go_up_the_energy(check: Check, case: Recipe) -> None:
    problem = case.problem()
    found = check.solve(case)
    rng, step = np.random.default_rng(4), 1e-5
    for layer, weight in enumerate(problem.weights):
        direction = rng.standard_normal(weight.shape)

        def energy(sign: int, layer: int = layer, direction: np.ndarray = direction) -> float:
            moved = [w + sign * step * direction if i == layer else w for i, w in enumerate(problem.weights)]
            net = oracle.Network(dataclasses.replace(problem, weights=moved))
            z, lam = oracle.unstack(found.activities), oracle.unstack(found.multipliers)
            return float(net.energy(z, lam, problem.penalty).mean())

        slope = (energy(1) - energy(-1)) / (2 * step)
        predicted = float((found.gradients[layer] * direction).sum())
        size = float(np.linalg.norm(found.gradients[layer]) * np.linalg.norm(direction)) + 1e-3
        figure = abs(predicted - slope) / size
        check.at_most(f"difference for W_{layer + 1}", figure, check.requirement.limits["difference"], case)


@covers("ENE-6", cases(product(SHAPES, activation=("tanh", "relu"), settings=(ONE,), anchor=(0.5,))))
def test_anchor_pulls_to_the_feedforward_state(check: Check, case: Recipe) -> None:
    problem = case.problem()
    assert problem.initial is not None
    with_anchor, without = check.solve(case), check.solve(case.but(anchor=0.0))
    pull = -problem.step_size * problem.anchor * (problem.initial[0] - oracle.kkt(problem)[0])
    bound = 2 * rounding.bounds(problem).activities
    check.near("error of the anchor's pull", with_anchor.activities - without.activities, pull, bound, case)


@covers(
    "ENE-7",
    cases(product(SHAPES, activation=("linear",), method=("pc",), step_size=(None,), start=("feedforward", "random"))),
)
def test_energy_never_rises(check: Check, case: Recipe) -> None:
    def energy(problem: Problem, activities: np.ndarray) -> tuple[float, float]:
        """E, and by how much rounding may change it: the activities', and that of the terms of c in E itself."""
        net, z = oracle.Network(problem), oracle.unstack(activities)
        zero = [np.zeros_like(layer) for layer in z]
        slope, q = (oracle.stack(part) for part in (net.energy_gradient(z, zero, rho), net.credit(z, zero, rho)))
        doubt = ((np.abs(slope) + np.abs(q)) * rounding.bounds(problem).activities).sum()
        return float(net.energy(z, zero, rho).sum()), float(doubt)

    problem, rho = case.problem(), case.penalty
    start = oracle.kkt(problem)[0] if problem.initial is None else problem.initial[0]
    before, doubt_before = energy(dataclasses.replace(problem, steps=1), start)
    for steps in (1, 2, 3, 5, 8, 13):
        run = case.but(steps=steps)
        after, doubt = energy(run.problem(), check.solve(run).activities)
        check.at_most(f"rise of the energy up to step {steps}", after - before, doubt_before + doubt, run)
        before, doubt_before = after, doubt
