"""Right implementations in other styles pass: what the suite rejects is the mistake, never the style."""

from __future__ import annotations

import dataclasses
import importlib
from typing import Any

import pytest
from pcalm_conformance import checking
from pcalm_conformance.checking import TESTS, Check
from pcalm_conformance.guest import InProcess
from pcalm_conformance.implementations.styles import STYLES
from pcalm_conformance.problems import Recipe

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


def small(identity: str) -> list[Recipe]:
    """The requirement's cases that only --full has, up to 256 hidden units."""
    before = set(TESTS[identity].cases("default"))
    return [
        case
        for case in TESTS[identity].cases("full")
        if isinstance(case, Recipe) and case.depth * case.width <= 256 and case not in before
    ]


@pytest.mark.parametrize("identity", [identity for identity in QUICK if small(identity)])
def test_what_only_the_full_level_asks_is_true(identity: str) -> None:
    test = dataclasses.replace(TESTS[identity], cases=lambda level: small(identity))
    check = Check(InProcess(STYLES[0]), test.requirement, "full")
    test.run(check)
    assert check.measurements
