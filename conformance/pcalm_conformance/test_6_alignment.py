"""Chapter 6, nonlinear alignment: the gradient points where BP's does, at a finite budget and in the limit."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from pcalm_conformance.checking import Check, covers
from pcalm_conformance.problems import Recipe, backprop, levels, product
from pcalm_conformance.vectors import cosine, norm_ratio, relative_error

IMAGES = Recipe(data="digits", batch=64, step_size=None)
QUICK = [
    Recipe(depth=depth, width=8, activation=activation)
    for depth, activation in ((8, "relu"), (8, "tanh"), (32, "relu"))
]
DEFAULT = [
    *product(
        ({"depth": 8, "width": 32}, {"depth": 32, "width": 8}, {"depth": 32, "width": 32}), activation=("relu", "tanh")
    ),
    Recipe(depth=64, width=8, activation="relu"),
]
WIDTHS, DEPTHS, SEEDS = (8, 16, 32, 64, 128), (8, 16, 32, 64, 128), (0, 1, 2)


def grid(narrowest: int = 8, widest: int = 128, deepest: int = 128) -> Callable[[str], list[Recipe]]:
    """Cells N × L that grow with the level; the full one has every cell but 128 × 128, and three seeds."""

    def at(level: str) -> list[Recipe]:
        cells = QUICK if level == "quick" else list(dict.fromkeys(QUICK + DEFAULT))
        if level == "full":
            shapes = [{"depth": L, "width": N} for L in DEPTHS for N in WIDTHS if N * L < 128 * 128]
            cells = product(shapes, activation=("relu", "tanh"), seed=SEEDS)
        chosen = [cell for cell in cells if narrowest <= cell.width <= widest and cell.depth <= deepest]
        return [
            IMAGES.but(depth=c.depth, width=c.width, activation=c.activation, seed=c.seed)
            for c in sorted(chosen, key=lambda c: c.depth * c.width)
        ]

    return at


class Likeness(NamedTuple):
    """What a gradient is beside BP's: the cosine of the angle between them, and ‖g‖/‖g_BP‖."""

    cosine: float
    norm: float


def likeness(check: Check, run: Recipe) -> Likeness:
    """Of one budget's gradient, which is asked for once: the grid's gradients together are too large to keep."""

    def compared() -> Likeness:
        found, truth = check.gradients(run), backprop(run)
        return Likeness(cosine(found, truth), norm_ratio(found, truth))

    return check.answers.once((Likeness, run.resolved()), compared)


@covers("ALN-1", grid())
def test_alignment(check: Check, case: Recipe) -> None:
    for name, bound in check.requirement.limits.items():
        run = case.but(budget=budget(name))
        check.at_least(f"cosine to BP at T = {name}", likeness(check, run).cosine, bound, run)


def budget(name: str) -> float:
    """ "2L" → 2."""
    return float(name.removesuffix("L") or 1)


@covers("ALN-2", grid())
def test_better_than_pc(check: Check, case: Recipe) -> None:
    case = case.but(budget=2)
    plain, pc = (likeness(check, run).cosine for run in (case, case.but(method="pc")))
    check.at_least("cosine(PC-ALM) − cosine(PC)", plain - pc, check.requirement.limits["gap"], case)


@covers("ALN-3", grid())
def test_norms(check: Check, case: Recipe) -> None:
    case = case.but(budget=2)
    plain, pc = (likeness(check, run).norm for run in (case, case.but(method="pc")))
    limits = check.requirement.limits
    check.within("PC-ALM's ‖g‖/‖g_BP‖ at 2L", plain, limits["low"], limits["high"], case)
    check.at_least("PC-ALM's ‖g‖/‖g_BP‖ less PC's", plain - pc, limits["gap"], case)


EARLY = {"penalty": 0.1, "dual_step": 3.5, "anchor_per_depth": 3.0}


@covers("ALN-4", grid(widest=32, deepest=64))
def test_anchored_early(check: Check, case: Recipe) -> None:
    case = case.but(**EARLY)
    for name, bound in check.requirement.limits.items():
        run = case.but(budget=budget(name))
        check.at_least(f"cosine to BP at T = {name}", likeness(check, run).cosine, bound, run)


@covers("ALN-5", grid(widest=32, deepest=64))
def test_anchored_late(check: Check, case: Recipe) -> None:
    case, limits = case.but(penalty=0.25, dual_step=3.0, anchor_per_depth=4.0), check.requirement.limits
    for name in ("4L", "8L"):
        run = case.but(budget=budget(name))
        found = likeness(check, run)
        check.at_least(f"cosine to BP at T = {name}", found.cosine, limits[name], run)
        off = abs(found.norm - 1)
        check.at_most(f"distance of ‖g‖/‖g_BP‖ from 1 at T = {name}", off, limits[f"norm_{name}"], run)


LIMIT = Recipe(input_dim=6, output_dim=3, batch=4, step_size=None, penalty=0.25, dual_step=3.0, anchor_per_depth=4.0)


# relu seeds whose feed-forward states keep away from the kink: a unit within the waves' reach of it may chatter for
# good.
SETTLING = [
    LIMIT.but(depth=4, width=3, activation="relu", seed=0),
    LIMIT.but(depth=4, width=3, activation="tanh", seed=0),
    LIMIT.but(depth=8, width=6, activation="relu", seed=1),
    LIMIT.but(depth=8, width=6, activation="tanh", seed=1),
    LIMIT.but(depth=16, width=8, activation="relu", seed=2),
    LIMIT.but(depth=16, width=8, activation="tanh", seed=2),
]


@covers("ALN-6", levels([SETTLING[0], SETTLING[3]], SETTLING, []))
def test_exact_in_the_limit(check: Check, case: Recipe) -> None:
    problem = case.problem()
    run = case.but(steps=math.ceil(24 * 5.2 / (problem.step_size * problem.anchor)))
    decades = check.requirement.limits["error" if check.dtype == "float64" else "error_float32"]
    check.at_most(
        f"error after {run.steps} steps",
        relative_error(check.gradients(run), backprop(case)),
        decades,
        run,
    )


# BP has learned the images; its adjoint has grown 3.4 to 4.1 times from the top to the bottom.
LEARNED = IMAGES.but(depth=32, width=32, activation="relu", trained=12, budget=2, gauge="adjoint")
WIDE = LEARNED.but(depth=16, width=128)


@covers(
    "ALN-7",
    levels([LEARNED], [LEARNED.but(seed=1), LEARNED.but(seed=2)], [WIDE, WIDE.but(seed=1), WIDE.but(depth=32, seed=2)]),
)
def test_gauge_of_a_trained_network(check: Check, case: Recipe) -> None:
    limits = check.requirement.limits
    for name, run in (("plain", case), ("anchored", case.but(**EARLY))):
        level, uneven = (likeness(check, one).cosine for one in (run, run.but(gauge=None)))
        check.at_least(f"cosine to BP in the gauge, {name}", level, limits[name], run)
        check.at_least(f"cosine in the gauge less that without, {name}", level - uneven, limits["gap"], run)
