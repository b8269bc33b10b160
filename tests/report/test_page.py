"""The page in a real browser: sorting and filtering by keyboard, narrow screens, no errors, and every number's source.

These tests need headless Chromium and playwright. Where one is missing they are skipped with their name and the reason,
and with CI=true in the environment they fail.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from pcalm_conformance.comparison import page as comparison_page
from typer.testing import CliRunner

from pcalm.cli import app
from pcalm.experiments import records
from pcalm.report import page, results
from pcalm.report.comparisons import all_tables
from pcalm.report.figures.styles import STYLES
from pcalm.report.tables import FORMATS, SUFFIXES, Table
from pcalm.report.write import write_report
from tests.report.report_cases import (
    comparison,
    conformance_report,
    many,
    record,
    write_everything,
    write_grid,
    write_json,
)

FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--no-first-run"),
]
DESKTOP, PHONE = (1280, 900), (390, 844)
Open = Callable[..., Any]


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pages of three implementations' conformance and training records, and one of everything else."""
    directory = tmp_path_factory.mktemp("report")
    write_everything(directory / "results")
    write_report(directory / "results", directory / "pages")
    return directory / "pages"


@pytest.fixture(scope="module")
def launched() -> Iterator[Any]:
    """The browser, or the reason why there is none."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        yield "there is no chromium: on Debian and Ubuntu, apt-get install chromium"
        return
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        yield "there is no playwright: pip install 'pcalm[browser]'"
        return
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def visit(launched: Any, pages: Path, request: pytest.FixtureRequest) -> Iterator[Open]:
    """Opens the page; at the end, no page may have written to the console or asked for anything else."""
    if isinstance(launched, str):
        reason = f"{request.node.name} did not run: {launched}"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(reason)
    complaints: list[str] = []
    contexts = []

    def open_page(size: tuple[int, int] = DESKTOP, where: Path = pages, **options: Any) -> Any:
        context = launched.new_context(viewport={"width": size[0], "height": size[1]}, **options)
        contexts.append(context)
        opened = context.new_page()
        opened.on("console", lambda message: complaints.append(message.text))
        opened.on("pageerror", lambda error: complaints.append(str(error)))
        opened.on("request", lambda sent: complaints.append(sent.url) if sent.url.startswith("http") else None)
        opened.goto((where / page.PAGE).as_uri())
        return opened

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


def column(opened: Any, table: str, index: int) -> list[str]:
    """The visible texts of a column."""
    return [
        text.strip() for text in opened.locator(f"#{table} tbody tr:visible td:nth-child({index})").all_inner_texts()
    ]


def test_sorting_by_keyboard(visit: Open) -> None:
    opened = visit()
    heading = opened.locator("#accuracy th", has_text=re.compile("^mean"))
    index = 1 + opened.locator("#accuracy th").all_inner_texts().index("mean")
    before = column(opened, "accuracy", index)
    assert len(before) == 24
    heading.locator("button").focus()
    opened.keyboard.press("Enter")
    assert heading.get_attribute("aria-sort") == "ascending"
    assert [float(text) for text in column(opened, "accuracy", index)] == sorted(map(float, before))
    opened.keyboard.press("Space")
    assert heading.get_attribute("aria-sort") == "descending"
    assert [float(text) for text in column(opened, "accuracy", index)] == sorted(map(float, before), reverse=True)
    opened.keyboard.press("Tab")
    opened.keyboard.press("Enter")
    assert heading.get_attribute("aria-sort") == "none"


def test_missing_values_come_last_both_ways_and_text_sorts_too(visit: Open) -> None:
    opened = visit()
    headings = opened.locator("#accuracy th").all_inner_texts()
    gap = opened.locator("#accuracy th button").nth(headings.index("minus BP"))
    for _ in range(2):
        gap.click()
        shown = column(opened, "accuracy", 1 + headings.index("minus BP"))
        assert shown[-6:] == ["–"] * 6  # BP itself
        assert "–" not in shown[:-6]
    opened.locator("#accuracy th button").first.click()
    assert column(opened, "accuracy", 1) == ["others"] * 8 + ["pcalm"] * 8 + ["theirs"] * 8


def test_filtering_by_keyboard(visit: Open) -> None:
    opened = visit()
    field = opened.locator("#accuracy input")
    field.focus()
    opened.keyboard.type("theirs pc")
    assert opened.locator("#accuracy [role=status]").inner_text() == "6 of 24 rows"  # PC, PC-ALM, anchored PC-ALM
    assert set(column(opened, "accuracy", 1)) == {"theirs"}
    field.fill("4")
    assert set(column(opened, "accuracy", 3)) == {"4"}
    field.fill("nothing like it")
    assert opened.locator("#accuracy [role=status]").inner_text() == "0 of 24 rows"
    field.fill("")
    assert opened.locator("#accuracy [role=status]").inner_text() == "24 rows"


def test_every_control_is_reached_by_the_tab_key_and_has_a_name(visit: Open, tmp_path: Path) -> None:
    records.write(tmp_path / "few", record("bp"))
    records.write(tmp_path / "few", record("pcalm"))
    write_report(tmp_path / "few", tmp_path)
    opened = visit(where=tmp_path)
    wanted = opened.locator("a[href], button, input, summary, [tabindex]")
    controls = wanted.evaluate_all("all => all.filter(each => each.checkVisibility()).length")
    visited = set()
    for _ in range(controls):
        opened.keyboard.press("Tab")
        visited.add(opened.evaluate("[...document.querySelectorAll('*')].indexOf(document.activeElement)"))
    assert len(visited) == controls
    nameless = opened.evaluate(
        """[...document.querySelectorAll('button, a, input, svg[role=img], [role=region]')].filter(each =>
            !(each.textContent.trim() || each.getAttribute('aria-label') || each.labels?.[0]?.textContent)).length"""
    )
    assert nameless == 0


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_the_page_never_scrolls_sideways(visit: Open, size: tuple[int, int]) -> None:
    opened = visit(size)
    assert opened.evaluate("document.documentElement.scrollWidth") == size[0]
    # What is wider than the screen scrolls in its own box.
    boxes = opened.locator(".scroll").evaluate_all(
        "all => all.map(box => [box.getBoundingClientRect().right, innerWidth])"
    )
    assert boxes
    assert all(right <= width for right, width in boxes)


def test_a_number_leads_to_its_records(visit: Open) -> None:
    opened = visit()
    opened.locator("#sources input").fill("nothing")  # a filter must not hide what a link leads to
    row = opened.locator("#accuracy tbody tr").nth(1)
    row.locator("summary").click()
    link = row.locator("details a").first
    source = link.inner_text()
    link.click()
    target = opened.locator(f"#source-{source}")
    target.wait_for(state="visible")
    assert re.search(r"records/[0-9a-f]{32}\.jsonl.*0123456789abcdef.*abacus", target.inner_text(), re.DOTALL)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast_in_light_and_dark(visit: Open, scheme: str) -> None:
    opened = visit(color_scheme=scheme)
    styles = opened.evaluate(
        """['h1', '.notes', 'td', 'th button', 'a', 'td.passed', 'td.failed', 'input', '.count'].map(name => {
            const each = document.querySelector(name);
            let behind = each;
            while (getComputedStyle(behind).backgroundColor === 'rgba(0, 0, 0, 0)') behind = behind.parentElement;
            return [name, getComputedStyle(each).color, getComputedStyle(behind).backgroundColor];
        })"""
    )
    for name, front, back in styles:
        assert contrast(front, back) >= 4.5, (name, front, back)  # WCAG 2, level AA
    assert (luminance(styles[0][2]) < 0.1) == (scheme == "dark")


def luminance(colour: str) -> float:
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_without_scripts_everything_is_there(visit: Open) -> None:
    opened = visit(java_script_enabled=False)
    assert opened.locator("#accuracy tbody tr:visible").count() == 24
    assert opened.locator("#accuracy input").is_hidden()


class Outline(HTMLParser):
    """Ids, links and what would be loaded."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        for name, value in attributes:
            if name == "id":
                self.ids.append(value or "")
            elif name in ("href", "xlink:href") and tag in ("a", "use"):
                self.links.append(value or "")
            elif name in ("src", "href", "xlink:href"):
                self.loaded.append(value or "")


