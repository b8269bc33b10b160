"""Figures, made from `pcalm.report.results` alone. One colour, line style and marker per method, everywhere.

Colours are those of Okabe and Ito, which people with any colour vision tell apart; line styles and markers tell the
methods apart in black and white. The same results give the same SVG, byte for byte, with the same matplotlib.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure as Canvas
from matplotlib.patheffects import withStroke
from matplotlib.ticker import NullFormatter, ScalarFormatter

from pcalm.analysis import arrival_exponent
from pcalm.experiments.storage import replacing
from pcalm.methods import anchored
from pcalm.report import paper
from pcalm.report.comparisons import Cells, at, methods_of, name_of, order_of, reached
from pcalm.report.results import Results

# method: (colour, line style, marker)
STYLES: dict[str, tuple[str, Any, str]] = {
    "bp": ("#000000", "-", "o"),
    "pc": ("#D55E00", (0, (1, 1.2)), "s"),
    "pcalm": ("#0072B2", (0, (5, 2)), "^"),
    "anchored": ("#56B4E9", "-", "D"),
}
OTHERS = ("#CC79A7", "#E69F00", "#009E73", "#999999")
SETTINGS = {
    "svg.hashsalt": "pcalm",  # ids in the file are the same every time
    "svg.fonttype": "path",  # text looks the same where other fonts are installed
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.5,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.markersize": 4.5,
    "figure.dpi": 100,
}
PNG_DPI = 110
# Less than BP's credit is blue, BP's is white, more is red; in grey, both ends are dark and the middle is light. An odd
# number of colours has a middle one.
CREDIT = LinearSegmentedColormap.from_list("credit", ["#08306b", "#4a90c8", "#ffffff", "#e8825a", "#7f0000"], N=257)


@dataclass(frozen=True)
class Figure:
    """A drawing with what it shows in words, for captions and for those who cannot see it.

    Attributes:
        id: short name, used in file names and links.
        title: one line.
        caption: what to see, and how it was obtained.
        canvas: matplotlib's figure.
        sources: ids of the records that it was drawn from.
    """

    id: str
    title: str
    caption: str
    canvas: Canvas
    sources: tuple[str, ...]

    def svg(self) -> str:
        with matplotlib.rc_context(SETTINGS):
            text = io.StringIO()
            self.canvas.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
        return text.getvalue()

    def png(self) -> bytes:
        with matplotlib.rc_context(SETTINGS):
            content = io.BytesIO()
            self.canvas.savefig(content, format="png", dpi=PNG_DPI, metadata={"Software": None})
        return content.getvalue()

    def write(self, directory: Path, forms: Sequence[str] = ("svg", "png")) -> list[Path]:
        """The figure's files, each there whole or not at all."""
        paths = []
        for form in forms:
            path = directory / f"{self.id}.{form}"
            with replacing(path) as file:
                file.write(self.svg().encode() if form == "svg" else self.png())
            paths.append(path)
        return paths


def all_figures(results: Results) -> list[Figure]:
    """Every figure that there are results for, in the order of a report."""
    with matplotlib.rc_context(SETTINGS):
        return [figure for draw in FIGURES for figure in draw(results)]


def style_of(setting: str, marker: bool = True) -> dict[str, Any]:
    """Matplotlib's keyword arguments for a method's lines."""
    other = (OTHERS[sum(setting.encode()) % len(OTHERS)], "-.", "v")
    colour, line, symbol = STYLES.get(setting, other)
    return {"color": colour, "linestyle": line} | ({"marker": symbol} if marker else {})


def heat_maps(results: Results) -> list[Figure]:
    """Mean accuracy over width × depth, one panel per method and budget; where there is more than one cell."""
    figures = []
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
        canvas = _canvas(2.1 * len(kinds) + 0.9, 0.42 * len(depths) + 1.5)
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
        figures.append(Figure(name, title, caption, canvas, tuple(runs["source"])))
    return figures


