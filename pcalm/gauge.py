"""The gauge: the same method in rescaled states u_l = w_l z_l, w_l > 0.

In u the constraint is w_l c_l and the multiplier λ_l / w_l, so that a method with settings ρ, α, κ, η in u is, in z,

    ρ_l = ρ w_l²,   α_l = α w_l²,   κ_l = κ w_l²,   η_l = η / w_l²

Its fixed point, and so exact backpropagation, is the same for every w, and its stability law is that of ρ, α, κ, η with
λ_max of the matrix in u: `step_size(net, x, gauge=w)`. In u the trajectory is that of the chain of blocks
w_l f_l(u / w_{l-1}).
Weights that level BP's adjoint, w_l = ‖δ_l‖/‖δ_{L-1}‖, keep credit from being scattered where a chain is not uniform.

An extension of ours to Seely & Gould, Augmented Lagrangian Predictive Coding, arXiv:2605.31022.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from pcalm import blocks, dynamics
from pcalm.blocks import Blocks
from pcalm.checks import require
from pcalm.dynamics import State
from pcalm.methods import PC, PCALM, SETTINGS, per_layer, setting
from pcalm.network import ResidualMLP

Iterated = TypeVar("Iterated", bound=PC | PCALM)


def gauge(method: Iterated, w: Any) -> Iterated:
    """The method in the gauge w: its settings, those of u_l = w_l z_l, in terms of z_l.

    Args:
        method: PC(...) or PCALM(...), whose settings are numbers or one per hidden layer.
        w: positive numbers [L−1], one per hidden layer from the inputs up; [R, L−1] for a network with R replicas, for
            which a flat setting of the method is one per replica.

    Returns:
        The method with η_l = η/w_l², ρ_l = ρ w_l², α_l = α w_l² and κ_l = κ w_l²; gauges multiply:
        gauge(gauge(method, v), w) is gauge(method, v·w).

    Raises:
        ValueError: w is not positive, or of another length than a setting; method is BP, which has no settings.
    """
    require(isinstance(method, (PC, PCALM)), f"method must be PC(...) or PCALM(...), got {method!r}")
    weights = np.array(setting("w", w))
    require(weights.ndim > 0, f"w must be one positive number per hidden layer, got {w!r}")
    changed: dict[str, Any] = {}
    for name in SETTINGS if isinstance(method, PCALM) else SETTINGS[:2]:
        value = np.array(getattr(method, name))
        if weights.ndim == 2 and value.ndim == 1:  # one per replica
            value = value[:, None]
        try:
            whole = np.broadcast_to(value, weights.shape)
        except ValueError:
            raise ValueError(
                f"w must fit the method: it is {list(weights.shape)}, the method's {name} {list(value.shape)}"
            ) from None
        changed[name] = whole / weights**2 if name == "step_size" else whole * weights**2
    return dataclasses.replace(method, **changed)


# The rule below: how far one layer's gain is followed, how far the weights may be apart, and how fast.
LARGEST_GAIN = 2.0
LARGEST_WEIGHT = 100.0
RATE = 0.3


class Passing(NamedTuple):
    """The credit that neighbours hand on, as norms over batch and units; [L−2], for replicas [R, L−2].

    Attributes:
        sent: ‖q_{l+1}‖ of the layer above, for l = 1..L−2.
        received: ‖J_{l+1}ᵀ q_{l+1}‖, what of it reaches layer l.
        unbalanced: ‖q_l − J_{l+1}ᵀ q_{l+1}‖, what layer l's own credit lacks of that.
    """

    sent: Tensor
    received: Tensor
    unbalanced: Tensor


@torch.no_grad()
def passing(net: ResidualMLP | Blocks, method: Iterated, x: Tensor, state: State) -> Passing:
    """The credit that passes between neighbours at a state that `infer` returned for the method and x."""
    z, lam = state
    if isinstance(net, Blocks):
        f, _, pull = blocks.linearise(net, net.feedforward(x), list(z))
        rho = per_layer(method.penalty, net.depth - 1)
        q = [rho[h] * (z[h] - f[h]) + lam[h] for h in range(net.depth - 1)]
        arriving = [pull(h, q[h + 1]) for h in range(net.depth - 2)]
        pairs = list(zip(q, q[1:], arriving, strict=False))
        return Passing(
            *(
                torch.stack(norms)
                for norms in zip(
                    *((above.norm(), arrives.norm(), (own - arrives).norm()) for own, above, arrives in pairs),
                    strict=True,
                )
            )
        )
    pred_1 = net.scales[0] * x.unsqueeze(-3) @ net.input_weight.unsqueeze(-3).mT
    credit = dynamics.setting(method.penalty, z) * dynamics.residuals(net, z, pred_1) + lam
    arrives = dynamics.backproject(net, credit, z)
    parts = (credit[..., 1:, :, :], arrives, credit[..., :-1, :, :] - arrives)
    return Passing(*(part.flatten(-2).norm(dim=-1) for part in parts))


def follow_credit(w: Tensor, passed: Passing, rate: float = RATE) -> Tensor:
    """The next gauge from the last one: every layer's weight is the layer above's times the gain of what it receives.

        g_l = ‖J_{l+1}ᵀ q_{l+1}‖ / ‖q_{l+1}‖,   w_l = w_{l+1} g_l,   w_{L-1} = 1

    which levels the chain, since w_l then follows ‖δ_l‖/‖δ_{L-1}‖ without knowing δ. Layer l measures g_l on what it
    receives, and only once it is in balance, ‖q_l − J_{l+1}ᵀ q_{l+1}‖ ≤ ½ ‖J_{l+1}ᵀ q_{l+1}‖: before, the credit has
    not arrived, and the layer keeps the ratio to the layer above that it had. Gains are followed at a rate, and kept
    within a factor of LARGEST_GAIN; weights lie within a factor of LARGEST_WEIGHT of 1, so that nothing runs away.

    Args:
        w: the last gauge, [L−1] or [R, L−1].
        passed: what `passing` found.
        rate: in (0, 1]; how much of the way to the new gain, on the logarithm.
    """
    ratios = (w[..., :-1] / w[..., 1:]).log()
    measured = (passed.received / passed.sent).log().clamp(-math.log(LARGEST_GAIN), math.log(LARGEST_GAIN))
    # A comparison with NaN, where nothing has been sent, is false.
    arrived = (passed.unbalanced <= passed.received / 2) & measured.isfinite() & (passed.sent > 0)
    ratios = torch.where(arrived, (1 - rate) * ratios + rate * measured.to(w), ratios)
    weights = ratios.flip(-1).cumsum(-1).flip(-1).exp()
    return torch.cat([weights, torch.ones_like(w[..., -1:])], dim=-1).clamp(1 / LARGEST_WEIGHT, LARGEST_WEIGHT)
