"""Figures, made from `pcalm.report.results` alone. One module per subject, each with `figures(results)`.

Colours are those of Okabe and Ito, a wine red of Tol's and an amber of IBM's, which people with any colour vision tell
apart; line styles and markers tell the methods apart in black and white. The same results give the same SVG, byte for
byte, with the same matplotlib.
"""

from __future__ import annotations

from pcalm.report.figures import (
    accuracy_by_budget,
    accuracy_by_depth,
    budgets,
    cosine_by_budget,
    credit_share,
    exponents,
    heat_maps,
    learning_curves,
    networks,
    scattering,
    space_time,
)
from pcalm.report.figures.drawing import Figure
from pcalm.report.results import Results

# In the order of a report.
SUBJECTS = (
    heat_maps,
    accuracy_by_depth,
    accuracy_by_budget,
    learning_curves,
    networks,
    cosine_by_budget,
    budgets,
    space_time,
    credit_share,
    exponents,
    scattering,
)


def all_figures(results: Results) -> list[Figure]:
    """Every figure that there are results for."""
    return [figure for subject in SUBJECTS for figure in subject.figures(results)]
