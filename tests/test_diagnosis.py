"""The proofs hold on right networks and fail on wrong ones; measurements and advice say what is there."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

import pcalm
from pcalm import diagnosis
from pcalm.blocks import Blocks
from pcalm.stepsize import RESERVE
from tests.block_cases import CASES, case, convolutional

SHORT = (2.0, 4.0)


def convolution() -> tuple[Blocks, Tensor, Tensor]:
    """Five blocks of two channels on 4 × 4 images, in float32 as people have them."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = Blocks(convolutional(5, 2, 4, 3), "cross_entropy")
        return net, torch.randn(4, 1, 4, 4), torch.arange(4) % 3


@pytest.fixture(scope="module")
def right() -> diagnosis.Diagnosis:
    return diagnosis.diagnose(*convolution(), budgets=SHORT)


def test_a_right_network_passes_and_gets_advice(right: diagnosis.Diagnosis) -> None:
    assert [proof for proof in right.proofs if not proof.passed] == []
    assert right.best is not None
    trajectory, row = right.best
    assert row.cosine >= diagnosis.TARGET
    assert f"{trajectory.name} reaches a cosine of {row.cosine:.3f}" in right.advice[0]


def test_the_advice_is_a_call_that_gives_the_figures(right: diagnosis.Diagnosis) -> None:
    assert right.best is not None
    net, x, y = convolution()
    method = eval(diagnosis.call(*right.best), {"pcalm": pcalm})
    net, x = net.double(), x.double()
    found, exact = (pcalm.gradients(net, each, x, y) for each in (method, pcalm.BP()))
    # The call shows four digits of each setting.
    assert pcalm.analysis.cosine(found, exact) == pytest.approx(right.best[1].cosine, abs=2e-3)


def test_what_is_measured(right: diagnosis.Diagnosis) -> None:
    net, x, y = convolution()
    net, x = net.double(), x.double()
    assert [each.name for each in right.trajectories] == ["PC", "PC-ALM", "anchored", "gauged anchored"]
    for each in right.trajectories:
        assert [(row.budget, row.steps) for row in each.alignments] == [(2.0, 10), (4.0, 20)]
        assert each.margin >= RESERVE - 1e-9
        assert each.arrived.shape == (20, 4)
        found = pcalm.gauge(each.method, each.weights) if each.weights else each.method
        exact = pcalm.gradients(net, pcalm.BP(), x, y)
        cosine = pcalm.analysis.cosine(pcalm.gradients(net, found, x, y), exact)
        assert each.alignments[-1].cosine == pytest.approx(cosine, abs=1e-9)  # 20 steps of rounding
    plain = right.trajectories[1]
    assert plain.method.step_size == pytest.approx(pcalm.step_size(net, x), rel=1e-12)
    state = [z.detach() for z in net.feedforward(x)]
    jacobian = torch.autograd.functional.jacobian(net.blocks[1], state[0]).reshape(state[1].numel(), -1)
    gain = float(torch.linalg.matrix_norm(jacobian, 2))
    found_gain = right.blocks[1].gain
    assert found_gain is not None
    assert 0.95 * gain <= found_gain <= gain * (1 + 1e-12)  # 32 power iterations, from below
    assert right.blocks[0].gain is None
    assert right.blocks[3].adjoint == pytest.approx(1)
    assert [each.kind for each in right.blocks] == ["Conv2d", "Residual", "Residual", "Residual", "Readout"]


def test_the_record_is_json_with_the_figures(right: diagnosis.Diagnosis) -> None:
    record = json.loads(json.dumps(right.record(), allow_nan=False))
    assert (record["depth"], record["samples"], record["passed"]) == (5, 4, True)
    assert len(record["proofs"]) == 5
    assert record["methods"][3]["gauge"] == right.trajectories[3].weights
    assert record["methods"][0]["alignment"][1]["cosine"] == right.trajectories[0].alignments[1].cosine
    assert record["advice"] == right.advice


