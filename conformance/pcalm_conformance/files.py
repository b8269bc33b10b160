"""Files that are there whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any


def write_text(path: Path, text: str) -> None:
    """All or nothing.

    Raises:
        OSError: the directory cannot be written, or the disk is full.
    """
    write_bytes(path, lambda stream: stream.write(text.encode("utf-8")))


def write_bytes(path: Path, write: Callable[[IO[bytes]], Any]) -> None:
    """All or nothing of what a function writes to a stream.

    Raises:
        OSError: the directory cannot be written, or the disk is full.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with draft.open("wb") as stream:
            write(stream)
        os.replace(draft, path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
