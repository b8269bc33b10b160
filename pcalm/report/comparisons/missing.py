"""The runs of a grid that are not there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas

from pcalm.report.comparisons.methods import at
from pcalm.report.tables import Column, Table, TableBuilder

Method = tuple[str, float]


def table(
    training: pandas.DataFrame,
    columns: Mapping[str, Column],
    planned: Mapping[Any, Sequence[Method]],
    seeds: Sequence[int],
) -> Table:
    """The runs of a grid that are not there: their cell, how many of how many, and which.

    `columns` are the fields of a record that make a cell, and how they are shown; `planned` says of every cell, a tuple
    of them, in the order of the table, which methods it should have, with their budgets T/L; its first field decides.
    """
    grids = {cell[0]: ", ".join(at(*method) for method in methods) for cell, methods in planned.items()}
    note = f"Of seeds {', '.join(map(str, seeds))} and {'; '.join(f'{name}: {each}' for name, each in grids.items())}."
    shown = [*columns.values(), Column("runs", "d"), Column("missing", "d"), Column("which")]
    built = TableBuilder("missing", "Runs that are still to come", shown, [note])
    names = [*columns, "setting", "budget", "seed"]
    there = set(training.assign(budget=training["budget"].fillna(0.0))[names].itertuples(index=False, name=None))
    for cell, methods in planned.items():
        lacking = {method: [seed for seed in seeds if (*cell, *method, seed) not in there] for method in methods}
        count = sum(map(len, lacking.values()))
        if count:
            texts = [
                at(*method) + (f" (seed {', '.join(map(str, which))})" if len(which) < len(seeds) else "")
                for method, which in lacking.items()
                if which
            ]
            every = len(methods) * len(seeds)
            built.add([*cell, every, count, "all" if count == every else "; ".join(texts)], [])
    return built.table()
