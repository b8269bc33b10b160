"""This project's engines as implementations under test; `packed` ones solve several problems as replicas of one
call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from pcalm_conformance.protocol import Problem, Solution
from torch import Tensor

import pcalm
from pcalm.engines import load, reasons
from pcalm.methods import Method


def method_of(problem: Problem, replicas: int = 1) -> Method:
    """The problem's method; with replicas, settings of each layer are the same in all of them."""
    settings = (problem.step_size, problem.penalty, problem.dual_step, problem.anchor)
    eta, rho, alpha, kappa = ((each,) * replicas if replicas > 1 and np.ndim(each) else each for each in settings)
    if problem.method == "bp":
        return pcalm.BP()
    if problem.method == "pc":
        return pcalm.PC(problem.steps, eta, rho)
    return pcalm.PCALM(problem.steps, eta, rho, alpha, problem.inner_steps, problem.credit, kappa)


@dataclass(frozen=True)
class Engine:
    """One engine; with replicas > 1 the problem is packed between others of its shape, and its own part returned.

    Attributes:
        engine: as in `pcalm.engines()`.
        replicas: how many networks one call solves.
        device: such as "cpu" or "cuda"; set by --device.
    """

    engine: str
    replicas: int = 1
    device: str = "cpu"

    @property
    def name(self) -> str:
        packed = "" if self.replicas == 1 else f"-x{self.replicas}"
        return self.engine + packed + ("" if self.device == "cpu" else f"-{self.device}")

    def supports(self, problem: Problem) -> bool:
        engine = load(self.engine)
        if engine.unavailable(torch.device(self.device), getattr(torch, problem.dtype)) is not None:
            return False
        too_large = getattr(engine, "too_large", None)  # triton's, whose blocks must fit the device
        weights = [torch.from_numpy(weight) for weight in problem.weights]
        return too_large is None or too_large(pcalm.ResidualMLP.from_weights(weights)) is None

    def solve(self, problem: Problem) -> Solution:
        found = pcalm.solve(*self._arguments(problem), engine=self.engine)
        activities, multipliers = map(self._pick, found.state)
        return Solution(activities, multipliers, [self._pick(gradient) for gradient in found.gradients])

    def prepare(self, problem: Problem) -> Callable[[], list[np.ndarray]]:
        arguments = self._arguments(problem)

        def gradients() -> list[np.ndarray]:
            return [self._pick(gradient) for gradient in pcalm.gradients(*arguments, engine=self.engine)]

        return gradients

    def _arguments(self, problem: Problem) -> tuple[pcalm.ResidualMLP, Method, Tensor, Tensor, Any]:
        """Those of `pcalm.solve`."""
        mine, total = self.replicas - 1, self.replicas

        def place(array: np.ndarray) -> Tensor:
            """The problem's array last, behind as many different ones as there are other replicas."""
            whole = torch.from_numpy(array).to(self.device)
            return whole if total == 1 else torch.stack([whole.roll(k, -1) * (1 - k / 8) for k in range(mine, -1, -1)])

        net = pcalm.ResidualMLP.from_weights([place(weight) for weight in problem.weights], problem.activation)
        x, y = place(problem.inputs), place(problem.targets)
        initial = None if problem.initial is None else (place(problem.initial[0]), place(problem.initial[1]))
        return net, method_of(problem, total), x, y, initial

    def _pick(self, tensor: Tensor) -> np.ndarray:
        """The problem's own part of a result; on a device, once that has computed it."""
        return (tensor if self.replicas == 1 else tensor[self.replicas - 1]).cpu().numpy()


reference = Engine("reference")
torch_engine = Engine("torch")
cpu = Engine("cpu")
triton = Engine("triton")
reference_packed = Engine("reference", replicas=3)
torch_packed = Engine("torch", replicas=3)
cpu_packed = Engine("cpu", replicas=3)
triton_packed = Engine("triton", replicas=3)


def implementations(device: str = "cpu") -> list[str]:
    """The names here of the reference, of every engine that works on the device, and of each with packed replicas."""
    working = [name for name, reason in reasons(torch.device(device)).items() if reason is None]
    names = {"reference": ["reference"], "torch": ["torch_engine", "torch_packed"]}
    return [one for name in working for one in names.get(name, [name, f"{name}_packed"])]
