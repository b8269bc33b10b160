"""Alignment of trained networks, and the budget law: how much budget a cosine takes, and whether the wave explains it.

A wave that moves √(αη) layers per iteration, η = 1/λ_max, is through L layers after L √(λ_max/α) iterations. So if its
arrival is all that a cosine waits for, T/L grows as √(λ_max/4), which is about 1 at initialisation.
"""

from __future__ import annotations

import math

import numpy as np
import pandas

from pcalm.report.comparisons.cells import Row
from pcalm.report.comparisons.methods import name_of, order_of
from pcalm.report.results import Results
from pcalm.report.tables import Column, Table, TableBuilder, Value

AT = (1, 2, 4)
TARGETS = (0.9, 0.99)
WEIGHTS = {"initial": "initial", "bp": "trained by BP"}
OWN = "trained by the method"
NETWORK = ["activation", "width", "depth", "seed"]


def frame_of(results: Results) -> pandas.DataFrame | None:
    """The measurement's rows, with `network`: whose weights they are, in words."""
    content = results.measured.get("budgets")
    if content is None or not content["rows"]:
        return None
    frame = pandas.DataFrame(content["rows"], columns=content["columns"])
    for target in TARGETS:
        frame[f"least_{target}"] = frame[f"least_{target}"].astype(float)
    own = frame["weights"] == frame["method"]
    return frame.assign(network=frame["weights"].map(WEIGHTS).where(~own, OWN).fillna(frame["weights"]))


def in_order(frame: pandas.DataFrame) -> list[str]:
    """Its methods, in the order of a report."""
    return sorted(frame["method"].unique(), key=order_of)


def tables(results: Results) -> list[Table]:
    frame = frame_of(results)
    if frame is None:
        return []
    content = results.measured["budgets"]
    seeds = ", ".join(map(str, sorted(frame["seed"].unique().tolist())))
    about = (
        f"On {content['samples']} training images of {content['dataset']}; networks are trained for one epoch, with "
        f"the seeds {seeds}; η = 1/λ_max of the weights measured."
    )
    return [table(frame, content["source"], about) for table in (overview, by_cell, law, needed)]


def overview(frame: pandas.DataFrame, source: str, about: str) -> Table:
    """Alignment before and after training, over all networks."""
    columns = [Column("activation"), Column("network"), Column("method"), Column("networks", "d")]
    for budget in AT:
        columns += [Column(f"cosine at {multiple(budget)}, {part}", ".2f") for part in ("worst", "median")]
        columns += [Column(f"norm ratio at {multiple(budget)}, median", ".2f")]
    built = TableBuilder(
        "trained-alignment", "Alignment with BP before and after training, over all networks", columns, [about]
    )
    for (activation, network), part in frame.groupby(["activation", "network"], sort=False):
        for method in in_order(part):
            runs = part[part["method"] == method]
            row: Row = [activation, network, name_of(method), len(runs)]
            for budget in AT:
                cosine = runs[f"cosine_{budget}"]
                row += [float(cosine.min()), float(cosine.median()), float(runs[f"norm_ratio_{budget}"].median())]
            built.add(row, [source])
    return built.table()


def by_cell(frame: pandas.DataFrame, source: str, about: str) -> Table:
    """Alignment at L, 2L and 4L in every cell, mean over the seeds."""
    columns = [Column("activation"), Column("network"), Column("N", "d"), Column("L", "d"), Column("seeds", "d")]
    columns += [
        Column("method"),
        Column("‖δ_1‖/‖δ_{L−1}‖", ".2f"),
        Column("w_1", ".2f", "the gauge at the first layer"),
    ]
    for budget in AT:
        columns += [Column(f"cosine at {multiple(budget)}", ".3f"), Column(f"norm ratio at {multiple(budget)}", ".2f")]
    notes = [f"Mean over the seeds. {about}"]
    built = TableBuilder("trained-cells", "Alignment with BP by cell", columns, notes)
    for (activation, network, width, depth), part in frame.groupby(
        ["activation", "network", "width", "depth"], sort=False
    ):
        for method in in_order(part):
            runs = part[part["method"] == method]
            row: Row = [activation, network, int(width), int(depth), len(runs), name_of(method)]
            names = [
                "adjoint",
                "gauge",
                *(f"{figure}_{budget}" for budget in AT for figure in ("cosine", "norm_ratio")),
            ]
            built.add([*row, *(float(runs[name].mean()) for name in names)], [source])
    return built.table()


