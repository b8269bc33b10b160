"""Records of finished training runs, one file each, and the table made from them.

    DIRECTORY/records/<key>.jsonl

holds one run in three lines, so that the table is read without the learning curves:

    1   the `Record`, with its key and without its curve
    2   the learning curve by columns: {"step": [...], "epoch": [...], "loss": [...], ...}, to six significant digits
    3   the SHA-256 of these two lines, by which a damaged file is recognised

The key is a hash of what determines the result: the whole configuration (engine and dtype among it) and the
implementation, but not how runs were packed. A file takes its place when it is complete, so it is never there in part.

`load_table` gives one row per run, with these columns (null where a run has no such value):

    key                  identifies the run, and its file
    implementation       "pcalm", or whose results these are
    setting              the method as the grid names it: "bp", "pc", "pcalm" (the paper's settings), "anchored",
                         "gauged"; with a step size found by the other rule than its own, "anchored-start" and so on,
                         "pc-tracked" and "pcalm-tracked"
    dataset, method, depth, width, activation, seed, epochs, steps, penalty, dual_step, inner_steps, credit, anchor,
    lr, batch_size, log_every, engine, device, dtype, network, loss, validation
                         as in `pcalm.experiments.training.TrainingConfig`; steps is null for BP
    budget               steps / depth, the budget T in multiples of L; null for BP
    step_size            η as used; null for BP
    step_size_given      η as asked for; null where it was found by a rule
    step_size_rule       "given", "start" (1/λ_max at the start) or "tracked"; null for BP
    gauge                "none" or "credit"
    status               "finished", "diverged", or "refused": settings that are unstable from the start
    diverged_step        the weight update at which it diverged; else null
    divergence           the sentence that says where and why, or why it was refused; else null
    test_accuracy        0..1, after the last epoch; null if it has not finished, as the next three
    train_loss           mean over the last epoch's logged batches
    gradient_cosine, gradient_norm_ratio
                         of the weight gradient to BP's, on the first 64 training samples after training
    test_correct         which test samples are classified correctly after the last epoch, in their order: base64 of
                         `numpy.packbits`; null if it has not finished, and in records of before it was written
    eigenvalue, growth   λ_max in the gauge in use (null for BP), and ‖δ_1‖/‖δ_{L-1}‖ of BP's adjoint, on these samples
                         after training; null in records of before they were written
    updates              weight updates made
    margin_at_start, margin, least_margin
                         stability margin before and after training (stable above 0), and the least that was found with
                         the step size in use; null for BP
    seconds              the run's share of the time of its pass: that of the pass over `replicas`
    replicas             runs that were trained together in that pass
    finished             when, in ISO 8601, UTC
    commit               of pcalm's source, "-dirty" behind it if that was changed; null for an installed package
    pcalm, python, torch, numpy
                         versions
    platform, machine, threads
                         the operating system, the processor or GPU, and the threads of one run
"""

from __future__ import annotations

import functools
import json
import logging
import math
import os
import subprocess
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pcalm
from pcalm.checks import LARGEST, require
from pcalm.experiments.config import LATER, STEP_SIZES, TrainingConfig
from pcalm.experiments.machine import environment
from pcalm.experiments.schema import (
    Check,
    anything,
    fields,
    integer,
    line,
    listing,
    mapping,
    matching,
    nullable,
    number,
    text,
)
from pcalm.experiments.storage import digest, read_json, replacing, sealed, unsealed
from pcalm.experiments.tracking import UnstableError
from pcalm.experiments.training import COLUMNS as ROW
from pcalm.experiments.training import Run
from pcalm.network import resolve_device

if TYPE_CHECKING:
    import pandas

