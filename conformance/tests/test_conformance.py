"""The suite as its users run it: a pytest process per test, on adapters that are right, wrong, or worse than wrong."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pcalm_conformance import catalogue, plugin, records
from pcalm_conformance.records import Record
from pcalm_conformance.requirements import REQUIREMENTS

ROOT = Path(__file__).parents[1]
ADAPTERS = """
import os, time
import numpy as np
import psutil
from pcalm_conformance import oracle
from pcalm_conformance.protocol import Solution


def cast(found, dtype):
    gradients = [g.astype(dtype) for g in found.gradients]
    return Solution(found.activities.astype(dtype), found.multipliers.astype(dtype), gradients)


class Right:
    name = "right"
    def solve(self, problem):
        return cast(oracle.solve(problem), problem.dtype)


class Only(Right):
    def __init__(self, name, wanted):
        self.name, self.wanted = name, wanted
    def supports(self, problem):
        return self.wanted(problem)


class Broken(Right):
    def __init__(self, name, spoil):
        self.name, self.spoil = name, spoil
    def solve(self, problem):
        return self.spoil(problem, super().solve(problem))


def spoil_nan(problem, found):
    found.activities[-1, 0, 0] = np.nan
    return found

def spoil_hang(problem, found):
    time.sleep(3600)

def spoil_crash(problem, found):
    os.kill(os.getpid(), 11)

def spoil_memory(problem, found):
    hoard = np.ones(1 << 27)  # 1 GiB
    time.sleep(3600)

def spoil_inputs(problem, found):
    problem.inputs[:] = 0
    return found

def spoil_raise(problem, found):
    raise RuntimeError("no such luck")

def spoil_judge(problem, found):
    if problem.method == "pc":
        os.kill(psutil.Process(os.getppid()).ppid(), 9)  # above it is what keeps watch, and then the suite
    return found

def spoil_late(problem, found):
    if problem.method == "pc":
        raise RuntimeError("too late" + "!" * 10_000)
    return found

