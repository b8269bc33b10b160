"""Accuracy against the inference budget, where a cell has more than one budget."""

from __future__ import annotations

from typing import Any

import pandas

from pcalm.report.comparisons.cells import Cells
from pcalm.report.comparisons.methods import methods_of, name_of
from pcalm.report.figures.drawing import Figure, new_canvas, short, with_own_settings
from pcalm.report.figures.styles import style_of
from pcalm.report.results import Results


@with_own_settings
def figures(results: Results) -> list[Figure]:
    panels = []
    for _, runs in Cells(results.training):
        if runs.loc[runs["setting"] != "bp", "budget"].nunique() > 1:
            panels.append(runs)
    if not panels:
        return []
    panels = sorted(panels, key=lambda runs: -len(runs))[:6]
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    canvas = new_canvas(2.9 * columns, 2.5 * rows + 0.5)
    axes = canvas.subplots(rows, columns, squeeze=False).flatten()
    handles: dict[str, Any] = {}
    for ax, runs in zip(axes, panels, strict=False):
        for setting, parts in _by_setting(runs).items():
            if setting == "bp":
                handles["BP"] = ax.axhline(100 * parts[0][1]["test_accuracy"].mean(), **style_of("bp", marker=False))
                continue
            budgets = [budget for budget, _ in parts]
            means = [100 * part["test_accuracy"].mean() for _, part in parts]
            (handles[short(name_of(setting))],) = ax.plot(budgets, means, **style_of(setting))
            for budget, part in parts:
                low, high = 100 * part["test_accuracy"].min(), 100 * part["test_accuracy"].max()
                ax.plot([budget, budget], [low, high], color=style_of(setting)["color"], linewidth=0.8)
        first = runs.iloc[0]
        ax.set(title=f"{short(first['dataset'])} N = {first['width']}, L = {first['depth']}", xlabel="budget T / L")
    for ax in axes[len(panels) :]:
        ax.set_visible(False)
    axes[0].set_ylabel("test accuracy, %")
    canvas.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=len(handles))
    sources = tuple(source for runs in panels for source in runs["source"])
    caption = "Mean test accuracy by inference budget; thin lines from the worst to the best seed."
    return [Figure("accuracy-budget", "Accuracy against inference cost", caption, canvas, sources)]


def _by_setting(runs: pandas.DataFrame) -> dict[str, list[tuple[float, pandas.DataFrame]]]:
    """Method → (budget, its runs), by budget."""
    found: dict[str, list[tuple[float, pandas.DataFrame]]] = {}
    for setting, budget, part in methods_of(runs):
        found.setdefault(setting, []).append((budget, part))
    return found
