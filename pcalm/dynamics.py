"""The reference dynamics of PC and PC-ALM, and the weight gradients: what every fast engine is tested against.

Energy of one sample, with the constraint residuals c_l = z_l − pred_l(z_{l-1}) and the credit q_l = ρ c_l + λ_l:

    E(z, λ) = ½‖out − y‖² + Σ_l (ρ/2) ‖c_l + λ_l/ρ‖² + Σ_l (κ/2) ‖z_l − z_l^ff‖²                   (energy)
    ∂E/∂z_l     = q_l − q_{l+1} − s_{l+1} (q_{l+1} W_{l+1}) ⊙ φ'(z_l) + κ (z_l − z_l^ff)    l ≤ L−2 (primal gradient)
    ∂E/∂z_{L-1} = q_{L-1} + s_L ((out − y) W_L) ⊙ φ'(z_{L-1}) + κ (z_{L-1} − z_{L-1}^ff)
    z ← z − η ∂E/∂z,   all layers at once from the same old z                                      (primal step)
    λ ← λ + α c        at the new z                                                                (dual step)
    G_1 = −s_1 q_1ᵀ x / B,  G_l = −s_l q_lᵀ φ(z_{l-1}) / B,  G_L = s_L (out − y)ᵀ φ(z_{L-1}) / B  (weight gradients)
    ∂E/∂x = −s_1 q_1 W_1 / B                                                                       (input gradient)

Source: Seely & Gould, Augmented Lagrangian Predictive Coding, arXiv:2605.31022; extensions of ours are the anchor κ,
and η, ρ, α and κ that differ from layer to layer, with which every line reads the same.
Shapes: x [..., B, D], y [..., B, C]; z and λ [..., L−1, B, N], layer l at index l−1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from pcalm.methods import BP, Method, Setting
from pcalm.network import ResidualMLP

Observer = Callable[[int, Tensor, Tensor], None]


class State(NamedTuple):
    """Activities z and multipliers λ of all hidden layers, both [L−1, B, N] (with replicas [R, L−1, B, N])."""

    activities: Tensor
    multipliers: Tensor


class Gradients(NamedTuple):
    """Weight gradients shaped as the parameters: [N, D], [L−2, N, N], [C, N] (with replicas behind a leading R)."""

    input: Tensor
    hidden: Tensor
    output: Tensor

    def as_list(self) -> list[Tensor]:
        """G_1..G_L, shaped as `ResidualMLP.weights`."""
        return [self.input, *self.hidden.unbind(-3), self.output]


def residuals(net: ResidualMLP, z: Tensor, pred_1: Tensor) -> Tensor:
    """c_l = z_l − pred_l(z_{l-1}) for pred_1 = s_1 x W_1ᵀ given as [..., 1, B, N]."""
    below = z[..., :-1, :, :]
    predictions = below + net.scales[1] * net.phi(below) @ net.hidden_weight.mT
    return z - torch.cat([pred_1, predictions], dim=-3)


def backproject(net: ResidualMLP, q: Tensor, z: Tensor) -> Tensor:
    """q_{l+1} + s_{l+1} (q_{l+1} W_{l+1}) ⊙ φ'(z_l): what layer l+1 sends to layer l, for l = 1..L−2."""
    above = q[..., 1:, :, :]
    return above + net.scales[1] * (above @ net.hidden_weight) * net.dphi(z[..., :-1, :, :])


def loss_gradient(net: ResidualMLP, z: Tensor, y: Tensor) -> Tensor:
    """∂(½‖out − y‖²)/∂z_{L-1} = s_L ((out − y) W_L) ⊙ φ'(z_{L-1})."""
    top = z[..., -1, :, :]
    return net.scales[2] * ((net.readout(top) - y) @ net.output_weight) * net.dphi(top)


def primal_gradient(net: ResidualMLP, q: Tensor, z: Tensor, y: Tensor, z_ff: Tensor, anchor: float | Tensor) -> Tensor:
    """∂E/∂z for all hidden layers, from the credit q at the same z."""
    top = loss_gradient(net, z, y).unsqueeze(-3)
    return q + torch.cat([-backproject(net, q, z), top], dim=-3) + anchor * (z - z_ff)


