"""Computes the runs of a grid on Dask, and records each as soon as its pass is done.

The process that calls `compute` plans the passes, hands them to the workers, and alone writes the records; a worker
only trains. So workers need no common file system, and may come and go. A run that is being computed is claimed by a
lock that the operating system drops with the process, so that two grids in one directory share the work.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import fcntl
import functools
import logging
import math
import queue
import sys
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from pcalm.checks import first_line, integer, location, require
from pcalm.experiments import data, records
from pcalm.experiments.config import DTYPE_NAMES
from pcalm.experiments.grid import Grid, Pack, Planned, pack, pack_cost
from pcalm.experiments.records import Record
from pcalm.experiments.tracking import UnstableError
from pcalm.experiments.training import train_replicas

ATTEMPTS = 3
TICK_S = 0.5
CONNECT_TIMEOUT_S = 10
PLAIN_EVERY_S = 30
GONE = "the scheduler is gone; all finished runs are recorded, and the same command goes on from there"


@dataclass(frozen=True)
class Outcome:
    """What `compute` leaves.

    Attributes:
        runs: in the grid.
        before: that had their records before.
        computed: by this call.
        failures: runs that failed, in the grid's order, with the error of the last attempt.
        diverged, refused: runs of the grid whose records say so.
    """

    runs: int
    before: int
    computed: int
    failures: list[tuple[Planned, str]]
    diverged: int = 0
    refused: int = 0


def compute(
    grid: Grid,
    output: str | Path,
    *,
    scheduler: str | None = None,
    workers: int | None = None,
    data_dir: str | Path | None = None,
    progress: bool = False,
) -> Outcome:
    """Computes the runs of a grid that have no sound record in a directory yet.

    Interrupted or killed at any time, the same call goes on. A run that fails is tried again by itself, ATTEMPTS times
    in all, while the others go on; but bad settings or data (a ValueError) stay what they are, and are not. A run that
    diverged, or that is refused since its settings are unstable, is a result.

    Args:
        grid: which runs.
        output: the directory of the records; made if need be.
        scheduler: address of a Dask scheduler, such as "tcp://host:8786"; None starts a cluster on this machine.
        workers: processes of that cluster, of one thread each; None is one per core, or one on other devices than CPUs.
        data_dir: where the workers look first for the data sets' files.
        progress: shows what is done, running and failed, and the time left, on the standard error stream.

    Raises:
        ValueError: bad settings, or a directory that cannot be written.
        ImportError: Dask is not installed.
        ConnectionError: the scheduler is not there, or is gone.
        OSError: a record cannot be written; all earlier ones are kept.
    """
    directory = location("output", output)
    if workers is not None:
        workers = integer("workers", workers, 1)
        require(scheduler is None, "workers is of the cluster on this machine: leave it out with a scheduler")
    runs = grid.runs()
    done = records.statuses(directory)
    todo = [run for run in runs if run.key not in done]
    if not todo:
        return Outcome(len(runs), len(runs), 0, [], *_ends(runs, done))
    if workers is None and grid.device != "cpu":
        workers = 1
    with contextlib.closing(Claims(directory)) as claims, _connected(scheduler, workers, len(todo)) as client:
        work = _Work(client, claims, directory, pack(todo, max(1, _threads(client))), data_dir)
        with _Display(work, len(runs), progress) as display:
            work.run(display)
    order = {run.key: place for place, run in enumerate(runs)}
    failures = sorted(work.failures, key=lambda failure: order[failure[0].key])
    ends = _ends(runs, records.statuses(directory))
    return Outcome(len(runs), len(runs) - len(todo), work.computed, failures, *ends)


def _ends(runs: Sequence[Planned], statuses: dict[str, str]) -> tuple[int, int]:
    """How many of the runs diverged, and were refused."""
    found = Counter(statuses.get(run.key) for run in runs)
    return found["diverged"], found["refused"]


def train_pack(runs: Sequence[Planned], data_dir: str | None) -> list[Record]:
    """On a worker: trains the runs in one pass, on one thread, whatever else the worker does."""
    torch.set_num_threads(1)
    _keep_memory()
    config = runs[0].config
    dataset = _load(config.dataset, data_dir, config.dtype, config.device)
    try:
        results = train_replicas([run.config for run in runs], dataset)
    except UnstableError as error:
        if len(runs) == 1:
            return [records.of_refusal(runs[0].config, runs[0].setting, error)]
        return [record for run in runs for record in train_pack([run], data_dir)]
    return [records.of_run(result, run.setting) for run, result in zip(runs, results, strict=True)]


@functools.cache
def _keep_memory() -> None:
    """Undoes what Dask asks of glibc in its workers: to give freed memory back at once.

    Tensors of some 100 KiB then cost a page fault for every page, each time anew: 100 times as many, and training on
    digits at N = L = 16 took four times as long (measured).
    """
    with contextlib.suppress(AttributeError, OSError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(-3, 32 << 20)  # M_MMAP_THRESHOLD: the largest that glibc takes, and what it would get to by itself
        mallopt(-1, 256 << 20)  # M_TRIM_THRESHOLD


@functools.lru_cache(maxsize=1)
def _load(name: str, data_dir: str | None, dtype: str, device: str) -> data.Dataset:
    return data.load(name, data_dir, dtype=DTYPE_NAMES[dtype], device=device)


class Claims:
    """Which runs this process computes, among all that write to a directory: one lock per run in one empty file.

    Raises:
        ValueError: a directory that cannot be made or written.
    """

    def __init__(self, directory: Path) -> None:
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._file = (directory / "claims.lock").open("ab")
        except OSError as error:
            raise ValueError(
                f"output must be a directory that can be written, got {str(directory)!r}: {error.strerror}"
            ) from error

    def close(self) -> None:
        """Gives all claims up."""
        self._file.close()

    def take(self, key: str) -> bool:
        """Claims a run; False if another process has it."""
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _offset(key))
        except OSError as error:
            # On a file system without locks both compute the run, and write the same record.
            return error.errno not in (errno.EACCES, errno.EAGAIN)
        return True

    def release(self, key: str) -> None:
        with contextlib.suppress(OSError):
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, _offset(key))


def _offset(key: str) -> int:
    """A place of its own in the file, which may be 2^63 bytes long: the first 60 bits of the key."""
    return int(key[:15], 16)


@dataclass
class _Pass:
    """Runs that a worker has, or gets next; `begun` is when, by a monotonic clock, their turn came."""

    runs: Pack
    begun: float | None = None


class _Work:
    """The passes that wait, run and have failed."""

    def __init__(
        self, client: Any, claims: Claims, directory: Path, packs: list[Pack], data_dir: str | Path | None
    ) -> None:
        self.client, self.claims, self.directory = client, claims, directory
        # Workers on this machine need not share the working directory.
        self.data_dir = None if data_dir is None else str(Path(data_dir).resolve())
        self.waiting: deque[Pack] = deque()
        self.waiting_cost = 0.0
        for runs in packs:
            self._wait(runs)
        self.submitted: dict[Any, _Pass] = {}
        self.attempts: dict[str, int] = {}
        self.computed = self.found = 0
        self.failures: list[tuple[Planned, str]] = []
        self.events: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.threads = _threads(client)
        self.seconds = self.predicted = 0.0

    def run(self, display: _Display) -> None:
        while self.waiting or self.submitted:
            self._submit()
            display.show()
            with contextlib.suppress(queue.Empty):
                self._collect(self.events.get(timeout=TICK_S))
                while True:
                    self._collect(self.events.get_nowait())
            if self.client.status != "running":
                raise ConnectionError(GONE)
        display.show(last=True)

    def running(self) -> list[_Pass]:
        """The passes whose turn it is: one per thread, in the order in which they were submitted."""
        first = list(islice(self.submitted.values(), self.threads))
        for each in first:
            each.begun = each.begun or time.monotonic()
        return first

    def seconds_left(self) -> float:
        """By the cost model, scaled to the passes measured so far."""
        now = time.monotonic()
        scale = self.seconds / self.predicted if self.predicted else 1.0
        ahead = scale * self.waiting_cost
        for each in self.submitted.values():
            ahead += max(0.0, scale * pack_cost(each.runs) - (now - (each.begun or now)))
        return ahead / max(1, self.threads)

    def _wait(self, runs: Pack) -> None:
        self.waiting.append(runs)
        self.waiting_cost += pack_cost(runs)

    def _submit(self) -> None:
        """Keeps one pass per thread running and one ready, so that what waits can still go to others."""
        if not self.waiting:
            return
        self.threads = _threads(self.client)
        elsewhere: list[Pack] = []
        while self.waiting and len(self.submitted) < 2 * max(1, self.threads):
            runs = self.waiting.popleft()
            self.waiting_cost -= pack_cost(runs)
            claimed = [run for run in runs if self.claims.take(run.key)]
            if left := [run for run in runs if run not in claimed]:
                elsewhere.append(left)
            # Another grid may have recorded it since; a damaged file of an earlier one is not a record.
            mine = [run for run in claimed if not records.sound(self.directory, run.key)]
            for run in claimed:
                if run not in mine:
                    self.claims.release(run.key)
                    self.found += 1
            if mine:
                with _reaching():
                    future = self.client.submit(train_pack, mine, self.data_dir, pure=False, retries=0)
                self.submitted[future] = _Pass(mine)
                future.add_done_callback(self.events.put)
        for runs in elsewhere:
            self._wait(runs)

    def _collect(self, future: Any) -> None:
        runs = self.submitted.pop(future).runs
        if future.status == "finished":
            with _reaching():
                found: list[Record] = future.result()
            for record in found:
                self._write(record)
            self.computed += len(found)
            self.seconds += sum(record.summary["seconds"] / record.replicas for record in found)
            self.predicted += pack_cost(runs)
        elif future.status == "error":
            with _reaching():
                error = future.exception()
            self._failed(runs, error)
        else:  # cancelled or lost, with the scheduler or without
            self._wait(runs)
        future.release()
        for run in runs:
            self.claims.release(run.key)

    def _write(self, record: Record) -> None:
        try:
            records.write(self.directory, record)
        except OSError as error:
            raise OSError(f"{error}; all earlier records are kept, and the same command goes on from there") from error

    def _failed(self, runs: Pack, error: BaseException) -> None:
        """Each run by itself again, until it has had its attempts; what a run alone has wrong is not tried again."""
        final = isinstance(error, ValueError) and len(runs) == 1
        for run in runs:
            attempts = self.attempts[run.key] = self.attempts.get(run.key, 0) + 1
            if attempts < ATTEMPTS and not final:
                self._wait([run])
            else:
                self.failures.append((run, f"{type(error).__name__}: {error}"))


class _Display:
    """One line on the standard error stream: a bar on a terminal, else the same in plain lines now and then."""

    def __init__(self, work: _Work, runs: int, wanted: bool) -> None:
        from tqdm import tqdm

        self.work, self.runs, self.wanted = work, runs, wanted
        self.done = runs - sum(map(len, work.waiting))
        self.bar = tqdm(
            total=runs,
            initial=self.done,
            disable=not (wanted and sys.stderr.isatty()),
            bar_format="{desc} |{bar}|",
            dynamic_ncols=True,
        )
        self.shown = -math.inf

    def show(self, last: bool = False) -> None:
        work = self.work
        done = self.done + work.computed + work.found
        running = sum(len(each.runs) for each in work.running())
        text = f"{done} of {self.runs} done, {running} running, {len(work.failures)} failed"
        if not last:
            text += f", {_clock(work.seconds_left())} left" if work.predicted else ""
            text += "" if work.threads else ", no workers: waiting for some"
        self.bar.n = done
        self.bar.set_description_str(text)
        now = time.monotonic()
        if self.wanted and self.bar.disable and (last or now - self.shown > PLAIN_EVERY_S):
            print(text, file=sys.stderr, flush=True)
            self.shown = now

    def __enter__(self) -> _Display:
        return self

    def __exit__(self, *exception: object) -> None:
        self.bar.close()


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


@contextlib.contextmanager
def _connected(scheduler: str | None, workers: int | None, most: int) -> Iterator[Any]:
    """A client of the scheduler, or of a cluster of this machine's own, which ends with the block."""
    try:
        import dask
        from dask.system import CPU_COUNT
        from distributed import Client, LocalCluster
    except ImportError as error:
        raise ImportError("a grid needs Dask: pip install 'pcalm[grid]'") from error
    if scheduler is not None:
        with _quiet():
            _reach(scheduler)
            with Client(scheduler, timeout=CONNECT_TIMEOUT_S, set_as_default=False) as client:
                yield client
        return
    with (
        # A laptop that was closed wakes up with workers that seem not to have answered for hours.
        dask.config.set({"distributed.scheduler.worker-ttl": None}),
        # A Ctrl-C goes to all processes of a terminal; this one ends the others.
        LocalCluster(
            n_workers=min(most, workers or CPU_COUNT),
            threads_per_worker=1,
            dashboard_address="127.0.0.1:0",
            silence_logs="CRITICAL",
            preload=["import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"],
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


def _reach(scheduler: str) -> None:
    """Makes a connection and drops it: a client that cannot connect prints tracebacks when it is collected.

    Raises:
        ValueError: the address is none.
        ConnectionError: nothing answers there.
    """
    from distributed.comm import connect
    from distributed.security import Security

    async def reach() -> None:
        arguments = Security().get_connection_args("client")
        (await connect(scheduler, timeout=CONNECT_TIMEOUT_S, **arguments)).abort()

    try:
        # In a thread of its own: a notebook's has an event loop already.
        with ThreadPoolExecutor(1) as thread:
            thread.submit(lambda: asyncio.run(reach())).result()
    except OSError as error:
        message = f"scheduler {scheduler!r} does not answer ({error}); start one with: dask scheduler"
        raise ConnectionError(message) from error
    except (ValueError, TypeError, RuntimeError, ImportError) as error:
        raise ValueError(
            "scheduler must be the address of a Dask scheduler, such as tcp://host:8786, "
            f"got {scheduler!r}: {first_line(error)}"
        ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps Dask's log to itself, which has a traceback for every connection that is lost."""
    loggers = [
        logger
        for name, logger in logging.root.manager.loggerDict.items()
        if name.split(".")[0] in ("asyncio", "distributed", "tornado") and isinstance(logger, logging.Logger)
    ]
    before = [logger.disabled for logger in loggers]
    for logger in loggers:
        logger.disabled = True
    try:
        yield
    finally:
        for logger, disabled in zip(loggers, before, strict=True):
            logger.disabled = disabled


@contextlib.contextmanager
def _reaching() -> Iterator[None]:
    """Says what it means when a call to the scheduler fails."""
    try:
        yield
    except (OSError, CancelledError) as error:
        raise ConnectionError(GONE) from error


def _threads(client: Any) -> int:
    with _reaching():
        return sum(client.nthreads().values())
