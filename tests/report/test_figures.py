"""Figures: one style per method, repeatable byte for byte, and drawn from what the records say."""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from pcalm.experiments import records
from pcalm.report import results
from pcalm.report.comparisons.methods import name_of, order_of
from pcalm.report.figures import accuracy_by_budget, accuracy_by_depth, all_figures, heat_maps
from pcalm.report.figures.drawing import Figure, doublings
from pcalm.report.figures.space_time import CREDIT
from pcalm.report.figures.styles import STYLES, style_of
from pcalm.report.results import Results
from tests.report.report_cases import as_written, measured, record, write_everything, write_grid, write_json

IDS = [
    *("accuracy-others", "accuracy-pcalm", "accuracy-theirs", "accuracy-depth", "learning-curves", "cosine-budget"),
    *("trained-alignment", "budget-law", "credit-8"),
    *("credit-share", "exponents", "scattering"),
]
# How cones of people without one kind of cone see linear RGB (Machado et al., 2009, severity 1).
VISIONS = {
    "deuteranopia": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    "protanopia": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "tritanopia": [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
}


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Results:
    directory = tmp_path_factory.mktemp("everything")
    write_everything(directory)
    return results.load(directory)


@pytest.fixture(scope="module")
def drawn(everything: Results) -> list[Figure]:
    return all_figures(everything)


@pytest.fixture(scope="module")
def files(drawn: list[Figure]) -> dict[str, tuple[str, bytes]]:
    """SVG and PNG of every figure."""
    return {figure.id: (figure.svg(), figure.png()) for figure in drawn}


def find(drawn: list[Figure], name: str) -> Figure:
    (figure,) = [each for each in drawn if each.id == name]
    return figure


def points(line: Any) -> list[list[float]]:
    return np.asarray(line.get_xydata(), dtype=float).tolist()


def test_every_kind_of_figure_is_drawn_with_its_sources(everything: Results, drawn: list[Figure]) -> None:
    assert [figure.id for figure in drawn] == IDS
    for figure in drawn:
        assert figure.sources
        assert set(figure.sources) <= set(everything.sources)
        assert figure.caption.endswith(".")


def test_the_same_results_give_the_same_bytes(everything: Results, files: dict[str, tuple[str, bytes]]) -> None:
    for figure in all_figures(everything):
        assert (figure.svg(), figure.png()) == files[figure.id], figure.id


def test_coordinates_have_no_digits_in_which_machines_differ(files: dict[str, tuple[str, bytes]]) -> None:
    for name, (text, _) in files.items():
        assert re.search(r"\d\.\d{3}\D", text), name
        assert not re.search(r"\d\.\d{4}", re.sub(r"scale\([^)]*\)", "", text)), name


def test_files_are_written_as_a_whole(drawn: list[Figure], tmp_path: Path) -> None:
    paths = find(drawn, "scattering").write(tmp_path)
    assert [path.name for path in paths] == ["scattering.svg", "scattering.png"]
    assert sorted(tmp_path.iterdir()) == sorted(paths)
    assert paths[0].read_text(encoding="utf-8").rstrip().endswith("</svg>")
    assert paths[1].read_bytes().startswith(b"\x89PNG")


def test_drawings_load_nothing_from_anywhere(files: dict[str, tuple[str, bytes]]) -> None:
    for name, (svg, _) in files.items():
        for link in re.findall(r'href="([^"]*)"', svg):
            assert link.startswith(("#", "data:")), name


def test_methods_differ_in_colour_line_and_marker() -> None:
    for one, other in itertools.combinations(STYLES.values(), 2):
        assert one[0] != other[0]
        assert one[2] != other[2]
    # BP is a solid line, too, but never has the colour or the marker of the anchored one.
    assert len({str(line) for _, line, _ in STYLES.values()}) == 4


def test_a_method_whose_step_size_is_found_otherwise_is_the_same_with_half_a_marker() -> None:
    assert style_of("pcalm-tracked") == style_of("pcalm") | {"fillstyle": "left"}
    assert style_of("pcalm-tracked", marker=False) == style_of("pcalm", marker=False)
    assert name_of("pcalm-tracked") == "PC-ALM (tracked η)"
    assert sorted(("gauged", "pcalm-tracked", "pcalm"), key=order_of) == ["pcalm", "pcalm-tracked", "gauged"]


@pytest.mark.parametrize("vision", ["full", *VISIONS])
def test_colours_are_told_apart_with_any_vision(vision: str) -> None:
    seen = {}
    for name, (colour, _, _) in STYLES.items():
        linear = np.array(to_rgb(colour)) ** 2.2
        if vision != "full":
            linear = np.clip(np.array(VISIONS[vision]) @ linear, 0, 1)
        seen[name] = linear ** (1 / 2.2)
    # The distance in RGB of two greys that differ by 15 %.
    for one, other in itertools.combinations(seen, 2):
        assert np.linalg.norm(seen[one] - seen[other]) > 0.26, (one, other)


def test_a_method_has_the_same_colour_in_every_figure(drawn: list[Figure]) -> None:
    for name in ("learning-curves", "cosine-budget", "credit-share", "exponents"):
        for ax in find(drawn, name).canvas.axes:
            for line in ax.get_lines():
                label = str(line.get_label()).split(",")[0].split(" (")[0].split(":")[0]
                for setting, title in (
                    ("pc", "PC"),
                    ("pcalm", "PC-ALM"),
                    ("anchored", "anchored PC-ALM"),
                    ("bp", "BP"),
                ):
                    if label == title:
                        assert line.get_color() == STYLES[setting][0], (name, label)


def test_credit_is_white_where_it_is_bps_and_dark_on_both_sides() -> None:
    none, exact, double = (np.array(CREDIT(value)[:3]) for value in (0.0, 0.5, 1.0))
    assert exact == pytest.approx(1)
    assert none[2] > none[0]  # blue
    assert double[0] > double[2]  # red
    assert max(none.mean(), double.mean()) < 0.4


def test_the_space_time_picture_shows_the_front_where_it_was_measured(drawn: list[Figure]) -> None:
    pc, pcalm = find(drawn, "credit-8").canvas.axes[:2]
    for ax in (pc, pcalm):
        image = np.asarray(ax.get_images()[0].get_array())
        assert image.shape == (32, 7)  # time upwards, layers to the right
        assert image[0, 6] == 1.0
        assert image[0, 0] == 0.0
    # PC has no front to predict; that of PC-ALM goes from the top to layer 1 and back, at the speed √(αη) = 1/2.
    assert len(pc.get_lines()) == 0
    assert [points(line) for line in pcalm.get_lines()] == [[[7, 0], [1, 14 / 8]], [[1, 14 / 8], [7, 28 / 8]]]


def test_heat_maps_hold_the_mean_accuracies(tmp_path: Path) -> None:
    write_grid(tmp_path)
    records.write(tmp_path, record("pc", width=16, depth=8, accuracy=0.5))
    (figure,) = heat_maps.figures(results.load(tmp_path))
    pc = figure.canvas.axes[1]
    values = np.asarray(pc.get_images()[0].get_array())
    np.testing.assert_allclose(values, [[69.5, np.nan], [69.5, 50]])
    assert [text.get_text() for text in pc.texts] == ["69.5", "–", "69.5", "50.0"]
    assert [tick.get_text() for tick in pc.get_xticklabels()] == ["8", "16"]


def test_accuracy_by_budget_is_drawn_where_there_are_several(tmp_path: Path) -> None:
    write_grid(tmp_path)
    assert accuracy_by_budget.figures(results.load(tmp_path)) == []
    records.write(tmp_path, record("pcalm", budget=4, accuracy=0.6))
    (figure,) = accuracy_by_budget.figures(results.load(tmp_path))
    line = next(each for each in figure.canvas.axes[0].get_lines() if each.get_color() == STYLES["pcalm"][0])
    assert points(line) == [pytest.approx([2, 77.5]), pytest.approx([4, 60])]


def test_accuracy_by_depth_is_what_is_lost_to_bp(tmp_path: Path) -> None:
    write_grid(tmp_path)
    records.write(tmp_path, record("bp", width=16, depth=8, accuracy=0.5))
    records.write(tmp_path, record("pc", width=16, depth=8, accuracy=0.6))
    (figure,) = accuracy_by_depth.figures(results.load(tmp_path))
    (ax,) = figure.canvas.axes
    pc = next(each for each in ax.get_lines() if each.get_color() == STYLES["pc"][0])
    assert points(pc) == [pytest.approx([0, -10]), pytest.approx([1, 0])]  # of widths 8 and 16: −10 and +10


def test_ticks_in_doublings_are_few() -> None:
    assert doublings(0.7, 5) == [0.5, 1, 2, 4, 8]
    assert doublings(1, 1) == [1]
    assert doublings(1, 1000, 5) == [1, 8, 64, 512]
    assert len(doublings(0.01, 10**6)) <= 6


def test_exponents_are_those_of_the_points(drawn: list[Figure]) -> None:
    arrival, alignment = find(drawn, "exponents").canvas.axes
    for ax in (arrival, alignment):
        legend = ax.get_legend()
        assert legend is not None
        assert "PC-ALM" in legend.get_texts()[-1].get_text()
        assert all(text.get_text().endswith("exponent 1.00") for text in legend.get_texts())


def test_nothing_is_drawn_from_nothing() -> None:
    assert all_figures(Results()) == []
    only = {"scattering": measured()["scattering"]}
    assert [figure.id for figure in all_figures(Results(measured=only))] == ["scattering"]


# Settings that would break every figure, or change it.
MATPLOTLIBRC = """
text.usetex: True
axes.facecolor: red
figure.facecolor: black
savefig.bbox: tight
savefig.transparent: True
font.size: 30
image.cmap: hot
axes.prop_cycle: cycler('color', ['r'])
path.sketch: 1, 100, 2
axes.xmargin: 0.5
xtick.direction: in
lines.marker: x
backend: svg
"""
DRAW = """
import json, sys
from pcalm.report import results
from pcalm.report.figures import all_figures, heat_maps
found = results.load(sys.argv[1])
drawn = {figure.id: [figure.svg(), figure.png().hex()] for figure in (*all_figures(found), *heat_maps.figures(found))}
json.dump(drawn, sys.stdout)
"""


def test_a_users_settings_change_nothing(tmp_path: Path) -> None:
    write_grid(tmp_path / "runs")
    write_json(tmp_path / "runs" / "scattering.json", as_written(measured()["scattering"]))
    (tmp_path / "matplotlibrc").write_text(MATPLOTLIBRC)
    command = [sys.executable, "-c", DRAW, str(tmp_path / "runs")]
    changed = {**os.environ, "MATPLOTLIBRC": str(tmp_path / "matplotlibrc"), "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, env=changed, capture_output=True, text=True, check=True)
    with matplotlib.rc_context({"axes.facecolor": "blue", "font.family": "serif"}):  # set in this process
        here = {
            figure.id: [figure.svg(), figure.png().hex()] for figure in all_figures(results.load(tmp_path / "runs"))
        }
        assert matplotlib.rcParams["axes.facecolor"] == "blue"
    assert json.loads(done.stdout) == here


@pytest.mark.parametrize("name", ["$x_", "a|b<script>&", "\\frac{1}{0}$$", "名前", "long " * 100, "..", "a/b"])
def test_any_name_can_be_drawn(name: str, tmp_path: Path) -> None:
    for setting, depth, implementation in itertools.product(("bp", "pcalm"), (4, 8), (name, name + "!")):
        for budget in (1, 2):
            made = record(setting, depth=depth, budget=budget, implementation=implementation)
            records.write(tmp_path, type(made)(**{**vars(made), "setting": "bp" if setting == "bp" else name}))
    drawn = all_figures(results.load(tmp_path))
    kinds = ["accuracy", "accuracy", "accuracy", "accuracy", "learning"]
    assert [figure.id.split("-")[0] for figure in drawn] == kinds
    assert len({figure.id.lower() for figure in drawn}) == 5
    for figure in drawn:
        assert re.fullmatch(r"[\w.-]{1,70}", figure.id, re.ASCII)
        ElementTree.fromstring(figure.svg())