def test_the_file_needs_no_other_and_all_its_links_lead_somewhere(pages: Path) -> None:
    outline = Outline((pages / page.PAGE).read_text(encoding="utf-8"))
    assert len(outline.ids) == len(set(outline.ids))
    assert {link for link in outline.links if link.removeprefix("#") not in outline.ids} == set()
    assert [url[:40] for url in outline.loaded if not url.startswith("data:")] == []


def test_every_table_and_figure_is_a_file_too(pages: Path) -> None:
    tables = {path.name for path in (pages / "tables").iterdir()}
    figures = {path.name for path in (pages / "figures").iterdir()}
    assert {f"accuracy.{SUFFIXES[form]}" for form in FORMATS} <= tables
    assert {f"conformance.{SUFFIXES[form]}" for form in FORMATS} <= tables
    assert {"credit-8.svg", "credit-8.png", "learning-curves.svg"} <= figures
    assert not [name for name in tables | figures if name.startswith(".")]


def test_the_page_compares_three_implementations(pages: Path) -> None:
    text = (pages / page.PAGE).read_text(encoding="utf-8")
    conformance = text.split('id="conformance"')[1].split("</section>")[0]
    assert re.findall(r"<button type=\"button\">([^<]*)</button>", conformance)[3:] == ["others", "pcalm", "theirs"]
    assert re.findall(r"<td class=\"text[^\"]*\">(passed|failed|unsupported)</td>", conformance) == [
        *("passed", "passed", "passed"),
        *("unsupported", "passed", "failed"),
    ]
    assert 'class="text error"' not in text  # "error" is the name of a figure here, and no verdict
    for name in ("pcalm", "theirs", "others"):
        assert f"{name}: pcalm digits N=8 L=8" in text


