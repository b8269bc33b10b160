"""The command line of `pcalm-conformance compare`."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import re
import signal
import sys
import types
from collections.abc import Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from pcalm_conformance import __version__
from pcalm_conformance.comparison import cells, keeping, memory, page, suite, tables, timing, training
from pcalm_conformance.comparison.cells import Cell, Truth
from pcalm_conformance.comparison.keeping import Keeper, Record, hashed
from pcalm_conformance.comparison.timing import Contender
from pcalm_conformance.files import write_text
from pcalm_conformance.isolation import Isolated, Workplace
from pcalm_conformance.options import PYTHON_HELP, SHALLOWEST, Chosen, interpreters, positive
from pcalm_conformance.problems import ACTIVATIONS, dataset
from pcalm_conformance.text import code

PACKAGE = "pcalm_conformance"
BASELINE = f"{PACKAGE}.implementations.numpy_loop:impl"
YARDSTICKS = {name: f"{PACKAGE}.comparison.yardsticks:{name}" for name in ("nothing", "product")}
CELLS = "32x32,32x128,128x32"
STOPPED = 130


@dataclass(frozen=True)
class Subject:
    """An implementation that is compared: how it is named, where it runs and what it stands on."""

    spec: str
    name: str
    place: Workplace
    versions: dict[str, str]
    source: str

    def isolated(self, time_limit: float) -> Isolated:
        module, _, attribute = self.spec.partition(":")
        return Isolated(module, attribute, self.name, self.place, time_limit)


class Comparison:
    """What was asked for, checked, and what of it is there."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.cells = [parse_cell(text, options) for text in options.cells.split(",")]
        self.methods = parse_methods(options.methods)
        whole("--threads", options.threads, len(available()))
        whole("--rounds", options.rounds)
        positive("--time-limit", options.time_limit, "seconds")
        limit = positive("--memory-limit", options.memory_limit, "GiB") * 2**30
        self.reports = parse_reports(options.report)
        self.output: Path = options.output
        self.own = Workplace(os.getcwd(), memory_limit=limit, cores=quietest(options.threads))
        place = dataclasses.replace(self.own, device=options.device)
        self.chosen = Chosen(place, interpreters(options.python))
        self.chosen.look_up(options.implementation)
        names = list(self.chosen.names.values())
        if strange := [name for name in self.reports if name not in names]:
            raise pytest.UsageError(
                f"--report {strange[0]}=…: no implementation is named so; there is {', '.join(names)}"
            )
        self.subjects = [self._subject(spec, name) for spec, name in self.chosen.names.items()]
        if options.train:
            with _as_usage_error("--train needs scikit-learn, which has the data set"):
                dataset("digits")
        with _as_usage_error(f"--output {self.output}: cannot be written to"):
            self.keeper = Keeper(self.output / "records")
            if not os.access(self.output, os.W_OK):
                raise OSError("no permission")
        self.records: list[Record] = []

    def _subject(self, spec: str, name: str) -> Subject:
        place, versions = self.chosen.place(spec), self.chosen.versions[spec]
        return Subject(spec, name, place, versions, self.chosen.sources[spec])

    def settings(self) -> dict[str, Any]:
        """All that figures depend on beside implementation and cell."""
        names = ("activation", "batch", "dtype", "device", "threads", "rounds")
        return {name: getattr(self.options, name) for name in names} | {"methods": self.methods}

    def about(self, subject: Subject, kind: str, *more: Any) -> Record:
        """The fields that all records have."""
        machine = keeping.machine()
        depends = [kind, subject.spec, subject.place.python, subject.versions, subject.source, machine, self.settings()]
        return {
            "comparison": kind,
            "implementation": subject.name,
            "spec": subject.spec,
            "key": hashed(__version__, *depends, *more),
            "machine": machine,
            "versions": subject.versions,
            "settings": self.settings(),
        }

    def tell(self, text: str) -> None:
        if sys.stderr.isatty():
            print(f"\r\x1b[2K{text[:100]}", end="", file=sys.stderr, flush=True)

    def done(self, text: str) -> None:
        print(f"\r\x1b[2K{text}" if sys.stderr.isatty() else text, file=sys.stderr, flush=True)

    def run(self) -> None:
        """Everything that has no record yet; tables and page are written after every step."""
        for subject in self.subjects:
            self._suite(subject)
        self._times()
        if self.options.train:
            for subject in self.subjects:
                self._train(subject)

    def _keep(self, record: Record) -> None:
        self._show(self.keeper.keep(record))

    def _show(self, record: Record) -> None:
        self.records.append(record)
        write_text(self.output / "table.md", tables.markdown(self.ordered(), self.caption()))
        write_text(self.output / "index.html", page.page(self.ordered(), self.caption()))

    def ordered(self) -> list[Record]:
        """In the order in which they were asked for."""
        names = [subject.name for subject in self.subjects]
        shapes = [(cell.width, cell.depth) for cell in self.cells]

        def place(record: Record) -> tuple[int, int]:
            shape = (record["cell"]["width"], record["cell"]["depth"]) if "cell" in record else shapes[0]
            return shapes.index(shape), names.index(record["implementation"])

        return sorted(self.records, key=place)

    def caption(self) -> str:
        """What, where and with what, in one line."""
        one, machine = self.options, keeping.machine()
        threads = "one thread each" if one.threads == 1 else f"{one.threads} threads each"
        what = f"{one.activation}, B = {one.batch}, T = 2L, {one.dtype}, device {code(one.device)}, {threads}"
        where = f"{code(machine['processor'])}, {machine['cores']} cores, {code(machine['system'])}"
        return f"{what}; {where}; pcalm-conformance {__version__}."

    def _suite(self, subject: Subject) -> None:
        given, level = self.reports.get(subject.name), self.options.suite
        if given is None and level == "none":
            return
        report = given or self.output / "records" / "suite" / keeping.file_name(subject.name, level)
        about = self.about(subject, "suite", level, hashed(given.read_text(encoding="utf-8")) if given else "")
        if known := self.keeper.find(subject.name, "suite", about["key"]):
            self._show(known)
            return
        missing = ""
        if given is None:
            self.tell(f"{subject.name}: the suite, level {level}")
            report.parent.mkdir(exist_ok=True)
            report.unlink(missing_ok=True)
            # All cores: nothing is timed meanwhile.
            place = dataclasses.replace(subject.place, cores=())
            missing = suite.run(suite.Asked(subject.spec, subject.name, place, level, self.options.time_limit), report)
        counts = {} if missing else suite.counts(suite.read(report, subject.name) or [])
        shown = os.path.relpath(report, self.output)
        self._keep(about | {"level": level, "counts": counts, "missing": missing, "report": shown})
        self.done(f"{subject.name}: {missing or tables.chapter_cell(counts.get('all')) + ' requirements met'}")

    def _times(self) -> None:
        """Cell by cell, those that have no record of it yet."""
        waiting: dict[Cell, list[Subject]] = {}
        for cell in self.cells:
            for subject in self.subjects:
                key = self.about(subject, "cell", dataclasses.asdict(cell))["key"]
                if known := self.keeper.find(subject.name, cell.name, key):
                    self._show(known)
                else:
                    waiting.setdefault(cell, []).append(subject)
        tasks = [(cell, method) for cell in waiting for method in self.methods]
        if not tasks:
            return
        self.tell("what is right in the cells, and how far rounding may lead from it")
        found = cells.truths([cell.problem(method) for cell, method in tasks], self.output / "truth", len(available()))
        truths = dict(zip(tasks, found, strict=True))
        for cell, subjects in waiting.items():
            self._time_cell(cell, subjects, {method: truths[cell, method] for method in self.methods})

    def _time_cell(self, cell: Cell, subjects: Sequence[Subject], truths: dict[str, Truth]) -> None:
        limit = self.options.time_limit
        with contextlib.ExitStack() as stack:
            contenders = self._yardsticks(limit)
            contenders |= {subject.spec: Contender(subject.isolated(limit)) for subject in subjects}
            for one in contenders.values():
                stack.callback(one.isolated.stop)
            times = {
                method: timing.time_method(cell, method, truths[method], contenders, self.options.rounds, self.tell)
                for method in self.methods
            }
        for subject in subjects:
            self.tell(f"{cell.name}: memory of {subject.name}")
            record = self.about(subject, "cell", dataclasses.asdict(cell)) | {
                "cell": dataclasses.asdict(cell),
                "methods": {method: times[method][subject.spec].as_json() for method in self.methods},
                "memory": self._memory(subject, cell),
                "busy_from": timing.BUSY,
            }
            self._keep(record)
        self.done(f"{cell.name}: timed")

    def _yardsticks(self, limit: float) -> dict[str, Contender]:
        found = {}
        for name, spec in (YARDSTICKS | {"baseline": BASELINE}).items():
            one = Subject(spec, name, self.own, {}, "").isolated(limit)
            found[name] = Contender(one, trusted=name in YARDSTICKS)
        return found

    def _memory(self, subject: Subject, cell: Cell) -> Record:
        if not memory.MEASURED:
            return {"missing": "not known on this system", "method": ""}
        nothing = Subject(YARDSTICKS["nothing"], "nothing", self.own, {}, "")
        return memory.measure(subject.isolated(self.options.time_limit), nothing.isolated(60.0), cell, self.methods)

    def _train(self, subject: Subject) -> None:
        recipe = training.RECIPE
        about = self.about(subject, "training", repr(recipe))
        if known := self.keeper.find(subject.name, "training", about["key"]):
            self._show(known)
            return
        contender = Contender(subject.isolated(self.options.time_limit))
        try:
            runs = {method: training.train(contender, method, recipe, self.tell) for method in self.methods}
        finally:
            contender.isolated.stop()
        methods = {method: dataclasses.asdict(run) for method, run in runs.items()}
        self._keep(about | {"epochs": recipe.epochs, "methods": methods})
        self.done(f"{subject.name}: trained")


