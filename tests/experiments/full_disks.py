"""Full disks, of two kinds: a tiny file system, which only root may mount, and a limit on the size of files."""

from __future__ import annotations

import contextlib
import resource
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest


@contextlib.contextmanager
def tiny_disk(place: Path) -> Iterator[Callable[[], object]]:
    """A file system with room for seven small files (the claims' is the empty one); what is given makes it larger."""
    mount = ["mount", "-t", "tmpfs", "-o"]
    found = subprocess.run([*mount, "size=24k", "none", str(place)], capture_output=True, text=True)
    if found.returncode:
        pytest.skip(f"only root may mount a file system: {found.stderr.strip()}")
    try:
        yield lambda: subprocess.run([*mount, "remount,size=1m", "none", str(place)], check=True)
    finally:
        subprocess.run(["umount", str(place)], check=True)


@contextlib.contextmanager
def no_large_files(place: Path) -> Iterator[Callable[[], object]]:
    """No file of this process may be larger than half a record; what is given lifts that."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def lift() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        yield lift
    finally:
        lift()
