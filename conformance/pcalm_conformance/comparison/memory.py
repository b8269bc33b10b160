"""How much memory a gradient takes: the peak of a process that has solved the cell, over that of one that has solved
next to nothing.

Each cell has a fresh process, and the kernel's high-water mark of all processes in it is read from outside. First they
solve a problem of a few numbers, which loads the libraries; then the cell's, twice, so that compilers are in it, too.
What an adapter that does nothing takes for the same, the copies of the problem that the suite itself makes, goes off.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pcalm_conformance.checking import BrokenImplementation, NotRun
from pcalm_conformance.comparison.cells import Cell
from pcalm_conformance.isolation import Isolated, processes
from pcalm_conformance.protocol import Problem

MEASURED = Path("/proc/self/status").is_file()


def peak(root: int) -> int:
    """Bytes that a process and all below it have had at most, each at its own time."""
    total = 0
    for process in processes(root):
        with contextlib.suppress(OSError, StopIteration, ValueError):
            lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
            total += 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    return total


def measure(subject: Isolated, nothing: Isolated, cell: Cell, methods: Sequence[str]) -> dict[str, Any]:
    """Bytes with the last of the methods that it supports, or why they are missing; `nothing` is the adapter that does
    nothing."""
    found: dict[str, Any] = {"method": "", "missing": ""}
    try:
        supported = [method for method in methods if subject.supports(cell.problem(method))]
        if not supported:
            return found | {"missing": "unsupported"}
        method = found["method"] = supported[-1]
        return found | {"bytes": max(0, growth(subject, cell, method) - growth(nothing, cell, method))}
    except (BrokenImplementation, NotRun) as error:
        return found | {"missing": str(error).splitlines()[0]}
    finally:
        subject.stop()


def growth(subject: Isolated, cell: Cell, method: str) -> int:
    """Bytes by which the peak grows from a small problem to the cell's.

    Raises:
        BrokenImplementation: it has no answer.
    """
    small, large = dataclasses.replace(cell, width=2, depth=3, batch=2).problem(method), cell.problem(method)
    try:
        _solve(subject, small)
        before = peak(subject.pid)
        for _ in range(2):
            _solve(subject, large)
        return max(0, peak(subject.pid) - before)
    finally:
        subject.stop()


def _solve(subject: Isolated, problem: Problem) -> None:
    subject.hold(problem)
    if subject.prepares:
        subject.prepare(problem)
    subject.gradients(problem)
