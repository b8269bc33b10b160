"""What a failure tells: the hint is the mistake that was made, and the line to paste shows the problem that failed."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pcalm_conformance import checking, kill_matrix, records, replay
from pcalm_conformance.checking import LEVELS, TESTS, Answers, Check, Measurement
from pcalm_conformance.guest import InProcess
from pcalm_conformance.mutants import MUTANTS
from pcalm_conformance.problems import Recipe
from pcalm_conformance.protocol import Problem, Solution

checking.load_tests()
QUICK = [identity for identity, test in TESTS.items() if test.cases("quick")]
MATRIX = json.loads(kill_matrix.OUTPUT.read_text(encoding="utf-8"))["mutants"]
ADAPTER = """
from pcalm_conformance.mutants import MUTANTS

def __getattr__(name):
    if name not in MUTANTS:
        raise AttributeError(name)
    return MUTANTS[name].build()
"""


@dataclass
class Partial:
    """A mutant that supports only part."""

    mutant: Any
    supports: Callable[[Problem], bool]
    name: str = "partial"

    def solve(self, problem: Problem) -> Solution:
        return self.mutant.solve(problem)


def found_by_the_suite(mutant: str, supports: Callable[[Problem], bool]) -> list[records.Record]:
    subject, answers, found = InProcess(Partial(MUTANTS[mutant].build(), supports)), Answers(), []
    for requirement in QUICK:
        check, raised = Check(subject, TESTS[requirement].requirement, "quick", answers=answers), None
        try:
            TESTS[requirement].run(check)
        except Exception as error:
            raised = error
        found.append(records.judged(check, raised))
    return found


@pytest.mark.parametrize(
    ("mutant", "supports"),
    [
        ("step-batch-mean", lambda problem: problem.method != "pcalm"),
        ("blocks-hidden", lambda problem: problem.initial is None and problem.anchor == 0),
    ],
    ids=["bp and pc", "no initial state, no anchor"],
)
def test_the_first_hint_is_the_mistake(mutant: str, supports: Callable[[Problem], bool]) -> None:
    """Also where much of the suite never ran."""
    found = found_by_the_suite(mutant, supports)
    assert any(record.verdict == "unsupported" for record in found)
    assert records.likely_mistakes(found)[0] == MUTANTS[mutant].mistake


def test_a_breakdown_is_no_evidence() -> None:
    found = [records.Record("MOD-5", "x", "failed", broke=True), records.Record("MOD-1", "x", "passed")]
    assert records.likely_mistakes(found) == []


def mutant_for(requirement: str) -> str:
    """One that the requirement rejects, made for it if there is one."""
    made = [mutant.id for mutant in MUTANTS.values() if requirement in mutant.killed_by]
    return (made or [mutant for mutant, row in MATRIX.items() if requirement in row["killed_by"]])[0]


@pytest.mark.parametrize("requirement", QUICK)
def test_the_line_to_paste_shows_what_failed(
    requirement: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mutant = mutant_for(requirement)
    error = kill_matrix.rejects(requirement, mutant)
    assert error is not None
    assert error.case is not None
    assert error.recipe is not None
    (tmp_path / "mutated.py").write_text(ADAPTER)
    monkeypatch.syspath_prepend(tmp_path)
    words = shlex.split(replay.command(f"mutated:{mutant}", requirement, error.case.settings()))
    assert replay.main(words[words.index("pcalm_conformance.replay") + 1 :]) == 1
    output = capsys.readouterr().out
    if isinstance(error.found, Measurement):  # but for the figure, which one mutant draws at random
        assert error.found.what in output
        assert repr(error.recipe) in output
    else:
        assert error.found in output


def test_settings_are_read_as_they_are_written() -> None:
    written = {case for test in TESTS.values() for level in LEVELS for case in test.cases(level)}
    recipes = [case for case in written if isinstance(case, Recipe)]
    recipes += [Recipe(samples=(3, 1), nudged=(2, -1e-5), scale=2.0**-10, start="basis")]
    assert all(Recipe.of(recipe.settings()) == recipe for recipe in recipes)
    with pytest.raises(ValueError, match="settings are NAME=VALUE"):
        Recipe.of(["depht=3"])


def test_a_case_that_holds_is_said_to(capsys: pytest.CaptureFixture[str]) -> None:
    assert replay.main(["pcalm_conformance.implementations.numpy_loop:impl", "MOD-8", "method=bp", "blocks=zero"]) == 0
    assert "it holds" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        replay.main(["pcalm_conformance.implementations.numpy_loop:nothing", "MOD-8"])
    assert "has no 'nothing'" in capsys.readouterr().err
