"""What a requirement's test works with: solve a problem on the implementation under test, and hold a figure against a
bound.

@covers("DYN-1", cases)
def test_dyn_1(check, case):
    problem = case.problem()
    check.at_most("activities", error, bound, case)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from pcalm_conformance import oracle
from pcalm_conformance.guest import defects, said
from pcalm_conformance.problems import MissingData, Recipe
from pcalm_conformance.protocol import Problem, Solution
from pcalm_conformance.requirements import REQUIREMENTS, Requirement

QUICK, DEFAULT, FULL = "quick", "default", "full"
LEVELS = (QUICK, DEFAULT, FULL)


class Nonconformity(AssertionError):
    """The implementation does not meet a requirement."""

    def __init__(self, what: str, figure: float | None = None, bound: str = "", recipe: Recipe | str = "") -> None:
        self.what, self.figure, self.bound, self.recipe = what, figure, bound, recipe
        shown = what if figure is None else f"{what}: measured {figure:.6g}, required {bound}"
        super().__init__(shown)


class BrokenImplementation(Nonconformity):
    """It raised, hung, crashed, or returned something that is no solution."""


class Unsupported(Exception):
    """The implementation says that it does not support the problem (or, for a whole requirement, any of its
    problems)."""


class NotRun(Exception):
    """A requirement was not tested, for a reason that is not the implementation's: level, depth, precision, or
    missing data."""


class Subject(Protocol):
    """An implementation under test, in this process or in one of its own."""

    modified: list[str]  # what the last call wrote to that it should not have

    @property
    def name(self) -> str: ...

    def solve(self, problem: Problem) -> Any: ...

    def supports(self, problem: Problem) -> bool: ...


@dataclass
class Measurement:
    what: str
    figure: float
    bound: float
    relation: str  # "<=" or ">="
    recipe: str

    @property
    def strain(self) -> float:
        """How close to its bound: 1 is at the bound, more is beyond it. Only for choosing what to show."""
        if self.relation == "<=":
            return self.figure / self.bound if self.bound > 0 else math.inf
        return self.bound / self.figure if self.figure > 0 else math.inf


@dataclass
class Check:
    """One requirement held against one implementation at one level."""

    subject: Subject
    requirement: Requirement
    level: str = DEFAULT
    dtype: str = "float64"
    max_depth: int | None = None
    measurements: list[Measurement] = field(default_factory=list)
    solved: int = 0
    left_out: int = 0

    def solve(self, problem: Problem | Recipe) -> Solution:
        """The implementation's solution, checked for form and for what it must not do.

        Raises:
            Unsupported: the implementation says so.
            BrokenImplementation: it raised, or returned another shape or dtype or a value that is not finite.
            NotRun: it has broken down too often to be asked again.
        """
        recipe: Recipe | str = problem if isinstance(problem, Recipe) else ""
        if isinstance(problem, Recipe):
            problem = problem.problem()
        call = "supports"
        try:
            if not self.subject.supports(problem):
                raise Unsupported
            call = "solve"
            found = self.subject.solve(problem)
        except (Unsupported, NotRun):
            raise
        except BrokenImplementation as error:
            error.recipe = recipe
            raise
        except Exception as error:
            raise BrokenImplementation(f"{call}() raised {said(error)}", recipe=recipe) from error
        self.solved += 1
        if wrong := defects(found, problem):
            raise BrokenImplementation("; ".join(wrong), recipe=recipe)
        return Solution(
            np.asarray(found.activities), np.asarray(found.multipliers), list(map(np.asarray, found.gradients))
        )

    def at_most(self, what: str, figure: float, bound: float, recipe: Recipe | str = "") -> None:
        self._hold(Measurement(what, float(figure), float(bound), "<=", repr(recipe)), figure <= bound, recipe)

    def at_least(self, what: str, figure: float, bound: float, recipe: Recipe | str = "") -> None:
        self._hold(Measurement(what, float(figure), float(bound), ">=", repr(recipe)), figure >= bound, recipe)

    def within(self, what: str, figure: float, low: float, high: float, recipe: Recipe | str = "") -> None:
        self.at_least(what, figure, low, recipe)
        self.at_most(what, figure, high, recipe)

    def _hold(self, measurement: Measurement, kept: bool, recipe: Recipe | str) -> None:
        self.measurements.append(measurement)
        if not kept:  # NaN is never kept
            bound = f"{measurement.relation} {measurement.bound:.6g}"
            raise Nonconformity(measurement.what, measurement.figure, bound, recipe)

    def same(self, found: Solution, truth: Solution, problem: Problem, recipe: Recipe, parts: str = "zlg") -> None:
        """Activities ("z"), multipliers ("l") and gradients ("g") equal to the truth up to the rounding of
        `tolerance`."""
        bound = tolerance(problem)
        scale = max(float(np.abs(truth.activities).max()), float(np.abs(truth.multipliers).max()), 1e-300)
        if "z" in parts:
            self.at_most(
                "error of the activities, relative", gap(found.activities, truth.activities) / scale, bound, recipe
            )
        if "l" in parts:
            self.at_most(
                "error of the multipliers, relative", gap(found.multipliers, truth.multipliers) / scale, bound, recipe
            )
        if "g" in parts:
            for layer, (mine, right) in enumerate(zip(found.gradients, truth.gradients, strict=True), 1):
                size = gradient_scale(problem, truth, layer)
                self.at_most(f"error of the gradient of W_{layer}, relative", gap(mine, right) / size, bound, recipe)


def gap(a: np.ndarray, b: np.ndarray) -> float:
    """max |a − b|, in float64."""
    return float(np.abs(np.asarray(a, np.float64) - np.asarray(b, np.float64)).max())


def tolerance(problem: Problem) -> float:
    """How far a right implementation may be from the exact solution, relative to the largest |z|, |λ|.

    First order in ε of the dtype. A dot product of length n rounds by at most n·ε of its terms' size. The
    feed-forward pass commits D·ε at the first layer and (N + 4)·ε at each of the others; one primal step contains two
    products of length N, one of length C at the top, and 8 elementwise operations; one dual step repeats the
    residual. Inside the stable region an error is carried on without growth (spectral radius below 1), the penalty
    and dual step scale what they multiply, and the sum over the batch adds B·ε to the weight gradients.

    Infinite where rounding decides on which side of relu's kink a unit is: there is no one right answer then.
    """
    unit = epsilon(problem.dtype)
    if problem.dtype == "float32" and problem.activation == "relu" and distance_to_kink(problem) < 32 * unit:
        return math.inf
    batch, inputs = problem.inputs.shape
    width, outputs, depth = problem.weights[0].shape[0], problem.weights[-1].shape[0], len(problem.weights)
    start = inputs + (depth - 1) * (width + 4)
    iterations = 0 if problem.method == "bp" else problem.steps * problem.inner_steps
    per_iteration = (2 * width + outputs + 8) * max(1.0, problem.penalty, problem.dual_step)
    return unit * (start + iterations * per_iteration + batch)


def distance_to_kink(problem: Problem) -> float:
    """The smallest |z| of any unit on the oracle's way, relative to the largest; exact zeros do not count, they
    stay."""
    closest = math.inf

    def watch(z: oracle.Layers) -> None:
        nonlocal closest
        sizes = np.abs(np.stack(z[1:]))
        closest = min(closest, float(sizes[sizes > 0].min(initial=math.inf) / max(sizes.max(), 1e-300)))

    oracle.solve(problem, watch)
    return closest


def gradient_scale(problem: Problem, truth: Solution, layer: int) -> float:
    """The size of the terms in G_l = −s_l q_lᵀ φ(z_{l-1}) / B, whose rounding is what `tolerance` bounds.

    q = ρ(z − pred) + λ is a difference of activities, so its terms are as large as they are, however small q itself.
    """
    net = oracle.Network(problem)
    states = [net.x, *truth.activities]
    below = np.abs(states[layer - 1] if layer == 1 else net.phi(states[layer - 1])).max()
    if layer == net.L:
        signal = np.abs(net.y).max() + net.s[net.L] * net.N * np.abs(net.W[net.L]).max() * below
    else:
        signal = max(1.0, problem.penalty) * np.abs(truth.activities).max() + np.abs(truth.multipliers).max()
    return float(max(net.s[layer] * signal * below, 1e-300))


def epsilon(dtype: str) -> float:
    """The dtype's machine epsilon."""
    return float(np.finfo(dtype).eps)