right = Right()
kills = Broken("kills", spoil_judge)
late = Broken("late", spoil_late)
same_name = Right()
bp_only = Only("bp-only", lambda problem: problem.method == "bp")
partial = Only("partial", lambda problem: problem.activation == "relu")
nothing = Only("nothing", lambda problem: False)
forgetful = Only("forgetful", lambda problem: None)
nan = Broken("nan", spoil_nan)
hang = Broken("hang", spoil_hang)
crash = Broken("crash", spoil_crash)
memory = Broken("memory", spoil_memory)
writes = Broken("writes", spoil_inputs)
raises = Broken("raises", spoil_raise)
shape = Broken("shape", lambda problem, found: Solution(found.activities[:-1], found.multipliers, found.gradients))
dtype = Broken("dtype", lambda problem, found: cast(found, "float16"))
void = Broken("void", lambda problem, found: None)
sign = Broken("sign", lambda problem, found: Solution(found.activities, -found.multipliers, found.gradients))
no_solve = object()
no_instance = Right
two_arguments = Right()
two_arguments.solve = lambda problem, steps: None
"""


@pytest.fixture
def suite(tmp_path: Path) -> Any:
    """Runs the suite on adapters of tmp_path/adapters.py; gives the exit status, the output and the records."""
    (tmp_path / "adapters.py").write_text(ADAPTERS)

    def run(*arguments: str, level: str = "--quick") -> tuple[int, str, dict[str, Record]]:
        report = tmp_path / "report.json"
        command = [sys.executable, "-m", "pytest", str(ROOT), "-p", "no:cacheprovider", "-q", level]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        done = subprocess.run(
            [*command, "--report", str(report), *arguments],
            cwd=tmp_path,
            env=environment | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        content = json.loads(report.read_text(encoding="utf-8")) if report.exists() else {"records": []}
        found = {
            f"{record['implementation']}/{record['requirement']}": Record(
                **{name: record[name] for name in Record.__dataclass_fields__}
            )
            for record in content["records"]
        }
        return done.returncode, done.stdout + done.stderr, found

    return run


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ("adapters", "must be MODULE:NAME"),
        ("no_such_module:impl", "cannot import 'no_such_module'"),
        ("adapters:no_such_name", "module 'adapters' has no 'no_such_name'"),
        ("adapters:no_solve", "'no_solve' has no solve(problem)"),
        ("adapters:no_instance", "'no_instance' is a class, and its solve() needs an instance: name one"),
        ("adapters:two_arguments", "solve(problem) must take one argument, is solve(problem, steps)"),
    ],
)
def test_what_cannot_be_loaded_ends_the_run_with_one_sentence(suite: Any, spec: str, sentence: str) -> None:
    status, output, found = suite("--implementation", spec)
    assert status == 4
    assert sentence in output
    assert "Traceback" not in output
    assert not found


def test_right_and_wrong_side_by_side(suite: Any, tmp_path: Path) -> None:
    arguments = [
        f"--implementation=adapters:{name}" for name in ("right", "sign", "bp_only", "nan", "shape", "dtype", "void")
    ]
    broken = [f"--implementation=adapters:{name}" for name in ("raises", "writes", "forgetful")]
    status, output, found = suite(
        *arguments, *broken, "--requirement", "DYN-9", "--requirement", "NUM-3", "--markdown", "table.md"
    )
    assert status == 1
    assert found["right/DYN-9"].verdict == found["right/NUM-3"].verdict == "passed"
    assert found["right/DYN-9"].figure is not None
    assert found["bp-only/DYN-9"].verdict == "unsupported"
    for name in ("sign", "nan", "shape", "dtype", "void", "raises", "forgetful"):
        assert found[f"{name}/DYN-9"].verdict == "failed", name
    for name, words in {
        "sign": "error of λ: measured",
        "nan": "activities must be finite, got 1 NaN",
        "shape": "activities must have shape",
        "dtype": "activities, multipliers, gradients[0] and 4 more must be float64, got float16",
        "void": "activities, multipliers, gradients missing in the NoneType that it returned",
        "raises": "solve() raised RuntimeError: no such luck",
        "forgetful": "supports() must return True or False, got None",
    }.items():
        assert words in found[f"{name}/DYN-9"].message, name
    assert found["writes/NUM-3"].verdict == "failed"
    assert "inputs of the problem: solve() must leave its arguments alone" in output
    table = (tmp_path / "table.md").read_text(encoding="utf-8")
    assert "| 3 · primal and dual dynamics" in table


def test_the_line_to_paste_runs_in_a_terminal(suite: Any, tmp_path: Path) -> None:
    _, output, found = suite("--implementation", "adapters:sign", "--requirement", "DYN-9")
    line = output.split("for a terminal here:\n")[1].splitlines()[0].strip()
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        line, shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 1, done.stderr
    assert found["sign/DYN-9"].message in done.stdout
    multipliers = next(text for text in done.stdout.splitlines() if "multipliers, l" in text)
    assert float(multipliers.split()[-1]) > 0.01


@pytest.mark.parametrize(
    ("name", "option", "words"),
    [
        ("hang", "--time-limit=1", "longer than 1 s"),
        ("crash", "--time-limit=60", "was killed by signal 11"),
        ("memory", "--memory-limit=0.8", "more than 0.8 GiB"),
    ],
)
def test_the_others_survive(suite: Any, name: str, option: str, words: str) -> None:
    arguments = ["--implementation", f"adapters:{name}", "--implementation", "adapters:right", "--requirement", "MOD-1"]
    status, _, found = suite(*arguments, "--requirement", "MOD-8", option)
    assert status == 1
    assert words in found[f"{name}/MOD-1"].message
    assert found[f"{name}/MOD-8"].verdict == "failed"
    assert found["right/MOD-1"].verdict == found["right/MOD-8"].verdict == "passed"


def test_passed_in_part_is_counted_apart(suite: Any, tmp_path: Path) -> None:
    arguments = ["--implementation", "adapters:partial", "--requirement", "MOD-1", "--requirement", "MOD-2"]
    status, output, found = suite(*arguments, "--markdown", "table.md")
    assert status == 0
    record, other = found["partial/MOD-1"], found["partial/MOD-2"]
    assert record.verdict == "passed in part"
    assert record.cases > 0
    assert record.left_out > 0
    assert record.message == f"{record.left_out} left out: unsupported"
    first, second = (f"({one.cases} of {one.cases + one.left_out})" for one in (record, other))
    assert re.search(rf"MOD-1 .* passed in part \({record.cases} of", output)
    for text in (output, (tmp_path / "table.md").read_text(encoding="utf-8")):
        assert f"2 passed in part only, the other cases were left out: MOD-1 {first}, MOD-2 {second}" in text
        assert "2/2 (2 passed in part)" in text


def test_a_failure_is_told_once_and_by_the_figure_that_failed(suite: Any) -> None:
    """DYN-3 solves a "pc" problem after figures that hold."""
    arguments = ["--implementation", "adapters:late", "--implementation", "adapters:sign"]
    status, output, found = suite(*arguments, "--requirement", "DYN-3", "--requirement", "DYN-9", "--tb=auto")
    assert status == 1
    late, sign = found["late/DYN-3"], found["sign/DYN-9"]
    assert (late.broke, late.figure, late.what) == (True, None, "")
    assert 1000 < len(late.message) < 3000
    assert "solve() raised RuntimeError: too late!!!" in late.message
    assert f"measured {sign.figure:.6g}, required <= {sign.bound:.6g}" in sign.message
    assert output.count(sign.message) == output.count("solve() raised RuntimeError: too late!!!") == 1
    assert "During handling" not in output
    assert "known mistakes" in output.split("DYN-9 · sign")[1]
    assert "known mistakes" not in output.split("DYN-3 · late")[1].split("DYN-9 · sign")[0]


def test_requirements_are_chosen_by_id(suite: Any) -> None:
    arguments = ["--implementation", "adapters:right", "--requirement", "MOD"]
    _, output, found = suite(*arguments, "-k", "MOD-8", "--durations=1", "-vv")
    assert set(found) == {"right/MOD-8"}
    assert "test_skip_chain[MOD-8-right]" in output.split("slowest")[1]
    _, _, found = suite(*arguments, "--skip-requirement", "mod-1", "--skip-requirement", "MOD-4")
    assert {identity.removeprefix("right/MOD-") for identity in found} == set("235678")
    status, output, _ = suite(*arguments, "--skip-requirement", "MOD-11")
    assert status == 4
    assert "--skip-requirement MOD-11: no such requirement" in output


def test_a_run_that_is_killed_leaves_what_it_found(suite: Any, tmp_path: Path) -> None:
    """The adapter ends the suite at the first "pc" problem."""
    _, _, found = suite("--implementation", "adapters:kills", "--requirement", "MOD-1", "--requirement", "ENE-1")
    assert {identity: record.verdict for identity, record in found.items()} == {"kills/MOD-1": "passed"}
    content = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert content["complete"] is False
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".part")] == []


def test_nothing_supported_is_an_error(suite: Any) -> None:
    status, output, found = suite("--implementation", "adapters:nothing", "--requirement", "MOD")
    assert status == 5
    assert f"nothing was tested: {len(found)} unsupported" in output
    assert {record.verdict for record in found.values()} == {"unsupported"}


def test_workers_share_no_chapter() -> None:
    name = "conformance/pcalm_conformance/test_8_training.py::test_pc_does_not[TRN-2-my-own]"
    assert plugin.share_of(name) == plugin.share_of(name.replace("TRN-2", "TRN-1")) == "TRN my-own"
    assert plugin.share_of(name.replace("TRN-2", "TRN-3")) == "TRN-3 my-own"


def test_known_failures(suite: Any, tmp_path: Path) -> None:
    (tmp_path / "known").write_text("DYN-9  # not yet\nMOD-1\n")
    arguments = ["--implementation", "adapters:sign", "--requirement", "MOD-1", "--requirement", "DYN-9"]
    status, output, found = suite(*arguments, "--xfails", "known", "-n", "2")
    assert status == 0
    assert found["sign/DYN-9"].verdict == "xfailed"
    assert found["sign/MOD-1"].verdict == "xpassed"
    assert "passed although listed in --xfails: MOD-1" in output
    (tmp_path / "known").write_text("DYN-99\n")
    status, output, _ = suite(*arguments, "--xfails", "known")
    assert status == 4
    assert "no such requirements: DYN-99" in output


def test_options_that_narrow(suite: Any) -> None:
    status, output, _ = suite("--implementation", "adapters:right", "--requirement", "XYZ")
    assert status == 4
    assert "--requirement XYZ: no such requirement" in output
    status, output, found = suite("--implementation", "adapters:right", "--requirement", "MOD-1", "--max-depth", "4")
    assert status == 5
    assert found["right/MOD-1"].verdict == "not run"
    assert found["right/MOD-1"].message == "deeper than 4"
    assert "nothing was tested: 1 deeper than 4" in output
    status, output, _ = suite("--implementation", "adapters:right", "--requirement", "LIN", "--skip-requirement", "LIN")
    assert status == 4
    assert "--skip-requirement LIN: no requirement is left to be tested" in output
    arguments = ["--implementation", "adapters:right", "--implementation", "adapters:same_name"]
    status, output, _ = suite(*arguments, "--requirement", "MOD-1")
    assert status == 4
    assert "two implementations are named 'right'" in output


def test_failures_that_follow_are_explained() -> None:
    found = [Record(identity, "x", "failed") for identity in ("DYN-9", "DYN-1", "ALN-1")] + [
        Record("MOD-1", "x", "passed")
    ]
    records.explain(found)
    follows = {record.requirement: record.follows_from for record in found}
    assert follows == {"DYN-9": [], "DYN-1": ["DYN-9"], "ALN-1": ["DYN-1", "DYN-9"], "MOD-1": []}


def test_the_readme_has_the_present_catalogue() -> None:
    text = catalogue.README.read_text(encoding="utf-8")
    assert catalogue.updated(text) == text, "run: make catalogue"
    assert all(identity in text for identity in REQUIREMENTS)
