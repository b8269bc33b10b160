"""Alignment, budgets, convergence, credit and scattering: measurements become tables."""

from __future__ import annotations

import numpy as np
import pytest

from pcalm.report.results import Results
from tests.report.report_cases import measured, rows


def test_measurements_become_tables() -> None:
    found = Results(measured=measured())
    worst = rows(found, "alignment")[0]
    assert [worst[name] for name in ("cosine, worst", "median", "best")] == pytest.approx([0.7, 0.8, 0.9])
    assert worst["worst at"] == "relu N=8 L=8 seed 2"
    assert rows(found, "alignment-cells")[0]["norm ratio, mean"] == pytest.approx(0.6)
    assert rows(found, "evenness")[0]["min r / max r"] == pytest.approx(1 / 3)
    assert rows(found, "evenness")[0]["std / mean"] == pytest.approx(np.std([0.5, 1, 1.5, 1, 1, 1, 1]))
    assert rows(found, "arrival")[0]["exponent"] == 1.01
    pc, pcalm = rows(found, "convergence")
    assert (pc["L = 8"], pc["exponent"]) == (None, None)
    assert (pcalm["L = 16"], pcalm["exponent"], pcalm["factor"]) == (32, pytest.approx(1), pytest.approx(2))
    assert rows(found, "scattering")[0]["1.25L"] == pytest.approx(1.25 / 4)


def test_budgets_become_alignment_before_and_after_and_the_law() -> None:
    found = Results(measured=measured())
    overview = {(row["network"], row["method"]): row for row in rows(found, "trained-alignment")}
    assert list(overview) == [
        *(("initial", "PC"), ("initial", "PC-ALM"), ("trained by BP", "PC"), ("trained by BP", "PC-ALM")),
        ("trained by the method", "PC-ALM"),
    ]
    assert overview["initial", "PC"]["networks"] == 2
    assert overview["trained by BP", "PC"]["cosine at 2L, worst"] == pytest.approx(0.6)
    assert rows(found, "trained-cells")[0]["cosine at 4L"] == pytest.approx(0.95)
    needed = rows(found, "needed")
    assert [row["PC-ALM, 0.9"] for row in needed] == pytest.approx([2, 8**0.5, 2, 8**0.5])
    assert [row["PC-ALM, 0.99"] for row in needed] == [None] * 4
    assert [row["√(λ_max/4)"] for row in needed] == pytest.approx([1, 2**0.5, 1, 2**0.5])
    law = {(row["method"], row["cosine"]): row for row in rows(found, "budget-law")}
    assert law["PC", 0.9]["reached, trained"] == 0
    names = ("networks", "reached, initial", "T/L, initial", "trained", "factor", "by the law", "explained")
    assert [law["PC-ALM", 0.9][name] for name in names] == pytest.approx([2, 2, 2, 8**0.5, 2**0.5, 2**0.5, 1])
