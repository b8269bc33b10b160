"""What the engines are measured against: PC-ALM as it is usually written, and backpropagation.

    textbook    a list of layers, the energy as a scalar, and autograd for its gradient in the activities
    Compiled    one iteration on stacked layers, compiled by torch.compile, in a Python loop
    bp          a list of layers and autograd

All give a `Solution` from the feed-forward start, and pass the engines' gate.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pcalm import dynamics
from pcalm.dynamics import Gradients, State
from pcalm.engines import Solution
from pcalm.methods import PC, PCALM, per_layer
from pcalm.network import ResidualMLP

Iteration = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]


def _predictions(net: ResidualMLP, weights: list[Tensor], x: Tensor, zs: list[Tensor]) -> tuple[list[Tensor], Tensor]:
    """pred_1..pred_{L-1} of the layers below, and the output."""
    s_in, s, s_out = net.scales
    hidden = [z + s * net.phi(z) @ weight.mT for z, weight in zip(zs[:-1], weights[1:-1], strict=True)]
    return [s_in * x @ weights[0].mT, *hidden], s_out * net.phi(zs[-1]) @ weights[-1].mT


def textbook(net: ResidualMLP, method: PC | PCALM, x: Tensor, y: Tensor) -> Solution:
    """PC or PC-ALM of one network, with a list of layers and autograd."""
    eta, rho, alpha, kappa = (
        per_layer(value, net.depth - 1) for value in (method.step_size, method.penalty, method.dual_step, method.anchor)
    )
    weights = [weight.detach().requires_grad_() for weight in net.weights]

    def residuals(zs: list[Tensor]) -> tuple[list[Tensor], Tensor]:
        predictions, out = _predictions(net, weights, x, zs)
        return [z - prediction for z, prediction in zip(zs, predictions, strict=True)], out

    def energy(zs: list[Tensor], lams: list[Tensor]) -> Tensor:
        cs, out = residuals(zs)
        total = 0.5 * (out - y).square().sum()
        for penalty, c, lam in zip(rho, cs, lams, strict=True):
            total = total + penalty / 2 * (c + lam / penalty).square().sum()
        return total

    with torch.no_grad():
        start = list(net.feedforward(x).unbind(-3))
    zs, lams = start, [torch.zeros_like(z) for z in start]
    for step in range(1, method.steps + 1):
        for _ in range(method.inner_steps):
            free = [z.detach().requires_grad_() for z in zs]
            pull = sum(k / 2 * (z - z_ff).square().sum() for k, z, z_ff in zip(kappa, free, start, strict=True))
            slopes = torch.autograd.grad(energy(free, lams) + pull, free)
            zs = [z.detach() - size * slope for size, z, slope in zip(eta, free, slopes, strict=True)]
        if step < method.steps or method.credit == "after":
            with torch.no_grad():
                cs, _ = residuals(zs)
                lams = [lam + step * c for step, lam, c in zip(alpha, lams, cs, strict=True)]
    first, *hidden, last = torch.autograd.grad(energy(zs, lams) / x.shape[-2], weights)
    return Solution(State(torch.stack(zs), torch.stack(lams)), Gradients(first, torch.stack(hidden), last))


class Compiled:
    """PC or PC-ALM (one inner step) with a compiled iteration, for one problem; a call solves it."""

    def __init__(self, net: ResidualMLP, method: PC | PCALM, x: Tensor, y: Tensor) -> None:
        self.net, self.method, self.x, self.y = net, method, x, y
        z_ff = net.feedforward(x).detach()
        eta, rho, alpha, kappa = (
            dynamics.setting(value, z_ff)
            for value in (method.step_size, method.penalty, method.dual_step, method.anchor)
        )

        def iteration(z: Tensor, lam: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            z = z - eta * dynamics.primal_gradient(net, rho * c + lam, z, y, z_ff, kappa)
            c = dynamics.residuals(net, z, z_ff[..., :1, :, :])
            return z, lam + alpha * c, c

        self.iteration: Iteration = torch.compile(iteration, dynamic=False)

    @torch.no_grad()
    def __call__(self) -> Solution:
        z = self.net.feedforward(self.x)
        lam = before = c = torch.zeros_like(z)
        for _ in range(self.method.steps):
            before = lam
            z, lam, c = self.iteration(z, lam, c)
        state = State(z, lam if self.method.credit == "after" else before)
        credit = dynamics.setting(self.method.penalty, z) * c + state.multipliers
        return Solution(state, dynamics.weight_gradients(self.net, credit, z, self.x, self.y))


def bp(net: ResidualMLP, x: Tensor, y: Tensor) -> Solution:
    """Backpropagation by autograd, of one network or of replicas in one batched pass."""
    weights = [weight.detach().requires_grad_() for weight in net.weights]
    s_in, s, s_out = net.scales
    zs = [s_in * x @ weights[0].mT]
    for weight in weights[1:-1]:
        zs.append(zs[-1] + s * net.phi(zs[-1]) @ weight.mT)
    out = s_out * net.phi(zs[-1]) @ weights[-1].mT
    loss = 0.5 * (out - y).square().sum() / x.shape[-2]
    first, *hidden, last = torch.autograd.grad(loss, weights)
    z = torch.stack([z.detach() for z in zs], dim=-3)
    return Solution(State(z, torch.zeros_like(z)), Gradients(first, torch.stack(hidden, dim=-3), last))
