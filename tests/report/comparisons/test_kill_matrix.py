"""Wrong implementations, and what rejects them."""

from __future__ import annotations

from pcalm.report.results import Results
from tests.report.report_cases import rows


def test_kill_matrix_by_mutant_and_by_requirement(three: Results) -> None:
    assert [(row["wrong implementation"], row["rejected by"]) for row in rows(three, "mutants")] == [
        ("sign", 2),
        ("scale", 1),
    ]
    assert [tuple(row.values()) for row in rows(three, "strength")] == [("MOD-1", 1), ("MOD-2", 2), ("MOD-3", 0)]
