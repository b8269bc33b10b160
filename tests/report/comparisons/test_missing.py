"""Runs of a grid that are not there."""

from __future__ import annotations

from pathlib import Path

from pcalm.report import results
from pcalm.report.comparisons import missing
from pcalm.report.tables import Column
from tests.report.report_cases import write_grid


def test_what_is_missing_of_a_grid_is_said(tmp_path: Path) -> None:
    write_grid(tmp_path, seeds=1)
    columns = {"activation": Column("activation"), "width": Column("N", "d"), "depth": Column("L", "d")}
    methods = {"relu": [("bp", 0.0), ("pc", 2.0)], "tanh": [("pc", 2.0)]}
    planned = {(activation, width, 4): methods[activation] for width in (8, 16) for activation in methods}
    table = missing.table(results.load(tmp_path).training, columns, planned, [0, 1])
    assert [column.name for column in table.columns] == ["activation", "N", "L", "runs", "missing", "which"]
    assert table.notes == ("Of seeds 0, 1 and relu: BP, PC, 2L; tanh: PC, 2L.",)
    assert table.rows == (
        ("relu", 8, 4, 4, 2, "BP (seed 1); PC, 2L (seed 1)"),
        ("tanh", 8, 4, 2, 2, "all"),
        ("relu", 16, 4, 4, 4, "all"),
        ("tanh", 16, 4, 2, 2, "all"),
    )
