"""How the suite and an adapter's process talk: frames of a length, a JSON header and raw bytes, and nothing else.

An adapter is somebody else's program, and its answer is data: no frame holds an object, a name of a class or a length
that was not asked for, so that reading one runs no code.

    frame = magic [4] · header length [4] · body length [8] · header (JSON) · body (the arrays, one after the other)
"""

from __future__ import annotations

import dataclasses
import json
import math
import struct
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from pcalm_conformance.protocol import Problem

PREFIX = struct.Struct(">4sIQ")
MAGIC = b"pcAL"
LONGEST_HEADER = 1 << 20
ARRAYS = ("weights", "inputs", "targets", "initial")  # of a Problem; all its other fields are settings


class Malformed(Exception):
    """What came is no frame, or not the one that was asked for; the message says what is wrong with it."""


def frame(header: dict[str, Any], arrays: Iterable[np.ndarray] = ()) -> bytes:
    """One message. NumPy's numbers in the header become Python's."""
    text = json.dumps(header, default=lambda number: number.item()).encode()
    body = [np.ascontiguousarray(array).tobytes() for array in arrays]
    return b"".join([PREFIX.pack(MAGIC, len(text), sum(map(len, body))), text, *body])


class Incoming:
    """The frame that is arriving in pieces.

    Args:
        longest: bytes that its body may have; None for no limit.
    """

    def __init__(self, longest: int | None = None) -> None:
        self.longest, self.received = longest, bytearray()

    @property
    def missing(self) -> int:
        """How many bytes are needed next, at least.

        Raises:
            Malformed: what has arrived is not the beginning of a frame.
        """
        if len(self.received) < PREFIX.size:
            return PREFIX.size - len(self.received)
        magic, header, body = PREFIX.unpack_from(self.received)
        if magic != MAGIC:
            raise Malformed(f"{len(self.received)} bytes that are no answer")
        if header > LONGEST_HEADER or (self.longest is not None and body > self.longest):
            raise Malformed(f"an answer of {header + body} bytes, which is longer than what was asked for")
        return int(PREFIX.size + header + body - len(self.received))

    def add(self, piece: bytes) -> tuple[dict[str, Any], memoryview] | None:
        """The header and the body once they are there.

        Raises:
            Malformed: it is no frame, or more than one.
        """
        self.received += piece
        missing = self.missing
        if missing < 0:
            raise Malformed(f"{-missing} bytes more than one answer")
        if missing > 0 or len(self.received) < PREFIX.size:
            return None
        _, length, _ = PREFIX.unpack_from(self.received)
        start = PREFIX.size + length
        try:
            header = json.loads(self.received[PREFIX.size : start])
        except (ValueError, RecursionError) as error:
            raise Malformed("an answer whose header is no JSON") from error
        if not isinstance(header, dict):
            raise Malformed("an answer whose header is no JSON object")
        return header, memoryview(self.received)[start:]


def split(body: memoryview, forms: Sequence[tuple[str, Sequence[int]]]) -> list[np.ndarray]:
    """The arrays of these dtypes and shapes that a body consists of.

    Raises:
        Malformed: the body has another length than they have together.
    """
    sizes = [np.dtype(dtype).itemsize * math.prod(shape) for dtype, shape in forms]
    if sum(sizes) != len(body):
        raise Malformed(f"an answer with {len(body)} bytes of arrays instead of {sum(sizes)}")
    found, start = [], 0
    for (dtype, shape), size in zip(forms, sizes, strict=True):
        # A copy, since a header of any length leaves the body unaligned.
        found.append(np.frombuffer(body[start : start + size], dtype).reshape(shape).copy())
        start += size
    return found


def described(problem: Problem) -> tuple[dict[str, Any], list[np.ndarray]]:
    """A problem as a JSON object and its arrays.

    The object holds the dtypes, the shapes and all settings: two problems with the same one differ in numbers only.
    """
    arrays = [*problem.weights, problem.inputs, problem.targets, *(problem.initial or ())]
    settings = {
        field.name: getattr(problem, field.name) for field in dataclasses.fields(problem) if field.name not in ARRAYS
    }
    forms = [(array.dtype.str, array.shape) for array in arrays]
    return {"settings": settings, "arrays": forms, "depth": len(problem.weights)}, arrays


def restored(description: dict[str, Any], body: memoryview) -> Problem:
    """The problem of a description and its arrays."""
    depth, arrays = description["depth"], split(body, description["arrays"])
    inputs, targets, *initial = arrays[depth:]
    settings: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in description["settings"].items()
    }
    start = (initial[0], initial[1]) if initial else None
    return Problem(weights=arrays[:depth], inputs=inputs, targets=targets, initial=start, **settings)
