"""Speed by cell and engine."""

from __future__ import annotations

import pytest

from pcalm.report.results import Results
from tests.report.report_cases import rows


def test_speed_in_milliseconds_by_cell(three: Results) -> None:
    assert [(row["N"], row["bp"], row["cpu"]) for row in rows(three, "speed")] == [
        (8, 1, pytest.approx(16)),
        (32, 1, pytest.approx(64)),
    ]
