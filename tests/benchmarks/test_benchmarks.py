"""Every asv benchmark runs at its smallest size, and the suite is set up as it says."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from asv_runner.discovery import disc_benchmarks

from benchmarks import bench_blocks, bench_data, bench_training, problems
from benchmarks.verdict import RULES
from pcalm.engines import BLOCKS, MODULES, load
from pcalm.methods import METHODS

ROOT = Path(__file__).parents[2]
SMALLEST = {"width": 4, "depth": 8, "dataset": "digits"}
BATCH = 8


def combinations() -> Iterator[tuple[Any, tuple[Any, ...]]]:
    """Every benchmark, with every combination of the parameters that do not make it larger."""
    for benchmark in disc_benchmarks(str(ROOT / "benchmarks")):
        names = benchmark.param_names
        lists = [
            [SMALLEST[name]] if name in SMALLEST else values
            for name, values in zip(names, benchmark._params, strict=True)
        ]
        for chosen in itertools.product(*lists):
            yield benchmark, chosen


ALL = list(combinations())


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.bench_inference.MEMORY_BATCH", BATCH)
    monkeypatch.setattr(problems, "SGEMM", 8)
    monkeypatch.setattr(problems, "SHARE_S", 0.0)
    monkeypatch.setattr(bench_blocks, "BATCH", BATCH)
    monkeypatch.setattr(bench_blocks, "UPDATES", 2)
    monkeypatch.setattr(bench_training, "EPOCHS", 1)
    monkeypatch.setattr(bench_training, "DEPTH", SMALLEST["depth"])
    monkeypatch.setattr(bench_training, "WIDTH", SMALLEST["width"])


@pytest.mark.parametrize(
    ("benchmark", "chosen"), ALL, ids=[f"{benchmark.name}-{'-'.join(map(str, chosen))}" for benchmark, chosen in ALL]
)
def test_runs(benchmark: Any, chosen: tuple[Any, ...]) -> None:
    owner: Any = getattr(benchmark.func, "__self__", None)
    engine = str(dict(zip(benchmark.param_names, chosen, strict=True)).get("engine"))
    modules = next((each for each in (MODULES, BLOCKS) if engine in each), None)
    reason = load(engine, modules).unavailable(torch.device("cpu"), torch.float32) if modules else None
    if reason is not None:
        with pytest.raises(NotImplementedError, match=re.escape(reason)):
            owner.setup(*chosen)
        return
    if hasattr(owner, "setup"):
        owner.setup(*chosen)
    found = benchmark.func(*chosen)
    if benchmark.type == "track":
        assert math.isfinite(found)
    elif benchmark.name.startswith("bench_import"):
        assert found == ("import pcalm", "import numpy, torch")
    else:
        assert found is None


def test_a_data_set_that_is_not_here_is_left_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in (("PCALM_DATA", ""), ("XDG_CACHE_HOME", str(tmp_path))):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("pcalm.experiments.data.DEBIAN", tmp_path)
    with pytest.raises(NotImplementedError, match="'mnist' was not found"):
        bench_data.Load().setup("mnist")


def test_every_subject_has_benchmarks() -> None:
    subjects = {benchmark.name.split(".")[0] for benchmark, _ in ALL}
    names = ("inference", "gradient", "training", "stepsize", "data", "import", "conformance", "blocks")
    assert subjects == {f"bench_{name}" for name in names}


def test_every_unit_has_a_rule() -> None:
    assert {benchmark.unit for benchmark, _ in ALL} == set(RULES)


def test_every_peak_memory_has_its_reference() -> None:
    peaks = {benchmark.name for benchmark, _ in ALL if benchmark.type == "peakmemory"}
    assert {name.rpartition(".")[0] + ".peakmem_reference" for name in peaks} <= peaks


def test_parameters_are_those_of_the_package() -> None:
    assert set(problems.ENGINES) == set(MODULES)
    assert set(problems.METHODS) == {*METHODS, "anchored"}


def test_accuracy_is_deterministic() -> None:
    deterministic = [it for it in ALL if it[0].type == "track" and not RULES[it[0].unit].noisy]
    for benchmark, chosen in (deterministic[0], deterministic[-1]):
        owner: Any = benchmark.func.__self__
        owner.setup(*chosen)
        assert benchmark.func(*chosen) == benchmark.func(*chosen)


def test_a_tracked_number_that_is_not_finite_is_an_error() -> None:
    with pytest.raises(ArithmeticError, match="nan"):
        problems.tracked(math.nan)


def test_ratio_takes_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a clock that only the calls move: 6 ticks against 2, each once before it counts, then in turns."""
    clock, calls = [0.0], []

    def call(name: str, ticks: float) -> None:
        clock[0] += ticks
        calls.append(name)

    monkeypatch.setattr(problems, "timer", lambda: clock[0])
    monkeypatch.setattr(problems, "SHARE_S", 20.0)
    assert problems.ratio_of_times(lambda: call("run", 6.0), lambda: call("yardstick", 2.0)) == 3.0
    assert calls == ["run", "yardstick"] * 4


def test_environment_has_the_pinned_releases() -> None:
    text = re.sub(r"^\s*//.*$", "", (ROOT / "asv.conf.json").read_text(), flags=re.MULTILINE)
    asked = json.loads(text)["matrix"]["req"]
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
    assert asked == {name: [pins[name]] for name in asked}


def test_environment_has_all_that_the_package_needs() -> None:
    import tomllib

    from packaging.requirements import Requirement

    text = re.sub(r"^\s*//.*$", "", (ROOT / "asv.conf.json").read_text(), flags=re.MULTILINE)
    needed = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    builds = {"ninja", "setuptools"}
    assert set(json.loads(text)["matrix"]["req"]) == builds | {Requirement(line).name for line in needed}
