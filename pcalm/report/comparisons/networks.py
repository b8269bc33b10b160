"""Networks other than the residual MLP: accuracy, alignment and what the weights became, by method and budget."""

from __future__ import annotations

import dataclasses

from pcalm.report.comparisons.cells import Cells, Row
from pcalm.report.comparisons.methods import methods_of, name_of
from pcalm.report.comparisons.statistics import (
    INTERVAL_COLUMNS,
    INTERVAL_NOTE,
    by_seed,
    compare,
    interval_cells,
    intervals,
    mean_of,
    percent,
)
from pcalm.report.results import Results
from pcalm.report.tables import Column, Table, TableBuilder

MLP = "mlp"


def of_blocks(results: Results) -> Results:
    """The runs of networks other than the residual MLP."""
    return dataclasses.replace(results, training=results.training[results.training["network"] != MLP])


def tables(results: Results) -> list[Table]:
    found = of_blocks(results)
    cells = Cells(found.training)
    columns = [
        *cells.columns,
        *(Column("method"), Column("T/L", "g"), Column("seeds", "d", "runs that have an accuracy")),
        *(Column("diverged", "d"), Column("accuracy", ".1f", "test accuracy, %, mean over the seeds")),
        *(Column("min", ".1f"), Column("max", ".1f"), Column("minus BP", "+.1f", "points, paired by seed")),
        *INTERVAL_COLUMNS,
        Column("cosine to BP", ".3f", "of the weight gradient after training"),
        Column("norm ratio", ".2f", "‖gradient‖ / ‖BP's‖ after training"),
        Column("λ_max", ".1f", "after training, in the gauge in use"),
        Column("‖δ_1‖/‖δ_{L−1}‖", ".1f", "of BP's adjoint after training"),
    ]
    notes = [f"Means over the seeds. {cells.note}", INTERVAL_NOTE]
    built = TableBuilder("networks", "Other networks, by method and budget", columns, notes)
    groups = [
        (cell, runs[runs["setting"] == "bp"], setting, budget, part)
        for cell, runs in cells
        for setting, budget, part in methods_of(runs)
    ]
    differences = [compare(part, exact) if setting != "bp" else None for _, exact, setting, _, part in groups]
    for (cell, exact, setting, budget, part), difference, interval in zip(
        groups, differences, intervals(differences), strict=True
    ):
        accuracies = list(by_seed(part).values())
        row: Row = [*cell, name_of(setting), budget or None, len(accuracies), int((part["status"] == "diverged").sum())]
        row += [percent(mean_of(part, "test_accuracy"))]
        row += [percent(end(accuracies)) if accuracies else None for end in (min, max)]
        at = len(row)
        row += [percent(difference.mean) if difference else None, *interval_cells(interval)]
        row += [mean_of(part, name) for name in ("gradient_cosine", "gradient_norm_ratio", "eigenvalue", "growth")]
        sources = [*part["source"], *(exact["source"] if difference else ())]
        built.add(row, sources, [at] if interval and not interval.has_zero else [])
    return [built.table()]
