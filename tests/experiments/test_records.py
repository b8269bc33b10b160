"""Records of training runs: keys, files that are whole or not there, damage, the table and its exports."""

from __future__ import annotations

import dataclasses
import math
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pandas
import pytest
from pandas.testing import assert_frame_equal

import pcalm
from pcalm.experiments import records
from pcalm.experiments.config import TrainingConfig
from pcalm.experiments.records import Record
from pcalm.experiments.training import COLUMNS

SUMMARY = {
    "status": "finished",
    "divergence": None,
    "test_accuracy": 0.1 + 0.2,  # 17 digits
    "train_loss": 0.125,
    "gradient_cosine": 0.9,
    "gradient_norm_ratio": 0.8,
    "test_correct": "/4A=",
    "step_size": 0.23,
    "margin_at_start": 1.0,
    "margin": 0.9,
    "updates": 22,
    "seconds": 6.0,
}
DIVERGED = SUMMARY | {
    "status": "diverged",
    "divergence": {"step": 7, "inference_step": 3, "layer": 2, "margin": -0.1, "message": "training diverged, because"},
    "test_accuracy": None,
    "train_loss": None,
    "gradient_cosine": None,
    "gradient_norm_ratio": None,
    "test_correct": None,
}
CURVE: dict[str, list[Any]] = {
    "step": [10, 20],
    "epoch": [1, 1],
    "loss": [1 / 3, 2e-9 / 3],
    "accuracy": [0.25, 0.5],
    "test_accuracy": [None, 0.75],
    "margin": [None, math.inf],
    "gradient_cosine": [None, 0.9],
    "gradient_norm_ratio": [None, 0.8],
    "eigenvalue": [None, 4.4],
    "growth": [None, 1.9],
}


def record(setting: str = "pcalm", summary: dict[str, Any] = SUMMARY, **changed: Any) -> Record:
    config = {**TrainingConfig(**changed).resolved(), "engine": "cpu"}
    versions = {"pcalm": "1.0", "python": "3.12.0", "torch": "2.12", "numpy": "2.1"}
    machine = {"platform": "Linux", "device": "x86_64", "threads": 1}
    return Record(setting, config, summary, CURVE, 3, versions, machine, "abc-dirty", "2026-01-02T03:04:05+00:00")


EXAMPLES = [
    record(seed=1),
    record("bp", SUMMARY | {"step_size": None, "margin_at_start": None, "margin": None}, method="bp"),
    record(summary=DIVERGED, depth=8, steps=10, step_size=0.25),
]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    for each in EXAMPLES:
        records.write(tmp_path, each)
    return tmp_path


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [entry.getMessage() for entry in caplog.records if entry.name == "pcalm"]


def test_the_key_is_of_what_determines_the_result() -> None:
    changes: dict[str, Any] = {
        "dataset": "mnist", "method": "bp", "depth": 33, "width": 33, "activation": "tanh", "seed": 1, "epochs": 2,
        "steps": 3, "step_size": 0.1, "penalty": 2.0, "dual_step": 2.0, "inner_steps": 2, "credit": "after",
        "anchor": 1.0, "lr": 0.1, "batch_size": 65, "log_every": 11, "engine": "torch", "device": "cuda",
        "dtype": "float64", "gauge": "credit", "network": "conv", "loss": "cross_entropy", "validation": 0.1,
    }  # fmt: skip
    assert set(changes) == {field.name for field in dataclasses.fields(TrainingConfig)}
    configs = [TrainingConfig(), *(TrainingConfig(**{name: value}) for name, value in changes.items())]
    keys = {records.key_of(config.resolved()) for config in configs}
    assert len(keys) == len(configs)
    assert records.key_of(configs[0].resolved(), "theirs") not in keys
    # What means the same run has the same key, and how and when it was computed has none of it.
    assert records.key_of(TrainingConfig(steps=64).resolved()) in keys
    other = dataclasses.replace(EXAMPLES[0], replicas=1, machine={}, versions={}, commit=None, finished="")
    assert other.key == EXAMPLES[0].key


