"""Alignment, convergence, credit and scattering: measurements become tables."""

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
