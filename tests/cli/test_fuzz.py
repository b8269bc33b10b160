"""Every option of every command with hundreds of values: a sentence, or exactly what was asked; never a traceback."""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, get_type_hints
from unittest import mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from pcalm import cli
from pcalm.cli import app
from pcalm.cli.grid import grid
from pcalm.cli.report import report
from pcalm.experiments import rundir, scheduling, training
from pcalm.experiments.config import TrainingConfig
from pcalm.experiments.grid import AXES, Grid
from pcalm.experiments.scheduling import Outcome

COMMANDS: dict[str, Callable[..., None]] = {"train": cli.train, "grid": grid, "report": report, "doctor": cli.doctor}
KINDS: dict[Any, Callable[[str], Any]] = {int: Decimal, int | None: Decimal, float: float, float | None: float}
# (command, argument, what reads its value: 3.0 is an integer, too)
OPTIONS = [
    (command, name, KINDS.get(kind, str))
    for command, function in COMMANDS.items()
    for name, kind in get_type_hints(function).items()
    if name != "return" and kind is not bool
]
NEEDED = {"train": {}, "grid": {"output": "out"}, "report": {"results": "in", "output": "out"}, "doctor": {}}
ODD = (
    "", " ", "0", "-0", "-1", "1", "3", "+3", "3.0", "1.5", "1e3", "1e308", "1e309", "1e-320", "nan", "-nan", "inf",
    "-inf", "1_0", "0x10", "٣", "9223372036854775807", "9223372036854775808", "-9223372036854775809", "9" * 30,
    "9" * 5000,
    "True", "None", "auto", "cpu", "cpu:0", "cpu:1", "cpu:-1", "cuda", "cuda:99", "meta", "mps", "xpu", "hpu", "vulkan",
    "lazy", "privateuseone", "bp", "digits", "Digits", "relu ", "float32", "float16", "before", "paper", "quick", ",",
    "8,16", "8,,16", "8,x", "1.25,2", "nan,1", "digits,mnist", "tls://127.0.0.1:1", "nonsense", "tcp://", "a.csv", ".",
    "..", "/", "/dev/null", "/dev/null/x", "/dev/full", "a" * 300, "a/" * 3000, "~", "λ", "\n", "a\nb", "'", '"', "-",
    "--", "--help", "-h", "%s", "{}", "[" * 1000, "\x1b[31m", "\ud800",
)  # fmt: skip
VALUES = st.one_of(
    st.sampled_from(ODD),
    st.integers().map(str),
    st.floats().map(repr),
    st.text(st.characters(exclude_characters="\0"), max_size=12),
    st.lists(st.one_of(st.integers(-1, 70), st.floats(), st.sampled_from(["relu", "bp", "x"])), max_size=4).map(
        lambda values: ",".join(map(str, values))
    ),
)


@contextlib.contextmanager
def nothing_is_run() -> Iterator[list[dict[str, Any]]]:
    """What the commands would do, instead of doing it."""
    asked: list[dict[str, Any]] = []

    def train(config: TrainingConfig, output: Any = None, **more: Any) -> Any:
        asked.append({**vars(config), "output": output, **more})
        summary = dict.fromkeys(
            ("test_accuracy", "train_loss", "gradient_cosine", "gradient_norm_ratio", "inference_steps", "step_size",
             "margin_at_start", "margin", "updates", "seconds", "samples_per_second")
        ) | {"engine": "none"}  # fmt: skip
        return mock.Mock(summary=summary) if output is None else summary

    def compute(chosen: Grid, output: Any, **more: Any) -> Outcome:
        chosen.runs()
        asked.append({**vars(chosen), "output": output, **more})
        return Outcome(0, 0, 0, [])

    def write(results: Path, output: Path, title: str) -> Path:
        asked.append({"results": str(results), "output": str(output), "title": title})
        return output

    with (
        mock.patch.object(training, "train", train),
        mock.patch.object(rundir, "train_to", train),
        mock.patch.object(rundir, "finished", return_value=None),
        mock.patch.object(scheduling, "compute", compute),
        mock.patch("pcalm.report.write.write_report", write),
    ):
        yield asked


