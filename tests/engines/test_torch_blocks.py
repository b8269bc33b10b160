"""The stacked engine for blocks: equal to the loop, and what it takes for blocks of one kind."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import pcalm
from pcalm.blocks import Blocks, as_state
from pcalm.dynamics import State
from pcalm.engines import reference_blocks, say_once, stacked_blocks
from pcalm.engines.stacked_blocks import alike
from pcalm.experiments.networks import Residual
from pcalm.methods import PC, PCALM, Method
from tests.block_cases import CASES, EPS, assert_agree, case, convolutional, transformer

METHODS: dict[str, Method] = {
    "pc": PC(9, 0.1, 0.7),
    "fewer steps than layers": PCALM(2, 0.1),
    "inner steps, credit after": PCALM(3, 0.1, 0.5, 0.8, 2, "after"),
    "anchored": PCALM(9, 0.1, 0.1, 3.0, anchor=0.4),
}


def assert_equal(net: Blocks, method: Method, x: Tensor, y: Any, initial: State | None, bound: float) -> None:
    found, truth = (each.solve(net, method, x, y, initial) for each in (stacked_blocks, reference_blocks))
    assert_agree(found, truth, bound)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_agrees_with_the_loop(method: Method, name: str) -> None:
    net, x, y, bound = case(name)
    assert_equal(net, method, x, y, None, bound)
    z, lam = pcalm.infer(net, PCALM(2, 0.2, 0.5, 3.0, credit="after"), x, y)
    start = as_state(list(z), [each if isinstance(method, PCALM) else torch.zeros_like(each) for each in lam])
    assert_equal(net, method, x, y, start, bound)


@pytest.mark.parametrize("name", CASES)
def test_settings_of_each_layer(name: str) -> None:
    net, x, y, bound = case(name)
    eta, rho, alpha, kappa = (
        tuple(c + d * h for h in range(net.depth - 1)) for c, d in ((0.1, 0.02), (0.5, 0.1), (0.3, 0.2), (0, 0.1))
    )
    for method in (PCALM(5, eta, rho, alpha, 2, "after", kappa), PC(3, eta, rho), PCALM(7, 0.1, anchor=kappa)):
        assert_equal(net, method, x, y, None, bound)


@pytest.mark.parametrize(
    ("blocks", "sizes"),
    [
        (lambda: convolutional(7, 3), [5]),
        (lambda: transformer(8, 8, 2), [3, 3]),
        (lambda: [nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 2)], [1, 1, 1]),
        (lambda: [nn.Linear(3, 3), *(Residual(nn.Tanh(), 0.1 * k) for k in (1, 2, 1)), nn.Linear(3, 3)], [2, 1]),
    ],
)
def test_blocks_of_one_kind_are_one_call(blocks: Callable[[], list[nn.Module]], sizes: list[int]) -> None:
    net = Blocks(blocks())
    if isinstance(net.blocks[0], nn.Embedding):
        x = torch.zeros(2, 4, dtype=torch.int64)
    else:
        x = torch.zeros(2, 1, 8, 8) if isinstance(net.blocks[0], nn.Conv2d) else torch.zeros(2, 3)
    with torch.no_grad():
        sweep = stacked_blocks.Sweep(net, PCALM(1, 0.1), x, torch.zeros_like(net(x)), None)
    assert [len(group.blocks) for group in sweep.groups] == sizes


class Gate(nn.Module):
    """A block with an activation of its own, and attributes that may differ."""

    def __init__(self, scale: float = 1.0, function: Any = torch.tanh) -> None:
        super().__init__()
        self.linear, self.scale, self.function = nn.Linear(3, 3), scale, function

    def forward(self, z: Tensor) -> Tensor:
        return z + self.scale * self.function(self.linear(z))


def hooked() -> Gate:
    gate = Gate()
    gate.linear.register_forward_hook(lambda module, given, out: 2 * out)
    return gate


def tied() -> nn.Sequential:
    layer = nn.Linear(3, 3)
    return nn.Sequential(layer, layer)


def test_alike() -> None:
    assert alike(Gate(), Gate())
    assert alike(Gate(), copy.deepcopy(Gate()))
    assert alike(tied(), tied())
    for other in (
        Gate(2.0),
        Gate(function=torch.relu),
        Gate(function=lambda z: z.tanh()),
        Gate().eval(),
        hooked(),
        nn.Linear(3, 3),
    ):
        assert not alike(Gate(), other)
    assert not alike(Gate(), Gate().double())
    assert not alike(nn.Linear(3, 3), nn.Linear(3, 3, bias=False))
    assert not alike(nn.Linear(3, 3), nn.Linear(3, 4))
    assert not alike(nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1, dilation=1, padding_mode="circular"))
    assert not alike(tied(), nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)))


def test_torchs_own_transformer_layers_are_one_call(caplog: pytest.LogCaptureFixture) -> None:
    torch.manual_seed(0)
    layers = (nn.TransformerEncoderLayer(8, 2, 16, batch_first=True) for _ in range(3))
    net = Blocks([nn.Linear(3, 8), *layers, nn.Sequential(nn.Flatten(), nn.Linear(32, 2))]).double().eval()
    x, y = torch.randn(3, 4, 3).double(), torch.randn(3, 2).double()
    assert_equal(net, PCALM(6, 0.05), x, y, None, 1000 * EPS)
    assert not caplog.records
    assert torch.backends.mha.get_fastpath_enabled()


class Branching(nn.Module):
    """What vmap cannot run: a branch on a value."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 3)

    def forward(self, z: Tensor) -> Tensor:
        return z + self.linear(z) if float(self.linear.weight.detach().sum()) < 100 else z


def test_blocks_that_vmap_cannot_run_are_called_one_by_one(caplog: pytest.LogCaptureFixture) -> None:
    say_once.cache_clear()
    torch.manual_seed(0)
    net = Blocks([nn.Linear(3, 3), *(Branching() for _ in range(4)), nn.Linear(3, 2)]).double()
    x, y = torch.randn(3, 3).double(), torch.randn(3, 2).double()
    for _ in range(2):
        assert_equal(net, PCALM(6, 0.05), x, y, None, 1e-14)  # products of three terms
    assert len(caplog.records) == 1
    assert "4 blocks (Branching) run one by one in engine 'torch', since vmap fails" in caplog.records[0].message
