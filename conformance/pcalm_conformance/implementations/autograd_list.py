"""PC-ALM, PC and BP as most people would first write them in torch: a list of layers, and autograd of the energy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pcalm_conformance.protocol import Problem, Solution

ACTIVATIONS = {"linear": torch.nn.Identity(), "tanh": torch.nn.Tanh(), "relu": torch.nn.ReLU()}


class Layer(torch.nn.Module):
    """x ↦ s φ(x) Wᵀ, plus x where there is a skip connection."""

    def __init__(self, weight: np.ndarray, scale: float, activation: str = "linear", skip: bool = False) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.from_numpy(weight))
        self.scale, self.skip, self.activation = scale, skip, ACTIVATIONS[activation]

    def forward(self, below: Tensor) -> Tensor:
        change = self.scale * self.activation(below) @ self.weight.T
        return below + change if self.skip else change


class AutogradList:
    """No derivative is written out: all come from the energy and the loss."""

    name = "autograd-list"

    def solve(self, problem: Problem) -> Solution:
        first, *blocks, last = problem.weights
        width, inputs = first.shape
        scale = 1 / math.sqrt(width * len(problem.weights))
        layers = [
            Layer(first, 1 / math.sqrt(inputs)),
            *(Layer(block, scale, problem.activation, skip=True) for block in blocks),
        ]
        readout = Layer(last, 1 / width, problem.activation)
        parameters = [layer.weight for layer in [*layers, readout]]
        x, y = torch.from_numpy(problem.inputs), torch.from_numpy(problem.targets)

        feedforward = [x]
        for layer in layers:
            feedforward.append(layer(feedforward[-1]))
        if problem.method == "bp":
            gradients = torch.autograd.grad(loss(readout(feedforward[-1]), y).mean(), parameters)
            return solution(feedforward[1:], [torch.zeros_like(z) for z in feedforward[1:]], gradients)

        anchors = [z.detach() for z in feedforward[1:]]
        z, multipliers = anchors, [torch.zeros_like(a) for a in anchors]
        if problem.initial is not None:
            z, multipliers = (list(torch.from_numpy(part)) for part in problem.initial)
        is_pc = problem.method == "pc"
        inner_steps = 1 if is_pc else problem.inner_steps

        def each(setting: Any) -> list[float]:
            """A setting of every hidden layer."""
            return list(setting) if np.ndim(setting) else [setting] * len(layers)

        eta, rho, alpha = each(problem.step_size), each(problem.penalty), each(problem.dual_step)

        def energy(z: list[Tensor], multipliers: list[Tensor], anchor: Any) -> Tensor:
            """Per sample, [B]."""
            total = loss(readout(z[-1]), y)
            parts = zip(layers, [x, *z], z, multipliers, anchors, rho, each(anchor), strict=False)
            for layer, below, here, multiplier, start, penalty, kappa in parts:
                error = here - layer(below) + multiplier / penalty
                total = total + penalty / 2 * error.square().sum(-1)
                total = total + kappa / 2 * (here - start).square().sum(-1)
            return total

        for t in range(1, problem.steps + 1):
            for _ in range(inner_steps):
                z = [here.detach().requires_grad_() for here in z]
                slopes = torch.autograd.grad(energy(z, multipliers, 0.0 if is_pc else problem.anchor).sum(), z)
                z = [here - step * slope for here, step, slope in zip(z, eta, slopes, strict=True)]
            if not is_pc and (t < problem.steps or problem.credit == "after"):
                with torch.no_grad():
                    errors = [here - layer(below) for layer, below, here in zip(layers, [x, *z], z, strict=False)]
                    multipliers = [m + step * c for m, step, c in zip(multipliers, alpha, errors, strict=True)]
        z = [here.detach() for here in z]
        return solution(z, multipliers, torch.autograd.grad(energy(z, multipliers, 0.0).mean(), parameters))


def loss(out: Tensor, target: Tensor) -> Tensor:
    return (out - target).square().sum(-1) / 2


def solution(activities: list[Tensor], multipliers: list[Tensor], gradients: tuple[Tensor, ...]) -> Solution:
    with torch.no_grad():
        return Solution(
            torch.stack(activities).numpy(),
            torch.stack(multipliers).numpy(),
            [gradient.numpy() for gradient in gradients],
        )


impl = AutogradList()
