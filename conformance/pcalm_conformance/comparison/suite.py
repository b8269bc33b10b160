"""Is it right: the suite's own verdicts, run here or from a report that is there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pcalm_conformance.isolation import Workplace
from pcalm_conformance.records import FAILURES, IN_PART, PASSED

LEVELS = ("quick", "default", "full")
MOST_WORKERS = 4
COUNTED = ("met", "failed", "in part", "unsupported", "not run")
Counts = dict[str, dict[str, int]]


@dataclass(frozen=True)
class Asked:
    """What a run of the suite is about; every field is part of its command."""

    spec: str
    name: str
    place: Workplace
    level: str
    time_limit: float


def run(asked: Asked, report: Path) -> str:
    """Runs the suite on one implementation; why there is no report, "" where there is one."""
    place = asked.place
    options = {
        "--implementation": asked.spec,
        "--python": place.python,
        "--device": place.device,
        "--time-limit": f"{asked.time_limit:g}",
        "--memory-limit": f"{place.memory_limit / 2**30:g}",
        "--report": str(report.absolute()),
    }
    command = [sys.executable, "-m", "pcalm_conformance", "-q", "--no-summary", "--no-header", "-p", "no:cacheprovider"]
    command += [word for pair in options.items() for word in pair]
    # Nothing is timed meanwhile, so that there are cores for more; one thread each, or their pools fight.
    command += ["-n", str(min(MOST_WORKERS, os.cpu_count() or 1))]
    command += [] if asked.level == "default" else [f"--{asked.level}"]
    with subprocess.Popen(
        command,
        cwd=place.directory,
        env={"OMP_NUM_THREADS": "1", **os.environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        try:
            said, _ = process.communicate()
        except BaseException:
            process.terminate()
            process.communicate()
            raise
    if report.is_file() and read(report, asked.name) is not None:
        return ""
    last = said.strip().splitlines()[-1:] or ["nothing"]
    return f"the suite ended with status {process.returncode} and said: {last[0]}"


def read(report: Path, name: str) -> list[dict[str, Any]] | None:
    """The records of one implementation in a report; None where it is no whole report or holds none of it."""
    try:
        content = json.loads(report.read_text(encoding="utf-8"))
        if not content["complete"]:
            return None
        own = [one for one in content["records"] if one["implementation"] == name]
        return (
            own
            if own and all(isinstance(one["chapter"], str) and isinstance(one["verdict"], str) for one in own)
            else None
        )
    except (OSError, ValueError, LookupError, TypeError):
        return None


def counts(records: Sequence[dict[str, Any]]) -> Counts:
    """Chapter → how many requirements were met, failed, met in part, unsupported and not run; "all" sums them up."""
    found: Counts = {}
    for record in records:
        for chapter in (record["chapter"], "all"):
            row = found.setdefault(chapter, dict.fromkeys(COUNTED, 0))
            row[kind_of(record["verdict"])] += 1
    return (
        {**{chapter: row for chapter, row in found.items() if chapter != "all"}, "all": found["all"]} if found else {}
    )


def kind_of(verdict: str) -> str:
    if verdict == IN_PART:
        return "in part"
    if verdict in PASSED:
        return "met"
    if verdict in (*FAILURES, "xfailed"):
        return "failed"
    return verdict if verdict in COUNTED else "not run"
