"""Chapter 5, spectrum and stability: without the loss the iteration is a wave equation that can be solved by hand."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from pcalm_conformance import oracle, rounding
from pcalm_conformance.checking import Check, NotRun, covers, epsilon
from pcalm_conformance.maps import affine_map, constraint_matrix, flat, map_error, probe, spectral_radius
from pcalm_conformance.problems import Recipe, cases, levels, uneven, wave
from pcalm_conformance.test_4_linear import LINEAR, probed, wide

FREE = LINEAR.but(readout="zero")
SMALL = [FREE.but(depth=3, width=1), FREE.but(depth=4, width=3), FREE.but(depth=8, width=4)]
CONSTANTS = (
    {"penalty": 1.0, "dual_step": 1.0},
    {"penalty": 1.0, "dual_step": 0.5},
    {"penalty": 0.5, "dual_step": 1.5},
    {"penalty": 0.1, "dual_step": 3.5, "anchor": 0.4},
)
FREE_MAPS = [recipe.but(**constants) for recipe in SMALL for constants in CONSTANTS]


@covers("SPC-1", cases(FREE_MAPS))
def test_one_map_per_singular_value(check: Check, case: Recipe) -> None:
    one_map_per_singular_value(check, case)


@covers("SPC-7", cases([recipe.but(gauge=uneven(1.0, recipe.depth)) for recipe in FREE_MAPS]))
def test_one_map_per_singular_value_of_the_gauge(check: Check, case: Recipe) -> None:
    one_map_per_singular_value(check, case)


def one_map_per_singular_value(check: Check, case: Recipe) -> None:
    """In u = w z the constraint matrix is w A w⁻¹, and the multipliers are λ/w."""
    weight = np.repeat(case.gauge or (1.0,) * (case.depth - 1), case.width)
    matrix, _ = probed(check, case)
    to_u = np.concatenate([weight, 1 / weight])
    matrix = to_u[:, None] * matrix / to_u
    u, sigma, v = np.linalg.svd(weight[:, None] * constraint_matrix(case) / weight)
    n, problem = len(sigma), case.without_gauge().problem()
    eta, rho, alpha, kappa = problem.step_size, problem.penalty, problem.dual_step, problem.anchor
    basis = np.block([[v.T, np.zeros((n, n))], [np.zeros((n, n)), u]])
    a = 1 - eta * rho * sigma**2 - eta * kappa
    right = np.block(
        [[np.diag(a), np.diag(-eta * sigma)], [np.diag(alpha * sigma * a), np.diag(1 - eta * alpha * sigma**2)]]
    )
    error = float(np.abs(basis.T @ matrix @ basis - right).max())
    bound = map_error(case) * float(to_u.max() / to_u.min())
    check.at_most("error of the map's entries", error, bound, case)


@covers("SPC-2", cases([recipe.but(dual_step=alpha) for recipe in SMALL for alpha in (0.5, 1.0, 1.5)]))
def test_modulus_of_complex_pairs(check: Check, case: Recipe) -> None:
    matrix, _ = probed(check, case)
    problem = case.problem()
    sigma = np.linalg.svd(constraint_matrix(case), compute_uv=False)
    moduli = np.sqrt(np.maximum(0, 1 - problem.step_size * problem.penalty * sigma**2))
    eigenvalues, vectors = np.linalg.eig(matrix)
    bound = float(np.linalg.cond(vectors)) * map_error(case)
    if bound > 0.1:
        raise NotRun(f"eigenvalues of this map are resolved to {bound:.1g} only, in {check.dtype}")
    pairs = eigenvalues[eigenvalues.imag > bound]
    discriminant = (2 - problem.step_size * sigma**2 * (problem.penalty + problem.dual_step)) ** 2 - 4 * moduli**2
    predicted = np.sqrt(np.maximum(0, -discriminant)) / 2  # imaginary parts, which the bound may move
    check.within("complex pairs", len(pairs), (predicted > 2 * bound).sum(), (predicted > 0).sum(), case)
    if len(pairs):
        distance = np.abs(np.abs(pairs)[:, None] - moduli[None, :]).min(axis=1).max()
        check.at_most("distance to the nearest √(1 − ηρσ²)", float(distance), bound, case)


@covers("SPC-3", cases(FREE_MAPS))
def test_stable_inside_the_bound_only(check: Check, case: Recipe) -> None:
    largest = float(np.linalg.svd(constraint_matrix(case), compute_uv=False).max()) ** 2
    edge = 4 / (largest * (2 * case.penalty + case.dual_step) + 2 * case.anchor)
    limits = check.requirement.limits
    inside, outside = (
        spectral_radius(probed(check, case.but(step_size=edge * limits[side]))[0]) for side in ("inside", "outside")
    )
    check.at_most("spectral radius just inside", inside, 1 - epsilon(check.dtype), case)
    check.at_least("spectral radius just outside", outside, 1 + epsilon(check.dtype), case)


CHAIN = FREE.but(blocks="zero", width=1, depth=64, step_size=0.2)
WAVES = 3


def one_round(case: Recipe, mode: int) -> Recipe:
    """One round from the state at rest with the free chain's mode upon it."""
    return case.but(start="wave", mode=mode, steps=1, credit="after" if case.method == "pcalm" else "before")


