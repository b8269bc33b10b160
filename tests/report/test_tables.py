"""Tables in every format."""

from __future__ import annotations

import csv
import io
import json
import re
from html import escape

import pytest

from pcalm.report.tables import FORMATS, Column, Table

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


HOSTILE = ["a|b", "<b>&amp;</b>", "*x* _y_ `z` [l](u) ~~s~~ $1$", "back\\slash", "two\nlines", "\"quoted\", 'so'"]


@pytest.mark.parametrize("text", HOSTILE)
def test_what_has_a_meaning_in_a_format_is_escaped(text: str) -> None:
    """In headings, cells, titles and notes."""
    table = Table("t", text, (Column(text), Column("n")), ((text, 1), ("", 2)), notes=(text,))
    line = " ".join(text.splitlines())
    markdown = table.section("markdown").splitlines()
    for written in (markdown[0].removeprefix("## "), markdown[-1]):
        assert re.sub(r"\\([!-/:-@[-`{-~])", r"\1", written) == line
    for row in (markdown[2], markdown[4]):
        cells = re.split(r"(?<!\\)(?:\\\\)*\|", row)
        assert len(cells) == 4
        # Whatever has a meaning there has a backslash before it; without the backslashes it is what it was.
        assert not re.search(r"(?<!\\)(?:\\\\)*[<>*`\[\]&~$]", cells[1])
        assert re.sub(r"\\([!-/:-@[-`{-~])", r"\1", cells[1]).strip() == line
    html = table.render("html")
    assert escape(line, quote=False) in html.replace("&quot;", '"').replace("&#x27;", "'")
    assert [row[0] for row in csv.reader(io.StringIO(table.render("csv")))] == [text, text, ""]
    assert not re.search(r"(?<!\\)[$_]", table.render("latex"))


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


@pytest.mark.parametrize("length", [80, 81])
def test_short_texts_are_padded_to_a_long_one_but_for_the_last_column_of_markdown(length: int) -> None:
    table = Table("padded", "Padded", (Column("name"), Column("which")), (("a", "x" * length), ("long", "all")))
    heading, line, first, second = table.render("markdown").splitlines()
    assert first == f"| a      | {'x' * length} |"
    if length <= 80:
        assert {len(each) for each in (heading, line, first, second)} == {len(first)}
    else:
        assert [heading, line, second] == ["| name   | which |", "|--------|---|", "| long   | all |"]
