"""Conformance by requirement and implementation."""

from __future__ import annotations

from pathlib import Path

from pcalm.report.comparisons import conformance
from pcalm.report.results import Results, load
from tests.report.report_cases import conformance_report, rows, write_json


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


def test_a_requirement_that_passed_in_part_says_how_much_of_it(tmp_path: Path) -> None:
    write_json(tmp_path / "run.json", {**conformance_report("partial", "passed in part"), "complete": False})
    found = load(tmp_path)
    assert [row["partial"] for row in rows(found, "conformance")] == ["passed", "passed in part (3 of 9)"]
    assert rows(found, "conformance-figures")[1]["verdict"] == "passed in part (3 of 9)"
    assert "conformance-1 was broken off." in conformance.tables(found)[0].notes
