"""Our engines behind the suite's protocol, with settings of each layer, single and packed as replicas."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from pcalm_conformance.protocol import Problem

import pcalm
from pcalm.engines import adapter
from pcalm.methods import Method
from tests.conftest import draw

NET, X, Y, _ = draw()
ETA, RHO, ALPHA, KAPPA = (0.1, 0.2, 0.15, 0.05), (0.5, 1.0, 0.3, 0.7), (1.0, 0.2, 3.0, 0.5), (0.1, 0.0, 0.4, 0.2)
PROBLEM = Problem(
    [weight.detach().numpy() for weight in NET.weights],
    X.numpy(),
    Y.numpy(),
    NET.activation,
    "pcalm",
    *(6, ETA, RHO, ALPHA),
    anchor=KAPPA,
)


@pytest.mark.parametrize(
    "engine", [adapter.reference, adapter.torch_engine, adapter.reference_packed, adapter.torch_packed]
)
@pytest.mark.parametrize("method", ["pcalm", "pc", "bp"])
def test_settings_of_each_layer(engine: adapter.Engine, method: str) -> None:
    found = engine.solve(dataclasses.replace(PROBLEM, method=method))
    methods: dict[str, Method] = {
        "pcalm": pcalm.PCALM(6, ETA, RHO, ALPHA, anchor=KAPPA),
        "pc": pcalm.PC(6, ETA, RHO),
        "bp": pcalm.BP(),
    }
    truth = pcalm.solve(NET, methods[method], X, Y, engine="reference")
    # Some 20 roundings an iteration of values below 10.
    for part, exact in zip((found.activities, found.multipliers), truth.state, strict=True):
        np.testing.assert_allclose(part, exact.numpy(), rtol=0, atol=1e-13)
    for part, exact in zip(found.gradients, truth.gradients, strict=True):
        np.testing.assert_allclose(part, exact.numpy(), rtol=0, atol=1e-13)
