"""Reads everything that a directory holds: training runs, conformance reports, speed records, measurements, mutants.

A report is made from what is read here and from nothing else. What a file is, its content says, not its name:

    records/*.jsonl, *.csv, *.parquet   training runs (`pcalm.experiments.records`); curves.csv holds learning curves
    *.json                              a conformance report ("records"), a kill matrix ("mutants"), a speed record
                                        ("cell") or a measurement of `reports.measure` ("measurement")
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas

from pcalm.checks import require
from pcalm.experiments import records

CURVES = "curves.csv"
KEY_DIGITS = 10  # of a run's key, enough to tell a million runs apart
Content = dict[str, Any]


@dataclass(frozen=True)
class Source:
    """Where numbers came from.

    Attributes:
        id: what tables refer to it by.
        what: the run, report or measurement in words.
        file: its file, relative to the directory of results.
        commit, machine, versions, finished: as it says itself; "" where it does not.
    """

    id: str
    what: str
    file: str
    commit: str = ""
    machine: str = ""
    versions: str = ""
    finished: str = ""


def no_runs() -> pandas.DataFrame:
    """The table of training runs without a row."""
    dtypes = {name: dtype for name, (_, _, dtype) in records.COLUMNS.items()} | {"source": "str", "file": "str"}
    return pandas.DataFrame({name: pandas.Series(dtype=dtype) for name, dtype in dtypes.items()})


@dataclass
class Results:
    """Everything that was found.

    Attributes:
        training: one row per run, with the columns of `pcalm.experiments.records` and those of its `source` and `file`.
        curves: learning curves by key, of `records.load_curves`.
        conformance, speed, kill_matrices: the files' contents, each with its "source".
        measured: by the measurement's name, each with its "source".
        sources: by id.
        unread: files that are no such thing, with the reason.
    """

    training: pandas.DataFrame = field(default_factory=no_runs)
    curves: list[Path] = field(default_factory=list)
    conformance: list[Content] = field(default_factory=list)
    speed: list[Content] = field(default_factory=list)
    kill_matrices: list[Content] = field(default_factory=list)
    measured: dict[str, Content] = field(default_factory=dict)
    sources: dict[str, Source] = field(default_factory=dict)
    unread: list[tuple[str, str]] = field(default_factory=list)

    @property
    def empty(self) -> bool:
        return not (len(self.training) or self.conformance or self.speed or self.kill_matrices or self.measured)

    def curves_of(self, keys: set[str]) -> pandas.DataFrame:
        """The learning curves of these runs, as far as they are there."""
        frames = []
        for place in self.curves:
            found = records.load_curves(place, keys) if place.is_dir() else pandas.read_csv(place)
            frames.append(found[found["key"].isin(keys)])
        joined = pandas.concat(frames, ignore_index=True) if frames else pandas.DataFrame({"key": []})
        return joined.drop_duplicates(["key", "step"]) if len(joined) else joined


def load(directory: str | Path) -> Results:
    """Everything in a directory and its folders.

    Raises:
        ValueError: there is no such directory, or it holds no results; the message says what they would be.
    """
    root = Path(directory)
    require(root.is_dir(), f"results must be an existing directory, got {str(directory)!r}")
    found = Results()
    frames = []
    for path in _files(root):
        place = str(path.relative_to(root))
        try:
            if path.name == records.FOLDER or path.suffix in (".csv", ".parquet"):
                frames += _training(found, path, place)
            else:
                read_json(found, path, place)
        except (ValueError, KeyError, TypeError) as error:
            found.unread.append((place, str(error) or type(error).__name__))
    if frames:
        joined = pandas.concat(frames, ignore_index=True)
        found.training = joined.drop_duplicates("key", ignore_index=True)
        found.sources |= {source.id: source for source in map(_source_of_run, found.training.to_dict("records"))}
    require(
        not found.empty,
        f"results {str(directory)!r} holds no results: neither records of pcalm grid, nor a report of "
        "pytest conformance --report, nor records of benchmarks.speed",
    )
    return found


def _files(root: Path) -> Iterator[Path]:
    for path in sorted(root.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
        if not hidden and (
            (path.is_dir() and path.name == records.FOLDER)
            or (path.is_file() and path.suffix in (".json", ".csv", ".parquet"))
        ):
            yield path


def _training(found: Results, path: Path, place: str) -> list[pandas.DataFrame]:
    if path.name == CURVES:
        found.curves.append(path)
        return []
    if path.suffix == ".csv":
        columns = set(pandas.read_csv(path, nrows=0).columns)
        require({"key", "setting", "test_accuracy"} <= columns, "it is no table of training runs")
    table = records.load_table(path.parent if path.is_dir() else path)
    table["source"] = [key[:KEY_DIGITS] for key in table["key"]]
    table["file"] = [f"{place}/{key}{records.SUFFIX}" if path.is_dir() else place for key in table["key"]]
    if path.is_dir():
        found.curves.append(path.parent)
    return [table] if len(table) else []


def _source_of_run(run: Content) -> Source:
    budget = "" if pandas.isna(run["budget"]) else f" T={run['budget']:g}L"
    what = f"{run['implementation']}: {run['setting']} {run['dataset']} N={run['width']} L={run['depth']}"
    return Source(
        run["source"],
        f"{what} {run['activation']}{budget} seed {run['seed']}",
        run["file"],
        _text(run["commit"]),
        f"{_text(run['machine'])}, {_text(run['platform'])}",
        ", ".join(f"{name} {_text(run[name])}" for name in records.VERSIONS),
        _text(run["finished"]),
    )


def read_json(found: Results, path: Path, place: str) -> None:
    """Takes in a JSON file, which is shown under the name `place`.

    Raises:
        ValueError: it is none of the kinds at the top of this module.
    """
    content = json.loads(path.read_text(encoding="utf-8"))
    require(isinstance(content, dict), "it holds no object")
    if "measurement" in content:
        kind, name = "measurement", f"measured-{content['measurement']}"
        found.measured[content["measurement"]] = {**content, "source": name}
    elif "implementations" in content and "records" in content:
        kind, name = "conformance report", f"conformance-{len(found.conformance) + 1}"
        found.conformance.append({**content, "source": name})
    elif "mutants" in content:
        kind, name = "kill matrix", f"mutants-{len(found.kill_matrices) + 1}"
        found.kill_matrices.append({**content, "source": name})
    elif "cell" in content and "machine" in content:
        kind, name = "speed record", f"speed-{len(found.speed) + 1}"
        found.speed.append({**content, "source": name})
    else:
        raise ValueError("its content is of no kind that a report is made from")
    environment = content.get("environment") or content.get("machine") or {}
    versions = content.get("versions") or {key: environment[key] for key in records.VERSIONS if key in environment}
    machine = [f"{key} {value}" for key, value in environment.items() if key not in records.VERSIONS]
    found.sources[name] = Source(
        name,
        f"{kind} {content.get('measurement', '')}".strip(),
        place,
        _text(content.get("commit") or content.get("fingerprint")),
        ", ".join(machine),
        ", ".join(f"{package} {version}" for package, version in versions.items()),
        _text(content.get("finished")),
    )


def _text(value: Any) -> str:
    return "" if value is None or pandas.isna(value) else str(value)
