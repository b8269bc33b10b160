"""Training runs by cell: what a network is trained on and how, within which methods are compared."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas

from pcalm.experiments.config import LATER
from pcalm.report.tables import Column, Value

CONTEXT = (
    *("implementation", "network", "loss", "dataset", "validation"),
    *("activation", "epochs", "lr", "batch_size", "dtype", "device"),
)
CELL = (*CONTEXT, "width", "depth")
HEADINGS = {"width": "N", "depth": "L", "batch_size": "batch size", "dataset": "data set"}
# What comparisons and figures read of a run besides its cell.
USED = (
    *("key", "source", "setting", "budget", "seed", "steps", "inner_steps", "status", "diverged_step", "divergence"),
    *("test_accuracy", "test_correct", "gradient_cosine", "gradient_norm_ratio", "eigenvalue", "growth"),
    "seconds",
)
NAMED = 10  # seeds by their numbers, at most
Row = list[Value]


class Cells:
    """Training runs by cell: which parts of the context differ become columns, the others a sentence."""

    def __init__(self, training: pandas.DataFrame) -> None:
        # Few columns, and text as plain objects: pandas takes a cell's rows from each column by itself.
        frame = training[[*CELL, *USED]].assign(budget=training["budget"].fillna(0.0))
        self.frame = frame.astype(
            {name: object for name, dtype in frame.dtypes.items() if str(dtype) in ("str", "Int64")}
        )
        self.varying = [name for name in CONTEXT if training[name].nunique() > 1]
        first = {} if training.empty else training.iloc[0].to_dict()
        # Later settings go without saying where they have their first value.
        fixed = [
            name
            for name in CONTEXT
            if name not in self.varying and not (name in LATER and first.get(name) == LATER[name])
        ]
        shared = [f"{HEADINGS.get(name, name)} {first[name]}" for name in fixed if first]
        self.note = "All runs: " + ", ".join([*shared, *self._seeds()]) + "."
        self.columns = [Column(HEADINGS.get(name, name)) for name in (*self.varying, "width", "depth")]

    def __iter__(self) -> Iterator[tuple[Row, pandas.DataFrame]]:
        """The cell's part of a row, and its runs."""
        for _, runs in self.frame.groupby(list(CELL), sort=True):
            first = runs.iloc[0]
            yield [plain(first[name]) for name in (*self.varying, "width", "depth")], runs

    def contexts(self) -> Iterator[tuple[dict[str, Any], pandas.DataFrame]]:
        """What differs from one context to another, by name, and all runs of that context."""
        for _, runs in self.frame.groupby(list(CONTEXT), sort=True):
            yield {name: plain(runs.iloc[0][name]) for name in self.varying}, runs

    def _seeds(self) -> list[str]:
        """Which seeds there are, in words; a row's mean is over those of them that were run."""
        found = self.seeds
        if len(found) > NAMED:
            return [f"{len(found)} seeds"]
        return [f"seed{'s' if len(found) > 1 else ''} {', '.join(map(str, found))}"] if found else []

    @property
    def seeds(self) -> list[int]:
        return sorted(self.frame["seed"].unique().tolist())


def plain(value: Any) -> Value:
    """A NumPy number as Python's own."""
    plain: Value = value.item() if isinstance(value, np.generic) else value
    return plain
