"""A run in a directory, which holds

    config.json       all settings
    metrics.csv       one row per logged update
    summary.json      the result, once it is there
    checkpoint.pt     weights, optimiser and position, from which an interrupted run goes on

Each file is replaced as a whole, so that it is never there half-written.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import pickle
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from pcalm.checks import require
from pcalm.experiments.config import TrainingConfig
from pcalm.experiments.divergence import Divergence, DivergenceError, Row
from pcalm.experiments.storage import replacing, write_json, write_text
from pcalm.experiments.training import COLUMNS, Training, converged

CONFIG, METRICS, SUMMARY, CHECKPOINT = "config.json", "metrics.csv", "summary.json", "checkpoint.pt"


def train_to(
    config: TrainingConfig,
    output: str | Path,
    *,
    overwrite: bool = False,
    data_dir: str | Path | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """One run that leaves config.json, metrics.csv, summary.json and checkpoint.pt in a directory.

    The same call goes on with an interrupted run, to the same result bit for bit, and returns the summary of a run
    that is done. Other arguments and errors as in `train`.

    Args:
        output: the directory; made if need be.
        overwrite: starts anew, whatever run the directory holds.

    Returns:
        The summary, with at least test_accuracy (0..1), gradient_cosine and seconds.

    Raises:
        ValueError: a directory that cannot be written, holds another configuration's run, or is damaged.
    """
    directory = Path(output)
    held = None if overwrite else finished(config, directory)
    if held is not None:
        return held
    with _writable(directory):
        training = Training([config], data_dir=data_dir)
        checkpoint = directory / CHECKPOINT
        if overwrite:
            for name in (SUMMARY, CHECKPOINT, METRICS, CONFIG):
                (directory / name).unlink(missing_ok=True)
        write_json(directory / CONFIG, config.resolved())
    if checkpoint.exists():
        training.restore(_read_checkpoint(checkpoint, training.net.device))

    def save() -> None:
        _write_metrics(directory / METRICS, training.metrics[0])
        with replacing(checkpoint) as file:
            torch.save(training.state(), file)

    (run,) = training.run(save=save, progress=progress)
    _write_metrics(directory / METRICS, run.metrics)
    write_json(directory / SUMMARY, run.summary)
    return converged(run).summary


def finished(config: TrainingConfig, output: str | Path) -> dict[str, Any] | None:
    """The summary if the directory holds this run and it is done; None if it holds nothing, or a part of this run.

    Raises:
        ValueError: the directory holds another configuration's run, or is damaged.
        DivergenceError: the run is done, and diverged.
    """
    directory, settings = Path(output), _settings(config)
    instead = "use --overwrite to start anew, or another output directory"
    if not (directory / CONFIG).is_file():
        strangers = [name for name in (METRICS, SUMMARY, CHECKPOINT) if (directory / name).exists()]
        require(not strangers, f"output {str(directory)!r} has {', '.join(strangers)} but no {CONFIG}; {instead}")
        return None
    found = _read_json(directory / CONFIG, instead)
    names = sorted({*found, *settings}, key=lambda name: (name not in settings, name))
    differing = [
        f"{name} is {found.get(name)!r} there, {settings.get(name)!r} here"
        for name in names
        if found.get(name) != settings.get(name)
    ]
    require(
        not differing,
        f"output {str(directory)!r} holds a run of another configuration: {'; '.join(differing)}; {instead}",
    )
    if not (directory / SUMMARY).is_file():
        return None
    summary = _read_json(directory / SUMMARY, instead)
    if summary.get("divergence"):
        raise DivergenceError(Divergence(**summary["divergence"]), read_metrics(directory / METRICS))
    return summary


def read_metrics(path: Path) -> list[Row]:
    """The rows of a metrics.csv, as in `Run.metrics`."""
    with path.open(newline="") as file:
        return [
            {name: (int if name in ("step", "epoch") else float)(text) if text else None for name, text in row.items()}
            for row in csv.DictReader(file)
        ]


def _write_metrics(path: Path, rows: list[Row]) -> None:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def _settings(config: TrainingConfig) -> dict[str, Any]:
    """The settings as they come back from JSON."""
    return json.loads(json.dumps(config.resolved()))


def _read_json(path: Path, instead: str) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}; {instead}") from error
    require(isinstance(found, dict), f"{path} is damaged: it holds no object; {instead}")
    return found


def _read_checkpoint(path: Path, device: torch.device) -> dict[str, Any]:
    content = path.read_bytes()
    try:
        return torch.load(io.BytesIO(content), map_location=device, weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path} is damaged: {reason}; delete it, or use --overwrite to start anew") from error


@contextlib.contextmanager
def _writable(directory: Path) -> Iterator[None]:
    """Makes the directory and sees that it can be written; if the block fails, one that was made here is gone again."""
    existed = directory.exists()
    try:
        directory.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=directory).close()
    except OSError as error:
        raise ValueError(
            f"output must be a directory that can be written, got {str(directory)!r}: {error.strerror}"
        ) from error
    try:
        yield
    except BaseException:
        if not existed:
            with contextlib.suppress(OSError):
                directory.rmdir()
        raise
