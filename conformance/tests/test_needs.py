"""What a requirement says that it needs is what it asks for, and it asks before it computes; few programs serve all."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import pytest
from pcalm_conformance import census, checking, problems
from pcalm_conformance.checking import DEFAULT, QUICK, TESTS, Answers, Check, Unsupported
from pcalm_conformance.guest import InProcess
from pcalm_conformance.implementations import numpy_loop
from pcalm_conformance.problems import ACTIVATIONS, Recipe
from pcalm_conformance.protocol import Problem, Solution
from pcalm_conformance.requirements import METHODS, NEEDS, REQUIREMENTS, Requirement

checking.load_tests()
EVERY = pytest.mark.parametrize("requirement", REQUIREMENTS.values(), ids=lambda requirement: requirement.id)
# As text in one order: workers must collect the same tests, and sets are printed in any order.
CLAUSES = [(one.id, " or ".join(sorted(clause))) for one in REQUIREMENTS.values() for clause in one.clauses]
# These choose the methods by what is supported; training takes too long to be run here.
CHOOSING = ("DYN-10", "DYN-12", "NUM-2", "NUM-9")
SEEN = [one for one in TESTS if one not in CHOOSING and TESTS[one].cases(QUICK)]


@pytest.fixture(scope="module")
def asked() -> dict[str, list[set[str]]]:
    """Requirement → the words that each case of the quick level needs."""
    found: dict[str, list[set[str]]] = {}
    for identity in SEEN:
        for case in TESTS[identity].cases(QUICK):
            counted = census.Counted(numpy_loop.impl)
            check = Check(InProcess(counted), REQUIREMENTS[identity], QUICK)
            TESTS[identity].function(check, case.but(dtype=case.dtype or "float64"))
            found.setdefault(identity, []).append(counted.words)
    return found


@EVERY
def test_needs_are_words_of_the_list(requirement: Requirement) -> None:
    assert set().union(*requirement.clauses) <= set(NEEDS)


@pytest.mark.parametrize("identity", SEEN)
def test_no_case_does_without_what_is_needed(identity: str, asked: dict[str, list[set[str]]]) -> None:
    assert all(clause & case for clause in REQUIREMENTS[identity].clauses for case in asked[identity])


@pytest.mark.parametrize("identity", SEEN)
def test_what_every_case_needs_is_declared(identity: str, asked: dict[str, list[set[str]]]) -> None:
    always = set.intersection(*asked[identity]) - {"float64"}  # which --dtype decides
    # Of activations there are more at the other levels.
    always -= set(ACTIVATIONS) - set.intersection(*({case.activation} for case in TESTS[identity].cases(DEFAULT)))
    assert always <= set().union(*(clause for clause in REQUIREMENTS[identity].clauses if len(clause) == 1))


@pytest.mark.parametrize("identity", SEEN)
def test_what_is_declared_is_enough(identity: str, asked: dict[str, list[set[str]]]) -> None:
    """For one case at least, whichever alternative is supported."""
    clauses = REQUIREMENTS[identity].clauses
    mentioned = set().union(*clauses)
    free = {"float32", "float64"} | (set() if mentioned & set(ACTIVATIONS) else set(ACTIVATIONS))
    free |= set() if {word for word in mentioned if word.startswith("credit")} else {"credit before"}
    choices = [set(choice) for choice in itertools.product(*clauses)]
    for word in mentioned:
        assert any(case <= choice | free for case in asked[identity] for choice in choices if word in choice), word


@dataclass
class Without:
    """Supports no problem that needs one of the words, and must never be given one."""

    words: frozenset[str]
    name: str = "without"

    def supports(self, problem: Problem) -> bool:
        return not self.words & census.words(problem)

    def solve(self, problem: Problem) -> Solution:
        raise AssertionError("asked to solve a problem of a requirement that it does not support")


@pytest.mark.parametrize(("identity", "clause"), CLAUSES, ids=str)
def test_nothing_is_loaded_or_solved_where_it_is_not_supported(
    identity: str, clause: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(name: str) -> None:
        raise AssertionError(f"{name} was loaded before the implementation was asked")

    monkeypatch.setattr(problems, "dataset", load)
    check = Check(
        InProcess(Without(frozenset(clause.split(" or ")))),
        REQUIREMENTS[identity],
        QUICK if TESTS[identity].cases(QUICK) else "full",
    )
    with pytest.raises(Unsupported):
        TESTS[identity].run(check)


@pytest.mark.parametrize("method", METHODS)
def test_a_single_method_passes_wherever_any_will_do(method: str) -> None:
    subject, answers = InProcess(census.Counted(numpy_loop.impl, [method])), Answers()
    for identity in ("MOD-4", "MOD-5", "MOD-6", "MOD-7", "NUM-2", "NUM-3", "NUM-4", "NUM-6", "NUM-7", "NUM-9"):
        check = Check(subject, REQUIREMENTS[identity], QUICK, answers=answers)
        TESTS[identity].run(check)
        assert check.cases, identity


def test_few_programs_are_to_be_compiled() -> None:
    """The goals of the suite's guide; every signature costs a compiling implementation up to a second."""
    everything = census.count(numpy_loop.impl).signatures
    assert len(everything) <= 120
    assert len(census.count(numpy_loop.impl, methods=("bp", "pc")).signatures) <= 60


