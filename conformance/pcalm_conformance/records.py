"""What a run of the suite leaves: one record per requirement and implementation, and the tables made from them.

The JSON of --report (schema 1):

    {"schema": 1, "level": "quick" | "default" | "full", "dtype": ..., "device": ..., "versions": {package: version},
     "implementations": [name, ...], "records": [record, ...]}

with one record per requirement and implementation:

    requirement, chapter, claim, implementation
    verdict      "passed", "failed", "unsupported", "not run", "error" (the suite's); with --xfails "xfailed", "xpassed"
    what, figure, relation, bound    the measurement closest to (or beyond) its bound; null where nothing was measured
    bound_origin                     where the bound comes from
    cases        problems solved; left_out: cases that the implementation does not support
    seconds      time taken
    message      why it failed, was left out or not run; recipe: the smallest problem of the test that shows a failure
    follows_from requirements that failed, too, and explain this failure
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pcalm_conformance.requirements import CHAPTERS, REQUIREMENTS

SCHEMA = 1
FAILURES = ("failed", "error")
SIGNS = {
    "passed": "✓",
    "failed": "✗",
    "error": "!",
    "unsupported": "–",
    "not run": "·",
    "xfailed": "x",
    "xpassed": "✓?",
}
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
    seconds: float = 0.0
    message: str = ""
    recipe: str = ""
    follows_from: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        requirement = REQUIREMENTS[self.requirement]
        extra = {"chapter": requirement.chapter, "claim": requirement.claim, "bound_origin": requirement.origin}
        return {**asdict(self), **extra}

    @property
    def measured(self) -> str:
        return "" if self.figure is None else f"{self.figure:.4g}"

    @property
    def required(self) -> str:
        return "" if self.bound is None else f"{self.relation} {self.bound:.4g}"


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


def likely_mistakes(failed: set[str], requirement: str | None = None, most: int = 3) -> list[str]:
    """The known mistakes whose failures look most like these, best first (by shared over all failures), in words."""
    scored = [
        (len(failed & killed) / len(failed | killed), mistake)
        for mistake, killed in known_mistakes().values()
        if failed & killed and (requirement is None or requirement in killed)
    ]
    return [mistake for _, mistake in sorted(scored, reverse=True)[:most]]


def failure_text(record: Record, spec: str, failed: set[str]) -> str:
    """The whole story of one failure, with a snippet to paste."""
    requirement = REQUIREMENTS[record.requirement]
    lines = [f"{requirement.id} · {record.implementation}: {requirement.claim}", f"  {record.message}"]
    lines += [f"  bound:  {requirement.bound}", f"  origin: {requirement.origin}", f"  source: {requirement.source}"]
    if record.recipe:
        module, _, name = spec.partition(":")
        lines += [
            "  the smallest problem of this test that shows it:",
            "      import numpy as np",
            "      from pcalm_conformance import oracle",
            "      from pcalm_conformance.problems import Recipe",
            f"      from {module} import {name} as implementation",
            f"      problem = {record.recipe}.problem()",
            "      mine, right = implementation.solve(problem), oracle.solve(problem)",
            "      print(np.abs(mine.activities - right.activities).max(axis=(1, 2)))",
            "      print(np.abs(mine.multipliers - right.multipliers).max(axis=(1, 2)))",
            "      print([np.abs(a - b).max() for a, b in zip(mine.gradients, right.gradients)])",
        ]
    mistakes = likely_mistakes(failed, requirement.id)
    if mistakes:
        lines += ["  known mistakes that fail like this:", *(f"      - {mistake}" for mistake in mistakes)]
    return "\n".join(lines)


def report(records: Sequence[Record], **header: Any) -> dict[str, Any]:
    """The JSON of --report."""
    names = list(dict.fromkeys(record.implementation for record in records))
    return {
        "schema": SCHEMA,
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
    passed = sum(verdict in ("passed", "xpassed") for verdict in verdicts)
    ran = sum(verdict not in ("unsupported", "not run") for verdict in verdicts)
    others = [f"{verdicts.count(kind)} {kind}" for kind in SIGNS if kind != "passed" and kind in verdicts]
    return f"{passed}/{ran}" + (f" ({', '.join(others)})" if others else "")


def detail_rows(records: Sequence[Record], claims: bool = True) -> tuple[list[str], list[list[str]]]:
    """One row per record: requirement, claim, measured figure, bound and verdict."""
    rows = []
    for record in ordered(records):
        requirement = REQUIREMENTS[record.requirement]
        reason = f" ({record.message})" if record.verdict == "not run" and record.message else ""
        middle = [requirement.claim] if claims else []
        rows.append(
            [
                record.requirement,
                record.implementation,
                *middle,
                record.what,
                record.measured,
                record.required,
                record.verdict + reason,
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


def markdown(records: Sequence[Record]) -> str:
    """A summary for a pull request: counts by chapter, then only what did not pass."""
    lines = ["## Conformance", "", table(*summary_rows(records), fmt="github"), ""]
    wrong = [record for record in records if record.verdict in FAILURES]
    if wrong:
        headers, rows = detail_rows(wrong)
        for row, record in zip(rows, ordered(wrong), strict=True):
            row[-1] += f", follows from {', '.join(record.follows_from)}" if record.follows_from else ""
        lines += ["### What failed", "", table(headers, rows, fmt="github"), ""]
        for name in dict.fromkeys(record.implementation for record in wrong):
            mistakes = likely_mistakes({record.requirement for record in wrong if record.implementation == name})
            lines += (
                [f"Known mistakes that fail like {name}:", "", *(f"- {text}" for text in mistakes), ""]
                if mistakes
                else []
            )
    return "\n".join(lines)
