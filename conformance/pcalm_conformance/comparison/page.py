"""The page of a comparison, made from its records: one file that needs no other and asks nobody for anything.

Every row links the record that it was made from. Without JavaScript the tables are there, unsorted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from pathlib import Path

from pcalm_conformance.comparison import tables
from pcalm_conformance.comparison.keeping import file_name, hashed, part_of
from pcalm_conformance.comparison.tables import NAMES, Record
from pcalm_conformance.text import printable

HERE = Path(__file__).parent
WIDTH, HEIGHT, LEFT, RIGHT, BOTTOM = 640, 300, 56, 36, 44  # of the figure
COLOURS = ("#1f6f8b", "#b5460f", "#5b8c2a", "#7d4ca5", "#a8842c", "#c2416b", "#4a5a6a", "#2a9d8f")
DASHES = {"bp": "", "pc": "2 4", "pcalm": "8 4"}


def page(records: Sequence[Record], about: str) -> str:
    """HTML, UTF-8."""
    sections = []
    anchors = {record["implementation"]: anchor(record) for record in records}
    for title, section in tables.SECTIONS:
        headers, rows = section(records)
        if rows:
            note = f"<p>{escape(tables.NOTES[section])}</p>" if section in tables.NOTES else ""
            figure = chart(tables.of_kind(records, "training")) if section is tables.learns else ""
            sections.append(f"<h2>{escape(title)}</h2>{note}{figure}{table(headers, rows, anchors)}")
    style, script = ((HERE / f"page.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><title>Comparison</title>'
        f"<style>{style}</style><h1>Comparison</h1><p>{escape(about.replace('`', ''))}</p>"
        '<p><label>Show rows with <input type="search" id="filter" placeholder="a name, a cell, a method"></label></p>'
        f"{''.join(sections)}<h2>Records</h2>{links(records)}<script>{script}</script></html>\n"
    )


def table(headers: Sequence[str], rows: Sequence[Sequence[str]], anchors: dict[str, str]) -> str:
    """The rows, in which the names of implementations lead to their records."""
    head = "".join(f'<th scope="col"><button>{shown(header)}</button></th>' for header in headers)

    def cell(header: str, text: str) -> str:
        inside = f'<a href="#{anchors[text]}">{shown(text)}</a>' if header == "implementation" else shown(text)
        return f'<td data-label="{shown(header)}">{inside}</td>'

    body = "".join(f"<tr>{''.join(map(cell, headers, row))}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def links(records: Sequence[Record]) -> str:
    """What every number was made from, by implementation."""
    parts = []
    for name in dict.fromkeys(record["implementation"] for record in records):
        own = [record for record in records if record["implementation"] == name]
        versions = ", ".join(f"{package} {version}" for package, version in own[0]["versions"].items())
        items = [
            f'<li><a href="{escape(record_file(record))}">{shown(part_of(record))}</a>, {shown(record["finished"])}'
            for record in own
        ]
        title = f'<h3 id="{anchor(own[0])}">{shown(name)}</h3>'
        parts.append(f"{title}<p>{shown(own[0]['spec'])}; {shown(versions)}</p><ul>{''.join(items)}</ul>")
    return "".join(parts)


def record_file(record: Record) -> str:
    return f"records/{file_name(record['implementation'], part_of(record))}"


def anchor(record: Record) -> str:
    return f"records-{hashed(record['implementation'])}"


def shown(text: str) -> str:
    """Anybody's words, as text."""
    return escape(printable(text))


def chart(records: Sequence[Record]) -> str:
    """Test accuracy against seconds of gradients, as SVG."""
    curves = [
        (index, record["implementation"], method, run["curve"])
        for index, record in enumerate(records)
        for method, run in record["methods"].items()
        if not run["missing"] and run["curve"]
    ]
    times = [max(seconds, 1e-3) for *_, curve in curves for _, seconds, _ in curve]
    if not times:
        return ""
    low, high = math.log10(min(times)), math.log10(max(times))
    low, high = (math.floor(low), math.ceil(high)) if high > low else (low - 1, low + 1)

    def x(seconds: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (math.log10(max(seconds, 1e-3)) - low) / (high - low)

    def y(accuracy: float) -> float:
        return (HEIGHT - BOTTOM) * (1 - accuracy) + 8

    marks = [
        f'<text x="{x(10.0**power):.0f}" y="{HEIGHT - 14}" text-anchor="middle">{10.0**power:g} s</text>'
        for power in range(math.ceil(low), math.floor(high) + 1)
    ]
    for part in (0, 0.25, 0.5, 0.75, 1):
        marks.append(f'<text x="{LEFT - 6}" y="{y(part) + 4:.0f}" text-anchor="end">{100 * part:.0f} %</text>')
        marks.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(part):.0f}" y2="{y(part):.0f}" class="grid"/>')
    lines, legend = [], []
    for index, name, method, curve in curves:
        points = " ".join(f"{x(seconds):.1f},{y(accuracy):.1f}" for _, seconds, accuracy in curve)
        stroke = f'stroke="{COLOURS[index % len(COLOURS)]}" stroke-dasharray="{DASHES[method]}"'
        title = f"{shown(name)}, {NAMES[method]}"
        lines.append(f'<polyline points="{points}" {stroke}><title>{title}</title></polyline>')
        sample = f'<svg width="36" height="10" aria-hidden="true"><path d="M0 5H36" {stroke}/></svg>'
        legend.append(f"<li>{sample} {title}")
    label = f"Test accuracy against seconds of gradients: {len(curves)} curves"
    svg = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">{"".join(marks + lines)}</svg>'
    caption = f'Test accuracy after each epoch.<ul class="legend">{"".join(legend)}</ul>'
    return f"<figure>{svg}<figcaption>{caption}</figcaption></figure>"
