"""The page: one HTML file that needs nothing else: figures, tables to sort and filter, and every number's source.

However many records there are, it stays small: of a table with more than ROWS rows it holds the first ones as HTML and
all of them compressed, for its script to sort, filter and show in parts; drawings stand in it up to DRAWINGS bytes.
Without scripts, the rest is in the files beside the page, tables/ and figures/, which it leads to.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
from collections.abc import Collection, Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any

from pcalm.report.comparisons import all_tables
from pcalm.report.figures import all_figures
from pcalm.report.figures.drawing import Figure
from pcalm.report.results import Results
from pcalm.report.tables import VERDICT, Column, Table, Value

PAGE = "index.html"
HERE = Path(__file__).parent
SOURCES = "sources"
ROWS = 200  # of a table as HTML
RECORDS = 20  # of a row as links
DRAWINGS = 10**6  # bytes
WIDE = 13  # columns: with more, a row is printed as a paragraph of its own
LONG = 30  # characters: what has more may break into lines


def render(results: Results, title: str = "PC-ALM: results") -> str:
    """The whole page as HTML."""
    return page(all_tables(results), all_figures(results), results, title)


def page(tables: Sequence[Table], figures: Sequence[Figure], results: Results, title: str) -> str:
    """The page of these tables and figures, with the sources of `results` that they refer to."""
    style, script = ((HERE / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    origins = sources_table(results, tables, figures)
    shown = [*tables, origins]
    links = [(f"figure-{figure.id}", figure.title) for figure in figures] + [(table.id, table.title) for table in shown]
    here = {str(row[0]) for row in origins.rows[:ROWS]}
    # Only this style and this script, nothing from anywhere else: the browser sees to it, too.
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src '{_digest(script)}'"
    unread = "".join(f"<li>{escape(place)}: {escape(reason)}</li>" for place, reason in results.unread.items())
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<link rel="icon" href="data:,">
<title>{escape(title)}</title>
<style>
{style}</style>
</head>
<body>
<header>
<h1>{escape(title)}</h1>
<p class="about">Made from records alone; nothing was measured or edited for this page. The last column of every
table leads to the records that a row's numbers come from, and these to the file, commit and machine.</p>
<nav aria-label="Contents"><ul>
{"".join(f'<li><a href="#{anchor}">{escape(text)}</a></li>' for anchor, text in links)}
</ul></nav>
</header>
<main>
{"".join(_drawings(figures, here))}
{"".join(_section(table, results, here) for table in shown)}
{f"<section><h2>Files that were not read, or not in full</h2><ul>{unread}</ul></section>" if unread else ""}
</main>
<script type="text/plain" id="rows" data-shown="{ROWS}" data-linked="{RECORDS}">{_packed(shown)}</script>
<script>{script}</script>
</body>
</html>
"""


def sources_table(results: Results, tables: Sequence[Table], figures: Sequence[Figure]) -> Table:
    """What the tables and figures refer to: file, commit, machine, versions."""
    used = {source for table in tables for row in table.sources for source in row}
    used |= {source for figure in figures for source in figure.sources}
    columns = map(Column, ("source", "what", "file", "commit", "machine", "versions", "finished"))
    rows = [tuple(vars(results.sources[name]).values()) for name in results.sources if name in used]
    return Table(SOURCES, "Where the numbers come from", tuple(columns), tuple(rows))


def _drawings(figures: Sequence[Figure], here: Collection[str]) -> Iterator[str]:
    room = DRAWINGS
    for figure in figures:
        svg = figure.svg()
        room -= len(svg)
        # A title of its own makes the drawing an image with a name for screen readers.
        drawing = svg.split("<svg", 1)[1]
        # Ids inside a drawing must differ from those of the other drawings on the page.
        drawing = re.sub(r'(id="|url\(#|href="#)', rf"\g<1>{figure.id}-", drawing)
        name = escape(figure.title)
        body = f'''<div class="drawing" role="region" aria-label="{name}, drawing" tabindex="0">
<svg role="img" aria-label="{name}"{drawing}</div>'''
        if room < 0:
            body = f'<p><a href="figures/{figure.id}.svg">The drawing</a></p>'
        more = f" and {len(figure.sources) - 1} more" if len(figure.sources) > 1 else ""
        origin = " ".join(_link(source, here) for source in figure.sources[:1])
        yield f"""<figure id="figure-{figure.id}">
<h2>{name}</h2>
{body}
<figcaption>{escape(figure.caption)} From {origin}{more}.</figcaption>
</figure>
"""


