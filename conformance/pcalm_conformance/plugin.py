"""The suite as pytest runs it: options, one item per requirement and implementation, records, summary and exit
status."""

from __future__ import annotations

import json
import os
import platform
import time
from collections import Counter
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from pcalm_conformance import records as record_module
from pcalm_conformance.checking import Answers, Check, Nonconformity
from pcalm_conformance.files import write_text
from pcalm_conformance.guest import said, shortened
from pcalm_conformance.isolation import Isolated, Workplace
from pcalm_conformance.options import PYTHON_HELP, SHALLOWEST, Chosen, interpreters, positive
from pcalm_conformance.records import FAILURES, Record
from pcalm_conformance.requirements import REQUIREMENTS
from pcalm_conformance.text import printable

STASH: pytest.StashKey[Run] = pytest.StashKey()


class Run:
    """One run's settings and what it has found so far."""

    def __init__(self, config: pytest.Config) -> None:
        option = config.getoption
        if option("--quick") and option("--full"):
            raise pytest.UsageError("--quick and --full exclude each other; give one of them, or none for the default")
        self.level = "quick" if option("--quick") else "full" if option("--full") else "default"
        self.dtype, self.device, self.max_depth = option("--dtype"), option("--device"), option("--max-depth")
        if self.max_depth is not None and self.max_depth < SHALLOWEST:
            raise pytest.UsageError(
                f"--max-depth must be {SHALLOWEST} or more, as networks have {SHALLOWEST} weight matrices at least, "
                f"got {self.max_depth}"
            )
        self.time_limit = positive("--time-limit", option("--time-limit"), "seconds")
        memory_limit = positive("--memory-limit", option("--memory-limit"), "GiB") * 2**30
        workplace = Workplace(os.getcwd(), self.device, memory_limit=memory_limit)
        self.chosen = Chosen(workplace, interpreters(option("--python") or []))
        self.specs: list[str] = []
        self.xfails = read_xfails(option("--xfails"))
        self.requirements = chosen_requirements(option("--requirement"), option("--skip-requirement"))
        self.report: str | None = option("--report")
        self.subjects: dict[str, Isolated] = {}
        self.answers: dict[str, Answers] = {}
        self.names: dict[str, str] = {}
        self.versions: dict[str, str] = {}
        self.records: list[Record] = []

    def look_up(self, wanted: list[str]) -> None:
        """Finds out what the implementations are called, and what they stand on.

        Raises:
            pytest.UsageError: one cannot be loaded, or two have the same name.
        """
        self.chosen.look_up(wanted)
        self.names = self.chosen.names
        for versions in self.chosen.versions.values():
            self.versions |= versions

    def write_report(self, complete: bool) -> None:
        """Writes what was found so far, so that a run that is killed leaves it."""
        if self.report is None:
            return
        record_module.explain(self.records)
        content = record_module.report(
            self.records,
            complete,
            level=self.level,
            dtype=self.dtype,
            device=self.device,
            versions=self.versions,
            platform=platform.platform(),
        )
        write_text(Path(self.report), json.dumps(content, indent=1, ensure_ascii=False, allow_nan=True) + "\n")

    def subject(self, spec: str) -> Isolated:
        if spec not in self.subjects:
            module, _, attribute = spec.partition(":")
            self.subjects[spec] = Isolated(
                module, attribute, self.names[spec], self.chosen.place(spec), self.time_limit
            )
        return self.subjects[spec]


def read_xfails(path: str | None) -> set[str]:
    """The requirements in the file.

    Raises:
        pytest.UsageError: it cannot be read, or holds something else.
    """
    if path is None:
        return set()
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise pytest.UsageError(f"--xfails {path}: cannot be read as UTF-8 text: {said(error)}") from error
    ids = {line.split("#")[0].strip() for line in text.splitlines()} - {""}
    if unknown := sorted(ids - set(REQUIREMENTS)):
        shown = printable(shortened(", ".join(unknown), 200))
        small = " (ids are written in capitals)" if any(one.upper() in REQUIREMENTS for one in unknown) else ""
        raise pytest.UsageError(f"--xfails {path}: no such requirements: {shown}{small}; see conformance/README.md")
    return ids


