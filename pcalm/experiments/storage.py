"""Files that are there whole or not at all, and whose damage is noticed."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from pcalm import temporary
from pcalm.checks import require

DIGEST = 64  # hexadecimal digits of a SHA-256


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, which takes the place of `path` once it is complete; on an error `path` stays as it was.

    Raises:
        OSError: the directory cannot be written, or the disk is full.
    """
    try:
        with temporary.temporary(path.parent, path.name, temporary.file) as place:
            with place.open("wb") as file:
                yield file
            os.replace(place, path)
    except OSError as error:
        raise OSError(f"{str(path)!r} cannot be written: {error.strerror or error}") from error


def write_text(path: Path, text: str) -> None:
    with replacing(path) as file:
        file.write(text.encode())


def write_json(path: Path, value: Any) -> None:
    """The value as indented JSON; NaN and infinity, which JSON lacks, are a ValueError."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(content: bytes | str) -> dict[str, Any]:
    """The object that a JSON text holds.

    Raises:
        ValueError: it is no JSON, or holds something else than an object.
    """
    try:
        found = json.loads(content)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
    require(isinstance(found, dict), f"it holds no object but {type(found).__name__}")
    return found


def digest(content: bytes) -> str:
    """The SHA-256 of a content, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def sealed(content: bytes) -> bytes:
    """The content with its own SHA-256 behind it."""
    return content + digest(content).encode()


def unsealed(content: bytes) -> bytes:
    """What was sealed.

    Raises:
        ValueError: it has changed since.
    """
    require(len(content) > 0, "it is empty")
    require(content == sealed(content[:-DIGEST]), "its checksum is wrong")
    return content[:-DIGEST]
