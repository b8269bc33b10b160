"""The step size and the gauge of a training run, which may follow the weights.

    "start"      η = 1/λ_max at the start, for the whole run: the paper's methods
    "tracked"    η follows λ_max of the present weights, and keeps RESERVE of the stability margin
    gauge "credit"   w follows the gains of the credit that passes between neighbours (`pcalm.gauge.follow_credit`)

λ_max is followed by Lanczos' iteration on every probe sample, from where the last check ended: FOLLOW steps, and the
Ritz value's residual added, so that a mode that rises past the one followed is seen before it is the largest
(`pcalm.stepsize.Hessian.follow`). A check that finds λ_max moved by more than MOVED is followed by one after the next
update; as long as it hardly moves, the intervals double, up to the updates in which Adam, whose steps are the learning
rate at most, can have changed a weight matrix by the part TURNED of its size: 25 at N = L = 32 and lr 1e-3, one in a
small convolutional network at 3e-3. With

    η = min(1/λ_max, (4 − RESERVE) / (λ_max (2ρ + α) + 2κ))

λ_max may grow by RESERVE/4 = 5 % between two checks before the iteration can become unstable. For the residual MLP the
entries of W are of size 1 at the start, so that the change of J_l = I + s W φ' in m updates is at most mN rate/√(NL) =
m lr N/L, and 2/√λ_max times that bounds λ_max's own: 2.5 % in 25 updates at N = L = 32.
The checks take 5 % of a training step at T = 2L and N = L = 32, and 9 % at every update of the convolutional network of
16 blocks and 8 channels at T = 3L (CPU time, one thread, measured).
The least margin that was found with the η in use is in the run's summary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pcalm.blocks import Blocks
from pcalm.checks import require
from pcalm.dynamics import State
from pcalm.experiments.config import TrainingConfig
from pcalm.gauge import follow_credit, gauge, passing
from pcalm.methods import BP, PC, PCALM, Method
from pcalm.network import ResidualMLP
from pcalm.stepsize import hessian, kept_step_size, stability_margin

FOLLOW = 2
MOVED = 0.01
TURNED = 0.025


class UnstableError(ValueError):
    """Settings under which the inference is unstable from the start: `step_size` is η, `margin` below 0."""

    def __init__(self, message: str, step_size: float, margin: float) -> None:
        super().__init__(message)
        self.step_size, self.margin = step_size, margin


class Tracker:
    """The method of every replica of one training, with its η and gauge as of now.

    Args:
        configs: one per replica; they share the method and how η and the gauge are chosen.
        net: the network with its replicas, or one network of blocks.
        probe: the inputs [n, D] on which λ_max is found.

    Attributes:
        step_sizes: η of every replica, in the gauge; empty for BP.
        margins_at_start, margins: the stability margins at the start and at the last look.
        measured: λ_max at the last `measure`; empty before, and for BP.
        least_margins: the least that a check found with the η in use.
        weights: the gauge w [R, L−1]; all ones without one.

    Raises:
        UnstableError: a step size that is unstable at the start.
    """

    def __init__(self, configs: Sequence[TrainingConfig], net: ResidualMLP | Blocks, probe: Tensor) -> None:
        self.configs, self.net, self.probe = list(configs), net, probe
        self.config = self.configs[0]
        self.weights = torch.ones(len(self.configs), net.depth - 1, dtype=torch.float64, device=net.device)
        self.intervals = [1] * len(self.configs)
        self.waited = [0] * len(self.configs)
        self.step_sizes: list[float] = []
        self.margins: list[float] = []
        self.measured: list[float] = []
        self.checked = False
        if self.config.method == "bp":
            self.eigenvalues: list[float] = []
            self.vector: Tensor | None = None
        else:
            self.eigenvalues, self.vector = self._eigenvalues(None)
            self.step_sizes = list(map(self._step_size, self.configs, self.eigenvalues))
            self.margins = self.margins_now(self.eigenvalues)
            self.checked = True
        self.margins_at_start, self.least_margins = list(self.margins), list(self.margins)

    @property
    def moves(self) -> bool:
        """Whether η or the gauge follow the weights."""
        return self.config.method != "bp" and (self.config.step_size == "tracked" or self.config.gauge != "none")

    @property
    def method(self) -> Method:
        """The method of all replicas, as the engines take it."""
        if self.net.replicas is None or not self.step_sizes:
            return self.method_of(0)
        same = len(set(self.step_sizes)) == 1
        method = self.config.with_step_size(self.step_sizes[0] if same else tuple(self.step_sizes))
        assert isinstance(method, (PC, PCALM))
        return method if self.config.gauge == "none" else gauge(method, self.weights.tolist())

    def method_of(self, replica: int) -> Method:
        """The method of one replica as of a network of its own."""
        if not self.step_sizes:
            return BP()
        method = self._plain(replica)
        return method if self.config.gauge == "none" else gauge(method, self.weights[replica].tolist())

    def follow_gauge(self, x: Tensor, state: State) -> None:
        """The gauge after inference on x [R, B, …], which led to the state, and before the weights change."""
        due = self._due()
        if self.config.gauge == "credit" and any(due):
            method = self.method
            assert isinstance(method, (PC, PCALM))
            found = passing(self.net, method, x[0] if self.net.replicas is None else x, state)
            followed = follow_credit(self.weights, found)
            self.weights = torch.where(torch.tensor(due, device=followed.device)[:, None], followed, self.weights)

    def follow_weights(self) -> bool:
        """η after an update of the weights; whether the method has changed."""
        due = self._due()
        self.waited = [0 if now else waited + 1 for now, waited in zip(due, self.waited, strict=True)]
        if not any(due):
            return False
        eigenvalues, vector = self._eigenvalues(self.vector)
        assert self.vector is not None
        # Where weights have overflowed η stays, and the next update finds that they have.
        due = [now and math.isfinite(found) for now, found in zip(due, eigenvalues, strict=True)]
        self.vector = torch.where(torch.tensor(due, device=vector.device)[:, None], vector, self.vector)
        for replica in (replica for replica, now in enumerate(due) if now):
            moved = abs(eigenvalues[replica] / self.eigenvalues[replica] - 1)
            self.eigenvalues[replica] = eigenvalues[replica]
            if self.intervals[replica] > 1:  # η has been used at weights that had not been looked at
                self._note(replica)
            longest = self._longest(replica)
            self.intervals[replica] = 1 if moved > MOVED else min(2 * self.intervals[replica], longest)
            if self.config.step_size == "tracked":
                self.step_sizes[replica] = self._step_size(self.configs[replica], eigenvalues[replica])
            self._note(replica)
        return True

    def _longest(self, replica: int) -> int:
        """The updates in which no weight matrix of a replica changes by more than TURNED of its size."""
        parts = (parameter.detach() for parameter in self.net.parameters())
        own = parts if self.net.replicas is None else (part[replica] for part in parts)
        # The root mean square of an entry; vectors, such as biases, hardly change J_l.
        sizes = [float(part.square().mean().sqrt()) for part in own if part.ndim > 1]
        return max(1, int(TURNED * min(sizes) / self.configs[replica].rate))

    def _due(self) -> list[bool]:
        """Whose turn it is to be looked at after this update."""
        return [waited + 1 >= interval for waited, interval in zip(self.waited, self.intervals, strict=True)]

    def _note(self, replica: int) -> None:
        """The margin of the η in use at the eigenvalue just found."""
        margin = stability_margin(self._plain(replica), self.eigenvalues[replica])
        self.margins[replica] = margin
        self.least_margins[replica] = min(self.least_margins[replica], margin)

    def measure(self) -> None:
        """λ_max and the margins at the present weights, from a power iteration of its own."""
        if self.step_sizes:
            self.measured, _ = self._eigenvalues(None)
            self.margins = self.margins_now(self.measured)

    def margins_now(self, eigenvalues: Sequence[float]) -> list[float]:
        """4 − ησ²(2ρ + α) − 2ηκ of every replica; in the gauge, where it is the same in all layers."""
        return [stability_margin(self._plain(replica), value) for replica, value in enumerate(eigenvalues)]

    def summary(self, replica: int) -> dict[str, Any]:
        """What a run's summary says of its η, margins and gauge."""
        if not self.step_sizes:
            names = ("step_size", "margin_at_start", "margin", "least_margin")
            return dict.fromkeys(names)
        found = {
            "step_size": self.step_sizes[replica],
            "margin_at_start": self.margins_at_start[replica],
            "margin": plain(self.margins[replica]),
            "least_margin": plain(min(self.least_margins[replica], self.margins[replica])),
        }
        return found | ({} if self.config.gauge == "none" else {"gauge": self.weights[replica].tolist()})

    def state(self) -> dict[str, Any]:
        """All that `restore` needs, as tensors and plain values."""
        names = ("step_sizes", "eigenvalues", "margins_at_start", "margins", "least_margins", "intervals", "waited")
        return {name: getattr(self, name) for name in (*names, "weights", "vector")}

    def check(self, state: dict[str, Any]) -> None:
        """Raises ValueError for what is no state of this tracker."""
        own = self.state()
        require(isinstance(state, dict) and list(state) == list(own), f"state has no tracker of {', '.join(own)}")
        for name, value in own.items():
            shape = [
                len(each) if isinstance(each, list) else getattr(each, "shape", None) for each in (value, state[name])
            ]
            require(type(state[name]) is type(value) and shape[0] == shape[1], f"state has {name} of another training")

    def restore(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)

    def _plain(self, replica: int) -> PC | PCALM:
        method = self.configs[replica].with_step_size(self.step_sizes[replica])
        assert isinstance(method, (PC, PCALM))
        return method

    def _eigenvalues(self, vector: Tensor | None) -> tuple[list[float], Tensor]:
        """λ_max of every replica in the present gauge, and the vectors [R, n] to go on from; None starts anew."""
        own = self.weights[0] if self.net.replicas is None else self.weights
        w = None if self.config.gauge == "none" else own
        dtype = torch.float64 if vector is None else self.net.dtype
        found = hessian(self.net, self.probe, gauge=w, dtype=dtype, checked=self.checked)
        if vector is None:
            eigenvalues, vector = found.power_iteration(found.start())
        else:
            eigenvalues, vector = found.follow(vector if found.replicas else vector.squeeze(0), FOLLOW)
        return eigenvalues.view(-1).tolist(), vector.view(len(self.configs), -1).to(self.net.dtype)

    def _step_size(self, config: TrainingConfig, eigenvalue: float) -> float:
        """η of a replica at its eigenvalue.

        Raises:
            UnstableError: it is unstable, and may not be chosen smaller.
        """
        method = config.with_step_size(1.0)
        assert isinstance(method, (PC, PCALM))
        if config.step_size == "tracked":
            return kept_step_size(method, eigenvalue)
        steepest = 4 - stability_margin(method, eigenvalue)  # λ_max (2ρ + α) + 2κ: the margin is 4 − η times this
        size = 1 / eigenvalue if config.step_size in (None, "start") else float(config.step_size or 0)
        margin = 4 - size * steepest
        if not margin >= 0:
            message = (
                f"step_size {size:.4g} is unstable: the margin 4 − ησ²(2ρ + α) − 2ηκ is {margin:.4g} with "
                f"penalty ρ = {method.penalty}, dual_step α = {method.dual_step}, anchor κ = {method.anchor} and "
                f"σ² = {eigenvalue:.4g}; use a step_size below {4 / steepest:.4g}, 'tracked', or smaller ρ, α or κ"
            )
            raise UnstableError(message, size, margin)
        return size


def plain(value: float) -> float | None:
    """The number, or None for NaN and infinity, which JSON lacks."""
    return value if math.isfinite(value) else None