@torch.no_grad()
def infer(
    net: ResidualMLP,
    method: Method,
    x: Tensor,
    y: Tensor,
    initial: State | None = None,
    observe: Observer | None = None,
) -> State:
    """The state after the method's whole budget, from the feed-forward state with λ = 0 unless `initial` is given.

    `observe(t, q, z)` is called with the credit at which each primal step t = 1, 2, ... ends, and its activities.
    """
    z_ff = net.feedforward(x)
    pred_1 = z_ff[..., :1, :, :]
    z, lam = initial or State(z_ff, torch.zeros_like(z_ff))
    if isinstance(method, BP):
        return State(z, lam)
    eta, rho, alpha, kappa = (
        setting(value, z) for value in (method.step_size, method.penalty, method.dual_step, method.anchor)
    )
    for t in range(1, method.steps + 1):
        for i in range(1, method.inner_steps + 1):
            q = rho * residuals(net, z, pred_1) + lam
            z = z - eta * primal_gradient(net, q, z, y, z_ff, kappa)
            if observe is not None:
                number = (t - 1) * method.inner_steps + i
                observe(number, rho * residuals(net, z, pred_1) + lam, z)
        if t < method.steps or method.credit == "after":
            lam = lam + alpha * residuals(net, z, pred_1)
    return State(z, lam)


@torch.no_grad()
def gradients(net: ResidualMLP, method: Method, x: Tensor, y: Tensor, state: State) -> Gradients:
    """The weight gradients of the batch mean of E at the given state."""
    return weight_gradients(net, credit(net, method, x, y, state), state.activities, x, y)


@torch.no_grad()
def input_gradient(net: ResidualMLP, method: Method, x: Tensor, y: Tensor, state: State) -> Tensor:
    """The derivative of the batch mean of E by x at the given state, −s_1 q_1 W_1 / B: [B, D]."""
    return -net.scales[0] / x.shape[-2] * credit(net, method, x, y, state)[..., 0, :, :] @ net.input_weight


def credit(net: ResidualMLP, method: Method, x: Tensor, y: Tensor, state: State) -> Tensor:
    """q_1..q_{L-1} at the given state; −δ for backpropagation."""
    z, lam = state
    if isinstance(method, BP):
        return -adjoint(net, z, y)
    pred_1 = net.scales[0] * x.unsqueeze(-3) @ net.input_weight.unsqueeze(-3).mT
    return setting(method.penalty, z) * residuals(net, z, pred_1) + lam


def weight_gradients(net: ResidualMLP, q: Tensor, z: Tensor, x: Tensor, y: Tensor) -> Gradients:
    """G_l from the credit q: −s_l q_lᵀ φ(z_{l-1}) / B, and the loss' own at the output."""
    s_in, s, s_out = net.scales
    batch = x.shape[-2]
    return Gradients(
        input=-s_in / batch * q[..., 0, :, :].mT @ x,
        hidden=-s / batch * q[..., 1:, :, :].mT @ net.phi(z[..., :-1, :, :]),
        output=s_out / batch * (net.readout(z[..., -1, :, :]) - y).mT @ net.phi(z[..., -1, :, :]),
    )


def adjoint(net: ResidualMLP, z_ff: Tensor, y: Tensor) -> Tensor:
    """BP's δ_l = ∂(½‖out − y‖²)/∂z_l at the feed-forward state [..., L−1, B, N]; −δ is PC-ALM's fixed point for λ."""
    s = net.scales[1]
    delta = [loss_gradient(net, z_ff, y)]
    for layer in range(net.depth - 2, 0, -1):
        above, weight = delta[0], net.hidden_weight[..., layer - 1, :, :]
        delta.insert(0, above + s * (above @ weight) * net.dphi(z_ff[..., layer - 1, :, :]))
    return torch.stack(delta, dim=-3)


def setting(value: Setting, z: Tensor) -> float | Tensor:
    """A method's setting as a number, or as a tensor that broadcasts against states z [L−1, B, N] or [R, L−1, B, N]."""
    if not isinstance(value, tuple):
        return value
    numbers = torch.tensor(value, dtype=z.dtype, device=z.device)  # [L−1]; with replicas [R] or [R, L−1]
    return numbers.reshape(*numbers.shape, *(1,) * (z.ndim - numbers.ndim))
