"""Chapter 4, linear exactness: PC-ALM's fixed point is BP, at any size, and the iteration goes there."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from pcalm_conformance import oracle, rounding
from pcalm_conformance.checking import Check, NotRun, covers, epsilon
from pcalm_conformance.maps import affine_map, flat, probe, spectral_radius
from pcalm_conformance.problems import ACTIVATIONS, Recipe, backprop, levels, product, uneven
from pcalm_conformance.protocol import Problem
from pcalm_conformance.vectors import cosine, relative_error

LINEAR = Recipe(activation="linear", input_dim=4, output_dim=3, batch=1, step_size=None)
ANCHORED = {"penalty": 0.25, "dual_step": 3.0, "anchor_per_depth": 4.0}


def wide(depth: int, width: int) -> Recipe:
    return LINEAR.but(depth=depth, width=width)


KKT_SHAPES = [
    {"depth": depth, "width": width} for depth, width in ((3, 1), (3, 128), (8, 8), (32, 16), (128, 1), (128, 32))
]
KKT = product(
    KKT_SHAPES,
    activation=ACTIVATIONS,
    settings=({}, {"anchor": 0.2, "penalty": 0.5, "dual_step": 1.5}),
    start=("kkt",),
    steps=(1,),
    credit=("after",),
)


KKT_QUICK = [  # every shape once, the activations and settings in turns
    one
    for i, shape in enumerate(KKT_SHAPES)
    for one in KKT
    if one == one.but(**shape, activation=ACTIVATIONS[i % 3]) and (one.anchor > 0) == (i % 2 > 0)
]


@covers("LIN-1", levels(KKT_QUICK, KKT, []))
def test_fixed_point(check: Check, case: Recipe) -> None:
    problem = case.problem()
    assert problem.initial is not None
    found, bounds = check.solve(case), rounding.bounds(problem)
    check.near("movement of z", found.activities, problem.initial[0], 2 * bounds.activities, case)
    check.near("movement of λ", found.multipliers, problem.initial[1], 2 * bounds.multipliers, case)


@covers("LIN-2", levels(KKT_QUICK, KKT, []))
def test_gradient_at_the_fixed_point(check: Check, case: Recipe) -> None:
    problem = case.problem()
    bounds = 2 * rounding.bounds(problem).gradients
    check.near_gradients("distance from BP's", check.solve(case).gradients, backprop(case), bounds, case)


def in_uneven_gauge(recipes: Sequence[Recipe]) -> list[Recipe]:
    return [recipe.but(gauge=uneven(1.0, recipe.depth)) for recipe in recipes]


@covers("LIN-10", levels(in_uneven_gauge(KKT_QUICK), in_uneven_gauge(KKT), []))
def test_fixed_point_in_any_gauge(check: Check, case: Recipe) -> None:
    problem = case.problem()
    assert problem.initial is not None
    found, bounds = check.solve(case), rounding.bounds(problem)
    check.near("movement of z", found.activities, problem.initial[0], 2 * bounds.activities, case)
    check.near("movement of λ", found.multipliers, problem.initial[1], 2 * bounds.multipliers, case)
    check.near_gradients("distance from BP's", found.gradients, backprop(case), 2 * bounds.gradients, case)


def probed(check: Check, case: Recipe) -> tuple[np.ndarray, np.ndarray]:
    """The map as the implementation has it. In float32 only small ones, whose spectrum its rounding leaves resolved."""
    if check.dtype == "float32" and case.depth > 8:
        raise NotRun("float32's rounding leaves the spectrum of deeper maps unresolved")
    return affine_map(check.solve(probe(case), ["states"]))


MAPS = levels(
    [wide(3, 1), wide(4, 3), wide(8, 4)],
    [wide(8, 8), wide(32, 8), wide(128, 8)],
    [wide(64, 8), *(wide(8, 4).but(dual_step=alpha) for alpha in (0.2, 1.9))],
)


@covers("LIN-3", MAPS)
def test_contraction(check: Check, case: Recipe) -> None:
    matrix, _ = probed(check, case)
    margin = 10 * epsilon(check.dtype) * len(matrix)
    check.at_least("1 − spectral radius", 1 - spectral_radius(matrix), margin, case)


@covers("LIN-4", MAPS)
def test_the_fixed_point_is_backpropagation(check: Check, case: Recipe) -> None:
    fixed_point(check, case)


def fixed_point(check: Check, case: Recipe) -> np.ndarray:
    """The implementation's map, after its fixed point was held against BP's adjoint."""
    matrix, shift = probed(check, case)
    system = np.eye(len(matrix)) - matrix
    condition = float(np.linalg.cond(system))
    check.at_most("cond(I − M)·ε, where 1 means more than one fixed point", condition * epsilon(check.dtype), 0.1, case)
    right = flat(*oracle.kkt(case.but(batch=1).problem()))
    error = float(np.linalg.norm(np.linalg.solve(system, shift) - right) / np.linalg.norm(right))
    bound = check.requirement.limits["factor"] * condition * epsilon(check.dtype)
    check.at_most("error of the map's fixed point", error, bound, case)
    return matrix


@covers("LIN-5", levels([wide(3, 1), wide(4, 2)], [wide(3, 8), wide(6, 3).but(batch=2)], [wide(8, 4)]))
def test_convergence_from_the_cold_start(check: Check, case: Recipe) -> None:
    matrix, _ = affine_map(oracle.solve(probe(case).problem()))
    steps = math.ceil(math.log(1e-18) / math.log(spectral_radius(matrix)))
    run = case.but(steps=steps)
    problem = run.problem()
    found, truth = check.solve(run), oracle.kkt(problem)
    amplification = float(np.linalg.norm(np.linalg.inv(np.eye(len(matrix)) - matrix), 2))
    once = rounding.bounds(dataclasses.replace(problem, steps=1, credit="after", initial=truth))
    bound = amplification * in_2_norm(case, once.activities, once.multipliers)
    check.near(f"error of z after {steps} steps", found.activities, truth[0], bound, run)
    check.near(f"error of λ after {steps} steps", found.multipliers, truth[1], bound, run)
    bounds = amplification * math.sqrt(len(matrix)) * once.gradients
    what = f"distance from BP's after {steps} steps"
    check.near_gradients(what, found.gradients, backprop(case), bounds, run)


def in_2_norm(case: Recipe, *bounds: np.ndarray) -> float:
    """The 2-norm of one sample's state, all units of which are at their bounds [L−1, B, 1], for the worst sample."""
    return float(np.sqrt(case.width * sum((part**2).sum(axis=0) for part in bounds)).max())


