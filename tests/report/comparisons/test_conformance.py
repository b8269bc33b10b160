"""Conformance by requirement and implementation."""

from __future__ import annotations

from pcalm.report.results import Results
from tests.report.report_cases import rows


def test_conformance_has_one_column_per_implementation(three: Results) -> None:
    found = rows(three, "conformance")
    assert [row["requirement"] for row in found] == ["MOD-1", "MOD-2"]
    assert [found[1][name] for name in ("pcalm", "theirs", "others")] == ["passed", "failed", "unsupported"]
    (failed,) = [row for row in rows(three, "conformance-figures") if row["verdict"] == "failed"]
    assert (failed["implementation"], failed["measured"], failed["must be"], failed["bound"]) == (
        "theirs",
        1.5,
        "<=",
        1,
    )
