"""How credit travels, and how evenly it is shared."""

from __future__ import annotations

from pcalm.analysis import evenness
from pcalm.report.comparisons.methods import name_of
from pcalm.report.results import Results
from pcalm.report.tables import Column, Table, TableBuilder


def tables(results: Results) -> list[Table]:
    content = results.measured.get("credit")
    if content is None:
        return []
    where = f"{content['dataset']}, N = {content['width']}, {content['activation']}, seed {content['seed']}"
    about = f"{where}, at initialisation."
    columns = [Column("L", "d"), Column("method"), Column("arrived at", "g", "part of ‖δ_l‖ that counts as arrival")]
    columns += [
        Column("layers reached", ".0%", "within 8L iterations"),
        Column("exponent", ".2f"),
        Column("factor", ".2f"),
    ]
    columns += [Column("iterations a layer", ".2f", "to the farthest layer reached")]
    notes = [
        f"{about} Fit over distances ≥ 3 from the top: iterations = factor · distance^exponent. Up to 8L iterations."
    ]
    travel = TableBuilder("arrival", "How credit travels down the layers", columns, notes)
    for depth, setting, *figures in content["rows"]:
        travel.add([depth, name_of(setting), *figures], [content["source"]])
    columns = [Column("L", "d"), Column("method"), Column("T/L", "g"), Column("min r / max r", ".2g")]
    columns += [Column("std / mean", ".2f")]
    even = TableBuilder(
        "evenness", "How evenly credit is shared", columns, [f"r_l = ‖G_l‖/‖G_l^BP‖ for l = 1..L−1. {about}"]
    )
    for share in content["shares"]:
        row = [share["depth"], name_of(share["method"]), share["budget"], *evenness(share["share"])]
        even.add(row, [content["source"]])
    return [travel.table(), even.table()]