FOLDER, SUFFIX = "records", ".jsonl"
READERS = 16  # threads
OWN_IMPLEMENTATION = "pcalm"
# How the methods of a grid find η; before step sizes were tracked, anchored ones kept that of the start, too.
OWN_RULES = {"pc": "start", "pcalm": "start", "anchored": "tracked", "gauged": "tracked"}
VERSIONS = ("pcalm", "python", "torch", "numpy")
# column of the table: (its part of the record, or "" for the record itself; the name there; pandas dtype)
COLUMNS = {
    "key": ("", "key", "str"),
    "implementation": ("", "implementation", "str"),
    "setting": ("", "setting", "str"),
    "network": ("config", "network", "str"),
    "loss": ("config", "loss", "str"),
    "dataset": ("config", "dataset", "str"),
    "validation": ("config", "validation", "float64"),
    "method": ("config", "method", "str"),
    "depth": ("config", "depth", "int64"),
    "width": ("config", "width", "int64"),
    "activation": ("config", "activation", "str"),
    "seed": ("config", "seed", "int64"),
    "epochs": ("config", "epochs", "int64"),
    "steps": ("config", "steps", "Int64"),
    "budget": ("", "budget", "float64"),
    "step_size": ("summary", "step_size", "float64"),
    "step_size_given": ("", "step_size_given", "float64"),
    "step_size_rule": ("", "step_size_rule", "str"),
    "gauge": ("config", "gauge", "str"),
    "penalty": ("config", "penalty", "float64"),
    "dual_step": ("config", "dual_step", "float64"),
    "inner_steps": ("config", "inner_steps", "int64"),
    "credit": ("config", "credit", "str"),
    "anchor": ("config", "anchor", "float64"),
    "lr": ("config", "lr", "float64"),
    "batch_size": ("config", "batch_size", "int64"),
    "log_every": ("config", "log_every", "int64"),
    "engine": ("config", "engine", "str"),
    "device": ("config", "device", "str"),
    "dtype": ("config", "dtype", "str"),
    "status": ("summary", "status", "str"),
    "diverged_step": ("divergence", "step", "Int64"),
    "divergence": ("divergence", "message", "str"),
    "test_accuracy": ("summary", "test_accuracy", "float64"),
    "train_loss": ("summary", "train_loss", "float64"),
    "gradient_cosine": ("summary", "gradient_cosine", "float64"),
    "gradient_norm_ratio": ("summary", "gradient_norm_ratio", "float64"),
    "test_correct": ("summary", "test_correct", "str"),
    "eigenvalue": ("summary", "eigenvalue", "float64"),
    "growth": ("summary", "growth", "float64"),
    "updates": ("summary", "updates", "int64"),
    "margin_at_start": ("summary", "margin_at_start", "float64"),
    "margin": ("summary", "margin", "float64"),
    "least_margin": ("summary", "least_margin", "float64"),
    "seconds": ("", "seconds", "float64"),
    "replicas": ("", "replicas", "int64"),
    "finished": ("", "finished", "str"),
    "commit": ("", "commit", "str"),
    "pcalm": ("versions", "pcalm", "str"),
    "python": ("versions", "python", "str"),
    "torch": ("versions", "torch", "str"),
    "numpy": ("versions", "numpy", "str"),
    "platform": ("machine", "platform", "str"),
    "machine": ("machine", "device", "str"),
    "threads": ("machine", "threads", "Int64"),
}

# What has no value for some runs, or was not written by every version: all other text must be there.
MAY_LACK = ("step_size_rule", "divergence", "test_correct", "finished", "commit", *VERSIONS, "platform", "machine")
RANGES: dict[str, Check] = {
    "key": matching("[0-9a-f]{32}", "32 hexadecimal digits"),
    **{name: integer(1) for name in ("depth", "width", "steps", "inner_steps", "batch_size", "log_every", "replicas")},
    "seed": integer(-LARGEST - 1),
    "test_correct": matching("[A-Za-z0-9+/]*={0,2}", "base64"),
    "test_accuracy": number(0, 1),
    "validation": number(0, 1),
    **{name: number(0) for name in ("step_size", "budget", "seconds", "gradient_norm_ratio", "eigenvalue", "growth")},
}
OF_DTYPE: dict[str, Check] = {"int64": integer(), "Int64": integer(), "float64": number(), "str": text}


