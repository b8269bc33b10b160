"""What a requirement's test works with: solve a problem on the implementation under test, and hold a figure against a
bound.

@covers("DYN-1", cases)
def test_dyn_1(check, case):
    problem = case.problem()
    check.at_most("activities", error, bound, case)
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

from pcalm_conformance import rounding
from pcalm_conformance.guest import arrays, defects, said, shortened, solution
from pcalm_conformance.problems import MissingData, Recipe
from pcalm_conformance.protocol import Problem, Solution
from pcalm_conformance.requirements import METHODS, REQUIREMENTS, Requirement

QUICK, DEFAULT, FULL = "quick", "default", "full"
LEVELS = (QUICK, DEFAULT, FULL)
Made = TypeVar("Made")
UNSUPPORTED = "unsupported"
BOTH = ("states", "gradients")


class Nonconformity(AssertionError):
    """The implementation does not meet a requirement.

    Attributes:
        found: the figure beyond its bound, or what happened instead of an answer, in words.
        recipe: the problem that shows it.
        case: the case of the requirement that it belongs to.
    """

    def __init__(self, found: Measurement | str, recipe: Recipe | None = None) -> None:
        self.found, self.recipe, self.case = found, recipe, recipe
        super().__init__(shortened(str(found)))


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

    def __str__(self) -> str:
        return f"{self.what}: measured {self.figure:.6g}, required {self.relation} {self.bound:.6g}"


@dataclass
class Answers:
    """What one implementation has answered so far, for all requirements.

    Attributes:
        most: bytes of solutions that are kept; the oldest go first.
        figures: what was made of answers that are too large or too many to keep, by whatever determines it.
    """

    most: int = 256 << 20
    supported: dict[Recipe, bool] = field(default_factory=dict)
    figures: dict[Any, Any] = field(default_factory=dict)
    _solutions: dict[tuple[Recipe, tuple[str, ...]], Solution] = field(default_factory=dict)
    _size: int = 0

    def find(self, recipe: Recipe, wants: Sequence[str]) -> Solution | None:
        """The solution of the recipe, if all that is wanted of it is known."""
        for known in {tuple(wants), BOTH}:
            if (recipe.resolved(), known) in self._solutions:
                return self._solutions[recipe.resolved(), known]
        return None

    def once(self, key: Any, make: Callable[[], Made]) -> Made:
        """What `make` makes of answers, the first time; the same again whenever the key is the same."""
        if key not in self.figures:
            self.figures[key] = make()
        made: Made = self.figures[key]
        return made

    def keep(self, recipe: Recipe, wants: Sequence[str], found: Solution) -> None:
        key = recipe.resolved(), tuple(wants)
        self._size -= size(self._solutions.pop(key)) if key in self._solutions else 0
        self._solutions[key] = found
        self._size += size(found)
        while self._size > self.most:
            self._size -= size(self._solutions.pop(next(iter(self._solutions))))


def size(solution: Solution) -> int:
    """Bytes."""
    return sum(array.nbytes for array in (solution.activities, solution.multipliers, *solution.gradients))


@dataclass
class Check:
    """One requirement held against one implementation at one level.

    Attributes:
        measurements: the figures so far, with their bounds.
        solved: problems that the implementation solved.
        cases: cases that hold so far.
        left_out: reason → the number of cases that did not run for it.
        answers: of the implementation, shared by all its checks.
    """

    subject: Subject
    requirement: Requirement
    level: str = DEFAULT
    dtype: str = "float64"
    max_depth: int | None = None
    measurements: list[Measurement] = field(default_factory=list)
    solved: int = 0
    cases: int = 0
    left_out: dict[str, int] = field(default_factory=dict)
    answers: Answers = field(default_factory=Answers)

    def ask(self, *recipes: Recipe) -> None:
        """Asks the implementation about shapes and settings, before data are loaded or anything is computed.

        Raises:
            Unsupported: it says that it does not solve one of them.
            BrokenImplementation: supports() raised.
            NotRun: it has broken down too often to be asked again.
        """
        for recipe in recipes:
            if recipe not in self.answers.supported:
                with self.blaming("supports", recipe):
                    self.answers.supported[recipe] = self.subject.supports(recipe.outline())
            if not self.answers.supported[recipe]:
                raise Unsupported

    def supports(self, recipe: Recipe) -> bool:
        try:
            self.ask(recipe)
        except Unsupported:
            return False
        return True

    def solve(self, recipe: Recipe, wants: Sequence[str] = BOTH, again: bool = False, **handed: Any) -> Solution:
        """The implementation's solution, checked for form and for what it must not do.

        A problem that it has solved before, for whatever requirement, is not solved a second time.

        Args:
            recipe: the problem.
            wants: what of the solution is used; the rest stays empty.
            again: whether it is to be solved in any case: where repetition is what is tested.
            handed: fields of the problem that come from earlier solutions in place of the recipe's.

        Raises:
            Unsupported: the implementation says so.
            BrokenImplementation: it raised, or returned another shape or dtype or a value that is not finite.
            NotRun: it has broken down too often to be asked again.
        """
        self.ask(recipe)
        if not (again or handed) and (known := self.answers.find(recipe, wants)):
            return known
        problem = dataclasses.replace(recipe.problem(), wants=tuple(wants), **handed)
        with self.blaming("solve", recipe):
            found = self.subject.solve(problem)
        self.solved += 1
        if wrong := defects(found, problem):
            raise BrokenImplementation("; ".join(wrong), recipe=recipe)
        wanted = solution([np.asarray(array) for array in arrays(found, problem)], problem)
        if not handed:
            self.answers.keep(recipe, wants, wanted)
        return wanted

    def gradients(self, recipe: Recipe, **handed: Any) -> Sequence[np.ndarray]:
        """The weight gradients of `solve`, where nothing else is used."""
        return self.solve(recipe, ["gradients"], **handed).gradients

    @contextlib.contextmanager
    def blaming(self, call: str, recipe: Recipe) -> Iterator[None]:
        """Whatever the implementation raises becomes a BrokenImplementation that names the problem."""
        try:
            yield
        except NotRun:
            raise
        except BrokenImplementation as error:
            error.recipe = recipe
            raise
        except Exception as error:
            raise BrokenImplementation(f"{call}() raised {said(error)}", recipe=recipe) from error

    def leave_out(self, reason: str) -> None:
        """Counts a case that was not run."""
        self.left_out[reason] = self.left_out.get(reason, 0) + 1

    def at_most(self, what: str, figure: float, bound: float, recipe: Recipe | None = None) -> None:
        self._hold(Measurement(what, float(figure), float(bound), "<=", repr(recipe)), figure <= bound, recipe)

    def at_least(self, what: str, figure: float, bound: float, recipe: Recipe | None = None) -> None:
        self._hold(Measurement(what, float(figure), float(bound), ">=", repr(recipe)), figure >= bound, recipe)

    def within(self, what: str, figure: float, low: float, high: float, recipe: Recipe | None = None) -> None:
        self.at_least(what, figure, low, recipe)
        self.at_most(what, figure, high, recipe)

    def _hold(self, measurement: Measurement, kept: bool, recipe: Recipe | None) -> None:
        self.measurements.append(measurement)
        if not kept:  # NaN is never kept
            raise Nonconformity(measurement, recipe)

    def near(
        self, what: str, found: np.ndarray, right: np.ndarray, bound: np.ndarray | float, recipe: Recipe | None = None
    ) -> None:
        """Every entry of `found` within its bound of the right one; the bound broadcasts. The entry that comes
        closest to its bound is the one that is reported."""
        distance = np.abs(np.asarray(found, np.float64) - np.asarray(right, np.float64))
        distance, limits = np.broadcast_arrays(distance, bound)
        part = np.divide(distance, limits, out=np.where(distance > 0, np.inf, 0.0), where=limits > 0)
        worst = np.unravel_index(int(np.nan_to_num(part, nan=np.inf).argmax()), part.shape)
        self.at_most(what, float(distance[worst]), float(limits[worst]), recipe)

    def same(
        self,
        found: Solution,
        right: Solution,
        problem: Problem,
        recipe: Recipe,
        parts: str = "zlg",
        what: str = "error",
        runs: int = 1,
    ) -> None:
        """Activities ("z"), multipliers ("l") and gradients ("g") of two solutions equal up to rounding: to the
        bounds of the one run that rounds, or of both where two runs of an implementation are compared."""
        bounds = rounding.bounds(problem)
        if "z" in parts:
            self.near(f"{what} of the activities", found.activities, right.activities, runs * bounds.activities, recipe)
        if "l" in parts:
            self.near(
                f"{what} of the multipliers", found.multipliers, right.multipliers, runs * bounds.multipliers, recipe
            )
        if "g" in parts:
            self.near_gradients(what, found.gradients, right.gradients, runs * bounds.gradients, recipe)

    def near_gradients(
        self, what: str, found: Sequence[np.ndarray], right: Sequence[np.ndarray], bounds: np.ndarray, recipe: Recipe
    ) -> None:
        """The gradient of every W_l within its bound [L] of the right one."""
        for layer, (mine, truth, bound) in enumerate(zip(found, right, bounds, strict=True), 1):
            self.near(f"{what} of the gradient of W_{layer}", mine, truth, bound, recipe)


def gap(a: np.ndarray, b: np.ndarray) -> float:
    """max |a − b|, in float64."""
    return float(np.abs(np.asarray(a, np.float64) - np.asarray(b, np.float64)).max())


def epsilon(dtype: str) -> float:
    """The dtype's machine epsilon."""
    return float(np.finfo(dtype).eps)


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
        for case in self.cases(check.level):
            if check.max_depth is not None and depth_of(case) > check.max_depth:
                check.leave_out(f"deeper than {check.max_depth}")
                continue
            if isinstance(case, Recipe) and case.dtype is None:
                case = case.but(dtype=check.dtype)
            try:
                check.ask(*needed(self.requirement, case))
                self.function(check, case)
                check.cases += 1
            except Unsupported:
                check.leave_out(UNSUPPORTED)
            except (NotRun, MissingData) as error:
                check.leave_out(str(error))
            except Nonconformity as error:
                # A property test draws its own problems, and takes one of them as a case.
                error.case = case if isinstance(case, Recipe) else error.recipe
                raise
        if not check.cases:
            if UNSUPPORTED in check.left_out:
                raise Unsupported
            raise NotRun("; ".join(check.left_out) or f"it has no case at the level {check.level}")


