"""Networks other than the residual MLP in training: alignment, λ_max and the adjoint's growth, epoch by epoch."""

from __future__ import annotations

from typing import Any

import pandas
from matplotlib.ticker import MaxNLocator

from pcalm.report.comparisons.cells import Cells
from pcalm.report.comparisons.methods import at, methods_of
from pcalm.report.comparisons.networks import of_blocks
from pcalm.report.figures.drawing import Figure, doublings, new_canvas, short, with_own_settings
from pcalm.report.figures.styles import style_of
from pcalm.report.results import Results

SHOWN = {
    "test_accuracy": "test accuracy",
    "gradient_cosine": "cosine to BP",
    "eigenvalue": "λ_max",
    "growth": "‖δ_1‖ / ‖δ_L-1‖",
}
LOGARITHMIC = ("eigenvalue", "growth")
PANELS = 2  # networks in a figure: the cells with most methods
METHODS_OFFSET = 8  # of markers, so that those of one line do not hide another's


@with_own_settings
def figures(results: Results) -> list[Figure]:
    """The cells with most runs, each with a column of its own; where their curves are there."""
    cells = [(cell, runs) for cell, runs in Cells(of_blocks(results).training)]
    cells = sorted(cells, key=lambda pair: -len(pair[1]))
    panels = []
    for _, runs in cells:
        curves = results.curves_of(set(runs["key"]))
        if {*SHOWN, "epoch"} <= set(curves) and curves["gradient_cosine"].notna().any():
            panels.append((runs, curves[curves["test_accuracy"].notna()]))
        if len(panels) == PANELS:
            break
    if not panels:
        return []
    canvas = new_canvas(2.3 * len(panels) + 0.6, 1.5 * len(SHOWN) + 1.2)
    axes = canvas.subplots(len(SHOWN), len(panels), sharex="col", squeeze=False)
    handles: dict[str, Any] = {}
    sources: list[str] = []
    for column, (runs, curves) in enumerate(panels):
        first = runs.iloc[0]
        axes[0, column].set_title(f"{short(first['network'])}, L = {first['depth']}\n{short(first['dataset'])}")
        for setting, budget, part in methods_of(runs):
            mine = curves[curves["key"].isin(part["key"])]
            if mine.empty:
                continue
            sources += list(part["source"])
            means = mine.groupby("epoch")[list(SHOWN)].mean()
            for ax, name in zip(axes[:, column], SHOWN, strict=True):
                _line(ax, means[name], setting, budget, handles)
        axes[-1, column].set_xlabel("epoch")
        axes[-1, column].xaxis.set_major_locator(MaxNLocator(integer=True))
    for ax, (name, label) in zip(axes[:, 0], SHOWN.items(), strict=True):
        ax.set_ylabel(label)
        for each in axes[list(SHOWN).index(name)]:
            values = [value for line in each.get_lines() for value in line.get_ydata() if value > 0]
            if name in LOGARITHMIC and values:
                ticks = doublings(min(values), max(values), 5)
                each.set_yscale("log", base=2)
                each.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
                each.minorticks_off()
    canvas.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=2)
    caption = (
        "After every epoch, mean over the seeds. Hollow markers: another budget than 2L. The cosine is that of a "
        "method's gradient to BP's in its own network; λ_max is that of the gauge in use."
    )
    return [Figure("networks", "Other networks in training", caption, canvas, tuple(dict.fromkeys(sources)))]


def _line(ax: Any, values: pandas.Series, setting: str, budget: float, handles: dict[str, Any]) -> None:
    known = values.dropna()
    if known.empty:
        return
    style = style_of(setting) | {"linewidth": 1.2} | ({"markerfacecolor": "none"} if budget not in (0, 2) else {})
    (line,) = ax.plot(known.index, known, **style, markevery=max(1, len(known) // METHODS_OFFSET))
    handles[short(at(setting, budget))] = line