def learning_curves(results: Results) -> list[Figure]:
    """Training loss by weight update, of the cell in which methods differ most."""
    chosen = _telling_cell(results.training)
    if chosen is None:
        return []
    curves = results.curves_of(set(chosen["key"]))
    if curves.empty:
        return []
    canvas = _canvas(7.0, 3.2)
    left, right = canvas.subplots(1, 2)
    ends: list[str] = []
    for setting, budget, part in methods_of(chosen):
        mine = curves[curves["key"].isin(part["key"])]
        if mine.empty:
            continue
        ends += list(part["source"])
        mean = mine.groupby("step")[["loss", "accuracy"]].mean()
        window = max(1, len(mean) // 20)  # single batches are noisy
        smooth = mean.rolling(window, min_periods=1).mean()
        style = style_of(setting, marker=False) | {"linewidth": 1.2 if budget not in (0, 2) else 1.8}
        left.plot(smooth.index, smooth["loss"], label=at(setting, budget), **style)
        right.plot(smooth.index, 100 * smooth["accuracy"], **style)
    left.set(xlabel="weight update", ylabel="training loss of the batch")
    right.set(xlabel="weight update", ylabel="training accuracy of the batch, %")
    canvas.legend(loc="outside lower center", ncols=5)
    first = chosen.iloc[0]
    caption = (
        f"{first['dataset']}, {first['activation']}, N = {first['width']}, L = {first['depth']}; mean over the seeds "
        f"of a running mean over {window} logged batches."
    )
    return [Figure("learning-curves", "Learning curves", caption, canvas, tuple(ends))]


def accuracy_by_budget(results: Results) -> list[Figure]:
    """Accuracy against the inference budget, where a cell has more than one budget."""
    panels = []
    for _, runs in Cells(results.training):
        if runs.loc[runs["setting"] != "bp", "budget"].nunique() > 1:
            panels.append(runs)
    if not panels:
        return []
    panels = sorted(panels, key=lambda runs: -len(runs))[:6]
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    canvas = _canvas(2.9 * columns, 2.5 * rows + 0.5)
    axes = canvas.subplots(rows, columns, squeeze=False).flatten()
    handles: dict[str, Any] = {}
    for ax, runs in zip(axes, panels, strict=False):
        for setting, parts in _by_setting(runs).items():
            if setting == "bp":
                handles["BP"] = ax.axhline(100 * parts[0][1]["test_accuracy"].mean(), **style_of("bp", marker=False))
                continue
            budgets = [budget for budget, _ in parts]
            means = [100 * part["test_accuracy"].mean() for _, part in parts]
            (handles[name_of(setting)],) = ax.plot(budgets, means, **style_of(setting))
            for budget, part in parts:
                low, high = 100 * part["test_accuracy"].min(), 100 * part["test_accuracy"].max()
                ax.plot([budget, budget], [low, high], color=style_of(setting)["color"], linewidth=0.8)
        first = runs.iloc[0]
        ax.set(title=f"{first['dataset']} N = {first['width']}, L = {first['depth']}", xlabel="budget T / L")
    for ax in axes[len(panels) :]:
        ax.set_visible(False)
    axes[0].set_ylabel("test accuracy, %")
    canvas.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=len(handles))
    sources = tuple(source for runs in panels for source in runs["source"])
    caption = "Mean test accuracy by inference budget; thin lines from the worst to the best seed."
    return [Figure("accuracy-budget", "Accuracy against inference cost", caption, canvas, sources)]


def cosine_by_budget(results: Results) -> list[Figure]:
    content = results.measured.get("convergence")
    if content is None:
        return []
    depths = sorted({curve["depth"] for curve in content["curves"]})
    canvas = _canvas(2.0 * len(depths), 2.7)
    axes = canvas.subplots(1, len(depths), sharey=True, squeeze=False)[0]
    for ax, depth in zip(axes, depths, strict=True):
        for setting in sorted({curve["method"] for curve in content["curves"]}, key=order_of):
            curves = np.array(
                [c["cosine"] for c in content["curves"] if c["depth"] == depth and c["method"] == setting]
            )
            style = style_of(setting) | {"markevery": (7, 16)}
            ax.plot(content["curve_budgets"], curves.mean(0), label=name_of(setting), **style)
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


def space_time(results: Results) -> list[Figure]:
    """The part of BP's credit that has arrived, layer × iteration, one figure per depth and a panel per method."""
    content = results.measured.get("credit")
    if content is None:
        return []
    figures = []
    for depth in sorted({picture["depth"] for picture in content["pictures"]}):
        pictures = [picture for picture in content["pictures"] if picture["depth"] == depth]
        canvas = _canvas(3.0 * len(pictures) + 0.8, 3.9)
        axes = canvas.subplots(1, len(pictures), sharey=True, squeeze=False)[0]
        for ax, picture in zip(axes, pictures, strict=True):
            arrived, every, setting = np.array(picture["arrived"]), picture["every"], picture["method"]
            last = every * len(arrived)
            extent = (0.5, depth - 0.5, every / 2 / depth, (last + every / 2) / depth)
            image = ax.imshow(
                arrived,
                cmap=CREDIT,
                vmin=0,
                vmax=2,
                origin="lower",
                aspect="auto",
                extent=extent,
                interpolation="nearest",
            )
            layers, times = np.arange(1, depth), every * np.arange(1, len(arrived) + 1) / depth
            ax.contour(layers, times, arrived, levels=[0.1], colors="#ffb000", linewidths=1.6)
            _wave(ax, depth, picture["step_size"], setting)
            ax.set(title=name_of(setting), xlabel="layer l", xlim=(1, depth - 1), ylim=(0, 4))
            ax.grid(False)
        axes[0].set_ylabel("iterations / L")
        bar = canvas.colorbar(image, ax=axes, pad=0.015, fraction=0.035, extend="max")
        bar.set_label("part of BP's credit that has arrived")
        caption = (
            f"−⟨q_l, δ_l⟩/‖δ_l‖² by layer and iteration, L = {depth}, N = {content['width']}, {content['activation']}. "
            "White is exactly BP's credit, blue less, red more; behind the yellow line one tenth has arrived. Credit "
            "starts at the top layer (right). PC: it seeps down, ever slower. PC-ALM: a front runs down at the "
            "predicted speed √(αη) (dashed), is reflected at the input (dotted) and leaves an overshoot behind. "
            "Anchored: the front is faster, and what comes back is damped."
        )
        title = f"The space–time picture of credit, L = {depth}"
        figures.append(Figure(f"credit-{depth}", title, caption, canvas, (content["source"],)))
    return figures


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


