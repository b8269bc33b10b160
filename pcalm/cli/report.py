"""`pcalm report`: tables, figures and a page from recorded results."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    results: Annotated[
        Path,
        typer.Option(help="Directory with records of pcalm grid, reports of conformance, or records of speed."),
    ],
    output: Annotated[Path, typer.Option(help="Directory for index.html, tables/ and figures/.")],
    title: Annotated[str, typer.Option(help="Of the page.")] = "PC-ALM: results",
) -> None:
    """Make comparison tables, figures and one self-contained page from recorded results; nothing is measured.

    Try: pcalm grid --preset quick --output runs && pcalm report --results runs --output pages
    """
    try:
        from pcalm.report.write import write_report  # not at the top: the other commands need no matplotlib
    except ImportError as error:
        raise ValueError(f"pcalm report needs {error.name}: pip install 'pcalm[report]'") from error
    typer.echo(write_report(results, output, title))
