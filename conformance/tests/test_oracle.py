"""The oracle against differences of its energy and its loss, and against a network of width 1 worked out by hand."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from pcalm_conformance import oracle
from pcalm_conformance.problems import Recipe, product, uneven
from pcalm_conformance.protocol import Problem

STEP = 1e-5
# Central differences leave STEP²·f''' ≈ 1e-10 of truncation and ε·f/STEP ≈ 2e-11·f of rounding, with f and f''' up to
# 10² on these problems.
DIFFERENCE = 1e-7
RECIPES = product(
    ({"depth": 3, "width": 2}, {"depth": 5, "width": 3}),
    activation=("linear", "tanh", "relu"),
    penalty=(0.6,),
    start=("random",),
)


def slope(function: object, at: np.ndarray, direction: np.ndarray) -> float:
    assert callable(function)
    return float(function(at + STEP * direction) - function(at - STEP * direction)) / (2 * STEP)


def close(found: float, right: float) -> bool:
    return abs(found - right) <= DIFFERENCE * max(1.0, abs(right))


@pytest.mark.parametrize("recipe", RECIPES, ids=repr)
@pytest.mark.parametrize("anchor", [0.0, 0.7])
@pytest.mark.parametrize("per_layer", [False, True])
@pytest.mark.parametrize("rescaled", [False, True])
def test_energy_gradient_is_the_slope_of_the_energy(
    recipe: Recipe, anchor: float, per_layer: bool, rescaled: bool
) -> None:
    problem = recipe.problem()
    assert problem.initial is not None
    z, multipliers = problem.initial
    rho: oracle.Setting = problem.penalty
    kappa: oracle.Setting = anchor
    if per_layer:
        rho, kappa = uneven(problem.penalty, recipe.depth), uneven(anchor, recipe.depth)[::-1]
    net = oracle.Rescaled(problem, uneven(1.2, recipe.depth)) if rescaled else oracle.Network(problem)
    rng = np.random.default_rng(0)
    gradient = oracle.stack(net.energy_gradient(oracle.unstack(z), oracle.unstack(multipliers), rho, kappa))

    def energy(at: np.ndarray) -> float:
        return float(net.energy(oracle.unstack(at), oracle.unstack(multipliers), rho, kappa).sum())

    for _ in range(5):
        direction = rng.standard_normal(z.shape)
        assert close(float((gradient * direction).sum()), slope(energy, z, direction))


@pytest.mark.parametrize("recipe", RECIPES, ids=repr)
def test_weight_gradients_are_the_slope_of_the_mean_energy(recipe: Recipe) -> None:
    problem = recipe.problem()
    found, rng = oracle.solve(problem), np.random.default_rng(1)
    z, multipliers = oracle.unstack(found.activities), oracle.unstack(found.multipliers)
    for layer, weight in enumerate(problem.weights):

        def energy(at: np.ndarray, layer: int = layer) -> float:
            weights = [at if index == layer else other for index, other in enumerate(problem.weights)]
            net = oracle.Network(dataclasses.replace(problem, weights=weights))
            return float(net.energy(z, multipliers, problem.penalty).mean())

        direction = rng.standard_normal(weight.shape)
        assert close(float((found.gradients[layer] * direction).sum()), slope(energy, weight, direction))


@pytest.mark.parametrize("recipe", RECIPES, ids=repr)
def test_weight_gradients_of_the_rescaled_chain_are_the_slope_of_its_energy(recipe: Recipe) -> None:
    problem, w, rng = recipe.problem(), uneven(1.2, recipe.depth), np.random.default_rng(1)
    assert problem.initial is not None
    u, multipliers = map(oracle.unstack, problem.initial)
    net = oracle.Rescaled(problem, w)
    gradients = net.weight_gradients(net.credit(u, multipliers, problem.penalty), u)
    for layer, weight in enumerate(problem.weights):

        def energy(at: np.ndarray, layer: int = layer) -> float:
            weights = [at if index == layer else other for index, other in enumerate(problem.weights)]
            moved = oracle.Rescaled(dataclasses.replace(problem, weights=weights), w)
            return float(moved.energy(u, multipliers, problem.penalty).mean())

        direction = rng.standard_normal(weight.shape)
        assert close(float((gradients[layer] * direction).sum()), slope(energy, weight, direction))


@pytest.mark.parametrize("recipe", RECIPES, ids=repr)
def test_the_rescaled_chain_in_the_gauge_of_ones_is_the_network(recipe: Recipe) -> None:
    problem = recipe.problem()
    found, right = oracle.solve_rescaled(problem, (1.0,) * (recipe.depth - 1)), oracle.solve(problem)
    assert np.array_equal(found.activities, right.activities)
    assert np.array_equal(found.multipliers, right.multipliers)
    assert all(np.array_equal(mine, other) for mine, other in zip(found.gradients, right.gradients, strict=True))


@pytest.mark.parametrize("recipe", RECIPES, ids=repr)
def test_equal_settings_per_layer_are_one_number(recipe: Recipe) -> None:
    recipe = recipe.but(anchor=0.4, dual_step=0.7, inner_steps=2)
    names = ("step_size", "penalty", "dual_step", "anchor")
    spread = recipe.but(**{name: (getattr(recipe, name),) * (recipe.depth - 1) for name in names})
    found, right = oracle.solve(spread.problem()), oracle.solve(recipe.problem())
    assert np.array_equal(found.activities, right.activities)
    assert np.array_equal(found.multipliers, right.multipliers)


@pytest.mark.parametrize("recipe", RECIPES, ids=repr)
def test_backpropagation_is_the_slope_of_the_mean_loss(recipe: Recipe) -> None:
    problem = recipe.problem()
    gradients, rng = oracle.backprop(problem), np.random.default_rng(2)
    for layer, weight in enumerate(problem.weights):

        def loss(at: np.ndarray, layer: int = layer) -> float:
            weights = [at if index == layer else other for index, other in enumerate(problem.weights)]
            net = oracle.Network(dataclasses.replace(problem, weights=weights))
            return float(0.5 * (net.output_error(net.feedforward()) ** 2).sum(axis=1).mean())

        direction = rng.standard_normal(weight.shape)
        assert close(float((gradients[layer] * direction).sum()), slope(loss, weight, direction))


# Width 1, depth 3, linear, W = (2, 3, 4), x = 1, y = 0: s = (1, 1/√3, 1), so z_1 = 2 and z_2 = 2 + 3·2/√3 = 2 + 2√3.
ROOT = math.sqrt(3)
BY_HAND = Problem(
    weights=[np.array([[2.0]]), np.array([[3.0]]), np.array([[4.0]])],
    inputs=np.array([[1.0]]),
    targets=np.array([[0.0]]),
    activation="linear",
    method="pcalm",
    step_size=0.01,
)
FEEDFORWARD = (2.0, 2.0 + 2.0 * ROOT)
JUMP = 0.01 * 16.0 * FEEDFORWARD[1]  # η W_3² z_2: how far the loss pulls z_2 down in the first step
JACOBIAN = 1.0 + ROOT  # ∂pred_2/∂z_1 = 1 + s_2 W_2


def test_by_hand_feedforward_and_backpropagation() -> None:
    found = oracle.solve(dataclasses.replace(BY_HAND, method="bp"))
    assert found.activities.ravel() == pytest.approx(FEEDFORWARD, rel=1e-15)
    delta = 16.0 * FEEDFORWARD[1]
    right = (delta * JACOBIAN * 1.0, delta * 2.0 / ROOT, 4.0 * FEEDFORWARD[1] ** 2)
    assert [g.item() for g in found.gradients] == pytest.approx(right, rel=1e-14)


def test_by_hand_one_step() -> None:
    found = oracle.solve(dataclasses.replace(BY_HAND, steps=1, credit="after"))
    assert found.activities.ravel() == pytest.approx((FEEDFORWARD[0], FEEDFORWARD[1] - JUMP), rel=1e-14)
    assert found.multipliers.ravel() == pytest.approx((0.0, -JUMP), rel=1e-13, abs=1e-15)


@pytest.mark.parametrize(("method", "dual_step"), [("pcalm", 1.0), ("pcalm", 0.5), ("pc", 0.0)])
def test_by_hand_two_steps(method: str, dual_step: float) -> None:
    found = oracle.solve(dataclasses.replace(BY_HAND, steps=2, method=method, dual_step=dual_step))
    credit = -(1.0 + dual_step) * JUMP  # q_2 = c_2 + λ_2 after the first round
    top = FEEDFORWARD[1] - JUMP
    z = (FEEDFORWARD[0] + 0.01 * JACOBIAN * credit, top - 0.01 * (credit + 16.0 * top))
    assert found.activities.ravel() == pytest.approx(z, rel=1e-14)
    multiplier = -dual_step * JUMP
    assert found.multipliers.ravel() == pytest.approx((0.0, multiplier), rel=1e-13, abs=1e-15)
    q = (z[0] - 2.0, z[1] - JACOBIAN * z[0] + multiplier)
    right = (-q[0], -q[1] * z[0] / ROOT, 4.0 * z[1] * z[1])
    assert [g.item() for g in found.gradients] == pytest.approx(right, rel=1e-12)


def test_by_hand_anchor() -> None:
    start = (np.array([[[3.0]], [[5.0]]]), np.zeros((2, 1, 1)))
    steps = [
        oracle.solve(dataclasses.replace(BY_HAND, initial=start, anchor=kappa)).activities.ravel() for kappa in (0, 2)
    ]
    pull = -0.01 * 2.0 * (np.array([3.0, 5.0]) - FEEDFORWARD)
    np.testing.assert_allclose(steps[1] - steps[0], pull, rtol=0, atol=1e-14)


def test_kkt_point_is_feedforward_with_minus_the_adjoint() -> None:
    activities, multipliers = oracle.kkt(BY_HAND)
    assert activities.ravel() == pytest.approx(FEEDFORWARD, rel=1e-15)
    delta = 16.0 * FEEDFORWARD[1]
    assert multipliers.ravel() == pytest.approx((-JACOBIAN * delta, -delta), rel=1e-14)


def test_relu_has_slope_zero_at_its_kink() -> None:
    assert oracle.DPHI["relu"](np.array([-1.0, 0.0, 1.0])).tolist() == [0.0, 0.0, 1.0]
