"""Training: the same protocol for every method, for one network or for several of one shape at once.

Adam with learning rate lr·√(N/L) for the paper's networks and lr for others, β = (0.9, 0.999) and ε = 1e-8;
standardised inputs; batch order
`numpy.random.default_rng(seed + epoch).permutation(n)`, the last partial batch dropped; η = 1/λ_max at the network's
start, on the first 64 training samples, unless a step size is given.

    train(config)              one run
    train_replicas(configs)    runs that differ in seed, lr and step size only, in one pass
    Training(configs)          the same, to be saved and restored between any two updates (see `rundir`)
"""

from __future__ import annotations

import base64
import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import embedding

from pcalm import analysis
from pcalm.blocks import LOSSES, Blocks
from pcalm.checks import require
from pcalm.engines import choose, resolve
from pcalm.experiments.config import DTYPE_NAMES, OWN, TrainingConfig, differences
from pcalm.experiments.data import Dataset, load
from pcalm.experiments.divergence import (
    Divergence,
    DivergenceError,
    Row,
    first_nonfinite,
    first_nonfinite_state,
    nonfinite,
)
from pcalm.experiments.machine import environment
from pcalm.experiments.networks import build
from pcalm.experiments.progress import Display, deferred_interrupt
from pcalm.experiments.replicas import Networks, Replicas, Single
from pcalm.experiments.tracking import Tracker, plain
from pcalm.methods import BP
from pcalm.network import ResidualMLP
from pcalm.surroundings import independent

PROBE = 64  # the first training samples: for η, the stability margin, and the gradient's cosine to BP
EVALUATION_BATCH = 1024
SAVE_EVERY_S = 30.0
# Those behind the accuracy have values at the end of an epoch only.
COLUMNS = (
    *("step", "epoch", "loss", "accuracy", "test_accuracy", "margin"),
    *("gradient_cosine", "gradient_norm_ratio", "eigenvalue", "growth"),
)


@dataclass(frozen=True, eq=False)
class Run:
    """What a run leaves.

    Attributes:
        config: its configuration, with the engine that "auto" stood for.
        metrics: one row per logged update, with the keys of COLUMNS: step, epoch (both from 1), loss and accuracy of
            that batch before the update; at the end of an epoch also test_accuracy, margin, the gradient's cosine and
            norm ratio to BP's, the eigenvalue λ_max in the gauge in use, and the growth ‖δ_1‖/‖δ_{L-1}‖ of BP's
            adjoint, all of them on the first 64 training samples (else None).
        summary: plain values, as in summary.json.
        net: the trained network; None if the run diverged.
        divergence: where it diverged, or None.
    """

    config: TrainingConfig
    metrics: list[Row]
    summary: dict[str, Any]
    net: ResidualMLP | Blocks | None
    divergence: Divergence | None


def train(
    config: TrainingConfig,
    dataset: Dataset | None = None,
    *,
    data_dir: str | Path | None = None,
    progress: bool = False,
) -> Run:
    """One run.

    Args:
        config: what to train, and how.
        dataset: what `data.load` gave for the configuration's data set, dtype and device; None loads it.
        data_dir: where to look first for its files.
        progress: shows a progress bar (on a terminal), η and the stability margins on the standard error stream.

    Raises:
        ValueError: bad settings or bad data; the message names them.
        UnstableError: a ValueError, of a step size that is too large for this network and these settings.
        FileNotFoundError: the data set is nowhere.
        DivergenceError: a state, gradient or weight became infinite or NaN.
    """
    (run,) = train_replicas([config], dataset, data_dir=data_dir, progress=progress)
    return converged(run)


def train_replicas(
    configs: Sequence[TrainingConfig],
    dataset: Dataset | None = None,
    *,
    data_dir: str | Path | None = None,
    progress: bool = False,
) -> list[Run]:
    """Runs that differ in seed, lr and step_size only, in one pass; each ends as it would on its own.

    Arguments and errors as in `train`, but that a run which diverges is returned as such and does not touch the others.
    """
    return Training(configs, dataset, data_dir=data_dir).run(progress=progress)


