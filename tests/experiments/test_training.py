"""The training protocol against a loop written out by hand, replicas, divergence, and what is logged."""

from __future__ import annotations

import base64
import copy
import dataclasses
import json
import math
import pickle
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch

import pcalm
from pcalm import analysis, dynamics
from pcalm.engines import reasons
from pcalm.experiments import data, training
from pcalm.experiments.config import TrainingConfig
from pcalm.experiments.divergence import DivergenceError
from pcalm.experiments.training import Training, train, train_replicas
from tests.conftest import rounding

# 5 updates an epoch.
SMALL = TrainingConfig(depth=5, width=6, batch_size=280, lr=1e-2, log_every=2, engine="reference")
ANCHORED = {"penalty": 0.25, "dual_step": 3.0, "anchor": 0.4, "inner_steps": 2, "credit": "after"}
# The first update moves every weight by ±lr·√(N/L), and in a linear network the next pass then overflows.
EXPLODING = {"activation": "linear", "lr": 1e30}
# Starts just inside the bound of 4 / 3λ_max = 0.282, which the weights leave as they grow.
UNSTABLE = {"activation": "linear", "lr": 0.3, "step_size": 0.28, "steps": 600, "depth": 4, "width": 4}


def settings(**changed: Any) -> TrainingConfig:
    return dataclasses.replace(SMALL, **changed)


def by_hand(config: TrainingConfig) -> tuple[pcalm.ResidualMLP, list[float]]:
    """The network after training, and the losses of all batches: the protocol with the public calls alone."""
    digits = data.load("digits", dtype=torch.float64)
    targets = digits.one_hot(digits.train_labels)
    net = pcalm.ResidualMLP(
        config.depth, config.width, 64, 10, config.activation, seed=config.seed, dtype=torch.float64
    )
    given = config.step_size
    method = config.with_step_size(
        given if isinstance(given, float) else pcalm.step_size(net, digits.train_inputs[:64])
    )
    rate = config.rate
    adam = torch.optim.Adam(net.parameters(), lr=rate, betas=(0.9, 0.999), eps=1e-8, foreach=False)
    losses = []
    for epoch in range(config.epochs):
        order = np.random.default_rng(config.seed + epoch).permutation(1440)
        for start in range(0, 1440 - config.batch_size + 1, config.batch_size):
            batch = torch.from_numpy(order[start : start + config.batch_size])
            x, y = digits.train_inputs[batch], targets[batch]
            losses.append(float((net(x) - y).detach().square().sum(1).mean() / 2))
            adam.zero_grad()
            pcalm.backward(net, method, x, y, engine="reference")
            adam.step()
    return net, losses


