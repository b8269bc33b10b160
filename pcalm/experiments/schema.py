"""The shape of a JSON file's content, put together from checks of its parts, so that what is read needs no second look.

A check takes a value, where it stands ("records[2].cases") and a list, and returns the value; on any other value it
raises ValueError with the place, what was expected and what was there. Fields that nobody knows, as a newer version may
write them, are left out of what is returned, and their places are added to the list.
"""

from __future__ import annotations

import math
import re
import reprlib
from collections.abc import Callable, Mapping
from typing import Any

from pcalm.checks import LARGEST, require

Check = Callable[[Any, str, list[str]], Any]

# Characters that no document can show and some cannot hold: controls but tab and newline, and halves of characters.
UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def _wrong(where: str, expected: str, value: Any) -> ValueError:
    return ValueError(f"{where or 'its content'} must be {expected}, got {reprlib.repr(value)}")


def text(value: Any, where: str, unknown: list[str]) -> str:
    if not isinstance(value, str):
        raise _wrong(where, "text", value)
    if UNPRINTABLE.search(value):
        raise _wrong(where, "text without control characters", value)
    return value


def line(value: Any, where: str, unknown: list[str]) -> str:
    """Text on one line, and not empty."""
    if not text(value, where, unknown).strip() or "\n" in value:
        raise _wrong(where, "text on one line", value)
    return str(value)


def matching(pattern: str, expected: str) -> Check:
    def check(value: Any, where: str, unknown: list[str]) -> str:
        if not re.fullmatch(pattern, text(value, where, unknown)):
            raise _wrong(where, expected, value)
        return str(value)

    return check


def integer(least: int = 0, most: int = LARGEST) -> Check:
    def check(value: Any, where: str, unknown: list[str]) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise _wrong(where, f"an integer from {least} to {'2^63 − 1' if most == LARGEST else most}", value)
        return value

    return check


def number(least: float = -math.inf, most: float = math.inf, *, finite: bool = True) -> Check:
    """A number from `least` to `most`; NaN and infinity only where finite=False."""
    bounds = f" from {least:g} to {most:g}" if math.isfinite(most) else f" of at least {least:g}"
    expected = f"a {'finite ' if finite else ''}number{bounds if math.isfinite(least) else ''}"

    def check(value: Any, where: str, unknown: list[str]) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise _wrong(where, expected, value)
        try:
            found = float(value)
        except OverflowError:
            raise _wrong(where, expected, value) from None
        if not (least <= found <= most and math.isfinite(found) if finite else True):
            raise _wrong(where, expected, value)
        return value

    return check


def boolean(value: Any, where: str, unknown: list[str]) -> bool:
    if not isinstance(value, bool):
        raise _wrong(where, "true or false", value)
    return value


def nullable(inner: Check) -> Check:
    return lambda value, where, unknown: None if value is None else inner(value, where, unknown)


def anything(value: Any, where: str, unknown: list[str]) -> Any:
    return value


def scalar(value: Any, where: str, unknown: list[str]) -> str | int | float | bool | None:
    """What fits a line: text, a number, true, false or null."""
    if isinstance(value, dict | list):
        raise _wrong(where, "text, a number, true, false or null", value)
    return line(value, where, unknown) if isinstance(value, str) else value


def listing(inner: Check, least: int = 0, length: int | None = None) -> Check:
    """A list of at least `least` items, or of `length`."""

    def check(value: Any, where: str, unknown: list[str]) -> list[Any]:
        if not isinstance(value, list):
            raise _wrong(where, "a list", value)
        if len(value) < least or (length is not None and len(value) != length):
            expected = f"at least {least}" if length is None else str(length)
            raise ValueError(f"{where} must have {expected} items, got {len(value)}")
        return [inner(item, f"{where}[{index}]", unknown) for index, item in enumerate(value)]

    return check


def mapping(inner: Check) -> Check:
    """An object with any names."""

    def check(value: Any, where: str, unknown: list[str]) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise _wrong(where, "an object", value)
        return {
            line(key, f"a name in {where}", unknown): inner(v, _at(where, key), unknown) for key, v in value.items()
        }

    return check


def fields(required: Mapping[str, Check], optional: Mapping[str, Check] | None = None) -> Check:
    """An object with these fields; the optional ones may be missing."""
    known = {**required, **(optional or {})}

    def check(value: Any, where: str, unknown: list[str]) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise _wrong(where, "an object", value)
        lacking = [key for key in required if key not in value]
        require(not lacking, f"{where or 'its content'} lacks {', '.join(map(repr, lacking))}")
        unknown.extend(_at(where, key) for key in value if key not in known)
        return {key: inner(value[key], _at(where, key), unknown) for key, inner in known.items() if key in value}

    return check


def rows(columns: Mapping[str, Check]) -> Callable[[dict[str, Any], list[str]], dict[str, Any]]:
    """For an object whose "rows" are lists in the order of its "columns": the rows of the columns that are known.

    Both fields must have been checked to be lists, of text and of lists.
    """

    def check(content: dict[str, Any], unknown: list[str]) -> dict[str, Any]:
        there = content["columns"]
        lacking = [column for column in columns if column not in there]
        require(not lacking, f"columns lacks {', '.join(map(repr, lacking))}")
        require(len(set(there)) == len(there), f"columns must differ, got {', '.join(there)}")
        unknown.extend(f"columns: {column}" for column in there if column not in columns)
        kept = [(there.index(column), column, inner) for column, inner in columns.items()]
        found = []
        for number_of_row, row in enumerate(content["rows"]):
            where = f"rows[{number_of_row}]"
            require(len(row) == len(there), f"{where} must have {len(there)} values, got {len(row)}")
            found.append([inner(row[index], f"{where}: {column}", unknown) for index, column, inner in kept])
        return {**content, "columns": list(columns), "rows": found}

    return check


def _at(where: str, key: Any) -> str:
    return f"{where}.{key}" if where else str(key)
