"""A place for work that leaves nothing behind, however it ends: no process, no temporary folder."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import psutil

ENDS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
GRACE_S = 10.0
PREFIX = "pcalm-"  # short, since the name of a socket below it may have some 100 characters


@contextlib.contextmanager
def workplace() -> Iterator[Path]:
    """A temporary folder, which is also where everything that runs meanwhile puts its own temporary files.

    At the end all processes that were started meanwhile are ended, and then the folder is removed: also when somebody
    ends this process or closes its terminal, which ends it with status 128 + the signal's number, as a shell says it.
    """

    def end(number: int, _: FrameType | None) -> None:
        for each in taken:
            signal.signal(each, signal.SIG_IGN)  # once is enough: what it takes to clear up is not broken off
        raise SystemExit(128 + number)

    # A signal that is ignored, as under nohup, remains so.
    taken = {each: signal.getsignal(each) for each in ENDS if signal.getsignal(each) is not signal.SIG_IGN}
    before = tempfile.tempdir, os.environ.get("TMPDIR")
    try:
        with tempfile.TemporaryDirectory(prefix=PREFIX) as place:
            for each in taken:
                signal.signal(each, end)
            tempfile.tempdir = os.environ["TMPDIR"] = place
            try:
                yield Path(place)
            finally:
                end_children()
    finally:
        tempfile.tempdir = before[0]
        os.environ.pop("TMPDIR", None)
        if before[1] is not None:
            os.environ["TMPDIR"] = before[1]
        for each, handler in taken.items():
            signal.signal(each, handler)


def end_children() -> None:
    """Ends all processes that this one has started, and theirs; those that do not end in time are killed."""
    there = psutil.Process().children(recursive=True)
    for process in there:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    _, left = psutil.wait_procs(there, GRACE_S)
    for process in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(left, GRACE_S)


def run(command: Sequence[str], **options: Any) -> subprocess.CompletedProcess[str]:
    """`subprocess.run`, but what it runs is asked to end when this is broken off, and may clear up."""
    with subprocess.Popen(command, text=True, **options) as process:
        try:
            out, errors = process.communicate()
        except BaseException:
            process.terminate()
            process.communicate()
            raise
    return subprocess.CompletedProcess(command, process.returncode, out, errors)
