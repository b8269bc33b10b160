"""The tables of a comparison, from its records alone: rows for a terminal, for Markdown and for the page."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from pcalm_conformance.comparison.suite import COUNTED
from pcalm_conformance.records import table
from pcalm_conformance.text import code, printable

Record = dict[str, Any]
Rows = list[list[str]]
Name = Callable[[str], str]
NONE = "–"
NAMES = {"bp": "BP", "pc": "PC", "pcalm": "PC-ALM"}


def of_kind(records: Sequence[Record], kind: str) -> list[Record]:
    return [record for record in records if record["comparison"] == kind]


def right(records: Sequence[Record], name: Name = str) -> tuple[list[str], Rows]:
    """Requirements by chapter: met of those that ran, and what else there was."""
    found = of_kind(records, "suite")
    chapters = list(dict.fromkeys(chapter for record in found for chapter in record["counts"] if chapter != "all"))
    rows = []
    for record in found:
        counts = record["counts"]
        cells = [chapter_cell(counts.get(chapter)) for chapter in [*chapters, "all"]]
        rows.append([name(record["implementation"]), *(cells if counts else [shown(record["missing"])] * len(cells))])
    # "4 · linear exactness": one word tells them apart, and a terminal has room for ten.
    words = [re.split(r"\W+", chapter.partition(" · ")[2] or chapter)[0] for chapter in chapters]
    return ["implementation", *words, "all"], rows


def chapter_cell(counts: dict[str, int] | None) -> str:
    if not counts:
        return NONE
    ran = counts["met"] + counts["in part"] + counts["failed"]
    others = [f"{counts[kind]} {kind}" for kind in COUNTED[1:4] if counts[kind]]
    if not ran and not others:
        return NONE
    return f"{counts['met'] + counts['in part']}/{ran}" + (f" ({', '.join(others)})" if others else "")


def fast(records: Sequence[Record], name: Name = str) -> tuple[list[str], Rows]:
    """Times by cell and method, the fastest first."""
    headers = ["cell", "method", "implementation", "ms", "× baseline", "of product", "prepare ms", "first s", "wall ms"]
    rows = []
    for key in dict.fromkeys((cell_name(one), method) for one in of_kind(records, "cell") for method in one["methods"]):
        entries = [
            (one, one["methods"][key[1]])
            for one in of_kind(records, "cell")
            if cell_name(one) == key[0] and key[1] in one["methods"]
        ]
        entries.sort(key=lambda entry: (bool(entry[1]["missing"]), entry[1].get("seconds") or 0.0))
        for record, times in entries:
            start = [key[0], NAMES[key[1]], name(record["implementation"])]
            if times["missing"]:
                rows.append([*start, shown(times["missing"]), *[NONE] * 5])
                continue
            how = "" if times["how"] == "prepare" else " (solve)"
            rough = "~" if times["seconds"] < times["suite"] else ""
            busy = "*" if times["busy"] > record["busy_from"] else ""
            rows.append(
                [
                    *start,
                    milliseconds(times["seconds"]) + rough + how,
                    ratio(times["times_baseline"]),
                    percent(times["times_product"]),
                    milliseconds(times["prepare"]) if times["how"] == "prepare" else NONE,
                    f"{times['first']['seconds']:.2g}",
                    milliseconds(times["wall"]) + busy,
                ]
            )
    return headers, rows


def lean(records: Sequence[Record], name: Name = str) -> tuple[list[str], Rows]:
    """Peak memory by cell."""
    found = of_kind(records, "cell")
    names = list(dict.fromkeys(cell_name(one) for one in found))
    rows = []
    for implementation in dict.fromkeys(one["implementation"] for one in found):
        own = {cell_name(one): one["memory"] for one in found if one["implementation"] == implementation}
        rows.append([name(implementation), *(memory_cell(own.get(cell)) for cell in names)])
    return ["implementation", *names], rows


def memory_cell(memory: Record | None) -> str:
    if memory is None:
        return NONE
    return shown(memory["missing"]) if memory["missing"] else f"{memory['bytes'] / 2**20:.1f}"


def learns(records: Sequence[Record], name: Name = str) -> tuple[list[str], Rows]:
    """Test accuracy, and how long it took."""
    rows = []
    for record in of_kind(records, "training"):
        for method, run in record["methods"].items():
            start = [name(record["implementation"]), NAMES[method]]
            if run["missing"]:
                rows.append([*start, shown(run["missing"]), NONE, NONE, NONE])
                continue
            epoch, seconds, accuracy = run["curve"][-1]
            cut = f" of {record['epochs']}: too slow for more" if run["cut"] else ""
            rows.append(
                [
                    *start,
                    f"{100 * accuracy:.1f} %",
                    f"{epoch}{cut}",
                    f"{seconds:.2f}",
                    f"{run['steps'] / seconds:.3g}" if seconds else NONE,
                ]
            )
    return ["implementation", "method", "test accuracy", "epochs", "s of gradients", "steps/s"], rows


def cell_name(record: Record) -> str:
    cell = record["cell"]
    return f"{cell['width']}x{cell['depth']}"


def milliseconds(seconds: float) -> str:
    value = 1e3 * seconds
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def ratio(value: float | None) -> str:
    return NONE if value is None else f"{value:.3g}"


def percent(value: float | None) -> str:
    if value is None:
        return NONE
    return f"{100 * value:.0f} %" if value >= 0.1 else f"{100 * value:.2g} %"


def shown(reason: str, most: int = 60) -> str:
    text = " ".join(printable(reason).split())
    return text if len(text) <= most else text[: most - 1] + "…"


SECTIONS: tuple[tuple[str, Callable[..., tuple[list[str], Rows]]], ...] = (
    ("Right? Requirements met of those that ran, by chapter", right),
    ("Fast? Time of one gradient", fast),
    ("Lean? Peak memory over that of an empty solve, MiB", lean),
    ("Does it learn? Test accuracy on digits, N = 16, L = 32, relu, T = 2L", learns),
)
NOTES = {
    fast: (
        "ms: CPU time and waiting of one gradient, conversions included where they are more than a twentieth of it "
        "(“solve”: the adapter has no prepare). × baseline: how many times as fast as the NumPy example in the same "
        "rounds; of product: part of the rate of a matrix product. first: the first call, with compilation. wall: what "
        "passed; * on a busy machine, where it says nothing. ~ less than the suite's own share, which was taken "
        "off, so rough. Where answers are wrong there is no time."
    )
}


def terminal(records: Sequence[Record]) -> str:
    parts = []
    for title, section in SECTIONS:
        headers, rows = section(records)
        if rows:
            note = f"\n\n{NOTES[section]}" if section in NOTES else ""
            parts.append(f"{title}\n\n{table(headers, rows)}{note}")
    return "\n\n\n".join(parts)


def markdown(records: Sequence[Record], about: str) -> str:
    parts = ["## Comparison", about]
    for title, section in SECTIONS:
        headers, rows = section(records, lambda name: code(name, cell=True))
        rows = [[escaped(cell) if cell[:1] != "`" else cell for cell in row] for row in rows]
        if rows:
            parts += [
                f"### {title}",
                table(headers, rows, fmt="github"),
                *([NOTES[section]] if section in NOTES else []),
            ]
    return "\n\n".join(parts) + "\n"


def escaped(cell: str) -> str:
    """A sentence that may hold an implementation's words, as code; figures stay as they are."""
    return code(cell, cell=True) if any(sign in cell for sign in "|<>[]@`\\&_") else cell
