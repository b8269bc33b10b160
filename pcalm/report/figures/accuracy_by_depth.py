"""What a method loses to BP, by depth: one panel for every activation."""

from __future__ import annotations

import pandas

from pcalm.report.comparisons.cells import Cells
from pcalm.report.comparisons.methods import at, methods_of
from pcalm.report.comparisons.statistics import compare
from pcalm.report.figures.drawing import Figure, new_canvas, short, with_own_settings
from pcalm.report.figures.styles import style_of
from pcalm.report.results import Results

PANELS = 3  # at most, side by side


@with_own_settings
def figures(results: Results) -> list[Figure]:
    """Where BP was trained at more than one depth."""
    panels = [(context, _lost(runs)) for context, runs in Cells(results.training).contexts()]
    panels = [(context, lost) for context, lost in panels if lost["depth"].nunique() > 1][:PANELS]
    if not panels:
        return []
    canvas = new_canvas(1.5 + 2.2 * len(panels) if len(panels) > 1 else 5.0, 3.6)
    axes = canvas.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    handles, sources = {}, []
    for ax, (context, lost) in zip(axes, panels, strict=True):
        depths = sorted(lost["depth"].unique().tolist())
        for (setting, budget), part in lost.groupby(["setting", "budget"], sort=False):
            by_depth = part.groupby("depth")["points"].agg(["mean", "min", "max"])
            style = style_of(setting) | ({"markerfacecolor": "none"} if budget not in (0, 2) else {})
            places = [depths.index(depth) for depth in by_depth.index]
            (handles[short(at(setting, budget))],) = ax.plot(places, by_depth["mean"], **style)
            ax.fill_between(places, by_depth["min"], by_depth["max"], color=style["color"], alpha=0.12, lw=0)
        ax.axhline(0, **style_of("bp", marker=False) | {"linewidth": 1})
        title = ", ".join(map(str, context.values()))
        ax.set(title=short(title), xlabel="depth L", xticks=range(len(depths)), xticklabels=depths)
        sources += [source for each in lost["sources"] for source in each]
    axes[0].set_ylabel("test accuracy minus BP's, points")
    canvas.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=2)
    caption = "Paired by seed; mean over the widths, and range. Hollow: another budget than 2L. The line at zero is BP."
    return [Figure("accuracy-depth", "Accuracy lost to BP, by depth", caption, canvas, tuple(dict.fromkeys(sources)))]


def _lost(runs: pandas.DataFrame) -> pandas.DataFrame:
    """Points that each method at each budget is above BP, by width and depth."""
    rows = []
    for (depth, width), cell in runs.groupby(["depth", "width"]):
        exact = cell[cell["setting"] == "bp"]
        for setting, budget, part in methods_of(cell):
            comparison = compare(part, exact) if setting != "bp" else None
            if comparison:
                sources = (*part["source"], *exact["source"])
                rows.append((depth, width, setting, budget, 100 * comparison.mean, sources))
    found = pandas.DataFrame(rows, columns=["depth", "width", "setting", "budget", "points", "sources"])
    order = {(setting, budget): place for place, (setting, budget, _) in enumerate(methods_of(runs))}
    keys = [order[pair] for pair in zip(found["setting"], found["budget"], strict=True)]
    return found.assign(order=keys).sort_values(["order", "depth", "width"], ignore_index=True)
