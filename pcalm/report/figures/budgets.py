"""Alignment of trained networks by budget, and the budget that a cosine takes against √(λ_max/4)."""

from __future__ import annotations

import numpy as np
import pandas

from pcalm.report.comparisons.budgets import AT, TARGETS, WEIGHTS, frame_of, in_order, multiple
from pcalm.report.comparisons.methods import name_of
from pcalm.report.figures.drawing import Figure, doublings, new_canvas, short, with_own_settings
from pcalm.report.figures.styles import style_of
from pcalm.report.results import Results

LEAST = f"least_{TARGETS[0]}"


@with_own_settings
def figures(results: Results) -> list[Figure]:
    frame = frame_of(results)
    if frame is None:
        return []
    source = results.measured["budgets"]["source"]
    frame = frame[frame["activation"] == frame["activation"].iloc[0]]
    frame = frame[frame["network"].isin(WEIGHTS.values())]
    drawn = [_alignment(frame, source), _law(frame, source)]
    return [figure for figure in drawn if figure is not None]


def _alignment(frame: pandas.DataFrame, source: str) -> Figure | None:
    if frame.empty:
        return None
    networks = [network for network in WEIGHTS.values() if (frame["network"] == network).any()]
    canvas = new_canvas(5.0, 2.4 * len(networks) + 0.9)  # above each other: on a phone, too, they can be read
    axes = canvas.subplots(len(networks), 1, sharex=True, squeeze=False)[:, 0]
    handles = {}
    for ax, network in zip(axes, networks, strict=True):
        part = frame[frame["network"] == network]
        for number, method in enumerate(in_order(part)):
            cosines = part.loc[part["method"] == method, [f"cosine_{budget}" for budget in AT]].to_numpy(dtype=float)
            style = style_of(method)
            places = np.arange(len(AT)) + 0.06 * (number - 2)  # beside each other, so that no range hides another
            (handles[short(name_of(method))],) = ax.plot(places, np.median(cosines, axis=0), **style)
            ax.vlines(places, cosines.min(axis=0), cosines.max(axis=0), color=style["color"], linewidth=0.9)
        ax.axhline(1, color="black", linewidth=0.8)
        ax.set(title=network, xticks=range(len(AT)), xticklabels=[multiple(budget) for budget in AT])
        ax.set(ylabel="cosine to BP's gradient", ylim=(None, 1.02))
    axes[-1].set_xlabel("budget T")
    canvas.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=2)
    first = frame.iloc[0]
    sizes = [sorted(frame[name].unique().tolist()) for name in ("width", "depth")]
    caption = (
        f"Median over the networks, and range: N in {', '.join(map(str, sizes[0]))}, L in "
        f"{', '.join(map(str, sizes[1]))}, {first['activation']}."
    )
    return Figure("trained-alignment", "Alignment with BP before and after training", caption, canvas, (source,))


def _law(frame: pandas.DataFrame, source: str) -> Figure | None:
    frame = frame[(frame["method"] != "pc") & frame[LEAST].notna()].assign(wave=np.sqrt(frame["eigenvalue"] / 4))
    if frame.empty:
        return None
    canvas = new_canvas(5.0, 6.2)
    axes = canvas.subplots(2, 1)
    handles = {}
    for ax, name in zip(axes, ("wave", "adjoint"), strict=True):
        for method in in_order(frame):
            style = style_of(method) | {"linestyle": "none", "markersize": 4}
            for network in WEIGHTS.values():
                part = frame[(frame["method"] == method) & (frame["network"] == network)]
                filled = {} if network == WEIGHTS["bp"] else {"markerfacecolor": "none"}
                (points,) = ax.plot(part[name], part[LEAST], **style, **filled)
                handles[short(name_of(method))] = points
    for method in in_order(frame):
        start = frame[(frame["method"] == method) & (frame["network"] == WEIGHTS["initial"])]
        if len(start):
            ends = np.array([frame["wave"].min(), frame["wave"].max()])
            line = style_of(method, marker=False) | {"linewidth": 1}
            axes[0].plot(ends, (start[LEAST] / start["wave"]).median() * ends, **line)
    for ax, label in zip(axes, ("√(λ_max / 4)", "‖δ_1‖ / ‖δ_L-1‖ of BP's adjoint"), strict=True):
        ax.set(xlabel=label, ylabel=f"T / L for a cosine of {TARGETS[0]:g}", ylim=(0, None))
    ticks = doublings(frame["adjoint"].min(), frame["adjoint"].max())
    axes[1].set_xscale("log", base=2)
    axes[1].set_xticks(ticks, [f"{each:g}" for each in ticks])
    axes[1].minorticks_off()
    canvas.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=2)
    caption = (
        "A point is a network: hollow at initialisation, filled after training by BP. Above, against the speed of the "
        "wave; the lines are the law T/L ∝ √(λ_max/4) through the hollow points. Below, against how unlevel BP's "
        "adjoint is, which scatters credit. Networks that do not reach the cosine within 8L have no point."
    )
    return Figure("budget-law", "The budget that a cosine takes: what it depends on", caption, canvas, (source,))
