"""A run in a directory: resumed bit for bit after Ctrl-C, a kill or a full disk, never mixed up with another run."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import io
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pcalm.dynamics import State
from pcalm.engines import Solution, reference
from pcalm.experiments import rundir, training
from pcalm.experiments.config import TrainingConfig
from pcalm.experiments.divergence import DivergenceError
from pcalm.experiments.rundir import train_to
from pcalm.experiments.storage import sealed
from pcalm.methods import Method
from pcalm.network import ResidualMLP
from tests.experiments.full_disks import no_large_files

# 5 updates an epoch. The learning rate makes every update show in the figures.
CONFIG = TrainingConfig(depth=5, width=6, batch_size=280, lr=1e-2, epochs=3, log_every=2, engine="reference")
FILES = ["SHA256SUMS", "checkpoint.pt", "config.json", "metrics.csv", "summary.json"]
UNFINISHED = FILES[1:4]


REGISTRY = sys.modules["pcalm.engines"]  # the name `pcalm.engines` is the function's


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def done(directory: Path) -> int:
    """The weight updates that the checkpoint holds."""
    return int(torch.load(directory / "checkpoint.pt", weights_only=True)["done"])


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
    assert lines[0] == ",".join(training.COLUMNS)
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
    assert names(tmp_path / "run") == UNFINISHED
    monkeypatch.undo()
    assert 0 < done(tmp_path / "run") < 15
    train_to(config, tmp_path / "run")
    train_to(config, tmp_path / "whole")
    assert_same_run(tmp_path / "run", tmp_path / "whole")


def test_a_second_ctrl_c_does_not_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def twice() -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    fail_at(monkeypatch, 12, twice)  # after the first epoch's checkpoint
    with pytest.raises(KeyboardInterrupt):
        train_to(CONFIG, tmp_path / "run")
    assert done(tmp_path / "run") == 5
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
    if calls == 14:
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
    assert names(tmp_path / "run") == UNFINISHED
    assert done(tmp_path / "run") % 5 > 0
    train_to(CONFIG, tmp_path / "run")
    train_to(CONFIG, tmp_path / "whole")
    assert_same_run(tmp_path / "run", tmp_path / "whole")


def test_killed_at_any_moment_a_run_loses_and_repeats_nothing(tmp_path: Path) -> None:
    """20 moments, spread over the whole run, between any two lines of ours: of training, saving and ending."""
    kills = 20
    arguments = ["train", repr(CONFIG.resolved()), str(tmp_path), str(kills)]
    subprocess.run(
        [sys.executable, "-m", "tests.experiments.killed", *arguments],
        check=True, cwd=Path(__file__).parents[2], env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    for number in range(kills):
        assert_same_run(tmp_path / str(number), tmp_path / "whole")
        assert names(tmp_path / str(number)) == FILES
        begun = tmp_path.joinpath(f"{number}.updates")
        updates = [int(line) for line in begun.read_text().split()] if begun.exists() else []
        # All of them in their order; the one that was not yet saved when the run was killed is done again.
        assert sorted(set(updates)) == list(range(15))
        assert len(updates) <= 16
        assert updates == sorted(updates)


def test_a_full_disk_leaves_the_last_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with contextlib.ExitStack() as stack:
        fail_at(monkeypatch, 12, lambda: stack.enter_context(no_large_files(tmp_path)))
        message = r"cannot be written: File too large; the last checkpoint is kept, and the same command goes on"
        with pytest.raises(OSError, match=message):
            train_to(CONFIG, tmp_path / "run")
    assert names(tmp_path / "run") == UNFINISHED
    assert done(tmp_path / "run") == 5
    monkeypatch.undo()
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
    assert done(tmp_path / "run") < 5


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


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("finished")
    train_to(CONFIG, directory)
    return directory


@pytest.fixture(scope="module")
def unfinished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Interrupted after its first epoch's checkpoint, within the second."""
    directory = tmp_path_factory.mktemp("unfinished")
    with pytest.MonkeyPatch.context() as patch:
        fail_at(patch, 9, lambda: signal.raise_signal(signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            train_to(CONFIG, directory)
    return directory


DEEP = "[" * 100_000


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("config.json", "{", r"config\.json is damaged: .*; use --overwrite"),
        ("config.json", "[]", r"config\.json is damaged: it holds no object but list"),
        ("config.json", DEEP, r"config\.json is damaged: it is nested too deep"),
        ("config.json", "\xff", r"config\.json is damaged: "),
        (
            "config.json",
            "{}",
            r"config\.json is damaged, or of another version: it has no dataset, method",
        ),
        ("summary.json", "", r"summary\.json is damaged: it is not what SHA256SUMS notes; use --overwrite"),
        ("summary.json", "{}", r"summary\.json is damaged"),
        ("summary.json", DEEP, r"summary\.json is damaged"),
        ("metrics.csv", "", r"metrics\.csv is damaged"),
        ("metrics.csv", "step,epoch\n1,1\n", r"metrics\.csv is damaged"),
        ("metrics.csv", None, r"metrics\.csv is damaged"),
        ("SHA256SUMS", "", r"config\.json, metrics\.csv, summary\.json is damaged"),
        ("SHA256SUMS", "\xff", r"config\.json, metrics\.csv, summary\.json is damaged"),
    ],
)
def test_damaged_files(finished: Path, tmp_path: Path, file: str, content: str | None, message: str) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    if content is None:
        (run / file).unlink()
    else:
        (run / file).write_text(content, encoding="latin-1")
    with pytest.raises(ValueError, match=message):
        train_to(CONFIG, run)
    train_to(CONFIG, run, overwrite=True)
    assert_same_run(run, finished)


