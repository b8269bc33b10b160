"""Chapter 7, credit propagation: how fast, how far and how evenly the error signal reaches the layers."""

from __future__ import annotations

import numpy as np

from pcalm_conformance import oracle
from pcalm_conformance.checking import Check, covers, epsilon
from pcalm_conformance.problems import ACTIVATIONS, SHAPES, Recipe, backprop, cases, levels, product
from pcalm_conformance.test_6_alignment import IMAGES, budget
from pcalm_conformance.vectors import norm_ratio

CONE_STEPS = (1, 2, 3, 4, 7)
CONE_SHAPES = (*SHAPES[1:], {"depth": 12, "width": 8})
CONES = product(
    CONE_SHAPES,
    activation=ACTIVATIONS,
    settings=({"method": "pc"}, {"method": "pcalm"}, {"method": "pcalm", "credit": "after"}),
)


def movement(check: Check, case: Recipe, steps: int) -> tuple[np.ndarray, np.ndarray, float]:
    """How far each layer's activities and multipliers are from the start after some steps [L−1], and 1 as max|z|·ε."""
    check.ask(case)
    rest = check.solve(case.but(method="bp", anchor=0.0, credit="before"))
    found = check.solve(case.but(steps=steps))
    moved = np.abs(found.activities.astype(np.float64) - rest.activities).max(axis=(1, 2))
    size = float(np.abs(rest.activities).max()) * epsilon(check.dtype)
    return moved / size, np.abs(found.multipliers).max(axis=(1, 2)) / size, size


def cone(check: Check, case: Recipe) -> None:
    most = check.requirement.limits["factor"]
    for steps in CONE_STEPS:
        z, lam, _ = movement(check, case, steps)
        duals = steps if case.credit == "after" else steps - 1
        outside = max(0, case.depth - 1 - steps)
        check.at_most(f"movement below the top {steps} layers, in ε·max|z|", z[:outside].max(initial=0), most, case)
        outside = max(0, case.depth - 1 - duals)
        check.at_most(f"multipliers below the top {duals}, in ε·max|z|", lam[:outside].max(initial=0), most, case)


@covers("CRD-1", cases(CONES))
def test_light_cone(check: Check, case: Recipe) -> None:
    cone(check, case)


@covers("CRD-2", cases(CONES))
def test_the_cone_is_filled(check: Check, case: Recipe) -> None:
    for steps in CONE_STEPS[:3]:
        z, _, size = movement(check, case, steps)
        check.at_least(f"movement of the top layer in {steps} steps, in ε·max|z|", z[-1], 1, case)
        # The front has passed `steps` times through η: its scale is what is left of the first movement.
        part = check.requirement.limits["part"]
        scale = z[-1] * size * case.problem().step_size ** (steps - 1) * part
        check.at_least(f"movement of layer L − {steps}", z[-steps] * size / scale, 1, case)


@covers(
    "CRD-3",
    cases(product(CONE_SHAPES, activation=ACTIVATIONS, anchor=(0.8,))),
)
def test_anchored_light_cone(check: Check, case: Recipe) -> None:
    cone(check, case)


def arrivals(check: Check, case: Recipe, part: float, rounds: int) -> dict[int, int]:
    """Distance d = L − l → the first iteration at which ‖q_l‖ reaches a part of ‖δ_l‖, for the layers reached in time.

    The state is handed on from call to call, one step each; q_t = ρ c(z_t) + λ with the multipliers of step t.
    """
    once = case.but(steps=1, credit="after" if case.method == "pcalm" else "before", start="kkt")
    problem = once.problem()
    net = oracle.Network(problem)
    z, lam = oracle.kkt(problem)
    target = part * np.linalg.norm(lam, axis=(1, 2))
    state = (z.astype(problem.dtype), np.zeros_like(z, dtype=problem.dtype))
    first: dict[int, int] = {}
    for t in range(1, rounds + 1):
        before = state[1]
        found = check.solve(once, ["states"], initial=state)
        state = (found.activities, found.multipliers)
        q = oracle.stack(net.credit(oracle.unstack(state[0]), oracle.unstack(before), problem.penalty))
        for index in np.flatnonzero(np.linalg.norm(q, axis=(1, 2)) >= target):
            first.setdefault(case.depth - 1 - int(index), t)
        if len(first) == case.depth - 1:
            break
    return first


def exponent(first: dict[int, int], nearest: int) -> tuple[float, float]:
    """(exponent, iterations per layer) of arrival against distance d ≥ nearest, by least squares (on logarithms for
    the first)."""
    points = sorted((d, t) for d, t in first.items() if d >= nearest)
    d, t = (np.array(values, float) for values in zip(*points, strict=True))
    return float(np.polyfit(np.log(d), np.log(t), 1)[0]), float(np.polyfit(d, t, 1)[0])


LONG = Recipe(depth=64, width=16, input_dim=8, output_dim=10, batch=8, step_size=None)
CHAINS = levels(
    [LONG.but(activation="relu")],
    [LONG.but(activation="tanh")],
    [LONG.but(activation="linear"), *(LONG.but(depth=128, width=32, activation=one) for one in ACTIVATIONS)],
)


@covers("CRD-4", CHAINS)
def test_ballistic(check: Check, case: Recipe) -> None:
    first = arrivals(check, case, 0.5, 4 * case.depth)
    check.at_least("layers reached within 4L", len(first), case.depth - 1, case)
    power, pace = exponent(first, 3)
    limits = check.requirement.limits
    check.within("exponent of arrival against distance", power, limits["low"], limits["high"], case)
    check.within("iterations per layer", pace, limits["fastest"], limits["slowest"], case)


@covers("CRD-5", CHAINS)
def test_diffusive(check: Check, case: Recipe) -> None:
    case, limits = case.but(method="pc"), check.requirement.limits
    first = arrivals(check, case, 0.1, 8 * case.depth)
    check.at_most("part of the layers reached within 8L", len(first) / (case.depth - 1), limits["reach"], case)
    check.at_least("layers reached, for a fit", len(first), 6, case)
    power, _ = exponent(first, 3)
    check.within("exponent of arrival against distance", power, limits["low"], limits["high"], case)


EVEN = levels(
    [IMAGES.but(depth=32, width=32, activation="relu")],
    [IMAGES.but(depth=64, width=32, activation="relu")],
    [IMAGES.but(depth=128, width=32, activation="relu"), IMAGES.but(depth=32, width=32, activation="relu", seed=1)],
)


def shares(check: Check, case: Recipe) -> np.ndarray:
    """r_l = ‖G_l‖/‖G_l^BP‖ for l = 1..L−1."""
    pairs = zip(check.gradients(case)[:-1], backprop(case)[:-1], strict=True)
    return np.array([norm_ratio([mine], [exact]) for mine, exact in pairs])


@covers("CRD-6", EVEN)
def test_even_credit(check: Check, case: Recipe) -> None:
    for name, bound in check.requirement.limits.items():
        run = case.but(budget=budget(name))
        r = shares(check, run)
        check.at_least(f"min r/max r at T = {name}", r.min() / r.max(), bound, run)


@covers("CRD-7", EVEN)
def test_pc_credit_is_uneven(check: Check, case: Recipe) -> None:
    run = case.but(method="pc", budget=2)
    r = shares(check, run)
    check.at_most("min r/max r at T = 2L", r.min() / r.max(), check.requirement.limits["most"], run)