def _check_of(column: str) -> Check:
    dtype = COLUMNS[column][2]
    check = RANGES.get(column, OF_DTYPE[dtype] if dtype != "str" or column in MAY_LACK else line)
    return check if dtype == "int64" or (dtype == "str" and column not in MAY_LACK) else nullable(check)


# A value of each column, and so also what the parts of a record must hold.
CHECKS = {column: _check_of(column) for column in COLUMNS}

PART = mapping(anything)
HEAD = fields(
    {"key": line, "setting": line, "config": PART, "summary": PART, "replicas": integer(1), "versions": PART,
     "machine": PART, "commit": nullable(text), "finished": text, "implementation": line}
)  # fmt: skip
DERIVED = ("budget", "step_size_given", "step_size_rule")  # columns whose value the record does not hold as it is
SETTINGS = {field for part, field, _ in COLUMNS.values() if part == "config"} | {"step_size"}
CURVE = mapping(listing(nullable(number())))
NEEDED = {"step", "loss", "accuracy"}  # of a learning curve

log = logging.getLogger("pcalm")


@dataclass(frozen=True)
class Record:
    """A run that is done: it has finished, diverged, or was refused.

    Attributes:
        setting: the method's name in the grid.
        config: all settings, as `TrainingConfig.resolved()` gives them, with the engine that "auto" stood for.
        summary: the results, as in a run's summary.json; `seconds` is of the whole pass.
        curve: the learning curve by columns, equally long: {"step": [...], "loss": [...], ...}.
        replicas: runs trained in the same pass.
        versions: of the packages that the result depends on.
        machine: what it ran on.
        commit: of the source, or None.
        finished: time in ISO 8601, UTC.
        implementation: whose result it is.
    """

    setting: str
    config: dict[str, Any]
    summary: dict[str, Any]
    curve: dict[str, list[Any]]
    replicas: int
    versions: dict[str, str]
    machine: dict[str, Any]
    commit: str | None
    finished: str
    implementation: str = OWN_IMPLEMENTATION

    @property
    def key(self) -> str:
        return key_of(self.config, self.implementation)


def of_run(run: Run, setting: str) -> Record:
    """The record of a run that has just finished in this process."""
    summary = {name: value for name, value in run.summary.items() if name not in ("environment", "replicas", "engine")}
    curve = {name: [row[name] for row in run.metrics] for name in ROW}
    return _record(setting, run.config, summary, curve, run.summary["replicas"], run.summary["environment"])


def of_refusal(config: TrainingConfig, setting: str, error: UnstableError) -> Record:
    """The record of a run that training has refused in this process, since its settings are unstable."""
    divergence = {"step": None, "inference_step": None, "layer": None, "margin": error.margin, "message": str(error)}
    summary = {
        "status": "refused",
        "divergence": divergence,
        "seconds": 0.0,
        "updates": 0,
        "step_size": error.step_size,
        "margin_at_start": error.margin,
    }
    curve: dict[str, list[Any]] = {name: [] for name in ROW}
    return _record(setting, config, summary, curve, 1, environment(resolve_device(config.device)))


def _record(
    setting: str,
    config: TrainingConfig,
    summary: dict[str, Any],
    curve: dict[str, list[Any]],
    replicas: int,
    found: dict[str, Any],
) -> Record:
    return Record(
        setting,
        config.resolved(),
        summary,
        curve,
        replicas,
        {name: found[name] for name in VERSIONS},
        {name: value for name, value in found.items() if name not in VERSIONS},
        source_commit(),
        datetime.now(UTC).isoformat(timespec="seconds"),
    )


@functools.cache
def source_commit() -> str | None:
    """The commit of pcalm's own source, with "-dirty" behind it if files were changed; None if it is not in git.

    None, too, with a warning in the log, where git does not read the repository, as one that is somebody else's.
    """
    package, english = Path(pcalm.__file__).parent, {**os.environ, "LC_ALL": "C"}
    shown = ""
    # An environment inside somebody else's repository has no file of this package in that repository.
    for arguments in (
        ["ls-files", "--error-unmatch", "__init__.py"],
        ["describe", "--always", "--dirty", "--abbrev=40"],
    ):
        command = ["git", "-C", str(package), *arguments]
        try:
            done = subprocess.run(command, env=english, capture_output=True, text=True, errors="replace", check=False)
        except OSError:
            return None  # there is no git
        if done.returncode != 0:
            if not any(usual in done.stderr for usual in ("not a git repository", "did not match any file")):
                log.warning("records will name no commit, since git says: %s", " ".join(done.stderr.split()))
            return None
        shown = done.stdout.strip()
    return shown


