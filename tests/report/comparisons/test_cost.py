"""Accuracy against what inference costs."""

from __future__ import annotations

from pathlib import Path

import pytest

from pcalm.experiments import records
from pcalm.report import results
from tests.report.report_cases import as_written, measured, record, rows, write_json


def test_the_smallest_budget_within_a_point_of_bp(tmp_path: Path) -> None:
    for setting, budget, accuracy in (
        *(("bp", 2, 0.8), ("pcalm", 1, 0.7), ("pcalm", 2, 0.791), ("pcalm", 4, 0.8)),
        *(("pc", 2, 0.7), ("pc", 4, 0.72)),
    ):
        records.write(tmp_path, record(setting, budget=budget, accuracy=accuracy))
    found = rows(results.load(tmp_path), "budget")
    assert [(row["method"], row["T/L"], row["tried up to"]) for row in found] == [("PC", None, 4), ("PC-ALM", 2, 4)]
    assert [row["minus BP there"] for row in found] == pytest.approx([-8, -0.9])
    cost = rows(results.load(tmp_path), "cost")
    assert [row["steps"] for row in cost] == [0, 8, 16, 4, 8, 16]
    # T = 4: four times two passes, and three, to BP's three.
    assert [row["BP gradients"] for row in cost] == pytest.approx([1, 19 / 3, 35 / 3, 11 / 3, 19 / 3, 35 / 3])
    assert [row["times BP"] for row in cost] == pytest.approx([1, 5, 5, 5, 5, 5])


def test_a_measurement_of_cost_takes_the_place_of_the_records_seconds(tmp_path: Path) -> None:
    for implementation in ("pcalm", "theirs"):
        for setting in ("bp", "pc", "anchored"):
            records.write(tmp_path / implementation, record(setting, depth=4, implementation=implementation))
    write_json(tmp_path / "cost.json", as_written(measured()["cost"]))
    found = {(row["implementation"], row["method"]): row for row in rows(results.load(tmp_path), "cost")}
    # 22 updates of 1 ms for BP, and of 5 ms at a budget of 2L; nobody measured anchored PC-ALM, nor theirs.
    assert found["pcalm", "BP"]["seconds a run"] == pytest.approx(0.022)
    assert found["pcalm", "PC"]["seconds a run"] == pytest.approx(0.11)
    assert found["pcalm", "PC"]["times BP"] == pytest.approx(5)
    assert found["pcalm", "anchored PC-ALM"]["seconds a run"] is None
    assert found["theirs", "PC"]["seconds a run"] is None
