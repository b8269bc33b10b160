"""Cosine of the weight gradient to BP's by inference budget, one panel per depth."""

from __future__ import annotations

import numpy as np

from pcalm.report.comparisons.methods import name_of, order_of
from pcalm.report.figures.drawing import Figure, new_canvas, short, with_own_settings
from pcalm.report.figures.styles import style_of
from pcalm.report.results import Results


@with_own_settings
def figures(results: Results) -> list[Figure]:
    content = results.measured.get("convergence")
    if content is None:
        return []
    depths = sorted({curve["depth"] for curve in content["curves"]})
    canvas = new_canvas(2.0 * len(depths), 2.7)
    axes = canvas.subplots(1, len(depths), sharey=True, squeeze=False)[0]
    for ax, depth in zip(axes, depths, strict=True):
        for setting in sorted({curve["method"] for curve in content["curves"]}, key=order_of):
            curves = np.array(
                [c["cosine"] for c in content["curves"] if c["depth"] == depth and c["method"] == setting]
            )
            style = style_of(setting) | {"markevery": (7, 16)}
            ax.plot(content["curve_budgets"], curves.mean(0), label=short(name_of(setting)), **style)
            ax.fill_between(
                content["curve_budgets"], curves.min(0), curves.max(0), color=style["color"], alpha=0.2, lw=0
            )
        ax.axhline(1, color="black", linewidth=0.8)
        ax.set(title=f"L = {depth}", xlabel="budget T / L", xlim=(0, 8), ylim=(0.2, 1.02))
        ax.axvline(2, color="#888888", linewidth=0.8, linestyle=":")
    axes[0].set_ylabel("cosine to BP's gradient")
    handles, labels = axes[0].get_legend_handles_labels()
    canvas.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    caption = (
        f"Cosine of the weight gradient to BP's at initialisation by inference budget, N = {content['width']}, "
        f"{content['activation']}, {content['samples']} images of {content['dataset']}: mean and range over the seeds. "
        "The paper's budget is the dotted line. Plain PC-ALM rings; anchoring damps it. In deep networks, PC stays "
        "where it is."
    )
    return [Figure("cosine-budget", "Alignment with BP against budget", caption, canvas, (content["source"],))]