def needed(frame: pandas.DataFrame, source: str, about: str) -> Table:
    """The least budget for every cosine, by cell."""
    methods = [method for method in in_order(frame) if method != "pc"]
    columns = [Column("activation"), Column("network"), Column("N", "d"), Column("L", "d"), Column("seeds", "d")]
    columns += [Column("λ_max", ".2f", "in the gauge 1"), Column("√(λ_max/4)", ".2f")]
    columns += [Column(f"{name_of(method)}, {target:g}", ".2f") for method in methods for target in TARGETS]
    notes = [f"T/L, mean over the seeds; looked at every L/16 iterations. A dash: not within 8L in every seed. {about}"]
    built = TableBuilder("needed", "The least budget for a cosine of 0.9 and 0.99, by cell", columns, notes)
    both = frame[frame["network"] != OWN]
    for key, part in both.groupby(["activation", "network", "width", "depth"], sort=False):
        activation, network, width, depth = key
        plain = part[part["gauge"] == 1]
        eigenvalue = float(plain["eigenvalue"].mean())
        row: Row = [activation, network, int(width), int(depth), int(part["seed"].nunique())]
        row += [eigenvalue, math.sqrt(eigenvalue / 4)]
        for method in methods:
            runs = part[part["method"] == method]
            row += [_mean_if_all(runs[f"least_{target}"]) for target in TARGETS]
        built.add(row, [source])
    return built.table()


def law(frame: pandas.DataFrame, source: str, about: str) -> Table:
    """What training does to the budget, and what √(λ_max/4) says that it does."""
    columns = [Column("activation"), Column("method"), Column("cosine", "g"), Column("networks", "d")]
    columns += [
        *(Column("reached, initial", "d"), Column("reached, trained", "d")),
        *(Column("T/L, initial", ".2f", "median over the networks that reach it in both"), Column("trained", ".2f")),
        Column("factor", ".2f", "T/L after training by T/L before, geometric mean over the networks"),
        Column("by the law", ".2f", "√(λ_max after training / before), geometric mean"),
        Column("explained", ".0%", "of the factors' mean square logarithm"),
        Column("with λ_max", "+.2f", "rank correlation of T/L after training"),
        Column("with ‖δ_1‖/‖δ_{L−1}‖", "+.2f", "the same, with how unlevel BP's adjoint is"),
    ]
    notes = [
        "Training by BP; every network against itself at initialisation. The law: T/L grows as √(λ_max/4), λ_max in "
        "the method's gauge. Explained: 1 − Σ(log factor − log law)²/Σ(log factor)², below zero where the law "
        f"says worse than nothing. The last two columns: rank correlations (Spearman) of T/L after training. {about}"
    ]
    built = TableBuilder("budget-law", "The budget that a cosine takes, before and after training", columns, notes)
    for activation, part in frame.groupby("activation", sort=False):
        for method in in_order(part):
            for target in TARGETS:
                changes = changed(part, method, target)
                if not len(changes):
                    continue
                row: Row = [activation, name_of(method), target, len(changes)]
                row += [int(changes[name].notna().sum()) for name in ("before", "after")]
                built.add([*row, *_fit(changes.dropna())], [source])
    return built.table()


def changed(frame: pandas.DataFrame, method: str, target: float) -> pandas.DataFrame:
    """Networks measured both before and after training by BP: T/L `before` and `after`, and λ_max."""
    mine = frame[frame["method"] == method]
    sides = [
        mine[mine["network"] == network].set_index(NETWORK)[[f"least_{target}", "eigenvalue", "adjoint"]]
        for network in WEIGHTS.values()
    ]
    both = sides[0].merge(sides[1], left_index=True, right_index=True, suffixes=(" before", " after"))
    return both.rename(columns=lambda name: name.replace(f"least_{target} ", ""))


def _fit(changes: pandas.DataFrame) -> list[Value]:
    """Median T/L before and after, the factor between them, that by the law, what it explains, and correlations."""
    if changes.empty:
        return [None] * 7
    factors = np.log(changes["after"] / changes["before"])
    laws = np.log(changes["eigenvalue after"] / changes["eigenvalue before"]) / 2
    whole = float((factors**2).sum())
    explained = 1 - float(((factors - laws) ** 2).sum()) / whole if whole else None
    medians = [float(changes[name].median()) for name in ("before", "after")]
    ranks = [_rank_correlation(changes["after"], changes[f"{name} after"]) for name in ("eigenvalue", "adjoint")]
    return [*medians, math.exp(factors.mean()), math.exp(laws.mean()), explained, *ranks]


def _rank_correlation(a: pandas.Series, b: pandas.Series) -> float | None:
    return float(a.rank().corr(b.rank())) if min(a.nunique(), b.nunique()) > 1 else None


def multiple(budget: float) -> str:
    """A budget in multiples of L."""
    return "L" if budget == 1 else f"{budget:g}L"


def _mean_if_all(values: pandas.Series) -> float | None:
    return float(values.mean()) if len(values) and values.notna().all() else None
