"""Checks of arguments: each error names the argument, its value and what was expected."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor


def require(condition: bool, message: str) -> None:
    """Raises ValueError(message) unless the condition holds."""
    if not condition:
        raise ValueError(message)


def choice(name: str, value: Any, allowed: Iterable[Any]) -> Any:
    options = list(allowed)
    if value not in options:
        listed = ", ".join(repr(option) if isinstance(option, str) else str(option) for option in options)
        raise ValueError(f"{name} must be one of {listed}, got {value!r}")
    return value


def integer(name: str, value: Any, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise ValueError(f"{name} must be an integer, got {value!r}")
    result = int(value)
    require(result >= least, f"{name} must be at least {least}, got {result}")
    return result


def number(name: str, value: Any, *, positive: bool) -> float:
    """A finite number, > 0 or (positive=False) ≥ 0."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise ValueError(f"{name} must be a number, got {value!r}")
    result = float(value)
    expected = "positive" if positive else "zero or positive"
    require(
        math.isfinite(result) and (result > 0 if positive else result >= 0),
        f"{name} must be {expected} and finite, got {value}",
    )
    return result


def finite(name: str, tensor: Tensor) -> None:
    """Raises ValueError if the tensor holds NaN or infinity, with how many and where the first one is."""
    # A sum is non-finite if any entry is; only then (or on overflow of the sum) is it worth looking entry by entry.
    if torch.isfinite(tensor.sum()):
        return
    bad = ~torch.isfinite(tensor)
    if bad.any():
        where = bad.nonzero()[0].tolist()
        raise ValueError(
            f"{name} must be finite: {int(bad.sum())} of {tensor.numel()} values are NaN or infinite, first at {where}"
        )
