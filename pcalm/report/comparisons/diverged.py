"""The runs that diverged, or were refused as unstable: where and why."""

from __future__ import annotations

from pcalm.report.comparisons.cells import Cells
from pcalm.report.comparisons.methods import methods_of, name_of
from pcalm.report.results import Results
from pcalm.report.tables import Column, Table, TableBuilder


def tables(results: Results) -> list[Table]:
    cells = Cells(results.training)
    columns = [
        *cells.columns,
        Column("method"),
        Column("T/L", "g"),
        Column("seed", "d"),
        Column("update", "d"),
        Column("why"),
    ]
    built = TableBuilder("diverged", "Runs that diverged or were refused", columns, [cells.note])
    for cell, runs in cells:
        for setting, budget, part in methods_of(runs[runs["status"] != "finished"]):
            for run in part.to_dict("records"):
                row = [name_of(setting), budget or None, run["seed"], run["diverged_step"], run["divergence"]]
                built.add([*cell, *row], [run["source"]])
    return [built.table()]
