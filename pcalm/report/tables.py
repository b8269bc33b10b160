"""Tables: one value that prints as terminal text, Markdown, LaTeX, HTML or CSV, with where its numbers came from.

A `Table` holds numbers, never text that looks like numbers: rounding is the column's, at the time of printing, so that
CSV has all digits and a page can sort.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tabulate import tabulate

Value = str | int | float | bool | None
# What tabulate calls the formats; CSV is not one of its own.
FORMATS = {"terminal": "simple", "markdown": "github", "latex": "latex_booktabs", "html": "html", "csv": "csv"}
SUFFIXES = {"terminal": "txt", "markdown": "md", "latex": "tex", "html": "html", "csv": "csv"}
MISSING = "–"
LONG = 80  # characters of a text in the last column of a Markdown table, beyond which it is not padded
VERDICT = "verdict"
# What Markdown gives a meaning to: a bar would end a cell, and < begin HTML.
MEANING = re.compile(r"[\\`*|<>\[\]&~$]|(?<!\w)_|_(?!\w)")


def _long(rows: Sequence[Sequence[str]]) -> bool:
    """Whether the last column has a text that others would have to be padded far to match."""
    return max((len(row[-1]) for row in rows), default=0) > LONG


def _unpadded(markdown: str) -> str:
    """A Markdown table whose last column ends where its texts do."""
    return re.sub(r"(?:(?<=---)-+| +(?= ))(?= ?\|$)", "", markdown, flags=re.MULTILINE)


def escape(text: str) -> str:
    """Text that Markdown shows as it is, on one line. An underscore inside a word has no meaning there."""
    return MEANING.sub(r"\\\g<0>", _one_line(text))


def _one_line(text: str) -> str:
    return " ".join(text.splitlines())


@dataclass(frozen=True)
class Column:
    """A column's heading and how its numbers are shown.

    Attributes:
        name: the heading.
        form: a format specification such as ".3f"; "" shows a value as it is. Text and missing values pass through.
            VERDICT says that the column holds verdicts, which a page marks.
        about: what the column holds, in one sentence, where the heading does not say it.
    """

    name: str
    form: str = ""
    about: str = ""

    def show(self, value: Value) -> str:
        if value is None or (isinstance(value, float) and math.isnan(value)):
            return MISSING
        if isinstance(value, bool):
            return "yes" if value else "no"
        return format(value, self.form) if isinstance(value, int | float) else value


@dataclass(frozen=True)
class Table:
    """Rows of values under headings.

    Attributes:
        id: short name, used in file names and links.
        title: one line.
        columns: what the values are.
        rows: one value per column; None where there is none.
        sources: per row the ids of the records that its numbers come from; empty if the table has no records.
        notes: sentences to stand below the table.
        bold: (row, column) of the values that Markdown prints bold: differences outside their interval.

    Raises:
        ValueError: a row or the sources of another length than the columns and rows.
    """

    id: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Value, ...], ...]
    sources: tuple[tuple[str, ...], ...] = ()
    notes: tuple[str, ...] = ()
    bold: frozenset[tuple[int, int]] = frozenset()

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"table {self.id!r} has {len(self.columns)} columns, but a row of {len(row)}: {row}")
        if self.sources and len(self.sources) != len(self.rows):
            raise ValueError(f"table {self.id!r} has {len(self.rows)} rows, but sources for {len(self.sources)}")

    @property
    def headers(self) -> list[str]:
        return [column.name for column in self.columns]

    def shown(self) -> list[list[str]]:
        """The rows as text, rounded."""
        return [[column.show(value) for column, value in zip(self.columns, row, strict=True)] for row in self.rows]

    def render(self, form: str = "terminal", widths: Sequence[int | None] | None = None) -> str:
        """The table as text.

        Args:
            form: one of FORMATS. CSV has unrounded values and no title; the others are rounded.
            widths: where to wrap each column on a terminal, None for not at all.

        Raises:
            ValueError: an unknown form.
        """
        if form not in FORMATS:
            raise ValueError(f"form must be one of {', '.join(FORMATS)}, got {form!r}")
        if form == "csv":
            text = io.StringIO(newline="")
            csv.writer(text, lineterminator="\n").writerows([self.headers, *self.rows])
            return text.getvalue()
        headers, rows = self.headers, self.shown()
        if form != "terminal":  # there, a line may break in a cell
            headers, rows = [_one_line(text) for text in headers], [[_one_line(text) for text in row] for row in rows]
        if form == "markdown":
            headers, rows = [escape(text) for text in headers], [[escape(text) for text in row] for row in rows]
            for row, column in self.bold:
                rows[row][column] = f"**{rows[row][column]}**"
        # Numbers are formatted already; aligning text by the column's kind is all that is left to tabulate.
        align = [self._alignment(index) for index in range(len(self.columns))]
        drawn = tabulate(
            rows,
            headers,
            tablefmt=FORMATS[form],
            disable_numparse=True,
            colalign=align if rows else None,
            maxcolwidths=list(widths) if widths else None,
        )
        return _unpadded(drawn) if form == "markdown" and _long(rows) and align[-1] == "left" else drawn

    def section(self, form: str = "terminal", level: int = 2) -> str:
        """Title, table and notes: on a terminal or in Markdown."""
        body = self.render(form) if self.rows else "Nothing has been measured yet."
        if form == "markdown":
            return "\n\n".join([f"{'#' * level} {escape(self.title)}", body, *map(escape, self.notes)])
        return "\n\n".join([f"{self.title}\n{'=' * len(self.title)}", body, *self.notes])

    def as_json(self) -> dict[str, Any]:
        """Everything as plain values; NaN, which JSON lacks, is None."""
        rows = [[None if isinstance(v, float) and not math.isfinite(v) else v for v in row] for row in self.rows]
        return {
            "id": self.id,
            "title": self.title,
            "columns": [{"name": c.name, "form": c.form, "about": c.about} for c in self.columns],
            "rows": rows,
            "sources": [list(row) for row in self.sources],
            "notes": list(self.notes),
        }

    def is_numeric(self, index: int) -> bool:
        """Whether a column holds numbers only (and has some)."""
        values = [row[index] for row in self.rows if row[index] is not None]
        return bool(values) and all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)

    def _alignment(self, index: int) -> str:
        return "right" if self.is_numeric(index) else "left"


class TableBuilder:
    """Collects a table's rows with their sources."""

    def __init__(self, id: str, title: str, columns: Sequence[Column], notes: Sequence[str] = ()) -> None:
        self.id, self.title, self.columns, self.notes = id, title, tuple(columns), tuple(notes)
        self.rows: list[tuple[Value, ...]] = []
        self.sources: list[tuple[str, ...]] = []
        self.bold: list[tuple[int, int]] = []

    def add(self, row: Sequence[Value], sources: Sequence[str], bold: Sequence[int] = ()) -> None:
        """A row, the ids of its records, and the columns that are bold."""
        self.bold += [(len(self.rows), column) for column in bold]
        self.rows.append(tuple(row))
        self.sources.append(tuple(sources))

    def table(self, *, without_empty: bool = False) -> Table:
        """The table; without the columns in which no row has a value, if so wanted."""
        kept = [
            i for i in range(len(self.columns)) if not without_empty or any(row[i] is not None for row in self.rows)
        ]
        columns = tuple(self.columns[i] for i in kept)
        rows = tuple(tuple(row[i] for i in kept) for row in self.rows)
        bold = frozenset((row, kept.index(column)) for row, column in self.bold if column in kept)
        return Table(self.id, self.title, columns, rows, tuple(self.sources), self.notes, bold)