def test_no_problem_is_solved_for_two_requirements() -> None:
    solved = []

    class Remembers(census.Counted):
        def solve(self, problem: Problem) -> Solution:
            solved.append(problem)
            return numpy_loop.impl.solve(problem)

    subject, answers = InProcess(Remembers(numpy_loop.impl)), Answers()
    for identity in ("MOD-1", "MOD-2", "LIN-1", "LIN-2", "LIN-3", "LIN-4", "CRD-1", "CRD-2"):
        TESTS[identity].run(Check(subject, REQUIREMENTS[identity], QUICK, answers=answers))
    keys = [
        (census.signature(one), one.steps, one.credit, one.anchor, one.penalty, one.inputs.tobytes()) for one in solved
    ]
    assert len(keys) == len(set(keys))


def test_gradients_too_large_to_keep_are_asked_for_once() -> None:
    """On the whole grid those of one budget have 147 MiB; here none is kept."""
    counted = census.Counted(numpy_loop.impl)
    subject, answers = InProcess(counted), Answers(most=0)
    solves = []
    for identity in ("ALN-1", "ALN-2", "ALN-3"):
        before = counted.solves
        TESTS[identity].run(Check(subject, REQUIREMENTS[identity], QUICK, answers=answers))
        solves.append(counted.solves - before)
    cells = len(TESTS["ALN-1"].cases(QUICK))
    assert solves == [3 * cells, cells, 0]  # L, 2L and 4L, then PC at 2L


def test_repetition_is_not_saved_where_it_is_tested() -> None:
    counted = census.Counted(numpy_loop.impl)
    subject, answers = InProcess(counted), Answers()
    for identity in ("NUM-2", "NUM-3", "NUM-9"):
        before = []
        for _ in range(2):
            solved = counted.solves
            TESTS[identity].run(Check(subject, REQUIREMENTS[identity], QUICK, answers=answers))
            before.append(counted.solves - solved)
        assert before[0] == before[1] > 0


def test_outlines_have_the_shapes_and_settings_of_the_problems() -> None:
    written = {case for test in TESTS.values() for case in test.cases(QUICK) if isinstance(case, Recipe)}
    written |= {Recipe(start="basis", batch=1), Recipe(samples=(2, 0), duplicates=2, start="random")}
    for recipe in written:
        outline, problem = recipe.outline(), recipe.problem()
        assert census.signature(outline) == census.signature(problem)
        assert census.words(outline) == census.words(problem)