def test_a_table_of_all_runs(directory: Path) -> None:
    table = records.load_table(directory)
    assert list(table["key"]) == sorted(each.key for each in EXAMPLES)
    assert list(table.columns) == list(records.COLUMNS)
    assert {name: str(dtype) for name, dtype in table.dtypes.items()} == {
        name: dtype for name, (_, _, dtype) in records.COLUMNS.items()
    }
    rows = table.set_index("key")
    plain, bp, diverged = (rows.loc[each.key] for each in EXAMPLES)
    facts = {
        "implementation": "pcalm", "setting": "pcalm", "dataset": "digits", "depth": 32, "seed": 1, "steps": 64,
        "budget": 2.0, "step_size": 0.23, "engine": "cpu", "status": "finished", "test_accuracy": 0.1 + 0.2,
        "seconds": 2.0, "replicas": 3, "finished": "2026-01-02T03:04:05+00:00", "commit": "abc-dirty",
        "pcalm": "1.0", "python": "3.12.0", "torch": "2.12", "numpy": "2.1", "platform": "Linux", "machine": "x86_64",
        "threads": 1,
    }  # fmt: skip
    assert {name: plain[name] for name in facts} == facts
    assert plain[["step_size_given", "diverged_step", "divergence"]].isna().all()
    assert bp[["steps", "budget", "step_size", "margin"]].isna().all()
    facts = {"budget": 1.25, "step_size_given": 0.25, "status": "diverged", "diverged_step": 7}
    assert {name: diverged[name] for name in facts} == facts
    assert diverged["divergence"] == "training diverged, because"
    assert diverged[["test_accuracy", "train_loss", "gradient_cosine", "gradient_norm_ratio"]].isna().all()


def test_every_column_is_documented() -> None:
    assert records.__doc__ is not None
    described = re.split(r"[\s,]+", records.__doc__)
    assert [name for name in records.COLUMNS if name not in described] == []
    assert set(records.COLUMNS) >= {field.name for field in dataclasses.fields(TrainingConfig)}


def test_curves(directory: Path) -> None:
    every = records.load_curves(directory)
    assert list(every.columns) == ["key", *sorted(COLUMNS)]
    assert len(every) == 2 * len(EXAMPLES)
    one = records.load_curves(directory, [EXAMPLES[0].key])
    assert one["loss"].tolist() == [0.333333, 6.66667e-10]
    assert one["step"].tolist() == [10, 20]
    assert one["test_accuracy"].isna().tolist() == [True, False]
    assert one["margin"].isna().all()
    assert records.load_curves(directory, []).empty


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_exports_hold_the_whole_table(directory: Path, suffix: str) -> None:
    table = records.load_table(directory)
    records.export(table, directory / f"table{suffix}")
    assert_frame_equal(records.load_table(directory / f"table{suffix}"), table)


def test_an_empty_directory_has_an_empty_table(tmp_path: Path) -> None:
    assert records.keys(tmp_path) == set()
    table = records.load_table(tmp_path)
    assert table.empty
    assert list(table.columns) == list(records.COLUMNS)
    for suffix in (".parquet", ".csv"):
        records.export(table, tmp_path / f"table{suffix}")
        assert_frame_equal(records.load_table(tmp_path / f"table{suffix}"), table)


def test_a_record_replaces_one_of_its_key(directory: Path) -> None:
    records.write(directory, dataclasses.replace(EXAMPLES[0], summary=SUMMARY | {"test_accuracy": 0.5}))
    table = records.load_table(directory).set_index("key")
    assert len(table) == len(EXAMPLES)
    assert table.loc[EXAMPLES[0].key, "test_accuracy"] == 0.5


def test_a_record_is_never_half_there(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path: path.read_bytes() for path in (directory / "records").iterdir()}

    def fail(*places: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", fail)
    for each in (EXAMPLES[0], record(seed=9)):
        with pytest.raises(OSError, match="No space left"):
            records.write(directory, each)
    assert {path: path.read_bytes() for path in (directory / "records").iterdir()} == before


def test_values_that_json_lacks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        records.write(tmp_path, record(summary=SUMMARY | {"train_loss": math.nan}))
    assert not (tmp_path / "records").exists()


def damage(path: Path, kind: str) -> None:
    content = path.read_bytes()
    if kind == "renamed":
        path.rename(path.with_name("0" * 32 + ".jsonl"))
    elif kind == "a folder":
        path.unlink()
        path.mkdir()
    else:
        bad = {"empty": b"", "truncated": content[:-100], "a digit": content.replace(b"0.125", b"0.126")}
        assert bad[kind] != content
        path.write_bytes(bad[kind])


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("empty", "it is empty"),
        ("truncated", "its checksum is wrong"),
        ("a digit", "its checksum is wrong"),
        ("renamed", "it is the record of"),
        ("a folder", "Is a directory"),
    ],
)
def test_damaged_records_are_left_out_and_named(
    directory: Path, caplog: pytest.LogCaptureFixture, kind: str, reason: str
) -> None:
    broken, *sound = EXAMPLES
    damage(records.path_of(directory, broken.key), kind)
    assert records.keys(directory) == {each.key for each in sound}
    (warning,) = warnings(caplog)
    assert re.search(rf"{re.escape(str(directory))}/records/\w+\.jsonl is damaged \(.*{reason}.*\)", warning)
    assert set(records.load_table(directory)["key"]) == {each.key for each in sound}
    assert not records.sound(directory, broken.key)
    assert records.sound(directory, sound[0].key)


