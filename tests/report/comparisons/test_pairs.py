"""Methods against each other, seed by seed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pcalm.experiments import records
from pcalm.report import results
from tests.report.report_cases import record, rows


def test_pairs_are_held_against_each_other_seed_by_seed(tmp_path: Path) -> None:
    for seed, papers, ours in ((0, 0.7, 0.72), (1, 0.8, 0.79), (2, 0.6, None)):
        cell: dict[str, Any] = {"dataset": "fashion-mnist", "seed": seed}
        records.write(tmp_path, record("pcalm", accuracy=papers, **cell))
        if ours is not None:
            records.write(tmp_path, record("anchored", accuracy=ours, budget=1.25, **cell))
    (row,) = rows(results.load(tmp_path), "pairs")
    assert (row["method"], row["less"]) == ("anchored PC-ALM, 1.25L", "PC-ALM, 2L")
    assert (row["seeds"], row["difference"]) == (2, pytest.approx(0.5))
    assert row["95 % from"] < -1 < 2 < row["to"]  # the range of the seeds, and the test samples' error


def test_the_summary_counts_cells_by_their_intervals(tmp_path: Path) -> None:
    for width, accuracy in ((8, 0.85), (16, 0.8), (32, 0.7)):
        for seed in range(2):
            cell: dict[str, Any] = {"dataset": "fashion-mnist", "seed": seed, "width": width}
            records.write(tmp_path, record("bp", accuracy=0.8, **cell))
            records.write(tmp_path, record("pcalm", accuracy=accuracy, **cell))
    (row,) = rows(results.load(tmp_path), "pairs-summary")
    counts = [row[name] for name in ("cells", "runs", "better", "worse", "undecided")]
    assert counts == [3, 6, 1, 1, 1]
    assert [row[name] for name in ("difference, mean", "least", "most")] == pytest.approx([-5 / 3, -10, 5])


def test_every_method_is_held_against_bp_and_the_others_at_its_budget(tmp_path: Path) -> None:
    cell: dict[str, Any] = {"dataset": "fashion-mnist", "seed": 0}
    records.write(tmp_path, record("bp", accuracy=0.8, **cell))
    for method in ("pc", "pcalm"):
        for budget in (2.0, 3.0):
            records.write(tmp_path, record(method, accuracy=0.7, budget=budget, step_size="tracked", **cell))
    found = [(row["method"], row["less"]) for row in rows(results.load(tmp_path), "pairs")]
    pc, pcalm = ([f"{name} (tracked η), {budget}L" for budget in (2, 3)] for name in ("PC", "PC-ALM"))
    assert found == [*((each, "BP") for each in (*pc, *pcalm)), *zip(pcalm, pc, strict=True)]