def assert_same_weights(found: Any, truth: pcalm.ResidualMLP, config: TrainingConfig) -> None:
    """Equal up to rounding.

    Adam moves a weight by lr m̂ / (√v̂ + ε), which changes by at most lr/ε times a change of the gradient: where a
    gradient is of ε's size, that is what its rounding grows to. The gradients here are smaller than 1.
    """
    assert isinstance(found, pcalm.ResidualMLP)
    primal_steps = 2 * config.depth * config.inner_steps
    gradient_error = rounding(truth, primal_steps)
    updates = config.epochs * (1440 // config.batch_size)
    bound = updates * config.rate / 1e-8 * gradient_error
    assert bound < 1e-3 * updates  # well below what a wrong formula would change
    for ours, theirs in zip(found.weights, truth.weights, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=bound)


@pytest.mark.parametrize(
    "changed",
    [
        {"method": "bp"},
        {"method": "pc", "penalty": 1.5, "step_size": 0.1},
        {"method": "pcalm"},
        {
            "method": "pcalm",
            "activation": "tanh",
            "seed": 3,
            "batch_size": 400,
            "epochs": 2,
            "step_size": "start",
            **ANCHORED,
        },
    ],
)
def test_the_protocol(changed: dict[str, Any]) -> None:
    config = settings(dtype="float64", **changed)
    run = train(config)
    net, losses = by_hand(config)
    assert_same_weights(run.net, net, config)
    # The squares are of errors of size 1, and the weights agree as above: far better than 1e-6.
    assert [row["loss"] for row in run.metrics] == pytest.approx(
        [losses[row["step"] - 1] for row in run.metrics], rel=1e-6
    )


def test_rows_of_the_metrics() -> None:
    run = train(settings(epochs=2))
    assert [(row["step"], row["epoch"]) for row in run.metrics] == [(2, 1), (4, 1), (5, 1), (6, 2), (8, 2), (10, 2)]
    assert [row["test_accuracy"] is not None for row in run.metrics] == [False, False, True, False, False, True]
    assert [row["margin"] is not None for row in run.metrics] == [False, False, True, False, False, True]
    digits = data.load("digits")
    assert isinstance(run.net, pcalm.ResidualMLP)
    right = run.net(digits.test_inputs).argmax(1) == digits.test_labels
    assert run.metrics[-1]["test_accuracy"] == float(right.double().mean())
    bits = np.unpackbits(np.frombuffer(base64.b64decode(run.summary["test_correct"]), np.uint8), count=len(right))
    assert (bits == right.numpy()).all()


def test_summary() -> None:
    config = settings(epochs=2, anchor=0.3, step_size="start")
    run = train(config)
    digits = data.load("digits")
    x, y = digits.train_inputs[:64], digits.one_hot(digits.train_labels[:64])
    start = pcalm.ResidualMLP(config.depth, config.width, 64, 10, config.activation, seed=config.seed)
    assert isinstance(run.net, pcalm.ResidualMLP)
    own, exact = (
        pcalm.gradients(run.net, method, x, y, engine="reference")
        for method in (config.with_step_size(run.summary["step_size"]), pcalm.BP())
    )
    # The same gradients, of one network or of one replica; the measures are sums over them.
    few = rounding(run.net, 2 * config.depth)
    assert run.summary["gradient_cosine"] == pytest.approx(analysis.cosine(own, exact), rel=few)
    assert run.summary["gradient_norm_ratio"] == pytest.approx(analysis.norm_ratio(own, exact), rel=few)
    # The power iteration is in float64.
    eta = pcalm.step_size(start, x)
    assert isinstance(eta, float)
    assert run.summary["step_size"] == pytest.approx(eta, rel=1e-12)
    # 4 − ησ²(2ρ + α) − 2ηκ with ησ² = 1
    assert run.summary["margin_at_start"] == pytest.approx(1 - 2 * 0.3 * eta, rel=1e-12)
    assert run.summary["margin"] == run.metrics[-1]["margin"]
    assert run.summary["test_accuracy"] == run.metrics[-1]["test_accuracy"]
    assert run.summary["train_loss"] == np.mean([row["loss"] for row in run.metrics[3:]])
    facts = {"status": "finished", "updates": 10, "inference_steps": 10, "engine": "reference", "divergence": None}
    assert {name: run.summary[name] for name in facts} == facts
    assert run.summary["seconds"] > 0
    assert json.loads(json.dumps(run.summary, allow_nan=False)) == run.summary


def test_bp_has_no_inference() -> None:
    run = train(settings(method="bp", steps=7))
    facts = {"inference_steps": 0, "step_size": None, "margin_at_start": None, "margin": None}
    assert {name: run.summary[name] for name in facts} == facts
    # Both gradients are the same numbers, so the cosine is 1 up to the rounding of one float64 division.
    assert run.summary["gradient_cosine"] == pytest.approx(1, rel=1e-12)
    assert run.metrics[-1]["margin"] is None


def test_digits_are_learnt() -> None:
    """Shallow and narrow, 8 epochs: measured over seeds 0 to 3 accuracies of 0.907 to 0.950, cosines above 0.94."""
    shared = {"depth": 4, "width": 16, "epochs": 8, "batch_size": 64, "lr": 1e-2}
    found = {method: train(settings(method=method, **shared)).summary for method in ("bp", "pcalm")}
    assert found["bp"]["test_accuracy"] > 0.9
    assert found["pcalm"]["test_accuracy"] > 0.9
    assert found["pcalm"]["gradient_cosine"] > 0.9


REPLICAS = [
    settings(seed=3, lr=1e-2, step_size=0.1, epochs=2),
    settings(seed=1, lr=3e-3, step_size=None, epochs=2),
    settings(seed=2, lr=1e-2, step_size=0.2, epochs=2),
]


def test_replicas_are_separate_runs() -> None:
    configs = [dataclasses.replace(config, dtype="float64") for config in REPLICAS]
    for run, config in zip(train_replicas(configs), configs, strict=True):
        alone = train(config)
        assert run.config == config
        assert isinstance(alone.net, pcalm.ResidualMLP)
        assert_same_weights(run.net, alone.net, config)
        for name in ("test_accuracy", "step_size", "margin", "train_loss", "gradient_cosine", "gradient_norm_ratio"):
            assert run.summary[name] == pytest.approx(alone.summary[name], rel=1e-6), name
        assert [row["step"] for row in run.metrics] == [row["step"] for row in alone.metrics]


def test_replicas_on_the_cpu_engine_are_separate_runs_bit_for_bit() -> None:
    reason = reasons(torch.device("cpu"))["cpu"]
    if reason is not None:
        pytest.skip(f"engine 'cpu' does not work here: {reason}")
    configs = [dataclasses.replace(config, engine="cpu") for config in REPLICAS]
    for run, config in zip(train_replicas(configs), configs, strict=True):
        alone = train(config)
        assert isinstance(run.net, pcalm.ResidualMLP)
        assert isinstance(alone.net, pcalm.ResidualMLP)
        assert all(ours.equal(theirs) for ours, theirs in zip(run.net.weights, alone.net.weights, strict=True))
        assert [row["loss"] for row in run.metrics] == [row["loss"] for row in alone.metrics]


@pytest.mark.parametrize("method", ["bp", "pcalm"])
def test_divergence_of_the_feedforward_pass(method: str) -> None:
    config = settings(method=method, log_every=1, **EXPLODING)
    with pytest.raises(DivergenceError, match=r"update 2 \(epoch 1\): non-finite state in layer 2 .* step 0") as caught:
        train(config)
    found = caught.value.divergence
    # z_1 is of size 1e30, and its product with weights of that size overflows.
    assert (found.step, found.inference_step, found.layer) == (2, 0, 2)
    assert [row["step"] for row in caught.value.metrics] == [1]
    assert ("stability margin" in str(caught.value)) == (method == "pcalm")
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_divergence_of_the_inference(monkeypatch: pytest.MonkeyPatch) -> None:
    """Found at the update and inference step where it happens: the step before is finite."""
    monkeypatch.setattr(training, "SAVE_EVERY_S", 0.0)
    config = settings(**UNSTABLE)
    diverging, states = Training([config]), []
    (run,) = diverging.run(save=lambda: states.append(copy.deepcopy(diverging.state())))
    found = run.divergence
    assert found is not None
    assert found.step == states[-1]["done"] + 1
    assert run.net is None
    assert (run.summary["status"], run.summary["updates"]) == ("diverged", found.step - 1)
    assert run.summary["test_accuracy"] is None
    assert run.metrics == states[-1]["metrics"][0]
    assert found.margin is not None
    assert found.margin < 0

    before = Training([config])
    before.restore(states[-1])
    epoch, batch = divmod(before.done, before.batches)
    index = before._batch_order(epoch)[0, batch * config.batch_size : (batch + 1) * config.batch_size]
    x, y = before.data.train_inputs[index], before.targets[index]
    for steps, finite in ((found.inference_step - 1, True), (found.inference_step, False)):
        method = dataclasses.replace(config, steps=steps).with_step_size(0.28)
        net = before.networks.alone(0)
        assert isinstance(net, pcalm.ResidualMLP)
        state = dynamics.infer(net, method, x, y)
        credit = state.multipliers + dynamics.residuals(net, state.activities, net.feedforward(x)[:1])
        bad = ~torch.isfinite(state.activities + credit).flatten(1).all(1)
        assert bool(bad.any()) != finite
    assert found.layer == bad.nonzero()[0].item() + 1


def test_weights_that_overflow_at_the_last_update() -> None:
    with pytest.raises(DivergenceError, match=r"update 1 \(epoch 1\): non-finite weights in layer 1"):
        train(settings(lr=1e300, batch_size=1440))


def test_a_replica_that_diverges_does_not_disturb_the_others() -> None:
    shared = {"activation": "linear", "epochs": 2}
    good, other = settings(**shared), settings(seed=1, **shared)
    kept, lost = train_replicas([good, dataclasses.replace(other, lr=1e30)])
    truth, _ = train_replicas([good, other])
    assert lost.divergence is not None
    assert (lost.divergence.step, lost.net) == (2, None)
    assert kept.metrics == truth.metrics
    assert isinstance(kept.net, pcalm.ResidualMLP)
    assert isinstance(truth.net, pcalm.ResidualMLP)
    assert all(ours.equal(theirs) for ours, theirs in zip(kept.net.weights, truth.net.weights, strict=True))
    timing = ("seconds", "samples_per_second")
    assert {k: v for k, v in kept.summary.items() if k not in timing} == {
        k: v for k, v in truth.summary.items() if k not in timing
    }


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"dataset": "cifar"}, "dataset must be one of 'digits', 'fashion-mnist', 'mnist', got 'cifar'"),
        ({"method": "adam"}, "method must be one of 'bp', 'pc', 'pcalm', got 'adam'"),
        ({"activation": "gelu"}, "activation must be one of 'linear', 'tanh', 'relu', got 'gelu'"),
        ({"engine": "warp"}, "engine must be one of 'auto', 'reference'.*, got 'warp'"),
        ({"dtype": "float16"}, "dtype must be one of 'float32', 'float64', got 'float16'"),
        ({"depth": 2}, "depth must be at least 3, got 2"),
        ({"width": 0}, "width must be at least 1, got 0"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"epochs": 1.5}, "epochs must be an integer, got 1.5"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"log_every": 0}, "log_every must be at least 1, got 0"),
        ({"lr": 0.0}, "lr must be positive and finite, got 0.0"),
        ({"lr": math.nan}, "lr must be positive and finite, got nan"),
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"step_size": 0.0}, "step_size must be positive and finite, got 0.0"),
        ({"penalty": -1.0}, "penalty must be positive and finite, got -1.0"),
        ({"dual_step": -1.0}, "dual_step must be zero or positive and finite, got -1.0"),
        ({"anchor": -1.0}, "anchor must be zero or positive and finite, got -1.0"),
        ({"credit": "later"}, "credit must be one of 'before', 'after', got 'later'"),
        ({"method": "pc", "anchor": 1.0}, "anchor is a setting of 'pcalm', not of 'pc': got 1.0"),
        ({"method": "bp", "penalty": 2.0}, "penalty is a setting of 'pc' and 'pcalm', not of 'bp': got 2.0"),
    ],
)
def test_wrong_settings(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        settings(**changed)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"batch_size": 1441}, "batch_size must be at most the 1440 training samples of 'digits', got 1441"),
        ({"device": "tpu0"}, "device must be such as 'cpu'.*got 'tpu0'"),
        ({"device": "cuda:99"}, "device 'cuda:99' is not on this machine"),
        ({"step_size": 0.5}, r"step_size 0.5 is unstable: the margin .* is -\d.*; use a step_size below 0.2"),
        ({"penalty": 3.0}, "is unstable: .* penalty ρ = 3.0"),
    ],
)
def test_what_cannot_be_trained_is_refused_at_the_start(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        train(settings(**changed))


def test_wrong_replicas_and_data() -> None:
    with pytest.raises(ValueError, match="at least one TrainingConfig, got none"):
        train_replicas([])
    with pytest.raises(ValueError, match=r"may differ in seed, lr, step_size only, not in \['width'\]"):
        train_replicas([SMALL, settings(width=7)])
    with pytest.raises(
        ValueError, match=r"dataset must be 'digits' in torch\.float32 .*, got 'digits' in torch\.float64"
    ):
        train(SMALL, data.load("digits", dtype=torch.float64))


def test_settings_that_mean_the_same_run() -> None:
    assert settings(steps=None).resolved() == settings(steps=10).resolved()
    assert settings(method="bp", steps=3, step_size=0.1).resolved() == settings(method="bp").resolved()
    assert settings(step_size=0.1).resolved() != settings().resolved()


def test_state_is_restored_into_the_same_configuration_only() -> None:
    with pytest.raises(ValueError, match="state is of other configurations"):
        Training([settings(seed=1)]).restore(Training([SMALL]).state())


def test_replicas_resume_bit_for_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "SAVE_EVERY_S", 0.0)
    whole, states = Training(REPLICAS), []
    runs = whole.run(save=lambda: states.append(copy.deepcopy(whole.state())))
    assert [state["done"] for state in states] == list(range(1, 11))
    for state in (states[2], states[4], states[9]):
        resumed = Training(REPLICAS)
        resumed.restore(copy.deepcopy(state))
        for run, truth in zip(resumed.run(), runs, strict=True):
            assert run.metrics == truth.metrics
            assert isinstance(run.net, pcalm.ResidualMLP)
            assert isinstance(truth.net, pcalm.ResidualMLP)
            assert all(ours.equal(theirs) for ours, theirs in zip(run.net.weights, truth.net.weights, strict=True))


