"""Right implementations in other styles pass: what the suite rejects is the mistake, never the style."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
from pcalm_conformance import checking
from pcalm_conformance.checking import TESTS, Check
from pcalm_conformance.guest import InProcess

checking.load_tests()
QUICK = [identity for identity, test in TESTS.items() if test.cases("quick")]
# JAX compiles anew for every shape and budget, about a quarter of a second each. The rest of the suite is left to
# pytest conformance --implementation pcalm_conformance.implementations.jax_scan:impl
COMPILED = ["MOD-1", "MOD-2", "MOD-3", "ENE-2", "ENE-3", "ENE-5", "DYN-1", "DYN-2", "DYN-4"]
COMPILED += ["LIN-3", "LIN-4", "LIN-7", "LIN-8", "SPC-1", "SPC-2", "SPC-3", "SPC-4", "NUM-5"]
# In float32 a wave's decay per iteration is of the order of rounding, so that SPC-5 has nothing to hold.
SINGLE = [identity for identity in QUICK if identity != "SPC-5"]


def conforms(module: str, requirement: str, dtype: str = "float64") -> None:
    implementation: Any = importlib.import_module(f"pcalm_conformance.implementations.{module}").impl
    check = Check(InProcess(implementation), TESTS[requirement].requirement, "quick", dtype)
    TESTS[requirement].run(check)
    assert check.measurements


@pytest.mark.parametrize("requirement", QUICK)
@pytest.mark.parametrize("module", ["numpy_loop", "numpy_tiles", "autograd_list"])
def test_conforms(module: str, requirement: str) -> None:
    if module == "autograd_list":
        pytest.importorskip("torch")
    conforms(module, requirement)


@pytest.mark.parametrize("requirement", COMPILED)
def test_jax_conforms(requirement: str) -> None:
    pytest.importorskip("jax")
    conforms("jax_scan", requirement)


@pytest.mark.parametrize("requirement", SINGLE)
def test_conforms_in_single_precision(requirement: str) -> None:
    conforms("numpy_loop", requirement, "float32")
