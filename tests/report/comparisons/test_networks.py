"""Networks other than the residual MLP: their table, and their figure."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pcalm.experiments import records
from pcalm.report import results
from pcalm.report.figures import networks
from reports import collect
from tests.report.report_cases import record, rows


def test_networks_are_held_against_bp_in_their_own_cell(tmp_path: Path) -> None:
    for setting in ("bp", "pcalm"):
        for seed in range(2):
            records.write(tmp_path, record(setting, network="conv", seed=seed, dataset="fashion-mnist"))
            records.write(tmp_path, record(setting, seed=seed, accuracy=0.1))
    bp, pcalm = rows(results.load(tmp_path), "networks")
    assert (bp["method"], bp["accuracy"], bp["minus BP"], bp["λ_max"]) == ("BP", pytest.approx(79.5), None, None)
    assert [pcalm[name] for name in ("T/L", "seeds", "diverged")] == [2, 2, 0]
    named = ("accuracy", "min", "max", "minus BP", "cosine to BP", "λ_max", "‖δ_1‖/‖δ_{L−1}‖")
    assert [pcalm[name] for name in named] == pytest.approx([77.5, 77, 78, -2, 0.9, 5, 3])


def test_their_training_is_drawn_from_the_ends_of_epochs(tmp_path: Path) -> None:
    for setting in ("bp", "pcalm"):
        records.write(tmp_path / "runs", record(setting, network="conv"))
    collect.collect(tmp_path / "runs", tmp_path / "data")
    found = results.load(tmp_path / "data")
    assert len(found.curves_of(set(found.training["key"]))) == 2  # of four logged updates
    (figure,) = networks.figures(found)
    accuracy, cosine, eigenvalue, growth = figure.canvas.axes
    assert [len(ax.get_lines()) for ax in (accuracy, cosine, eigenvalue, growth)] == [2, 2, 1, 2]
    assert np.asarray(cosine.get_lines()[1].get_ydata()) == pytest.approx([0.9])
    assert networks.figures(results.load(tmp_path / "runs"))[0].id == "networks"
    records.write(tmp_path / "other", record())
    assert networks.figures(results.load(tmp_path / "other")) == []


def test_two_networks_share_a_figure_with_the_usual_and_the_largest_budget(tmp_path: Path) -> None:
    for network in ("plain-mlp", "transformer", "conv"):
        for budget in (2.0, 3.0, 4.0):
            records.write(tmp_path / "runs", record("pcalm", network=network, activation="relu", budget=budget))
    both, last = networks.figures(results.load(tmp_path / "runs"))
    assert [(each.id, each.title) for each in (both, last)] == [
        ("networks", "In training: conv, transformer"),
        ("networks-2", "In training: plain-mlp"),
    ]
    (legend,) = last.canvas.legends
    assert [text.get_text() for text in legend.get_texts()] == ["PC-ALM, 2L", "PC-ALM, 4L"]
