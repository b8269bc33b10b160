"""How much of BP's weight gradient every layer gets."""

from __future__ import annotations

from pcalm.report.comparisons.methods import name_of
from pcalm.report.figures.drawing import Figure, new_canvas, short, with_own_settings
from pcalm.report.figures.styles import style_of
from pcalm.report.results import Results


@with_own_settings
def figures(results: Results) -> list[Figure]:
    content = results.measured.get("credit")
    if content is None:
        return []
    keys = sorted({(share["depth"], share["budget"]) for share in content["shares"]})
    canvas = new_canvas(2.4 * len(keys), 4.4)
    axes = canvas.subplots(2, len(keys), sharex="col", sharey="row", squeeze=False)
    for column, (depth, budget) in enumerate(keys):
        for ax in axes[:, column]:
            for share in content["shares"]:
                if (share["depth"], share["budget"]) == (depth, budget):
                    style = style_of(share["method"]) | {"markevery": max(1, depth // 8)}
                    ax.plot(range(1, depth), share["share"], label=short(name_of(share["method"])), **style)
            ax.axhline(1, color="black", linewidth=0.8)
        axes[0, column].set(title=f"L = {depth}, T = {budget}L", ylim=(0, 1.7))
        axes[1, column].set(xlabel="layer l", yscale="log", ylim=(1e-8, 5))
    axes[0, 0].set_ylabel("‖G_l‖ / ‖G_l of BP‖")
    axes[1, 0].set_ylabel("the same, logarithmic")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    canvas.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    caption = (
        f"How much of BP's weight gradient every layer gets, N = {content['width']}, {content['activation']}, at "
        "initialisation (the line at 1 is BP's). Parts below 1e-6 are rounding: PC's credit has not arrived there."
    )
    return [Figure("credit-share", "Credit share per layer", caption, canvas, (content["source"],))]
