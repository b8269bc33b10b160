"""Recipes build what they say: settings per layer and gauges, networks that have learned, and the step size's rule."""

from __future__ import annotations

import gzip
import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pcalm_conformance import oracle, problems, wire
from pcalm_conformance.maps import affine_map, probe, spectral_radius
from pcalm_conformance.problems import Recipe, gauge_weights, step_size_rule, uneven

GAUGED = Recipe(depth=5, width=4, penalty=0.5, dual_step=1.5, anchor=0.3, gauge=uneven(1.0, 5))
LEARNED = Recipe(depth=4, width=6, data="digits", batch=8, activation="relu", trained=1, step_size=None)


def test_uneven_numbers_tell_layers_apart() -> None:
    for depth in (3, 9, 64):
        numbers = uneven(2.0, depth)
        assert len(set(numbers)) == depth - 1
        assert min(numbers) >= 1.2
        assert max(numbers) <= 2.8
        assert not np.allclose(numbers, np.mean(numbers))


def test_a_gauge_scales_every_setting_of_the_method() -> None:
    w = np.array(GAUGED.gauge)
    pcalm, pc, bp = (GAUGED.but(method=method).problem() for method in ("pcalm", "pc", "bp"))
    np.testing.assert_allclose(pcalm.step_size, 0.15 / w**2)
    np.testing.assert_allclose(pcalm.penalty, 0.5 * w**2)
    np.testing.assert_allclose(pcalm.dual_step, 1.5 * w**2)
    np.testing.assert_allclose(pcalm.anchor, 0.3 * w**2)
    assert (pc.step_size, pc.penalty, pc.dual_step) == (pcalm.step_size, pcalm.penalty, 0.0)
    assert (bp.step_size, bp.penalty) == (0.15, 0.5)
    alone = GAUGED.but(gauge=2.0).problem()
    assert (alone.step_size, alone.penalty, alone.dual_step, alone.anchor) == (0.15 / 4, 2.0, 6.0, 1.2)


def test_settings_per_layer_arrive_as_tuples_of_numbers() -> None:
    problem = GAUGED.problem()
    described, arrays = wire.described(problem)
    body = memoryview(b"".join(array.tobytes() for array in arrays))
    restored = wire.restored(json.loads(json.dumps(described)), body)
    for name in ("step_size", "penalty", "dual_step", "anchor"):
        assert getattr(restored, name) == getattr(problem, name)
        assert {type(number) for number in getattr(problem, name)} == {float}
    assert Recipe.of(GAUGED.settings()) == GAUGED


@pytest.mark.parametrize("gauge", [None, 2.0, uneven(1.0, 4)])
def test_the_rule_is_the_largest_eigenvalue_in_u(gauge: problems.Setting) -> None:
    """Of E's second derivatives in u at ρ = 1, by differences of its gradient, which are exact in a linear network."""
    recipe = Recipe(depth=4, width=2, batch=1, activation="linear", step_size=None, gauge=gauge)
    plain = recipe.without_gauge().problem()
    net = oracle.Rescaled(plain, [float(w) for w in np.broadcast_to(1.0 if gauge is None else gauge, 3)])
    shape = (3, 1, 2)
    zero = np.zeros(shape)

    def force(u: np.ndarray) -> np.ndarray:
        return oracle.stack(net.energy_gradient(oracle.unstack(u.reshape(shape)), oracle.unstack(zero), 1.0)).ravel()

    hessian = np.stack([force(basis) - force(zero) for basis in np.eye(6)])
    values, vectors = np.linalg.eigh((hessian + hessian.T) / 2)
    # The last of 64 power iterations sees what 63 leave of the start, squared.
    start = np.random.default_rng(0).standard_normal(6)
    left = (values[-2] / values[-1]) ** 126 * (start @ start) / (start @ vectors[:, -1]) ** 2
    assert 1 / step_size_rule(recipe) == pytest.approx(values[-1], rel=left + 1e-12)
    assert plain.step_size == step_size_rule(recipe)


def test_the_gauge_of_the_adjoint_levels_it() -> None:
    w = gauge_weights(LEARNED.but(gauge="adjoint"))
    _, lam = oracle.kkt(LEARNED.problem())
    level = np.linalg.norm(lam / np.reshape(w, (-1, 1, 1)), axis=(1, 2))
    np.testing.assert_allclose(level, level[-1])
    assert w[-1] == 1


def test_a_network_that_has_learned_is_the_same_for_every_batch_and_better_than_before() -> None:
    one, other = LEARNED.problem(), LEARNED.but(batch=3, method="pc", gauge=2.0).problem()
    assert all(np.array_equal(a, b) for a, b in zip(one.weights, other.weights, strict=True))
    before = LEARNED.but(trained=0).problem()
    errors = [np.square(net.output_error(net.feedforward())).mean() for net in map(oracle.Network, (before, one))]
    assert errors[1] < errors[0]


def test_a_stretched_network_has_stretched_states() -> None:
    recipe = Recipe(activation="relu", method="bp")
    one, two = recipe.problem(), recipe.but(stretched=4.0).problem()
    assert np.array_equal(oracle.solve(two).activities, 4 * oracle.solve(one).activities)
    a, b = (recipe.but(method="pcalm", start="random", stretched=factor).problem().initial for factor in (1.0, 4.0))
    assert a is not None
    assert b is not None
    assert np.array_equal(b[0], 4 * a[0])
    assert np.array_equal(b[1], a[1] / 4)


def test_settings_per_layer_stay_inside_the_stable_region() -> None:
    """Linear networks, whose iteration is a matrix: its spectral radius is below 1 with any settings that are drawn."""
    rng = np.random.default_rng(0)

    def whole(low: int, high: int) -> int:
        return int(rng.integers(low, high + 1))

    def choice(options: Sequence[Any]) -> Any:
        return options[whole(0, len(options) - 1)]

    for _ in range(20):
        recipe = Recipe(depth=whole(3, 6), width=whole(1, 4), activation="linear", batch=1)
        once = probe(problems.any_settings(recipe, whole, choice, per_layer=True).but(inner_steps=1))
        # Where an α is 0 its multiplier stays, which is the eigenvalue 1.
        assert spectral_radius(affine_map(oracle.solve(once.problem()))[0]) <= 1 + 1e-9


def test_learned_weights_of_a_batch_are_found_again() -> None:
    before = problems._learned.cache_info().misses
    for batch, gauge in itertools.product((8, 16), (None, "adjoint")):
        LEARNED.but(seed=5, batch=batch, gauge=gauge).problem()
    assert problems._learned.cache_info().misses == before + 1


@pytest.mark.parametrize("folder", ["", "fashion-mnist"])
@pytest.mark.parametrize("packed", [False, True])
def test_images_lie_in_the_named_folder_or_in_its_data_set_s(
    packed: bool, folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = bytes([0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3, *range(6)])
    (tmp_path / folder).mkdir(exist_ok=True)
    file = tmp_path / folder / ("train-labels-idx1-ubyte" + ".gz" * packed)
    file.write_bytes(gzip.compress(content) if packed else content)
    monkeypatch.setenv("PCALM_DATA", str(tmp_path))
    assert problems.read_idx("train-labels-idx1-ubyte").tolist() == [[0, 1, 2], [3, 4, 5]]
