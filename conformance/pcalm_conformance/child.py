"""The process of an adapter: python child.py DIRECTORY MODULE DEVICE CONNECTION CONTROL CORES

It is two processes. The first one keeps watch: it learns from CONTROL that the suite has let go (or was killed: the
kernel closes the socket), then ends every process under it, and it writes there how the adapter's process ended. The
second, in a session of its own, imports MODULE with DIRECTORY first on its path, and answers the questions that arrive
on CONNECTION. Both numbers are file descriptors of sockets. CORES are those that it may use,
and as many threads; "" stands for all, and any.

This file is run by its path, by whatever Python the adapter needs, and finds what it needs of the suite by its path,
too: of the suite nothing is put on the adapter's sys.path, and nothing of the suite's own sys.path arrives here. It
needs NumPy and a POSIX system. On Linux nothing escapes the watch, since orphans become its children; elsewhere a
process that has left the adapter's session may.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import hashlib
import importlib.util
import os
import platform
import select
import signal
import socket
import sys
import time
import types
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PACKAGE = "pcalm_conformance"
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h
LIBRARIES = ("pcalm", "numpy", "torch", "jax", "triton", "equinox", "fabricpc", "jpc", "pcx")
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS", "NUMBA_NUM_THREADS")
KILL_LIMIT = 10.0  # seconds for the kernel to end what was killed, before the watch goes, too


class DirectoryFirst:
    """Finds one top-level package in the working directory, whatever else is installed under its name.

    The directory is first on sys.path anyway; but a folder without __init__.py would give way to a package of its name
    that is installed, and so would any folder to the finders of some editable installs.
    """

    def __init__(self, directory: str, module: str) -> None:
        self.directory, self.top = directory, module.partition(".")[0]

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: Any = None) -> ModuleSpec | None:
        return PathFinder.find_spec(name, [self.directory]) if name == self.top else None


def prepare(directory: str, module: str) -> None:
    """What is importable here: the directory first, then this Python's own packages, and the protocol."""
    sys.path[:] = [directory, *(entry for entry in sys.path if entry not in (directory, str(HERE)))]
    file = Path(directory, *module.split("."))
    if file.is_dir() or file.with_suffix(".py").is_file():
        sys.meta_path.insert(0, DirectoryFirst(directory, module))
    package = types.ModuleType(PACKAGE)
    installed = importlib.util.find_spec(PACKAGE)
    elsewhere = list(installed.submodule_search_locations or []) if installed else []
    package.__path__ = [str(HERE)] if module.partition(".")[0] == PACKAGE else elsewhere  # the suite's own examples
    sys.modules[PACKAGE] = package
    for name in ("protocol", "wire", "guest"):
        spec = importlib.util.spec_from_file_location(f"{PACKAGE}.{name}", HERE / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        one = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = one
        setattr(package, name, one)
        spec.loader.exec_module(one)


def prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def watch(adapter: int, control: socket.socket) -> None:
    """Until the suite lets go or the adapter's process ends; then nothing is left under this process."""
    wake, woken = os.pipe()
    for end in (wake, woken):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(woken)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    told_to_end, status = False, None
    while not told_to_end and status is None:
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                if ended[0] == adapter:
                    status = os.waitstatus_to_exitcode(ended[1])
        if status is None:
            ready = select.select([control.fileno(), wake], [], [])[0]
            signals = os.read(wake, 4096) if wake in ready else b""
            told_to_end = control.fileno() in ready or any(number != signal.SIGCHLD for number in signals)
    end_everything(adapter)
    if status is not None:
        with contextlib.suppress(OSError):
            control.sendall(str(status).encode())


def end_everything(adapter: int) -> None:
    """Kills whatever runs under this process, again and again, until it has no child left."""
    deadline = time.monotonic() + KILL_LIMIT
    while time.monotonic() < deadline:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(adapter, signal.SIGKILL)
        for process in descendants(os.getpid()):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(process, signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(0.002)


def descendants(root: int) -> list[int]:
    """All processes below one, by /proc; none where there is no /proc."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            # The name in brackets may hold anything; behind it stand the state and the parent.
            parents[int(folder.name)] = int((folder / "stat").read_text(errors="replace").rpartition(")")[2].split()[1])
    found, newest = [], [root]
    while newest:
        newest = [process for process, parent in parents.items() if parent in newest]
        found += newest
    return found


def versions() -> dict[str, str]:
    """Of this Python, and of the libraries that implementations stand on."""
    from importlib import metadata  # not above: the process that keeps watch stays small

    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def source(module: str) -> str:
    """A hash of the module's own file, "" where it has none."""
    file = getattr(sys.modules.get(module), "__file__", None)
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()[:16] if file and Path(file).is_file() else ""


def confine(cores: list[int]) -> None:
    """Keeps this process and all below it on these cores, and to as many threads."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)
    for name in THREADS:
        os.environ[name] = str(len(cores))


def serve(connection: socket.socket, module: str, device: str) -> None:
    """Answers questions until there are no more."""
    from pcalm_conformance.guest import CannotLoad, InProcess, arrays, load, misshapen, said, shortened, trace
    from pcalm_conformance.wire import Incoming, frame, restored

    me = os.getpid()
    subjects: dict[str, InProcess] = {}
    problem: Any = None

    def answer(question: dict[str, Any], body: memoryview) -> bytes:
        nonlocal problem
        if question["ask"] == "load":
            found = load(module, question["names"], device)
            subjects.update({name: InProcess(one) for name, one in found.items()})
            names = [[name, one.name] for name, one in found.items()]
            prepares = [name for name, one in subjects.items() if one.prepares]
            return frame({"names": names, "versions": versions(), "prepares": prepares, "source": source(module)})
        if "problem" in question:
            problem = restored(question["problem"], body)
        subject = subjects[question["name"]]
        if question["ask"] == "hold":
            return frame({})
        if question["ask"] == "prepare":
            subject.prepare(problem)
            return frame({})
        if question["ask"] == "supports":
            return frame({"supports": subject.supports(problem)})
        found = subject.gradients(problem) if question["ask"] == "gradients" else subject.solve(problem)
        wrong = shortened("; ".join(misshapen(found, problem)))
        return frame(
            {"modified": "\n".join(subject.modified), "misshapen": wrong}, [] if wrong else arrays(found, problem)
        )

    while True:
        incoming, received = Incoming(), None
        while received is None:
            piece = connection.recv(min(incoming.missing, 1 << 20))
            if not piece:
                return
            received = incoming.add(piece)
        # SystemExit and KeyboardInterrupt out of an adapter are answers as any other exception.
        try:
            reply = answer(*received)
        except CannotLoad as error:
            reply = frame({"cannot load": str(error)})
        except BaseException as error:
            reply = frame({"raised": said(error), "trace": trace(error)})
        if os.getpid() != me:
            os._exit(0)  # a fork() of the adapter's that came back from solve(): the original answers
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        connection.sendall(reply)


def main() -> None:
    directory, module, device, connection_number, control_number, cores = sys.argv[1:]
    connection, control = socket.socket(fileno=int(connection_number)), socket.socket(fileno=int(control_number))
    for one in (connection, control):
        one.set_inheritable(False)  # programs that the adapter starts have no part in this
    if cores:
        confine([int(core) for core in cores.split(",")])
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    keeper = os.getpid()
    adapter = os.fork()
    if adapter:
        connection.close()
        watch(adapter, control)
        return
    control.close()
    os.setsid()
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != keeper:
        return  # it died before it was watched for
    faulthandler.enable()
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # what it said before it crashed is there
    prepare(directory, module)
    serve(connection, module, device)


if __name__ == "__main__":
    main()
else:  # a worker of the adapter's own imports this file as its main module (multiprocessing's "spawn")
    prepare(sys.argv[1], sys.argv[2])
