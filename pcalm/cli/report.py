"""`pcalm report`: tables, figures and a page from recorded results."""

from __future__ import annotations

from typing import Annotated

import typer

from pcalm.checks import location
from pcalm.cli.output import show


def report(
    results: Annotated[
        str,
        typer.Option(
            metavar="PATH",
            help="Directory with records of pcalm grid, reports of conformance, or records of speed.",
        ),
    ],
    output: Annotated[str, typer.Option(metavar="PATH", help="Directory for index.html, tables/ and figures/.")],
    title: Annotated[str, typer.Option(help="Of the page.")] = "PC-ALM: results",
) -> None:
    """Make comparison tables, figures and one self-contained page from recorded results; nothing is measured.

    Try: pcalm grid --preset quick --output runs && pcalm report --results runs --output pages
    """
    try:
        from pcalm.report.write import write_report  # not at the top: the other commands need no matplotlib
    except ImportError as error:
        raise ValueError(f"pcalm report needs {error.name}: pip install 'pcalm[report]'") from error
    show(str(write_report(location("results", results), location("output", output), title)))