def pc_equilibrium(problem: Problem) -> tuple[np.ndarray, np.ndarray]:
    """(z [L−1, 1, N], H) with H z = b, from the energy's gradient at zero and at every basis vector (one sample)."""
    net = oracle.Network(problem)
    shape = (net.L - 1, 1, net.N)
    zero = oracle.unstack(np.zeros(shape))

    def gradient(z: np.ndarray) -> np.ndarray:
        return oracle.stack(net.energy_gradient(oracle.unstack(z.reshape(shape)), zero, problem.penalty)).ravel()

    offset = gradient(np.zeros(math.prod(shape)))
    hessian = np.stack([gradient(basis) - offset for basis in np.eye(len(offset))], axis=1)
    return np.linalg.solve(hessian, -offset).reshape(shape), hessian


@covers("LIN-6", levels([wide(4, 2)], [wide(5, 3), wide(6, 4).but(penalty=0.5)], [wide(8, 8)]))
def test_pc_goes_elsewhere(check: Check, case: Recipe) -> None:
    case = case.but(method="pc")
    problem = case.problem()
    z, hessian = pc_equilibrium(problem)
    smallest = float(np.linalg.eigvalsh((hessian + hessian.T) / 2).min())
    steps = math.ceil(math.log(1e-18) / math.log1p(-problem.step_size * smallest))
    run = case.but(steps=steps)
    found = check.solve(run)
    once = rounding.bounds(dataclasses.replace(problem, steps=1, initial=(z, np.zeros_like(z))))
    bound = in_2_norm(case, once.activities) / (problem.step_size * smallest)
    check.near(f"error of z after {steps} steps", found.activities, z, bound, run)
    distance = relative_error(found.gradients, backprop(case))
    check.at_least("relative distance of its gradient from BP's", distance, check.requirement.limits["distance"], run)


@covers(
    "LIN-7",
    levels(
        [wide(8, 8).but(batch=16, budget=2)],
        [wide(32, 8).but(batch=16, budget=2), wide(32, 32).but(batch=16, budget=2)],
        [wide(128, 8).but(batch=16, budget=2), wide(64, 32).but(batch=16, budget=2)],
    ),
)
def test_a_finite_budget_is_not_backpropagation(check: Check, case: Recipe) -> None:
    figure = cosine(check.gradients(case), backprop(case))
    limits = check.requirement.limits
    check.within("cosine to BP at T = 2L", figure, limits["low"], limits["high"], case)


@covers(
    "LIN-8",
    levels(
        [wide(8, 4).but(**ANCHORED)],
        [wide(8, 8).but(**ANCHORED), wide(32, 8).but(**ANCHORED)],
        [wide(64, 8).but(**ANCHORED), wide(128, 8).but(**ANCHORED)],
    ),
)
def test_anchored_convergence(check: Check, case: Recipe) -> None:
    matrix = fixed_point(check, case)
    problem = case.problem()
    per_decade = -1 / math.log10(spectral_radius(matrix)) * problem.step_size * problem.anchor
    check.at_most("iterations per decade times ηκ", per_decade, check.requirement.limits["per_decade"], case)


SCATTERING = LINEAR.but(depth=64, width=32, penalty=0.1, dual_step=3.5, budget=1.1, batch=8)


@covers(
    "LIN-9",
    levels([SCATTERING], [SCATTERING.but(seed=1)], [SCATTERING.but(seed=2), SCATTERING.but(seed=3)]),
)
def test_the_symmetric_part_scatters(check: Check, case: Recipe) -> None:
    aligned = {
        blocks: cosine(check.gradients(case.but(blocks=blocks)), backprop(case.but(blocks=blocks)))
        for blocks in ("antisymmetric", "gaussian", "symmetric")
    }
    gap_needed = check.requirement.limits["gap"]
    check.at_least("cosine, antisymmetric − Gaussian", aligned["antisymmetric"] - aligned["gaussian"], gap_needed, case)
    check.at_least("cosine, Gaussian − symmetric", aligned["gaussian"] - aligned["symmetric"], gap_needed, case)
