"""Measurements: budgets by one run of the iteration, and files that are there whenever a measurement ends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import pcalm
from pcalm import analysis
from pcalm.experiments import records
from pcalm.methods import BP, PC, PCALM
from pcalm.network import ResidualMLP
from pcalm.report.kinds import recognise
from pcalm.report.results import Results
from reports import measure
from tests.report.report_cases import measured, rows

SETTINGS: dict[str, PC | PCALM] = {
    "pc": PC(1, 0.2),
    "pcalm": PCALM(1, 0.2),
    "anchored": PCALM(1, 0.2, penalty=0.1, dual_step=3.5, anchor=0.3),
    "gauged": pcalm.gauge(PCALM(1, 0.2, penalty=0.1, dual_step=3.5, anchor=0.3), [1.5, 1.4, 1.3, 1.2, 1.1, 1.05, 1]),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_one_run_of_the_iteration_gives_what_every_budget_gives(name: str) -> None:
    net = ResidualMLP(8, 6, 5, 3, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(4, size, generator=generator, dtype=torch.float64) for size in (5, 3))
    exact = pcalm.gradients(net, BP(), x, y)
    cosines: dict[int, float] = {}
    ratios: dict[int, float] = {}
    for steps in range(1, 65):
        whole = pcalm.gradients(net, type(SETTINGS[name])(**{**vars(SETTINGS[name]), "steps": steps}), x, y)
        cosines[steps], ratios[steps] = analysis.cosine(whole, exact), analysis.norm_ratio(whole, exact)
    at, least = measure.alignment_by_budget(net, SETTINGS[name], x, y, exact, 8)
    # The same operations on the same numbers, but for the order of a few additions.
    assert at == pytest.approx([each[8 * budget] for budget in (1, 2, 4) for each in (cosines, ratios)], rel=1e-10)
    firsts = [next((steps for steps in cosines if cosines[steps] >= target), None) for target in measure.ALIGNED]
    assert least == [None if first is None else first / 8 for first in firsts]


def test_the_widest_networks_come_last() -> None:
    cells = measure.MEASUREMENTS["budgets"].cells()
    assert len(set(cells)) == len(cells)
    assert [cell[2] * cell[3] for cell in cells] == sorted(cell[2] * cell[3] for cell in cells)


@pytest.mark.parametrize("shipped", [False, True])  # without the file of the finished cells
def test_an_interrupted_measurement_is_written_with_what_is_there_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shipped: bool
) -> None:
    columns, (first, *_) = (measured()["budgets"][name] for name in ("columns", "rows"))
    ran: list[Any] = []

    def run(weights: str, activation: str, width: int, depth: int, seed: int) -> dict[str, list[Any]]:
        ran.append(seed)
        if len(ran) == 2:
            raise KeyboardInterrupt
        return {"rows": [(weights, activation, width, depth, seed, *first[5:])]}

    cells = [(*first[:4], seed) for seed in range(3)]
    measurement = measure.Measurement({"columns": columns}, lambda: cells, run)
    monkeypatch.setitem(measure.MEASUREMENTS, "budgets", measurement)
    with pytest.raises(KeyboardInterrupt):
        measure.measure("budgets", tmp_path)
    found = json.loads((tmp_path / "budgets.json").read_text())
    assert (len(found["rows"]), found["missing"]) == (1, [list(cell) for cell in cells[1:]])
    kind, checked, unknown = recognise(found)
    assert (kind, unknown) == ("measurement", [])
    assert rows(Results(measured={"budgets": {**checked, "source": "measured-budgets"}}), "trained-alignment")
    if shipped:
        (tmp_path / ".budgets.partial.jsonl").unlink()
    measure.measure("budgets", tmp_path)
    assert ran == [0, 1, 1, 2]
    found = json.loads((tmp_path / "budgets.json").read_text())
    assert [row[4] for row in found["rows"]] == [0, 1, 2]
    assert "missing" not in found
    assert [path.name for path in tmp_path.iterdir()] == ["budgets.json"]
    cells.append((*first[:4], 3))  # as the cells of "cost" do when runs are added
    measure.measure("budgets", tmp_path)
    assert ran == [0, 1, 1, 2, 3]
    measure.measure("budgets", tmp_path)
    assert ran == [0, 1, 1, 2, 3, 0, 1, 2, 3]  # of what is complete, the command asks for another measurement


def test_what_a_run_costs_is_measured_for_every_kind_of_run_that_is_shipped(tmp_path: Path) -> None:
    cells = measure.MEASUREMENTS["cost"].cells()
    assert len(set(cells)) == len(cells) > 0
    frame = records.load_table(measure.TRAINING)
    shown = frame[(frame["validation"] == 0) & (frame["dataset"] == "digits")]
    assert {cell[6] for cell in cells if cell[1] == "digits"} == set(shown["setting"])
    (row,) = measure.cost("mlp", "digits", "relu", 2, 4, 4, "pc-tracked", 1.0)["rows"]
    *kind, updates, seconds = row
    assert (tuple(kind), updates) == (("mlp", "digits", "relu", 2, 4, 4, "pc-tracked", 1.0), 2 * (1437 // 64))
    assert seconds > 0
