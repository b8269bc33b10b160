"""The runs of a grid that are not there."""

from __future__ import annotations

from collections.abc import Sequence

import pandas

from pcalm.report.comparisons.methods import at
from pcalm.report.tables import Column, Table, TableBuilder


def table(
    training: pandas.DataFrame,
    widths: Sequence[int],
    depths: Sequence[int],
    methods: Sequence[tuple[str, float]],
    seeds: Sequence[int],
) -> Table:
    """The runs of a grid that are not there: width, depth, how many of how many, and which."""
    columns = [Column("N", "d"), Column("L", "d"), Column("runs", "d"), Column("missing", "d"), Column("which")]
    note = f"Of seeds {', '.join(map(str, seeds))} and {', '.join(at(*method) for method in methods)}."
    built = TableBuilder("missing", "Runs that are still to come", columns, [note])
    names = ["width", "depth", "setting", "budget", "seed"]
    there = set(training.assign(budget=training["budget"].fillna(0.0))[names].itertuples(index=False, name=None))
    for depth in depths:
        for width in widths:
            lacking = {
                method: [seed for seed in seeds if (width, depth, *method, seed) not in there] for method in methods
            }
            count = sum(map(len, lacking.values()))
            if count:
                texts = [
                    at(*method) + (f" (seed {', '.join(map(str, which))})" if len(which) < len(seeds) else "")
                    for method, which in lacking.items()
                    if which
                ]
                every = len(methods) * len(seeds)
                built.add([width, depth, every, count, "all" if count == every else "; ".join(texts)], [])
    return built.table()
