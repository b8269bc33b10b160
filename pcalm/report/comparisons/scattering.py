"""What scatters the first arrival of credit."""

from __future__ import annotations

import numpy as np

from pcalm.report.results import Results
from pcalm.report.tables import Column, Table, TableBuilder


def tables(results: Results) -> list[Table]:
    content = results.measured.get("scattering")
    if content is None:
        return []
    budgets = (1.125, 1.25, 1.5, 2, 4)
    at = [content["curve_budgets"].index(budget) for budget in budgets]
    columns = [Column("hidden blocks"), *(Column(f"{budget:g}L", ".3f") for budget in budgets)]
    seeds = len({curve["seed"] for curve in content["curves"]})
    notes = [
        f"Cosine to BP's weight gradient by budget, mean over {seeds} seeds; linear, N = {content['width']},"
        f" L = {content['depth']}, ρ = {content['penalty']}, α = {content['dual_step']}, κ = 0."
    ]
    built = TableBuilder(
        "scattering", "What scatters the first arrival: the symmetric part of the blocks", columns, notes
    )
    for kind in dict.fromkeys(curve["blocks"] for curve in content["curves"]):
        curves = [curve["cosine"] for curve in content["curves"] if curve["blocks"] == kind]
        built.add([kind, *(float(np.mean([curve[i] for curve in curves])) for i in at)], [content["source"]])
    return [built.table()]