Pair = tuple[np.ndarray, np.ndarray]


def mapped(initial: Pair | None, change: Callable[[np.ndarray], np.ndarray]) -> Pair | None:
    """The initial state with both its parts changed."""
    return None if initial is None else (change(initial[0]), change(initial[1]))


@dataclass(frozen=True)
class RequirementTest:
    """A requirement's test: one function, and the cases that it runs at each level."""

    requirement: Requirement
    function: Callable[[Check, Any], None]
    cases: Callable[[str], Sequence[Any]]

    def run(self, check: Check) -> None:
        """All cases in order, smallest first.

        Raises:
            Nonconformity: at the first case that does not hold.
            Unsupported: the implementation supports none of the cases.
            NotRun: there was no case to run, at this level, depth and precision.
        """
        done, unsupported, reason = 0, 0, f"it has no case at the level {check.level}"
        for case in self.cases(check.level):
            if check.max_depth is not None and depth_of(case) > check.max_depth:
                reason = f"its cases are deeper than {check.max_depth}"
                continue
            if isinstance(case, Recipe) and case.dtype is None:
                case = case.but(dtype=check.dtype)
            try:
                self.function(check, case)
                done += 1
            except Unsupported:
                unsupported += 1
            except (NotRun, MissingData) as error:
                reason = str(error)
        check.left_out = unsupported
        if not done:
            raise Unsupported if unsupported else NotRun(reason)


TESTS: dict[str, RequirementTest] = {}


def depth_of(case: Any) -> int:
    return case.depth if isinstance(case, Recipe) else int(getattr(case, "depth", 0))


CaseTest = Callable[[Check, Any], None]


def covers(identity: str, cases: Callable[[str], Sequence[Any]]) -> Callable[[CaseTest], Callable[[Check], None]]:
    """Makes of a function (check, case) the test of a requirement; `cases(level)` lists its cases, smallest first."""

    def register(function: CaseTest) -> Callable[[Check], None]:
        if identity in TESTS:
            raise ValueError(f"requirement {identity} has two tests")
        test = TESTS[identity] = RequirementTest(REQUIREMENTS[identity], function, cases)

        def run(check: Check) -> None:
            test.run(check)

        run.__doc__, run.requirement = function.__doc__, identity  # type: ignore[attr-defined]
        return run

    return register
