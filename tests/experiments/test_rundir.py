"""A run in a directory: resumed bit for bit after Ctrl-C, a kill or a full disk, never mixed up with another run."""

from __future__ import annotations

import dataclasses
import errno
import json
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch

from pcalm.dynamics import State
from pcalm.engines import Solution, reference
from pcalm.experiments import rundir, training
from pcalm.experiments.config import TrainingConfig
from pcalm.experiments.divergence import DivergenceError
from pcalm.experiments.rundir import train_to
from pcalm.methods import Method
from pcalm.network import ResidualMLP

# 5 updates an epoch. The learning rate makes every update show in the figures.
CONFIG = TrainingConfig(depth=5, width=6, batch_size=280, lr=1e-2, epochs=3, log_every=2, engine="reference")
FILES = ["checkpoint.pt", "config.json", "metrics.csv", "summary.json"]


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def assert_same_run(found: Path, truth: Path) -> None:
    """Everything but the time is the same, bit for bit."""
    assert (found / "metrics.csv").read_bytes() == (truth / "metrics.csv").read_bytes()
    states = [torch.load(directory / "checkpoint.pt", weights_only=True) for directory in (found, truth)]
    torch.testing.assert_close(*(state["weights"] for state in states), rtol=0, atol=0)
    torch.testing.assert_close(*(state["optimiser"]["state"] for state in states), rtol=0, atol=0)
    summaries = [json.loads((directory / "summary.json").read_text()) for directory in (found, truth)]
    for summary in summaries:
        assert summary.pop("seconds") > 0
        assert summary.pop("samples_per_second") > 0
    assert summaries[0] == summaries[1]


class Failing:
    """The reference engine, with something happening within the n-th gradient."""

    def __init__(self, call: int, happening: Any) -> None:
        self.call, self.happening = call, happening

    def solve(
        self, net: ResidualMLP, method: Method, x: torch.Tensor, y: torch.Tensor, initial: State | None
    ) -> Solution:
        self.call -= 1
        if self.call == 0:
            self.happening()
        return reference.solve(net, method, x, y, initial)


def fail_at(monkeypatch: pytest.MonkeyPatch, call: int, happening: Any) -> None:
    failing = Failing(call, happening)
    monkeypatch.setattr(training, "resolve", lambda name, net: failing)


def test_the_files(tmp_path: Path) -> None:
    summary = train_to(CONFIG, tmp_path / "a" / "run")
    assert names(tmp_path / "a" / "run") == FILES
    assert json.loads((tmp_path / "a" / "run" / "summary.json").read_text()) == summary
    found = json.loads((tmp_path / "a" / "run" / "config.json").read_text())
    assert found == CONFIG.resolved()
    assert TrainingConfig(**found).resolved() == found
    lines = (tmp_path / "a" / "run" / "metrics.csv").read_text().splitlines()
    assert lines[0] == "step,epoch,loss,accuracy,test_accuracy,margin"
    assert rundir.read_metrics(tmp_path / "a" / "run" / "metrics.csv") == training.train(CONFIG).metrics


@pytest.mark.parametrize("call", [1, 4, 7, 15])
def test_ctrl_c_and_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int) -> None:
    """The update in which the interrupt comes is completed and kept, with the logged step before it."""
    # Logging by the engine's feed-forward pass counts as a call: log at the ends of the epochs only.
    config = dataclasses.replace(CONFIG, log_every=100)
    fail_at(monkeypatch, call, lambda: signal.raise_signal(signal.SIGINT))
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train_to(config, tmp_path / "run")
    assert signal.getsignal(signal.SIGINT) is handler
    assert names(tmp_path / "run") == FILES[:3]
    done = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["done"]
    monkeypatch.undo()
    assert 0 < done < 15
    train_to(config, tmp_path / "run")
    train_to(config, tmp_path / "whole")
    assert_same_run(tmp_path / "run", tmp_path / "whole")


def test_a_second_ctrl_c_does_not_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def twice() -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    fail_at(monkeypatch, 9, twice)  # the seventh update, or thereabouts: after the first epoch's checkpoint
    with pytest.raises(KeyboardInterrupt):
        train_to(CONFIG, tmp_path / "run")
    assert torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["done"] == 5
    monkeypatch.undo()
    train_to(CONFIG, tmp_path / "run")
    train_to(CONFIG, tmp_path / "whole")
    assert_same_run(tmp_path / "run", tmp_path / "whole")


KILLED = """
import os, signal, sys
from pcalm.experiments import rundir, training
from pcalm.engines import reference
calls = 0
def solve(*arguments):
    global calls
    calls += 1
    if calls == 12:
        os.kill(os.getpid(), signal.SIGKILL)
    return reference.solve(*arguments)
training.resolve = lambda name, net: type("Killed", (), {"solve": staticmethod(solve)})
training.SAVE_EVERY_S = 0.0
rundir.train_to(training.TrainingConfig(**eval(sys.argv[1])), sys.argv[2])
"""


