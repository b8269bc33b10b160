"""What scatters the first arrival of credit, by the blocks of linear networks."""

from __future__ import annotations

import numpy as np

from pcalm.report.figures.drawing import Figure, new_canvas, with_own_settings
from pcalm.report.results import Results


@with_own_settings
def figures(results: Results) -> list[Figure]:
    content = results.measured.get("scattering")
    if content is None:
        return []
    canvas = new_canvas(5.0, 3.2)
    ax = canvas.subplots()
    # No method is meant here, so none of the methods' colours.
    styles = {"Gaussian": ("#009E73", "-"), "antisymmetric": ("#CC79A7", "--"), "symmetric": ("#E69F00", "-.")}
    for kind, (colour, line) in styles.items():
        curves = np.array([curve["cosine"] for curve in content["curves"] if curve["blocks"] == kind])
        ax.plot(content["curve_budgets"], curves.mean(0), color=colour, linestyle=line, label=kind)
        ax.fill_between(content["curve_budgets"], curves.min(0), curves.max(0), color=colour, alpha=0.2, lw=0)
    ax.axhline(1, color="black", linewidth=0.8)
    ax.set(xlabel="budget T / L", ylabel="cosine to BP's gradient", xlim=(0, 4), ylim=(0, 1.02))
    ax.legend(title="hidden blocks", loc="lower right")
    caption = (
        f"Linear networks, N = {content['width']}, L = {content['depth']}, ρ = {content['penalty']}, α = "
        f"{content['dual_step']}, κ = 0; mean and range over the seeds. A block that is no isometry reflects a part of "
        "the first arrival; antisymmetric blocks are isometries to first order, symmetric ones are not."
    )
    return [Figure("scattering", "What scatters the first arrival", caption, canvas, (content["source"],))]
