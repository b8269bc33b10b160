"""Paired intervals: of what they are made, and that they hold what they should."""

from __future__ import annotations

import base64
import math
from typing import Any

import numpy as np
import pandas
import pytest

from pcalm.experiments.data import load
from pcalm.report.comparisons.statistics import RESAMPLES, TEST_SAMPLES, Comparison, compare, intervals

SAMPLES = TEST_SAMPLES["digits"]


def runs(accuracies: dict[int, float], right: Any = None) -> pandas.DataFrame:
    """Runs by seed; `right` [seeds, samples] says which test samples were."""
    packed: list[str | None] = [None] * len(accuracies)
    if right is not None:
        packed = [base64.b64encode(np.packbits(each).tobytes()).decode() for each in right]
    found = {"seed": list(accuracies), "test_accuracy": list(accuracies.values()), "test_correct": packed}
    return pandas.DataFrame(found).assign(dataset="digits")


def drawn(share: float, generator: Any, seeds: int = 3) -> Any:
    return generator.random((seeds, SAMPLES)) < share


def test_the_test_set_is_as_large_as_intervals_take_it_to_be() -> None:
    assert len(load("digits").test_labels) == SAMPLES


def test_seeds_alone_give_the_bootstrap_of_their_mean() -> None:
    differences = [-0.02 + 0.002 * seed for seed in range(10)]
    (found,) = intervals([Comparison(tuple(differences), 0.0, "paired")])
    assert found is not None
    # 95 % of a normal mean lies within 1.96 standard errors. The end of a percentile interval of n resamples is off by
    # √(0.025 · 0.975 / n) / density = 0.06 standard errors, by three times that at most.
    error = float(np.std(differences)) / math.sqrt(10)
    for end, sign in ((found.low, -1), (found.high, 1)):
        assert end == pytest.approx(-0.011 + sign * 1.96 * error, abs=0.2 * error)


def test_one_seed_has_the_error_of_its_test_samples() -> None:
    (found,) = intervals([Comparison((0.01,), 0.02**2, "bound")])
    assert found is not None
    # As above: the end is off by 0.06 standard errors, thrice at most.
    assert (found.low, found.high) == pytest.approx((0.01 - 1.96 * 0.02, 0.01 + 1.96 * 0.02), abs=0.2 * 0.02)


def test_samples_that_both_know_are_paired_and_others_bounded() -> None:
    generator = np.random.default_rng(0)
    first = drawn(0.8, generator)
    second = first ^ drawn(0.02, generator)  # right and wrong on nearly the same samples
    accuracies = [dict(enumerate(each.mean(axis=1).tolist())) for each in (first, second)]
    paired = compare(runs(accuracies[0], first), runs(accuracies[1], second))
    bound = compare(runs(accuracies[0], first), runs(accuracies[1]))
    assert paired is not None
    assert bound is not None
    assert paired.variance is not None
    assert bound.variance is not None
    assert (paired.kind, bound.kind) == ("paired", "bound")
    assert paired.differences == bound.differences
    assert paired.mean == pytest.approx((first.mean() - second.mean()).item())
    added = (first.astype(int) - second).mean(axis=0)
    assert paired.variance == pytest.approx(added.var() / SAMPLES)
    rates = [share * (1 - share) for each in accuracies for share in each.values()]
    assert bound.variance == pytest.approx(2 * np.mean(rates) / SAMPLES)
    assert paired.variance < bound.variance / 5


def test_without_a_common_seed_there_is_no_comparison() -> None:
    assert compare(runs({0: 0.5}), runs({1: 0.5})) is None
    assert compare(runs({0: float("nan")}), runs({0: 0.5})) is None
    unknown = runs({0: 0.5}).assign(dataset="somebody's")
    assert intervals([compare(unknown, unknown), None]) == [None, None]


def test_equal_methods_have_zero_inside() -> None:
    """In 95 % of experiments but for chance, where seeds differ by no more than their samples do."""
    generator = np.random.default_rng(0)
    comparisons = []
    for _ in range(400):
        first, second = (drawn(0.8, generator) for _ in range(2))
        shares = [dict(enumerate(each.mean(axis=1).tolist())) for each in (first, second)]
        comparisons.append(compare(runs(shares[0], first), runs(shares[1], second)))
    found = [each for each in intervals(comparisons) if each is not None]
    missed = sum(not each.has_zero for each in found)
    # 20 of 400, or fewer, since the seeds' differences hold their samples' error once more; 4 standard deviations.
    assert missed <= 20 + 4 * math.sqrt(400 * 0.05 * 0.95)


def test_intervals_are_the_same_every_time_whatever_stands_beside() -> None:
    generator = np.random.default_rng(0)
    many = [Comparison(tuple(generator.normal(0, 0.01, 3)), 1e-5, "bound") for _ in range(600)]
    assert intervals(many)[-1:] == intervals(many[-1:])
    assert RESAMPLES >= 1000  # of fewer, a 2.5 % tail has too few
