"""The suite rejects what it should: every mutant by each requirement made for it, and every requirement some mutant."""

from __future__ import annotations

import difflib
import inspect
import json

import pytest
from pcalm_conformance import checking, kill_matrix
from pcalm_conformance.checking import TESTS
from pcalm_conformance.implementations import numpy_loop, numpy_tiles
from pcalm_conformance.mutants import MUTANTS, WITHOUT_MUTANT, Mutant
from pcalm_conformance.requirements import REQUIREMENTS

checking.load_tests()
SOURCES = {module.__name__.split(".")[-1]: inspect.getsource(module) for module in (numpy_loop, numpy_tiles)}
PAIRS = [(mutant.id, requirement) for mutant in MUTANTS.values() for requirement in mutant.killed_by]


@pytest.mark.parametrize(("mutant", "requirement"), PAIRS, ids=lambda value: value)
def test_mutant_is_rejected(mutant: str, requirement: str) -> None:
    error = kill_matrix.rejects(requirement, mutant)
    assert error is not None, f"{requirement} lets {mutant} through: {MUTANTS[mutant].mistake}"


def test_every_requirement_rejects_a_mutant_or_says_why_not() -> None:
    matrix = json.loads(kill_matrix.OUTPUT.read_text(encoding="utf-8"))
    tried = {requirement for mutant in MUTANTS.values() for requirement in mutant.killed_by}
    rejecting = tried | {requirement for row in matrix["mutants"].values() for requirement in row["killed_by"]}
    assert rejecting | set(WITHOUT_MUTANT) == set(REQUIREMENTS)
    assert not tried & set(WITHOUT_MUTANT)


def test_the_committed_matrix_is_of_these_mutants_and_requirements() -> None:
    matrix = json.loads(kill_matrix.OUTPUT.read_text(encoding="utf-8"))
    stale = "the kill matrix is stale: make mutants"
    assert list(matrix["requirements"]) == list(REQUIREMENTS), stale
    assert {name: row["mistake"] for name, row in matrix["mutants"].items()} == {
        mutant.id: mutant.mistake for mutant in MUTANTS.values()
    }, stale
    for mutant in MUTANTS.values():
        assert set(mutant.killed_by) <= set(matrix["mutants"][mutant.id]["killed_by"]), f"{mutant.id}: {stale}"


@pytest.mark.parametrize("mutant", MUTANTS.values(), ids=lambda mutant: mutant.id)
def test_mutant_is_one_line_away(mutant: Mutant) -> None:
    changes = difflib.ndiff(SOURCES[mutant.base].splitlines(), mutant.source().splitlines())
    marks = [line[0] for line in changes if line[0] in "+-"]
    assert marks in (["-", "+"], ["+", "-"], ["+"], ["-"])
    assert mutant.mistake
    assert mutant.killed_by


def test_there_are_mutants_of_every_kind() -> None:
    assert len(MUTANTS) >= 40
    assert sum(mutant.blind for mutant in MUTANTS.values()) >= 15
    assert sum(mutant.corner for mutant in MUTANTS.values()) >= 20


def test_a_mutant_whose_place_has_gone_says_so() -> None:
    lost = Mutant("lost", "none", "no such line", "", "", ("MOD-1",))
    with pytest.raises(ValueError, match=r"mutant lost: .* must occur once in numpy_loop\.py"):
        lost.build()


def test_a_right_implementation_is_not_rejected() -> None:
    """The harness itself: what it calls rejected must come from the mistake."""
    right = Mutant("right", "none", "impl = NumpyLoop()", "NumpyLoop()", "NumpyLoop()", ())
    MUTANTS["right"] = right
    try:
        assert [r for r in ("MOD-1", "ENE-2", "DYN-2", "SPC-1", "NUM-2") if kill_matrix.rejects(r, "right")] == []
    finally:
        del MUTANTS["right"]


def test_levels_are_the_quickest_with_cases() -> None:
    assert kill_matrix.level_of("MOD-1") == "quick"
    assert kill_matrix.level_of("TRN-1") == "default"
    assert set(TESTS) == set(REQUIREMENTS)
