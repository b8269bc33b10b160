"""Files that are not what they should be never end a report: each is listed with the reason, the others are shown."""

from __future__ import annotations

import copy
import hashlib
import html
import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas
import pytest
from pcalm_conformance import records as suite_records
from typer.testing import CliRunner

from pcalm.cli import app
from pcalm.experiments import records
from pcalm.report import results
from pcalm.report.comparisons import SUBJECTS
from pcalm.report.figures import all_figures
from pcalm.report.kinds import recognise
from pcalm.report.page import PAGE
from pcalm.report.results import Results
from tests.report.report_cases import (
    as_written,
    comparison,
    conformance_report,
    kill_matrix,
    measured,
    record,
    speed_record,
    write_json,
)

KINDS: dict[str, dict[str, Any]] = {
    "conformance": conformance_report("theirs"),
    "mutants": kill_matrix(),
    "speed": speed_record(),
    **{f"comparison {about}": comparison(about) for about in ("cell", "training", "suite")},
    **{f"measured {name}": json.loads(json.dumps(as_written(content))) for name, content in measured().items()},
}
WRONG: tuple[Any, ...] = (None, True, 0, -1, 1.5, 1e999, 10**30, "", "a\n|<b>$", "\ud800", [], [None], {}, {"a": 1})
Path_ = tuple[Any, ...]


def places(content: Any, most: int = 2, at: Path_ = ()) -> Iterator[Path_]:
    """The places of all values in a file's content; of a list's items the first ones."""
    if at:
        yield at
    inner = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for index, (key, value) in enumerate(inner):
        if isinstance(content, dict) or index < most:
            yield from places(value, most, (*at, key))


def changed(content: Any, at: Path_, value: Any = None, *, drop: bool = False) -> Any:
    """A copy with another value at a place, or with none."""
    made = copy.deepcopy(content)
    inner = made
    for key in at[:-1]:
        inner = inner[key]
    if drop:
        del inner[at[-1]]
    else:
        inner[at[-1]] = value
    return made


def taken_in(content: Any) -> Results | None:
    """Results of one file of that content, or None if it is refused."""
    try:
        kind, checked, _ = recognise(content)
    except ValueError:
        return None
    checked["source"] = "source"
    lists = {"conformance report": "conformance", "kill matrix": "kill_matrices", "speed record": "speed"}
    lists["comparison"] = "comparisons"
    return Results(**{lists[kind]: [checked]} if kind in lists else {"measured": {checked["measurement"]: checked}})


def show(found: Results) -> None:
    """All tables of the kinds that are there, in two formats, one of which has all digits."""
    for subject in SUBJECTS[4:]:  # the first ones are of training runs
        for table in subject.tables(found):
            table.render("csv")
            table.render("markdown")


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_with_a_wrong_field_is_refused_or_can_be_shown(kind: str) -> None:
    chance = random.Random(0)
    refused = 0
    for at in places(KINDS[kind]):
        cases = [changed(KINDS[kind], at, drop=True), *(changed(KINDS[kind], at, value) for value in WRONG)]
        for case in cases:
            found = taken_in(case)
            if found is None:
                refused += 1
            elif chance.random() < 0.2:
                show(found)
    assert refused > 50


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.startswith("measured")])
def test_what_is_not_refused_can_be_drawn(kind: str) -> None:
    chance = random.Random(0)
    cases = [changed(KINDS[kind], at, value) for at in places(KINDS[kind]) for value in WRONG]
    accepted = [found for case in cases if (found := taken_in(case)) is not None]
    for found in chance.sample(accepted, min(2, len(accepted))):
        for figure in all_figures(found):
            figure.svg()


BAD_FILES = {
    "mutants.json": ({"mutants": {"a": 1}}, "mutants.a must be an object, got 1"),
    "chapter.json": (
        changed(KINDS["conformance"], ("records", 1, "chapter"), drop=True),
        r"records[1] lacks 'chapter'",
    ),
    "speed.json": ({"cell": 1, "machine": 2}, "cell must be an object, got 1"),
    "newer.json": ({**KINDS["conformance"], "schema": 99}, "it is of schema 99, and this version of pcalm reads up to"),
    "unheard.json": ({"measurement": "unheard of"}, "measurement must be one of alignment"),
    "list.json": ([1], "it holds no object but list"),
    "half.json": (changed(KINDS["measured credit"], ("shares", 0, "share", 0), drop=True), "must have 7 layers, got 6"),
    "halves of characters.json": (changed(KINDS["speed"], ("cell", "device"), "\ud800"), "without control characters"),
}


def resealed(directory: Path, made: records.Record, *at: Any, value: Any) -> str:
    """Puts another value into a record's file, with a checksum that is right; returns the file's name."""
    path = records.path_of(directory, made.key)
    records.write(directory, made)
    first, second, _ = path.read_bytes().split(b"\n")
    head, curve = json.loads(first), json.loads(second)
    if at[0] == "curve":
        curve = changed(curve, at[1:], value)
    else:
        head = changed(head, at, value)
    body = b"\n".join(json.dumps(each).encode() for each in (head, curve)) + b"\n"
    path.write_bytes(body + hashlib.sha256(body).hexdigest().encode())
    return str(path.relative_to(directory))