def amplitudes(check: Check, case: Recipe, mode: int, steps: int) -> Iterator[float]:
    """The mode's amplitude after 0, 1, ... rounds, with the state handed on from call to call."""
    once = one_round(case, mode)
    shape, problem = wave(once)[1], once.problem()
    assert problem.initial is not None
    rest, state = oracle.kkt(problem)[0], problem.initial
    for _ in range(steps):
        yield float(((state[0] - rest) * shape).sum() / (shape**2).sum())
        found = check.solve(once, ["states"], initial=state)
        state = (found.activities, found.multipliers)
    yield float(((state[0] - rest) * shape).sum() / (shape**2).sum())


@covers("SPC-4", cases([CHAIN.but(method="pc", penalty=rho) for rho in (1.0, 0.5)]))
def test_pc_is_the_heat_kernel(check: Check, case: Recipe) -> None:
    problem, steps = case.problem(), 20
    for mode in range(1, WAVES + 1):
        once = one_round(case, mode)
        k, shape = wave(once)
        trace = list(amplitudes(check, case, mode, steps))
        left = trace[-1] / trace[0]
        check.at_least(f"part of the wave left after {steps} steps at k = {k:.3f}", left, np.finfo(float).tiny, case)
        rate = -math.log(left) / steps
        theory = problem.penalty * problem.step_size * k**2
        # By so much one round may change the amplitude. It only falls, so that the error of each is carried on as it
        # is; the first state is rounded as well.
        error = float(rounding.bounds(once.problem()).activities.max() * np.abs(shape).sum() / (shape**2).sum())
        bound = k**2 * (1 / 12 + problem.penalty * problem.step_size) + 2 * error / (left * theory)
        check.at_most(f"deviation of the decay at k = {k:.3f}", abs(rate / theory - 1), bound, case)


@covers(
    "SPC-5", cases([CHAIN.but(penalty=rho, dual_step=alpha) for rho, alpha in ((1.0, 1.0), (0.5, 1.5), (0.1, 3.5))])
)
def test_pcalm_is_a_damped_wave(check: Check, case: Recipe) -> None:
    if check.dtype == "float32":
        raise NotRun("the decay per iteration is of the order of float32's rounding")
    problem = case.problem()
    eta, rho, alpha = problem.step_size, problem.penalty, problem.dual_step
    for mode in range(1, WAVES + 1):
        k, a = wave(one_round(case, mode))[0], np.array(list(amplitudes(check, case, mode, 40)))
        # Any 2×2 map obeys a_{t+2} = trace·a_{t+1} − det·a_t.
        (first, second), *_ = np.linalg.lstsq(np.stack([a[1:-1], -a[:-2]], axis=1), a[2:], rcond=None)
        check.at_least(f"determinant of the fitted map at k = {k:.3f}", second, np.finfo(float).tiny, case)
        frequency = math.acos(float(np.clip(first / (2 * math.sqrt(second)), -1, 1)))
        decay = -0.5 * math.log(second)
        slow = k**2 * (1 / 24 + eta * (alpha / 6 + rho**2 / (8 * alpha) + rho / 2))
        check.at_most(
            f"deviation of the frequency at k = {k:.3f}", abs(frequency / (math.sqrt(alpha * eta) * k) - 1), slow, case
        )
        fast = k**2 * (1 / 12 + rho * eta / 2) + 1e-6
        check.at_most(f"deviation of the decay at k = {k:.3f}", abs(decay / (0.5 * rho * eta * k**2) - 1), fast, case)


@covers("SPC-6", levels([wide(4, 2)], [wide(6, 3), wide(8, 4)], [wide(16, 4)]))
def test_convergence_rate(check: Check, case: Recipe) -> None:
    matrix, _ = affine_map(oracle.solve(probe(case).problem()))
    eigenvalues, vectors = np.linalg.eig(matrix)
    radius, condition = float(np.abs(eigenvalues).max()), float(np.linalg.cond(vectors))
    decade = -1 / math.log10(radius)
    early, late = math.ceil(2 * decade), math.ceil((5 if check.dtype == "float64" else 3.5) * decade)
    rest = flat(*oracle.kkt(case.problem()))
    errors = []
    for steps in (early, late):
        found = check.solve(case.but(steps=steps, credit="after"), ["states"])
        errors.append(float(np.linalg.norm(flat(found.activities, found.multipliers) - rest)))
    rate = math.log(errors[1] / errors[0]) / (late - early)
    bound = 2 * math.log(condition) / (late - early)
    check.at_most("deviation of log(rate) from log(radius)", abs(rate - math.log(radius)), bound, case)
