"""The page: one HTML file that needs nothing else: figures, tables to sort and filter, and every number's source."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from html import escape
from pathlib import Path

from pcalm.report.comparisons import all_tables
from pcalm.report.figures import all_figures
from pcalm.report.figures.drawing import Figure
from pcalm.report.results import Results, Source
from pcalm.report.tables import VERDICT, Column, Table, Value

PAGE = "index.html"
HERE = Path(__file__).parent
SOURCES = "sources"


def render(results: Results, title: str = "PC-ALM: results") -> str:
    """The whole page as HTML."""
    return page(all_tables(results), all_figures(results), results, title)


def page(tables: Sequence[Table], figures: Sequence[Figure], results: Results, title: str) -> str:
    """The page of these tables and figures, with the sources of `results` that they refer to."""
    style, script = ((HERE / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    shown = [*tables, sources_table(results, tables, figures)]
    links = [(f"figure-{figure.id}", figure.title) for figure in figures] + [(table.id, table.title) for table in shown]
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
{"".join(map(_figure, figures))}
{"".join(_section(table, results) for table in shown)}
{f"<section><h2>Files that were not read, or not in full</h2><ul>{unread}</ul></section>" if unread else ""}
</main>
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


def _figure(figure: Figure) -> str:
    # A title of its own makes the drawing an image with a name for screen readers.
    drawing = figure.svg().split("<svg", 1)[1]
    # Ids inside a drawing must differ from those of the other drawings on the page.
    drawing = re.sub(r'(id="|url\(#|href="#)', rf"\g<1>{figure.id}-", drawing)
    named = f'<svg role="img" aria-label="{escape(figure.title)}"{drawing}'
    return f"""<figure id="figure-{figure.id}">
<h2>{escape(figure.title)}</h2>
<div class="drawing" role="region" aria-label="{escape(figure.title)}, drawing" tabindex="0">{named}</div>
<figcaption>{escape(figure.caption)} From {_links(figure.sources[:1])}{_more(figure.sources)}.</figcaption>
</figure>
"""


def _more(sources: Sequence[str]) -> str:
    return f" and {len(sources) - 1} more" if len(sources) > 1 else ""


def _section(table: Table, results: Results) -> str:
    numeric = [table.is_numeric(index) for index in range(len(table.columns))]
    heads = [_heading(column, right) for column, right in zip(table.columns, numeric, strict=True)]
    if table.sources:
        heads.append('<th scope="col">from</th>')
    rows = []
    for index, values in enumerate(table.rows):
        cells = [
            _cell(column, value, right) for column, value, right in zip(table.columns, values, numeric, strict=True)
        ]
        if table.sources:
            cells.append(f'<td class="from">{_sources(table.sources[index], results.sources)}</td>')
        anchor = f' id="source-{escape(str(values[0]))}"' if table.id == SOURCES else ""
        rows.append(f"<tr{anchor}>{''.join(cells)}</tr>")
    newline = "\n"
    return f"""<section class="table" id="{table.id}">
<h2>{escape(table.title)}</h2>
<div class="controls"><label>Show rows with <input type="search" placeholder="words, e.g. relu 128"></label>
<span class="count" role="status"></span></div>
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


def _heading(column: Column, right: bool) -> str:
    about = f' title="{escape(column.about)}"' if column.about else ""
    kind = ' class="number"' if right else ""
    return f'<th scope="col" aria-sort="none"{kind}><button type="button"{about}>{escape(column.name)}</button></th>'


def _cell(column: Column, value: Value, right: bool) -> str:
    shown = escape(column.show(value))
    if right:
        # Sorting goes by the unrounded number; "–" has none.
        number = f' data-value="{value!r}"' if value is not None and value == value else ""
        return f'<td class="number"{number}>{shown}</td>'
    # The verdict without what stands in brackets, as one class: "passed in part" must not look like "passed".
    kind = f"text {shown.split(' (')[0].replace(' ', '-')}" if column.form == VERDICT else "text"
    return f'<td class="{kind}">{shown}</td>'


def _sources(names: Sequence[str], sources: dict[str, Source]) -> str:
    if len(names) <= 1:
        return _links(names)
    items = "".join(f"<li>{_links([name])} {escape(sources[name].what)}</li>" for name in names)
    return f"<details><summary>{len(names)} records</summary><ul>{items}</ul></details>"


def _links(names: Sequence[str]) -> str:
    return " ".join(f'<a href="#source-{escape(name)}">{escape(name)}</a>' for name in names)


def _digest(script: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}"
