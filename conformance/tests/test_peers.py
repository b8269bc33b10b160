"""Adapters of other people's libraries: right where the library is installed, jpc's against a stand-in of its calls."""

from __future__ import annotations

import dataclasses
import importlib.util
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pcalm_conformance import oracle
from pcalm_conformance.checking import TESTS, Check, Nonconformity, load_tests
from pcalm_conformance.isolation import Isolated, Workplace
from pcalm_conformance.problems import Recipe

PEERS = Path(__file__).parents[1] / "peers"
STANDIN = Path(__file__).with_name("jpc_standin")
NAMES = ("fabricpc", "jpc", "pcx")
# Few shapes, since JAX compiles for each: settings, starts and seeds of one network, and another in single precision.
FIRST = Recipe(dtype="float64", method="pc", step_size=0.2)
SECOND = Recipe(5, 4, 3, 2, 1, activation="relu", dtype="float32", step_size=0.1)
HELD = [
    FIRST.but(method="bp"),
    FIRST,
    FIRST.but(steps=7, step_size=0.1),
    FIRST.but(start="random", seed=1),
    FIRST.but(penalty=0.5, seed=2),
    SECOND.but(method="bp"),
    SECOND.but(method="pc", steps=5),
]

load_tests()


def placed(folder: Path, name: str) -> Isolated:
    """The adapter of a library, with the stand-in's modules that are not there already where jpc is not installed."""
    pytest.importorskip("jax")
    for module in (f"{name}_adapter", "jax_library"):
        shutil.copy(PEERS / f"{module}.py", folder)
    if importlib.util.find_spec(name) is None:
        if name != "jpc":
            pytest.skip(f"{name} is not installed here; make peers runs its adapter in an environment of its own")
        for file in STANDIN.glob("*.py"):
            if not (folder / file.name).exists():
                shutil.copy(file, folder)
    return Isolated(f"{name}_adapter", "impl", name, Workplace(str(folder)))


@pytest.fixture(scope="module", params=NAMES)
def peer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Isolated]:
    subject = placed(tmp_path_factory.mktemp("peer"), request.param)
    yield subject
    subject.stop()


def hold(subject: Isolated, recipe: Recipe) -> None:
    check, problem = Check(subject, TESTS["DYN-1"].requirement, "quick"), recipe.problem()
    check.same(check.solve(recipe), oracle.solve(problem), problem, recipe)


def test_right(peer: Isolated) -> None:
    for recipe in HELD:
        hold(peer, recipe)


def test_what_is_timed_is_what_solve_computes(peer: Isolated) -> None:
    for recipe in (FIRST, FIRST.but(method="bp"), FIRST.but(start="random", seed=1)):
        problem = dataclasses.replace(recipe.problem(), wants=("gradients",))
        solved = peer.solve(problem).gradients
        peer.prepare(problem)
        for mine, right in zip(peer.gradients(problem), solved, strict=True):
            assert np.array_equal(mine, right)


def test_declines_what_the_library_does_not_do(peer: Isolated) -> None:
    problem, each = FIRST.problem(), (0.2,) * (FIRST.depth - 1)
    assert peer.supports(problem)
    assert not peer.supports(dataclasses.replace(problem, method="pcalm"))
    assert not peer.supports(dataclasses.replace(problem, step_size=each))
    assert peer.supports(dataclasses.replace(problem, penalty=each)) == (peer.name != "jpc")
    assert peer.supports(dataclasses.replace(problem, method="bp", step_size=each, penalty=each))


@pytest.mark.skipif(importlib.util.find_spec("jpc") is not None, reason="jpc itself is here")
def test_another_convention_than_jpcs_is_noticed(tmp_path: Path) -> None:
    text = (STANDIN / "jpc.py").read_text(encoding="utf-8")
    assert text.count(".mean()") == 1
    (tmp_path / "jpc.py").write_text(text.replace(".mean()", ".sum()"), encoding="utf-8")
    subject = placed(tmp_path, "jpc")
    try:
        with pytest.raises(Nonconformity, match="error of the activities"):
            hold(subject, FIRST)
    finally:
        subject.stop()


@pytest.mark.parametrize("name", NAMES)
def test_requirements_are_pinned(name: str) -> None:
    lines = (PEERS / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    wanted = [line for line in lines if line and not line.startswith("#")]
    unpinned = [line for line in wanted if not re.fullmatch(r"[\w.-]+==[\w.]+", line)]
    assert wanted
    # No release of jpc is on an index: the repository's newest.
    assert [line.partition(" @ ")[0] for line in unpinned] == ["jpc"] * (name == "jpc")
