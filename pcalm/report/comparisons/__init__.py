"""The comparison tables, made from `pcalm.report.results` alone: numbers in, numbers out, none of them edited.

One module per subject, each with `tables(results)`. A cell is what a network is trained on and how: implementation,
data set, activation, epochs, learning rate, batch size, dtype, device, width N and depth L. In a cell, methods and
budgets are compared with BP seed by seed.
"""

from __future__ import annotations

from pcalm.report.comparisons import (
    accuracy,
    alignment,
    budgets,
    conformance,
    convergence,
    cost,
    credit,
    diverged,
    implementations,
    kill_matrix,
    networks,
    overview,
    pairs,
    scattering,
    speed,
)
from pcalm.report.results import Results
from pcalm.report.tables import Table

# In the order of a report.
SUBJECTS = (
    overview,
    pairs,
    accuracy,
    cost,
    diverged,
    networks,
    alignment,
    budgets,
    convergence,
    credit,
    scattering,
    conformance,
    implementations,
    kill_matrix,
    speed,
)


def all_tables(results: Results) -> list[Table]:
    """Every table that there are results for."""
    return [table for subject in SUBJECTS for table in subject.tables(results) if table.rows]
