"""The catalogue is whole: every requirement has one test and every test its requirement, and all say what they must."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections import UserDict
from collections.abc import Mapping
from pathlib import Path

import pytest
from pcalm_conformance import checking, kill_matrix
from pcalm_conformance.checking import LEVELS, TESTS, Check, covers
from pcalm_conformance.guest import InProcess
from pcalm_conformance.implementations import numpy_loop
from pcalm_conformance.requirements import CHAPTERS, REQUIREMENTS, Requirement

checking.load_tests()
CHAPTER_FILES = sorted(Path(kill_matrix.__file__).parent.glob("test_*.py"))
EVERY = pytest.mark.parametrize("requirement", REQUIREMENTS.values(), ids=lambda requirement: requirement.id)


def test_requirements_and_tests_match_one_to_one() -> None:
    assert set(TESTS) == set(REQUIREMENTS)
    with pytest.raises(ValueError, match="requirement MOD-1 has two tests"):
        covers("MOD-1", lambda level: [])(lambda check, case: None)


def test_every_test_function_of_the_chapters_covers_a_requirement() -> None:
    """A test without a requirement would count for nothing and be seen by nobody."""
    written = {name for file in CHAPTER_FILES for name in re.findall(r"^def (test_\w+)", file.read_text(), re.M)}
    assert written == {test.function.__name__ for test in TESTS.values()}


def test_chapters_are_the_files_in_order() -> None:
    numbers = [int(name.split(" · ")[0]) for name in CHAPTERS.values()]
    assert numbers == list(range(1, len(CHAPTER_FILES) + 1))
    for number, file in zip(numbers, CHAPTER_FILES, strict=True):
        assert file.name.startswith(f"test_{number}_")
    prefixes = list(dict.fromkeys(identity.split("-")[0] for identity in REQUIREMENTS))
    assert prefixes == list(CHAPTERS)


def test_ids_count_up_within_each_chapter() -> None:
    for prefix in CHAPTERS:
        numbers = [int(identity.split("-")[1]) for identity in REQUIREMENTS if identity.startswith(prefix + "-")]
        assert numbers == list(range(1, len(numbers) + 1))


@EVERY
def test_requirement_says_everything(requirement: Requirement) -> None:
    assert requirement.claim.endswith(".")
    assert requirement.claim.count(". ") == 0, "one sentence"
    assert requirement.source.startswith(("the paper", "derived", "extension"))
    assert requirement.needs
    assert requirement.bound
    assert requirement.origin


@EVERY
def test_test_lies_in_the_file_of_its_chapter(requirement: Requirement) -> None:
    number = CHAPTERS[requirement.id.split("-")[0]].split(" · ")[0]
    assert TESTS[requirement.id].function.__module__.startswith(f"pcalm_conformance.test_{number}_")


def test_builds_on_names_requirements() -> None:
    assert {cause for requirement in REQUIREMENTS.values() for cause in requirement.builds_on} <= set(REQUIREMENTS)


def test_builds_on_has_no_circles() -> None:
    done: set[str] = set()
    while len(done) < len(REQUIREMENTS):
        ready = {i for i, requirement in REQUIREMENTS.items() if i not in done and set(requirement.builds_on) <= done}
        assert ready, f"a circle among {sorted(set(REQUIREMENTS) - done)}"
        done |= ready


class Read(UserDict[str, float]):
    """Limits that remember which of them were looked up."""

    def __init__(self, limits: Mapping[str, float]) -> None:
        super().__init__(limits)
        self.seen: set[str] = set()

    def __getitem__(self, name: str) -> float:
        self.seen.add(name)
        return super().__getitem__(name)


@pytest.mark.parametrize("requirement", [one for one in REQUIREMENTS.values() if one.limits], ids=lambda one: one.id)
def test_limits_are_what_the_test_reads(requirement: Requirement) -> None:
    """Numbers of the catalogue that the test does not read would be promises that nobody keeps."""
    test, limits = TESTS[requirement.id], Read(requirement.limits)
    if not test.cases("quick"):  # training: too long to run here
        source = inspect.getsource(test.function)
        assert [name for name in limits if f'limits["{name}"]' not in source] == []
        return
    seen = limits.seen
    for dtype in ("float64", "float32"):
        test.run(
            Check(
                InProcess(numpy_loop.impl), dataclasses.replace(requirement, limits=limits), dtype=dtype, level="quick"
            )
        )
        if seen == set(limits):
            break
    assert seen == set(limits)


@EVERY
def test_cases_grow_with_the_level(requirement: Requirement) -> None:
    sizes = [len(TESTS[requirement.id].cases(level)) for level in LEVELS]
    assert sizes == sorted(sizes)
    assert sizes[-1] > 0


@EVERY
def test_oracle_is_declared_where_it_is_compared_with(requirement: Requirement) -> None:
    """`oracle` decides what counts as a claim that stands on its own."""
    compares = "oracle.solve(problem), problem" in inspect.getsource(TESTS[requirement.id].function)
    assert compares <= requirement.oracle