def shares(results: Results) -> list[Figure]:
    content = results.measured.get("credit")
    if content is None:
        return []
    keys = sorted({(share["depth"], share["budget"]) for share in content["shares"]})
    canvas = _canvas(2.4 * len(keys), 4.4)
    axes = canvas.subplots(2, len(keys), sharex="col", sharey="row", squeeze=False)
    for column, (depth, budget) in enumerate(keys):
        for ax in axes[:, column]:
            for share in content["shares"]:
                if (share["depth"], share["budget"]) == (depth, budget):
                    style = style_of(share["method"]) | {"markevery": depth // 8}
                    ax.plot(range(1, depth), share["share"], label=name_of(share["method"]), **style)
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


def arrival(results: Results) -> list[Figure]:
    """When credit arrives by distance, and how long an alignment takes by depth; both on logarithmic axes with fits."""
    credit, convergence = results.measured.get("credit"), results.measured.get("convergence")
    if credit is None or convergence is None:
        return []
    targets = convergence["targets"]
    canvas = _canvas(3.0 * (1 + len(targets)), 3.2)
    axes = canvas.subplots(1, 1 + len(targets))
    deepest = max(each["depth"] for each in credit["arrivals"])
    for each in (each for each in credit["arrivals"] if each["depth"] == deepest):
        points = {d: step for d, step in enumerate(each["arrival"], 1) if step is not None}
        label = f"{name_of(each['method'])} (at {each['fraction']:g})"
        _fitted(axes[0], {d: step for d, step in points.items() if d >= 3}, each["method"], label)
    axes[0].set(title=f"arrival of credit, L = {deepest}", xlabel="distance from the top, L − l", ylabel="iterations")
    frame = pandas.DataFrame(convergence["rows"], columns=convergence["columns"])
    for ax, target in zip(axes[1:], targets, strict=True):
        for setting in sorted(frame["method"].unique(), key=order_of):
            _fitted(ax, reached(frame, setting, target), setting, name_of(setting))
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


def scattering(results: Results) -> list[Figure]:
    content = results.measured.get("scattering")
    if content is None:
        return []
    canvas = _canvas(5.0, 3.2)
    ax = canvas.subplots()
    # No method is meant here, so none of the methods' colours.
    styles = {"Gaussian": ("#999999", "-"), "antisymmetric": ("#CC79A7", "--"), "symmetric": ("#E69F00", "-.")}
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


FIGURES: tuple[Callable[[Results], list[Figure]], ...] = (
    *(heat_maps, accuracy_by_budget, learning_curves, cosine_by_budget),
    *(space_time, shares, arrival, scattering),
)


def _telling_cell(training: pandas.DataFrame) -> pandas.DataFrame | None:
    """The runs of the paper's own cell where they are there, else of the deepest cell with the most methods."""
    cells = [runs for _, runs in Cells(training)]
    if not cells:
        return None

    def rank(runs: pandas.DataFrame) -> tuple[bool, int, int, int]:
        first = runs.iloc[0]
        papers = all(first[name] == value for name, value in paper.CELL.items())
        return papers, runs["setting"].nunique(), int(first["depth"]), int(first["width"])

    return max(cells, key=rank)


def _by_setting(runs: pandas.DataFrame) -> dict[str, list[tuple[float, pandas.DataFrame]]]:
    """Method → (budget, its runs), by budget."""
    found: dict[str, list[tuple[float, pandas.DataFrame]]] = {}
    for setting, budget, part in methods_of(runs):
        found.setdefault(setting, []).append((budget, part))
    return found


def _canvas(width: float, height: float) -> Canvas:
    canvas = Canvas(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(canvas)
    return canvas
