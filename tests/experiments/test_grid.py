"""Grids: what runs they have, how these are packed, and that nothing finished is lost, whatever happens.

Interrupts, killed workers and schedulers, full disks, damaged records and competing grids are real ones.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from distributed import Client, LocalCluster
from typer.testing import CliRunner

from pcalm.cli import app
from pcalm.engines import reasons
from pcalm.experiments import grid, records, scheduling, training
from pcalm.experiments.config import TrainingConfig
from pcalm.experiments.grid import PRESETS, SETTINGS, Grid, Planned, pack, read_toml
from pcalm.experiments.scheduling import Claims, Outcome, compute
from pcalm.experiments.training import train
from pcalm.methods import anchored
from tests.experiments.full_disks import no_large_files, tiny_disk

# 5 updates a run.
SMALL = Grid(widths=(4, 6), depths=(4,), methods=("bp", "pcalm"), seeds=(0, 1), batch_size=280, lr=1e-2)
# Too large to be packed, so one pass per run, of some 0.1 s; equally long, so computed in the order of their seeds.
FEW = Grid(widths=(64,), depths=(8,), methods=("pc",), seeds=tuple(range(12)), epochs=2)
# Never done before something happens to it.
ENDLESS = dataclasses.replace(FEW, seeds=tuple(range(2000)))
WITHIN_S = 300


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a scheduler with two workers, which are threads of this process."""
    settings = {"n_workers": 2, "threads_per_worker": 1, "processes": False, "dashboard_address": "127.0.0.1:0"}
    place = str(tmp_path_factory.mktemp("dask"))
    with LocalCluster(**settings, protocol="tcp", host="127.0.0.1", local_directory=place) as local:
        yield local.scheduler_address


def results(directory: Path) -> dict[str, Any]:
    """What the records of a directory hold, but for how and when it was computed."""
    found = {}
    for key, head, curve in records._read_all(directory):
        summary = {name: value for name, value in head["summary"].items() if "second" not in name}
        found[key] = (head["setting"], head["config"], summary, curve)
    return found


def files(directory: Path) -> dict[str, tuple[int, int]]:
    """Every record's inode and time, which change when it is written again."""
    return {
        path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in (directory / "records").glob("*.jsonl")
    }


def assert_nothing_half_written(directory: Path) -> None:
    assert all(re.fullmatch(r"[0-9a-f]{32}\.jsonl", path.name) for path in (directory / "records").iterdir())
    assert len(records.keys(directory)) == len(files(directory))


def wait_for(condition: Callable[[], bool], what: str) -> None:
    ends = time.monotonic() + WITHIN_S
    while not condition():
        assert time.monotonic() < ends, f"no {what} within {WITHIN_S} s"
        time.sleep(0.02)


@contextlib.contextmanager
def once(condition: Callable[[], bool], action: Callable[[], Any]) -> Iterator[None]:
    """Does something as soon as something is so, while the block goes on."""
    stopped = threading.Event()

    def watch() -> None:
        while not stopped.wait(0.01):
            if condition():
                action()
                return

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        stopped.set()
        watcher.join()


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "pcalm", "grid", *arguments]


def options(chosen: Grid) -> list[str]:
    """A grid as options of the command line."""
    given = []
    for name, value in dataclasses.asdict(chosen).items():
        text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
        given += [] if value is None else [f"--{name.replace('_', '-')}", text]
    return given


# What runs a grid has


def test_every_combination_once() -> None:
    every = Grid(
        datasets=("digits", "mnist"), widths=(4, 5), depths=(4, 6), activations=("tanh", "relu"), seeds=(0, 3),
        methods=("bp", "pc"), budgets=(1, 2.5),
    )  # fmt: skip
    runs = every.runs()
    # BP has no budget, PC has two.
    assert len(runs) == 2 * 2 * 2 * 2 * 2 * (1 + 2)
    assert len({run.key for run in runs}) == len(runs)
    assert all(run.key == records.key_of(run.config.resolved()) for run in runs)
    assert {run.config.steps for run in runs if run.setting == "pc" and run.config.depth == 6} == {6, 15}
    assert {run.config.steps for run in runs if run.setting == "bp"} == {None}
    assert "auto" not in {run.config.engine for run in runs}


