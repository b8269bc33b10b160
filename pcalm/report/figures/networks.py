"""Networks other than the residual MLP in training: alignment, λ_max and the adjoint's growth, epoch by epoch."""

from __future__ import annotations

from typing import Any

import pandas
from matplotlib.ticker import MaxNLocator

from pcalm.experiments.networks import NETWORKS
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
PANELS = 2  # networks in a figure, so that a telephone shows it
METHODS_OFFSET = 8  # of markers, so that those of one line do not hide another's
USUAL = 2.0  # the budget that every method is shown at, beside its largest

Panel = tuple[pandas.DataFrame, pandas.DataFrame]  # the runs of a cell, and their curves


def figures(results: Results) -> list[Figure]:
    """Of every network the cell with most runs, a column each; where the curves are there."""
    panels = _panels(results)
    parts = [panels[start : start + PANELS] for start in range(0, len(panels), PANELS)]
    return [_figure(part, "networks" if number == 1 else f"networks-{number}") for number, part in enumerate(parts, 1)]


def _panels(results: Results) -> list[Panel]:
    found: dict[str, Panel] = {}
    for _, runs in Cells(of_blocks(results).training):
        curves, name = results.curves_of(set(runs["key"])), str(runs["network"].iloc[0])
        drawable = {*SHOWN, "epoch"} <= set(curves) and curves["gradient_cosine"].notna().any()
        if drawable and (name not in found or len(runs) > len(found[name][0])):
            found[name] = runs, curves[curves["test_accuracy"].notna()]
    known = list(NETWORKS)
    order = sorted(found, key=lambda name: (known.index(name) if name in known else len(known), name))
    return [found[name] for name in order]


@with_own_settings
def _figure(panels: list[Panel], name: str) -> Figure:
    canvas = new_canvas(2.3 * len(panels) + 0.6, 1.5 * len(SHOWN) + 1.2)
    axes = canvas.subplots(len(SHOWN), len(panels), sharex="col", squeeze=False)
    handles: dict[str, Any] = {}
    sources: list[str] = []
    for column, (runs, curves) in enumerate(panels):
        first = runs.iloc[0]
        axes[0, column].set_title(f"{short(first['network'])}, L = {first['depth']}\n{short(first['dataset'])}")
        methods = methods_of(runs)
        largest = {setting: budget for setting, budget, _ in methods}  # budgets ascend
        for setting, budget, part in methods:
            mine = curves[curves["key"].isin(part["key"])]
            if mine.empty or budget not in (0, USUAL, largest[setting]):
                continue
            sources += list(part["source"])
            means = mine.groupby("epoch")[list(SHOWN)].mean()
            for ax, shown in zip(axes[:, column], SHOWN, strict=True):
                _line(ax, means[shown], setting, budget, handles)
        axes[-1, column].set_xlabel("epoch")
        axes[-1, column].xaxis.set_major_locator(MaxNLocator(integer=True))
    for row, (shown, label) in zip(axes, SHOWN.items(), strict=True):
        row[0].set_ylabel(label)
        for each in row:
            values = [value for line in each.get_lines() for value in line.get_ydata() if value > 0]
            if shown in LOGARITHMIC and values:
                ticks = doublings(min(values), max(values), 5)
                each.set_yscale("log", base=2)
                each.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
                each.minorticks_off()
    canvas.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=2)
    caption = (
        "After every epoch, mean over the seeds, at 2L and (hollow markers) at the largest budget. The cosine is that "
        "of a method's gradient to BP's in its own network; λ_max is that of the gauge in use."
    )
    title = f"In training: {', '.join(short(runs['network'].iloc[0]) for runs, _ in panels)}"
    return Figure(name, title, caption, canvas, tuple(dict.fromkeys(sources)))


def _line(ax: Any, values: pandas.Series, setting: str, budget: float, handles: dict[str, Any]) -> None:
    known = values.dropna()
    if known.empty:
        return
    style = style_of(setting) | {"linewidth": 1.2} | ({"markerfacecolor": "none"} if budget not in (0, USUAL) else {})
    (line,) = ax.plot(known.index, known, **style, markevery=max(1, len(known) // METHODS_OFFSET))
    handles[short(at(setting, budget))] = line
