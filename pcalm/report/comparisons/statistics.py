"""Figures of a cell's runs over the seeds: means, differences paired by seed, and the intervals of these.

Two methods that were trained from the same seeds and tested on the same samples are compared by the mean over the seeds
of accuracy less accuracy. Both are drawn at random, so the 95 % interval is of both:

    seeds           percentile bootstrap of the seeds' differences by `scipy.stats.bootstrap`; of few seeds, three say,
                    it is hardly more than their range
    test samples    the mean over n samples, whose bootstrap is normal for the hundreds and thousands that there are.
                    Its variance is that of what a sample adds to the difference, where both records say which samples
                    were right ("paired"). Else methods count as independent, and seeds as right on the same samples:
                    (mean a(1 − a) + mean b(1 − b)) / n for accuracies a and b. That is a bound ("bound"), since
                    methods are right on much the same samples

The resampling is seeded, so that a report can be repeated.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas
from scipy.stats import bootstrap

from pcalm.report.tables import Column, Value

RESAMPLES = 1999
AT_ONCE = 256  # comparisons, so that their resamples stay small
CONFIDENCE = 0.95
TEST_SAMPLES = {"digits": 357, "fashion-mnist": 10_000, "mnist": 10_000}
INTERVAL_COLUMNS = [
    Column("95 % from", "+.1f", "points; over seeds and test samples"),
    Column("to", "+.1f"),
    Column(
        "interval", "", "paired: by test sample; bound: wider than that, since a record does not say which were right"
    ),
]
INTERVAL_NOTE = (
    f"95 % intervals of differences: percentile bootstrap of the seeds (scipy.stats.bootstrap, {RESAMPLES} resamples) "
    "and the test samples' normal error, paired by sample, or its bound where a record holds no more than its "
    "accuracy. Bold: zero lies outside."
)


@dataclass(frozen=True)
class Comparison:
    """Two methods' accuracies in the seeds that both have.

    Attributes:
        differences: the first's less the second's, by seed; at least one.
        variance: of their mean by the choice of test samples; None where their number is not known.
        kind: "paired" or "bound".
    """

    differences: tuple[float, ...]
    variance: float | None
    kind: str

    @property
    def mean(self) -> float:
        return mean(self.differences)


@dataclass(frozen=True)
class Interval:
    """The 95 % interval of a mean difference, and how its test samples count: "paired" or "bound"."""

    low: float
    high: float
    kind: str

    @property
    def has_zero(self) -> bool:
        return self.low <= 0 <= self.high


def compare(mine: pandas.DataFrame, theirs: pandas.DataFrame) -> Comparison | None:
    """The comparison of two methods' runs in one cell; None where they share no seed."""
    exact = _finished(theirs)
    pairs = [(run, exact[seed]) for seed, run in _finished(mine).items() if seed in exact]
    if not pairs:
        return None
    differences = tuple(a["test_accuracy"] - b["test_accuracy"] for a, b in pairs)
    right = [_right(run) for pair in pairs for run in pair]
    known = [each for each in right if each is not None]
    if len(known) == len(right) and len({len(each) for each in known}) == 1:
        added = np.mean([a.astype(float) - b for a, b in zip(known[::2], known[1::2], strict=True)], axis=0)
        return Comparison(differences, float(added.var() / len(added)), "paired")
    samples = TEST_SAMPLES.get(pairs[0][0]["dataset"])
    if samples is None:
        return Comparison(differences, None, "bound")
    spread = mean([run["test_accuracy"] * (1 - run["test_accuracy"]) for pair in pairs for run in pair])
    return Comparison(differences, 2 * spread / samples, "bound")


def intervals(comparisons: Sequence[Comparison | None]) -> list[Interval | None]:
    """The intervals of many comparisons at once; None where there is none, or no variance is known."""
    found: list[Interval | None] = [None] * len(comparisons)
    by_seeds: dict[int, list[int]] = {}
    for place, each in enumerate(comparisons):
        if each is not None and each.variance is not None:
            by_seeds.setdefault(len(each.differences), []).append(place)
    tail = 100 * (1 - CONFIDENCE) / 2
    for places in by_seeds.values():
        for start in range(0, len(places), AT_ONCE):
            part = [(place, comparisons[place]) for place in places[start : start + AT_ONCE]]
            means = resampled_means(np.array([each.differences for _, each in part if each]))
            errors = np.sqrt([[each.variance] for _, each in part if each and each.variance is not None])
            drawn = means + errors * np.random.default_rng(1).standard_normal(RESAMPLES)
            lows, highs = np.percentile(drawn, (tail, 100 - tail), axis=1)
            for (place, each), low, high in zip(part, lows.tolist(), highs.tolist(), strict=True):
                assert each is not None
                found[place] = Interval(low, high, each.kind)
    return found


def resampled_means(differences: Any) -> Any:
    """Means of the seeds drawn with replacement, [comparisons, RESAMPLES], of differences [comparisons, seeds]."""
    if differences.shape[1] == 1:  # one seed says nothing of others
        return np.broadcast_to(differences, (len(differences), RESAMPLES))
    return bootstrap(
        (differences,),
        np.mean,
        axis=1,
        vectorized=True,
        n_resamples=RESAMPLES,
        method="percentile",
        rng=np.random.default_rng(0),
    ).bootstrap_distribution


def interval_cells(interval: Interval | None) -> list[Value]:
    """What a row has under INTERVAL_COLUMNS."""
    return [None] * 3 if interval is None else [100 * interval.low, 100 * interval.high, interval.kind]


def _finished(runs: pandas.DataFrame) -> dict[int, dict[str, Any]]:
    """Seed → run, of those that have an accuracy."""
    names = ("seed", "test_accuracy", "dataset", "test_correct")
    rows = zip(*(runs[name].tolist() for name in names), strict=True)
    found = [dict(zip(names, row, strict=True)) for row in rows]
    return {int(run["seed"]): run for run in found if run["test_accuracy"] == run["test_accuracy"]}


def _right(run: dict[str, Any]) -> Any:
    """Which test samples a run was right about, as booleans; None where its record does not say."""
    packed, samples = run["test_correct"], TEST_SAMPLES.get(run["dataset"])
    if samples is None or not isinstance(packed, str):
        return None
    try:
        bits = np.frombuffer(base64.b64decode(packed, validate=True), np.uint8)
    except (binascii.Error, ValueError):
        return None
    return np.unpackbits(bits, count=samples).astype(bool) if len(bits) == -(-samples // 8) else None


def by_seed(runs: pandas.DataFrame, name: str = "test_accuracy") -> dict[int, float]:
    """Seed → figure, of the runs that have one."""
    done = runs[runs[name].notna()]
    return dict(zip(done["seed"].astype(int), done[name].astype(float), strict=True))


def mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def mean_of(runs: pandas.DataFrame, name: str) -> float | None:
    values = runs[name].dropna().astype(float).tolist()
    return mean(values) if values else None


def minus(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a - b


def percent(value: float | None) -> float | None:
    return None if value is None else 100 * value
