"""The documents tell the truth: their Python and shell blocks run, and what they link to and name is there."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from pcalm_conformance.implementations import numpy_loop

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted(
    path.relative_to(ROOT).as_posix()
    for place in ("*.md", "docs/**/*.md", "conformance/*.md", "benchmarks/*.md")
    for path in ROOT.glob(place)
)
BLOCK = re.compile(r"^```(python|bash|shell|sh)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^(?:    |\$ ?)(?:make|pytest|pcalm\S*|python\S*|pip|git|\.venv/\S+|export) ", re.MULTILINE)

# What would take minutes is run with more arguments that cut it down, or not at all, with the reason.
CUT = {
    r"(\.venv/bin/)?pytest ": ("--collect-only -q", "takes minutes: collecting reads the options and finds the tests"),
    r"pcalm-conformance (?!compare)": ("--requirement MOD-1", "takes half a minute: one requirement of all"),
    r"pcalm-conformance compare ": (
        "--suite none --cells 4x3 --batch 2 --rounds 1",
        "takes minutes: the smallest cell",
    ),
}
NOT_RUN = {
    r"make ": "what it does has tests of its own; test_repository.py looks for the targets",
    r"\.venv/bin/(mypy|asv) ": "make lint and tests/benchmarks run them",
    r"\.venv/bin/python -m benchmarks\.compare ": "its files come from a run of hours; tests/benchmarks has such files",
}


class Block(NamedTuple):
    language: str
    text: str


def blocks(document: str) -> Iterator[Block]:
    for language, text in BLOCK.findall((ROOT / document).read_text(encoding="utf-8")):
        yield Block("python" if language == "python" else "shell", text)


def commands(text: str) -> list[str]:
    """The commands of a block that are to be run, cut down where that is said above."""
    found = []
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if not words or any(re.match(pattern, line) for pattern in NOT_RUN):
            continue
        more = [arguments for pattern, (arguments, _) in CUT.items() if re.match(pattern, line)]
        found.append(" ".join([shlex.join(words), *more]))
    return found


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A directory in which the documents' commands work as in a checkout, and leave the checkout alone."""
    for name in ("benchmarks", "conformance", "pcalm", "tests", "pyproject.toml"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / ".venv").symlink_to(sys.prefix)
    adapter = Path(numpy_loop.__file__).read_text(encoding="utf-8")
    (tmp_path / "my_package").mkdir()
    for file in ("my_adapter.py", "my_package/adapter.py"):
        (tmp_path / file).write_text(adapter, encoding="utf-8")
    return tmp_path


def run(place: Path, *command: str) -> None:
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "PYTHONPATH"))}
    variables |= {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=place, env=variables, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"


@pytest.mark.parametrize("document", [name for name in DOCUMENTS if any(blocks(name))])
def test_blocks_run(document: str, checkout: Path) -> None:
    for block in blocks(document):
        if block.language == "python":
            run(checkout, sys.executable, "-c", block.text)
        for command in commands(block.text) if block.language == "shell" else []:
            run(checkout, "bash", "-euc", command)


def test_what_is_cut_or_not_run_is_in_the_documents() -> None:
    lines = [line for name in DOCUMENTS for block in blocks(name) for line in block.text.splitlines()]
    for pattern in (*CUT, *NOT_RUN):
        assert any(re.match(pattern, line) for line in lines), pattern


@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_stand_in_blocks_that_are_run(document: str) -> None:
    text = BLOCK.sub("", (ROOT / document).read_text(encoding="utf-8"))
    assert COMMAND.findall(text) == [], "put them between ```bash and ```"


# The links of the site's own pages are checked by its strict build.
@pytest.mark.parametrize(
    "document",
    [name for name in (*DOCUMENTS, "reports/results.md", "reports/performance.md") if not name.startswith("docs/")],
)
def test_links_lead_somewhere(document: str) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)\s]*)?\)", (ROOT / document).read_text(encoding="utf-8"))
    assert [t for t in targets if "://" not in t and not (ROOT / document).parent.joinpath(t).exists()] == []


def test_the_map_names_what_is_there_and_all_rooms() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (_, map_of_code) = text.split("## Find your way")
    paths = set(re.findall(r"`((?:pcalm|conformance|benchmarks|reports|tests|tools|docs)/[\w./*-]*)`", map_of_code))
    assert [path for path in paths if not any(ROOT.glob(path.rstrip("/")))] == []
    rooms = {f"{file.parent.relative_to(ROOT).as_posix()}/" for file in ROOT.glob("pcalm/*/*.py")}
    rooms |= {f"{name}/" for name in ("benchmarks", "conformance/tests", "docs", "reports", "tests", "tools")}
    assert rooms <= paths
