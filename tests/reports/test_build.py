"""The shipped results: rebuilt from the shipped data with no difference, small, and honest about what is missing."""

from __future__ import annotations

import importlib.metadata
import re
from pathlib import Path
from typing import Any

import pandas
import pytest

from pcalm.experiments import records
from pcalm.report import results
from reports import build, collect, findings
from tests.report.report_cases import record

ROOT = Path(__file__).parents[2]
DATA = ROOT / "reports" / "data"
DOCUMENTS = {"results.md", "implementations.md"}
# What a drawing's bytes depend on.
DRAWN_WITH = ("matplotlib", "numpy", "pandas")


@pytest.fixture(scope="module")
def made() -> dict[str, str]:
    return build.files(DATA)


def test_the_documents_are_rebuilt_with_no_difference(made: dict[str, str]) -> None:
    for name in DOCUMENTS:
        assert made[name] == (ROOT / "reports" / name).read_text(encoding="utf-8"), name


def test_the_readme_shows_the_shipped_data(made: dict[str, str]) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert build.readme(text, DATA) == text
    (figure,) = re.findall(r"!\[.*\]\((.*)\)", text)
    assert (ROOT / figure).is_file()
    with pytest.raises(ValueError, match="where its table begins"):
        build.readme("no comments", DATA)


def test_the_figures_are_rebuilt_with_no_difference(made: dict[str, str]) -> None:
    shipped = {f"figures/{path.name}": path for path in (ROOT / "reports" / "figures").iterdir()}
    assert shipped.keys() == made.keys() - DOCUMENTS
    pins = dict(re.findall(r"^([\w-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    installed = {name: importlib.metadata.version(name) for name in DRAWN_WITH}
    if installed != {name: pins[name] for name in DRAWN_WITH}:
        pytest.skip(f"drawings are compared with the releases of constraints.txt only, and there are {installed}")
    for name, path in shipped.items():
        assert made[name] == path.read_text(encoding="utf-8"), name


def test_the_shipped_data_is_small_and_all_of_it_is_read() -> None:
    """Half of it are the runs, of which the full grids have some 900; a clone should stay a matter of seconds."""
    assert sum(path.stat().st_size for path in DATA.rglob("*") if path.is_file()) <= 4 * 2**20
    assert results.load(DATA).unread == {}


def test_what_a_document_shows_is_there_and_what_is_missing_is_said(tmp_path: Path) -> None:
    for setting, width in (("bp", 8), ("pc", 8), ("bp", 16)):
        cell: dict[str, Any] = {"dataset": "fashion-mnist", "width": width, "depth": 8}
        records.write(tmp_path, record(setting, **cell))
    text = build.files(tmp_path)["results.md"]
    assert set(re.findall(r"\]\((figures/[^)]*)\)", text)) == build.files(tmp_path).keys() - DOCUMENTS
    assert re.search(r"relu +\| +8 \| +8 \| +18 \| +16 \| BP \(seed 1, 2\); PC, 2L \(seed 1, 2\); PC-ALM, 2L;", text)
    missing = re.findall(r"^\| (\w+) +\| +(\d+) \| +(\d+) \| +\d+ \| +\d+ \| all +\|$", text, re.MULTILINE)
    assert missing[-1] == ("linear", "128", "128")
    assert [int(width) for _, width, _ in missing] == sorted(int(width) for _, width, _ in missing)
    assert "0123456789abcdef" in text


def test_deep_networks_have_a_section_of_their_own(tmp_path: Path) -> None:
    records.write(tmp_path, record("bp", depth=1000))
    text = build.files(tmp_path)["results.md"]
    assert "## Deeper" in text
    assert "## Accuracy over width" in text  # of which every run is missing
    assert text.count("all  ") >= 25


def test_collected_runs_join_those_that_are_there(tmp_path: Path) -> None:
    first = record("bp", dataset="fashion-mnist", width=32, depth=32)
    records.write(tmp_path / "a", first)
    records.write(tmp_path / "a", record("bp"))
    assert collect.collect(tmp_path / "a", tmp_path / "data") == 2
    again = type(first)(**{**vars(first), "finished": "2027-01-01T00:00:00+00:00"})
    for each in (again, record("pc", dataset="fashion-mnist", width=32, depth=32)):
        records.write(tmp_path / "b", each)
    assert collect.collect(tmp_path / "b", tmp_path / "data") == 2
    found = results.load(tmp_path / "data")
    assert sorted(found.training["setting"]) == ["bp", "bp", "pc"]
    assert list(found.training["key"]) == sorted(found.training["key"])
    assert found.training.set_index("key").loc[first.key, "finished"] == "2027-01-01T00:00:00+00:00"
    curves = pandas.read_csv(tmp_path / "data" / "curves.csv")
    assert len(curves) == 4  # two updates of the two runs of the paper's cell
    with pytest.raises(ValueError, match="source must be an existing directory"):
        collect.collect(tmp_path / "nowhere", tmp_path / "data")


def test_three_findings_lead_each_with_its_figure_and_a_table(made: dict[str, str]) -> None:
    headings = re.findall(r"^## (.*)$", made["results.md"], re.MULTILINE)
    assert [heading[:3] for heading in headings[:3]] == ["1. ", "2. ", "3. "]
    for part in re.split(r"^## ", made["results.md"], flags=re.MULTILINE)[1:4]:
        (figure,) = re.findall(r"!\[.*\]\((figures/.*)\)", part)
        assert figure in made
        assert len(re.findall(r"^\|", part, re.MULTILINE)) > 3


def test_a_findings_numbers_are_those_of_its_tables(made: dict[str, str]) -> None:
    first = re.split(r"^## ", made["results.md"], flags=re.MULTILINE)[1]
    text = " ".join(first.split())
    for method in ("PC", "PC-ALM"):
        (row,) = re.findall(rf"^\| relu +\| {method}, 2L +\| BP +\|(.*)\|$", first, re.MULTILINE)
        cells, _, _, worse, _, _, least, _ = [cell.strip() for cell in row.split("|")]
        assert re.search(rf"{method} (is worse than BP beyond doubt )?in {worse} of {cells}", text)
        assert f"by {least.lstrip('-')} points at worst" in text


def test_the_deepest_networks_are_told_of_from_their_table(made: dict[str, str]) -> None:
    second = re.split(r"^## ", made["results.md"], flags=re.MULTILINE)[2]
    (row,) = re.findall(r"^\|(.* 1000 .*)\|$", second, re.MULTILINE)
    text = " ".join(second.split())
    *_, bp, pc, pcalm, anchored, gauged = (cell.strip() for cell in row.split("|"))
    assert f"BP gets {bp} % of the test images right, and at 2L PC {pc}, PC-ALM {pcalm}, anchored PC-ALM" in text
    assert f"anchored PC-ALM {anchored}, gauged anchored PC-ALM {gauged}." in text


def test_without_data_there_is_no_finding(tmp_path: Path) -> None:
    records.write(tmp_path, record("bp", dataset="fashion-mnist"))
    found = results.load(tmp_path)
    assert findings.findings(found, found, found) == []
