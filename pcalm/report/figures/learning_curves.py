"""Training loss by weight update, of the cell in which methods differ most."""

from __future__ import annotations

import pandas

from pcalm.report import paper
from pcalm.report.comparisons.cells import Cells
from pcalm.report.comparisons.methods import at, methods_of
from pcalm.report.figures.drawing import Figure, new_canvas, short, with_own_settings
from pcalm.report.figures.styles import style_of
from pcalm.report.results import Results


@with_own_settings
def figures(results: Results) -> list[Figure]:
    chosen = _telling_cell(results.training)
    if chosen is None:
        return []
    curves = results.curves_of(set(chosen["key"]))
    if curves.empty:
        return []
    canvas = new_canvas(7.0, 3.2)
    left, right = canvas.subplots(1, 2)
    ends: list[str] = []
    for setting, budget, part in methods_of(chosen):
        mine = curves[curves["key"].isin(part["key"])]
        if mine.empty:
            continue
        ends += list(part["source"])
        mean = mine.groupby("step")[["loss", "accuracy"]].mean()
        window = max(1, len(mean) // 20)  # single batches are noisy
        smooth = mean.rolling(window, min_periods=1).mean()
        style = style_of(setting, marker=False) | {"linewidth": 1.2 if budget not in (0, 2) else 1.8}
        left.plot(smooth.index, smooth["loss"], label=short(at(setting, budget)), **style)
        right.plot(smooth.index, 100 * smooth["accuracy"], **style)
    left.set(xlabel="weight update", ylabel="training loss of the batch")
    right.set(xlabel="weight update", ylabel="training accuracy of the batch, %")
    canvas.legend(loc="outside lower center", ncols=5)
    first = chosen.iloc[0]
    caption = (
        f"{first['dataset']}, {first['activation']}, N = {first['width']}, L = {first['depth']}; mean over the seeds "
        f"of a running mean over {window} logged batches."
    )
    return [Figure("learning-curves", "Learning curves", caption, canvas, tuple(ends))]


def _telling_cell(training: pandas.DataFrame) -> pandas.DataFrame | None:
    """The runs of the paper's own cell where they are there, else of the deepest cell with the most methods."""
    cells = [runs for _, runs in Cells(training)]
    if not cells:
        return None

    def rank(runs: pandas.DataFrame) -> tuple[bool, int, int, int]:
        first = runs.iloc[0]
        papers = all(first[name] == value for name, value in paper.CELL.items())
        return papers, runs["setting"].nunique(), int(first["depth"]), int(first["width"])

    return max(cells, key=rank)
