"""The compiled engine for blocks: equal to the loop, with few programs, and the stacked engine where there is none."""

from __future__ import annotations

import copy
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters

import pcalm
from pcalm.blocks import Blocks, as_state
from pcalm.engines import compiled_blocks, reasons, say_once
from pcalm.experiments.networks import Residual
from pcalm.methods import BP, PC, PCALM, Method
from pcalm.network import ResidualMLP
from tests.block_cases import EPS, assert_agree, case

pytestmark = pytest.mark.skipif(
    reasons(torch.device("cpu"), torch.float64, {"compiled": "compiled_blocks"})["compiled"] is not None,
    reason="no C++ compiler, which engine 'compiled' needs",
)


def chain(depth: int = 12) -> tuple[Blocks, Tensor, Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        hidden = (Residual(nn.Sequential(nn.Tanh(), nn.Linear(4, 4)), 0.3) for _ in range(depth - 2))
        net = Blocks([nn.Linear(3, 4), *hidden, nn.Linear(4, 2)]).double()
        return net, torch.randn(5, 3).double(), torch.randn(5, 2).double()


def assert_equal(net: Blocks, method: Method, x: Tensor, y: Any, bound: float, initial: Any = None) -> None:
    found, truth = (pcalm.solve(net, method, x, y, initial, each) for each in ("compiled", "reference"))
    assert_agree(found, truth, bound)


def programs() -> int:
    return int(counters["stats"]["unique_graphs"])


@pytest.mark.parametrize("name", ["convolutional", "shapes", "transformer"])
def test_agrees_with_the_loop_in_every_setting(name: str, caplog: pytest.LogCaptureFixture) -> None:
    net, x, y, bound = case(name)
    eta, alpha = (tuple(first + 0.02 * h for h in range(net.depth - 1)) for first in (0.1, 0.3))
    assert_equal(net, PCALM(4, eta, 0.5, alpha, 2, "after", 0.3), x, y, bound)
    assert not [each for each in caplog.records if each.name == "pcalm"]


def test_a_program_serves_all_weights_settings_and_copies() -> None:
    """Two for each kind of method: of the upper half of the layers, and of all."""
    net, x, y = chain()
    bound = 500 * EPS
    before = programs()
    for steps in (3, 15):  # the first ends while the lower half is still
        assert_equal(net, PCALM(steps, 0.1), x, y, bound)
    assert programs() == before + 2
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(1.1)
    assert_equal(net, PCALM(15, 0.2, 0.7, 1.3, 3, "after"), x, y, bound)
    assert_equal(copy.deepcopy(net), PCALM(15, 0.1), x, y, bound)
    z, lam = pcalm.infer(net, PCALM(2, 0.2, credit="after"), x, y)
    assert_equal(net, PCALM(4, 0.1), x, y, bound, as_state(list(z), list(lam)))
    assert_equal(net, BP(), x, y, bound)
    assert programs() == before + 2
    assert_equal(net, PC(15, 0.1, 0.7), x, y, bound)
    assert programs() == before + 4
    for block in net.blocks[1:-1]:
        cast(Residual, block).scale = 0.2  # what a block computes is another thing now
    assert_equal(net, PC(15, 0.1, 0.7), x, y, bound)
    assert programs() == before + 6


class Branch(nn.Module):
    """What no compiler can make one program of."""

    def forward(self, z: Tensor) -> Tensor:
        return z.tanh() if float(z.detach().sum()) > 0 else z.sin()


def test_what_cannot_be_compiled_runs_in_the_stacked_engine(caplog: pytest.LogCaptureFixture) -> None:
    say_once.cache_clear()
    net = Blocks([nn.Linear(3, 4), Branch(), Branch(), nn.Linear(4, 2)]).double()
    assert_equal(net, PCALM(5, 0.1), torch.ones(2, 3).double(), torch.ones(2, 2).double(), 100 * EPS)
    assert "4 blocks run in engine 'torch', since torch.compile fails" in caplog.text


def test_a_residual_mlp_is_told_its_engines() -> None:
    net = ResidualMLP(3, 2, 2, 2)
    with pytest.raises(ValueError, match="engine 'compiled' is written for Blocks, and does not run a ResidualMLP"):
        pcalm.infer(net, PC(1, 0.1), torch.zeros(1, 2), torch.zeros(1, 2), engine="compiled")


def test_without_a_compiler_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    net, x, y = chain(3)
    with pytest.raises(ValueError, match=r"engine 'compiled' does not work for .* on cpu: no C"):
        pcalm.infer(net, PC(1, 0.1), x, y, engine="compiled")
    assert compiled_blocks.unavailable(torch.device("cpu"), torch.float32) is not None