def parse_cell(text: str, options: argparse.Namespace) -> Cell:
    found = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text.strip())
    width, depth = map(int, found.groups()) if found else (0, 0)
    if width < 1 or depth < SHALLOWEST:
        raise pytest.UsageError(f"--cells must be NxL, such as 32x128, with N ≥ 1 and L ≥ {SHALLOWEST}, got {text!r}")
    return Cell(width, depth, whole("--batch", options.batch), options.activation, options.dtype)


def parse_methods(text: str) -> list[str]:
    found = list(dict.fromkeys(part.strip() for part in text.split(",")))
    if strange := [part for part in found if part not in cells.METHODS]:
        raise pytest.UsageError(f"--methods must be some of {', '.join(cells.METHODS)}, got {strange[0]!r}")
    return found


def parse_reports(given: Sequence[str]) -> dict[str, Path]:
    found = {}
    for text in given:
        name, separator, path = text.rpartition("=")
        if not separator or not name:
            raise pytest.UsageError(f"--report must be NAME=FILE, with the name that tables show, got {text!r}")
        if suite.read(Path(path), name) is None:
            raise pytest.UsageError(f"--report {text}: that is no whole report of the suite (its option --report)")
        found[name] = Path(path)
    return found


def whole(option: str, value: int, most: int | None = None) -> int:
    if value < 1 or (most is not None and value > most):
        limits = "at least 1" if most is None else f"from 1 to {most}, the cores that there are"
        raise pytest.UsageError(f"{option} must be {limits}, got {value}")
    return value


