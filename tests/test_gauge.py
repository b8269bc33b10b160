"""The gauge is a symmetry: the rescaled method is the same method on the rescaled chain."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import pcalm
from pcalm import dynamics
from pcalm.blocks import Blocks
from pcalm.dynamics import State
from pcalm.engines import BLOCKS, MODULES, reasons
from pcalm.gauge import LARGEST_WEIGHT, Passing, follow_credit, passing
from pcalm.methods import BP, PC, PCALM
from pcalm.network import ResidualMLP
from pcalm.stepsize import largest_eigenvalue, stability_margin
from tests.block_cases import CASES, as_blocks, case
from tests.conftest import assert_near, draw, rounding
from tests.engines.engine_cases import problem


class Rescaled(nn.Module):
    """w_l f_l(u / w_{l-1})."""

    def __init__(self, block: nn.Module, below: float | None, here: float) -> None:
        super().__init__()
        self.block, self.below, self.here = block, below, here

    def forward(self, u: Tensor) -> Tensor:
        return self.here * self.block(u if self.below is None else u / self.below)


def rescaled(net: Blocks, w: list[float]) -> Blocks:
    """The chain in u = w z; the output is not rescaled."""
    pairs = zip(net.blocks, [None, *w], [*w, 1.0], strict=True)
    return Blocks([Rescaled(block, below, here) for block, below, here in pairs], net.loss)


METHODS = [
    PC(6, 0.1, 0.7),
    PCALM(6, 0.1, 0.5, 0.8, 2, "after", 0.3),
    PCALM(4, 0.1, 0.5, 0.8, credit="before"),
]


@pytest.mark.parametrize("engine", BLOCKS)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", CASES)
def test_the_trajectory_is_that_of_the_rescaled_chain(name: str, method: PC | PCALM, engine: str) -> None:
    net, x, y, bound = case(name)
    w = [0.7 + 0.3 * (h % 3) for h in range(net.depth - 1)]
    found = pcalm.solve(net, pcalm.gauge(method, w), x, y, engine=engine)
    truth = pcalm.solve(rescaled(net, w), method, x, y, engine="reference")
    for h, weight in enumerate(w):
        assert_near(weight * found.state.activities[h], truth.state.activities[h], 20 * bound)
        assert_near(found.state.multipliers[h] / weight, truth.state.multipliers[h], 20 * bound)
    for mine, exact in zip(found.gradients, truth.gradients, strict=True):
        assert (mine is None) == (exact is None)
        if mine is not None:
            assert_near(mine, exact, 20 * bound)


# Triton's kernel is held to the reference with settings of each layer in tests/engines/interpreted_triton.py.
@pytest.mark.parametrize("engine", [name for name in MODULES if name != "triton"])
@pytest.mark.parametrize("method", METHODS)
def test_the_trajectory_in_every_engine(engine: str, method: PC | PCALM, activation: str) -> None:
    reason = reasons(torch.device("cpu"), torch.float64)[engine]
    if reason is not None:
        pytest.skip(f"engine {engine}: {reason}")
    net = ResidualMLP(6, 5, 4, 3, activation, dtype=torch.float64)
    x, y, start = problem(net, start=True)
    assert start is not None
    w = torch.tensor([0.5, 1.5, 0.7, 2.0, 1.2], dtype=net.dtype)
    by_layer = w.view(-1, 1, 1)
    lam = start.multipliers if isinstance(method, PCALM) else torch.zeros_like(start.multipliers)
    found = pcalm.solve(net, pcalm.gauge(method, w), x, y, State(start.activities, lam), engine=engine)
    in_u = State(by_layer * start.activities, lam / by_layer)
    truth = pcalm.solve(rescaled(as_blocks(net), w.tolist()), method, x, y, in_u, engine="reference")
    # Of size up to 4 (w and 1/w are at most 2, in both states), in another order of operations at every step.
    bound = 4 * rounding(net, 12)
    assert_near(by_layer * found.state.activities, truth.state.activities, bound)
    assert_near(found.state.multipliers / by_layer, truth.state.multipliers, bound)
    for mine, exact in zip(found.gradients, truth.gradients, strict=True):
        assert_near(mine, exact, bound)


@pytest.mark.parametrize("name", CASES)
def test_step_size_is_that_of_the_rescaled_chain(name: str) -> None:
    net, x, y, bound = case(name)
    w = [0.7 + 0.3 * (h % 3) for h in range(net.depth - 1)]
    needed = {} if isinstance(net.loss, str) else {"y": y}
    found = pcalm.step_size(net, x, gauge=w, **needed)
    assert found == pytest.approx(pcalm.step_size(rescaled(net, w), x, **needed), rel=64 * bound)


def test_settings_in_a_gauge() -> None:
    method = pcalm.gauge(PCALM(3, 0.25, 2.0, 3.0, 2, "after", 0.5), [1, 2])
    expected = PCALM(3, (0.25, 0.0625), (2.0, 8.0), (3.0, 12.0), 2, "after", (0.5, 2.0))
    assert method == expected
    assert pcalm.gauge(PC(3, (0.25, 0.5), 2.0), torch.tensor([2.0, 1.0])) == PC(3, (0.0625, 0.5), (8.0, 2.0))
    there_and_back = pcalm.gauge(pcalm.gauge(PCALM(1, 0.5), [2, 4]), [0.5, 0.25])
    assert there_and_back == PCALM(1, (0.5, 0.5), (1.0, 1.0), (1.0, 1.0), anchor=(0.0, 0.0))


def test_settings_of_replicas_in_a_gauge() -> None:
    w = [[1, 2], [2, 4]]  # R = L−1 = 2: a flat setting is one per replica
    assert pcalm.gauge(PC(3, (0.5, 0.25), 1.0), w) == PC(
        3, ((0.5, 0.125), (0.0625, 0.015625)), ((1.0, 4.0), (4.0, 16.0))
    )
    net, x, y, _ = draw(replicas=2)
    rows = [[1, 2, 0.5, 1], [2, 1, 1, 0.5]]
    packed = pcalm.infer(net, pcalm.gauge(PCALM(4, (0.1, 0.2)), rows), x, y)
    for r, eta in enumerate((0.1, 0.2)):
        alone = pcalm.infer(net.replica(r), pcalm.gauge(PCALM(4, eta), rows[r]), x[r], y[r])
        for part, single in zip(packed, alone, strict=True):
            assert_near(part[r], single, rounding(net, 4))


def test_margin_in_a_gauge_is_the_same_law_with_the_eigenvalue_in_u() -> None:
    net, x, _, _ = draw()
    w = [3.0, 0.5, 2.0, 1.0]
    eigenvalue = largest_eigenvalue(net, x, gauge=w)
    assert isinstance(eigenvalue, float)
    method = PCALM(1, 0.9 / eigenvalue, 0.5, 2.0, anchor=0.3)
    in_gauge = stability_margin(pcalm.gauge(method, w), eigenvalue)
    assert in_gauge == pytest.approx(stability_margin(method, eigenvalue), rel=1e-14)  # four roundings a setting


@pytest.mark.parametrize(
    ("method", "w", "message"),
    [
        (BP(), [1.0], "method must be PC(...) or PCALM(...), got BP()"),
        (PC(1, 0.1), 2.0, "w must be one positive number per hidden layer, got 2.0"),
        (PC(1, 0.1), [1.0, 0.0], "w must be positive and finite, got 0.0"),
        (PC(1, 0.1), [1.0, -1.0], "w must be positive and finite, got -1.0"),
        (PC(1, (0.1, 0.2)), [1.0, 1.0, 1.0], "w must fit the method: it is [3], the method's step_size [2]"),
        (PC(1, ((0.1, 0.2),) * 3), [1.0, 1.0], "w must fit the method: it is [2], the method's step_size [3, 2]"),
    ],
)
def test_bad_arguments(method: Any, w: Any, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        pcalm.gauge(method, w)


def test_credit_in_balance_moves_the_gauge_to_the_adjoint() -> None:
    """At the fixed point λ = −δ the rule finds ‖δ_l‖/‖δ_{L-1}‖ at once, for the MLP and for blocks."""
    net, x, y, _ = draw("tanh", depth=6)
    with torch.no_grad():
        z = net.feedforward(x)
        delta = dynamics.adjoint(net, z, y)
    wanted = delta.flatten(1).norm(dim=1) / delta[-1].norm()
    for each in (net, as_blocks(net)):
        passed = passing(each, PCALM(1, 0.1), x, State(z, -delta))
        found = follow_credit(torch.ones(net.depth - 1, dtype=torch.float64), passed, rate=1.0)
        torch.testing.assert_close(found, wanted, rtol=100 * rounding(net), atol=0)


def test_where_no_credit_has_arrived_the_gauge_stays() -> None:
    w = torch.tensor([4.0, 2.0, 1.5, 1.0], dtype=torch.float64)
    nothing = Passing(torch.zeros(3), torch.zeros(3), torch.zeros(3))
    torch.testing.assert_close(follow_credit(w, nothing), w)
    # Above, credit with gain 1 arrives; below, what arrives is not yet what the layer holds.
    part = Passing(torch.tensor([1.0, 1.0, 1.0]), torch.tensor([1.0, 1.0, 1.0]), torch.tensor([0.6, 0.5, 0.0]))
    found = follow_credit(w, part, rate=1.0)
    torch.testing.assert_close(found, torch.tensor([2.0, 1.0, 1.0, 1.0], dtype=torch.float64))


@pytest.mark.parametrize("size", [1e-30, 0.0, 1e30, float("inf"), float("nan")])
def test_the_gauge_cannot_run_away(size: float) -> None:
    w = torch.ones(41, dtype=torch.float64)
    for _ in range(100):
        passed = Passing(torch.ones(40), torch.full((40,), size), torch.zeros(40))
        w = follow_credit(w, passed)
    assert w.isfinite().all()
    assert w.min() >= 1 / LARGEST_WEIGHT
    assert w.max() <= LARGEST_WEIGHT
