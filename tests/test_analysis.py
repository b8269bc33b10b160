"""The measures of gradients and credit, on cases done by hand."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from pcalm import analysis

A = [torch.tensor([[3.0, 0.0]]), torch.tensor([4.0])]  # as one vector (3, 0, 4), norm 5
B = [torch.tensor([[0.0, 0.0]]), torch.tensor([2.0])]  # (0, 0, 2), norm 2
ZERO = [torch.zeros(1, 2), torch.zeros(1)]


def test_cosine() -> None:
    assert analysis.cosine(A, B) == 4 / 5
    assert analysis.cosine(A, [-part for part in A]) == -1
    assert analysis.cosine(A[0], torch.tensor([[0.0, 7.0]])) == 0
    assert math.isnan(analysis.cosine(A, ZERO))


def test_relative_error() -> None:
    assert analysis.relative_error(A, B) == pytest.approx(math.sqrt(9 + 4) / 2, rel=1e-15)
    assert analysis.relative_error(A, A) == 0
    assert analysis.relative_error(ZERO, A) == 1
    assert analysis.relative_error(A, ZERO) == math.inf
    assert analysis.relative_error(ZERO, ZERO) == 0


def test_norm_ratio() -> None:
    assert analysis.norm_ratio(A, B) == 5 / 2
    assert analysis.norm_ratio(ZERO, A) == 0
    assert math.isnan(analysis.norm_ratio(A, ZERO))


def test_measures_are_taken_in_float64() -> None:
    # In float32 the square of 1e-30 is 0.
    tiny = torch.full((4,), 1e-30)
    assert analysis.cosine(tiny, tiny) == pytest.approx(1, rel=1e-15)
    assert analysis.norm_ratio(tiny, 2 * tiny) == pytest.approx(0.5, rel=1e-15)


@pytest.mark.parametrize("measure", [analysis.cosine, analysis.relative_error, analysis.norm_ratio])
def test_shapes_must_agree(measure: Callable[[list[Tensor], list[Tensor]], float]) -> None:
    with pytest.raises(ValueError, match=re.escape("the same shapes, got [[1, 2], [1]] and [[1, 2]]")):
        measure(A, B[:1])


def test_credit_share_leaves_out_the_output_layer() -> None:
    truth = [torch.tensor([1.0]), torch.tensor([0.0, 2.0]), torch.tensor([5.0])]
    assert analysis.credit_share([torch.tensor([3.0]), torch.tensor([1.0, 0.0]), torch.tensor([9.0])], truth) == [
        3,
        0.5,
    ]


def test_evenness() -> None:
    assert analysis.evenness([2.0, 2.0]) == (1, 0)
    least, spread = analysis.evenness([1.0, 3.0])  # mean 2, standard deviation 1
    assert least == pytest.approx(1 / 3, rel=1e-15)
    assert spread == 0.5


def test_credit_arrival() -> None:
    norms = torch.tensor([[0.0, 0.4, 1.0], [0.0, 0.5, 0.0], [0.1, 2.0, 0.0]])
    truth = torch.tensor([1.0, 1.0, 2.0])
    assert analysis.credit_arrival(norms, truth, 0.5) == [None, 2, 1]
    assert analysis.credit_arrival(norms, truth, 0.1) == [3, 1, 1]


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.5, math.nan])
def test_credit_arrival_needs_a_fraction(fraction: float) -> None:
    with pytest.raises(ValueError, match=re.escape(f"fraction must be in (0, 1], got {fraction}")):
        analysis.credit_arrival(torch.ones(1, 1), torch.ones(1), fraction)


def test_arrival_exponent_of_a_power_law() -> None:
    distances = [3, 4, 6, 9]
    exponent, factor = analysis.arrival_exponent(distances, [0.5 * d**1.75 for d in distances])
    # Logarithms of values up to 24 are good to some ε; the fit divides by their spread of order 1.
    assert exponent == pytest.approx(1.75, rel=1e-14)
    assert factor == pytest.approx(0.5, rel=1e-14)


def test_arrival_exponent_needs_two_points() -> None:
    with pytest.raises(ValueError, match="distances must be at least 2 for a fit, got 1"):
        analysis.arrival_exponent([3], [1])