def test_other_files_are_no_records(directory: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("notes.txt", ".deadbeef.jsonl.0123.tmp", ".hidden.jsonl"):
        (directory / "records" / name).write_text("?")
    assert records.keys(directory) == {each.key for each in EXAMPLES}
    assert warnings(caplog) == []


@pytest.mark.parametrize(
    ("source", "message"),
    [("nowhere", "source must be an existing directory of records, got '.*nowhere'"),
     ("notes.txt", r"source must be a directory, \.parquet or \.csv, got '.*notes.txt'")],
)  # fmt: skip
def test_wrong_sources(tmp_path: Path, source: str, message: str) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ValueError, match=message):
        records.load_table(tmp_path / source)


@pytest.mark.parametrize(
    ("path", "message"),
    [("table.xlsx", r"export must end in \.parquet or \.csv, got"),
     ("nowhere/table.csv", "export must be in an existing folder, got")],
)  # fmt: skip
def test_wrong_exports(tmp_path: Path, path: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        records.export(pandas.DataFrame(), tmp_path / path)


def test_the_commit_is_of_our_own_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    package = tmp_path / "venv" / "pcalm"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    monkeypatch.setattr(pcalm, "__file__", str(package / "__init__.py"))
    find = records.source_commit.__wrapped__
    assert find() is None
    # Inside somebody's repository which does not track the package.
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    author = ["-c", "user.name=A", "-c", "user.email=a@example.org"]

    def git(*arguments: str) -> str:
        return subprocess.run(["git", "-C", tmp_path, *arguments], check=True, capture_output=True, text=True).stdout

    git("init", "--quiet")
    git(*author, "commit", "--quiet", "--allow-empty", "-m", "theirs")
    assert find() is None
    git("add", ".")
    git(*author, "commit", "--quiet", "-m", "ours")
    commit = git("rev-parse", "HEAD").strip()
    assert find() == commit
    (package / "__init__.py").write_text("changed")
    assert find() == f"{commit}-dirty"
    assert warnings(caplog) == []
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    assert find() is None
    (warning,) = warnings(caplog)
    assert re.search("records will name no commit, since git says: .*dubious ownership.* safe.directory", warning)


def test_how_eta_was_found_is_part_of_a_methods_name(tmp_path: Path) -> None:
    """Where it is not the method's own way; and what older runs did not know is what they were."""
    for setting in ("pc", "pcalm", "anchored", "gauged"):
        for rule in ("start", "tracked", 0.1):
            made = record(setting, method="pc" if setting == "pc" else "pcalm", step_size=rule, depth=len(setting) + 3)
            records.write(tmp_path, made)
    records.write(tmp_path, record("pcalm", network="conv", depth=20))
    table = records.load_table(tmp_path)
    assert set(table["setting"]) == {
        "pc", "pc-tracked", "pcalm", "pcalm-tracked", "anchored", "anchored-start", "gauged", "gauged-start",
    }  # fmt: skip
    conv = table[table["depth"] == 20].iloc[0]
    assert (conv["network"], conv["loss"], conv["validation"]) == ("conv", "cross_entropy", 0.0)
    mlp = table[table["depth"] != 20]
    assert set(mlp["network"]) == {"mlp"}
    assert set(mlp["loss"]) == {"squared"}
    # An export of before there were these columns.
    older = table.drop(columns=["network", "loss", "validation", "test_correct", "eigenvalue", "growth"])
    older[older["depth"] != 20].to_csv(tmp_path / "older.csv", index=False)
    again = records.load_table(tmp_path / "older.csv")
    assert_frame_equal(
        again[["network", "loss", "validation"]], mlp[["network", "loss", "validation"]].reset_index(drop=True)
    )
    assert again["test_correct"].isna().all()


def test_the_keys_of_shipped_runs_are_what_they_were() -> None:
    """Those of the paper's methods, computed anew from their settings as of before there were networks and gauges."""
    table = records.load_table(Path(__file__).parents[2] / "reports" / "data" / "training.csv")
    papers = table[table["setting"].isin(["bp", "pc", "pcalm"])]
    assert len(papers) > 100
    names = [field.name for field in dataclasses.fields(TrainingConfig) if field.name != "step_size"]
    for run in papers.to_dict("records"):
        steps = None if run["method"] == "bp" else int(run["steps"])
        config = TrainingConfig(**{name: run[name] for name in names} | {"steps": steps})
        assert records.key_of(config.resolved()) == run["key"], run
