"""Mean accuracy over width × depth, one panel per method and budget."""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Iterable
from typing import Any

import numpy as np

from pcalm.report.comparisons.cells import Cells
from pcalm.report.comparisons.methods import at, methods_of
from pcalm.report.figures.drawing import Figure, new_canvas, short, with_own_settings
from pcalm.report.results import Results

PANELS = 3  # side by side: more would be too small to read on a page
MOST_ID = 60  # characters


@with_own_settings
def figures(results: Results) -> list[Figure]:
    """Mean accuracy over width × depth, one panel per method and budget; where there is more than one cell."""
    drawn: list[Figure] = []
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
        columns = min(len(kinds), PANELS)
        rows = -(-len(kinds) // columns)
        canvas = new_canvas(2.1 * columns + 0.9, (0.42 * len(depths) + 1.5) * rows)
        axes = canvas.subplots(rows, columns, sharey=True, squeeze=False)
        for ax in axes.flat[len(kinds) :]:
            ax.set_visible(False)
        for ax, (setting, budget, _) in zip(axes.flat, kinds, strict=False):
            values = 100 * means[setting, budget]
            image = ax.imshow(values, cmap="cividis", vmin=low, vmax=high, aspect="auto", origin="lower")
            for (row, column), value in np.ndenumerate(values):
                dark = not np.isnan(value) and value < (low + high) / 2
                text = "–" if np.isnan(value) else f"{value:.1f}"
                ax.text(column, row, text, ha="center", va="center", color="white" if dark else "black", fontsize=8)
            title = short(at(setting, budget)).replace(", ", "\n")  # neighbours would run into each other
            ax.set(title=title, xlabel="width N", xticks=range(len(widths)), xticklabels=widths)
            ax.set(yticks=range(len(depths)), yticklabels=depths)
            ax.grid(False)
            ax.spines[:].set_visible(False)
        for ax in axes[:, 0]:
            ax.set_ylabel("depth L")
        canvas.colorbar(image, ax=axes, label="test accuracy, %", pad=0.015, fraction=0.04)
        name = _id(context.values(), {figure.id.lower() for figure in drawn})
        about = ", ".join(map(str, context.values()))
        caption = (
            "Mean test accuracy over the seeds by width and depth; one colour scale for all methods. A dash: not run, "
            "or diverged."
        )
        title = "Test accuracy over width × depth" + (f": {about}" if about else "")
        drawn.append(Figure(name, title, caption, canvas, tuple(runs["source"])))
    return drawn


def _id(values: Iterable[Any], taken: Collection[str]) -> str:
    """A name for files and links, whatever the values hold; numbered where another figure has it."""
    name = "-".join(["accuracy", *(re.sub(r"[^A-Za-z0-9_.]+", "-", str(value)) for value in values)])[:MOST_ID]
    numbered = (f"{name}-{number}" if number > 1 else name for number in itertools.count(1))
    return next(each for each in numbered if each.lower() not in taken)