def key_of(config: dict[str, Any], implementation: str = OWN_IMPLEMENTATION) -> str:
    """The key of the run that has this configuration: 32 hexadecimal digits."""
    return digest(_dump([implementation, config]))[:32]


def path_of(directory: str | Path, key: str) -> Path:
    """Where the record of that key is, or would be."""
    return Path(directory) / FOLDER / f"{key}{SUFFIX}"


def write(directory: str | Path, record: Record) -> None:
    """Puts a record into its place, as a whole; it replaces one of the same key.

    Raises:
        OSError: the directory cannot be written, or the disk is full; what was there before still is.
        ValueError: a value that is NaN or infinite.
    """
    head = {"key": record.key, **asdict(record)}
    # The margin of weights that have grown without bound may be infinite, which JSON lacks.
    curve = {name: [_short(value) for value in values] for name, values in head.pop("curve").items()}
    body = _dump(head) + b"\n" + _dump(curve) + b"\n"
    path = path_of(directory, record.key)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        file.write(sealed(body))


def keys(directory: str | Path) -> set[str]:
    """The keys of all sound records. Damaged ones are left out, each with a warning in the log."""
    return set(statuses(directory))


def statuses(directory: str | Path) -> dict[str, str]:
    """Every sound record's key, with what became of its run: "finished", "diverged" or "refused"."""
    return {key: head["summary"]["status"] for key, head, _ in _read_all(directory)}


def sound(directory: str | Path, key: str) -> bool:
    """Whether there is a sound record of that key."""
    try:
        _parse(path_of(directory, key).read_bytes(), key)
    except (OSError, ValueError):
        return False
    return True


def warn(path: Path, reason: str) -> None:
    """What happens to a damaged record: it is left out, with a warning in the log."""
    log.warning("%s is damaged (%s) and left out; the grid computes its run again", path, reason)


def load_table(source: str | Path, damaged: Callable[[Path, str], None] = warn) -> pandas.DataFrame:
    """One row per run, in the order of their keys; the columns are those at the top of this module.

    Args:
        source: a directory of records, or a .parquet or .csv file that `export` wrote.
        damaged: is called with the path of each damaged record, which is left out, and the reason.

    Raises:
        ValueError: no such directory or file, one of another kind, or a file whose values are no runs'.
        ImportError: pandas is not installed.
    """
    pandas = _pandas()
    path = Path(source)
    dtypes = {name: dtype for name, (_, _, dtype) in COLUMNS.items()}
    if path.is_file():
        require(path.suffix in (".parquet", ".csv"), f"source must be a directory, .parquet or .csv, got {str(path)!r}")
        return _exported(path, dtypes)
    require(path.is_dir(), f"source must be an existing directory of records, got {str(path)!r}")
    columns: dict[str, list[Any]] = {name: [] for name in COLUMNS}
    places = [(columns[name].append, part, field) for name, (part, field, _) in COLUMNS.items()]
    for _, head, _ in _read_all(path, damaged):
        config, summary = head["config"], head["summary"]
        steps, seconds = config.get("steps"), summary.get("seconds")
        head["budget"] = None if steps is None else steps / config["depth"]
        size = config.get("step_size")
        head["step_size_given"] = None if isinstance(size, str) else size
        head["step_size_rule"] = _rule(config["method"], size)
        head["setting"] = _setting(head["setting"], head["step_size_rule"])
        head["seconds"] = None if seconds is None else seconds / head["replicas"]
        parts = {**head, "": head, "divergence": summary.get("divergence") or {}}
        for append, part, field in places:
            append(parts[part].get(field, LATER.get(field)))
    return pandas.DataFrame({name: pandas.Series(columns[name], dtype=dtype) for name, dtype in dtypes.items()})


