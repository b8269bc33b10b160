"""The networks that training knows: what they are, and that an update of each is what `pcalm.solve` gives."""

from __future__ import annotations

import dataclasses
import math
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch

import pcalm
from pcalm import Blocks
from pcalm.engines.stacked_blocks import alike
from pcalm.experiments import data, rundir, training
from pcalm.experiments.config import TrainingConfig
from pcalm.experiments.divergence import DivergenceError
from pcalm.experiments.grid import SETTINGS
from pcalm.experiments.networks import NETWORKS, PHI, build
from pcalm.experiments.training import Training, train, train_replicas
from pcalm.methods import PCALM


@pytest.fixture(autouse=True)
def few_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """λ_max and the comparison with BP on 8 samples: most of the time of runs as short as these."""
    monkeypatch.setattr(training, "PROBE", 8)


BLOCKS = tuple(name for name in NETWORKS if name != "mlp")
LOSSES = ("squared", "cross_entropy")


def settings(network: str = "conv", **changed: Any) -> TrainingConfig:
    """4 updates of 300 samples."""
    shared: dict[str, Any] = {"depth": 5, "width": 4, "batch_size": 300, "validation": 1 / 6, "log_every": 2}
    return TrainingConfig(network=network, **{**shared, **changed})


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("pixels", [64, 784])
def test_shapes(network: str, pixels: int) -> None:
    kind = NETWORKS[network]
    net = build(network, 6, 8, pixels, 10, activation=kind.activation, loss=kind.loss)
    x = torch.zeros(3, pixels)
    states = net.feedforward(x)
    shape = {"conv": (8, 8, 8) if pixels == 64 else (8, 7, 7), "transformer": (16, 8)}
    expected = shape.get(network.removeprefix("plain-"), (8,))
    assert [tuple(each.shape) for each in states] == [(3, *expected)] * 5
    assert net(x).shape == (3, 10)
    assert net.depth == 6
    # All hidden blocks of a kind run as one.
    assert alike(net.blocks[1], net.blocks[3])


@pytest.mark.parametrize("network", NETWORKS)
def test_a_seed_is_a_network(network: str) -> None:
    kind = NETWORKS[network]
    shared: dict[str, Any] = {"activation": kind.activation, "loss": kind.loss}
    before = torch.get_rng_state()
    one, same, other = (build(network, 4, 8, 64, 10, seed=seed, **shared) for seed in (1, 1, 2))
    double = build(network, 4, 8, 64, 10, seed=1, dtype=torch.float64, **shared)
    assert torch.equal(torch.get_rng_state(), before)
    named = dict(one.named_parameters())
    assert all(torch.equal(part, named[name]) for name, part in same.named_parameters())
    assert all(torch.equal(part, named[name].double()) for name, part in double.named_parameters())
    assert not all(torch.equal(part, named[name]) for name, part in other.named_parameters())


def test_a_plain_network_keeps_its_signal() -> None:
    """He et al.'s weights: ‖z‖² hardly changes over 30 layers, where torch's own would shrink it 6^30 times."""
    for network in ("plain-mlp", "plain-conv"):
        net = build(network, 32, 32, 64, 10, activation="relu", loss="squared")
        norms = [float(each.detach().norm()) for each in net.feedforward(torch.randn(16, 64, generator=_generator()))]
        assert 0.1 < norms[-1] / norms[0] < 10


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_the_mlp_as_blocks_is_the_mlp() -> None:
    """With the squared loss it is `ResidualMLP`; every state and gradient, to the rounding of 5 layers in float64."""
    net = pcalm.ResidualMLP(5, 4, 64, 10, "tanh", seed=3, dtype=torch.float64)
    blocks = build("mlp", 5, 4, 64, 10, activation="tanh", loss="squared", seed=3, dtype=torch.float64)
    x, y = torch.randn(6, 64, generator=_generator()).double(), torch.eye(10, dtype=torch.float64)[:6]
    method = PCALM(10, 0.2, anchor=0.3)
    ours, theirs = (pcalm.gradients(each, method, x, y, engine="reference") for each in (blocks, net))
    for mine, its in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, its, rtol=0, atol=1e-12 * float(its.abs().max()))


@pytest.mark.parametrize(
    ("network", "setting", "loss", "engine"),
    [
        *((network, setting, "auto", "reference") for network in NETWORKS for setting in SETTINGS),
        *((network, "gauged", loss, "reference") for network, loss in product(NETWORKS, LOSSES)),
        *((network, setting, "auto", "torch") for network in NETWORKS for setting in SETTINGS),
        *(("mlp", setting, "auto", "cpu") for setting in SETTINGS),
    ],
)
def test_an_update_is_that_of_solve(network: str, setting: str, loss: str, engine: str) -> None:
    """Whatever the engine: the optimiser gets every entry of the reference's gradient in its place."""
    config = settings(network, loss=loss, dtype="float64", engine=engine, **SETTINGS[setting](5))
    one = Training([config])
    before = [parameter.detach().clone() for parameter in one.net.parameters()]
    net, method = one.networks.alone(0), one.tracker.method_of(0)
    index = one._batch_order(0)[0, :300]
    x, labels = one.data.train_inputs[index], one.data.train_labels[index]
    y = one.data.one_hot(labels) if config.loss == "squared" else labels
    gradients = pcalm.solve(net, method, x, y, engine="reference").gradients
    if isinstance(net, pcalm.ResidualMLP):
        gradients = [gradients[0], torch.stack(gradients[1:-1]), gradients[-1]]
    one.update()
    for old, parameter, gradient in zip(before, one.net.parameters(), gradients, strict=True):
        # Adam's first step is lr g/(|g| + ε): lr times the sign, but for 1e-3 of it, where |g| > 1e3 ε.
        moved = (parameter.detach() - old).view_as(gradient)
        large = gradient.abs() > 1e-5
        assert large.any()
        assert float((moved + config.rate * gradient.sign())[large].abs().max()) < 1e-2 * config.rate


