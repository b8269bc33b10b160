"""The mean accuracy of every method at every budget, one row per cell."""

from __future__ import annotations

from pcalm.report.comparisons.cells import Cells
from pcalm.report.comparisons.methods import at, methods_of
from pcalm.report.comparisons.statistics import mean_of, percent
from pcalm.report.results import Results
from pcalm.report.tables import Column, Table, TableBuilder


def tables(results: Results) -> list[Table]:
    cells = Cells(results.training)
    kinds = methods_of(cells.frame)
    columns = [Column(at(setting, budget), ".1f") for setting, budget, _ in kinds]
    notes = [f"Mean test accuracy in % over the seeds that were run. {cells.note}"]
    built = TableBuilder("overview", "Test accuracy at a glance", [*cells.columns, *columns], notes)
    for cell, runs in cells:
        found = {(setting, budget): mean_of(part, "test_accuracy") for setting, budget, part in methods_of(runs)}
        built.add([*cell, *(percent(found.get((s, b))) for s, b, _ in kinds)], list(runs["source"]))
    return [built.table()]
