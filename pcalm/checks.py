"""Checks of arguments: each error names the argument, its value and what was expected."""

from __future__ import annotations

import math
import numbers
import os
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

LARGEST = 2**63 - 1  # of the 64-bit integers in which engines and records hold numbers


def require(condition: bool, message: str) -> None:
    """Raises ValueError(message) unless the condition holds."""
    if not condition:
        raise ValueError(message)


def first_line(error: BaseException) -> str:
    """Of its message, or else its type's name."""
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)


def choice(name: str, value: Any, allowed: Iterable[Any]) -> Any:
    """The allowed value that equals the given one."""
    options = list(allowed)
    for option in options:
        if isinstance(value, type(option)) and value == option:
            return option
    listed = ", ".join(repr(option) if isinstance(option, str) else str(option) for option in options)
    raise ValueError(f"{name} must be one of {listed}, got {value!r}")


def integer(name: str, value: Any, least: int, most: int = LARGEST) -> int:
    """The value as a Python integer in least..most; a number without a fraction of any type but bool is one."""
    value = _item(value)
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise ValueError(f"{name} must be an integer, got {value!r}")
    result = int(value)
    require(result >= least, f"{name} must be at least {least}, got {_shown(result)}")
    require(result <= most, f"{name} must be at most {most}, got {_shown(result)}")
    return result


def number(name: str, value: Any, *, positive: bool) -> float:
    """The value as a finite Python float, > 0 or (positive=False) ≥ 0."""
    value = _item(value)
    if isinstance(value, bool) or not isinstance(value, (numbers.Real, Decimal)):
        raise ValueError(f"{name} must be a number, got {value!r}")
    try:
        result = float(value)
    except (OverflowError, ValueError):  # beyond the largest float, or a signalling NaN
        result = math.nan
    expected = "positive" if positive else "zero or positive"
    require(
        math.isfinite(result) and (result > 0 if positive else result >= 0),
        f"{name} must be {expected} and finite, got {_shown(value)}",
    )
    return result


def location(name: str, value: Any) -> Path:
    """The path of a file or folder; an empty one, which would mean the current folder, is none."""
    if not isinstance(value, (str, os.PathLike)) or not os.fspath(value):
        raise ValueError(f"{name} must be the path of a file or folder, got {value!r}")
    return Path(value)


def items(value: Any) -> list[Any] | None:
    """The entries of a tuple, list, range, or array or tensor with dimensions, as a list; None for anything else."""
    if isinstance(value, (np.ndarray, Tensor)):
        return list(value.tolist()) if value.ndim > 0 and not (isinstance(value, Tensor) and value.is_meta) else None
    return list(value) if isinstance(value, (tuple, list, range)) else None


def _item(value: Any) -> Any:
    """A numpy or torch scalar, or an array without dimensions, as a plain Python value; everything else as it is."""
    array = isinstance(value, (np.generic, np.ndarray, Tensor)) and value.ndim == 0
    return value.item() if array and not (isinstance(value, Tensor) and value.is_meta) else value


def _shown(value: Any) -> str:
    huge = isinstance(value, int) and value.bit_length() > 256  # Python refuses to print the hugest
    return f"an integer of {value.bit_length()} bits" if huge else str(value)


def finite(name: str, tensor: Tensor) -> None:
    """Raises ValueError if the tensor holds NaN or infinity, with how many and where the first one is."""
    # A sum is non-finite if any entry is; only then (or on overflow of the sum) is it worth looking entry by entry.
    if math.isfinite(tensor.sum().item()):
        return
    bad = ~torch.isfinite(tensor)
    if bad.any():
        where = bad.nonzero()[0].tolist()
        raise ValueError(
            f"{name} must be finite: {int(bad.sum())} of {tensor.numel()} values are NaN or infinite, first at {where}"
        )
