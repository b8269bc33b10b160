"""What every figure is: a drawing with its words, made with settings of its own."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Canvas

from pcalm.experiments.storage import replacing

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


def new_canvas(width: float, height: float) -> Canvas:
    canvas = Canvas(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(canvas)
    return canvas
