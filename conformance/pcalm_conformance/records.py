"""What a run of the suite leaves: one record per requirement and implementation, and the tables made from them.

The JSON of --report (schema 2):

    {"schema": 2, "complete": false while the run goes on, "level": "quick" | "default" | "full", "dtype": ...,
     "device": ..., "versions": {package: version}, "implementations": [name, ...], "records": [record, ...]}

with one record per requirement and implementation:

    requirement, chapter, claim, needs, implementation
    verdict      "passed", "passed in part" (some cases were left out), "failed", "unsupported", "not run", "error" (the
                 suite's); with --xfails "xfailed", "xpassed"
    what, figure, relation, bound    the measurement beyond its bound, or, where all hold, the one closest to it; null
                                     where nothing was measured or no answer came
    bound_origin                     where the bound comes from
    cases        cases that hold; left_out: cases that did not run; solved: problems that the implementation solved
    seconds      time taken
    message      why it failed, was left out or not run
    output       the end of what the implementation printed meanwhile, where it failed
    recipe       the problem that shows a failure; case: the requirement's case that it belongs to, as the settings of
                 `python -m pcalm_conformance.replay`
    broke        whether no answer came: solve() raised, took too long, broke down or returned no solution
    follows_from requirements that failed, too, and explain this failure
"""

from __future__ import annotations

import functools
import json
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pcalm_conformance.checking import BrokenImplementation, Check, Measurement, Nonconformity, NotRun, Unsupported
from pcalm_conformance.isolation import Workplace
from pcalm_conformance.replay import command
from pcalm_conformance.requirements import CHAPTERS, REQUIREMENTS
from pcalm_conformance.text import code

SCHEMA = 2
IN_PART = "passed in part"
PASSED = ("passed", IN_PART, "xpassed")
FAILURES = ("failed", "error")
LEFT_OUT = ("unsupported", "not run")
VERDICTS = ("passed", IN_PART, *FAILURES, *LEFT_OUT, "xfailed", "xpassed")
SHOWN_LINES, SHOWN_WIDTH = 12, 160  # of what an implementation printed
KILL_MATRIX = Path(__file__).with_name("kill_matrix.json")


@dataclass
class Record:
    requirement: str
    implementation: str
    verdict: str
    what: str = ""
    figure: float | None = None
    relation: str = ""
    bound: float | None = None
    cases: int = 0
    left_out: int = 0
    solved: int = 0
    seconds: float = 0.0
    message: str = ""
    recipe: str = ""
    output: str = ""
    case: list[str] = field(default_factory=list)
    broke: bool = False
    follows_from: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        requirement = REQUIREMENTS[self.requirement]
        extra = {"chapter": requirement.chapter, "claim": requirement.claim, "needs": requirement.needs}
        return {**asdict(self), **extra, "bound_origin": requirement.origin}

    @property
    def shown_verdict(self) -> str:
        if self.verdict == IN_PART:
            return f"{IN_PART} ({self.cases} of {self.cases + self.left_out})"
        return f"{self.verdict} ({self.message})" if self.verdict == "not run" and self.message else self.verdict

    @property
    def measured(self) -> str:
        return "" if self.figure is None else f"{self.figure:.4g}"

    @property
    def required(self) -> str:
        return "" if self.bound is None else f"{self.relation} {self.bound:.4g}"


def judged(check: Check, raised: Exception | None, known: bool = False) -> Record:
    """The record of one requirement's test, by what it raised; `known` failures are expected.

    An exception that is not about the implementation is the suite's own error.
    """
    record = Record(check.requirement.id, check.subject.name, "error", cases=check.cases, solved=check.solved)
    record.left_out = sum(check.left_out.values())
    shown = max(check.measurements, key=lambda measurement: measurement.strain, default=None)
    if raised is None:
        record.verdict = "xpassed" if known else IN_PART if record.left_out else "passed"
        record.message = "; ".join(f"{count} left out: {reason}" for reason, count in check.left_out.items())
    elif isinstance(raised, Unsupported):
        record.verdict = "unsupported"
    elif isinstance(raised, NotRun):
        record.verdict, record.message = "not run", str(raised)
    elif isinstance(raised, Nonconformity):
        record.verdict, record.message = "xfailed" if known else "failed", str(raised)
        record.recipe = repr(raised.recipe) if raised.recipe else ""
        record.case = raised.case.settings() if raised.case else []
        record.broke = isinstance(raised, BrokenImplementation)
        shown = raised.found if isinstance(raised.found, Measurement) else None
    else:
        record.message, shown = "".join(traceback.format_exception(raised)), None
    if shown is not None:
        record.what, record.figure, record.relation, record.bound = (
            shown.what,
            shown.figure,
            shown.relation,
            shown.bound,
        )
    return record