def check_outputs(config: pytest.Config) -> None:
    """Before hours of work: whether the files that were asked for can be written.

    Raises:
        pytest.UsageError: one cannot.
    """
    given = {
        option: Path(path) for option in ("--report", "--markdown") if (path := config.getoption(option)) is not None
    }
    for option, path in given.items():
        if path.is_dir():
            raise pytest.UsageError(f"{option} {path}: is a directory; name a file")
        if not os.access(path.absolute().parent, os.W_OK):
            raise pytest.UsageError(f"{option} {path}: the directory does not exist or cannot be written to")
    if len({path.absolute() for path in given.values()}) < len(given):
        raise pytest.UsageError("--report and --markdown name the same file; give each its own")


def chosen_requirements(wanted: list[str] | None, skipped: list[str] | None) -> set[str]:
    """The requirements that any of `wanted` means (all, where None) and none of `skipped`."""
    chosen = set(REQUIREMENTS) if wanted is None else meant("--requirement", wanted)
    left = chosen - meant("--skip-requirement", skipped or [])
    if not left:
        raise pytest.UsageError(f"--skip-requirement {' '.join(skipped or [])}: no requirement is left to be tested")
    return left


def meant(option: str, prefixes: list[str]) -> set[str]:
    for prefix in prefixes:
        if not any(matches(identity, prefix) for identity in REQUIREMENTS):
            raise pytest.UsageError(f"{option} {prefix}: no such requirement; ids look like LIN-3, chapters like LIN")
    return {identity for identity in REQUIREMENTS if any(matches(identity, prefix) for prefix in prefixes)}


def matches(identity: str, prefix: str) -> bool:
    return identity == prefix.upper() or identity.startswith(prefix.upper() + "-")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("conformance", "conformance of PC-ALM implementations")
    add = group.addoption
    add(
        "--implementation",
        action="append",
        metavar="MODULE:NAME",
        help="an implementation to test; may be repeated; MODULE alone: all that its implementations(device) lists",
    )
    add("--quick", action="store_true", help="the smallest problems only, for the edit loop")
    add("--full", action="store_true", help="every cell and seed, and training on Fashion-MNIST")
    add(
        "--dtype",
        choices=("float64", "float32"),
        default="float64",
        help="of the problems (chapter 9 tests float32 in any case)",
    )
    add("--device", default="cpu", help="passed to implementations that have a field `device`, such as cuda")
    add(
        "--python",
        action="append",
        metavar="[MODULE[:NAME]=]PATH",
        help=PYTHON_HELP,
    )
    add("--max-depth", type=int, metavar="L", help="leave out deeper networks")
    add(
        "--requirement",
        action="append",
        metavar="ID",
        help="only this requirement (LIN-3) or chapter (LIN); may be repeated",
    )
    add(
        "--skip-requirement", action="append", metavar="ID", help="all but this requirement or chapter; may be repeated"
    )
    add("--xfails", metavar="FILE", help="requirement ids, one a line, that are known to fail")
    add("--report", metavar="FILE", help="write one record per requirement and implementation as JSON")
    add("--markdown", metavar="FILE", help="write a summary fit for a pull request")
    add(
        "--time-limit",
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="for one problem, of the implementation's time",
    )
    add("--memory-limit", type=float, default=8.0, metavar="GIB", help="of all processes of an implementation together")


def chapters_asked_for(config: pytest.Config) -> bool:
    """Whether the run is to collect the suite's own chapters: in a run of other tests the plugin does nothing."""
    here = Path(__file__).parent
    asked = [(config.invocation_params.dir / argument.split("::")[0]).resolve() for argument in config.args]
    return any(here.is_relative_to(path) or path.is_relative_to(here) for path in asked if path.name != "")


