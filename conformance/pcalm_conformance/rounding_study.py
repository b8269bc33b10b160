"""How close right implementations come to the bounds of `rounding`: python -m pcalm_conformance.rounding_study

Random problems, small ones most often, are solved in every style of `implementations.styles`, in both precisions.
Printed are the largest errors as parts of their bounds. Beyond a half a bound would not be safe.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from tabulate import tabulate

from pcalm_conformance import oracle, rounding
from pcalm_conformance.implementations.styles import STYLES
from pcalm_conformance.problems import Recipe, any_settings, any_shape
from pcalm_conformance.protocol import Solution

DTYPES, METHODS = ("float64", "float32"), ("bp", "pc", "pcalm")
PARTS = ("activities", "multipliers", "gradients")
SAFE = 0.5


def recipe(number: int, per_layer: bool = False) -> Recipe:
    """The random problem of that number, in turns float64 and float32; half of all sizes lie in the lowest quarter of
    their range."""
    rng = np.random.default_rng(number)

    def whole(low: int, high: int) -> int:
        return low + int((high + 1 - low) * rng.random() ** 2)

    def choice(options: Sequence[Any]) -> Any:
        return options[int(rng.integers(len(options)))]

    return any_settings(any_shape(whole, choice), whole, choice, per_layer).but(seed=number, dtype=DTYPES[number % 2])


def parts_of_bounds(found: Solution, right: Solution, bounds: rounding.Bounds) -> list[float]:
    """The largest errors of activities, multipliers and gradients as parts of their bounds."""

    def largest(pairs: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> float:
        tiny = np.finfo(float).tiny
        return max(float((np.abs(mine - exact) / np.maximum(bound, tiny)).max()) for mine, exact, bound in pairs)

    return [
        largest([(found.activities, right.activities, bounds.activities)]),
        largest([(found.multipliers, right.multipliers, bounds.multipliers)]),
        largest(zip(found.gradients, right.gradients, bounds.gradients, strict=True)),
    ]


Found = dict[tuple[str, str, str], list[tuple[list[float], int]]]


def measure(numbers: Iterable[int], per_layer: bool = False) -> Found:
    """(style, dtype, method) → for every problem the parts of its bounds, and its number."""
    found: Found = defaultdict(list)
    for number in numbers:
        problem = recipe(number, per_layer).problem()
        right, bounds = oracle.solve(problem), rounding.bounds(problem)
        for style in STYLES:
            parts = parts_of_bounds(style.solve(problem), right, bounds)
            found[style.name, problem.dtype, problem.method].append((parts, number))
    return found


def table(found: Found) -> str:
    """Style × precision and method: the largest part of a bound, over all problems and arrays."""
    columns = [(dtype, method) for dtype in DTYPES for method in METHODS]
    rows = [
        [style.name, *(max((max(parts) for parts, _ in found[style.name, *column]), default=0.0) for column in columns)]
        for style in STYLES
    ]
    return tabulate(rows, ["", *map(" ".join, columns)], floatfmt=".3f")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", type=int, default=20_000, help="how many (default: 20000)")
    parser.add_argument("--per-layer", action="store_true", help="with one setting for each hidden layer")
    options = parser.parse_args()
    found = measure(range(options.problems), options.per_layer)
    print(table(found))
    every = [entry for entries in found.values() for entry in entries]
    for index, part in enumerate(PARTS):
        parts, number = max(every, key=lambda entry: entry[0][index])
        median = np.median([parts[index] for parts, _ in every])
        print(
            f"{part}: at most {parts[index]:.3f}, in {recipe(number, options.per_layer)!r}; median of all {median:.4f}"
        )
    return 0 if max(max(parts) for parts, _ in every) < SAFE else 1


if __name__ == "__main__":
    raise SystemExit(main())