def test_named_methods() -> None:
    runs = {run.setting: run.config for run in Grid(depths=(16,), seeds=(0,)).runs()}
    assert list(runs) == ["bp", "pc", "pcalm", "anchored"] == [name for name in SETTINGS if name != "gauged"]
    assert [config.method for config in runs.values()] == ["bp", "pc", "pcalm", "pcalm"]
    assert {name: getattr(runs["anchored"], name) for name in anchored(16)} == anchored(16)
    assert runs["anchored"].anchor == 3 / 16
    assert runs["anchored"].step_size == "tracked"
    plain = dataclasses.replace(runs["anchored"], penalty=1.0, dual_step=1.0, anchor=0.0, step_size="start")
    assert plain == runs["pcalm"]
    (gauged,) = Grid(depths=(16,), seeds=(0,), methods=("gauged",)).runs()
    assert dataclasses.replace(gauged.config, gauge="none") == runs["anchored"]


def test_networks() -> None:
    """One grid over networks × losses × methods; each run has its network's own settings, and a fitting engine."""
    chosen = Grid(
        networks=("mlp", "conv", "transformer"), losses=("auto", "cross_entropy"), methods=("bp", "pcalm", "gauged"),
        widths=(4,), depths=(5,), seeds=(0,), validation=0.25, step_size="tracked",
    )  # fmt: skip
    runs = chosen.runs()
    assert len(runs) == (2 + 1 + 1) * 3  # cross_entropy is conv's own, and the transformer's
    assert {run.config.validation for run in runs} == {0.25}
    assert {run.config.step_size for run in runs if run.setting == "pcalm"} == {"tracked"}
    found = {(run.config.network, run.config.loss, run.config.activation, run.config.lr) for run in runs}
    assert found == {
        ("mlp", "squared", "relu", 1e-3),
        ("mlp", "cross_entropy", "relu", 1e-3),
        ("conv", "cross_entropy", "relu", 3e-3),
        ("transformer", "cross_entropy", "gelu", 3e-3),
    }
    assert {run.config.engine for run in runs if run.config.loss == "cross_entropy"} == {"torch"}
    titles = [run.title for run in runs]
    assert len(set(titles)) == len(titles)
    assert "gauged transformer digits N=4 L=5 gelu T=10 seed 0" in titles
    assert all(len(each) == 1 for each in pack([run for run in runs if run.config.engine == "torch"], workers=1))


def test_presets() -> None:
    paper = PRESETS["paper"].runs()
    assert len(paper) == 5 * 5 * 3 * 4 * 3
    assert {run.config.dataset for run in paper} == {"fashion-mnist"}
    assert {run.config.lr for run in paper} == {1e-3}
    assert all(run.config.steps in (None, 2 * run.config.depth) for run in paper)
    assert {run.config.step_size for run in paper if run.setting != "anchored"} == {None}
    assert {run.config.dataset for run in PRESETS["quick"].runs()} == {"digits"}


