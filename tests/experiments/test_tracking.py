"""The step size that follows the weights, and the gauge that follows the credit, in training."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

import pcalm
from pcalm.dynamics import adjoint
from pcalm.experiments import data
from pcalm.experiments.config import TrainingConfig
from pcalm.experiments.tracking import MOVED, Tracker
from pcalm.experiments.training import Training, train, train_replicas
from pcalm.methods import PCALM, anchored
from pcalm.network import ResidualMLP
from pcalm.stepsize import RESERVE, largest_eigenvalue, stability_margin

ANCHORED: dict[str, Any] = dict(anchored(6))
SMALL = TrainingConfig(depth=6, width=6, batch_size=96, lr=1e-2, log_every=5, engine="reference", **ANCHORED)


def settings(**changed: Any) -> TrainingConfig:
    return dataclasses.replace(SMALL, **changed)


@pytest.mark.parametrize(
    ("changed", "rule"),
    [
        ({}, "tracked"),
        ({"step_size": "start"}, "start"),
        ({"anchor": 0.0}, None),
        ({"anchor": 0.0, "step_size": "start"}, None),
        ({"anchor": 0.0, "gauge": "credit"}, "tracked"),
        ({"step_size": 0.1}, 0.1),
    ],
)
def test_who_tracks(changed: dict[str, Any], rule: Any) -> None:
    config = settings(**{"step_size": None} | changed)
    assert config.step_size == rule
    assert dataclasses.replace(config, seed=1).step_size == rule
    assert TrainingConfig(**config.resolved()).resolved() == config.resolved()


def test_older_runs_keep_their_settings() -> None:
    assert "gauge" not in TrainingConfig().resolved()
    assert settings(gauge="credit").resolved()["gauge"] == "credit"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"step_size": "followed"}, "step_size must be one of 'start', 'tracked', got 'followed'"),
        ({"gauge": "delta"}, "gauge must be one of 'none', 'credit', got 'delta'"),
    ],
)
def test_unknown_rules(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        settings(**changed)
    with pytest.raises(ValueError, match="gauge is a setting of 'pc' and 'pcalm', not of 'bp'"):
        TrainingConfig(method="bp", gauge="credit")


def test_a_margin_is_kept_where_the_start_would_be_unstable() -> None:
    """At L = 3, ρ = 0.1, α = 3.5, κ = 1 and 1/λ_max have a margin below zero: the tracked step is smaller."""
    shallow = settings(depth=3, **anchored(3))
    with pytest.raises(ValueError, match=r"step_size 0\.\d+ is unstable.*'tracked'"):
        train(dataclasses.replace(shallow, step_size="start"))
    summary = train(shallow).summary
    assert summary["margin_at_start"] == pytest.approx(RESERVE, rel=1e-12)
    # λ_max moves by more than MOVED at every update here, and so η is chosen anew after every update.
    assert summary["least_margin"] == pytest.approx(RESERVE, abs=4 * MOVED)


def test_eta_follows_the_weights() -> None:
    """After training η belongs to the weights as they are, and not to those of the start."""
    training = Training([settings(epochs=3)])
    (run,) = training.run()
    assert isinstance(run.net, ResidualMLP)
    eigenvalue = largest_eigenvalue(run.net, training.probe[0])
    assert isinstance(eigenvalue, float)
    eta = run.summary["step_size"]
    method = run.config.with_step_size(eta)
    assert isinstance(method, PCALM)
    # Found by a power iteration that was warm, at most some updates ago, when λ_max hardly moved.
    assert eta * eigenvalue <= 1 + 4 * MOVED
    assert stability_margin(method, eigenvalue) == pytest.approx(run.summary["margin"], abs=1e-9)
    at_start = largest_eigenvalue(ResidualMLP(6, 6, 64, 10, seed=0), training.probe[0])
    assert isinstance(at_start, float)
    assert abs(eigenvalue / at_start - 1) > 4 * MOVED  # so the test tells the two apart
    assert all(1 <= interval <= 25 for interval in training.tracker.intervals)


def test_the_gauge_levels_what_passes() -> None:
    """The weights of a gauged training are near ‖δ_l‖/‖δ_{L-1}‖, which the rule never sees."""
    training = Training([settings(gauge="credit", steps=36, epochs=6)])
    (run,) = training.run()
    assert isinstance(run.net, ResidualMLP)
    x, y = training.probe
    with torch.no_grad():
        delta = adjoint(run.net, run.net.feedforward(x), y).flatten(1).norm(dim=1)
    wanted = (delta / delta[-1]).log()
    found = torch.tensor(run.summary["gauge"]).log()
    assert (found - wanted).abs().max() < 0.25 * wanted.abs().max()  # of ones it is 1; measured 0.08
    assert found[-1] == 0
    # The method of the next update is the settings in that gauge.
    method = training.method
    assert isinstance(method, PCALM)
    plain = run.config.with_step_size(run.summary["step_size"])
    assert isinstance(plain, PCALM)
    own = pcalm.gauge(plain, run.summary["gauge"])
    assert isinstance(method.penalty, tuple)
    assert method.penalty[0] == own.penalty


def test_replicas_are_tracked_one_by_one() -> None:
    configs = [settings(seed=seed, gauge="credit", engine="torch") for seed in (0, 1)]
    together = train_replicas(configs)
    for config, run in zip(configs, together, strict=True):
        alone = train(config)
        # The same products, of one network or of two: rounding of 15 updates in float32, and Adam's.
        assert run.summary["step_size"] == pytest.approx(alone.summary["step_size"], rel=1e-3)
        assert run.summary["gauge"] == pytest.approx(alone.summary["gauge"], rel=1e-2)
        assert run.summary["test_accuracy"] == pytest.approx(alone.summary["test_accuracy"], abs=0.02)


def test_goes_on_bit_for_bit() -> None:
    config = settings(gauge="credit", epochs=2)
    whole = Training([config])
    (expected,) = whole.run()
    first = Training([config])
    while first.done < 7:
        first.update()
    second = Training([config])
    second.restore(first.state())
    (found,) = second.run()
    assert found.summary["test_accuracy"] == expected.summary["test_accuracy"]
    assert found.summary["gauge"] == expected.summary["gauge"]
    assert found.summary["step_size"] == expected.summary["step_size"]
    assert found.metrics == expected.metrics


def test_a_tracker_of_another_training_is_refused() -> None:
    training = Training([settings()])
    state = training.state()
    spoilt: Any
    for spoilt in ({}, [], state["tracker"] | {"weights": torch.ones(1, 2)}, state["tracker"] | {"intervals": "1"}):
        with pytest.raises(ValueError, match="state"):
            Training([settings()]).restore(state | {"tracker": spoilt})


def test_bp_has_nothing_to_track() -> None:
    digits = data.load("digits")
    net = ResidualMLP(6, 6, 64, 10, seed=[0])
    tracker = Tracker([TrainingConfig(method="bp", depth=6, width=6)], net, digits.train_inputs[:64])
    assert (tracker.step_sizes, tracker.margins, tracker.moves) == ([], [], False)
    assert tracker.method == pcalm.BP()