def test_what_stands_in_records_cannot_break_the_page(tmp_path: Path) -> None:
    records.write(tmp_path, record("bp", implementation="</script><script>alert(1)</script>"))
    text = page.render(results.load(tmp_path))
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(1)" in text


def test_the_command_writes_the_page_and_says_where(tmp_path: Path) -> None:
    write_grid(tmp_path / "runs")
    command = ["report", "--results", str(tmp_path / "runs"), "--output", str(tmp_path / "a" / "b")]
    done = CliRunner().invoke(app, command, prog_name="pcalm")
    assert (done.exit_code, done.stdout) == (0, f"{tmp_path / 'a' / 'b' / 'index.html'}\n")
    first = (tmp_path / "a" / "b" / "index.html").read_bytes()
    CliRunner().invoke(app, command, prog_name="pcalm")
    assert (tmp_path / "a" / "b" / "index.html").read_bytes() == first


@pytest.mark.parametrize(
    ("source", "output", "message"),
    [
        ("nowhere", "out", "results must be an existing directory"),
        ("empty", "out", "holds no results"),
        ("runs", "file", "output must be a directory, got the file"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing(tmp_path: Path, source: str, output: str, message: str) -> None:
    write_grid(tmp_path / "runs")
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("mine")
    command = ["report", "--results", str(tmp_path / source), "--output", str(tmp_path / output)]
    done = CliRunner().invoke(app, command, prog_name="pcalm")
    assert done.exit_code == 2
    assert re.fullmatch(f"pcalm: [^\n]*{message}[^\n]*\n", done.stderr), done.stderr
    assert not (tmp_path / "out").exists()
    assert (tmp_path / "file").read_text() == "mine"


def test_methods_of_somebody_else_are_shown_by_their_name(tmp_path: Path) -> None:
    for setting, name in (("bp", "bp"), ("pcalm", "my method")):
        made = record(setting)
        records.write(tmp_path, type(made)(**{**vars(made), "setting": name}))
    found = results.load(tmp_path)
    assert "my method" not in STYLES
    assert "my method, 2L" in all_tables(found)[0].headers
    assert "my method" in page.render(found)


def test_a_page_of_20000_runs_is_small() -> None:
    """Three megabytes, with digits that nothing compresses, and a row of its own for every run in three tables."""
    tables, found = many(20_000)
    text = page.page(tables, [], found, "many")
    assert len(text.encode()) < 3 * 10**6
    assert text.count("<tr") == 4 * (1 + page.ROWS)


def test_a_row_of_many_runs_is_small() -> None:
    tables, found = many(5_000)
    every = tuple(found.sources)
    row = Table("all", "all", tables[0].columns, tables[0].rows[:1], (every,))
    assert len(page.page([row], [], found, "many").encode()) < 10**6


def test_drawings_beyond_a_megabyte_are_led_to(pages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = results.load(pages.parent / "results")
    monkeypatch.setattr(page, "DRAWINGS", 10**5)
    text = page.render(found)
    assert len(re.findall("<svg", text)) < len(re.findall("<figure", text))
    for led in re.findall(r'<p><a href="(figures/[^"]*)"', text):
        assert (pages / led).is_file()


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("large")
    tables, found = many(1_000)
    (directory / page.PAGE).write_text(page.page(tables[:1], [], found, "many"), encoding="utf-8")
    return directory


def test_a_large_table_is_sorted_filtered_and_shown_in_parts(visit: Open, large: Path) -> None:
    opened = visit(where=large)
    opened.wait_for_selector("html.ready")
    status = opened.locator("#overview [role=status]")
    assert status.inner_text() == "1000 rows, here 1 to 200"
    opened.locator("#overview th button").first.click()
    widths = [int(text) for text in column(opened, "overview", 1)]
    assert widths == sorted(sorted(index % 997 for index in range(1000))[:200])
    opened.locator("#overview button.on").focus()
    opened.keyboard.press("Enter")
    assert status.inner_text() == "1000 rows, here 201 to 400"
    assert int(column(opened, "overview", 1)[0]) >= widths[-1]
    for _ in range(3):
        opened.keyboard.press("Enter")
    assert opened.locator("#overview button.on").is_disabled()
    opened.locator("#overview input").fill("PC 5")
    assert {text.split(".")[0] for text in column(opened, "overview", 1)} <= {"5"} | set(map(str, range(1000)))
    assert re.fullmatch(r"\d+ of 1000 rows", status.inner_text())
    opened.locator("#overview input").fill("")
    opened.locator("#overview th button").first.click()
    assert column(opened, "overview", 1)[0] == "996"


def test_a_number_of_a_large_table_leads_to_its_record(visit: Open, large: Path) -> None:
    opened = visit(where=large)
    opened.wait_for_selector("html.ready")
    for _ in range(4):
        opened.locator("#overview button.on").click()
    link = opened.locator("#overview tbody td.from a").last
    source = link.inner_text()
    link.click()
    target = opened.locator(f"#source-{source}")
    target.wait_for(state="visible")
    assert f"records/{source}" in target.inner_text()


def test_without_scripts_a_large_table_leads_to_its_files(visit: Open, large: Path) -> None:
    opened = visit(where=large, java_script_enabled=False)
    assert opened.locator("#overview tbody tr:visible").count() == 200
    assert "The first 200 of 1000 rows" in opened.locator("#overview .excerpt").inner_text()
    links = opened.locator("#overview a").evaluate_all("all => all.map(each => each.getAttribute('href'))")
    assert set(links) == {f"tables/overview.{suffix}" for suffix in ("csv", "html", "json")}


def test_all_that_a_page_leads_to_is_there(pages: Path) -> None:
    text = (pages / page.PAGE).read_text(encoding="utf-8")
    for path in {"tables/sources.csv", "tables/accuracy.json", *re.findall(r'href="((?:tables|figures)/[^"]*)"', text)}:
        assert (pages / path).is_file(), path


NAMES = ["a|b", "<b>bold</b>&amp;", "*x* [l](u) $1$", "long" * 100]


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Implementations whose names have a meaning in some format, or never end; and many columns."""
    directory = tmp_path_factory.mktemp("hostile")
    for name in NAMES:
        for seed in range(10):
            records.write(directory / "runs", record("bp", implementation=name, seed=seed))
            records.write(directory / "runs", record("pcalm", implementation=name, seed=seed))
        write_json(directory / "runs" / f"{len(name)}.json", conformance_report(name))
    write_report(directory / "runs", directory / "pages")
    return directory / "pages"


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_names_are_shown_as_they_are_and_fit(visit: Open, hostile: Path, size: tuple[int, int]) -> None:
    opened = visit(size, where=hostile)
    assert set(column(opened, "accuracy", 1)) == set(NAMES)
    headings = opened.locator("#conformance th").all_inner_texts()
    assert set(NAMES) <= set(headings)
    assert opened.evaluate("document.documentElement.scrollWidth") == size[0]
    assert max(opened.locator("th, td").evaluate_all("all => all.map(each => each.offsetWidth)")) < 600


@pytest.mark.parametrize("where", ["pages", "hostile", "large"])
def test_tables_fit_the_paper(visit: Open, where: str, request: pytest.FixtureRequest) -> None:
    opened = visit((720, 900), where=request.getfixturevalue(where))
    opened.wait_for_selector("html.ready")
    opened.emulate_media(media="print")
    assert opened.evaluate("document.documentElement.scrollWidth") <= 720
    boxes = opened.locator("table, figure, td").evaluate_all(
        "all => all.map(each => [each.closest('section, figure').id, each.getBoundingClientRect().right])"
    )
    assert [box for box in boxes if box[1] > 720] == []
    cut = opened.locator("td").evaluate_all("all => all.filter(each => each.scrollWidth > each.clientWidth + 1).length")
    assert cut == 0


@pytest.mark.parametrize("size", [DESKTOP, PHONE])
def test_the_page_of_a_comparison(visit: Open, size: tuple[int, int], tmp_path: Path) -> None:
    """The suite's own page, which knows nothing of this one."""
    names = ("slow", "<b onclick=alert(1)>fast|</b>" + "x" * 31)
    made = [comparison(about, name) for name in names for about in ("cell", "training", "suite")]
    made = [{"finished": "today", "busy_from": 0.1, **record} for record in made]
    made[3]["methods"] = {"pc": {**made[0]["methods"]["pc"], "seconds": 0.001}}
    (tmp_path / page.PAGE).write_text(comparison_page.page(made, "tanh; `cpu`"), encoding="utf-8")
    opened = visit(size, where=tmp_path)
    assert opened.evaluate("document.documentElement.scrollWidth") == size[0]

    def shown() -> list[str]:
        return [
            text.strip()
            for text in opened.locator("table >> nth=1 >> tbody tr:visible td:nth-child(3)").all_inner_texts()
        ]

    assert shown() == [names[1], *(["slow"] * 2)]
    heading = opened.locator("table >> nth=1 >> th button", has_text="implementation")
    for order in (sorted, lambda found: sorted(found, reverse=True)):
        heading.focus()
        opened.keyboard.press("Enter")
        assert shown() == order([names[1], *(["slow"] * 2)])
    opened.get_by_role("searchbox").fill("SLOW unsupported")
    assert shown() == ["slow"]
    opened.get_by_role("searchbox").fill("")
    opened.locator("tbody a", has_text="slow").first.click()
    assert opened.locator(":target").inner_text() == "slow"
    assert opened.locator("li a").first.get_attribute("href") == "records/slow-32x16.json"
    assert opened.get_by_role("img", name="Test accuracy against seconds of gradients: 2 curves").is_visible()
