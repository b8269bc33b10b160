"""How methods are named and ordered, and the runs of each."""

from __future__ import annotations

import pandas

NAMES = {
    "bp": "BP",
    "pc": "PC",
    "pcalm": "PC-ALM",
    "anchored-start": "anchored PC-ALM (fixed η)",
    "anchored": "anchored PC-ALM",
    "gauged": "gauged anchored PC-ALM",
}


def name_of(setting: str) -> str:
    return NAMES.get(setting, setting)


def order_of(setting: str) -> tuple[int, str]:
    """As in NAMES, then the others by name."""
    return (list(NAMES).index(setting) if setting in NAMES else len(NAMES), setting)


def at(setting: str, budget: float) -> str:
    return f"{name_of(setting)}, {budget:g}L" if budget else name_of(setting)


def methods_of(runs: pandas.DataFrame) -> list[tuple[str, float, pandas.DataFrame]]:
    """(setting, budget T/L or 0 for BP, its runs by seed), in the order of a report."""
    groups = [(str(key[0]), float(key[1]), part) for key, part in runs.groupby(["setting", "budget"])]
    ordered = sorted(groups, key=lambda group: (order_of(group[0]), group[1]))
    return [(setting, budget, part.sort_values("seed")) for setting, budget, part in ordered]
