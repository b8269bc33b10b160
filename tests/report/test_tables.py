"""Tables in every format, and the comparison tables from made-up records."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pcalm.experiments import records
from pcalm.report import comparisons, results
from pcalm.report.comparisons import all_tables, bootstrap_interval
from pcalm.report.results import Results
from pcalm.report.tables import FORMATS, Column, Table
from tests.report.report_cases import (
    kill_matrix,
    measured,
    record,
    speed_record,
    write_everything,
    write_grid,
    write_json,
)

TABLE = Table(
    "example",
    "An example",
    (Column("method"), Column("accuracy", ".1f"), Column("met")),
    (("a|b", 78.6543, True), ("PC & co", None, False), ("<i>", float("nan"), None)),
    sources=(("r1",), (), ("r2", "r3")),
    notes=("A note.",),
)


def test_values_are_rounded_when_shown_and_whole_in_csv() -> None:
    assert TABLE.shown() == [["a|b", "78.7", "yes"], ["PC & co", "–", "no"], ["<i>", "–", "–"]]
    rows = list(csv.reader(io.StringIO(TABLE.render("csv"))))
    assert rows[:2] == [["method", "accuracy", "met"], ["a|b", "78.6543", "True"]]


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_has_every_heading_and_number(form: str) -> None:
    text = TABLE.render(form)
    for part in (*TABLE.headers, "78."):
        assert part in text


def test_what_has_a_meaning_in_a_format_is_escaped() -> None:
    assert "a\\|b" in TABLE.render("markdown")
    assert "PC \\& co" in TABLE.render("latex")
    assert "&lt;i&gt;" in TABLE.render("html")
    assert "<i>" not in TABLE.render("html")


def test_json_has_no_nan_and_keeps_the_sources() -> None:
    found = json.loads(json.dumps(TABLE.as_json(), allow_nan=False))
    assert [row[1] for row in found["rows"]] == [78.6543, None, None]
    assert found["sources"] == [["r1"], [], ["r2", "r3"]]


def test_a_section_has_title_and_notes_and_says_when_it_is_empty() -> None:
    assert TABLE.section("markdown").startswith("## An example\n\n| method")
    assert TABLE.section().endswith("A note.")
    empty = Table("none", "None", (Column("a"),), ())
    assert "Nothing has been measured yet." in empty.section("markdown")


def test_wrong_shapes_and_formats_are_errors() -> None:
    with pytest.raises(ValueError, match="'t' has 1 columns, but a row of 2"):
        Table("t", "T", (Column("a"),), ((1, 2),))
    with pytest.raises(ValueError, match="'t' has 1 rows, but sources for 2"):
        Table("t", "T", (Column("a"),), ((1,),), sources=((), ()))
    with pytest.raises(ValueError, match="form must be one of terminal, markdown, latex, html, csv, got 'pdf'"):
        TABLE.render("pdf")


def rows(found: Results, name: str) -> list[dict[str, Any]]:
    """The rows of the table of that id, by heading."""
    (table,) = [each for each in all_tables(found) if each.id == name]
    return [dict(zip(table.headers, row, strict=True)) for row in table.rows]


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """The results of three implementations."""
    directory = tmp_path_factory.mktemp("three")
    write_everything(directory)
    return results.load(directory)


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


def test_intervals_appear_from_ten_seeds_on(tmp_path: Path) -> None:
    for seed in range(10):
        records.write(tmp_path, record("bp", seed=seed, accuracy=0.8))
        records.write(tmp_path, record("pcalm", seed=seed, accuracy=0.78 + 0.002 * seed))
    differences = [-0.02 + 0.002 * seed for seed in range(10)]
    row = rows(results.load(tmp_path), "accuracy")[1]
    low, high = bootstrap_interval(differences)
    assert (row["95 % from"], row["to"]) == pytest.approx((100 * low, 100 * high))
    # The mean's standard error is 0.00182; with it the normal interval is −0.011 ± 0.0036.
    assert low == pytest.approx(-0.0146, abs=0.0006)
    assert high == pytest.approx(-0.0074, abs=0.0006)
    assert bootstrap_interval(differences) == (low, high)


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
    assert [row["times BP"] for row in cost] == pytest.approx([1, 5, 5, 5, 5, 5])


def test_a_diverged_run_is_a_result(tmp_path: Path) -> None:
    for each in (record("bp"), record("pcalm", accuracy=-1), record("pcalm", seed=1)):
        records.write(tmp_path, each)
    found = results.load(tmp_path)
    pcalm = rows(found, "accuracy")[1]
    assert (pcalm["diverged"], pcalm["seed 0"], pcalm["mean"]) == (1, None, pytest.approx(77))
    (row,) = rows(found, "diverged")
    assert (row["seed"], row["update"], row["why"]) == (0, 7, "training diverged at update 7")


def test_what_differs_becomes_a_column_and_the_rest_a_sentence(three: Results) -> None:
    (table,) = [each for each in all_tables(three) if each.id == "overview"]
    assert table.headers == ["implementation", "N", "L", "BP", "PC, 2L", "PC-ALM, 2L", "anchored PC-ALM, 2L"]
    assert len(table.rows) == 6
    assert "data set digits" in table.notes[0]
    assert "implementation" not in table.notes[0]


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


def test_kill_matrix_by_mutant_and_by_requirement(three: Results) -> None:
    assert [(row["wrong implementation"], row["rejected by"]) for row in rows(three, "mutants")] == [
        ("sign", 2),
        ("scale", 1),
    ]
    assert [tuple(row.values()) for row in rows(three, "strength")] == [("MOD-1", 1), ("MOD-2", 2), ("MOD-3", 0)]


def test_speed_in_milliseconds_by_cell(three: Results) -> None:
    assert [(row["N"], row["bp"], row["cpu"]) for row in rows(three, "speed")] == [
        (8, 1, pytest.approx(16)),
        (32, 1, pytest.approx(64)),
    ]


def test_every_row_names_records_that_the_sources_know(three: Results) -> None:
    for table in all_tables(three):
        assert len(table.sources) == len(table.rows)
        for row in table.sources:
            assert row, table.id
            assert set(row) <= set(three.sources), table.id
    (run,) = [
        source for source in three.sources.values() if source.what == "theirs: pc digits N=8 L=8 relu T=2L seed 1"
    ]
    assert run.file.startswith("theirs/records/")
    assert (run.commit, run.machine) == ("0123456789abcdef", "abacus, Linux")


def test_what_is_missing_of_a_grid_is_said(tmp_path: Path) -> None:
    write_grid(tmp_path, seeds=1)
    table = comparisons.missing(results.load(tmp_path).training, [8, 16], [4], [("bp", 0.0), ("pc", 2.0)], [0, 1])
    assert table.rows == (
        (8, 4, 4, 2, "BP (seed 1); PC, 2L (seed 1)"),
        (16, 4, 4, 4, "all"),
    )


def test_exported_tables_are_read_like_records(tmp_path: Path) -> None:
    write_grid(tmp_path / "grid")
    loaded = records.load_table(tmp_path / "grid")
    for suffix in ("csv", "parquet"):
        (tmp_path / suffix).mkdir()
        records.export(loaded, tmp_path / suffix / f"runs.{suffix}")
        found = results.load(tmp_path / suffix)
        assert rows(found, "accuracy") == rows(results.load(tmp_path / "grid"), "accuracy")
        assert {source.file for source in found.sources.values()} == {f"runs.{suffix}"}


def test_runs_that_are_there_twice_count_once(tmp_path: Path) -> None:
    write_grid(tmp_path / "a")
    write_grid(tmp_path / "b")
    assert len(results.load(tmp_path).training) == 16


def test_other_files_are_named_with_the_reason(tmp_path: Path) -> None:
    write_grid(tmp_path)
    (tmp_path / "broken.json").write_text("{")
    write_json(tmp_path / "other.json", {"a": 1})
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    found = dict(results.load(tmp_path).unread)
    assert set(found) == {"broken.json", "other.json", "other.csv"}
    assert found["other.csv"] == "it is no table of training runs"
    assert "no kind" in found["other.json"]


def test_a_directory_without_results_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"results must be an existing directory, got '.*nowhere'"):
        results.load(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="holds no results: neither records of pcalm grid"):
        results.load(tmp_path)


def test_one_kind_of_results_is_enough(tmp_path: Path) -> None:
    write_json(tmp_path / "a" / "kill_matrix.json", kill_matrix())
    write_json(tmp_path / "b" / "speed.json", speed_record())
    assert [table.id for table in all_tables(results.load(tmp_path / "a"))] == ["mutants", "strength"]
    assert [table.id for table in all_tables(results.load(tmp_path / "b"))] == ["speed"]


def test_measurements_become_tables() -> None:
    found = Results(measured=measured())
    worst = rows(found, "alignment")[0]
    assert [worst[name] for name in ("cosine, worst", "median", "best")] == pytest.approx([0.7, 0.8, 0.9])
    assert worst["worst at"] == "relu N=8 L=8 seed 2"
    assert rows(found, "alignment-cells")[0]["norm ratio, mean"] == pytest.approx(0.6)
    assert rows(found, "evenness")[0]["min r / max r"] == pytest.approx(1 / 3)
    assert rows(found, "evenness")[0]["std / mean"] == pytest.approx(np.std([0.5, 1, 1.5, 1, 1, 1, 1]))
    assert rows(found, "arrival")[0]["exponent"] == 1.01
    pc, pcalm = rows(found, "convergence")
    assert (pc["L = 8"], pc["exponent"]) == (None, None)
    assert (pcalm["L = 16"], pcalm["exponent"], pcalm["factor"]) == (32, pytest.approx(1), pytest.approx(2))
    assert rows(found, "scattering")[0]["1.25L"] == pytest.approx(1.25 / 4)
