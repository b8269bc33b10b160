"""What the commands print on the standard streams."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterable, Iterator

import typer


def show(text: str) -> None:
    """Prints a text.

    Raises:
        OSError: nobody reads the output any more, or the disk that it goes to is full.
    """
    try:
        typer.echo(text)
    except OSError as error:
        raise OSError(f"the standard output cannot be written: {error.strerror}") from error


def show_table(rows: Iterable[tuple[str, ...]]) -> None:
    from tabulate import tabulate  # not at the top: --help needs no tables

    show(tabulate(rows, tablefmt="plain", disable_numparse=True))


@contextlib.contextmanager
def standard_streams() -> Iterator[None]:
    """Prints every character that the output's encoding lacks as a question mark; leaves nothing unprinted behind.

    Cp1252 has no λ, and a finished run shall not lose its result for that. What could not be written fails once more
    as Python ends, with a traceback or a status of 120, unless it goes to nowhere.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                try:
                    stream.flush()
                except OSError:
                    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