class Training:
    """Replicas in training, which can be saved between any two updates and restored bit for bit.

    Arguments and errors as in `train_replicas`; nothing is trained before `run`.
    """

    @independent
    def __init__(
        self, configs: Sequence[TrainingConfig], dataset: Dataset | None = None, *, data_dir: str | Path | None = None
    ) -> None:
        self.configs = list(configs)
        require(len(self.configs) > 0, "configs must be at least one TrainingConfig, got none")
        config = self.config = self.configs[0]
        for other in self.configs[1:]:
            differing = [name for name in differences(config, other) if name not in OWN]
            require(not differing, f"configs of one pass may differ in {', '.join(OWN)} only, not in {differing}")
        dtype = DTYPE_NAMES[config.dtype]
        whole = dataset or load(config.dataset, data_dir, dtype=dtype, device=config.device)
        self.data = whole.held_out(config.validation) if config.validation else whole
        samples, features = self.data.train_inputs.shape
        require(
            config.batch_size <= samples,
            f"batch_size must be at most the {samples} training samples of {self.data.name!r}, got {config.batch_size}",
        )
        self.net = made(self.configs, features, self.data.classes)
        require(
            self.data.name == config.dataset
            and self.data.train_inputs.dtype == self.net.dtype
            and self.data.train_inputs.device == self.net.device,
            f"dataset must be {config.dataset!r} in {self.net.dtype} on {self.net.device}, got {self.data.name!r} "
            f"in {self.data.train_inputs.dtype} on {self.data.train_inputs.device}",
        )
        # What "auto" stands for is part of the run from here on: another engine rounds differently.
        engine = choose(config.engine, self.net)
        self.configs = [dataclasses.replace(each, engine=engine) for each in self.configs]
        self.config = self.configs[0]
        self.networks: Networks
        if isinstance(self.net, ResidualMLP):
            self.networks = Replicas(self.net, resolve(engine, self.net))
        else:
            self.networks = Single(self.net, resolve(engine, self.net))
        labels = self.data.train_labels
        self.targets = self.data.one_hot(labels) if config.loss == "squared" else labels
        self.probe = (self.data.train_inputs[:PROBE], self.targets[:PROBE])
        self.batches = samples // config.batch_size
        self.updates = config.epochs * self.batches
        self.done = 0
        self.seconds = 0.0
        self.order: Tensor | None = None
        self.metrics: list[list[Row]] = [[] for _ in self.configs]
        self.divergences: list[Divergence | None] = [None] * len(self.configs)
        self.tracker = Tracker(self.configs, self.net, self.probe[0])
        self.method = self.tracker.method
        self._make_optimiser()

    @property
    def alive(self) -> list[int]:
        """The replicas that have not diverged."""
        return [replica for replica, divergence in enumerate(self.divergences) if divergence is None]

    @independent
    def run(self, *, save: Callable[[], None] | None = None, progress: bool = False) -> list[Run]:
        """Trains to the end.

        `save` is called between two updates: after each epoch, every SAVE_EVERY_S seconds, and before an interrupt
        (Ctrl-C) is let through.
        """
        saved = time.perf_counter()
        started = saved - self.seconds
        with deferred_interrupt() as interrupted, Display(self, progress) as display:
            while self.done < self.updates and self.alive:
                self.update()
                now = time.perf_counter()
                self.seconds = now - started
                display.show()
                if save and self.alive and (self.done % self.batches == 0 or now - saved > SAVE_EVERY_S or interrupted):
                    save()
                    saved = now
                if interrupted:
                    raise KeyboardInterrupt
            return self._finish(started)

    def state(self) -> dict[str, Any]:
        """All that `restore` needs, as tensors and plain values; shares its tensors with the training."""
        return {
            "configs": [config.resolved() for config in self.configs],
            "data": self._fingerprint(),
            "done": self.done,
            "seconds": self.seconds,
            "metrics": self.metrics,
            "divergences": [divergence and dataclasses.asdict(divergence) for divergence in self.divergences],
            "tracker": self.tracker.state(),
            "weights": self.net.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Goes on from a `state` of the same configurations and data.

        Raises:
            ValueError: it is of others, or no such state at all; this training is of no use then.
        """
        try:
            self._check(state)
            self.done, self.seconds, self.metrics = state["done"], state["seconds"], state["metrics"]
            self.divergences = [found and Divergence(**found) for found in state["divergences"]]
            self.tracker.restore(state["tracker"])
            self.method = self.tracker.method
            self.net.load_state_dict(state["weights"])
            self._make_optimiser()
            self.optimiser.load_state_dict(state["optimiser"])
        except (TypeError, KeyError, IndexError, AttributeError, RuntimeError) as error:
            raise ValueError(f"state is none of this training: {type(error).__name__}: {error}") from error

    def _fingerprint(self) -> list[float]:
        """What tells data sets apart that go by the same name."""
        return [len(self.data.train_labels), len(self.data.test_labels), self.data.mean, self.data.std]

    def _check(self, state: dict[str, Any]) -> None:
        """Raises ValueError for what is no state of this training, before it is used."""
        names = list(self.state())
        require(isinstance(state, dict) and list(state) == names, f"state must have {', '.join(names)}")
        own = [config.resolved() for config in self.configs]
        require(state["configs"] == own, f"state is of other configurations: {state['configs']}, expected {own}")
        data = self._fingerprint()
        require(state["data"] == data, f"state is of other data: {state['data']}, expected {data} (samples, mean, std)")
        done = state["done"]
        require(
            type(done) is int and 0 <= done <= self.updates, f"state has done {done!r} of {self.updates} weight updates"
        )
        for name in ("metrics", "divergences"):
            runs = state[name]
            require(isinstance(runs, list) and len(runs) == len(self.configs), f"state has {name} of other runs")
        logged = [step for step in range(1, done + 1) if step % self.config.log_every == 0 or step % self.batches == 0]
        for metrics, divergence in zip(state["metrics"], state["divergences"], strict=True):
            steps = [row["step"] for row in metrics]
            require(
                steps == (logged if divergence is None else logged[: len(steps)])
                and all(tuple(row) == COLUMNS for row in metrics),
                f"state has metrics that do not belong to {done} weight updates",
            )
        self.tracker.check(state["tracker"])

    def _make_optimiser(self) -> None:
        """Adam on views of every replica's part of the parameters, so that it rounds as for a single network."""
        # (a parameter of the optimiser, the gradient's part and replica)
        self.slots: list[tuple[Tensor, int, int]] = []
        groups: dict[float, list[Tensor]] = {}
        for replica, config in enumerate(self.configs):
            for part, parameter in enumerate(self.networks.parameters):
                view = torch.nn.Parameter(parameter[replica])
                self.slots.append((view, part, replica))
                groups.setdefault(config.rate, []).append(view)
        self.optimiser = torch.optim.Adam(
            [{"params": views, "lr": rate} for rate, views in groups.items()],
            fused=self.net.device.type in ("cpu", "cuda"),
        )

    def update(self) -> None:
        """One batch: its gradients, and a step of the optimiser."""
        epoch, batch = divmod(self.done, self.batches)
        size = self.config.batch_size
        if batch == 0 or self.order is None:
            self.order = self._batch_order(epoch)
        index = self.order[:, batch * size : (batch + 1) * size]
        x, y = embedding(index, self.data.train_inputs), self.targets[index]
        state, gradients = self.networks.solve(self.method, x, y)
        self.done += 1
        for replica in nonfinite(gradients):
            self._diverged(replica, x[replica], y[replica], gradients)
        last = self.done % self.batches == 0
        if last or self.done % self.config.log_every == 0:
            self._log(epoch + 1, x, y, self.data.train_labels[index])
        learned = [parameter.requires_grad for parameter in self.net.parameters()]
        for parameter, part, replica in self.slots:
            parameter.grad = gradients[part][replica] if learned[part] else None
        if self.tracker.moves:
            self.tracker.follow_gauge(x, state)
        self.optimiser.step()
        self._still()
        if self.tracker.moves and self.tracker.follow_weights():
            self.method = self.tracker.method
        if last:
            self._end_epoch()

    def _batch_order(self, epoch: int) -> Tensor:
        """The epoch's order of the samples, [R, n]."""
        samples = len(self.data.train_labels)
        orders = [np.random.default_rng(config.seed + epoch).permutation(samples) for config in self.configs]
        return torch.from_numpy(np.stack(orders)).to(self.net.device)

    def _still(self) -> None:
        """Holds the networks that have diverged at zero, where every state and gradient is zero."""
        with torch.no_grad():
            for replica, divergence in enumerate(self.divergences):
                if divergence is not None:
                    for parameter in self.networks.parameters:
                        parameter[replica] = 0

    @torch.no_grad()
    def _log(self, epoch: int, x: Tensor, y: Tensor, labels: Tensor) -> None:
        out = self.networks.outputs(x, y)
        # In float64 the square of a finite error is finite, so that a loss is infinite only where a state is.
        both = (out.double().flatten(0, 1), (y.double() if y.is_floating_point() else y).flatten(0, 1))
        losses = LOSSES[self.config.loss](*both).view(labels.shape).mean(-1)
        accuracies = (out.argmax(-1) == labels).double().mean(-1)
        for replica in self.alive:
            values = (self.done, epoch, losses[replica].item(), accuracies[replica].item())
            self.metrics[replica].append(dict.fromkeys(COLUMNS) | dict(zip(COLUMNS, values, strict=False)))

    def _end_epoch(self) -> None:
        """What is measured after each epoch, into the rows of its last update."""
        for replica in nonfinite(self.networks.parameters):
            self._diverged(replica, *self.probe, None)
        self._still()
        self.tracker.measure()
        accuracies, adjoints = self._correct().double().mean(-1).tolist(), self.networks.adjoint(*self.probe)
        own, exact = self._beside_bp()
        for replica in self.alive:
            compared = [[part[replica] for part in gradients] for gradients in (own, exact)]
            lowest, highest = (adjoints[replica][layer].double().norm() for layer in (0, -1))
            self.metrics[replica][-1] |= {
                "test_accuracy": accuracies[replica],
                "margin": self.tracker.margins[replica] if self.tracker.margins else None,
                "gradient_cosine": plain(analysis.cosine(*compared)),
                "gradient_norm_ratio": plain(analysis.norm_ratio(*compared)),
                "eigenvalue": plain(self.tracker.measured[replica]) if self.tracker.measured else None,
                "growth": plain(float(lowest / highest)),
            }

    @torch.no_grad()
    def _correct(self) -> Tensor:
        """Whether each test sample is classified correctly, [R, samples]."""
        predictions = [self.networks.shared(x).argmax(-1) for x in self.data.test_inputs.split(EVALUATION_BATCH)]
        return torch.cat(predictions, dim=-1) == self.data.test_labels

    def _beside_bp(self) -> tuple[list[Tensor], list[Tensor]]:
        """The method's gradients and BP's on the first training samples, [R, …]."""
        x, y = (part.expand(len(self.configs), *part.shape) for part in self.probe)
        (_, own), (_, exact) = (self.networks.solve(method, x, y) for method in (self.method, BP()))
        return own, exact

    @torch.no_grad()
    def _diverged(self, replica: int, x: Tensor, y: Tensor, gradients: list[Tensor] | None) -> None:
        """Finds where a replica became non-finite, by running the batch again."""
        if self.divergences[replica] is not None:
            return
        margin = None
        if bad := first_nonfinite(self.networks.layers(self.networks.parameters, replica)):
            where, step, layer = "weights", 0, bad
        else:
            net = self.networks.alone(replica)
            method = self.tracker.method_of(replica)
            where = "state"
            step, layer = first_nonfinite_state(net, method, x, y)
            if not isinstance(method, BP):
                self.tracker.measure()
                margin = plain(self.tracker.margins[replica])
            if layer == 0:
                assert gradients is not None
                where, step = "weight gradient", 0 if isinstance(method, BP) else method.steps * method.inner_steps
                layer = first_nonfinite(self.networks.layers(gradients, replica))
        epoch = (self.done - 1) // self.batches + 1
        message = (
            f"training diverged at update {self.done} (epoch {epoch}): non-finite {where} in layer {layer} "
            f"at inference step {step}"
        )
        if self.config.method == "bp":
            message += "; use a smaller lr"
        else:
            shown = "unknown" if margin is None else f"{margin:.4g}"
            message += (
                f"; η = {self.tracker.step_sizes[replica]:.4g}, stability margin 4 − ησ²(2ρ + α) − 2ηκ = {shown} at "
                "these weights (stable above 0); use a smaller step_size or lr"
            )
        self.divergences[replica] = Divergence(self.done, step, layer, margin, message)

    def _finish(self, started: float) -> list[Run]:
        """The comparison with BP on the first training samples, and the summaries."""
        own, exact = self._beside_bp()
        for replica in nonfinite(own):
            self._diverged(replica, *self.probe, own)
        correct = self._correct()
        self.seconds = time.perf_counter() - started
        runs = []
        for replica, (config, metrics, divergence) in enumerate(
            zip(self.configs, self.metrics, self.divergences, strict=True)
        ):
            compared = [[part[replica] for part in gradients] for gradients in (own, exact)]
            summary = self._summary(replica)
            if divergence is None:
                summary |= {
                    "test_accuracy": metrics[-1]["test_accuracy"],
                    "train_loss": float(np.mean([row["loss"] for row in metrics if row["epoch"] == config.epochs])),
                    "gradient_cosine": plain(analysis.cosine(*compared)),
                    "gradient_norm_ratio": plain(analysis.norm_ratio(*compared)),
                    "test_correct": packed(correct[replica]),
                    "eigenvalue": metrics[-1]["eigenvalue"],
                    "growth": metrics[-1]["growth"],
                }
            net = self.networks.alone(replica) if divergence is None else None
            runs.append(Run(config, metrics, summary, net, divergence))
        return runs

    def _summary(self, replica: int) -> dict[str, Any]:
        """The summary but for what only a finished run has."""
        divergence = self.divergences[replica]
        trained = self.done if divergence is None else divergence.step - 1
        method = self.method
        return {
            "status": "finished" if divergence is None else "diverged",
            "divergence": divergence and dataclasses.asdict(divergence),
            "test_accuracy": None,
            "train_loss": None,
            "gradient_cosine": None,
            "gradient_norm_ratio": None,
            "test_correct": None,
            "eigenvalue": None,
            "growth": None,
            "seconds": self.seconds,
            "samples_per_second": self.done * self.config.batch_size / self.seconds,
            "updates": trained,
            "inference_steps": 0 if isinstance(method, BP) else method.steps,
            **self.tracker.summary(replica),
            "engine": self.config.engine,
            "replicas": len(self.configs),
            "environment": environment(self.net.device),
        }


def made(configs: Sequence[TrainingConfig], pixels: int, classes: int) -> ResidualMLP | Blocks:
    """The network of configurations that differ in what replicas may have of their own.

    Raises:
        ValueError: several configurations of blocks, which have no replicas.
    """
    config, dtype = configs[0], DTYPE_NAMES[configs[0].dtype]
    shape = (config.depth, config.width, pixels, classes)
    if not config.of_blocks:
        seeds = [each.seed for each in configs]
        return ResidualMLP(*shape, config.activation, seed=seeds, dtype=dtype, device=config.device)
    require(
        len(configs) == 1,
        f"configs of one pass must be one for network {config.network!r} with loss {config.loss!r}, which is blocks "
        f"without replicas, got {len(configs)}",
    )
    return build(
        *(config.network, *shape),
        activation=config.activation,
        loss=config.loss,
        seed=config.seed,
        dtype=dtype,
        device=config.device,
    )


def packed(bits: Tensor) -> str:
    """Booleans as text: base64 of `numpy.packbits`."""
    return base64.b64encode(np.packbits(bits.cpu().numpy()).tobytes()).decode("ascii")


def converged(run: Run) -> Run:
    """The run itself, or its DivergenceError."""
    if run.divergence is not None:
        raise DivergenceError(run.divergence, run.metrics)
    return run
