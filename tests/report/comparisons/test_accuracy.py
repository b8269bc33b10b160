"""Accuracy by cell, method and seed: means, paired differences, intervals, and the paper's figures beside ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pcalm.experiments import records
from pcalm.report import results
from pcalm.report.comparisons import all_tables
from pcalm.report.results import Results
from tests.report.report_cases import record, rows, write_grid


def test_accuracy_has_every_seed_mean_range_and_paired_difference(tmp_path: Path) -> None:
    write_grid(tmp_path)
    found = rows(results.load(tmp_path), "accuracy")
    assert [(row["L"], row["method"]) for row in found[:4]] == [
        (4, "BP"),
        (4, "PC"),
        (4, "PC-ALM"),
        (4, "anchored PC-ALM"),
    ]
    pcalm = found[2]
    assert [pcalm[name] for name in ("seed 0", "seed 1", "mean", "min", "max", "minus BP")] == pytest.approx(
        [78, 77, 77.5, 77, 78, -2]
    )
    assert pcalm["cosine to BP"] == pytest.approx(0.9)
    assert found[0]["minus BP"] is None
    assert "the paper's accuracy" not in pcalm  # it is of another cell


def test_differences_are_paired_by_seed(tmp_path: Path) -> None:
    for each in (record("bp", seed=0), record("bp", seed=1, accuracy=0.5), record("pcalm", seed=0)):
        records.write(tmp_path, each)
    found = rows(results.load(tmp_path), "accuracy")
    assert found[0]["mean"] == pytest.approx(65)
    assert found[1]["minus BP"] == pytest.approx(-2)  # to 80 in seed 0, not to the mean
    assert found[1]["seed 1"] is None


def test_a_difference_outside_its_interval_is_bold_and_none_inside_it(tmp_path: Path) -> None:
    for seed in range(3):
        for setting, accuracy in (("bp", 0.8), ("pc", 0.6 + 0.01 * seed), ("pcalm", 0.79 + 0.005 * seed)):
            cell: dict[str, Any] = {"dataset": "fashion-mnist", "seed": seed}
            records.write(tmp_path, record(setting, accuracy=accuracy, **cell))
    (table,) = [each for each in all_tables(results.load(tmp_path)) if each.id == "accuracy"]
    found = rows(results.load(tmp_path), "accuracy")
    assert [(row["95 % from"] or -1) < 0 < (row["to"] or 1) for row in found] == [True, False, True]
    assert [row["interval"] for row in found] == [None, "bound", "bound"]
    text = table.render("markdown").splitlines()
    assert [line.count("**") for line in text] == [0, 0, 0, 2, 0]
    assert "**-19.0**" in text[3]


def test_the_papers_figures_stand_beside_ours(tmp_path: Path) -> None:
    cell: dict[str, Any] = {"dataset": "fashion-mnist", "width": 32, "depth": 32}
    for setting, budget in (("bp", 2), ("pc", 2), ("pcalm", 2), ("pcalm", 4), ("anchored", 2)):
        records.write(tmp_path, record(setting, budget=budget, **cell))
    found = {(row["method"], row["T/L"]): row for row in rows(results.load(tmp_path), "accuracy")}
    theirs = {key: row["the paper's accuracy"] for key, row in found.items()}
    assert theirs == {
        ("BP", None): pytest.approx(78.7),
        ("PC", 2): pytest.approx(68.1),
        ("PC-ALM", 2): pytest.approx(77.8),
        ("PC-ALM", 4): None,
        ("anchored PC-ALM", 2): None,
    }
    assert found["PC-ALM", 2]["ours minus it"] == pytest.approx(78 - 77.8)
    assert found["PC-ALM", 2]["our cosine minus it"] == pytest.approx(0.9 - 0.91)


def test_what_differs_becomes_a_column_and_the_rest_a_sentence(three: Results) -> None:
    (table,) = [each for each in all_tables(three) if each.id == "overview"]
    assert table.headers == ["implementation", "N", "L", "BP", "PC, 2L", "PC-ALM, 2L", "anchored PC-ALM, 2L"]
    assert len(table.rows) == 6
    assert "data set digits" in table.notes[0]
    assert table.notes[0].endswith("seeds 0, 1.")
    assert "implementation" not in table.notes[0]