def _section(table: Table, results: Results, here: Collection[str]) -> str:
    numeric = [table.is_numeric(index) for index in range(len(table.columns))]
    heads = [_heading(column, right) for column, right in zip(table.columns, numeric, strict=True)]
    if table.sources:
        heads.append('<th scope="col">from</th>')
    wide, large = len(heads) > WIDE, len(table.rows) > ROWS
    rows = []
    for index, values in enumerate(table.rows[:ROWS]):
        cells = [_cell(*each, wide) for each in zip(table.columns, values, numeric, strict=True)]
        if table.sources:
            names = table.sources[index]
            told = f'<a href="tables/{table.id}.json">{_count(names)}</a>' if large else _sources(names, results, here)
            cells.append(f'<td class="from"{_label("from", wide)}>{told}</td>')
        anchor = f' id="source-{escape(str(values[0]))}"' if table.id == SOURCES else ""
        rows.append(f"<tr{anchor}>{''.join(cells)}</tr>")
    newline = "\n"
    kind = f"table{' wide' if wide else ''}{' large' if large else ''}"
    return f"""<section class="{kind}" id="{table.id}">
<h2>{escape(table.title)}</h2>
{_excerpt(table) if large else ""}<div class="controls">
<label>Show rows with <input type="search" placeholder="words, e.g. relu 128"></label>
{PARTS if large else ""}<span class="count" role="status"></span></div>
<div class="scroll" role="region" aria-label="{escape(table.title)}" tabindex="0">
<table>
<thead><tr>{"".join(heads)}</tr></thead>
<tbody>
{newline.join(rows)}
</tbody>
</table>
</div>
{"".join(f'<p class="notes">{escape(note)}</p>' for note in table.notes)}
</section>
"""


PARTS = """<span class="parts"><button type="button" class="back">Previous rows</button>
<button type="button" class="on">Next rows</button></span>
"""


def _excerpt(table: Table) -> str:
    files = ", ".join(f'<a href="tables/{table.id}.{suffix}">{suffix}</a>' for suffix in ("csv", "html", "json"))
    return f'<p class="notes excerpt">The first {ROWS} of {len(table.rows)} rows; all of them: {files}.</p>\n'


def _heading(column: Column, right: bool) -> str:
    about = f' title="{escape(column.about)}"' if column.about else ""
    kinds = " ".join(["number"] * right + ["long"] * (len(column.name) > LONG))
    kind = f' class="{kinds}"' if kinds else ""
    return f'<th scope="col" aria-sort="none"{kind}><button type="button"{about}>{escape(column.name)}</button></th>'


def _cell(column: Column, value: Value, right: bool, wide: bool) -> str:
    shown, label = column.show(value), _label(column.name, wide)
    if right:
        # Sorting goes by the unrounded number; "–" has none.
        known = value is not None and value == value
        number = f' data-value="{repr(value).replace("inf", "Infinity")}"' if known else ""
        return f'<td class="number"{number}{label}>{escape(shown)}</td>'
    # The verdict without what stands in brackets, as one class: "passed in part" must not look like "passed".
    verdict = f" {shown.split(' (')[0].replace(' ', '-')}" if column.form == VERDICT else ""
    return f'<td class="text{escape(verdict)}{" long" if len(shown) > LONG else ""}"{label}>{escape(shown)}</td>'


def _label(name: str, wide: bool) -> str:
    return f' data-label="{escape(name)}"' if wide else ""


def _sources(names: Sequence[str], results: Results, here: Collection[str]) -> str:
    if len(names) <= 1:
        return "".join(_link(name, here) for name in names)
    items = "".join(f"<li>{_link(name, here)} {escape(results.sources[name].what)}</li>" for name in names[:RECORDS])
    more = f"<li>and {len(names) - RECORDS} more</li>" if len(names) > RECORDS else ""
    return f"<details><summary>{_count(names)}</summary><ul>{items}{more}</ul></details>"


def _count(names: Sequence[str]) -> str:
    return f"{len(names)} record{'s' if len(names) != 1 else ''}"


def _link(source: str, here: Collection[str]) -> str:
    """To the source's row; where that is not among the HTML, the script finds it, and without one the file has it."""
    name = escape(source)
    found = f"#source-{name}" if source in here else f"tables/{SOURCES}.csv"
    return f'<a href="{found}" data-source="{name}">{name}</a>'


def _packed(tables: Sequence[Table]) -> str:
    """The large tables for the script, as compressed JSON: by id their rows and records."""
    large = [table for table in tables if len(table.rows) > ROWS]
    numbers = {str(row[0]): index for table in tables if table.id == SOURCES for index, row in enumerate(table.rows)}
    content: dict[str, Any] = {
        table.id: {
            "columns": [_column(texts) for texts in zip(*table.shown(), strict=True)],
            "kinds": [
                "number" if table.is_numeric(index) else VERDICT if column.form == VERDICT else "text"
                for index, column in enumerate(table.columns)
            ],
            "sources": _steps([[numbers[name] for name in names] for names in table.sources]),
        }
        for table in large
    }
    return base64.b64encode(gzip.compress(json.dumps(content).encode(), mtime=0)).decode() if large else ""


def _steps(numbers: Sequence[Sequence[int]]) -> list[list[int]]:
    """Each number less the one before it, which is nearly always 1 and compresses to nothing."""
    before = 0
    steps: list[list[int]] = []
    for row in numbers:
        steps.append([])
        for number in row:
            steps[-1].append(number - before)
            before = number
    return steps


def _column(shown: Sequence[str]) -> dict[str, Any]:
    """Each text once, and where it stands."""
    words = list(dict.fromkeys(shown))
    places = {word: place for place, word in enumerate(words)}
    return {"words": words, "at": [places[text] for text in shown]}


def _digest(script: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}"
