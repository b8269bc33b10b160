"""What an implementation has computed and waited, seen from outside: nothing here asks its processes for a time.

    time = computing + waiting

Computing is the CPU time of all its processes and threads, as the kernel has it. Waiting is time that passed in the
call in which none of them computed or stood in line for a core: sleep, a device, somebody else's process. What other
programs take of a busy machine is in neither, so that a time is the same there, but for caches that are shared.

On Linux both are known to the nanosecond. Elsewhere only computing is, as well as psutil tells it.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from pcalm_conformance.isolation import cpu_time, processes

LINUX = sys.platform == "linux"


@dataclass(frozen=True)
class Reading:
    """Of the clocks, at one moment.

    Attributes:
        wall: seconds.
        computing: seconds of CPU time of the whole tree so far.
        queued: seconds for which its threads have stood in line for a core so far.
    """

    wall: float
    computing: float
    queued: float


@dataclass(frozen=True)
class Spent:
    """Seconds between two readings."""

    computing: float
    waiting: float
    wall: float
    queued: float

    @property
    def time(self) -> float:
        return self.computing + self.waiting

    def __add__(self, other: Spent) -> Spent:
        return Spent(*(mine + theirs for mine, theirs in zip(_fields(self), _fields(other), strict=True)))


def _fields(spent: Spent) -> tuple[float, ...]:
    return spent.computing, spent.waiting, spent.wall, spent.queued


NOTHING = Spent(0.0, 0.0, 0.0, 0.0)


def read(root: int) -> Reading:
    """The clocks of a process and all below it."""
    wall = time.perf_counter()
    tree = processes(root)
    return Reading(wall, sum(map(computed, tree)), sum(queued(one.pid) for one in tree))


def own() -> Reading:
    """The clocks of this process, which has to be on a core to hear an answer."""
    return Reading(time.perf_counter(), time.thread_time(), queued(os.getpid()))


def between(first: Reading, last: Reading, mine: tuple[Reading, Reading]) -> Spent:
    """What a tree has spent from one reading to the other; `mine` are those of this process, taken with them.

    Time in which this process stood in line is nobody's waiting.
    """
    computing, line = last.computing - first.computing, last.queued - first.queued
    passed = last.wall - first.wall
    judge = mine[1].computing - mine[0].computing + mine[1].queued - mine[0].queued
    waiting = max(0.0, passed - computing - line - judge) if LINUX else 0.0
    return Spent(computing, waiting, passed, line)


def computed(process: psutil.Process) -> float:
    """Seconds of CPU time of a process and of its children that have ended."""
    if LINUX:
        with contextlib.suppress(OSError, psutil.Error):
            # clock_getcpuclockid(3): the process' clock of what its threads have had.
            alive = time.clock_gettime_ns((~process.pid << 3) | 2) / 1e9
            times = process.cpu_times()
            return alive + float(times.children_user + times.children_system)
        return 0.0
    return cpu_time(process)


def queued(pid: int) -> float:
    """Seconds for which the threads of a process were ready to compute and had no core; 0 where that is not known."""
    total = 0
    for file in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            total += int(file.read_text().split()[1])
    return total / 1e9