def needed(requirement: Requirement, case: Any) -> list[Recipe]:
    """What stands for all that a requirement needs at one of its cases: one recipe for each method, none where any of
    several methods will do."""
    if not isinstance(case, Recipe):
        return []
    words = frozenset[str]().union(*(clause for clause in requirement.clauses if len(clause) == 1))
    recipes = [case.but(method=method) for method in METHODS if method in words]
    for index, recipe in enumerate(recipes):
        if recipe.method == "bp":
            continue
        changes: dict[str, Any] = {}
        if "initial" in words and recipe.start == "feedforward":
            changes["start"] = "random"
        if recipe.method == "pcalm":
            if "anchor" in words and not recipe.resolved().anchor:
                changes["anchor"] = 0.1
            if "inner steps" in words and recipe.inner_steps == 1:
                changes["inner_steps"] = 2
        recipes[index] = recipe.but(**changes)
    timings = [timing for timing in ("before", "after") if f"credit {timing}" in words]
    return [
        recipe.but(credit=timing)
        for recipe in recipes
        for timing in (timings if recipe.method == "pcalm" and timings else [recipe.credit])
    ]


TESTS: dict[str, RequirementTest] = {}


def load_tests() -> None:
    """Fills `TESTS`."""
    for file in sorted(Path(__file__).parent.glob("test_*.py")):
        importlib.import_module(f"pcalm_conformance.{file.stem}")


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