def _rule(method: str, size: float | str | None) -> str | None:
    """How η was found, by the configuration's method and step_size."""
    if method == "bp":
        return None
    return size if isinstance(size, str) else "start" if size is None else "given"


def _setting(setting: str, rule: str | None) -> str:
    """The method's name, with the rule by which η was found where that is not its own."""
    other = rule in STEP_SIZES and OWN_RULES.get(setting, rule) != rule
    return f"{setting}-{rule}" if other else setting


def _exported(path: Path, dtypes: dict[str, str]) -> pandas.DataFrame:
    """The table of a .csv or .parquet file; columns that an older version did not write are empty."""
    pandas = _pandas()
    try:
        # Only what `export` leaves empty has no value: an implementation may be called "NA".
        csv = path.suffix == ".csv"
        table = pandas.read_csv(path, dtype=dtypes, keep_default_na=False, na_values=[""]) if csv else None
        table = pandas.read_parquet(path) if table is None else table
        lacking = [column for column in ("key", "setting", "test_accuracy") if column not in table]
        require(not lacking, f"it is no table of training runs: it lacks {', '.join(lacking)}")
        table = table.reindex(columns=list(dtypes))
        for name, first in LATER.items():
            table[name] = table[name].astype(object).fillna(first)
        if table["step_size_rule"].isna().all():  # an older table
            sizes = [None if pandas.isna(size) else size for size in table["step_size_given"]]
            rules = [_rule(method, size) for method, size in zip(table["method"], sizes, strict=True)]
            table["step_size_rule"] = pandas.Series(rules, table.index, dtype=object)
            pairs = zip(table["setting"], rules, strict=True)
            table["setting"] = [_setting(setting, rule) for setting, rule in pairs]
        values = {column: table[column].astype(object).where(table[column].notna(), None) for column in table}
        for column, check in CHECKS.items():
            for row, value in enumerate(values[column].tolist()):
                check(value, f"{column} of row {row + 1}", [])
        return table.astype(dtypes)
    except (OSError, ImportError, ValueError):
        raise
    except Exception as error:  # pandas and pyarrow have errors of many kinds for bytes that are no table
        raise ValueError(f"it is no table: {error}") from error


def load_curves(
    directory: str | Path, keys: Collection[str] | None = None, damaged: Callable[[Path, str], None] = warn
) -> pandas.DataFrame:
    """The learning curves: one row per logged update, with `key` and the columns of `training.COLUMNS`.

    Args:
        directory: of records.
        keys: of the runs wanted; None is all of them.
        damaged: as for `load_table`; a run without a sound curve is left out.

    Raises:
        ImportError: pandas is not installed.
    """
    pandas = _pandas()
    frames = []
    for key, _, curve in _read_all(directory, damaged):
        if keys is None or key in keys:
            try:
                frames.append(pandas.DataFrame({"key": key} | _curve(curve)))
            except ValueError as error:
                damaged(path_of(directory, key), str(error))
    return pandas.concat(frames, ignore_index=True) if frames else pandas.DataFrame({"key": pandas.Series(dtype="str")})


def read_curves(path: str | Path) -> pandas.DataFrame:
    """Learning curves that `load_curves` gave and somebody wrote as CSV.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no such table.
    """
    pandas = _pandas()
    columns = list(pandas.read_csv(path, nrows=0).columns)
    require({"key", *NEEDED} <= set(columns), "it is no table of learning curves")
    dtypes = {column: "str" if column == "key" else "float64" for column in columns}
    return pandas.read_csv(path, dtype=dtypes)


def export(table: pandas.DataFrame, path: str | Path) -> None:
    """Writes a table as Parquet or CSV, by the file's suffix; `load_table` reads both back.

    Raises:
        ValueError: another suffix.
    """
    check_export(path)
    with replacing(Path(path)) as file:
        if Path(path).suffix == ".csv":
            table.to_csv(file, index=False)
        else:
            table.to_parquet(file, index=False)