@pytest.mark.parametrize("handler", [None, signal.SIG_IGN])
def test_ctrl_c_is_taken_only_where_it_can_be_given_back(monkeypatch: pytest.MonkeyPatch, handler: Any) -> None:
    """None: a program that embeds Python handles it in C. Ignored: it is a shell's background job."""

    def never(*arguments: Any) -> None:
        raise AssertionError("a handler was set")

    monkeypatch.setattr(signal, "getsignal", lambda number: handler)
    monkeypatch.setattr(signal, "signal", never)
    assert train(SMALL).summary["status"] == "finished"


@pytest.mark.parametrize("handler", [signal.SIG_DFL, signal.default_int_handler, lambda *arguments: None])
def test_ctrl_c_is_given_back(handler: Any) -> None:
    before = signal.signal(signal.SIGINT, handler)
    try:
        train(SMALL)
        assert signal.getsignal(signal.SIGINT) is handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_outside_the_main_thread_there_is_no_ctrl_c() -> None:
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(train, SMALL).result().metrics == train(SMALL).metrics


def test_the_bar_is_quiet_off_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    train(settings(epochs=2), progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("step size 0.")
    assert "stability margin 1.000 at the start" in lines[0]
    assert [line.split(":")[0] for line in lines[1:]] == ["epoch 1", "epoch 2"]
    train(SMALL)
    assert capsys.readouterr() == ("", "")


def test_imports_need_torch_and_numpy_only() -> None:
    """The rest is imported where it is used (and tqdm by torch itself): training runs where only these two are."""
    code = (
        "import sys; import pcalm, pcalm.experiments.training, pcalm.experiments.rundir; "
        "print([name for name in ('sklearn', 'typer', 'tabulate') if name in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"
