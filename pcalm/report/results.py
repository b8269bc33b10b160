"""Reads everything that a directory holds: training runs, conformance reports, comparisons, speed records,
measurements, mutants.

A report is made from what is read here and from nothing else. What a file is, its content says, not its name:

    records/*.jsonl, *.csv, *.parquet   training runs (`pcalm.experiments.records`); curves.csv holds learning curves
    *.json                              one of the kinds of `pcalm.report.kinds`

Every file is checked while it is read, so that tables and figures need not doubt what they get. One that is not what
it should be is left out and listed with the reason.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas

from pcalm.checks import require
from pcalm.experiments import records, storage
from pcalm.report.kinds import Content, recognise

CURVES = "curves.csv"
KEY_DIGITS = 10  # of a run's key, enough to tell a million runs apart


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
        curves: learning curves by key: directories of records, and tables as of `records.load_curves`.
        conformance, speed, comparisons, kill_matrices: the files' contents, each with its "source".
        measured: by the measurement's name, each with its "source".
        sources: by id.
        unread: files that were not read, or not in full, with the reason.
    """

    training: pandas.DataFrame = field(default_factory=no_runs)
    curves: list[Path | pandas.DataFrame] = field(default_factory=list)
    conformance: list[Content] = field(default_factory=list)
    speed: list[Content] = field(default_factory=list)
    comparisons: list[Content] = field(default_factory=list)
    kill_matrices: list[Content] = field(default_factory=list)
    measured: dict[str, Content] = field(default_factory=dict)
    sources: dict[str, Source] = field(default_factory=dict)
    unread: dict[str, str] = field(default_factory=dict)

    @property
    def empty(self) -> bool:
        files = (self.conformance, self.speed, self.comparisons, self.kill_matrices, self.measured)
        return not len(self.training) and not any(files)

    def curves_of(self, keys: set[str]) -> pandas.DataFrame:
        """The learning curves of these runs, as far as they are there."""
        frames = []
        for place in self.curves:
            found = records.load_curves(place, keys, lambda *_: None) if isinstance(place, Path) else place
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
        place = _name(path, root)
        try:
            if path.name == records.FOLDER or path.suffix in (".csv", ".parquet"):
                frames += _training(found, path, root)
            else:
                read_json(found, path, place)
        except (OSError, ValueError, ImportError) as error:
            found.unread[place] = _reason(error)
    if frames:
        joined = pandas.concat(frames, ignore_index=True)
        found.training = joined.drop_duplicates("key", ignore_index=True)
        found.sources |= {source.id: source for source in map(_source_of_run, found.training.to_dict("records"))}
    unread = "".join(f"; {place}: {reason}" for place, reason in list(found.unread.items())[:3])
    require(
        not found.empty,
        f"results {str(directory)!r} holds no results: neither records of pcalm grid, nor a report of "
        f"pytest conformance --report, nor records of benchmarks.speed or pcalm-conformance compare{unread}",
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


def _name(path: Path, root: Path) -> str:
    """Relative to the directory of results; bytes that are no text, which a name may have, are shown as such."""
    return str(path.relative_to(root)).encode(errors="surrogateescape").decode(errors="backslashreplace")


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _training(found: Results, path: Path, root: Path) -> list[pandas.DataFrame]:
    place = _name(path, root)
    if path.name == CURVES:
        found.curves.append(records.read_curves(path))
        return []
    if path.is_dir():
        found.curves.append(path.parent)

        def damaged(file: Path, reason: str) -> None:
            found.unread[_name(file, root)] = reason

        table = records.load_table(path.parent, damaged)
        table["file"] = [f"{place}/{key}{records.SUFFIX}" for key in table["key"]]
    else:
        table = records.load_table(path)
        table["file"] = place
    table["source"] = [key[:KEY_DIGITS] for key in table["key"]]
    return [table] if len(table) else []


def _source_of_run(run: Content) -> Source:
    budget = "" if pandas.isna(run["budget"]) else f" T={run['budget']:g}L"
    network = "" if run["network"] == "mlp" else f" {run['network']}"
    what = f"{run['implementation']}: {run['setting']}{network} {run['dataset']} N={run['width']} L={run['depth']}"
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
        OSError: it cannot be read.
        ValueError: it is none of the kinds of `pcalm.report.kinds`, or does not hold what its kind must.
    """
    kind, content, unknown = recognise(storage.read_json(path.read_bytes()))
    if kind == "measurement":
        source = f"measured-{content['measurement']}"
        if source in found.sources:
            raise ValueError(f"the same measurement was read from {found.sources[source].file}")
        found.measured[content["measurement"]] = content
    else:
        listed, prefix = {
            "conformance report": (found.conformance, "conformance"),
            "kill matrix": (found.kill_matrices, "mutants"),
            "speed record": (found.speed, "speed"),
            "comparison": (found.comparisons, "comparison"),
        }[kind]
        listed.append(content)
        source = f"{prefix}-{len(listed)}"
    content["source"] = source
    if unknown:
        more = f" and {len(unknown) - 3} more" if len(unknown) > 3 else ""
        found.unread[place] = f"read without what this version of pcalm does not know: {', '.join(unknown[:3])}{more}"
    environment = content.get("environment") or content.get("machine") or {}
    versions = content.get("versions") or {key: environment[key] for key in records.VERSIONS if key in environment}
    machine = [f"{key} {value}" for key, value in environment.items() if key not in records.VERSIONS]
    found.sources[source] = Source(
        source,
        f"{kind} {content.get('measurement', '')}".strip(),
        place,
        _text(content.get("commit") or content.get("fingerprint")),
        ", ".join(machine),
        ", ".join(f"{package} {version}" for package, version in versions.items()),
        _text(content.get("finished")),
    )


def _text(value: Any) -> str:
    return "" if value is None or pandas.isna(value) else str(value)