def test_kill_and_resume(tmp_path: Path) -> None:
    """Killed within an epoch, from the checkpoint of the update before."""
    command = [sys.executable, "-c", KILLED, repr(CONFIG.resolved()), str(tmp_path / "run")]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert names(tmp_path / "run") == FILES[:3]
    assert torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["done"] % 5 > 0
    train_to(CONFIG, tmp_path / "run")
    train_to(CONFIG, tmp_path / "whole")
    assert_same_run(tmp_path / "run", tmp_path / "whole")


def test_a_full_disk_leaves_the_last_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved = []

    def save(state: Any, file: Any) -> None:
        saved.append(1)
        if len(saved) == 2:
            file.write(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        return original(state, file)

    original = torch.save
    monkeypatch.setattr(torch, "save", save)
    with pytest.raises(OSError, match="No space left"):
        train_to(CONFIG, tmp_path / "run")
    assert names(tmp_path / "run") == FILES[:3]
    assert torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["done"] == 5
    train_to(CONFIG, tmp_path / "run")
    train_to(CONFIG, tmp_path / "whole")
    assert_same_run(tmp_path / "run", tmp_path / "whole")


def test_a_run_that_is_done_is_not_computed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    summary = train_to(CONFIG, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    monkeypatch.setattr(rundir, "Training", None)
    assert train_to(CONFIG, tmp_path) == summary
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


def test_another_configuration_is_refused(tmp_path: Path) -> None:
    train_to(CONFIG, tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    other = dataclasses.replace(CONFIG, width=7, steps=12)
    with pytest.raises(ValueError, match="steps is 10 there, 12 here; width is 6 there, 7 here; use --overwrite"):
        train_to(other, tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    summary = train_to(other, tmp_path, overwrite=True)
    assert summary["inference_steps"] == 12
    train_to(other, tmp_path.with_name("whole"))
    assert_same_run(tmp_path, tmp_path.with_name("whole"))


def test_overwriting_an_unfinished_run_starts_at_the_beginning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_at(monkeypatch, 8, lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        train_to(CONFIG, tmp_path / "run")
    fail_at(monkeypatch, 2, lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        train_to(CONFIG, tmp_path / "run", overwrite=True)
    assert torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["done"] < 5


def test_a_refused_overwrite_keeps_what_was_there(tmp_path: Path) -> None:
    train_to(CONFIG, tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ValueError, match="is unstable"):
        train_to(dataclasses.replace(CONFIG, step_size=9.0), tmp_path, overwrite=True)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_divergence_is_kept_and_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = dataclasses.replace(CONFIG, activation="linear", lr=1e30, log_every=1)
    with pytest.raises(DivergenceError) as first:
        train_to(config, tmp_path)
    assert rundir.read_metrics(tmp_path / "metrics.csv") == first.value.metrics
    assert [row["step"] for row in first.value.metrics] == [1]
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert (summary["status"], summary["test_accuracy"], summary["divergence"]["step"]) == ("diverged", None, 2)
    monkeypatch.setattr(rundir, "Training", None)
    with pytest.raises(DivergenceError) as second:
        train_to(config, tmp_path)
    assert (second.value.divergence, second.value.metrics) == (first.value.divergence, first.value.metrics)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("config.json", "{", r"config\.json is damaged: .*; use --overwrite"),
        ("config.json", "[]", r"config\.json is damaged: it holds no object"),
        ("summary.json", "", r"summary\.json is damaged"),
    ],
)
def test_damaged_files(tmp_path: Path, file: str, content: str, message: str) -> None:
    train_to(CONFIG, tmp_path)
    (tmp_path / file).write_text(content)
    with pytest.raises(ValueError, match=message):
        train_to(CONFIG, tmp_path)
    train_to(CONFIG, tmp_path, overwrite=True)
    assert train_to(CONFIG, tmp_path)["status"] == "finished"


@pytest.mark.parametrize("kept", [0, 100, -100])
def test_a_damaged_checkpoint(tmp_path: Path, kept: int) -> None:
    train_to(CONFIG, tmp_path)
    (tmp_path / "summary.json").unlink()
    checkpoint = tmp_path / "checkpoint.pt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:kept])
    with pytest.raises(ValueError, match=r"checkpoint\.pt is damaged: .*; delete it, or use --overwrite"):
        train_to(CONFIG, tmp_path)
    checkpoint.unlink()
    assert train_to(CONFIG, tmp_path)["status"] == "finished"


def test_somebody_elses_files(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("mine")
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"has metrics\.csv but no config\.json; use --overwrite"):
        train_to(CONFIG, tmp_path)
    assert (tmp_path / "metrics.csv").read_text() == "mine"
    train_to(CONFIG, tmp_path, overwrite=True)
    assert names(tmp_path) == sorted([*FILES, "notes.txt"])


def test_a_directory_that_cannot_be_written_is_found_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rundir, "Training", None)
    file = tmp_path / "file"
    file.write_text("")
    for place in (file, file / "below"):
        with pytest.raises(ValueError, match=r"output must be a directory that can be written, got '.*file"):
            train_to(CONFIG, place)

    def full(**arguments: Any) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    with pytest.raises(ValueError, match=r"got '.*': Read-only file system"):
        train_to(CONFIG, tmp_path)


def test_what_is_refused_leaves_no_directory(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is unstable"):
        train_to(dataclasses.replace(CONFIG, step_size=9.0), tmp_path / "run")
    assert names(tmp_path) == []
