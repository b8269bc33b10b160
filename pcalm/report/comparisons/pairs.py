"""Methods against each other, seed by seed: every cell, and in how many cells the difference is beyond doubt."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product
from typing import NamedTuple

from pcalm.report.comparisons.cells import Cells, Row
from pcalm.report.comparisons.methods import at, methods_of, order_of
from pcalm.report.comparisons.statistics import (
    INTERVAL_COLUMNS,
    INTERVAL_NOTE,
    Comparison,
    Interval,
    compare,
    interval_cells,
    intervals,
    mean,
)
from pcalm.report.results import Results
from pcalm.report.tables import Column, Table, TableBuilder, Value

Kind = tuple[str, float]  # a method and its budget T/L
BP: Kind = ("bp", 0.0)
# Of each pair, the first is held against the second: every method against BP, these at the same budget, and these.
SAME_BUDGET = (
    ("pcalm", "pc"),
    ("pcalm-tracked", "pc-tracked"),
    ("anchored", "pcalm"),
    ("anchored", "pcalm-tracked"),
    ("anchored", "anchored-start"),
    ("gauged", "pcalm"),
    ("gauged", "pcalm-tracked"),
    ("gauged", "anchored"),
)
ACROSS: tuple[tuple[Kind, Kind], ...] = ((("anchored", 1.25), ("pcalm", 2.0)),)


def pairs_of(kinds: Iterable[Kind]) -> list[tuple[Kind, Kind]]:
    """The pairs among methods at their budgets, in the order of a report."""
    known = dict.fromkeys(kinds)
    found = [(kind, BP) for kind in known if kind != BP]
    for budget in sorted({budget for _, budget in known}):
        found += [((first, budget), (second, budget)) for first, second in SAME_BUDGET]
    return [pair for pair in (*found, *ACROSS) if all(kind in known for kind in pair)]


class Pair(NamedTuple):
    """One pair in one cell: `context` and `cell` are what differs from one context, or cell, to another."""

    context: tuple[Value, ...]
    cell: Row
    first: Kind
    second: Kind
    comparison: Comparison
    interval: Interval | None
    sources: list[str]


def pairs(cells: Cells) -> list[Pair]:
    """Every pair in every cell that has both."""
    found = []
    for cell, runs in cells:
        kinds = {(setting, budget): part for setting, budget, part in methods_of(runs)}
        for first, second in pairs_of(kinds):
            comparison = compare(kinds[first], kinds[second])
            if comparison:
                sources = [*kinds[first]["source"], *kinds[second]["source"]]
                found.append(Pair(tuple(cell[: len(cells.varying)]), cell, first, second, comparison, None, sources))
    return [
        each._replace(interval=interval)
        for each, interval in zip(found, intervals([each.comparison for each in found]), strict=True)
    ]


def tables(results: Results) -> list[Table]:
    cells = Cells(results.training)
    found = pairs(cells)
    columns = [Column("method"), Column("less"), Column("seeds", "d"), Column("difference", "+.1f", "points, mean")]
    built = TableBuilder(
        "pairs",
        "Methods against each other, by cell",
        [*cells.columns, *columns, *INTERVAL_COLUMNS],
        [f"Test accuracy, points, paired by seed. {cells.note}", INTERVAL_NOTE],
    )
    for each in found:
        row: Row = [*each.cell, at(*each.first), at(*each.second), len(each.comparison.differences)]
        sure = each.interval is not None and not each.interval.has_zero
        built.add(
            [*row, 100 * each.comparison.mean, *interval_cells(each.interval)], each.sources, [len(row)] if sure else []
        )
    return [summary(cells, found), built.table()]


def summary(cells: Cells, found: list[Pair]) -> Table:
    """By pair: in how many cells the interval lies above zero, below it, or has it inside."""
    columns = [
        *cells.columns[: len(cells.varying)],
        *(Column("method"), Column("less"), Column("cells", "d"), Column("runs", "d", "of either method")),
        Column("better", "d", "cells whose interval lies above zero"),
        Column("worse", "d", "cells whose interval lies below zero"),
        Column("undecided", "d", "cells whose interval has zero inside"),
        *(
            Column("difference, mean", "+.1f", "points, over the cells"),
            Column("least", "+.1f"),
            Column("most", "+.1f"),
        ),
    ]
    notes = [f"Test accuracy, points, paired by seed, over all cells that have both. {cells.note}", INTERVAL_NOTE]
    built = TableBuilder("pairs-summary", "Methods against each other, over all cells", columns, notes)
    everywhere = {kind: order_of(kind[0]) for each in found for kind in (each.first, each.second)}
    ordered = pairs_of(sorted(everywhere, key=lambda kind: (everywhere[kind], kind[1])))
    for context, (first, second) in product(dict.fromkeys(each.context for each in found), ordered):
        part = [each for each in found if (each.context, each.first, each.second) == (context, first, second)]
        if not part:
            continue
        known = [each.interval for each in part if each.interval]
        counts = [sum(each.low > 0 for each in known), sum(each.high < 0 for each in known)]
        values = [100 * each.comparison.mean for each in part]
        spread = [mean(values), min(values), max(values)]
        runs = sum(len(each.comparison.differences) for each in part)
        row: Row = [*context, at(*first), at(*second), len(part), runs, *counts, len(known) - sum(counts), *spread]
        built.add(row, [source for each in part for source in each.sources])
    return built.table()
