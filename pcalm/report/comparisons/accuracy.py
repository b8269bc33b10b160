"""Every seed's accuracy, mean and range, paired differences to BP, and the paper's figures."""

from __future__ import annotations

import pandas

from pcalm.report import paper
from pcalm.report.comparisons.cells import Cells, Row
from pcalm.report.comparisons.methods import methods_of, name_of
from pcalm.report.comparisons.statistics import (
    INTERVAL_COLUMNS,
    INTERVAL_NOTE,
    by_seed,
    compare,
    interval_cells,
    intervals,
    mean,
    mean_of,
    minus,
    percent,
)
from pcalm.report.results import Results
from pcalm.report.tables import Column, Table, TableBuilder

SEED_COLUMNS = 10  # of more seeds, a table shows mean and range only


def tables(results: Results) -> list[Table]:
    """Every seed's test accuracy, mean and range, paired differences to BP, and the paper's figure where known."""
    cells = Cells(results.training)
    seeds = cells.seeds if len(cells.seeds) <= SEED_COLUMNS else []
    columns = [
        *cells.columns,
        Column("method"),
        Column("T/L", "g", "inference steps in multiples of the depth"),
        *(Column(f"seed {seed}", ".1f", "test accuracy, %") for seed in seeds),
        Column("seeds", "d", "runs that have an accuracy"),
        Column("mean", ".1f", "test accuracy, %, over the seeds"),
        Column("min", ".1f"),
        Column("max", ".1f"),
        Column("minus BP", "+.1f", "mean over the seeds that both have, points"),
        *INTERVAL_COLUMNS,
        Column("cosine to BP", ".3f", "of the weight gradient after training, mean over the seeds"),
        Column("norm ratio", ".2f", "‖gradient‖ / ‖BP's‖ after training, mean over the seeds"),
        Column("diverged", "d", "runs that became non-finite; they have no accuracy"),
        Column("the paper's accuracy", ".1f", f"Seely & Gould, arXiv:2605.31022, seed {paper.SEED}, %"),
        Column("ours minus it", "+.1f", f"seed {paper.SEED}, points"),
        Column("the paper's cosine", ".2f", f"Seely & Gould, arXiv:2605.31022, seed {paper.SEED}"),
        Column("our cosine minus it", "+.2f", f"seed {paper.SEED}"),
    ]
    notes = [f"Test accuracy in %, differences in points. {cells.note}", INTERVAL_NOTE]
    built = TableBuilder("accuracy", "Test accuracy by width, depth and method", columns, notes)
    found = []
    for cell, runs in cells:
        is_bp = runs["setting"] == "bp"
        for setting, budget, part in methods_of(runs):
            found.append(
                (cell, runs[is_bp], setting, budget, part, compare(part, runs[is_bp]) if setting != "bp" else None)
            )
    for (cell, exact, setting, budget, part, difference), interval in zip(
        found, intervals([each[-1] for each in found]), strict=True
    ):
        mine = by_seed(part)
        theirs, their_cosine = _figures_of_the_paper(part, setting, budget)
        ours, our_cosine = mine.get(paper.SEED), by_seed(part, "gradient_cosine").get(paper.SEED)
        row: Row = [*cell, name_of(setting), budget or None]
        row += [percent(mine.get(seed)) for seed in seeds]
        row += [len(mine)]
        row += [percent(f(list(mine.values()))) if mine else None for f in (mean, min, max)]
        at = len(row)
        row += [percent(difference.mean) if difference else None, *interval_cells(interval)]
        row += [mean_of(part, "gradient_cosine"), mean_of(part, "gradient_norm_ratio")]
        row += [int((part["status"] == "diverged").sum())]
        row += [percent(theirs), percent(minus(ours, theirs)), their_cosine, minus(our_cosine, their_cosine)]
        sources = [*part["source"], *(exact["source"] if difference else ())]
        built.add(row, sources, [at] if interval and not interval.has_zero else [])
    return [built.table(without_empty=True)]


def _figures_of_the_paper(runs: pandas.DataFrame, setting: str, budget: float) -> tuple[float | None, float | None]:
    """The authors' test accuracy and cosine for this cell, method and budget, where they are known."""
    first = runs.iloc[0]
    same = all(first[name] == value for name, value in paper.CELL.items())
    return paper.FIGURES.get(setting, (None, None)) if same and budget in (0.0, paper.BUDGET) else (None, None)
