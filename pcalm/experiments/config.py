"""The settings of a training run: all that determines its result."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import torch

from pcalm.blocks import LOSSES
from pcalm.checks import choice, integer, number, require
from pcalm.engines import ENGINES
from pcalm.experiments.data import NAMES
from pcalm.experiments.networks import NETWORKS
from pcalm.methods import BP, CREDITS, METHODS, PC, PCALM, Method
from pcalm.network import DTYPES

DTYPE_NAMES = {str(dtype).removeprefix("torch."): dtype for dtype in DTYPES}
AUTO = "auto"  # the network's own
GAUGES = ("none", "credit")
STEP_SIZES = ("start", "tracked")
# Settings that came later are left out of the settings of a run of the first network where they have their first value,
# so that the keys of older records stay what they are.
LATER: dict[str, Any] = {"gauge": "none", "network": "mlp", "loss": "squared", "validation": 0.0}
# What a run may have of its own among replicas.
OWN = ("seed", "lr", "step_size")
# Settings that only some methods have, by the methods that lack them.
FOREIGN = {
    "bp": ("penalty", "dual_step", "inner_steps", "credit", "anchor", "gauge"),
    "pc": ("dual_step", "inner_steps", "credit", "anchor"),
    "pcalm": (),
}
# The integers that every method has, and the least that each may be.
INTEGERS = {"depth": 3, "width": 1, "seed": 0, "epochs": 1, "inner_steps": 1, "batch_size": 1, "log_every": 1}


@dataclass(frozen=True)
class TrainingConfig:
    """All that determines a run's result.

    Args:
        dataset: "digits", "fashion-mnist" or "mnist".
        method: "bp", "pc" or "pcalm".
        depth: L ≥ 3, the number of weight matrices, or of blocks.
        width: N ≥ 1: units, channels, or the size of a token.
        activation: "linear", "tanh", "relu" or, but for "mlp", "gelu"; "auto" is "gelu" for "transformer", else "relu".
        seed: of the weights and of the batch order, ≥ 0.
        epochs: passes through the training set, ≥ 1.
        steps: T, the inference budget; None is 2L. BP, which has no inference, makes no use of it.
        step_size: η, a number; or "start", 1/λ_max at the start for the whole run; or "tracked", which follows the
            weights and keeps a stability margin (see `pcalm.experiments.tracking`). None is "start" for the paper's
            methods, and "tracked" with an anchor or a gauge. BP makes no use of it.
        penalty: ρ.
        dual_step: α, of "pcalm" only.
        inner_steps: primal steps before each dual step, of "pcalm" only.
        credit: "before" or "after" the last dual step, of "pcalm" only.
        anchor: κ, of "pcalm" only.
        gauge: "none", or "credit": the gauge follows the credit that passes (see `pcalm.gauge`); not of "bp".
        lr: Adam's learning rate, for "mlp" lr·√(N/L); None is 1e-3 for "mlp", else 3e-3.
        batch_size: samples per update.
        log_every: updates from one row of the metrics to the next; the last update of an epoch always has one.
        engine: "auto", one of `pcalm.engines()`, or "compiled", which is for networks of blocks.
        device: such as "cpu" or "cuda".
        dtype: "float32" or "float64".
        network: "mlp", the paper's, or one of NETWORKS (see `pcalm.experiments.networks`).
        loss: "squared" or "cross_entropy"; "auto" is "squared" for "mlp", else "cross_entropy".
        validation: the part of the training set, in [0, 1), that is held out: its last samples. They take the test
            set's place in all that is reported, and nothing is learnt from the test set, for choosing settings.

    Raises:
        ValueError: an argument out of its range, or one that the method does not have; the message names it.
    """

    dataset: str = "digits"
    method: str = "pcalm"
    depth: int = 32
    width: int = 32
    activation: str = AUTO
    seed: int = 0
    epochs: int = 1
    steps: int | None = None
    step_size: float | str | None = None
    penalty: float = 1.0
    dual_step: float = 1.0
    inner_steps: int = 1
    credit: str = "before"
    anchor: float = 0.0
    gauge: str = "none"
    lr: float | None = None
    batch_size: int = 64
    log_every: int = 10
    engine: str = "auto"
    device: str = "cpu"
    dtype: str = "float32"
    network: str = "mlp"
    loss: str = AUTO
    validation: float = 0.0

    def __post_init__(self) -> None:
        device, network = self.device, choice("network", self.network, NETWORKS)
        kind = NETWORKS[network]
        require(isinstance(device, (str, torch.device)), f"device must be such as 'cpu' or 'cuda', got {device!r}")
        settings = {
            "dataset": choice("dataset", self.dataset, NAMES),
            "method": choice("method", self.method, METHODS),
            "network": network,
            "loss": choice("loss", kind.loss if self.loss == AUTO else self.loss, LOSSES),
            "activation": choice(
                "activation", kind.activation if self.activation == AUTO else self.activation, kind.activations
            ),
            "credit": choice("credit", self.credit, CREDITS),
            "engine": choice("engine", self.engine, ENGINES),
            "device": str(device),
            "dtype": choice("dtype", self.dtype, DTYPE_NAMES),
            "steps": None if self.steps is None else integer("steps", self.steps, 1),
            "gauge": choice("gauge", self.gauge, GAUGES),
        }
        settings |= {name: integer(name, getattr(self, name), least) for name, least in INTEGERS.items()}
        settings["penalty"] = number("penalty", self.penalty, positive=True)
        settings["lr"] = number("lr", kind.lr if self.lr is None else self.lr, positive=True)
        for name in ("dual_step", "anchor", "validation"):
            settings[name] = number(name, getattr(self, name), positive=False)
        require(settings["validation"] < 1, f"validation must be below 1, got {self.validation}")
        settings["step_size"] = self._step_size_rule(settings)
        for name, value in settings.items():
            object.__setattr__(self, name, value)
        defaults = {field.name: field.default for field in dataclasses.fields(self)}
        for name in FOREIGN[self.method]:
            value = getattr(self, name)
            owners = " and ".join(repr(method) for method in METHODS if name not in FOREIGN[method])
            require(value == defaults[name], f"{name} is a setting of {owners}, not of {self.method!r}: got {value}")
        self.with_step_size(1.0)

    def _step_size_rule(self, settings: dict[str, Any]) -> float | str | None:
        """η as a number or the name of a rule; None is the rule of the paper's methods."""
        given, follows = self.step_size, settings["anchor"] > 0 or settings["gauge"] != "none"
        if given is not None and not isinstance(given, str):
            return number("step_size", given, positive=True)
        rule = choice("step_size", given or ("tracked" if follows else "start"), STEP_SIZES)
        return rule if follows or rule == "tracked" else None

    def with_step_size(self, step_size: float | tuple[float, ...]) -> Method:
        """The method, with η given."""
        steps = 2 * self.depth if self.steps is None else self.steps
        if self.method == "bp":
            return BP()
        if self.method == "pc":
            return PC(steps, step_size, self.penalty)
        return PCALM(steps, step_size, self.penalty, self.dual_step, self.inner_steps, self.credit, self.anchor)

    @property
    def of_blocks(self) -> bool:
        """Whether its network is `Blocks`: every one but the paper's."""
        return (self.network, self.loss) != ("mlp", "squared")

    @property
    def rate(self) -> float:
        """Adam's learning rate."""
        assert self.lr is not None
        return self.lr * math.sqrt(self.width / self.depth) if self.network == "mlp" else self.lr

    def resolved(self) -> dict[str, Any]:
        """All settings as plain values, equal for two configurations that mean the same run."""
        settings = dict(vars(self))  # flat, so a copy is enough, and asdict takes ten times as long
        if self.method == "bp":
            settings["steps"] = settings["step_size"] = None
        elif self.steps is None:
            settings["steps"] = 2 * self.depth
        if self.network != "mlp":
            return settings
        return {name: value for name, value in settings.items() if name not in LATER or value != LATER[name]}


def differences(a: TrainingConfig, b: TrainingConfig) -> list[str]:
    ours, theirs = LATER | a.resolved(), LATER | b.resolved()
    return [name for name in ours if ours[name] != theirs[name]]
