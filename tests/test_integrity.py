"""Networks that somebody has changed as torch modules: the model still, with the chain rule through it, or refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune

import pcalm
from pcalm.methods import BP, PCALM
from pcalm.network import ResidualMLP
from tests.conftest import assert_near, draw, rounding

METHOD = PCALM(6, 0.2)
EVERY_ENGINE = pytest.mark.parametrize("engine", pcalm.engines())


class Halved(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return weight / 2


def loss(net: ResidualMLP, x: Tensor, y: Tensor) -> Tensor:
    return ((net(x) - y) ** 2).sum() / 2 / x.shape[-2]


@EVERY_ENGINE
@pytest.mark.parametrize("name", ["input_weight", "hidden_weight", "output_weight"])
def test_the_chain_rule_goes_through_parametrised_weights(name: str, engine: str) -> None:
    net, x, y, _ = draw()
    parametrize.register_parametrization(net, name, Halved())
    with torch.no_grad():  # where a parametrisation would have no graph
        pcalm.backward(net, BP(), x, y, engine=engine)
    found = [parameter.grad for parameter in net.parameters()]
    net.zero_grad()
    loss(net, x, y).backward()
    for mine, parameter in zip(found, net.parameters(), strict=True):
        assert mine is not None
        assert parameter.grad is not None
        assert_near(mine, parameter.grad, rounding(net))
    plain = ResidualMLP.from_weights(net.weights, "tanh")
    assert pcalm.step_size(net, x) == pcalm.step_size(plain, x)
    expected = pcalm.gradients(plain, METHOD, x, y, engine=engine)
    for grad, exact in zip(pcalm.gradients(net, METHOD, x, y, engine=engine), expected, strict=True):
        assert torch.equal(grad, exact)


def test_a_parametrisation_is_evaluated_once() -> None:
    # In training, spectral_norm goes on with its power iteration at every evaluation.
    net, x, y, _ = draw()
    parametrizations.spectral_norm(net, "input_weight")
    counted: list[Tensor] = []
    net.parametrizations.input_weight[0].register_forward_hook(lambda *_: counted.append(x))  # type: ignore[index, union-attr]
    pcalm.backward(net, METHOD, x, y)
    assert len(counted) == 1


def pruned(net: ResidualMLP) -> None:
    prune.l1_unstructured(net, "hidden_weight", 0.3)


def hooked(net: ResidualMLP) -> None:
    net.register_full_backward_hook(lambda module, before, after: None)


def deeper(net: ResidualMLP) -> None:
    net.hidden_weight = nn.Parameter(torch.zeros(7, 4, 4, dtype=net.dtype))


def wider(net: ResidualMLP) -> None:
    net.input_weight = nn.Parameter(torch.zeros(9, 6, dtype=net.dtype))


def rescaled(net: ResidualMLP) -> None:
    net.scales = (1.0, 1.0, 1.0)


def mixed(net: ResidualMLP) -> None:
    net.output_weight.data = net.output_weight.data.float()


def sine(net: ResidualMLP) -> None:
    net.phi = torch.sin  # type: ignore[method-assign, assignment]


def renamed(net: ResidualMLP) -> None:
    net.activation = "gelu"


def infinite(net: ResidualMLP) -> None:
    net.output_weight.data[0, 0] = torch.inf


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (pruned, "net must have no module hooks, which PC-ALM's calls do not run, got L1Unstructured: remove them"),
        (hooked, "net must have no module hooks, which PC-ALM's calls do not run, got hooked.<locals>.<lambda>"),
        (deeper, "net must keep the sizes and scales that it was made with: its weights are [4, 6], [7, 4, 4], [2, 4]"),
        (wider, "net must keep the sizes and scales that it was made with: its weights are [9, 6], [3, 4, 4], [2, 4]"),
        (rescaled, "net must keep the sizes and scales that it was made with"),
        (
            mixed,
            "net must have one dtype and device: output_weight is torch.float32 on cpu, input_weight torch.float64",
        ),
        (sine, "net must have phi and its derivative dphi of one activation, but ResidualMLP has its own phi alone"),
        (renamed, "net.activation must be one of 'linear', 'tanh', 'relu', got 'gelu'"),
        (infinite, "weights (the output part) must be finite: 1 of 8 values"),
        (
            ResidualMLP.half,
            "net must be torch.float32 or torch.float64, got torch.float16; convert it with net.float()",
        ),
        (lambda net: net.to("meta"), "device must be one that holds numbers, and 'meta' holds shapes alone"),
    ],
)
def test_what_is_no_longer_the_model_is_refused(change: Callable[[ResidualMLP], Any], message: str) -> None:
    net, x, y, _ = draw()
    change(net)
    calls: list[Callable[[], Any]] = [lambda: pcalm.step_size(net, x)]
    calls += [lambda call=call: call(net, METHOD, x, y) for call in (pcalm.infer, pcalm.gradients, pcalm.backward)]  # type: ignore[misc]
    for call in calls:
        with pytest.raises(ValueError, match=re.escape(message)):
            call()
    assert all(parameter.grad is None for parameter in net.parameters())


def test_pruning_can_be_made_permanent() -> None:
    net, x, y, _ = draw()
    pruned(net)
    prune.remove(net, "hidden_weight")
    assert (pcalm.gradients(net, METHOD, x, y)[1] != 0).any()


class Sine(ResidualMLP):
    """An activation of one's own."""

    def phi(self, z: Tensor) -> Tensor:
        return torch.sin(z)

    def dphi(self, z: Tensor) -> Tensor:
        return torch.cos(z)


def test_an_activation_of_ones_own_runs_on_the_reference() -> None:
    net = Sine(5, 4, 6, 2, dtype=torch.float64)
    _, x, y, _ = draw()
    for engine in ("auto", "reference"):
        net.zero_grad()
        pcalm.backward(net, BP(), x, y, engine=engine)
        found = [parameter.grad for parameter in net.parameters()]
        net.zero_grad()
        loss(net, x, y).backward()
        for mine, parameter in zip(found, net.parameters(), strict=True):
            assert mine is not None
            assert parameter.grad is not None
            assert_near(mine, parameter.grad, rounding(net))
    for engine in ("cpu", "torch", "triton"):
        with pytest.raises(ValueError, match=f"engine '{engine}' knows the activations linear, tanh, relu alone, and"):
            pcalm.gradients(net, METHOD, x, y, engine=engine)
    relu = ResidualMLP.from_weights(net.weights, "relu")
    assert pcalm.step_size(net, x) != pcalm.step_size(relu, x)
    parametrize.register_parametrization(net, "input_weight", Halved())
    assert_near(pcalm.infer(net, BP(), x, y).activities, net.feedforward(x).detach(), rounding(net))


@pytest.mark.parametrize("name", ["forward", "feedforward", "readout"])
def test_other_methods_of_ones_own_are_refused(name: str) -> None:
    own = type("Own", (ResidualMLP,), {name: lambda self, x: getattr(ResidualMLP, name)(self, x)})
    net = own(5, 4, 6, 2, dtype=torch.float64)
    _, x, y, _ = draw()
    with pytest.raises(ValueError, match=rf"but Own has its own {name}, which no engine runs; pcalm\.Blocks takes"):
        pcalm.gradients(net, METHOD, x, y)
