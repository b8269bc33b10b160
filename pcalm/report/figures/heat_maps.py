"""Mean accuracy over width × depth, one panel per method and budget."""

from __future__ import annotations

import re

import numpy as np

from pcalm.report.comparisons.cells import Cells
from pcalm.report.comparisons.methods import at, methods_of
from pcalm.report.figures.drawing import Figure, new_canvas
from pcalm.report.results import Results


def figures(results: Results) -> list[Figure]:
    """Mean accuracy over width × depth, one panel per method and budget; where there is more than one cell."""
    drawn = []
    for context, runs in Cells(results.training).contexts():
        kinds = methods_of(runs)
        widths, depths = (sorted(runs[name].unique().tolist()) for name in ("width", "depth"))
        if len(widths) * len(depths) < 2:
            continue
        means = {
            (setting, budget): part.pivot_table(index="depth", columns="width", values="test_accuracy", observed=True)
            .reindex(index=depths, columns=widths)
            .to_numpy(dtype=float)
            for setting, budget, part in kinds
        }
        known = 100 * np.concatenate([part[~np.isnan(part)] for part in means.values()])
        if not len(known):
            continue
        low, high = known.min(), known.max()
        canvas = new_canvas(2.1 * len(kinds) + 0.9, 0.42 * len(depths) + 1.5)
        axes = canvas.subplots(1, len(kinds), sharey=True, squeeze=False)[0]
        for ax, (setting, budget, _) in zip(axes, kinds, strict=True):
            values = 100 * means[setting, budget]
            image = ax.imshow(values, cmap="cividis", vmin=low, vmax=high, aspect="auto", origin="lower")
            for (row, column), value in np.ndenumerate(values):
                dark = not np.isnan(value) and value < (low + high) / 2
                text = "–" if np.isnan(value) else f"{value:.1f}"
                ax.text(column, row, text, ha="center", va="center", color="white" if dark else "black", fontsize=8)
            title = at(setting, budget).replace(", ", "\n")  # neighbours would run into each other
            ax.set(title=title, xlabel="width N", xticks=range(len(widths)), xticklabels=widths)
            ax.set(yticks=range(len(depths)), yticklabels=depths)
            ax.grid(False)
            ax.spines[:].set_visible(False)
        axes[0].set_ylabel("depth L")
        canvas.colorbar(image, ax=axes, label="test accuracy, %", pad=0.015, fraction=0.04)
        name = "-".join(["accuracy", *(re.sub(r"[^\w.]+", "-", str(value)) for value in context.values())])
        about = ", ".join(map(str, context.values()))
        caption = (
            "Mean test accuracy over the seeds by width and depth; one colour scale for all methods. A dash: not run, "
            "or diverged."
        )
        title = "Test accuracy over width × depth" + (f": {about}" if about else "")
        drawn.append(Figure(name, title, caption, canvas, tuple(runs["source"])))
    return drawn