def explain(records: Sequence[Record]) -> None:
    """Fills `follows_from`: the failed requirements that a failed one builds on, directly or through others."""
    failed = {(record.implementation, record.requirement) for record in records if record.verdict in FAILURES}
    for record in records:
        if record.verdict in FAILURES:
            causes = ancestors(record.requirement)
            record.follows_from = [
                cause for cause in REQUIREMENTS if cause in causes and (record.implementation, cause) in failed
            ]


def ancestors(identity: str) -> set[str]:
    found: set[str] = set()
    waiting = [*REQUIREMENTS[identity].builds_on]
    while waiting:
        cause = waiting.pop()
        if cause not in found:
            found.add(cause)
            waiting.extend(REQUIREMENTS[cause].builds_on)
    return found


@functools.cache
def known_mistakes() -> dict[str, tuple[str, frozenset[str]]]:
    """Known wrong implementation → (the mistake in words, the requirements that reject it)."""
    if not KILL_MATRIX.exists():
        return {}
    mutants = json.loads(KILL_MATRIX.read_text(encoding="utf-8"))["mutants"]
    return {name: (entry["mistake"], frozenset(entry["killed_by"])) for name, entry in mutants.items()}


def likely_mistakes(records: Sequence[Record], requirement: str | None = None, most: int = 3) -> list[str]:
    """The known mistakes whose failures look most like those of an implementation, best first, in words.

    By shared over all failures among the requirements that gave evidence, |F ∩ K| / |F ∪ (K ∩ E)|: F failed, K is what
    rejects the mistake, E what was tested whole. What was left out or broke down says nothing about a mistake.
    """
    failed = {record.requirement for record in records if record.verdict in ("failed", "xfailed") and not record.broke}
    tested = failed | {record.requirement for record in records if record.verdict in ("passed", "xpassed")}
    scored = [
        (len(failed & killed) / len(failed | killed & tested), mistake)
        for mistake, killed in known_mistakes().values()
        if failed & killed and (requirement is None or requirement in failed & killed)
    ]
    return [mistake for _, mistake in sorted(scored, key=lambda entry: -entry[0])[:most]]


def failure_text(record: Record, spec: str, records: Sequence[Record], workplace: Workplace | None = None) -> str:
    """The whole story of one failure, with a command to paste; `records` are all of the implementation."""
    requirement = REQUIREMENTS[record.requirement]
    lines = [f"{requirement.id} · {record.implementation}: {requirement.claim}"]
    lines += [f"  {line}" for line in record.message.splitlines()]
    if printed := record.output.rstrip().splitlines()[-SHOWN_LINES:]:
        lines += ["  the last that it printed:", *(f"      {line[-SHOWN_WIDTH:]}" for line in printed)]
    lines += [f"  bound:  {requirement.bound}", f"  origin: {requirement.origin}", f"  source: {requirement.source}"]
    if record.case:
        lines += [
            "  the smallest problem that shows it, for a terminal here:",
            f"      {command(spec, requirement.id, record.case, workplace)}",
        ]
    if not record.broke and (mistakes := likely_mistakes(records, requirement.id)):
        lines += ["  known mistakes that fail like this:", *(f"      - {mistake}" for mistake in mistakes)]
    return "\n".join(lines)


def report(records: Sequence[Record], complete: bool, **header: Any) -> dict[str, Any]:
    """The JSON of --report."""
    names = list(dict.fromkeys(record.implementation for record in records))
    return {
        "schema": SCHEMA,
        "complete": complete,
        **header,
        "implementations": names,
        "records": [record.as_json() for record in ordered(records)],
    }