def crafted(kind: str, state: dict[str, Any]) -> Any:
    """A state that is none, as somebody might write it with a right checksum."""
    rows = state["metrics"][0]
    changes: dict[str, dict[str, Any]] = {
        "beyond the end": {"done": 16},
        "negative": {"done": -1},
        "no integer": {"done": 5.0},
        "rows for other updates": {"metrics": [rows[:-1]]},
        "other rows": {"metrics": [[row | {"seconds": 1.0} for row in rows]]},
        "no rows": {"metrics": []},
        "no step size": {"step_sizes": []},
        "another width": {"weights": ResidualMLP(5, 7, 64, 10, seed=[0]).state_dict()},
        "no weights": {"weights": None},
        "no optimiser": {"optimiser": {}},
        "other settings": {"configs": [CONFIG.resolved() | {"width": 7}]},
        "other data": {"data": [1440, 357, 4.0, 6.0]},
    }
    whole = {"an empty object": {}, "a list": [], "a number": 3, "a tensor": torch.zeros(3), "nothing": None}
    return state | changes[kind] if kind in changes else whole[kind]


KINDS = (
    "beyond the end", "negative", "no integer", "rows for other updates", "other rows", "no rows", "no step size",
    "another width", "no weights", "no optimiser", "other settings", "other data", "an empty object", "a list",
    "a number", "a tensor", "nothing",
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_a_crafted_checkpoint(unfinished: Path, tmp_path: Path, kind: str) -> None:
    run = Path(shutil.copytree(unfinished, tmp_path / "run"))
    state = torch.load(run / "checkpoint.pt", weights_only=True)
    content = io.BytesIO()
    torch.save(crafted(kind, state), content)
    (run / "checkpoint.pt").write_bytes(sealed(content.getvalue()))
    before = {path: path.read_bytes() for path in run.iterdir()}
    with pytest.raises(ValueError, match=r"checkpoint\.pt is damaged: state .*; delete it, or use --overwrite"):
        train_to(CONFIG, run)
    assert {path: path.read_bytes() for path in run.iterdir()} == before


class Harmful:
    """Writes a file as it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("pickled", [True, False])
def test_a_checkpoint_never_runs_code(unfinished: Path, tmp_path: Path, pickled: bool) -> None:
    run, harmed = Path(shutil.copytree(unfinished, tmp_path / "run")), tmp_path / "harmed"
    content = io.BytesIO()
    if pickled:
        pickle.dump(Harmful(harmed), content)
    else:
        torch.save(Harmful(harmed), content)
    (run / "checkpoint.pt").write_bytes(sealed(content.getvalue()))
    with pytest.raises(ValueError, match=r"checkpoint\.pt is damaged: "):
        train_to(CONFIG, run)
    assert not harmed.exists()


@pytest.mark.parametrize("kept", [0, 100, -100])
def test_a_damaged_checkpoint(unfinished: Path, finished: Path, tmp_path: Path, kept: int) -> None:
    run = Path(shutil.copytree(unfinished, tmp_path / "run"))
    checkpoint = run / "checkpoint.pt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:kept])
    with pytest.raises(ValueError, match=r"checkpoint\.pt is damaged: .*; delete it, or use --overwrite"):
        train_to(CONFIG, run)
    checkpoint.unlink()
    train_to(CONFIG, run)
    assert_same_run(run, finished)


@pytest.mark.parametrize("lost", ["summary.json", "SHA256SUMS"])
def test_a_run_that_was_killed_as_it_ended_is_finished(finished: Path, tmp_path: Path, lost: str) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    (run / lost).unlink()
    train_to(CONFIG, run)
    assert_same_run(run, finished)


def flipped(content: bytes, bit: int) -> bytes:
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def test_no_flipped_bit_gives_another_result(finished: Path, unfinished: Path, tmp_path: Path) -> None:
    """Equally many in every file, of a run that is done and of one that goes on: the same run, or a refusal."""
    files = [path for run in (finished, unfinished) for path in sorted(run.iterdir())]
    generator = np.random.default_rng(0)
    refused = 0
    for number in range(300):
        path = files[number % len(files)]
        run = Path(shutil.copytree(path.parent, tmp_path / str(number)))
        content = path.read_bytes()
        (run / path.name).write_bytes(flipped(content, int(generator.integers(8 * len(content)))))
        try:
            train_to(CONFIG, run)
        except ValueError:
            refused += 1
        else:
            (run / "checkpoint.pt").unlink()
            shutil.copy(finished / "checkpoint.pt", run)  # of a run that is done it may be the damaged file
            assert_same_run(run, finished)
        shutil.rmtree(run)
    assert refused > 200


def test_the_engine_is_part_of_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What "auto" stood for at the beginning, it stands for in the whole run, whatever works by then."""
    auto = dataclasses.replace(CONFIG, engine="auto")
    monkeypatch.setattr(REGISTRY, "_fastest", lambda net: "reference")
    fail_at(monkeypatch, 8, lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        train_to(auto, tmp_path / "run")
    assert json.loads((tmp_path / "run" / "config.json").read_text())["engine"] == "reference"
    monkeypatch.undo()
    # By now another one is the fastest; and who names another one is refused.
    monkeypatch.setattr(REGISTRY, "_fastest", lambda net: "torch")
    with pytest.raises(ValueError, match="engine is 'reference' there, 'torch' here; use --overwrite"):
        train_to(dataclasses.replace(CONFIG, engine="torch"), tmp_path / "run")
    monkeypatch.setattr(reference, "unavailable", lambda device, dtype: "it was taken away")
    gone = "holds a run that began with engine 'reference', which does not work here now: it was taken away; mend that"
    with pytest.raises(ValueError, match=gone):
        train_to(auto, tmp_path / "run")
    monkeypatch.undo()
    monkeypatch.setattr(REGISTRY, "_fastest", lambda net: "torch")
    assert train_to(auto, tmp_path / "run")["engine"] == "reference"
    train_to(CONFIG, tmp_path / "whole")
    assert_same_run(tmp_path / "run", tmp_path / "whole")
    # It is the same run by its own name, and anew it is the one that is the fastest now.
    assert train_to(CONFIG, tmp_path / "run")["engine"] == "reference"
    assert train_to(auto, tmp_path / "run", overwrite=True)["engine"] == "torch"


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
