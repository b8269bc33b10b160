"""The checks of numbers: what is one, its range, and that plain Python values come out."""

from __future__ import annotations

import re
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch

from pcalm.checks import LARGEST, choice, first_line, integer, items, number


def kind(value: Any) -> str:
    """Names a case: pytest would print its value, and Python refuses to print the largest ones."""
    return type(value).__name__


@pytest.mark.parametrize("value", [8, np.int64(8), np.uint8(8), np.array(8), torch.tensor(8), torch.tensor(8).int()])
def test_integers_become_pythons(value: Any) -> None:
    assert integer("steps", value, 8, 8) == 8
    assert type(integer("steps", value, 1)) is int


@pytest.mark.parametrize(
    "value", [True, np.True_, 8.0, np.float64(8), "8", None, Fraction(8), Decimal(8), np.array([8]), torch.tensor(8.0)]
)
def test_what_is_no_integer(value: Any) -> None:
    with pytest.raises(ValueError, match="steps must be an integer, got "):
        integer("steps", value, 1)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (0, "steps must be at least 1, got 0"),
        (-(10**5000), "steps must be at least 1, got an integer of 16610 bits"),
        (LARGEST + 1, f"steps must be at most {LARGEST}, got {LARGEST + 1}"),
        (np.uint64(LARGEST + 1), f"steps must be at most {LARGEST}, got {LARGEST + 1}"),
        (10**5000, f"steps must be at most {LARGEST}, got an integer of 16610 bits"),
    ],
    ids=kind,
)
def test_range_of_integers(value: Any, message: str) -> None:
    assert integer("steps", LARGEST, 1) == LARGEST
    with pytest.raises(ValueError, match=re.escape(message)):
        integer("steps", value, 1)


@pytest.mark.parametrize(
    "value",
    [
        *(0.5, np.float64(0.5), np.float32(0.5), np.float16(0.5), np.longdouble(0.5), np.array(0.5)),
        *(torch.tensor(0.5), torch.tensor(0.5, requires_grad=True), Fraction(1, 2), Decimal("0.5")),
    ],
)
def test_numbers_become_pythons(value: Any) -> None:
    found = number("penalty", value, positive=True)
    assert (type(found), found) == (float, 0.5)


@pytest.mark.parametrize(
    "value", [True, np.True_, "0.5", None, 1j, np.array([0.5]), torch.ones(1), torch.ones((), device="meta"), [0.5]]
)
def test_what_is_no_number(value: Any) -> None:
    with pytest.raises(ValueError, match="penalty must be a number, got "):
        number("penalty", value, positive=True)


@pytest.mark.parametrize(
    "value",
    [-1, float("nan"), float("inf"), 10**400, 10**5000, Fraction(10**400), Decimal("1e999"), Decimal("sNaN")],
    ids=kind,
)
def test_range_of_numbers(value: Any) -> None:
    with pytest.raises(ValueError, match="penalty must be positive and finite, got "):
        number("penalty", value, positive=True)
    with pytest.raises(ValueError, match="anchor must be zero or positive and finite, got "):
        number("anchor", value, positive=False)


def test_zero_is_a_number_but_not_positive() -> None:
    assert number("anchor", np.int64(0), positive=False) == 0
    with pytest.raises(ValueError, match="penalty must be positive and finite, got 0"):
        number("penalty", 0, positive=True)


def test_choices_come_out_as_they_are_listed() -> None:
    assert type(choice("activation", np.str_("relu"), ["tanh", "relu"])) is str
    for value in (None, 0, ["relu"], np.array(["relu"]), torch.zeros(2)):
        with pytest.raises(ValueError, match="activation must be one of 'tanh', 'relu', got "):
            choice("activation", value, ["tanh", "relu"])


def test_items() -> None:
    value: Any
    for value in ([2, 3], (2, 3), range(2, 4), np.array([2, 3]), torch.tensor([2, 3])):
        assert items(value) == [2, 3]
    for value in (2, "23", None, np.array(2), torch.tensor(2), torch.zeros(2, device="meta"), {2, 3}):
        assert items(value) is None


@pytest.mark.parametrize(
    ("error", "line"),
    [(ValueError("\n  \nwhat\nwhere"), "what"), (ValueError(), "ValueError"), (RuntimeError("\n"), "RuntimeError")],
)
def test_the_first_line_of_an_error_is_never_empty(error: Exception, line: str) -> None:
    assert first_line(error) == line