def test_a_report_lists_what_it_did_not_read_and_shows_the_rest(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    for setting in ("bp", "pcalm"):
        records.write(runs, record(setting))
    wrong = {name: reason for name, (content, reason) in BAD_FILES.items()}
    for name, (content, _) in BAD_FILES.items():
        write_json(runs / name, content)
    (runs / "deep.json").write_text("[" * 100_000, encoding="utf-8")
    (runs / "bytes.json").write_bytes(b"\xff\xfe{")
    (runs / "folder.json").mkdir()
    (runs / "curves.csv").write_text("key,step\n1,2\n", encoding="utf-8")
    (runs / "broken.parquet").write_bytes(b"PAR1 no table")
    table = records.load_table(runs).assign(depth=0)
    records.export(table, runs / "zero.csv")
    wrong |= {"deep.json": "nested too deep", "bytes.json": "codec can't decode", "broken.parquet": "arquet"}
    wrong |= {"curves.csv": "no table of learning curves", "zero.csv": "depth of row 1 must be an integer from 1"}
    heads: list[tuple[str, Any, tuple[str, ...]]] = [
        ("config must be an object", 1, ("config",)),
        ("config.depth must be an integer from 1", 0, ("config", "depth")),
        ("replicas must be an integer from 1", 0, ("replicas",)),
        ("summary.test_accuracy must be a finite number from 0 to 1", 1e999, ("summary", "test_accuracy")),
        ("summary.divergence must be an object", "?", ("summary", "divergence")),
        ("config has momentum, which this version of pcalm does not know", 1, ("config", "momentum")),
    ]
    for number, (reason, value, at) in enumerate(heads):
        wrong[resealed(runs, record("pc", seed=number), *at, value=value)] = reason
    unknown = changed(KINDS["speed"], ("extra",), 1)
    write_json(runs / "unknown.json", unknown)
    wrong["unknown.json"] = "read without what this version of pcalm does not know: extra"

    done = CliRunner().invoke(app, ["report", "--results", str(runs), "--output", str(tmp_path / "pages")])
    assert (done.exit_code, done.stderr) == (0, "")
    found = results.load(runs)
    assert len(found.training) == 2
    assert found.unread.keys() == wrong.keys()
    for name, reason in wrong.items():
        assert reason in found.unread[name], name
    text = html.unescape((tmp_path / "pages" / PAGE).read_text(encoding="utf-8"))
    listed = text.split("Files that were not read, or not in full")[1].split("</section>")[0]
    assert len(re.findall("<li>", listed)) == len(wrong)
    assert all(f"{name}: " in listed for name in wrong)


def test_nothing_but_wrong_files_is_one_sentence_with_the_reason(tmp_path: Path) -> None:
    write_json(tmp_path / "mutants.json", {"mutants": {"a": 1}})
    done = CliRunner().invoke(app, ["report", "--results", str(tmp_path), "--output", str(tmp_path / "pages")])
    assert done.exit_code == 2
    assert re.fullmatch(r"pcalm: .*holds no results.*mutants\.a must be an object, got 1\n", done.stderr), done.stderr


@pytest.mark.parametrize("values", [[0.5], "abc", ["a", "b"], [1e999, 0.5]])
def test_a_run_without_a_sound_curve_is_shown_without_it(values: Any, tmp_path: Path) -> None:
    resealed(tmp_path, record("bp"), "curve", "loss", value=values)
    found = results.load(tmp_path)
    assert len(found.training) == 1
    assert found.curves_of(set(found.training["key"])).empty
    assert "learning-curves" not in [figure.id for figure in all_figures(found)]


def test_a_measurement_that_is_there_twice_is_not_read_twice(tmp_path: Path) -> None:
    for name in ("a.json", "b.json"):
        write_json(tmp_path / name, KINDS["measured scattering"])
    assert results.load(tmp_path).unread == {"b.json": "the same measurement was read from a.json"}


def test_an_implementation_may_be_called_na(tmp_path: Path) -> None:
    """To pandas, "NA" in a CSV file is no value unless it is told otherwise."""
    records.write(tmp_path / "runs", record("bp", implementation="NA"))
    records.export(records.load_table(tmp_path / "runs"), tmp_path / "table.csv")
    assert records.load_table(tmp_path / "table.csv")["implementation"].tolist() == ["NA"]
    assert pandas.read_csv(tmp_path / "table.csv")["implementation"].isna().all()


def test_all_that_the_suite_writes_is_known() -> None:
    one = suite_records.Record("MOD-1", "theirs", "passed")
    written = suite_records.report(
        [one], complete=True, level="quick", dtype="float64", device="cpu", versions={}, platform="Linux"
    )
    kind, _, unknown = recognise(json.loads(json.dumps(written)))
    assert (kind, list(unknown)) == ("conformance report", [])
