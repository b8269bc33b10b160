"""The records of a comparison, in DIR/records: one JSON file per implementation and cell, one for its training, and one
for the suite's verdicts.

Every record has

    schema, comparison      1; "cell", "training" or "suite"
    implementation, spec    what it goes by in the tables; MODULE:NAME
    key                     a hash of all that the record depends on: a later run keeps the records whose key is its own
    machine, versions       processor, cores and system; packages where the implementation runs
    settings                device, threads, dtype, activation, batch and so on, as they were asked for
    finished                when, UTC

and beside these

    "cell"      cell; methods → `timing.Times` and `timing.figures`; memory: bytes or missing; busy_from
    "training"  epochs; methods → `training.Training`
    "suite"     level; counts: chapter → verdict → number; missing; report: the file that they were counted in
"""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import platform
import re
from pathlib import Path
from typing import Any

from pcalm_conformance.files import write_text

SCHEMA = 1
KINDS = ("cell", "training", "suite")
Record = dict[str, Any]


def machine() -> dict[str, Any]:
    return {"processor": processor(), "cores": os.cpu_count(), "system": platform.platform()}


def processor() -> str:
    """What the system calls it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def hashed(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def file_name(implementation: str, part: str) -> str:
    """A name that is one implementation's alone, and readable."""
    readable = re.sub(r"[^A-Za-z0-9.-]+", "-", implementation).strip("-.") or "implementation"
    unique = "" if readable == implementation else f"-{hashed(implementation)[:6]}"
    return f"{readable}{unique}-{part}.json"


def part_of(record: Record) -> str:
    """What of an implementation a record is about."""
    kind = str(record["comparison"])
    return f"{record['cell']['width']}x{record['cell']['depth']}" if kind == "cell" else kind


class Keeper:
    """The records in a folder.

    Args:
        folder: is made where it is missing.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def find(self, implementation: str, part: str, key: str) -> Record | None:
        """The record that is there, if it is of that key."""
        record = read(self.folder / file_name(implementation, part))
        return record if record is not None and record["key"] == key else None

    def keep(self, record: Record) -> Record:
        whole = {"schema": SCHEMA, **record, "finished": now()}
        text = json.dumps(whole, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        write_text(self.folder / file_name(record["implementation"], part_of(record)), text)
        return whole


def read(file: Path) -> Record | None:
    """A record, None where there is none that this version reads."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    fit = isinstance(found, dict) and found.get("schema") == SCHEMA and found.get("comparison") in KINDS
    return found if fit and isinstance(found.get("key"), str) else None


def now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
