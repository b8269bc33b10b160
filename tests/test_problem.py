"""The public calls: they agree with each other, keep their arguments, and say what is wrong with bad ones."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import Tensor

import pcalm
from pcalm.dynamics import State
from pcalm.methods import BP, PC, PCALM, Method
from tests.conftest import assert_near, draw, rounding

METHODS = {
    "bp": BP(),
    "pc": PC(6, 0.2, penalty=0.5),
    "pcalm": PCALM(6, 0.2),
    "anchored": PCALM(6, 0.2, 0.1, 3.5, inner_steps=2, credit="after", anchor=0.4),
}
EVERY = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
ITERATED = pytest.mark.parametrize("method", [METHODS["pc"], METHODS["pcalm"], METHODS["anchored"]])


def start_for(method: Method, state: State) -> State | None:
    if isinstance(method, BP):
        return None
    return State(state.activities, torch.zeros_like(state.multipliers)) if isinstance(method, PC) else state


@EVERY
def test_calls_agree(method: Method, replicas: int | None) -> None:
    net, x, y, state = draw(replicas=replicas)
    start = start_for(method, state)
    solution = pcalm.solve(net, method, x, y, start, engine="reference")
    found = pcalm.infer(net, method, x, y, start, engine="reference")
    grads = pcalm.gradients(net, method, x, y, start, engine="reference")
    assert isinstance(found, State)
    assert torch.equal(found.activities, solution.state.activities)
    assert torch.equal(found.multipliers, solution.state.multipliers)
    assert [g.shape for g in grads] == [w.shape for w in net.weights]
    for grad, own in zip(grads, solution.gradients, strict=True):
        assert torch.equal(grad, own)
        assert grad.dtype == net.dtype
        assert not grad.requires_grad


@EVERY
def test_backward_fills_and_adds_to_grad(method: Method) -> None:
    net, x, y, _ = draw()
    expected = pcalm.gradients(net, method, x, y)
    for times in (1, 2):
        pcalm.backward(net, method, x, y)
        assert net.hidden_weight.grad is not None
        filled = [net.input_weight.grad, *net.hidden_weight.grad, net.output_weight.grad]
        for grad, once in zip(filled, expected, strict=True):
            assert torch.equal(grad, times * once)


def test_backward_drives_any_optimiser() -> None:
    net, x, y, _ = draw()
    before = [weight.detach().clone() for weight in net.weights]
    grads = pcalm.gradients(net, PCALM(6, 0.2), x, y)
    pcalm.backward(net, PCALM(6, 0.2), x, y)
    torch.optim.SGD(net.parameters(), lr=0.5).step()
    for weight, old, grad in zip(net.weights, before, grads, strict=True):
        assert torch.equal(weight, old - 0.5 * grad)


@EVERY
def test_arguments_keep_their_values(method: Method) -> None:
    net, x, y, state = draw()
    start = start_for(method, state)
    arguments = [x, y, *net.parameters(), *(start or ())]
    kept = [tensor.detach().clone() for tensor in arguments]
    solution = pcalm.solve(net, method, x, y, start)
    for part in (*solution.state, *solution.gradients):
        part.add_(1)  # nothing returned may share memory with an argument
    assert all(torch.equal(a, b) for a, b in zip(arguments, kept, strict=True))
    assert all(parameter.grad is None for parameter in net.parameters())


@EVERY
def test_runs_repeat_bit_for_bit(method: Method) -> None:
    net, x, y, _ = draw(dtype=torch.float32)
    for a, b in zip(pcalm.gradients(net, method, x, y), pcalm.gradients(net, method, x, y), strict=True):
        assert torch.equal(a, b)


@EVERY
def test_samples_do_not_interact(method: Method, activation: str) -> None:
    net, x, y, _ = draw(activation)
    together = pcalm.infer(net, method, x, y)
    for index in range(len(x)):
        alone = pcalm.infer(net, method, x[[index]], y[[index]])
        for part, single in zip(together, alone, strict=True):
            assert_near(part[:, [index]], single, rounding(net, iterations=12))


@EVERY
@pytest.mark.parametrize("shared", [False, True])
def test_replicas_equal_separate_runs(method: Method, activation: str, shared: bool) -> None:
    net, x, y, state = draw(activation, replicas=3)
    if shared:
        x, y = x[0], y[0]
    start = start_for(method, state)
    found = pcalm.solve(net, method, x, y, start)
    for index in range(3):
        own = None if start is None else State(start.activities[index], start.multipliers[index])
        inputs, targets = (x, y) if shared else (x[index], y[index])
        alone = pcalm.solve(net.replica(index), method, inputs, targets, own)
        pairs = [*zip(found.state, alone.state, strict=True), *zip(found.gradients, alone.gradients, strict=True)]
        for part, single in pairs:
            assert_near(part[index], single, rounding(net, iterations=12))


@pytest.mark.parametrize("anchor", [0.0, 0.4])
def test_a_run_can_be_cut(activation: str, anchor: float) -> None:
    net, x, y, _ = draw(activation)

    def run(steps: int, initial: State | None) -> State:
        return pcalm.infer(net, PCALM(steps, 0.2, 0.5, 2.0, 2, "after", anchor), x, y, initial)

    for part, whole in zip(run(3, run(4, None)), run(7, None), strict=True):
        assert_near(part, whole, rounding(net, iterations=14))


@ITERATED
def test_initial_may_be_a_pair(method: Method) -> None:
    net, x, y, state = draw()
    start = start_for(method, state)
    assert start is not None
    a, b = (pcalm.gradients(net, method, x, y, initial) for initial in (start, (start[0], start[1])))
    assert all(torch.equal(left, right) for left, right in zip(a, b, strict=True))


def test_inputs_that_require_gradients_are_read_only() -> None:
    net, x, y, _ = draw()
    state = pcalm.infer(net, PCALM(3, 0.2), x.clone().requires_grad_(), y)
    assert not state.activities.requires_grad


def spoil(tensor: Tensor, value: float) -> Tensor:
    spoilt = tensor.clone()
    spoilt.view(-1)[-1] = value
    return spoilt


NET, X, Y, STATE = draw()
R_NET, R_X, R_Y, R_STATE = draw(replicas=2)
ZERO = torch.zeros_like(STATE.multipliers)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"net": torch.nn.Linear(6, 2)},
            "net must be a pcalm.ResidualMLP or pcalm.Blocks, got Linear; pcalm.Blocks.from_sequential(net)",
        ),
        ({"method": "pcalm"}, "method must be an instance of BP, PC, PCALM, got 'pcalm'"),
        ({"method": PCALM}, "method must be an instance of BP, PC, PCALM, got <class 'pcalm.methods.PCALM'>"),
        ({"engine": "warp"}, "engine must be one of 'auto', 'reference'"),
        ({"x": X.tolist()}, "x must be a torch tensor, got list"),
        ({"x": X[0]}, "x must have shape [B, 6], got [6]"),
        ({"x": X[:, :5]}, "x must have shape [B, 6], got [3, 5]"),
        ({"x": X[:0], "y": Y[:0]}, "x must have shape [B, 6], got [0, 6]"),
        ({"x": X[None]}, "x must have shape [B, 6], got [1, 3, 6]"),
        (
            {"x": X.float()},
            "x must be torch.float64 on cpu like the network, got torch.float32 on cpu; convert it with",
        ),
        ({"x": X.to("meta")}, "x must be torch.float64 on cpu like the network, got torch.float64 on meta"),
        ({"x": spoil(X, float("nan"))}, "x must be finite: 1 of 18 values are NaN or infinite, first at [2, 5]"),
        ({"x": spoil(X, float("inf"))}, "x must be finite: 1 of 18 values are NaN or infinite, first at [2, 5]"),
        ({"y": Y[:2]}, "y must have shape [3, 2], got [2, 2]"),
        ({"y": Y[:, :1]}, "y must have shape [3, 2], got [3, 1]"),
        ({"y": torch.tensor([0, 1, 1])}, "one-hot labels with torch.nn.functional.one_hot(y, 2).to(torch.float64)"),
        ({"y": Y.float()}, "y must be torch.float64 on cpu like the network, got torch.float32"),
        ({"y": spoil(Y, float("-inf"))}, "y must be finite: 1 of 6 values are NaN or infinite, first at [2, 1]"),
        ({"initial": STATE.activities}, "initial must be a state from infer() or a pair (activities, multipliers)"),
        ({"initial": (*STATE, ZERO)}, "initial must be a state from infer() or a pair (activities, multipliers)"),
        (
            {"initial": (STATE.activities[1:], STATE.multipliers)},
            "initial activities must be [L-1, B, N] = [4, 3, 4], got [3, 3, 4]",
        ),
        (
            {"initial": (STATE.activities, STATE.multipliers[..., :2])},
            "initial multipliers must be [L-1, B, N] = [4, 3, 4], got [4, 3, 2]",
        ),
        (
            {"initial": (STATE.activities, spoil(ZERO, float("nan")))},
            "initial multipliers must be finite: 1 of 48 values are NaN or infinite, first at [3, 2, 3]",
        ),
        ({"initial": (STATE.activities.float(), ZERO)}, "initial activities must be torch.float64 on cpu"),
        (
            {"method": PC(1, 0.1), "initial": STATE},
            "initial multipliers must be zero for PC, which has none; use PCALM(..., dual_step=0)",
        ),
        ({"method": BP(), "initial": (STATE.activities, ZERO)}, "initial must be None for BP"),
        (
            {"method": PC(1, (0.1, 0.2))},
            "step_size has 2 values, but the network has 4 hidden layers and no replicas: give one number, or 4",
        ),
        (
            {"method": PCALM(1, 0.1, anchor=((0.1, 0.2, 0.3, 0.4),))},
            "anchor has [1, 4] values, but the network has 4 hidden layers and no replicas: give one number, or 4",
        ),
        (
            {"net": R_NET, "x": R_X, "y": R_Y, "method": PC(1, (0.1, 0.2, 0.3))},
            "step_size has 3 values, but the network has 2 replicas of 4 hidden layers: give one number, 2 (one per "
            "replica), or [2, 4]",
        ),
        (
            {"net": R_NET, "x": R_X, "y": R_Y, "method": PCALM(1, 0.1, dual_step=((1.0, 2.0, 3.0),) * 2)},
            "dual_step has [2, 3] values, but the network has 2 replicas of 4 hidden layers",
        ),
        ({"net": R_NET, "x": R_X[:1], "y": R_Y}, "x must have shape [2, B, 6], got [1, 3, 6]"),
        ({"net": R_NET, "x": R_X, "y": R_Y, "initial": STATE}, "initial activities must be"),
    ],
)
def test_bad_arguments(change: dict[str, Any], message: str) -> None:
    arguments = {"net": NET, "method": PCALM(2, 0.2), "x": X, "y": Y, "initial": None, "engine": "auto", **change}
    for call in (pcalm.solve, pcalm.infer, pcalm.gradients):
        with pytest.raises(ValueError, match=re.escape(message)):
            call(**arguments)


@pytest.mark.parametrize("part", ["input", "hidden", "output"])
def test_weights_that_are_not_finite(part: str) -> None:
    net, x, y, _ = draw()
    with torch.no_grad():
        getattr(net, f"{part}_weight").view(-1)[0] = float("nan")
    with pytest.raises(ValueError, match=rf"weights \(the {part} part\) must be finite: 1 of "):
        pcalm.backward(net, PCALM(2, 0.2), x, y)
    assert all(parameter.grad is None for parameter in net.parameters())
