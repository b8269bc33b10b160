"""The part of BP's credit that has arrived, layer × iteration, with the predicted front."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.patheffects import withStroke

from pcalm.methods import anchored
from pcalm.report.comparisons.methods import name_of
from pcalm.report.figures.drawing import Figure, new_canvas, short, with_own_settings
from pcalm.report.results import Results

# Less than BP's credit is blue, BP's is white, more is red; in grey, both ends are dark and the middle is light. An odd
# number of colours has a middle one.
CREDIT = LinearSegmentedColormap.from_list("credit", ["#08306b", "#4a90c8", "#ffffff", "#e8825a", "#7f0000"], N=257)


@with_own_settings
def figures(results: Results) -> list[Figure]:
    """The part of BP's credit that has arrived, layer × iteration, one figure per depth and a panel per method."""
    content = results.measured.get("credit")
    if content is None:
        return []
    drawn = []
    for depth in sorted({picture["depth"] for picture in content["pictures"]}):
        pictures = [picture for picture in content["pictures"] if picture["depth"] == depth]
        canvas = new_canvas(3.0 * len(pictures) + 0.8, 3.9)
        axes = canvas.subplots(1, len(pictures), sharey=True, squeeze=False)[0]
        for ax, picture in zip(axes, pictures, strict=True):
            arrived, every, setting = np.array(picture["arrived"]), picture["every"], picture["method"]
            image = _panel(ax, arrived, depth, every)
            layers, times = np.arange(1, depth), every * np.arange(1, len(arrived) + 1) / depth
            ax.contour(layers, times, arrived, levels=[0.1], colors="#ffb000", linewidths=1.6)
            _wave(ax, depth, picture["step_size"], setting)
            ax.set(title=short(name_of(setting)), xlim=(1, depth - 1), ylim=(0, 4))
        _label(canvas, axes, image)
        caption = (
            f"−⟨q_l, δ_l⟩/‖δ_l‖² by layer and iteration, L = {depth}, N = {content['width']}, {content['activation']}. "
            "White is exactly BP's credit, blue less, red more; behind the yellow line one tenth has arrived. Credit "
            "starts at the top layer (right). PC: it seeps down, ever slower. PC-ALM: a front runs down at the "
            "predicted speed √(αη) (dashed), is reflected at the input (dotted) and leaves an overshoot behind. "
            "Anchored: the front is faster, and what comes back is damped."
        )
        title = f"The space–time picture of credit, L = {depth}"
        drawn.append(Figure(f"credit-{depth}", title, caption, canvas, (content["source"],)))
    return drawn


@with_own_settings
def of_network(network: str, depth: int, pictures: Sequence[tuple[str, Any]]) -> Figure:
    """The same for one network: (method, arrived [T, L−1]) after every iteration, a panel each."""
    canvas = new_canvas(3.0 * len(pictures) + 0.8, 3.9)
    axes = canvas.subplots(1, len(pictures), sharey=True, squeeze=False)[0]
    for ax, (name, arrived) in zip(axes, pictures, strict=True):
        # What has diverged is drawn as nothing: it has no colour.
        image = _panel(ax, np.ma.masked_invalid(arrived), depth, 1)
        ax.set(title=short(name))
    _label(canvas, axes, image)
    caption = (
        f"−⟨q_l, δ_l⟩/‖δ_l‖² by layer and iteration, {network}, L = {depth}. White is BP's credit, blue less, red more."
    )
    return Figure("credit", f"The space–time picture of credit, {network}", caption, canvas, ())


def _panel(ax: Any, arrived: Any, depth: int, every: int) -> Any:
    """The picture of one method, a row for every so many iterations."""
    last = every * len(arrived)
    extent = (0.5, depth - 0.5, every / 2 / depth, (last + every / 2) / depth)
    ax.set_xlabel("layer l")
    ax.grid(False)
    return ax.imshow(
        arrived,
        cmap=CREDIT,
        vmin=0,
        vmax=2,
        origin="lower",
        aspect="auto",
        extent=extent,
        interpolation="nearest",
    )


def _label(canvas: Any, axes: Any, image: Any) -> None:
    axes[0].set_ylabel("iterations / L")
    bar = canvas.colorbar(image, ax=axes, pad=0.015, fraction=0.035, extend="max")
    bar.set_label("part of BP's credit that has arrived")


def _wave(ax: Any, depth: int, step_size: float, setting: str) -> None:
    """The predicted front d = √(αη) t, down to the input and back."""
    if setting == "pc":
        return
    dual_step = anchored(depth)["dual_step"] if setting == "anchored" else 1.0
    speed = (dual_step * step_size) ** 0.5
    once = (depth - 1) / speed / depth
    for label, line, x, y in (
        ("front", "--", (depth - 1, 1), (0, once)),
        ("reflection", ":", (1, depth - 1), (once, 2 * once)),
    ):
        ax.plot(x, y, color="black", linewidth=1.1, linestyle=line)
        text = ax.text(
            sum(x) / 2, sum(y) / 2 + 0.06, label, ha="center", va="bottom", fontsize=8, rotation_mode="anchor"
        )
        text.set(rotation=math.degrees(math.atan((y[1] - y[0]) / (x[1] - x[0]))), transform_rotates_text=True)
        text.set_path_effects([withStroke(linewidth=2.5, foreground="white")])