def pytest_configure(config: pytest.Config) -> None:
    if not chapters_asked_for(config):
        return
    if os.name != "posix":
        raise pytest.UsageError("the suite needs Linux, macOS or another POSIX system; on Windows use its Linux (WSL)")
    config.stash[STASH] = Run(config)
    check_outputs(config)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Before xdist starts its workers, which need the names, not a second look at every implementation."""
    config = session.config
    if STASH not in config.stash:
        return
    run = config.stash[STASH]
    if hasattr(config, "workerinput"):
        run.names = config.workerinput["conformance_names"]
    else:
        run.look_up(config.getoption("--implementation") or [])
        CONTROLLER[:] = [run]
    run.specs = list(run.names)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """xdist: what one worker does is a chapter of an implementation, for requirements of a chapter share problems, and
    what is solved once for all of them is known to that worker only."""
    if STASH not in config.stash or config.getoption("dist") != "load":
        return None
    from xdist.scheduler import LoadScopeScheduling  # not at the top: the suite runs without xdist

    scheduler = LoadScopeScheduling(config, log)
    scheduler._split_scope = share_of
    config.option.loadscopereorder = False  # training, which takes longest, is first
    return scheduler


# They train networks that no other requirement trains, for longer than all the other chapters take.
BY_THEMSELVES = ("TRN-3", "TRN-4")


def share_of(nodeid: str) -> str:
    """Of the name of a requirement's test: "TRN mine" of "test_8_training.py::test_pc_does_not[TRN-2-mine]"."""
    chapter, number, name = nodeid.partition("[")[2].removesuffix("]").split("-", 2)
    identity = f"{chapter}-{number}"
    return f"{identity if identity in BY_THEMSELVES else chapter} {name}"


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    if STASH not in node.config.stash:
        return
    node.workerinput["conformance_names"] = node.config.stash[STASH].names


def pytest_report_header(config: pytest.Config) -> list[str]:
    if STASH not in config.stash:
        return []
    run = config.stash[STASH]
    return [
        f"conformance: {', '.join(run.names.values())}; level {run.level}, {run.dtype}, device {run.device}",
        "versions: " + ", ".join(f"{name} {version}" for name, version in run.versions.items()),
    ]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "check" in metafunc.fixturenames and STASH in metafunc.config.stash:
        run = metafunc.config.stash[STASH]
        # The requirement's id in the name of its test: for -k, --durations and the summaries.
        identity = metafunc.function.requirement
        metafunc.parametrize("check", run.specs, ids=[f"{identity}-{run.names[s]}" for s in run.specs], indirect=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if STASH not in config.stash:
        return
    run = config.stash[STASH]
    kept = [item for item in items if getattr(getattr(item, "function", None), "requirement", None) in run.requirements]
    dropped = [item for item in items if item not in kept]
    if dropped:
        config.hook.pytest_deselected(items=dropped)
        items[:] = kept
    # Training takes longest: first, so that no worker is left with it at the end. Then one implementation after the
    # other, so that not all of their processes are there at once.
    items.sort(key=lambda item: (not item.function.requirement.startswith("TRN"), run.specs.index(spec_of(item))))  # type: ignore[attr-defined]


def spec_of(item: pytest.Item | None) -> str:
    """The implementation that an item tests, "" where it is none of the suite's."""
    called_with = getattr(item, "callspec", None)
    return "" if called_with is None else str(called_with.params.get("check", ""))


def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Ends the processes of an implementation that is not the next one's, and forgets its answers."""
    run = item.config.stash.get(STASH, None)
    if run is not None and (spec := spec_of(item)) in run.subjects and spec != spec_of(nextitem):
        run.subjects[spec].stop()
        run.answers.pop(spec, None)


@pytest.fixture
def check(request: pytest.FixtureRequest) -> Check:
    run = request.config.stash[STASH]
    requirement, subject = REQUIREMENTS[request.function.requirement], run.subject(request.param)
    subject.take_output()  # what belongs to the one before
    answers = run.answers.setdefault(request.param, Answers())
    return Check(subject, requirement, run.level, run.dtype, run.max_depth, answers=answers)


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Iterator[None]:
    """Runs a requirement's test and makes its record."""
    if not hasattr(pyfuncitem.function, "requirement"):
        return (yield)
    check = cast(Check, pyfuncitem.funcargs["check"])
    known = check.requirement.id in pyfuncitem.config.stash[STASH].xfails
    started, raised, result = time.perf_counter(), None, None
    try:
        result = yield
    except Exception as error:
        raised = error
    record = record_module.judged(check, raised, known)
    record.seconds = round(time.perf_counter() - started, 3)
    if record.verdict in (*FAILURES, "xfailed"):
        record.output = cast(Isolated, check.subject).take_output()
    pyfuncitem.user_properties.append(("conformance", vars(record)))
    # Not while `raised` is handled: pytest would print it and its message a second time.
    if record.verdict in record_module.LEFT_OUT:
        pytest.skip(f"{record.verdict}{': ' * bool(record.message)}{record.message}")
    if record.verdict == "xfailed":
        pytest.xfail(record.message)
    if raised is not None:
        raise raised
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """The text of a failed requirement is its message, for it is no fault in the test's lines."""
    report = yield
    if call.excinfo is not None and isinstance(call.excinfo.value, Nonconformity):
        report.longrepr = str(call.excinfo.value)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_logreport(report: pytest.TestReport) -> Iterator[None]:
    yield
    if report.when == "call" and CONTROLLER and (found := records_of(report)):
        CONTROLLER[0].records += found
        CONTROLLER[0].write_report(complete=False)


def records_of(report: pytest.TestReport) -> list[Record]:
    return [Record(**cast(dict[str, Any], value)) for key, value in report.user_properties if key == "conformance"]


# The run whose records are collected: reports arrive without their configuration.
CONTROLLER: list[Run] = []


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if STASH not in session.config.stash:
        return
    run = session.config.stash[STASH]
    for subject in run.subjects.values():
        subject.stop()
    if hasattr(session.config, "workerinput"):
        return
    record_module.explain(run.records)
    run.write_report(complete=True)
    config = session.config
    if config.getoption("--markdown"):
        write_text(Path(config.getoption("--markdown")), record_module.markdown(run.records))
    if exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED) and not config.option.collectonly:
        if all(record.verdict in record_module.LEFT_OUT for record in run.records):
            session.exitstatus = pytest.ExitCode.NO_TESTS_COLLECTED
        elif not any(record.verdict in record_module.PASSED for record in run.records):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> Iterator[None]:
    """What the run found; pytest's own lists of failures would say each of them twice more."""
    if STASH not in config.stash or not config.stash[STASH].records:
        return (yield)
    wrong = terminalreporter.getreports("failed") + terminalreporter.getreports("error")
    if config.option.tbstyle == "auto" and all(records_of(report) for report in wrong):
        config.option.tbstyle = "no"
        terminalreporter.reportchars = terminalreporter.reportchars.replace("f", "")
    result = yield
    summary(config.stash[STASH], terminalreporter, detailed=config.option.verbose > 0)
    return result