def assert_sentence(result: Any) -> None:
    """A sentence of ours, behind what was shown of a run so far, or typer's usage; and no result."""
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code in (1, 2)
    assert "Traceback" not in result.stderr
    assert len(re.findall(r"^(?:pcalm: \S|Usage: )", result.stderr, re.MULTILINE)) == 1, result.stderr
    assert result.stdout == ""


@pytest.mark.usefixtures("in_an_empty_folder")
@settings(
    max_examples=600, derandomize=True, deadline=None, database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(option=st.sampled_from(OPTIONS), value=VALUES)
def test_every_option(option: tuple[str, str, Callable[[str], Any]], value: str) -> None:
    command, name, read = option
    options = {**NEEDED[command], name: value}
    arguments = [command, *(f"--{name.replace('_', '-')}={text}" for name, text in options.items())]
    with nothing_is_run() as asked:
        result = CliRunner().invoke(app, arguments, prog_name="pcalm")
    if result.exit_code:
        assert_sentence(result)
        return
    assert result.exception is None
    if command == "doctor":
        assert f"Engines on {value}" in result.stdout
        return
    if name in ("preset", "file", "export"):
        return
    (found,) = asked
    if name in AXES:
        expected = tuple(type(getattr(Grid(), name)[0])(part.strip()) for part in value.split(",") if part.strip())
        assert found[name] == expected
    elif name == "step_size":  # a number, or the name of a rule
        assert found[name] in (value, read_number(value))
    else:
        assert found[name] == read(value)
    # And nothing else changed: all other settings are what they are without it.
    settings_of: Any = {"train": TrainingConfig, "grid": Grid}.get(command)
    if settings_of:
        names = {field.name for field in dataclasses.fields(settings_of)}
        alone = settings_of(**({name: found[name]} if name in names else {}))
        assert {each: found[each] for each in names} == {each: getattr(alone, each) for each in names}


def read_number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


EXTREMES = ("5e-324", "1e-300", "1e-30", "1e-8", "0.1", "1", "3", "1e8", "1e30", "1e300", "1.7976931348623157e308")
NUMBERS = ("step_size", "penalty", "dual_step", "anchor", "lr")


@settings(max_examples=100, derandomize=True, deadline=None, database=None)
@given(
    chosen=st.dictionaries(st.sampled_from(NUMBERS), st.one_of(st.sampled_from(EXTREMES), st.floats(0).map(repr))),
    method=st.sampled_from(["bp", "pc", "pcalm"]),
    activation=st.sampled_from(["linear", "tanh", "relu"]),
    dtype=st.sampled_from(["float32", "float64"]),
    log_every=st.sampled_from([1, 2**63 - 1]),
)
def test_numbers_of_any_size_train_or_are_refused(
    chosen: dict[str, str], method: str, activation: str, dtype: str, log_every: int
) -> None:
    """In earnest: one update of a small network."""
    given_options = {"method": method, "activation": activation, "dtype": dtype, "log_every": log_every, **chosen}
    options = [f"--{name.replace('_', '-')}={value}" for name, value in given_options.items()]
    small = ["train", "--depth", "3", "--width", "2", "--steps", "4", "--batch-size", "1440", "--engine", "reference"]
    result = CliRunner().invoke(app, [*small, *options], prog_name="pcalm")
    if result.exit_code:
        assert_sentence(result)
    else:
        assert re.search(r"^test accuracy +\d+\.\d\d%$", result.stdout, re.MULTILINE)
        assert not re.search(r"\b(nan|inf)\b", result.stdout)
        if "step_size" in chosen and method != "bp":
            assert re.search(
                rf"^step size η +{re.escape(format(float(chosen['step_size']), '.4f'))}$", result.stdout, re.M
            )


@pytest.fixture
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The commands write nothing but where they are told to, and here they are told nothing."""
    monkeypatch.chdir(tmp_path)
    yield
    assert list(tmp_path.iterdir()) == []
