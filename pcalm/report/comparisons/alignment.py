"""Alignment with BP at initialisation."""

from __future__ import annotations

import pandas

from pcalm.report.comparisons.cells import Row
from pcalm.report.comparisons.methods import name_of, order_of
from pcalm.report.results import Results
from pcalm.report.tables import Column, Table, TableBuilder


def tables(results: Results) -> list[Table]:
    """At initialisation: the worst and best over all cells by budget, and every cell."""
    content = results.measured.get("alignment")
    if content is None:
        return []
    frame = pandas.DataFrame(content["rows"], columns=content["columns"])
    about = (
        f"Weight gradient against BP's at initialisation, on {content['samples']} {content['dataset']} images; N and L "
        f"in {', '.join(map(str, sorted(frame['depth'].unique())))}, {' and '.join(frame['activation'].unique())}, "
        f"seeds {', '.join(map(str, sorted(frame['seed'].unique())))}."
    )
    near = "anchored, near exact has ρ = 0.25, α = 3, κ = 4/L; anchored has ρ = 0.1, α = 3.5, κ = 3/L."
    figures = [Column("cosine, worst", ".3f"), Column("median", ".3f"), Column("best", ".3f")]
    figures += [Column("norm ratio, least", ".2f"), Column("most", ".2f")]
    worst = TableBuilder(
        "alignment",
        "Alignment with BP at initialisation, over all cells",
        [Column("method"), Column("T/L", "g"), *figures, Column("worst at")],
        [about, near],
    )
    groups = sorted(frame.groupby(["method", "budget"]), key=lambda pair: (order_of(pair[0][0]), pair[0][1]))
    for (setting, budget), part in groups:
        low = part.loc[part["cosine"].idxmin()]
        where = f"{low['activation']} N={low['width']} L={low['depth']} seed {low['seed']}"
        spread = [part["cosine"].min(), part["cosine"].median(), part["cosine"].max()]
        row = [*spread, part["norm_ratio"].min(), part["norm_ratio"].max()]
        worst.add([name_of(setting), float(budget), *map(float, row), where], [content["source"]])
    columns = [Column("activation"), Column("N", "d"), Column("L", "d"), Column("method"), Column("T/L", "g")]
    columns += [Column("cosine, mean", ".3f"), Column("least", ".3f"), Column("norm ratio, mean", ".2f")]
    cells = TableBuilder("alignment-cells", "Alignment with BP at initialisation, by cell", columns, [about, near])
    for key, part in frame.groupby(["activation", "width", "depth", "method", "budget"], sort=False):
        activation, width, depth, setting, budget = key
        row = [part["cosine"].mean(), part["cosine"].min(), part["norm_ratio"].mean()]
        first: Row = [activation, int(width), int(depth), name_of(setting), float(budget)]
        cells.add([*first, *map(float, row)], [content["source"]])
    return [worst.table(), cells.table()]