def ordered(records: Sequence[Record]) -> list[Record]:
    place = {identity: index for index, identity in enumerate(REQUIREMENTS)}
    return sorted(records, key=lambda record: (place[record.requirement], record.implementation))


def summary_rows(records: Sequence[Record]) -> tuple[list[str], list[list[str]]]:
    """Chapter × implementation: how many requirements passed of those that ran, and what else there was."""
    names = list(dict.fromkeys(record.implementation for record in records))
    rows = []
    for chapter in CHAPTERS.values():
        inside = [record for record in records if REQUIREMENTS[record.requirement].chapter == chapter]
        if inside:
            rows.append([chapter, *(_count([r.verdict for r in inside if r.implementation == name]) for name in names)])
    rows.append(["all", *(_count([r.verdict for r in records if r.implementation == name]) for name in names)])
    return ["chapter", *names], rows


def _count(verdicts: list[str]) -> str:
    passed = sum(verdict in PASSED for verdict in verdicts)
    ran = sum(verdict not in LEFT_OUT for verdict in verdicts)
    others = [f"{verdicts.count(kind)} {kind}" for kind in VERDICTS if kind != "passed" and kind in verdicts]
    return f"{passed}/{ran}" + (f" ({', '.join(others)})" if others else "")


def detail_rows(records: Sequence[Record], claims: bool = True) -> tuple[list[str], list[list[str]]]:
    """One row per record: requirement, claim, measured figure, bound and verdict."""
    rows = []
    for record in ordered(records):
        middle = [REQUIREMENTS[record.requirement].claim] if claims else []
        rows.append(
            [
                record.requirement,
                record.implementation,
                *middle,
                record.what,
                record.measured,
                record.required,
                record.shown_verdict,
            ]
        )
    middle = ["claim"] if claims else []
    return ["requirement", "implementation", *middle, "figure", "measured", "bound", "verdict"], rows


def table(
    headers: list[str], rows: list[list[str]], fmt: str = "simple", widths: Sequence[int | None] | None = None
) -> str:
    """The table by tabulate, or tab-separated where it is not installed."""
    try:
        import tabulate
    except ModuleNotFoundError:
        return "\n".join("\t".join(map(str, row)) for row in [headers, *rows])
    return str(
        tabulate.tabulate(
            rows, headers, tablefmt=fmt, disable_numparse=True, maxcolwidths=list(widths) if widths else None
        )
    )


def parts_text(records: Sequence[Record]) -> str:
    """One line on an implementation's requirements that passed in part, "" where there are none."""
    partial = [record for record in ordered(records) if record.verdict == IN_PART]
    shown = ", ".join(f"{one.requirement} ({one.cases} of {one.cases + one.left_out})" for one in partial)
    return f"{len(partial)} passed in part only, the other cases were left out: {shown}" if partial else ""


def by_implementation(records: Sequence[Record]) -> dict[str, list[Record]]:
    """The records of each, in the catalogue's order."""
    names = dict.fromkeys(record.implementation for record in records)
    return {name: [record for record in ordered(records) if record.implementation == name] for name in names}


def markdown(records: Sequence[Record]) -> str:
    """A summary for a pull request: counts by chapter, then only what did not pass whole."""
    (chapter, *names), counts = summary_rows(records)
    lines = [
        "## Conformance",
        "",
        table([chapter, *(code(name, cell=True) for name in names)], counts, fmt="github"),
        "",
    ]
    wrong = [record for record in records if record.verdict in FAILURES]
    if wrong:
        headers, rows = detail_rows(wrong)
        for row, record in zip(rows, ordered(wrong), strict=True):
            row[1], row[3] = code(record.implementation, cell=True), code(record.what, cell=True) if record.what else ""
            row[-1] += f", follows from {', '.join(record.follows_from)}" if record.follows_from else ""
        lines += ["### What failed", "", table(headers, rows, fmt="github"), ""]
    for name, own in by_implementation(records).items():
        if parts := parts_text(own):
            lines += [f"{code(name)}: {parts}.", ""]
        if any(record.verdict in FAILURES for record in own) and (mistakes := likely_mistakes(own)):
            lines += [f"Known mistakes that fail like {code(name)}:", "", *(f"- {text}" for text in mistakes), ""]
    return "\n".join(lines)
