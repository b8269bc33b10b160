"""Runs that diverged."""

from __future__ import annotations

from pathlib import Path

import pytest

from pcalm.experiments import records
from pcalm.report import results
from tests.report.report_cases import record, rows


def test_a_diverged_run_is_a_result(tmp_path: Path) -> None:
    for each in (record("bp"), record("pcalm", accuracy=-1), record("pcalm", seed=1)):
        records.write(tmp_path, each)
    found = results.load(tmp_path)
    pcalm = rows(found, "accuracy")[1]
    assert (pcalm["diverged"], pcalm["seed 0"], pcalm["mean"]) == (1, None, pytest.approx(77))
    (row,) = rows(found, "diverged")
    assert (row["seed"], row["update"], row["why"]) == (0, 7, "training diverged at update 7")