@pytest.mark.parametrize("name", CASES)
def test_every_proof_passes_on_what_people_build(name: str) -> None:
    net, x, y, _ = case(name)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    found = diagnosis.diagnose(net, x, y, budgets=(1.0,))
    assert [proof for proof in found.proofs if not proof.passed] == []
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


class _MixesTheRest(nn.Module):
    """Adds the mean of all samples but the first to each of them: what a look at the first sample does not show."""

    def forward(self, z: Tensor) -> Tensor:
        return torch.cat([z[:1], z[1:] + 0.1 * z[1:].mean(0, keepdim=True)]) if len(z) > 1 else z


class _WrongDerivative(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        return z.clone()

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Tensor:
        return slopes[0] * torch.linspace(0.5, 1, len(slopes[0]), dtype=slopes[0].dtype).view(-1, 1)  # by position


class _Wrong(nn.Module):
    def forward(self, z: Tensor) -> Tensor:
        return cast(Any, _WrongDerivative).apply(z)


class _Remembers(nn.Module):
    """A skip connection past other blocks, through an attribute that another block has left behind."""

    def __init__(self, kept: dict[str, Tensor], writes: bool) -> None:
        super().__init__()
        self.kept, self.writes = kept, writes

    def forward(self, z: Tensor) -> Tensor:
        if self.writes:
            self.kept["z"] = z
            return z
        kept = self.kept["z"]
        return z + (kept if len(kept) == len(z) else kept[: len(z)])


def chain(*inner: nn.Module) -> tuple[Blocks, Tensor, Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        parts = [nn.Linear(3, 4), nn.Sequential(nn.Tanh(), nn.Linear(4, 4)), *inner, nn.Linear(4, 2)]
        return Blocks(parts), torch.randn(3, 3), torch.randn(3, 2)


def failed(found: diagnosis.Diagnosis) -> set[str]:
    return {proof.claim for proof in found.proofs if not proof.passed}


def test_a_block_that_mixes_samples_is_caught() -> None:
    found = diagnosis.diagnose(*chain(_MixesTheRest(), nn.Tanh()), budgets=(1.0,))
    assert "samples do not interact" in failed(found)
    assert not found.passed


def test_a_derivative_that_depends_on_the_place_in_the_batch_is_caught() -> None:
    assert "samples do not interact" in failed(diagnosis.diagnose(*chain(_Wrong(), nn.Tanh()), budgets=(1.0,)))


def test_a_connection_past_the_chain_is_caught() -> None:
    kept: dict[str, Tensor] = {}
    found = diagnosis.diagnose(*chain(_Remembers(kept, True), nn.Tanh(), _Remembers(kept, False)), budgets=(1.0,))
    # Autograd follows the connection, a chain of blocks does not.
    assert "BP's gradient at the KKT point is autograd's" in failed(found)


def test_batch_norm_in_training_mode_gets_the_sentence() -> None:
    with pytest.raises(ValueError, match=r"blocks\.2 \(BatchNorm1d\) normalises over the batch.*call \.eval\(\)"):
        diagnosis.diagnose(*chain(nn.BatchNorm1d(4)))


class _Times(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, z: Tensor) -> Tensor:
        return self.factor * z


def test_a_chain_of_high_gain_gets_none_and_why() -> None:
    net, x, y = chain(_Times(10.0), nn.Linear(4, 4), _Times(6.0))
    net.blocks[-1].requires_grad_(False)  # its gradient is BP's own in every method, and large behind such gains
    found = diagnosis.diagnose(net, x, y, budgets=(1.25,))
    assert found.passed
    assert found.best is None
    assert found.advice[0].startswith("no method reached a cosine of 0.95 within 1.25L = 8 steps; the best is ")
    assert found.advice[1].startswith("why: block 3 (_Times) has gain 10;")
    assert found.advice[2].startswith("why: block 5 (_Times) has gain 6;")
    assert any("λ_max is" in line for line in found.advice)


def test_reasons() -> None:
    flat = [diagnosis.BlockFigures(number, "Linear", 1.0, 1.0) for number in (1, 2, 3)]
    grown = [diagnosis.BlockFigures(1, "Linear", None, 89.0), *flat[1:]]
    away = diagnosis.Trajectory("PC", pcalm.PC(6, 0.25), None, 4.2, [], [None, 3], torch.zeros(6, 2))
    here = diagnosis.Trajectory("PC", pcalm.PC(6, 0.25), None, 4.2, [], [4, 3], torch.zeros(6, 2))
    assert "by a factor of 89 along the chain" in diagnosis.reasons(grown, [here])[0]
    assert (
        "half of the credit has arrived at the first layer with no method" in diagnosis.reasons(flat, [away, away])[0]
    )
    assert "nothing measured here stands out" in diagnosis.reasons(flat, [away, here])[0]
    gone = [diagnosis.BlockFigures(1, "Linear", None, 0.0), *flat[1:]]
    assert "vanishes" in diagnosis.reasons(gone, [here])[0]
    many = [diagnosis.BlockFigures(number, "Linear", 3.0 + number, 1.0) for number in range(5)]
    assert "2 more blocks" in diagnosis.reasons(many, [here])[3]


def test_the_cheapest_is_advised_with_a_caution_where_credit_has_not_arrived() -> None:
    def trajectory(name: str, *cosines: float) -> diagnosis.Trajectory:
        rows = [diagnosis.Alignment(k, 4 * k, cosine, 1.0) for k, cosine in enumerate(cosines, 1)]
        return diagnosis.Trajectory(name, pcalm.PC(8, 0.25), None, 4.0, rows, [1], torch.zeros(8, 1))

    found = diagnosis.cheapest([trajectory("a", 0.9, 0.96), trajectory("b", 0.95, 0.99), trajectory("c", 0.97, 0.9)])
    assert found is not None
    assert (found[0].name, found[1].steps) == ("b", 4)
    assert len(diagnosis.advise(found, [], [])) == 1
    slow = dataclasses.replace(found[0], half=[5])
    assert "not half of the credit has arrived" in diagnosis.advise((slow, found[1]), [], [])[1]
    assert diagnosis.cheapest([trajectory("a", 0.9, math.nan)]) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"net": nn.Linear(2, 2)}, r"net must be a pcalm\.Blocks, got Linear"),
        ({"x": 3}, r"x must be a tensor \[B, …\], got int"),
        ({"y": torch.tensor(3)}, "y must be a tensor .* got torch.int64 without dimensions"),
        ({"y": torch.zeros(4)}, "y must be class indices"),
        ({"samples": 0}, "samples must be at least 1, got 0"),
        ({"budgets": ()}, "budgets must be at least one number"),
        ({"budgets": (2, -1)}, "budgets must be positive and finite, got -1"),
    ],
)
def test_bad_arguments(change: dict[str, Any], message: str) -> None:
    net, x, y = convolution()
    with pytest.raises(ValueError, match=message):
        diagnosis.diagnose(**cast(dict[str, Any], {"net": net, "x": x, "y": y} | change))


def test_a_network_that_learns_nothing() -> None:
    net, x, y = convolution()
    with pytest.raises(ValueError, match="must have a parameter that requires a gradient"):
        diagnosis.diagnose(net.requires_grad_(False), x, y)
    net, x, y = chain(nn.Tanh())
    with pytest.raises(ValueError, match="BP's gradient is zero on this batch"):
        diagnosis.diagnose(net.double(), x.double(), net(x.double()).detach())


def test_the_batch_is_cut() -> None:
    net, x, y = convolution()
    said: list[str] = []
    found = diagnosis.diagnose(net, x, y, samples=2, budgets=(1.0,), say=said.append)
    assert found.samples == 2
    assert said[0] == "5 blocks, 2 samples: proofs"
