"""Figures of a cell's runs over the seeds: means, differences paired by seed, and their bootstrap interval."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas

RESAMPLES = 10_000


def by_seed(runs: pandas.DataFrame, name: str = "test_accuracy") -> dict[int, float]:
    """Seed → figure, of the runs that have one."""
    done = runs[runs[name].notna()]
    return dict(zip(done["seed"].astype(int), done[name].astype(float), strict=True))


def paired(mine: dict[int, float], theirs: dict[int, float]) -> list[float]:
    """mine − theirs for every seed that both have."""
    return [value - theirs[seed] for seed, value in mine.items() if seed in theirs]


def bootstrap_interval(values: Sequence[float]) -> tuple[float, float]:
    """95 % percentile bootstrap interval of the mean; the resampling is seeded, so that a report can be repeated."""
    drawn = np.random.default_rng(0).choice(np.asarray(values), (RESAMPLES, len(values)))
    low, high = np.percentile(drawn.mean(axis=1), (2.5, 97.5))
    return float(low), float(high)


def mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def mean_of(runs: pandas.DataFrame, name: str) -> float | None:
    values = runs[name].dropna().astype(float).tolist()
    return mean(values) if values else None


def minus(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a - b


def percent(value: float | None) -> float | None:
    return None if value is None else 100 * value
