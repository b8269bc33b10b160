"""Files and folders of a process's own, which the next process clears if this one is killed."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

if sys.platform != "win32":
    import fcntl


def file(path: Path) -> None:
    """Makes an empty file that is not there yet."""
    path.open("xb").close()


@contextlib.contextmanager
def temporary(directory: Path, name: str, make: Callable[[Path], None]) -> Iterator[Path]:
    """A new DIRECTORY/.<name>.<random>.tmp, gone after the block; `make` is `file` or `Path.mkdir`.

    The process holds a lock on it, which the operating system drops with the process, however that ends: what has none
    is abandoned, and is cleared here before another one of that name is made. Where files cannot be locked (Windows,
    some network file systems) nothing is cleared.

    Raises:
        OSError: the directory cannot be written.
    """
    pattern = re.compile(rf"\.{re.escape(name)}\.[0-9a-f]{{32}}\.tmp")
    for other in os.listdir(directory):
        if pattern.fullmatch(other):
            with _locked(directory / other, wait=False) as abandoned:
                if abandoned:
                    _remove(directory / other)
    while True:
        path = directory / f".{name}.{uuid.uuid4().hex}.tmp"
        make(path)
        try:
            with _locked(path, wait=True):
                if path.exists():  # else another process cleared it in the moment before it was locked
                    yield path
                    return
        finally:
            _remove(path)


@contextlib.contextmanager
def _locked(path: Path, *, wait: bool) -> Iterator[bool]:
    """Locks a file or folder for the length of the block, if that can be done; whether it was."""
    if sys.platform == "win32":
        yield False
        return
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        yield False
        return
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError:
            held = False
        else:
            held = True
        yield held
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
