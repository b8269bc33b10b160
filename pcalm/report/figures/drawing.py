"""What every figure is: a drawing with its words, made with settings of its own.

What a user's matplotlibrc, style or program has set for matplotlib neither changes a figure nor breaks it.
"""

from __future__ import annotations

import functools
import io
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import matplotlib.style
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Canvas
from matplotlib.font_manager import findfont, get_font

from pcalm.experiments.storage import replacing

# Machines differ in the last of six decimals, which nobody sees; a scale multiplies, and stays as it is.
COORDINATES = re.compile(r"scale\([^)]*\)|-?\d+\.\d{4,}")
DECIMALS = 3

SETTINGS: dict[str, Any] = {
    "svg.hashsalt": "pcalm",  # ids in the file are the same every time
    "svg.fonttype": "path",  # text looks the same where other fonts are installed
    "text.parse_math": False,  # a name may hold dollar signs
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
MOST = 40  # characters of a name in a drawing
P = ParamSpec("P")
T = TypeVar("T")


def with_own_settings(draw: Callable[P, T]) -> Callable[P, T]:
    """What it draws has matplotlib's defaults and SETTINGS, whatever is set outside."""

    @functools.wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> T:
        with matplotlib.style.context(["default", SETTINGS]):
            return draw(*args, **kwargs)

    return drawn


def short(name: Any) -> str:
    """A name as it fits a drawing, in characters that its font has."""
    text = "".join(letter if ord(letter) in _letters() else "?" for letter in str(name))
    return text if len(text) <= MOST else f"{text[: MOST - 1]}…"


@functools.cache
def _letters() -> frozenset[int]:
    font = get_font(findfont(SETTINGS["font.family"]))
    return frozenset(font.get_charmap()) | {ord("\n")}


def _rounded(found: re.Match[str]) -> str:
    return found[0] if found[0].startswith("scale") else f"{float(found[0]):.{DECIMALS}f}"


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

    @with_own_settings
    def svg(self) -> str:
        text = io.StringIO()
        self.canvas.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
        return COORDINATES.sub(_rounded, text.getvalue())

    @with_own_settings
    def png(self) -> bytes:
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


def doublings(low: float, high: float, most: int = 6) -> list[float]:
    """At most so many powers of two over the range, for the ticks of a logarithmic axis; 0 < low ≤ high."""
    first, last = math.floor(math.log2(low)), math.ceil(math.log2(high))
    every = max(1, math.ceil((last - first) / (most - 1)))
    return [2.0**power for power in range(first, last + 1, every)]


def new_canvas(width: float, height: float) -> Canvas:
    canvas = Canvas(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(canvas)
    return canvas
