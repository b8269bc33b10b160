"""A run in a directory, which holds

    config.json       all settings, with the engine that "auto" stood for when the run began
    metrics.csv       one row per logged update
    summary.json      the result, once it is there
    SHA256SUMS        of these three, written last: with it the run is done (`sha256sum --check` reads it, too)
    checkpoint.pt     weights, optimiser and position, from which an interrupted run goes on; its own SHA-256 behind

Each file is replaced as a whole, so that it is never there half-written, and what has changed since is refused.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import io
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from pcalm.checks import first_line, location, require
from pcalm.engines import BLOCKS, ENGINES, MODULES, reasons
from pcalm.experiments.config import DTYPE_NAMES, TrainingConfig
from pcalm.experiments.divergence import Divergence, DivergenceError, Row
from pcalm.experiments.storage import digest, read_json, replacing, sealed, unsealed, write_json, write_text
from pcalm.experiments.training import COLUMNS, Training, converged
from pcalm.network import resolve_device

CONFIG, METRICS, SUMMARY, CHECKPOINT = "config.json", "metrics.csv", "summary.json", "checkpoint.pt"
SUMS = "SHA256SUMS"
INSTEAD = "use --overwrite to start anew, or another output directory"


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
    that is done. With engine "auto" it goes on with the engine that the run began with. Other arguments and errors as
    in `train`.

    Args:
        output: the directory; made if need be.
        overwrite: starts anew, whatever run the directory holds.

    Returns:
        The summary, with at least test_accuracy (0..1), gradient_cosine and seconds.

    Raises:
        ValueError: a directory that cannot be written, holds another configuration's run, or is damaged; or a run that
            began with an engine that does not work here now.
        OSError: the disk is full; the last checkpoint is kept.
    """
    directory = location("output", output)
    held = None if overwrite else finished(config, directory)
    if held is not None:
        return held
    if not overwrite and (begun := _begun(config, directory)):
        config = begun
        modules = BLOCKS if config.of_blocks else MODULES
        reason = reasons(resolve_device(config.device), DTYPE_NAMES[config.dtype], modules).get(config.engine)
        require(
            reason is None,
            f"output {str(directory)!r} holds a run that began with engine {config.engine!r}, which does not work here "
            f"now: {reason}; mend that, or {INSTEAD}",
        )
    with _writable(directory):
        training = Training([config], data_dir=data_dir)
        if overwrite:
            for name in (SUMS, SUMMARY, CHECKPOINT, METRICS, CONFIG):
                (directory / name).unlink(missing_ok=True)
    checkpoint = directory / CHECKPOINT
    if checkpoint.exists():
        _restore(training, checkpoint)

    def save() -> None:
        with _keeping(directory):
            _write_metrics(directory / METRICS, training.metrics[0])
            content = io.BytesIO()
            torch.save(training.state(), content)
            with replacing(checkpoint) as file:
                file.write(sealed(content.getvalue()))

    with _keeping(directory):
        write_json(directory / CONFIG, training.config.resolved())
    (run,) = training.run(save=save, progress=progress)
    with _keeping(directory):
        _write_metrics(directory / METRICS, run.metrics)
        write_json(directory / SUMMARY, run.summary)
        write_text(directory / SUMS, "".join(f"{line}\n" for line in _sums(directory)))
    return converged(run).summary


def finished(config: TrainingConfig, output: str | Path) -> dict[str, Any] | None:
    """The summary if the directory holds this run and it is done; None if it holds nothing, or a part of this run.

    Raises:
        ValueError: the directory holds another configuration's run, or is damaged.
        DivergenceError: the run is done, and diverged.
    """
    directory = location("output", output)
    if _begun(config, directory) is None or not all((directory / name).exists() for name in (SUMMARY, SUMS)):
        return None
    noted = (directory / SUMS).read_bytes().decode(errors="replace").splitlines()
    changed = [line.split()[-1] for line in _sums(directory) if line not in noted]
    require(
        not changed,
        f"output {str(directory)!r}: {', '.join(changed)} is damaged: it is not what {SUMS} notes; {INSTEAD}",
    )
    summary = _read_json(directory / SUMMARY)
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


def _begun(config: TrainingConfig, directory: Path) -> TrainingConfig | None:
    """The configuration with the engine that the run in the directory began with; None if there is no run."""
    if not (directory / CONFIG).is_file():
        strangers = [name for name in (METRICS, SUMMARY, SUMS, CHECKPOINT) if (directory / name).exists()]
        require(not strangers, f"output {str(directory)!r} has {', '.join(strangers)} but no {CONFIG}; {INSTEAD}")
        return None
    found = _read_json(directory / CONFIG)
    settings = json.loads(json.dumps(config.resolved()))  # as they come back from JSON
    lacking = [name for name in settings if name not in found]
    require(
        not lacking,
        f"{directory / CONFIG} is damaged, or of another version: it has no {', '.join(lacking)}; {INSTEAD}",
    )
    if config.engine == "auto" and found.get("engine") in ENGINES:
        settings["engine"] = found["engine"]
    names = sorted(found, key=lambda name: (name not in settings, name))
    differing = [
        f"{name} is {found[name]!r} there, {settings.get(name)!r} here"
        for name in names
        if name not in settings or found[name] != settings[name]
    ]
    require(
        not differing,
        f"output {str(directory)!r} holds a run of another configuration: {'; '.join(differing)}; {INSTEAD}",
    )
    if settings["engine"] != config.engine:
        config = dataclasses.replace(config, engine=settings["engine"])
    return config


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return read_json(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}; {INSTEAD}") from error


def _write_metrics(path: Path, rows: list[Row]) -> None:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def _sums(directory: Path) -> list[str]:
    """The lines of SHA256SUMS if the files are those of a finished run; a file that is missing counts as empty."""
    paths = [directory / name for name in (CONFIG, METRICS, SUMMARY)]
    return [f"{digest(path.read_bytes() if path.is_file() else b'')}  {path.name}" for path in paths]


def _restore(training: Training, path: Path) -> None:
    """Goes on from a checkpoint.

    Raises:
        ValueError: it is damaged, or of another run.
    """
    try:
        content = io.BytesIO(unsealed(path.read_bytes()))
        training.restore(torch.load(content, map_location=training.net.device, weights_only=True))
    except Exception as error:  # a foreign pickle may raise anything
        raise ValueError(
            f"{path} is damaged: {first_line(error)}, or it is of another version; delete it, or use --overwrite to "
            "start anew"
        ) from error


@contextlib.contextmanager
def _keeping(directory: Path) -> Iterator[None]:
    """Says what is left when a file cannot be written."""
    try:
        yield
    except OSError as error:
        raise OSError(f"{error}; the last checkpoint is kept, and the same command goes on from there") from error


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
