"""One colour, line style and marker per method, everywhere."""

from __future__ import annotations

from typing import Any

from pcalm.report.comparisons.methods import of_rule

# method: (colour, line style, marker)
STYLES: dict[str, tuple[str, Any, str]] = {
    "bp": ("#000000", "-", "o"),
    "pc": ("#D55E00", (0, (1, 1.2)), "s"),
    "pcalm": ("#0072B2", (0, (5, 2)), "^"),
    "anchored-start": ("#999999", (0, (3, 1, 1, 1)), "d"),
    "anchored": ("#56B4E9", "-", "D"),
    "gauged": ("#882255", "-", "P"),
    "gauged by BP": ("#FFB000", (0, (3, 1, 1, 1)), "v"),
}
OTHERS = ("#CC79A7", "#E69F00", "#009E73")


def style_of(setting: str, marker: bool = True) -> dict[str, Any]:
    """Matplotlib's keyword arguments for a method's lines; half a marker where η is not found in its own way."""
    other = (OTHERS[sum(setting.encode()) % len(OTHERS)], "-.", "v")
    method, rule = (setting, "") if setting in STYLES else of_rule(setting)
    colour, line, symbol = STYLES.get(method, other)
    symbols = {"marker": symbol} | ({"fillstyle": "left"} if rule else {})
    return {"color": colour, "linestyle": line} | (symbols if marker else {})
