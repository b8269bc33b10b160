"""The command line: what it prints and writes, and that every failure is one sentence and an exit status."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from pcalm.cli import app, main
from pcalm.experiments import records, rundir
from pcalm.experiments.config import TrainingConfig
from pcalm.experiments.grid import Grid
from pcalm.experiments.scheduling import train_pack
from pcalm.experiments.training import train

SMALL = "train --depth 4 --width 4 --batch-size 280 --lr 1e-2 --engine reference"


def run(command: str, *more: str) -> Any:
    return CliRunner().invoke(app, [*command.split(), *more], prog_name="pcalm")


def assert_sentence(result: Any, status: int, message: str) -> None:
    assert result.exit_code == status
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    assert re.fullmatch(f"pcalm: [^\n]*{message}[^\n]*\n", result.stderr), result.stderr


def test_help_names_every_setting() -> None:
    shown = run("train --help").stdout
    for field in dataclasses.fields(TrainingConfig):
        assert f"--{field.name.replace('_', '-')} " in shown
    for option in (
        "--output",
        "--overwrite",
        "--data-dir",
        "digits|fashion-mnist|mnist",
        "bp|pc|pcalm",
        "[default: (2L)]",
    ):
        assert option in shown
    listed = run("--help").stdout
    assert "train" in listed
    assert "doctor" in listed


def test_train(tmp_path: Path) -> None:
    settings = "--dataset digits --method pcalm --activation tanh --seed 3 --epochs 2 --steps 7 --step-size 0.1"
    more = "--penalty 0.25 --dual-step 3 --anchor 0.5 --inner-steps 2 --credit after --log-every 2 --dtype float64"
    result = run(f"{SMALL} {settings} {more} --device cpu --output", str(tmp_path / "run"))
    assert result.exit_code == 0
    config = TrainingConfig(
        depth=4, width=4, batch_size=280, lr=1e-2, engine="reference", activation="tanh", seed=3, epochs=2, steps=7,
        step_size=0.1, penalty=0.25, dual_step=3.0, anchor=0.5, inner_steps=2, credit="after", log_every=2,
        dtype="float64",
    )  # fmt: skip
    truth = train(config)
    assert json.loads((tmp_path / "run" / "config.json").read_text()) == config.resolved()
    assert rundir.read_metrics(tmp_path / "run" / "metrics.csv") == truth.metrics
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    for name in ("test_accuracy", "gradient_cosine"):
        assert summary[name] == truth.summary[name]
    assert re.search(rf"^test accuracy +{summary['test_accuracy']:.2%}$", result.stdout, re.MULTILINE)
    assert re.search(rf"^gradient cosine to BP +{summary['gradient_cosine']:.4f}$", result.stdout, re.MULTILINE)
    assert "step size 0.1000; stability margin" in result.stderr

    again = run(f"{SMALL} {settings} {more} --output", str(tmp_path / "run"))
    assert (again.exit_code, again.stdout) == (0, result.stdout)
    assert again.stderr == f"{tmp_path / 'run'} holds this run, and it is done; --overwrite starts it anew\n"

    other = run(f"{SMALL} --output", str(tmp_path / "run"))
    assert_sentence(other, 2, "seed is 3 there, 0 here.*use --overwrite")
    assert run(f"{SMALL} --overwrite --output", str(tmp_path / "run")).exit_code == 0


def test_without_output_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(f"{SMALL} --method bp")
    assert result.exit_code == 0
    assert re.search(r"^step size η +–$", result.stdout, re.MULTILINE)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--depth 2", "depth must be at least 3, got 2"),
        ("--width 0", "width must be at least 1, got 0"),
        ("--activation gelu", "activation must be one of 'linear', 'tanh', 'relu', got 'gelu'"),
        ("--dataset cifar", "dataset must be one of"),
        ("--method adam", "method must be one of"),
        ("--engine warp", "engine must be one of"),
        ("--dtype float16", "dtype must be one of"),
        ("--device cuda:99", "device 'cuda:99' is not on this machine"),
        ("--steps 0", "steps must be at least 1, got 0"),
        ("--steps 9223372036854775808", "steps must be at most 9223372036854775807, got 9223372036854775808"),
        ("--inner-steps 99999999999999999999", "inner_steps must be at most 9223372036854775807"),
        ("--steps 9223372036854775807 --inner-steps 2", "steps · inner_steps must be at most 9223372036854775807"),
        ("--depth 9223372036854775808", "depth must be at most"),
        ("--width 99999999999", "must give weights that fit into memory"),
        ("--seed 9223372036854775808", "seed must be at most"),
        ("--device meta", "device must be one that holds numbers, and 'meta' holds shapes alone"),
        ("--step-size -0.1", "step_size must be positive and finite, got -0.1"),
        ("--step-size 5", "is unstable: the margin"),
        ("--penalty 0", "penalty must be positive"),
        ("--dual-step -1", "dual_step must be zero or positive"),
        ("--anchor -1", "anchor must be zero or positive"),
        ("--dataset mnist --data-dir missing", "data_dir must be an existing folder, got 'missing'"),
        ("--output /dev/null/run", "output must be a directory that can be written, got '/dev/null/run'"),
        ("--output=", "output must be the path of a file or folder, got ''"),
        ("--data-dir=", "data_dir must be the path of a file or folder, got ''"),
    ],
)
def test_bad_input(options: str, message: str) -> None:
    assert_sentence(run(f"{SMALL} {options}"), 2, message)


@pytest.mark.parametrize("command", ["trian", "train --depht 3", "train --depth three", "train --depth"])
def test_wrong_usage(command: str) -> None:
    result = run(command)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Error: " in result.stderr


def test_divergence() -> None:
    result = run(f"{SMALL} --activation linear --lr 1e30 --method bp")
    assert_sentence(result, 1, "training diverged at update 2")


def test_interrupt(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*arguments: Any, **settings: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pcalm.experiments.training.train", interrupt)
    assert_sentence(run(SMALL), 130, "interrupted; with --output, the same command goes on from there")


def test_doctor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PCALM_DATA", str(tmp_path))
    monkeypatch.setattr("pcalm.experiments.data.cache_dir", lambda: tmp_path)
    result = run("doctor")
    assert result.exit_code == 0
    assert re.search(rf"^torch +{re.escape(torch.__version__)}$", result.stdout, re.MULTILINE)
    assert re.search("^reference +float64 +works$", result.stdout, re.MULTILINE)
    assert re.search("^triton +float32 +does not work: .*", result.stdout, re.MULTILINE)
    assert re.search("^mnist +not on this machine", result.stdout, re.MULTILINE)
    assert_sentence(run("doctor --device cuda:99"), 2, "device 'cuda:99' is not on this machine")


def pcalm(command: str, **settings: Any) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "pcalm", *command.split()], stderr=subprocess.PIPE, text=True, check=False, **settings
    )


@pytest.mark.parametrize("command", ["train", "grid", "report", "doctor"])
@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "ascii", "utf-16"])
def test_what_the_output_cannot_show_is_shown_as_a_question_mark(
    command: str, encoding: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records.write(tmp_path / "λ", train_pack([Grid(depths=(4,), widths=(4,), engine="reference").runs()[0]], None)[0])
    arguments = {
        "train": SMALL.split(),
        "grid": ["grid", "--output", str(tmp_path / "λ"), "--dry-run"],
        "report": ["report", "--results", str(tmp_path / "λ"), "--output", str(tmp_path / "Δ")],
        "doctor": ["doctor"],
    }
    content = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(content, encoding=encoding))
    monkeypatch.setattr(sys, "argv", ["pcalm", *arguments[command]])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    sys.stdout.flush()
    shown = content.getvalue().decode("utf-8" if encoding == "ascii" else encoding)
    expected = {
        "train": r"step size [η?] +0\.\d+",
        "grid": r"12 runs: 0 done, 12 to do",
        "report": r"/[Δ?]/index\.html",
        "doctor": r"Engines on cpu:",
    }
    assert re.search(expected[command], shown), shown


@pytest.mark.parametrize(
    ("output", "message"), [("pipe", "Broken pipe"), ("/dev/full", "No space left on device")], ids=["pipe", "disk"]
)
def test_a_result_that_nobody_reads_is_kept(tmp_path: Path, output: str, message: str) -> None:
    if output == "pipe":
        reading, writing = os.pipe()
        os.close(reading)
    elif Path(output).exists():
        writing = os.open(output, os.O_WRONLY)
    else:
        pytest.skip(f"this system has no {output}")
    result = pcalm(f"{SMALL} --output {tmp_path}", stdout=writing)
    os.close(writing)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1] == f"pcalm: the standard output cannot be written: {message}"
    assert "Exception ignored" not in result.stderr
    again = run(f"{SMALL} --output {tmp_path}")
    assert (again.exit_code, again.stderr) == (
        0,
        f"{tmp_path} holds this run, and it is done; --overwrite starts it anew\n",
    )


def test_without_an_error_stream_a_run_goes_on(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "pcalm", *SMALL.split(), "--epochs", "2"]
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=writing, text=True, check=False)
    os.close(writing)
    assert result.returncode == 0
    assert "test accuracy" in result.stdout
    closed = subprocess.run(
        ["sh", "-c", 'exec "$@" 2>&-', "sh", *command], stdout=subprocess.PIPE, text=True, check=False
    )
    assert closed.returncode == 0
    assert "test accuracy" in closed.stdout


def test_python_m_pcalm() -> None:
    command = [sys.executable, "-m", "pcalm", "train", "--depth", "1"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == "pcalm: depth must be at least 3, got 1\n"
