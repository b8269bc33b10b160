"""Comparisons of implementations by the suite become tables."""

from __future__ import annotations

from pcalm.report.comparisons import implementations
from pcalm.report.kinds import recognise
from pcalm.report.results import Results
from tests.report.report_cases import comparison


def test_tables_of_comparisons() -> None:
    made = [comparison(about) for about in ("cell", "training", "suite")]
    found = [{**recognise(content)[1], "source": f"comparison-{index}"} for index, content in enumerate(made)]
    right, fast, learning = implementations.tables(Results(comparisons=found))
    assert right.rows == (("theirs", "1 · model", 3, 1, 0, 0, 0),)
    assert [row[4:8] for row in fast.rows] == [("PC", "theirs", "prepare", 4.0), ("PC-ALM", "theirs", None, None)]
    assert fast.rows[0][-2:] == (1.0, None)
    assert fast.rows[1][-2:] == (None, "unsupported")
    assert learning.rows == (("theirs", "BP", 90.0, 2, 1.0, 44.0, None),)
    assert implementations.tables(Results())[1].rows == ()
