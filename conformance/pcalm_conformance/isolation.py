"""An implementation under test in a process of its own, so that it may hang, crash or eat memory without taking the
suite along.

The parent sends a problem and waits: for the answer, for the time limit, for the resident size to pass the memory
limit, or
for the process to end. Whatever happened becomes a sentence in a BrokenImplementation, and the next problem gets a
fresh process.
"""

from __future__ import annotations

import dataclasses
import importlib
import multiprocessing
import os
import sys
import time
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import psutil

from pcalm_conformance.checking import BrokenImplementation, InProcess
from pcalm_conformance.protocol import Problem, Solution

POLL = 0.1
START_LIMIT = 120.0  # seconds to import an implementation with its libraries
PATIENCE = 3  # time limits, crashes and memory limits, before the rest is not tried any more


class CannotLoad(Exception):
    """There is no such implementation; the message is one sentence."""


def load(spec: str, device: str = "cpu") -> Any:
    """The implementation MODULE:NAME, with the current directory on the path.

    Raises:
        CannotLoad: the module or the name is missing, or the object has no solve().
    """
    module_name, separator, name = spec.partition(":")
    if not separator or not module_name or not name:
        raise CannotLoad(f"--implementation must be MODULE:NAME, such as my_package.adapter:impl, got {spec!r}")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        raise CannotLoad(
            f"--implementation {spec}: cannot import {module_name!r}: {type(error).__name__}: {error}"
        ) from error
    if not hasattr(module, name):
        raise CannotLoad(f"--implementation {spec}: module {module_name!r} has no {name!r}")
    implementation = getattr(module, name)
    if not callable(getattr(implementation, "solve", None)):
        raise CannotLoad(f"--implementation {spec}: {name!r} has no solve(problem); see conformance/protocol.py")
    if device != "cpu" and dataclasses.is_dataclass(implementation) and hasattr(implementation, "device"):
        implementation = dataclasses.replace(implementation, device=device)  # type: ignore[type-var]
    if not getattr(implementation, "name", ""):
        raise CannotLoad(f"--implementation {spec}: {name!r} has no name; give it one, for the tables")
    return implementation


def serve(connection: Connection, spec: str, device: str) -> None:
    """The child's loop: a name first, then an answer for every question."""
    try:
        subject = InProcess(load(spec, device))
    except CannotLoad as error:
        connection.send(("cannot load", str(error)))
        return
    connection.send(("ready", subject.name))
    while True:
        try:
            question, problem = connection.recv()
        except (EOFError, KeyboardInterrupt):
            return
        try:
            if question == "supports":
                connection.send(("answer", subject.supports(problem)))
            else:
                connection.send(("answer", (plain(subject.solve(problem)), subject.modified)))
        except Exception as error:
            connection.send(("raised", f"{question}() raised {type(error).__name__}: {error}"))


def plain(found: Any) -> Any:
    """The solution as NumPy arrays only, so that it can be sent whatever it was; what cannot be converted stays
    missing."""
    if not all(hasattr(found, name) for name in ("activities", "multipliers", "gradients")):
        return None
    return Solution(np.asarray(found.activities), np.asarray(found.multipliers), list(map(np.asarray, found.gradients)))


class Isolated:
    """A subject that lives in a process of its own.

    Args:
        spec: MODULE:NAME.
        device: passed to this project's own engines.
        time_limit: seconds per problem.
        memory_limit: bytes of resident size.

    Raises:
        CannotLoad: there is no such implementation.
    """

    def __init__(
        self,
        spec: str,
        device: str = "cpu",
        time_limit: float = 60.0,
        memory_limit: int = 8 << 30,
    ) -> None:
        self.spec, self.device = spec, device
        self.time_limit, self.memory_limit = time_limit, memory_limit
        self.modified: list[str] = []
        self.broken = 0
        self.process: multiprocessing.process.BaseProcess | None = None
        self.name = self._start()

    def _start(self) -> str:
        context = multiprocessing.get_context("spawn")
        self.connection, child = context.Pipe()
        self.process = context.Process(target=serve, args=(child, self.spec, self.device), daemon=True)
        self.process.start()
        child.close()
        try:
            kind, message = self._wait("loading", START_LIMIT)
        except BrokenImplementation as error:
            raise CannotLoad(f"--implementation {self.spec}: {error}") from error
        if kind == "cannot load":
            self.stop()
            raise CannotLoad(message)
        return str(message)

    def _wait(self, question: str, limit: float) -> Any:
        """The child's next message, or BrokenImplementation for what came instead."""
        assert self.process is not None
        deadline = time.monotonic() + limit
        while True:
            try:
                if self.connection.poll(POLL):
                    return self.connection.recv()
            except (EOFError, ConnectionResetError, BrokenPipeError):
                self.process.join(5)
            if not self.process.is_alive():
                code = self.process.exitcode
                ended = (
                    f"was killed by signal {-code}" if code is not None and code < 0 else f"ended with status {code}"
                )
                self._give_up(f"the interpreter {ended} while {question}")
            if time.monotonic() > deadline:
                self._give_up(f"{question} took longer than {limit:g} s (--time-limit)")
            try:
                resident = psutil.Process(self.process.pid).memory_info().rss
            except psutil.NoSuchProcess:
                continue
            if resident > self.memory_limit:
                used, most = resident / 2**30, self.memory_limit / 2**30
                self._give_up(f"{question} used {used:.1f} GiB of memory, more than {most:g} GiB (--memory-limit)")

    def _give_up(self, message: str) -> None:
        self.broken += 1
        self.stop()
        raise BrokenImplementation(message)

    def _ask(self, question: str, problem: Problem) -> Any:
        if self.broken >= PATIENCE:
            raise BrokenImplementation(f"not tried any more after {self.broken} hangs, crashes or memory limits")
        if self.process is None:
            self._start()
        self.connection.send((question, problem))
        kind, message = self._wait(f"{question}()", self.time_limit)
        if kind == "raised":
            raise BrokenImplementation(message)
        return message

    def supports(self, problem: Problem) -> bool:
        return bool(self._ask("supports", problem))

    def solve(self, problem: Problem) -> Any:
        found, self.modified = self._ask("solve", problem)
        return found

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.join()
            self.connection.close()
            self.process = None
