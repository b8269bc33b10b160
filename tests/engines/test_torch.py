"""The stacked engine: equal to the reference in everything it can be asked for, and its graphs' bookkeeping."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

import pcalm
from benchmarks.gate import disagreement
from pcalm.dynamics import State
from pcalm.engines import Solution, resolve, say_once, stacked, sweep
from pcalm.methods import BP, PC, PCALM, Method
from pcalm.network import ACTIVATIONS, ResidualMLP
from tests.engines.engine_cases import FORMS, METHODS, SEEDS, layered, problem, without_multipliers

DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_agrees_with_the_reference(method: Method, activation: str, dtype: torch.dtype, device: str) -> None:
    for seed in (0, [0, 1, 2]):
        for depth, width in ((3, 1), (8, 7)):
            net = ResidualMLP(depth, width, 6, 4, activation, seed=seed, dtype=dtype, device=device)
            for start in (False, True) if method.name != "bp" else (False,):
                x, y, initial = problem(net, start=start)
                assert disagreement(stacked, net, method, x, y, without_multipliers(initial, method)) <= 1


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("form", FORMS)
def test_settings_of_a_layers_own(form: str, activation: str, device: str) -> None:
    net = ResidualMLP(8, 7, 6, 4, activation, seed=SEEDS[form], dtype=torch.float64, device=device)
    for start in (False, True):
        x, y, initial = problem(net, start=start)
        for method in layered(net, form):
            assert disagreement(stacked, net, method, x, y, without_multipliers(initial, method)) <= 1


@pytest.mark.parametrize("device", DEVICES)
def test_replicas_are_separate_runs_each_with_its_own_step_size(device: str) -> None:
    sizes = (0.1, 0.2, 0.3)
    nets = ResidualMLP(6, 5, 4, 3, "tanh", seed=[3, 4, 5], dtype=torch.float64, device=device)
    x, y, initial = problem(nets, start=True)
    packed = stacked.solve(nets, PCALM(7, sizes, anchor=0.3), x, y, initial)
    assert initial is not None
    for r, size in enumerate(sizes):
        single = stacked.solve(
            nets.replica(r), PCALM(7, size, anchor=0.3), x[r], y[r], State(initial[0][r], initial[1][r])
        )
        for got, expected in zip((*packed.state, *packed.gradients), (*single.state, *single.gradients), strict=True):
            # One order of operations but for the number of matrices in a batched product: 14 steps' rounding at most.
            torch.testing.assert_close(got[r], expected, rtol=1e-13, atol=1e-13)


def test_layers_outside_the_light_cone_do_not_move() -> None:
    net = ResidualMLP(9, 6, 4, 3, dtype=torch.float64)
    x, y, _ = problem(net)
    start = net.feedforward(x)
    state = stacked.solve(net, PCALM(3, 0.2, credit="after"), x, y, None).state
    assert torch.equal(state.activities[:-3], start[:-3])
    assert not state.multipliers[:-3].any()
    assert ((state.activities[-3:] - start[-3:]).abs().amax(dim=(1, 2)) > 0).all()


def test_arguments_keep_their_values_and_results_are_contiguous() -> None:
    net = ResidualMLP(6, 5, 4, 3)
    x, y, initial = problem(net, start=True)
    assert initial is not None
    before = [part.detach().clone() for part in (*net.parameters(), x, y, *initial)]
    solution = stacked.solve(net, PCALM(4, 0.2), x, y, initial)
    assert all(map(torch.equal, before, (*net.parameters(), x, y, *initial)))
    assert solution.state.activities.is_contiguous()
    assert not any(part.requires_grad for part in (*solution.state, *solution.gradients))


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[torch.device]]:
    """Graphs without a GPU: "replaying" runs the function again, and writes to the tensors of its first solution."""
    captures: list[torch.device] = []

    def capture(function: Callable[[], Solution], device: torch.device) -> Callable[[], Solution]:
        captures.append(device)
        first = function()

        def run() -> Solution:
            again = function()
            for own, new in zip((*first.state, *first.gradients), (*again.state, *again.gradients), strict=True):
                own.copy_(new)
            return first

        return run

    monkeypatch.setattr(stacked, "capture", capture)
    stacked._graph.cache_clear()
    yield captures
    stacked._graph.cache_clear()


@pytest.mark.parametrize("seed", [0, [0, 1]])
@pytest.mark.parametrize("start", [False, True])
@pytest.mark.parametrize("name", ["anchored", "pcalm, inner steps", "layers of their own"])
def test_a_graph_serves_new_weights_inputs_and_step_sizes(
    recorded: list[torch.device], name: str, start: bool, seed: int | list[int]
) -> None:
    solutions, expected = [], []
    for run, size in enumerate((0.1, 0.25)):
        net = ResidualMLP(6, 5, 4, 3, seed=run if seed == 0 else [run, run + 7], dtype=torch.float64)
        method = METHODS.get(name) or layered(net, "layers" if seed == 0 else "replicas and layers", run)[0]
        assert isinstance(method, PCALM)
        changed = dataclasses.replace(method, step_size=size)
        x, y, initial = problem(net, seed=run, start=start)
        solutions.append(stacked.replay(net, changed, x, y, initial))
        expected.append(stacked.eager(net, changed, x, y, initial))
    assert len(recorded) == 1
    for got, want in zip(solutions, expected, strict=True):  # the second replay left the first one's solution alone
        torch.testing.assert_close((*got.state, *got.gradients), (*want.state, *want.gradients), rtol=1e-13, atol=1e-13)


def test_every_other_kind_of_problem_gets_a_graph_and_the_cache_is_bounded(recorded: list[torch.device]) -> None:
    net = ResidualMLP(4, 3, 4, 3)
    x, y, initial = problem(net, start=True)
    other = ResidualMLP(4, 3, 4, 3, "tanh")
    pair = ResidualMLP(4, 3, 4, 3, seed=[0, 1])
    calls: list[tuple[ResidualMLP, Method, Tensor, Tensor, State | None]] = [
        (net, PCALM(2, 0.1), x, y, None),
        (net, PCALM(3, 0.1), x, y, None),
        (net, PCALM(2, 0.1), x, y, initial),
        (net, PCALM(2, 0.1), x[:2], y[:2], None),
        (net, PC(2, 0.1), x, y, None),
        (net, BP(), x, y, None),
        (other, PCALM(2, 0.1), x, y, None),
        (net.double(), PCALM(2, 0.1), x.double(), y.double(), None),
        (pair, PCALM(2, 0.1), x.expand(2, -1, -1), y.expand(2, -1, -1), None),
        (pair, PCALM(2, 0.1, (0.1, 0.2)), x.expand(2, -1, -1), y.expand(2, -1, -1), None),
    ]
    for number, call in enumerate(calls, 1):
        stacked.replay(*call)
        assert len(recorded) == number
    assert stacked._graph.cache_info().currsize == stacked.MAX_GRAPHS < len(calls)


def test_deterministic_algorithms_get_a_graph_of_their_own(recorded: list[torch.device]) -> None:
    net = ResidualMLP(4, 3, 4, 3)
    net.note = torch.nn.Parameter(torch.zeros(1))  # what else a network carries is none of the engine's business
    x, y, _ = problem(net)
    stacked.replay(net, PCALM(2, 0.1), x, y, None)
    torch.use_deterministic_algorithms(True)
    try:
        stacked.replay(net, PCALM(2, 0.1), x, y, None)
    finally:
        torch.use_deterministic_algorithms(False)
    assert len(recorded) == 2


def test_the_public_name_selects_it() -> None:
    net = ResidualMLP(5, 4, 6, 3, dtype=torch.float64)
    x, y, _ = problem(net)
    found = pcalm.solve(net, PCALM(5, 0.2), x, y, engine="torch")
    expected = stacked.solve(net, PCALM(5, 0.2), x, y, None)
    assert torch.equal(found.state.activities, expected.state.activities)


def test_auto_falls_back_to_it_and_says_why_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sweep, "unavailable", lambda device, dtype: "no compiler (test)")
    say_once.cache_clear()
    net = ResidualMLP(3, 2, 2, 2)
    assert [resolve("auto", net) for _ in range(2)] == [stacked, stacked]
    assert [record.message for record in caplog.records] == [
        "engine 'cpu' is not available, so engine 'torch' is used, which is slower: no compiler (test)"
    ]