def check_export(path: str | Path) -> None:
    """Raises ValueError if `export` knows no such kind of file, or there is no such folder."""
    require(Path(path).suffix in (".parquet", ".csv"), f"export must end in .parquet or .csv, got {str(path)!r}")
    require(Path(path).resolve().parent.is_dir(), f"export must be in an existing folder, got {str(path)!r}")


def _read_all(
    directory: str | Path, damaged: Callable[[Path, str], None] = warn
) -> Iterator[tuple[str, dict[str, Any], bytes]]:
    """Key, first line parsed and second line as it is, of every sound record, in the order of their keys."""
    folder = Path(directory) / FOLDER
    names = sorted(os.listdir(folder)) if folder.is_dir() else []
    # Others are no records, or (with a dot) records in the making.
    names = [name for name in names if name.endswith(SUFFIX) and not name.startswith(".")]
    for name, content in zip(names, _contents([f"{folder}/{name}" for name in names]), strict=True):
        key = name.removesuffix(SUFFIX)
        try:
            yield key, *_parse(content, key)
        except (OSError, ValueError) as error:
            damaged(folder / name, str(error))


def _contents(paths: list[str]) -> Iterator[bytes | OSError]:
    """The contents of files, or why there are none, in their order; not much more than is wanted at a time.

    Read by several threads: a disk that has not got them in its cache takes long to answer, but answers many at once.
    """
    parts = [paths[start : start + 64] for start in range(0, len(paths), 64)]
    with ThreadPoolExecutor(READERS) as pool:
        for start in range(0, len(parts), 2 * READERS):
            for part in pool.map(_read_part, parts[start : start + 2 * READERS]):
                yield from part


def _read_part(paths: list[str]) -> list[bytes | OSError]:
    contents: list[bytes | OSError] = []
    for path in paths:
        try:
            with open(path, "rb", buffering=0) as file:
                contents.append(file.read())
        except OSError as error:
            contents.append(error)
    return contents


def _parse(content: bytes | OSError, key: str) -> tuple[dict[str, Any], bytes]:
    """The first line parsed and the second as it is."""
    if isinstance(content, OSError):
        raise content
    first, second, _ = unsealed(content).split(b"\n")
    head = _head(read_json(first))
    require(head["key"] == key, f"it is the record of {head['key']}")
    return head, second


def _head(content: Any) -> dict[str, Any]:
    """The first line of a record, each of whose values is one that its column can hold."""
    head: dict[str, Any] = HEAD(content, "", [])
    unknown = [setting for setting in head["config"] if setting not in SETTINGS]
    # What nobody here knows may be what makes the run another one than its neighbours in a table.
    require(not unknown, f"config has {', '.join(unknown)}, which this version of pcalm does not know")
    parts = {**head, "": head, "divergence": head["summary"].get("divergence") or {}}
    require(isinstance(parts["divergence"], dict), "summary.divergence must be an object or null")
    for column, (part, field, _) in COLUMNS.items():
        if column not in DERIVED:
            found = head["summary"] if column == "seconds" else parts[part]
            value = found.get(field, LATER.get(field))
            CHECKS[column](value, f"{part}.{field}" if part else field, [])
    size = head["config"].get("step_size")
    if size not in STEP_SIZES:
        CHECKS["step_size"](size, "config.step_size", [])
    return head


def _curve(content: bytes) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = CURVE(read_json(content), "curve", [])
    require(set(found) >= NEEDED, f"curve lacks one of {', '.join(sorted(NEEDED))}")
    require(len({len(values) for values in found.values()}) == 1, "curve must have equally many values in all columns")
    return found


def _dump(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False).encode()


def _short(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    return float(f"{value:.6g}") if math.isfinite(value) else None


def _pandas() -> Any:
    try:
        import pandas  # not at the top: writing and listing records need the standard library only
    except ImportError as error:
        raise ImportError("tables of records need pandas and pyarrow: pip install 'pcalm[grid]'") from error
    return pandas
