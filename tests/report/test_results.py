"""Reading a directory of results: what there is, once, with its source, and what was not read."""

from __future__ import annotations

from pathlib import Path

import pytest

from pcalm.experiments import records
from pcalm.report import results
from pcalm.report.comparisons import all_tables
from pcalm.report.results import Results
from tests.report.report_cases import kill_matrix, rows, speed_record, write_grid, write_json


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
    found = results.load(tmp_path).unread
    assert set(found) == {"broken.json", "other.json", "other.csv"}
    assert found["other.csv"] == "it is no table of training runs: it lacks key, setting, test_accuracy"
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