def available() -> list[int]:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def quietest(count: int) -> tuple[int, ...]:
    """The cores on which least runs at the moment: all that is timed gets the same ones."""
    load = dict(enumerate(psutil.cpu_percent(0.2, percpu=True)))
    return tuple(sorted(sorted(available(), key=lambda core: load.get(core, 0.0))[:count]))


@contextlib.contextmanager
def _as_usage_error(what: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ImportError) as error:
        raise pytest.UsageError(f"{what}: {error}") from error


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """A signal that asks to end is a KeyboardInterrupt, so that what was started is ended first."""

    def end(number: int, frame: types.FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(
        prog="pcalm-conformance compare",
        description="Is it right, fast and lean, and does it learn: implementations side by side, on this machine.",
        epilog="A second run with the same output goes on where the first one ended, and keeps what it measured.",
    )
    add = found.add_argument
    add("--implementation", action="append", default=[], metavar="MODULE:NAME", help="may be repeated; as in the suite")
    add("--output", type=Path, required=True, metavar="DIR", help="for records/, table.md and index.html")
    add("--cells", default=CELLS, metavar="NxL,…", help=f"hidden units x weight matrices (default: {CELLS})")
    add("--methods", default="bp,pc,pcalm", metavar="M,…", help="some of bp, pc and pcalm (default: all)")
    add("--train", action="store_true", help="train on digits, too")
    add(
        "--suite",
        choices=("none", *suite.LEVELS),
        default="quick",
        help="the level at which the suite says what is right (default: quick)",
    )
    add(
        "--report",
        action="append",
        default=[],
        metavar="NAME=FILE",
        help="take the verdicts on NAME from a report that the suite has written; may be repeated",
    )
    add("--python", action="append", default=[], metavar="[MODULE[:NAME]=]PATH", help=PYTHON_HELP)
    add("--device", default="cpu", help="passed to implementations that have a field `device`, such as cuda")
    add("--threads", type=int, default=1, metavar="K", help="and cores, of each implementation (default: 1)")
    add("--activation", choices=ACTIVATIONS, default="tanh", help="of the cells (default: tanh)")
    add("--batch", type=int, default=64, metavar="B", help="samples (default: 64)")
    add("--dtype", choices=("float32", "float64"), default="float32", help="of the cells (default: float32)")
    add("--rounds", type=int, default=9, metavar="R", help="turns of each implementation (default: 9)")
    add("--time-limit", type=float, default=60.0, metavar="SECONDS", help="for one gradient (default: 60)")
    add("--memory-limit", type=float, default=8.0, metavar="GIB", help="of all its processes (default: 8)")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """0: every implementation has a time in every cell and method that it supports; 1: one has not; 4: options."""
    line = parser()
    options = line.parse_args(arguments)
    if os.name != "posix":
        line.error("it needs Linux, macOS or another POSIX system; on Windows use its Linux (WSL)")
    with ended_by_signals():
        try:
            comparison = Comparison(options)
            comparison.run()
        except pytest.UsageError as error:
            print(f"ERROR: {error}", file=sys.stderr)
            return int(pytest.ExitCode.USAGE_ERROR)
        except BrokenProcessPool:
            print(
                "\nERROR: a process that computes the right answers was ended, by a signal or for want of memory; "
                f"the same command goes on from the records in {options.output}",
                file=sys.stderr,
            )
            return STOPPED
        except KeyboardInterrupt:
            print(f"\nstopped; the same command goes on from the records in {options.output}", file=sys.stderr)
            return STOPPED
    print(tables.terminal(comparison.ordered()))
    print(f"\nrecords, table.md and index.html are in {options.output}")
    return 1 if any(failures(comparison.records)) else 0


def failures(records: Sequence[Record]) -> Iterator[str]:
    """What went wrong with an implementation, rather than being left out."""
    for record in records:
        if record["comparison"] == "suite":
            yield from filter(None, [record["missing"]])
            if record["counts"].get("all", {}).get("failed"):
                yield "requirements failed"
        else:
            for each in record["methods"].values():
                if each["missing"] not in ("", "unsupported"):
                    yield each["missing"]
