"""How methods are named and ordered, and the runs of each."""

from __future__ import annotations

import pandas

NAMES = {
    "bp": "BP",
    "pc": "PC",
    "pcalm": "PC-ALM",
    "anchored": "anchored PC-ALM",
    "gauged": "gauged anchored PC-ALM",
    "gauged by BP": "anchored, gauged by BP's adjoint",
}


# How η was found, where that is not the method's own way (see `pcalm.experiments.records`).
RULES = {"start": "fixed η", "tracked": "tracked η"}


def of_rule(setting: str) -> tuple[str, str]:
    """The method, and the rule by which its η was found where the setting says so, else ""."""
    method, _, rule = setting.rpartition("-")
    return (method, rule) if method in NAMES and rule in RULES else (setting, "")


def name_of(setting: str) -> str:
    method, rule = of_rule(setting)
    return f"{NAMES[method]} ({RULES[rule]})" if rule else NAMES.get(setting, setting)


def order_of(setting: str) -> tuple[int, str]:
    """As in NAMES, then the others by name."""
    method, _ = of_rule(setting)
    return (list(NAMES).index(method) if method in NAMES else len(NAMES), setting)


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
