"""Writes what `pcalm report` makes of a directory of results: the page, and every table and figure as files."""

from __future__ import annotations

from pathlib import Path

from pcalm.checks import require
from pcalm.experiments.storage import write_json, write_text
from pcalm.report import page, results
from pcalm.report.comparisons import all_tables
from pcalm.report.figures import all_figures
from pcalm.report.tables import SUFFIXES


def write_report(source: str | Path, output: str | Path, title: str = "PC-ALM: results") -> Path:
    """Writes the page, tables/ in every format and figures/ as SVG and PNG; returns the page's path.

    Each file is there whole or not at all, the page last. Nothing is measured.

    Args:
        source: the directory of results, see `pcalm.report.results`.
        output: a directory; made if need be.
        title: of the page.

    Raises:
        ValueError: a source without results, or an output that is a file.
        OSError: the output cannot be written.
    """
    found = results.load(source)
    directory = Path(output)
    require(not directory.exists() or directory.is_dir(), f"output must be a directory, got the file {str(output)!r}")
    tables, figures = all_tables(found), all_figures(found)
    for name in ("tables", "figures"):
        (directory / name).mkdir(parents=True, exist_ok=True)
    for table in (*tables, page.sources_table(found, tables, figures)):
        write_json(directory / "tables" / f"{table.id}.json", table.as_json())
        for form, suffix in SUFFIXES.items():
            write_text(directory / "tables" / f"{table.id}.{suffix}", table.render(form) + "\n" * (form != "csv"))
    for figure in figures:
        figure.write(directory / "figures")
    path = directory / page.PAGE
    write_text(path, page.page(tables, figures, found, title))
    return path
