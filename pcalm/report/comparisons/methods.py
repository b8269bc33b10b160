"""How methods are named and ordered, and the runs of each."""

from __future__ import annotations

import pandas

NAMES = {
    "bp": "BP",
    "pc": "PC",
    "pc-tracked": "PC (tracked η)",
    "pcalm": "PC-ALM",
    "pcalm-tracked": "PC-ALM (tracked η)",
    "anchored-start": "anchored PC-ALM (fixed η)",
    "anchored": "anchored PC-ALM",
    "gauged": "gauged anchored PC-ALM",
    "gauged by BP": "anchored, gauged by BP's adjoint",
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
    places: dict[tuple[str, float], list[int]] = {}
    keys = zip(runs["setting"].tolist(), runs["budget"].tolist(), runs["seed"].tolist(), strict=True)
    # Sorted by seed; plain Python, since pandas' groupby takes milliseconds, however few the runs.
    for place, (setting, budget, _) in sorted(enumerate(keys), key=lambda entry: entry[1][2]):
        places.setdefault((str(setting), float(budget)), []).append(place)
    ordered = sorted(places.items(), key=lambda group: (order_of(group[0][0]), group[0][1]))
    return [(setting, budget, runs.iloc[each]) for (setting, budget), each in ordered]
