"""An implementation under test in processes of its own, so that it may hang, crash, fork, shout or eat memory without
taking the suite along.

The suite sends a problem and waits: for the answer, for a limit to pass, or for the process to end. Whatever happened
becomes a sentence in a BrokenImplementation, and the next problem gets a fresh process. What an adapter says is read
as numbers and text of known length (wire.py), and nothing of it is run.

The time limit is about the implementation, not about the machine. While any of its threads computes or is ready to, it
is charged the CPU time that all its processes got, and never more than has passed; while all of them wait, what has
passed. So an adapter that hangs in a lock ends as soon as one that spins, and a machine with other work rejects nobody.
Computing slower than a tenth of real time counts as a tenth, so that what neither waits nor works ends, too.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import select
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from pcalm_conformance.checking import BrokenImplementation, NotRun
from pcalm_conformance.guest import CannotLoad, fit_name, forms, shortened, solution
from pcalm_conformance.protocol import Problem, Solution
from pcalm_conformance.text import printable
from pcalm_conformance.wire import Incoming, Malformed, described, frame, split

CHILD = Path(__file__).with_name("child.py")
POLL = 0.1  # seconds between two looks at the processes
SLOWEST = 0.1  # what a second of computing counts at least
LOADING = "loading"
CALLS = {"hold": "taking a problem"}  # what a question is called in sentences, where it is not its own name
START_LIMIT = 120.0  # seconds to import an implementation with its libraries
FIRST_CALL = 5  # times the time limit, where shapes or settings are new: compilers work then
GRACE = 2.0  # seconds for an adapter that has no more questions to clear up after itself
STOP_LIMIT = 20.0  # seconds for the processes to end after they were told to
PATIENCE = 3  # breakdowns, before the rest is not tried any more
OUTPUT = 16 << 10  # bytes of what an adapter printed last


@dataclass(frozen=True)
class Workplace:
    """What an adapter runs in.

    Attributes:
        directory: where it runs, and what is first on its path.
        device: passed to its implementations.
        python: the interpreter, which needs NumPy.
        memory_limit: bytes that all its processes may have together.
        cores: those that it may use, and so its number of threads; () for all, and any.
    """

    directory: str
    device: str = "cpu"
    python: str = sys.executable
    memory_limit: float = 8 << 30
    cores: tuple[int, ...] = ()


class Breakdown(Exception):
    """The process has to be replaced; the message says why."""


class Clock:
    """What a call has cost so far.

    Args:
        limit: seconds for all that the implementation does; while it computes, and for what it waits for.
        allowance: seconds more while it computes.
    """

    def __init__(self, limit: float, allowance: float = 0.0) -> None:
        self.limit, self.allowance = limit, allowance
        self.computing = self.waiting = 0.0
        self.last: tuple[float, float] | None = None

    def tick(self, now: float, cpu: float, idle: bool) -> None:
        """Charges what has passed since the last tick.

        Args:
            now: seconds of real time.
            cpu: seconds of CPU time that all processes have had.
            idle: whether all threads wait.
        """
        if self.last is not None:
            # A look that comes late says that the machine is busy.
            passed, got = min(now - self.last[0], 10 * POLL), cpu - self.last[1]
            if idle and got <= 0:
                self.waiting += passed
            else:
                self.computing += min(passed, max(got, SLOWEST * passed))
        self.last = now, cpu

    def over(self) -> str:
        """Which limit has passed, in words; "" while none has."""
        if self.waiting > self.limit:
            return f"took longer than {self.limit:g} s, in which it only waited"
        if self.computing + self.waiting > self.limit + self.allowance:
            first = f", {FIRST_CALL} times the limit as the first of its shape" if self.allowance else ""
            return f"took longer than {self.limit + self.allowance:g} s{first}"
        return ""


class Guest:
    """The processes of an adapter's module: its own, all that it starts, and the one that keeps watch over them.

    Args:
        module: as in `import`.
        workplace: what it runs in.
        output: takes the end of what it prints.
    """

    def __init__(self, module: str, workplace: Workplace, output: bytearray) -> None:
        self.memory_limit, self.output = workplace.memory_limit, output
        self.connection, theirs = socket.socketpair()
        self.control, watched = socket.socketpair()
        self.printed, printer = os.pipe()
        ends = theirs.fileno(), watched.fileno()
        cores = ",".join(map(str, workplace.cores))
        # Unbuffered (-u): what was printed is known in its order, and even where the adapter crashes.
        self.process = subprocess.Popen(
            [workplace.python, "-u", str(CHILD), workplace.directory, module, workplace.device, *map(str, ends), cores],
            stdin=subprocess.DEVNULL,
            stdout=printer,
            stderr=printer,
            pass_fds=ends,
            start_new_session=True,
            cwd=workplace.directory,
            env={name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")},
        )
        theirs.close()
        watched.close()
        os.close(printer)
        self.selector = selectors.DefaultSelector()
        for source in (self.connection.fileno(), self.control.fileno(), self.printed):
            os.set_blocking(source, False)
            self.selector.register(source, selectors.EVENT_READ)

    def ask(self, call: str, request: bytes, clock: Clock, longest: int = 0) -> tuple[dict[str, Any], memoryview]:
        """Sends a frame and waits for the answer, whose body has at most `longest` bytes.

        Raises:
            Breakdown: there is none.
        """
        if ended := self._ended():
            raise Breakdown(f"{ended} {'while loading' if call == LOADING else 'between two calls'}")
        unsent, incoming = memoryview(request), Incoming(longest)
        looked, pause = time.monotonic(), POLL
        self.selector.modify(self.connection, selectors.EVENT_READ | selectors.EVENT_WRITE)
        while True:
            for key, events in self.selector.select(POLL):
                if key.fd == self.printed:
                    self.listen()
                elif key.fd == self.connection.fileno() and events & selectors.EVENT_WRITE:
                    unsent = unsent[self._send(unsent) :]
                    if not unsent:
                        self.selector.modify(self.connection, selectors.EVENT_READ)
            if received := self._receive(incoming, call):
                return received
            if ended := self._ended():
                raise Breakdown(f"{ended} while {call}")
            if time.monotonic() - looked >= pause:
                spent = time.thread_time()
                self._look(call, clock)
                # Where the machine has thousands of processes a look is dear: a twentieth of the time at most.
                looked, pause = time.monotonic(), max(POLL, 20 * (time.thread_time() - spent))

    def _send(self, unsent: memoryview) -> int:
        try:
            return self.connection.send(unsent[: 1 << 20])
        except BlockingIOError:
            return 0
        except OSError:  # nobody reads any more; what has become of them shows when the answer is read
            return len(unsent)

    def _receive(self, incoming: Incoming, call: str) -> tuple[dict[str, Any], memoryview] | None:
        """The answer, once it is there."""
        try:
            while piece := self.connection.recv(1 << 20):
                if received := incoming.add(piece):
                    return received
        except BlockingIOError:
            return None
        except Malformed as error:
            raise Breakdown(f"{call} put {error} on the suite's connection") from error
        except OSError:
            pass
        # Closed, as a rule since the process has ended; how it did is known when the watch has cleared up.
        select.select([self.control], [], [], STOP_LIMIT)
        ended = self._ended() or "the suite's connection was closed"
        self.listen()
        raise Breakdown(f"{ended} while {call}")

    def listen(self) -> None:
        """Takes what was printed, and keeps the end of it."""
        # Not until all is read: it may be printed faster.
        for _ in range(8):
            try:
                said = os.read(self.printed, 1 << 20)
            except BlockingIOError:
                return
            self.output += said
            del self.output[:-OUTPUT]
            if not said:
                with contextlib.suppress(KeyError):
                    self.selector.unregister(self.printed)
                return

    def _ended(self) -> str:
        """How the process ended, in words, "" while it lives."""
        try:
            status = self.control.recv(32).decode()
        except BlockingIOError:
            return ""
        if not status:
            return "the interpreter has ended without a word, and so has what keeps watch over it,"
        if status.startswith("-"):
            with contextlib.suppress(ValueError):
                return f"the interpreter was killed by signal {status[1:]} ({signal.Signals(-int(status)).name})"
        return f"the interpreter ended with status {status}"

    def _look(self, call: str, clock: Clock) -> None:
        """Charges the clock, and holds the processes against the limits."""
        tree = processes(self.process.pid)
        clock.tick(time.monotonic(), sum(map(cpu_time, tree)), not any(map(busy, tree)))
        if over := clock.over():
            raise Breakdown(f"{call} {over}{' (--time-limit)' * (call != LOADING)}")
        if memory(tree, "rss") > self.memory_limit:
            # Pages that forked processes share are in each one's resident size: counted once, they may fit.
            used = memory(tree, "pss")
            if used > self.memory_limit:
                most = self.memory_limit / 2**30
                raise Breakdown(
                    f"{call} used {used / 2**30:.1f} GiB of memory, more than {most:g} GiB (--memory-limit)"
                )

    def stop(self, grace: float) -> None:
        """Ends all its processes, at the latest after `grace` seconds."""
        self.connection.close()
        if grace:
            select.select([self.control], [], [], grace)
        self.control.close()  # the watch sees it
        try:
            self.process.wait(STOP_LIMIT)
        except subprocess.TimeoutExpired:
            for one in reversed(processes(self.process.pid)):
                with contextlib.suppress(psutil.Error):
                    one.kill()
            self.process.wait()
        self.listen()
        self.selector.close()
        os.close(self.printed)


def processes(root: int) -> list[psutil.Process]:
    """A process and all below it."""
    try:
        first = psutil.Process(root)
        return [first, *first.children(recursive=True)]
    except psutil.Error:
        return []


def cpu_time(process: psutil.Process) -> float:
    """Seconds that it and its children that have ended have had."""
    try:
        return float(sum(process.cpu_times()[:4]))
    except psutil.Error:
        return 0.0


def busy(process: psutil.Process) -> bool:
    """Whether any thread of it runs, would run if there were a core, or waits for the disk."""
    try:
        threads = [stat.read_text(errors="replace") for stat in Path(f"/proc/{process.pid}/task").glob("*/stat")]
        states = [thread.rpartition(")")[2].split()[0] for thread in threads] or [process.status()[:1].upper()]
    except (OSError, psutil.Error):
        return False
    return any(state in "RD" for state in states)


def memory(tree: list[psutil.Process], kind: str) -> int:
    """Bytes of all processes: "rss" counts shared pages in each, "pss" (where the system tells) once."""
    total = 0
    for process in tree:
        with contextlib.suppress(psutil.Error):
            info = process.memory_info() if kind == "rss" else process.memory_full_info()
            total += getattr(info, kind, info.rss)
    return total


def called(module: str, names: list[str] | None, workplace: Workplace) -> tuple[dict[str, str], dict[str, str], str]:
    """The implementations of a module, attribute → the name that it goes by, the versions of what they stand on, and a
    hash of its file.

    Args:
        names: the attributes; None for all that the module lists.

    Raises:
        CannotLoad: there is no such implementation; the message is one sentence.
    """
    output = bytearray()
    guest = Guest(module, workplace, output)
    try:
        answer, _ = guest.ask(LOADING, frame({"ask": "load", "names": names}), Clock(START_LIMIT))
        if "names" not in answer:
            reason = " ".join(text(answer, "raised" if "raised" in answer else "cannot load").split())
            raise CannotLoad(reason + hint_at_name(module))
        found, versions = dict(answer["names"]), dict(answer["versions"])
        words = [word for pairs in (found, versions) for pair in pairs.items() for word in pair]
        source = text(answer, "source")
        if not all(isinstance(word, str) and fit_name(word) for word in words):
            raise Breakdown("loading gave names that are no names")
        return found, versions, source
    except (Breakdown, LookupError, TypeError, ValueError) as error:
        guest.listen()
        last = printable(shortened(" ".join(output.decode(errors="replace").split())[-300:]))
        raise CannotLoad(f"{error}{f'; it printed: {last}' if last else ''}{hint_at_name(module)}") from error
    finally:
        guest.stop(GRACE)


def hint_at_name(module: str) -> str:
    """What may be the matter with a module that cannot be loaded, by its name alone; "" where nothing is."""
    top = module.partition(".")[0]
    if top not in sys.stdlib_module_names:
        return ""
    return f"; {top!r} is a module of Python's own, too: give the adapter's file another name"


def text(answer: dict[str, Any], key: str) -> str:
    """What an adapter says, fit for a terminal and of bounded length.

    Raises:
        Breakdown: it says nothing.
    """
    said = answer.get(key)
    if not isinstance(said, str):
        raise Breakdown("an answer of no known kind")
    return printable(shortened(said))


class Isolated:
    """A subject that lives in processes of its own, which are started when it is first asked, and anew after a
    breakdown.

    Args:
        module, attribute: where the implementation is.
        name: what it goes by.
        workplace: what it runs in.
        time_limit: seconds per problem; what they are is in this file's first lines.
    """

    def __init__(self, module: str, attribute: str, name: str, workplace: Workplace, time_limit: float = 60.0) -> None:
        self.module, self.attribute, self.name = module, attribute, name
        self.workplace, self.time_limit = workplace, time_limit
        self.modified: list[str] = []
        self.breakdowns: list[str] = []
        self.output = bytearray()
        self.guest: Guest | None = None
        self.held: Problem | None = None  # what its process was sent last
        self.known: set[str] = set()  # descriptions of problems that its process has solved
        self.about: dict[str, Any] = {}  # what its process said of itself when it started

    def supports(self, problem: Problem) -> bool:
        return self._ask("supports", problem)[0].get("supports") is True

    def solve(self, problem: Problem) -> Solution:
        return self._solution("solve", problem)

    @property
    def prepares(self) -> bool:
        """Whether it has `prepare`; known once it has started."""
        listed = self.about.get("prepares")
        return isinstance(listed, list) and self.attribute in listed

    @property
    def pid(self) -> int:
        """Of the process that all of its own are below, which is started where there is none.

        Raises:
            BrokenImplementation: it cannot be loaded again.
        """
        try:
            return (self.guest or self._started()).process.pid
        except Breakdown as error:
            raise self._broken(str(error)) from error

    def hold(self, problem: Problem) -> None:
        """Hands its process the problem, which is not asked about yet."""
        self._ask("hold", problem)

    def prepare(self, problem: Problem) -> None:
        """Has it prepare the problem."""
        self._ask("prepare", problem)

    def gradients(self, problem: Problem) -> Sequence[np.ndarray]:
        """Those of a problem that wants nothing else: of the function that it has prepared, or else of solve()."""
        return self._solution("gradients", problem).gradients

    def _solution(self, question: str, problem: Problem) -> Solution:
        expected = [(problem.dtype, shape) for _, shape in forms(problem)]
        longest = sum(np.dtype(dtype).itemsize * math.prod(shape) for dtype, shape in expected)
        answer, body = self._ask(question, problem, longest)
        try:
            wrong, self.modified = text(answer, "misshapen"), text(answer, "modified").splitlines()
            if wrong:
                raise BrokenImplementation(wrong)
            given = split(body, expected)
        except (Breakdown, Malformed) as error:
            raise self._broken(f"{question}() put {error} on the suite's connection") from error
        return solution(given, problem)

    def _ask(self, question: str, problem: Problem, longest: int = 0) -> tuple[dict[str, Any], memoryview]:
        if len(self.breakdowns) >= PATIENCE:
            raise NotRun(f"not tried any more after {PATIENCE} breakdowns, the last: {self.breakdowns[-1]}")
        call = CALLS.get(question, f"{question}()")
        if question == "gradients":
            call = "the function of prepare()" if self.prepares else "solve()"
        try:
            guest = self.guest or self._started()
            description, arrays = described(problem)
            request: dict[str, Any] = {"ask": question, "name": self.attribute}
            # supports() and solve() are asked about the same problem, which need not travel twice.
            sent = frame(request) if problem is self.held else frame(request | {"problem": description}, arrays)
            kind = json.dumps(description, default=lambda number: number.item())
            allowance = 0.0 if kind in self.known else (FIRST_CALL - 1) * self.time_limit
            answer, body = guest.ask(call, sent, Clock(self.time_limit, allowance), longest)
            self.held = problem
            if "raised" in answer:
                raised = f"{call} raised {text(answer, 'raised')}"
                raise BrokenImplementation("\n".join(filter(None, [raised, text(answer, "trace")])))
            if question in ("solve", "gradients"):
                self.known.add(kind)
            return answer, body
        except Breakdown as error:
            raise self._broken(str(error)) from error

    def _started(self) -> Guest:
        """A fresh process with the implementation in it."""
        self.guest = Guest(self.module, self.workplace, self.output)
        request = frame({"ask": "load", "names": [self.attribute]})
        answer, _ = self.guest.ask(LOADING, request, Clock(START_LIMIT))
        if "names" not in answer:
            raise Breakdown(f"it cannot be loaded again: {text(answer, 'cannot load')}")
        self.about = answer
        return self.guest

    def _broken(self, message: str) -> BrokenImplementation:
        self.breakdowns.append(message)
        self.stop(grace=0)
        return BrokenImplementation(message)

    def take_output(self) -> str:
        """The end of what it has printed since this was last called, fit for a terminal."""
        if self.guest is not None:
            self.guest.listen()
        said = printable(self.output.decode(errors="replace"))
        self.output.clear()
        return said

    def stop(self, grace: float = GRACE) -> None:
        """Ends its processes, at the latest after `grace` seconds; the next question starts new ones."""
        if self.guest is not None:
            self.guest.stop(grace)
            self.guest, self.held = None, None
            self.known.clear()