@pytest.mark.parametrize("network", BLOCKS)
def test_digits_are_learnt(network: str) -> None:
    """Shallow, 6 epochs of BP: the loss falls; nothing of the test set is looked at."""
    run = train(settings(network, method="bp", depth=4, width=8, epochs=6, batch_size=64, lr=1e-2))
    losses = [row["loss"] for row in run.metrics if row["step"] % 18 == 0]
    assert losses[-1] < 0.9 * losses[0]
    assert isinstance(run.net, Blocks)
    digits = data.load("digits")
    right = run.net(digits.train_inputs[1200:]).argmax(1) == digits.train_labels[1200:]
    assert run.summary["test_accuracy"] == float(right.double().mean())
    last = run.metrics[-1]
    assert last["gradient_cosine"] == pytest.approx(1, rel=1e-12)
    assert last["eigenvalue"] is None
    x, y = digits.train_inputs[:8], digits.train_labels[:8]
    with torch.no_grad():
        delta = pcalm.blocks.adjoint(run.net, run.net.feedforward(x), y)
    assert last["growth"] == pytest.approx(float(delta[0].norm() / delta[-2].norm()), rel=1e-5)


@pytest.mark.parametrize("held", [0.0001, 0.9999])
def test_validation_leaves_samples_on_both_sides(held: float) -> None:
    with pytest.raises(ValueError, match=r"validation must leave samples on both sides, got 0.* of the 1440"):
        Training([settings(validation=held)])
    with pytest.raises(ValueError, match="validation must be below 1, got 1"):
        settings(validation=1)


def test_goes_on_bit_for_bit(tmp_path: Path) -> None:
    """A convolutional network with a step size and gauge that follow, interrupted in its second epoch."""
    config = settings(epochs=2, **SETTINGS["gauged"](5))
    whole = Training([config])
    (expected,) = whole.run()
    first = Training([config])
    while first.done < 6:
        first.update()
    second = Training([config])
    second.restore(first.state())
    (found,) = second.run()
    assert found.metrics == expected.metrics
    for name in ("gauge", "step_size", "margin", "least_margin", "test_correct", "gradient_cosine"):
        assert found.summary[name] == expected.summary[name]
    pairs = zip(second.net.parameters(), whole.net.parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
    summary = rundir.train_to(config, tmp_path)
    assert summary["test_correct"] == expected.summary["test_correct"]
    assert rundir.train_to(config, tmp_path) == summary


@pytest.mark.parametrize("method", [{"method": "bp"}, {"step_size": 0.25}])
def test_divergence(method: dict[str, Any]) -> None:
    with pytest.raises(DivergenceError, match=r"non-finite \w+ in layer \d+ at") as caught:
        train(settings(lr=1e30, activation="linear", **method))
    assert caught.value.divergence.step == 2


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"network": "rnn"},
            "network must be one of 'mlp', 'conv', 'transformer', 'plain-mlp', 'plain-conv', got 'rnn'",
        ),
        ({"loss": "hinge"}, "loss must be one of 'squared', 'cross_entropy', got 'hinge'"),
        ({"network": "mlp", "activation": "gelu"}, "activation must be one of 'linear', 'tanh', 'relu', got 'gelu'"),
        ({"validation": -0.1}, "validation must be zero or positive"),
    ],
)
def test_refused_settings(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        settings(**changed)


def test_refused_passes() -> None:
    with pytest.raises(ValueError, match=r"configs of one pass must be one for network 'conv' .* got 2"):
        train_replicas([settings(seed=0), settings(seed=1)])
    with pytest.raises(ValueError, match="engine 'cpu' is written for ResidualMLP"):
        Training([settings(engine="cpu")])
    with pytest.raises(ValueError, match="dataset must have square images whose side is a multiple of 4"):
        build("conv", 4, 4, 60, 10, activation="relu", loss="squared")


@pytest.mark.parametrize("network", BLOCKS)
def test_defaults(network: str) -> None:
    config = TrainingConfig(network=network)
    assert (config.loss, config.lr, config.rate) == ("cross_entropy", 3e-3, 3e-3)
    assert config.activation == ("gelu" if network == "transformer" else "relu")
    assert config.activation in PHI
    for each in (config, dataclasses.replace(config, loss="squared")):
        assert TrainingConfig(**each.resolved()).resolved() == each.resolved()
    older = TrainingConfig().resolved()
    assert not {"network", "loss", "validation", "gauge"} & set(older)
    assert TrainingConfig(width=16, depth=4).rate == 1e-3 * math.sqrt(4)


def test_a_step_that_follows_keeps_its_margin() -> None:
    """At the weights that the next update uses, by an eigenvalue found without the tracker's vector."""
    one = Training([settings(epochs=2, lr=1e-2, steps=10, batch_size=64, **SETTINGS["gauged"](5))])
    (at_start,) = one.tracker.eigenvalues
    while one.done < one.updates:
        one.update()
        if one.done % 3 == 0:
            one.tracker.measure()
            assert one.tracker.margins[0] > 0
    # So a step size of the start would not have done.
    assert one.tracker.eigenvalues[0] > 1.1 * at_start
