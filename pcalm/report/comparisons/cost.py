"""Accuracy against what inference costs, and the budget that comes within one point of BP.

What a weight gradient costs is counted in those of backpropagation, each of which takes three passes through the
layers: forward, backward, and the weights' gradient. An iteration takes two, for the residuals and for the credit that
is handed down; before and after all of them there are the feed-forward pass, the last residuals and the weights'
gradient: (2T + 3)/3 gradients, whatever the penalty, anchor or gauge, and for blocks as for the residual MLP.
"""

from __future__ import annotations

import pandas

from pcalm.experiments import records
from pcalm.report.comparisons.cells import Cells, plain
from pcalm.report.comparisons.methods import methods_of, name_of
from pcalm.report.comparisons.statistics import compare, mean_of, percent
from pcalm.report.results import Results
from pcalm.report.tables import Column, Table, TableBuilder, Value

CLOSE = 0.01  # "within one point of BP"
# What a kind of run is known by in a measurement of cost.
KIND = ("network", "dataset", "activation", "epochs", "width", "depth", "setting", "budget")


def bp_gradients(steps: int) -> float:
    """What a weight gradient costs after so many primal steps, 0 for BP itself, in BP's."""
    return (2 * steps + 3) / 3


class Seconds:
    """What a run takes: as measured by itself where there is a measurement, else as its record says."""

    def __init__(self, results: Results) -> None:
        content = results.measured.get("cost")
        self.measured: dict[tuple[Value, ...], float] | None = None
        self.sources: list[str] = []
        self.note = "seconds are of the machine of the record, whatever else it was doing."
        if content is not None:
            frame = pandas.DataFrame(content["rows"], columns=content["columns"])
            kinds = map(tuple, frame[list(KIND)].itertuples(index=False))
            self.measured = dict(zip(kinds, frame["updates"] * frame["seconds"], strict=True))
            self.sources = [content["source"]]
            self.note = (
                "seconds are CPU seconds of the weight updates, measured by themselves on one core of a machine."
            )

    def of(self, runs: pandas.DataFrame) -> float | None:
        """Of one run, by the mean over `runs`, which differ in the seed only."""
        if self.measured is None:
            return mean_of(runs, "seconds")
        first = runs.iloc[0]
        own = first["implementation"] == records.OWN_IMPLEMENTATION
        return self.measured.get(tuple(plain(first[name]) for name in KIND)) if own else None


def tables(results: Results) -> list[Table]:
    cells, seconds = Cells(results.training), Seconds(results)
    cost = TableBuilder(
        "cost",
        "Test accuracy against inference cost",
        [
            *cells.columns,
            Column("method"),
            Column("T/L", "g"),
            Column("steps", "d", "primal steps per weight update"),
            Column("accuracy", ".1f", "%, mean over the seeds"),
            Column("minus BP", "+.1f", "points, over the seeds that both have"),
            Column("BP gradients", ".3g", "that a weight update costs, by passes through the layers: (2T + 3)/3"),
            Column("seconds a run", ".3g", "mean over the seeds"),
            Column("times BP", ".1f", "seconds, of BP's in the same cell"),
        ],
        [
            f"{cells.note} A step size that is tracked, and a gauge, add checks that only the seconds show; "
            f"{seconds.note}"
        ],
    )
    needed = TableBuilder(
        "budget",
        "Smallest measured budget within one point of BP",
        [
            *cells.columns,
            Column("method"),
            Column("T/L", "g", "smallest measured budget whose mean accuracy is within one point of BP's"),
            Column("tried up to", "g", "the largest measured budget, T/L"),
            Column(
                "minus BP there", "+.1f", "points, at the smallest such budget, or at the best one if there is none"
            ),
        ],
        [f"Mean paired difference to BP of at most one point. {cells.note}"],
    )
    for cell, runs in cells:
        is_bp = runs["setting"] == "bp"
        of_bp, bp_sources = seconds.of(runs[is_bp]) if is_bp.any() else None, list(runs[is_bp]["source"])
        gaps: dict[str, list[tuple[float, float, list[str]]]] = {}
        for setting, budget, part in methods_of(runs):
            difference = compare(part, runs[is_bp]) if setting != "bp" else None
            gap = difference.mean if difference else None
            if gap is not None:
                gaps.setdefault(setting, []).append((budget, gap, list(part["source"])))
            mine = seconds.of(part)
            steps = 0 if setting == "bp" else int(part["steps"].iloc[0]) * int(part["inner_steps"].iloc[0])
            row = [*cell, name_of(setting), budget or None, steps, percent(mean_of(part, "test_accuracy"))]
            cost.add(
                [*row, percent(gap), bp_gradients(steps), mine, mine / of_bp if mine and of_bp else None],
                [*part["source"], *bp_sources, *seconds.sources],
            )
        for setting, tried in gaps.items():
            close = next((each for each in tried if each[1] >= -CLOSE), None)
            _, gap, sources = close or max(tried, key=lambda each: each[1])
            budget_needed = close[0] if close else None
            needed.add([*cell, name_of(setting), budget_needed, tried[-1][0], percent(gap)], [*sources, *bp_sources])
    return [cost.table(), needed.table()]
