"""The repository itself: what is tracked, and that its files agree with each other."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pcalm_conformance
import pytest
from packaging.requirements import Requirement

import pcalm
from benchmarks.repository import GitError, git

ROOT = Path(__file__).parents[1]
MAKEFILE = (ROOT / "Makefile").read_text()
PROJECT, SUITE = (
    tomllib.loads((ROOT / folder / "pyproject.toml").read_text())["project"] for folder in ("", "conformance")
)


@pytest.fixture(scope="module")
def tracked() -> list[Path]:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: there is no list of tracked files")
    try:
        listed = git(ROOT, "ls-files", "-z")
    except GitError as error:
        pytest.skip(f"there is no list of tracked files: {error}")
    files = [ROOT / name for name in listed.split("\0") if name]
    return [file for file in files if file.is_file()]


def test_tracked_files_are_small(tracked: list[Path]) -> None:
    """A record of a run is one to two KiB, most of it which test images it got right; the grids have some 700."""
    limits = {ROOT / "reports" / "data" / "training.csv": 2048}
    assert [file for file in tracked if file.stat().st_size > 1024 * limits.get(file, 512)] == []


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


def install(place: Path, python: Path | str) -> subprocess.CompletedProcess[str]:
    """`make`, asked for an environment in `place` with that Python."""
    command = ["make", "--no-print-directory", f"VENV={place}", f"PYTHON={python}", f"{place}/.installed"]
    return subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)


def program(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(("#!/bin/sh", *lines, "")))
    path.chmod(0o755)
    return path


def test_make_takes_a_python_whose_path_has_spaces(tmp_path: Path) -> None:
    """Stand-ins, since true ones would download the project's requirements: they answer 3.12 to everything."""
    venv, log = tmp_path / "venv", tmp_path / "log"
    python = program(tmp_path / "with a space" / "python3", f'echo "$@" >>"{log}"', "echo 3.12")
    program(venv / "bin" / "python", "echo 3.12")
    done = install(venv, python)
    assert done.returncode == 0, done.stderr
    assert (venv / ".installed").exists()
    assert log.read_text().splitlines()[-1] == f"-m venv {venv}"


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["exit 1"], "does not run as a Python"),
        (["exit 0"], "does not run as a Python"),
        (['case "$1" in -c) echo 3.10 ;; *) echo Python 3.10.2 ;; esac'], "is Python 3.10.2"),
    ],
)
def test_make_says_in_a_sentence_that_a_python_does_not_do(tmp_path: Path, lines: list[str], words: str) -> None:
    python = program(tmp_path / "python3", *lines)
    done = install(tmp_path / "venv", python)
    assert done.returncode != 0
    sentence = f"pcalm needs Python >= 3.11, but '{python}' {words}; name another with: make PYTHON=python3.12 ..."
    assert done.stderr.splitlines()[0] == sentence
    assert not (tmp_path / "venv").exists()


def test_make_does_not_use_another_python_than_was_asked_for(tmp_path: Path) -> None:
    program(tmp_path / "venv" / "bin" / "python", "echo Python 3.11.7")
    done = install(tmp_path / "venv", python := program(tmp_path / "python3", "echo Python 3.12.1"))
    assert done.returncode != 0
    sentence = f"{tmp_path}/venv has Python 3.11.7, which '{python}' is not; make clean removes it"
    assert done.stderr.splitlines()[0] == sentence


def test_version_is_the_same_everywhere() -> None:
    cited = re.search(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    newest = re.search(r"^## \[(.*?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert cited is not None
    assert newest is not None
    assert cited[1] == newest[1] == pcalm.__version__ == pcalm_conformance.__version__


def test_both_distributions_say_the_same_of_themselves() -> None:
    for name in ("license", "authors", "requires-python", "urls", "keywords"):
        assert PROJECT[name] == SUITE[name], name
    cited = re.findall(r"^  - name: (.*)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    assert [author["name"] for author in PROJECT["authors"]] == cited
    assert (ROOT / "LICENSE").read_bytes() == (ROOT / "conformance" / "LICENSE").read_bytes()


def test_classifiers_name_the_pythons_that_are_tested() -> None:
    workflow = (ROOT / ".github" / "workflows" / "test.yml").read_text()
    (matrix,) = re.findall(r"^ +python: \[(.*)\]$", workflow, re.MULTILINE)
    tested = [f"Programming Language :: Python :: {version}" for version in re.findall(r"[\d.]+", matrix)]
    for project in (PROJECT, SUITE):
        assert [text for text in project["classifiers"] if re.search(r"\d\.\d+$", text)] == tested
        assert tested[0].endswith(project["requires-python"].removeprefix(">="))


def test_constraints_pin_what_the_project_asks_for() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    groups = (PROJECT["dependencies"], *PROJECT["optional-dependencies"].values(), SUITE["dependencies"])
    required = [Requirement(text) for group in groups for text in group]
    for requirement in required:
        if requirement.name not in ("pcalm", "triton"):
            assert requirement.specifier.contains(pins[requirement.name]), requirement.name
