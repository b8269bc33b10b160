"""The runs of a grid that are not there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product

import pandas

from pcalm.report.comparisons.methods import at
from pcalm.report.tables import Column, Table, TableBuilder


def table(
    training: pandas.DataFrame,
    widths: Sequence[int],
    depths: Sequence[int],
    methods: Mapping[str, Sequence[tuple[str, float]]],
    seeds: Sequence[int],
) -> Table:
    """The runs of a grid that are not there: activation, width, depth, how many of how many, and which; widest last.

    `methods` are those of each activation, with their budgets T/L.
    """
    columns = [Column("activation"), Column("N", "d"), Column("L", "d"), Column("runs", "d"), Column("missing", "d")]
    planned = "; ".join(f"{name}: {', '.join(at(*method) for method in each)}" for name, each in methods.items())
    note = f"Of seeds {', '.join(map(str, seeds))} and {planned}."
    built = TableBuilder("missing", "Runs that are still to come", [*columns, Column("which")], [note])
    names = ["activation", "width", "depth", "setting", "budget", "seed"]
    there = set(training.assign(budget=training["budget"].fillna(0.0))[names].itertuples(index=False, name=None))
    for width, depth, (activation, wanted) in product(widths, depths, methods.items()):
        cell = (activation, width, depth)
        lacking = {method: [seed for seed in seeds if (*cell, *method, seed) not in there] for method in wanted}
        count = sum(map(len, lacking.values()))
        if count:
            texts = [
                at(*method) + (f" (seed {', '.join(map(str, which))})" if len(which) < len(seeds) else "")
                for method, which in lacking.items()
                if which
            ]
            every = len(wanted) * len(seeds)
            built.add([*cell, every, count, "all" if count == every else "; ".join(texts)], [])
    return built.table()