def summary(run: Run, out: Any, detailed: bool) -> None:
    out.section("conformance")
    grouped = record_module.by_implementation(run.records)
    if len(grouped) <= 2 or detailed:
        headers, rows = record_module.detail_rows(run.records)
        out.write_line(record_module.table(headers, rows, widths=[None, 16, 44, 30, None, None, 20]))
        out.write_line("")
    out.write_line(record_module.table(*record_module.summary_rows(run.records)))
    specs = {name: spec for spec, name in run.names.items()}
    for name, own in grouped.items():
        wrong = [record for record in own if record.verdict in FAILURES]
        unexpected = [record.requirement for record in own if record.verdict == "xpassed"]
        for record in wrong:
            if not record.follows_from:
                out.write_line("")
                out.write_line(record_module.failure_text(record, specs[name], own, run.chosen.place(specs[name])))
        if following := [f"{r.requirement} (from {', '.join(r.follows_from)})" for r in wrong if r.follows_from]:
            out.write_line(f"\n{name}: mend those first; these follow from them: {'; '.join(following)}")
        if unexpected:
            out.write_line(f"\n{name}: passed although listed in --xfails: {', '.join(unexpected)}")
        if parts := record_module.parts_text(own):
            out.write_line(f"\n{name}: {parts}")
    if all(record.verdict in record_module.LEFT_OUT for record in run.records):
        reasons = Counter(record.message or record.verdict for record in run.records)
        said = "; ".join(f"{count} {printable(reason)}" for reason, count in reasons.most_common(5))
        out.write_line(f"nothing was tested: {said}", red=True)
    elif not any(record.verdict in record_module.PASSED for record in run.records):
        out.write_line("nothing passed: no requirement is met by any implementation", red=True)