def test_a_grid_in_a_toml_file(tmp_path: Path) -> None:
    path = tmp_path / "grid.toml"
    path.write_text('widths = [8, 16]\nmethods = ["pc"]\nbudgets = [1.25, 2]\nepochs = 3\nlr = 1e-2\n')
    assert Grid(**read_toml(path)) == Grid(widths=(8, 16), methods=("pc",), budgets=(1.25, 2), epochs=3, lr=1e-2)
    for text, message in (
        ("width = [8]", "grid.toml sets 'width', which a grid does not have; it has networks, losses, datasets"),
        ("widths = [8", "grid.toml is no TOML file"),
        ("widths = 8", "widths must be a list of at least one value, got 8"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            Grid(**read_toml(path))
    with pytest.raises(ValueError, match=r"file must be a TOML file, got '.*nowhere\.toml': No such file"):
        read_toml(tmp_path / "nowhere.toml")


def test_values_may_be_arrays_of_any_kind() -> None:
    given: dict[str, Any] = {"widths": np.array([8, 16]), "depths": range(3, 5), "budgets": torch.tensor([1, 2])}
    chosen = Grid(**given, epochs=np.int64(2), lr=np.float32(0.5))  # type: ignore[arg-type]
    assert chosen == Grid(widths=(8, 16), depths=(3, 4), budgets=(1.0, 2.0), epochs=2, lr=0.5)
    assert "array" not in json.dumps(dataclasses.asdict(chosen))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"widths": ()}, r"widths must be a list of at least one value, got \(\)"),
        ({"widths": (8, 0)}, "widths must be at least 1, got 0"),
        ({"depths": (2,)}, "depths must be at least 3, got 2"),
        ({"depths": ("8",)}, "depths must be an integer, got '8'"),
        ({"methods": ("adam",)}, "methods must be one of 'bp', 'pc', 'pcalm', 'anchored', 'gauged', got 'adam'"),
        ({"budgets": (0,)}, "budgets must be positive and finite, got 0"),
        ({"activations": ("softmax",)}, "activations must be one of .*, got 'softmax'"),
        ({"activations": ("gelu",)}, "activation must be one of 'linear', 'tanh', 'relu', got 'gelu'"),
        ({"networks": ("rnn",)}, "networks must be one of 'mlp', 'conv', 'transformer', .*, got 'rnn'"),
        ({"losses": ("hinge",)}, "losses must be one of 'auto', 'squared', 'cross_entropy', got 'hinge'"),
        ({"step_size": "0.1"}, "step_size must be one of 'start', 'tracked', got '0.1'"),
        ({"validation": 1}, "validation must be below 1, got 1"),
        ({"networks": ("conv",), "engine": "cpu"}, "engine 'cpu' is written for ResidualMLP"),
        ({"datasets": ("cifar",)}, "datasets must be one of .*, got 'cifar'"),
        ({"seeds": (-1,)}, "seeds must be at least 0, got -1"),
        ({"seeds": (2**63,)}, f"seeds must be at most {2**63 - 1}, got {2**63}"),
        ({"widths": np.array([8.5])}, "widths must be an integer, got 8.5"),
        ({"widths": "8"}, "widths must be a list of at least one value, got '8'"),
        ({"budgets": (1e308,)}, "budgets · depths must be positive and finite, got inf"),
        ({"budgets": (1e18,)}, f"steps must be at most {2**63 - 1}, got 32000000000000000000"),
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"engine": "warp"}, "engine must be one of .*, got 'warp'"),
        ({"dtype": "float16"}, "dtype must be one of .*, got 'float16'"),
        ({"device": "tpu"}, "device must be such as"),
    ],
)
def test_wrong_grids(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Grid(**changed).runs()


# Cost and packing


def test_what_takes_longer_costs_more() -> None:
    base: dict[str, Any] = {"width": 16, "depth": 16, "steps": 32}
    cheap = grid.cost(TrainingConfig(**base))
    changes: list[dict[str, Any]] = [
        {"width": 32},
        {"depth": 32},
        {"steps": 64},
        {"epochs": 2},
        {"dataset": "fashion-mnist"},
        {"network": "conv"},
    ]
    for changed in changes:
        assert grid.cost(TrainingConfig(**{**base, **changed})) > cheap, changed
    assert grid.cost(TrainingConfig(method="bp", width=16, depth=16)) < cheap
    conv = TrainingConfig(network="conv", **base)
    for changed in [*changes[:-1], {"step_size": "tracked"}]:
        assert grid.cost(TrainingConfig(network="conv", **{**base, **changed})) > grid.cost(conv), changed


def on_the_cpu_engine(**settings: Any) -> list[Planned]:
    """The runs as they are where the engine can be built: how they are packed does not depend on this machine."""
    runs = Grid(engine="reference", **settings).runs()
    return [dataclasses.replace(run, config=dataclasses.replace(run.config, engine="cpu")) for run in runs]


def test_runs_of_one_shape_are_packed_the_longest_first() -> None:
    runs = on_the_cpu_engine(widths=(8, 16, 64), depths=(8, 32), seeds=tuple(range(12)), activations=("tanh", "relu"))
    packs = pack(runs, workers=2)
    assert sorted(run.key for each in packs for run in each) == sorted(run.key for run in runs)
    assert max(map(len, packs)) == grid.LARGEST_PASS
    costs = [grid.pack_cost(each) for each in packs]
    assert costs == sorted(costs, reverse=True)
    for each in packs:
        shapes = {dataclasses.replace(run.config, seed=0) for run in each}
        assert len(shapes) == 1
        large = each[0].config.width == 64
        assert len(each) == 1 if large else len(each) in (4, grid.LARGEST_PASS)


def test_packs_leave_work_for_every_worker() -> None:
    runs = on_the_cpu_engine(widths=(8,), depths=(8,), methods=("pc",), seeds=tuple(range(8)))
    assert [len(each) for each in pack(runs, workers=2)] == [2, 2, 2, 2]
    assert [len(each) for each in pack(runs, workers=100)] == [1] * 8


def test_only_where_it_changes_nothing_are_runs_packed() -> None:
    for engine in ("reference", "torch"):
        runs = Grid(widths=(4,), depths=(4,), seeds=(0, 1, 2), engine=engine).runs()
        assert {len(each) for each in pack(runs, workers=1)} == {1}


def untimed(record: records.Record) -> records.Record:
    summary = {name: value for name, value in record.summary.items() if "second" not in name}
    return dataclasses.replace(record, summary=summary, replicas=0, finished="")


@pytest.mark.parametrize(("width", "depth", "activation"), [(6, 5, "tanh"), (16, 8, "relu"), (31, 4, "linear")])
def test_a_result_is_the_same_bit_for_bit_however_it_is_packed(width: int, depth: int, activation: str) -> None:
    """All of the record: the curve, η, the margins, test accuracy and the gradients' cosine; alone and in any place."""
    if reason := reasons(torch.device("cpu"))["cpu"]:
        pytest.skip(f"engine 'cpu', the only one whose runs are packed, does not work here: {reason}")
    chosen = Grid(
        widths=(width,), depths=(depth,), activations=(activation,), methods=tuple(SETTINGS), seeds=tuple(range(5)),
        epochs=2, batch_size=180, lr=1e-2, log_every=1, engine="cpu",
    )  # fmt: skip
    for setting in SETTINGS:
        runs = [run for run in chosen.runs() if run.setting == setting]

        def trained(*places: int, runs: list[Planned] = runs) -> dict[int, Any]:
            found = scheduling.train_pack([runs[place] for place in places], None)
            return {place: untimed(record) for place, record in zip(places, found, strict=True)}

        together = trained(0, 1, 2, 3, 4)
        assert len({record.summary["train_loss"] for record in together.values()}) == 5
        assert together == trained(4, 3, 2, 1, 0)
        assert together == trained(2, 0) | trained(1) | trained(4) | trained(3)


def test_a_record_is_what_training_alone_gives(cluster: str, tmp_path: Path) -> None:
    chosen = dataclasses.replace(SMALL, engine="reference", methods=("anchored",), seeds=(1,), widths=(6,))
    assert compute(chosen, tmp_path, scheduler=cluster) == Outcome(1, 0, 1, [])
    (planned,) = chosen.runs()
    alone = train(planned.config)
    row = records.load_table(tmp_path).iloc[0]
    for name in ("test_accuracy", "train_loss", "gradient_cosine", "gradient_norm_ratio", "step_size", "margin"):
        assert row[name] == alone.summary[name], name
    assert (row["setting"], row["key"], row["engine"]) == ("anchored", planned.key, "reference")
    assert row["commit"] is None or re.fullmatch(r"[0-9a-f]{40}(-dirty)?", row["commit"])
    curve = records.load_curves(tmp_path)
    assert curve["step"].tolist() == [row["step"] for row in alone.metrics]


# Nothing finished is lost, and nothing is computed twice


def test_resuming(cluster: str, tmp_path: Path) -> None:
    assert compute(SMALL, tmp_path, scheduler=cluster) == Outcome(8, 0, 8, [])
    before, found = files(tmp_path), results(tmp_path)
    assert set(found) == {run.key for run in SMALL.runs()}
    # All is there: no worker is asked, so the scheduler may as well not be.
    assert compute(SMALL, tmp_path, scheduler="tcp://127.0.0.1:1") == Outcome(8, 8, 0, [])
    assert files(tmp_path) == before
    # One is gone, and more are wanted: only these are computed.
    lost = SMALL.runs()[3]
    records.path_of(tmp_path, lost.key).unlink()
    more = dataclasses.replace(SMALL, seeds=(0, 1, 2))
    assert compute(more, tmp_path, scheduler=cluster) == Outcome(12, 7, 5, [])
    kept = {name: stamp for name, stamp in before.items() if not name.startswith(lost.key)}
    assert kept.items() <= files(tmp_path).items()
    assert results(tmp_path)[lost.key] == found[lost.key]
    assert_nothing_half_written(tmp_path)


def test_a_damaged_record_is_computed_again(cluster: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    compute(SMALL, tmp_path, scheduler=cluster)
    before, truth = files(tmp_path), results(tmp_path)
    path = records.path_of(tmp_path, SMALL.runs()[0].key)
    path.write_bytes(path.read_bytes()[:-200])
    assert compute(SMALL, tmp_path, scheduler=cluster) == Outcome(8, 7, 1, [])
    assert "is damaged (its checksum is wrong)" in caplog.text
    assert results(tmp_path) == truth
    assert {name for name, stamp in files(tmp_path).items() if before[name] != stamp} == {path.name}


def test_a_diverged_run_is_a_result(cluster: str, tmp_path: Path) -> None:
    """The first update moves every weight by lr·√(N/L), and in a linear network the next pass overflows."""
    exploding = dataclasses.replace(SMALL, activations=("linear",), lr=1e30)
    assert compute(exploding, tmp_path, scheduler=cluster) == Outcome(8, 0, 8, [], diverged=8)
    table = records.load_table(tmp_path)
    assert set(table["status"]) == {"diverged"}
    assert set(table["diverged_step"]) == {2}
    assert table["divergence"].str.startswith("training diverged at update 2").all()
    assert table["test_accuracy"].isna().all()
    assert compute(exploding, tmp_path, scheduler=cluster) == Outcome(8, 8, 0, [], diverged=8)


REFUSED = dataclasses.replace(SMALL, depths=(3, 6), methods=("bp", "anchored"))


@pytest.fixture
def anchored_as_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """With η = 1/λ_max it is unstable at L = 3, and refused: 4 − (2ρ + α) − 2ηκ < 0 for κ = 3/L = 1, η > 0.15."""
    monkeypatch.setitem(
        SETTINGS, "anchored", lambda depth: {"method": "pcalm", "step_size": "start", **anchored(depth)}
    )


@pytest.mark.usefixtures("anchored_as_at_the_start")
def test_settings_that_cannot_run_are_a_result(cluster: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert compute(REFUSED, tmp_path, scheduler=cluster) == Outcome(16, 0, 16, [], refused=4)
    table = records.load_table(tmp_path)
    refused = table[table["status"] == "refused"]
    assert set(refused["key"]) == {
        run.key for run in REFUSED.runs() if run.setting == "anchored" and run.config.depth == 3
    }
    assert refused["divergence"].str.match(r"step_size 0\.\d+ is unstable: the margin .* is -0\.").all()
    assert (refused["margin_at_start"] < 0).all()
    assert (refused["step_size"] > 0).all()
    assert set(refused["updates"]) == {0}
    assert refused[["test_accuracy", "train_loss", "gradient_cosine", "diverged_step"]].isna().all(axis=None)
    assert set(table["status"]) == {"finished", "refused"}
    assert set(records.load_curves(tmp_path)["key"]) == set(table["key"]) - set(refused["key"])
    # Nothing is tried again, and none of the records is taken for damaged.
    assert compute(REFUSED, tmp_path, scheduler=cluster) == Outcome(16, 16, 0, [], refused=4)
    assert [entry for entry in caplog.records if entry.name == "pcalm"] == []


def test_one_refusal_in_a_pass_leaves_the_others(tmp_path: Path) -> None:
    chosen = dataclasses.replace(SMALL, methods=("pcalm",), widths=(4,), seeds=(0, 1, 2), engine="reference")
    stable, unstable, other = chosen.runs()
    unstable = dataclasses.replace(unstable, config=dataclasses.replace(unstable.config, step_size=1.0))
    found = scheduling.train_pack([stable, unstable, other], None)
    assert [record.summary["status"] for record in found] == ["finished", "refused", "finished"]
    assert [untimed(found[place]) for place in (0, 2)] == [
        untimed(record) for run in (stable, other) for record in scheduling.train_pack([run], None)
    ]


def test_bad_settings_are_not_tried_again(cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    honest = training.train_replicas

    def counted(configs: list[TrainingConfig], *more: Any) -> Any:
        calls.append(len(configs))
        return honest(configs, *more)

    monkeypatch.setattr(scheduling, "train_replicas", counted)
    chosen = dataclasses.replace(SMALL, methods=("bp",), widths=(4,), batch_size=1441, engine="reference")
    outcome = compute(chosen, tmp_path, scheduler=cluster)
    assert (outcome.computed, calls) == (0, [1, 1])
    message = "ValueError: batch_size must be at most the 1440 training samples of 'digits', got 1441"
    assert [error for _, error in outcome.failures] == [message] * 2


def test_a_run_that_fails_is_tried_again(cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cluster's workers are threads of this process, so they see the patch."""
    calls: dict[int, int] = {}
    honest = training.train_replicas

    def fragile(configs: list[TrainingConfig], *more: Any) -> Any:
        for config in configs:
            calls[config.seed] = calls.get(config.seed, 0) + 1
        if any(calls[config.seed] < allowed[config.seed] for config in configs):
            raise MemoryError("just now")
        return honest(configs, *more)

    allowed = {0: 0, 1: scheduling.ATTEMPTS, 2: scheduling.ATTEMPTS + 1}
    monkeypatch.setattr(scheduling, "train_replicas", fragile)
    chosen = dataclasses.replace(SMALL, widths=(4,), methods=("bp",), seeds=tuple(allowed), engine="reference")
    outcome = compute(chosen, tmp_path, scheduler=cluster)
    assert (outcome.computed, calls) == (2, {0: 1, 1: scheduling.ATTEMPTS, 2: scheduling.ATTEMPTS})
    ((run, error),) = outcome.failures
    assert (run.config.seed, error) == (2, "MemoryError: just now")


def upto_the_last_done(directory: Path) -> Grid:
    """The part of ENDLESS up to the last seed that is done: in its middle some are missing, if several worked on it."""
    return dataclasses.replace(ENDLESS, seeds=tuple(range(records.load_table(directory)["seed"].max() + 2)))


def test_ctrl_c(cluster: str, tmp_path: Path) -> None:
    """As on a terminal, where all processes of the command receive it; its cluster is one of its own."""
    out = tmp_path / "out"
    process = subprocess.Popen(
        command("--output", str(out), "--workers", "1", *options(ENDLESS)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "DASK_TEMPORARY_DIRECTORY": str(tmp_path)},
    )
    with process:
        try:
            wait_for(lambda: len(files(out)) >= 2 or process.poll() is not None, "records")
            os.killpg(process.pid, signal.SIGINT)
            shown, errors = process.communicate(timeout=WITHIN_S)
        finally:
            process.kill()
    assert process.returncode == 130, errors
    assert shown == ""
    assert "Exception ignored" not in errors
    assert errors.splitlines()[-1].startswith("pcalm: interrupted; with --output, the same command goes on")
    assert "Traceback" not in errors
    before = files(out)
    assert len(before) >= 2
    assert_nothing_half_written(out)
    part = upto_the_last_done(out)
    assert compute(part, out, scheduler=cluster) == Outcome(len(before) + 1, len(before), 1, [])
    assert before.items() <= files(out).items()


@contextlib.contextmanager
def dask(program: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A scheduler or worker in a process of its own."""
    module = [sys.executable, "-m", f"distributed.cli.dask_{program}"]
    process = subprocess.Popen([*module, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with process:
        try:
            yield process
        finally:
            process.kill()


def test_a_killed_worker_and_then_a_killed_scheduler(cluster: str, tmp_path: Path) -> None:
    """Three worker processes: one is killed while it works, and the rest takes over; then the scheduler is killed."""
    out, contact = tmp_path / "out", tmp_path / "scheduler.json"
    with contextlib.ExitStack() as stack:
        where = ["--host", "127.0.0.1", "--port", "0", "--dashboard-address", "127.0.0.1:0"]
        scheduler = stack.enter_context(dask("scheduler", *where, "--scheduler-file", str(contact)))
        wait_for(contact.exists, "scheduler")
        single = ["--nthreads", "1", "--no-nanny", "--no-dashboard", "--local-directory", str(tmp_path)]
        workers = [stack.enter_context(dask("worker", "--scheduler-file", str(contact), *single)) for _ in range(3)]
        with Client(scheduler_file=str(contact), set_as_default=False) as client:
            client.wait_for_workers(3, timeout=WITHIN_S)
            address = client.scheduler.address
        # All workers have a run, and another one ready, from the first moment on.
        with once(lambda: len(files(out)) >= 2, workers[0].kill):
            assert compute(FEW, out, scheduler=address) == Outcome(12, 0, 12, [])
        assert workers[0].wait() == -signal.SIGKILL
        with (
            once(lambda: len(files(out)) >= 14, scheduler.kill),
            pytest.raises(ConnectionError, match="the scheduler is gone; all finished runs are recorded"),
        ):
            compute(ENDLESS, out, scheduler=address)
    before = files(out)
    assert len(before) >= 14
    assert_nothing_half_written(out)
    part = upto_the_last_done(out)
    count = len(part.seeds)
    assert compute(part, out, scheduler=cluster) == Outcome(count, len(before), count - len(before), [])
    assert before.items() <= files(out).items()
    # The same numbers as without any of this.
    quiet = tmp_path / "quiet"
    compute(FEW, quiet, scheduler=cluster)
    assert results(quiet).items() <= results(out).items()


@pytest.mark.parametrize(
    ("limit", "kept", "message"),
    [(tiny_disk, 1, "No space left on device"), (no_large_files, 0, "File too large")],
)
def test_a_full_disk(cluster: str, tmp_path: Path, limit: Any, kept: int, message: str) -> None:
    chosen = dataclasses.replace(SMALL, seeds=(0, 1, 2))
    with limit(tmp_path) as make_room:
        with pytest.raises(OSError, match=f"jsonl' cannot be written: {message}; all earlier records are kept"):
            compute(chosen, tmp_path, scheduler=cluster)
        before = files(tmp_path)
        assert kept <= len(before) < 12
        assert_nothing_half_written(tmp_path)
        make_room()
        assert compute(chosen, tmp_path, scheduler=cluster) == Outcome(12, len(before), 12 - len(before), [])
        assert before.items() <= files(tmp_path).items()
        assert_nothing_half_written(tmp_path)


def test_killed_at_any_moment_a_grid_loses_and_repeats_nothing(cluster: str, tmp_path: Path) -> None:
    """The process that writes the records, between any two lines of its writing, at moments over the whole grid.

    PCALM_KILLS=20 was run once (2026-11); each takes two connections to the scheduler.
    """
    kills = int(os.environ.get("PCALM_KILLS", "3"))
    chosen = dataclasses.replace(SMALL, engine="reference", methods=("bp", "pc"))
    arguments = ["grid", repr(dataclasses.asdict(chosen)), str(tmp_path), str(kills), cluster]
    subprocess.run(
        [sys.executable, "-m", "tests.experiments.killed", *arguments],
        check=True, cwd=Path(__file__).parents[2], env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    truth = results(tmp_path / "whole")
    kept = []
    for number in range(kills):
        place = tmp_path / str(number)
        before = files(place)
        kept.append(len(before))
        assert len(records.keys(place)) == len(before)
        assert compute(chosen, place, scheduler=cluster) == Outcome(8, len(before), 8 - len(before), [])
        assert before.items() <= files(place).items()
        assert results(place) == truth
        assert_nothing_half_written(place)
    # Spread over the whole grid: among three moments there are three different numbers of records.
    assert kept == sorted(kept)
    assert len(set(kept)) >= min(kills, 6), kept


def test_after_a_dead_scheduler_there_is_one_sentence(tmp_path: Path) -> None:
    out, contact = tmp_path / "out", tmp_path / "scheduler.json"
    with contextlib.ExitStack() as stack:
        where = ["--host", "127.0.0.1", "--port", "0", "--dashboard-address", "127.0.0.1:0"]
        scheduler = stack.enter_context(dask("scheduler", *where, "--scheduler-file", str(contact)))
        single = ["--nthreads", "1", "--no-nanny", "--no-dashboard", "--local-directory", str(tmp_path)]
        wait_for(contact.exists, "scheduler")
        stack.enter_context(dask("worker", "--scheduler-file", str(contact), *single))
        address = json.loads(contact.read_text())["address"]
        process = stack.enter_context(
            subprocess.Popen(
                command("--output", str(out), "--scheduler", address, *options(ENDLESS)),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        try:
            wait_for(lambda: len(files(out)) >= 1 or process.poll() is not None, "records")
            scheduler.kill()
            shown, errors = process.communicate(timeout=WITHIN_S)
        finally:
            process.kill()
    assert (process.returncode, shown) == (1, "")
    lines = [line for line in errors.splitlines() if not re.match(r"\d+ of 2000 done", line)]
    assert lines == [f"pcalm: {scheduling.GONE}"], errors


def test_two_grids_in_one_directory_share_the_work(cluster: str, tmp_path: Path) -> None:
    """Ours begins later, but has claimed the last run before, so that there is something left for it."""
    out, last = tmp_path / "out", FEW.runs()[-1].key
    arguments = command("--output", str(out), "--scheduler", cluster, *options(FEW))
    with (
        contextlib.closing(Claims(out)) as claims,
        subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process,
    ):
        try:
            assert claims.take(last)
            wait_for(lambda: len(files(out)) >= 1 or process.poll() is not None, "records")
            ours = compute(FEW, out, scheduler=cluster)
            shown, errors = process.communicate(timeout=WITHIN_S)
        finally:
            process.kill()
    assert process.returncode == 0, errors
    theirs = re.match(r"12 runs: 0 were done before, (\d+) computed now, 0 failed", shown)
    assert theirs is not None, shown
    assert ours.computed >= 1
    # Neither computed what the other one did.
    assert ours.computed + int(theirs[1]) == 12
    assert_nothing_half_written(out)
    assert set(results(out)) == {run.key for run in FEW.runs()}


def test_claims_end_with_their_process(tmp_path: Path) -> None:
    key = "0123456789abcdef" * 2
    code = f"""
import fcntl, sys, time
file = open(sys.argv[1], "ab")
fcntl.lockf(file, fcntl.LOCK_EX, 1, {int(key[:15], 16)})
print("locked", flush=True)
time.sleep({WITHIN_S})
"""
    with (
        contextlib.closing(Claims(tmp_path)) as claims,
        subprocess.Popen([sys.executable, "-c", code, tmp_path / "claims.lock"], stdout=subprocess.PIPE) as other,
    ):
        try:
            assert other.stdout is not None
            assert other.stdout.readline() == b"locked\n"
            assert not claims.take(key)
            assert claims.take(key.replace("0", "1"))
        finally:
            other.kill()
        other.wait()
        assert claims.take(key)


def test_without_locks_grids_still_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unable(*arguments: Any) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", unable)
    with contextlib.closing(Claims(tmp_path)) as claims:
        assert claims.take("0" * 32)
        claims.release("0" * 32)


# The command line


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["grid", *arguments], prog_name="pcalm")


def test_the_command(cluster: str, tmp_path: Path) -> None:
    path, table = tmp_path / "grid.toml", tmp_path / "table.csv"
    path.write_text("widths = [4]\nbatch_size = 280\nlr = 1e-2\nseeds = [5]")
    given = f"--preset quick --file {path} --depths 8 --epochs 1 --output {tmp_path / 'o'}".split()
    planned = run(*given, "--dry-run")
    assert planned.stdout.startswith("4 runs: 0 done, 4 to do, about ")
    assert not (tmp_path / "o").exists()
    done = run(*given, "--scheduler", cluster, "--export", str(table))
    assert (done.exit_code, done.stderr) == (0, "0 of 4 done, 2 running, 0 failed\n4 of 4 done, 0 running, 0 failed\n")
    assert done.stdout.startswith("4 runs: 0 were done before, 4 computed now, 0 failed; the records are in ")
    found = records.load_table(table)
    assert found["setting"].tolist() == records.load_table(tmp_path / "o")["setting"].tolist()
    shared = ["width", "depth", "seed", "epochs", "batch_size", "lr"]
    assert found[shared].drop_duplicates().to_numpy().tolist() == [[4, 8, 5, 1, 280, 1e-2]]
    assert run(*given, "--dry-run").stdout.startswith("4 runs: 4 done, 0 to do")


@pytest.mark.usefixtures("anchored_as_at_the_start")
def test_failures_end_the_command_with_status_1_and_refusals_do_not(cluster: str, tmp_path: Path) -> None:
    where = ("--output", str(tmp_path / "out"), "--scheduler", cluster)
    failed = run(*where, *options(dataclasses.replace(SMALL, batch_size=1441)))
    assert failed.exit_code == 1
    assert "8 runs: 0 were done before, 0 computed now, 8 failed" in failed.stdout
    (line,) = [line for line in failed.stderr.splitlines() if line.startswith("failed: ")]
    assert line.startswith("failed: bp digits N=4 L=4 relu seed 0 and 7 more: ValueError: batch_size must be at most")
    for _ in range(2):
        refused = run(*where, *options(REFUSED))
        assert refused.exit_code == 0
        assert "no accuracy: 0 diverged, 4 refused since their settings are unstable" in refused.stdout


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--widths", "8,x"], 2, "widths must be int values with commas between, got '8,x'"),
        (["--widths", ","], 2, r"widths must be a list of at least one value, got \(\)"),
        (["--methods", "adam"], 2, "methods must be one of .*, got 'adam'"),
        (["--preset", "huge"], 2, "preset must be one of 'quick', 'paper', got 'huge'"),
        (["--file", "nowhere.toml"], 2, "file must be a TOML file, got 'nowhere.toml'"),
        (["--export", "table.xlsx"], 2, "export must end in .parquet or .csv"),
        (["--workers", "0"], 2, "workers must be at least 1, got 0"),
        (["--workers", "2", "--scheduler", "tcp://127.0.0.1:1"], 2, "workers is of the cluster on this machine"),
        (["--scheduler", "tcp://127.0.0.1:1"], 1, "scheduler 'tcp://127.0.0.1:1' does not answer .*; start one with"),
        (["--scheduler", "tls://127.0.0.1:1"], 2, "such as tcp://host:8786, got 'tls://127.0.0.1:1': TLS expects"),
        (["--scheduler", "nonsense"], 2, "scheduler must be the address of a Dask scheduler, .*got 'nonsense'"),
        (["--scheduler", ""], 2, "scheduler must be the address of a Dask scheduler, .*got ''"),
        (["--scheduler", "tcp://127.0.0.1:99999"], 1, "scheduler 'tcp://127.0.0.1:99999' does not answer"),
        (["--scheduler", "http://127.0.0.1:1"], 2, "scheduler must be .*unknown address scheme"),
        (["--device", "meta"], 2, "device must be one that holds numbers"),
        (["--export", ""], 2, "export must be the path of a file or folder, got ''"),
        (["--data-dir", ""], 2, "data_dir must be the path of a file or folder, got ''"),
        (["--file", ""], 2, "file must be the path of a file or folder, got ''"),
        (["--output", ""], 2, "output must be the path of a file or folder, got ''"),
        (["--output", "/dev/null/x"], 2, "output must be a directory that can be written, got '/dev/null/x'"),
    ],
)
def test_wrong_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], status: int, message: str
) -> None:
    monkeypatch.setattr(scheduling, "CONNECT_TIMEOUT_S", 0.5)
    result = run("--output", str(tmp_path / "out"), "--engine", "reference", *arguments)
    assert (result.exit_code, result.stdout) == (status, "")
    assert re.fullmatch(f"pcalm: [^\n]*{message}[^\n]*\n", result.stderr), result.stderr
    assert not (tmp_path / "out" / "records").exists()
