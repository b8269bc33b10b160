"""The iterations that an alignment takes, by depth."""

from __future__ import annotations

import pandas

from pcalm.analysis import arrival_exponent
from pcalm.report.comparisons.methods import name_of, order_of
from pcalm.report.results import Results
from pcalm.report.tables import Column, Table, TableBuilder


def tables(results: Results) -> list[Table]:
    """The iterations that an alignment takes, by depth, with the fitted exponent."""
    content = results.measured.get("convergence")
    if content is None:
        return []
    frame = pandas.DataFrame(content["rows"], columns=content["columns"])
    depths = sorted(frame["depth"].unique().tolist())
    columns = [Column("cosine", "g"), Column("method"), *(Column(f"L = {depth}", ".0f") for depth in depths)]
    columns += [Column("exponent", ".2f"), Column("factor", ".2f")]
    notes = [
        f"First iteration with that cosine to BP's weight gradient, mean over {frame['seed'].nunique()} seeds; at "
        "initialisation, "
        f"N = {content['width']}, relu. Fit: iterations = factor · L^exponent.",
        "A dash: not reached in every seed. PC was followed for 4L² iterations up to L = 64, all others for 8L.",
    ]
    built = TableBuilder("convergence", "Iterations to a given alignment with BP, by depth", columns, notes)
    for target in content["targets"]:
        for setting in sorted(frame["method"].unique(), key=order_of):
            means = reached(frame, setting, target)
            fit = arrival_exponent(list(means), list(means.values())) if len(means) > 1 else (None, None)
            row = [target, name_of(setting), *(means.get(depth) for depth in depths), *fit]
            built.add(row, [content["source"]])
    return [built.table()]


def reached(frame: pandas.DataFrame, setting: str, target: float) -> dict[int, float]:
    """Depth → mean iterations, where every seed reached the cosine."""
    found = frame[(frame["method"] == setting) & (frame["target"] == target)].groupby("depth")["iterations"]
    return {int(depth): float(each.mean()) for depth, each in found if each.notna().all()}
