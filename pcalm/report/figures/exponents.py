"""Powers of distance and depth: when credit arrives, and when an alignment is reached."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas
from matplotlib.ticker import NullFormatter, ScalarFormatter

from pcalm.analysis import arrival_exponent
from pcalm.report.comparisons.convergence import reached
from pcalm.report.comparisons.methods import name_of, order_of
from pcalm.report.figures.drawing import Figure, new_canvas, short, with_own_settings
from pcalm.report.figures.styles import style_of
from pcalm.report.results import Results


@with_own_settings
def figures(results: Results) -> list[Figure]:
    """When credit arrives by distance, and how long an alignment takes by depth; both on logarithmic axes with fits."""
    credit, convergence = results.measured.get("credit"), results.measured.get("convergence")
    if credit is None or convergence is None:
        return []
    targets = convergence["targets"]
    canvas = new_canvas(3.0 * (1 + len(targets)), 3.2)
    axes = canvas.subplots(1, 1 + len(targets))
    deepest = max(each["depth"] for each in credit["arrivals"])
    for each in (each for each in credit["arrivals"] if each["depth"] == deepest):
        points = {d: step for d, step in enumerate(each["arrival"], 1) if step is not None}
        label = f"{short(name_of(each['method']))} (at {each['fraction']:g})"
        _fitted(axes[0], {d: step for d, step in points.items() if d >= 3}, each["method"], label)
    axes[0].set(title=f"arrival of credit, L = {deepest}", xlabel="distance from the top, L − l", ylabel="iterations")
    frame = pandas.DataFrame(convergence["rows"], columns=convergence["columns"])
    for ax, target in zip(axes[1:], targets, strict=True):
        for setting in sorted(frame["method"].unique(), key=order_of):
            _fitted(ax, reached(frame, setting, target), setting, short(name_of(setting)))
        ax.set(title=f"alignment: cosine {target:g}", xlabel="depth L")
    for ax in axes:
        ax.set(xscale="log", yscale="log", xticks=(4, 8, 16, 32, 64, 128))
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_major_formatter(ScalarFormatter())
            axis.set_minor_formatter(NullFormatter())
        ax.legend(fontsize=7, loc="upper left", handlelength=2.6)
        ax.set_ylim(top=ax.get_ylim()[1] * 12)
    caption = (
        "Left: the first iteration at which ‖q_l‖ reaches the given part of ‖δ_l‖. Right: the first iteration at which "
        "the weight gradient has the given cosine to BP's, mean over the seeds. At initialisation, "
        f"N = {credit['width']}, {credit['activation']}; exponents by least squares on logarithms (left over distances "
        "≥ 3). Missing points: not reached in every seed."
    )
    sources = (credit["source"], convergence["source"])
    return [
        Figure("exponents", "Ballistic and diffusive: iterations against distance and depth", caption, canvas, sources)
    ]


def _fitted(ax: Any, points: dict[int, float], setting: str, label: str) -> None:
    """Points and the line through them, with its exponent in the legend."""
    if len(points) < 2:
        return
    exponent, factor = arrival_exponent(list(points), list(points.values()))
    style = style_of(setting)
    x = np.array([min(points), max(points)])
    ax.plot(x, factor * x**exponent, color=style["color"], linestyle=style["linestyle"], linewidth=1.1)
    some = list(points)[:: max(1, len(points) // 25)]
    marks = {"marker": style["marker"], "linestyle": style["linestyle"], "color": style["color"], "linewidth": 1.1}
    ax.plot(some, [points[d] for d in some], **marks | {"linestyle": "none"}, markersize=4)
    ax.plot([], [], **marks, markersize=4, label=f"{label}: exponent {exponent:.2f}")
