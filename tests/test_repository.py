"""The repository itself: what is tracked, and that its files agree with each other."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import pcalm

ROOT = Path(__file__).parents[1]
MAKEFILE = (ROOT / "Makefile").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def tracked() -> list[Path]:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: there is no list of tracked files")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    files = [ROOT / name for name in listed.split("\0") if name]
    return [file for file in files if file.is_file()]


def test_tracked_files_are_small(tracked: list[Path]) -> None:
    assert {file.name: file.stat().st_size for file in tracked if file.stat().st_size > 512 * 1024} == {}


def test_no_paths_of_somebodys_machine(tracked: list[Path]) -> None:
    personal = re.compile(rb"(?<![\w.])/(?:home|root|Users|work)/\w+")
    assert {file.name: found for file in tracked if (found := personal.findall(file.read_bytes()))} == {}


def test_make_commands_in_the_documents_exist(tracked: list[Path]) -> None:
    targets = set(re.findall(r"^([a-z][a-z-]*):", MAKEFILE, re.MULTILINE))
    for document in (file for file in tracked if file.suffix == ".md"):
        used = re.findall(
            r"^(?:\$ )?make (?:PYTHON=\S+ )?([a-z-]+)|`make ([a-z-]+)`", document.read_text(), re.MULTILINE
        )
        assert {a or b for a, b in used} <= targets, document.name


def test_make_help_lists_every_command() -> None:
    phony = re.search(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)
    assert phony is not None
    shown = subprocess.run(
        ["make", "--no-print-directory", "help"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    assert re.findall(r"^ +make (\S+) +\S", shown.stdout, re.MULTILINE) == phony[1].split()


def test_version_is_the_same_everywhere() -> None:
    cited = re.search(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    assert cited is not None
    assert cited[1] == pcalm.__version__


def test_constraints_pin_what_the_project_asks_for() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    extras = PROJECT["optional-dependencies"].values()
    required = [Requirement(text) for group in (PROJECT["dependencies"], *extras) for text in group]
    for requirement in required:
        if requirement.name not in ("pcalm", "triton"):
            assert requirement.specifier.contains(pins[requirement.name]), requirement.name
