"""The default step size η = 1/λ_max, and the stability margin.

With A = ∂c/∂z at the feed-forward state and J = ∂out/∂z_{L-1}, the Gauss-Newton Hessian of one sample's energy in z is

    H = ρ AᵀA + JᵀJ
    (A v)_l = v_l − v_{l-1} − s_l (φ'(z_{l-1}) ⊙ v_{l-1}) W_lᵀ
    J v = s_L (φ'(z_{L-1}) ⊙ v_{L-1}) W_Lᵀ

and λ_max its largest eigenvalue over the samples: 64 power iterations over the whole batch at once, in float64.

Per singular value σ of A, one iteration of PC-ALM with anchor κ is a 2×2 map with determinant 1 − ηρσ² − ηκ and trace
2 − ησ²(ρ + α) − ηκ, so both its eigenvalues lie inside the unit circle as long as the margin is positive:

    margin = 4 − ησ²(2ρ + α) − 2ηκ,    σ² = λ_max at ρ = 1
"""

from __future__ import annotations

import torch
from torch import Tensor

from pcalm.checks import number
from pcalm.dynamics import backproject
from pcalm.methods import PC, PCALM
from pcalm.network import ResidualMLP
from pcalm.problem import check_inputs

POWER_ITERATIONS = 64


@torch.no_grad()
def largest_eigenvalue(net: ResidualMLP, x: Tensor, penalty: float = 1.0) -> float | tuple[float, ...]:
    """λ_max of the Gauss-Newton Hessian in z at the feed-forward state of x [B, D]; one per replica for replicas.

    Raises:
        ValueError: x of the wrong shape, dtype or device or not finite; penalty not positive.
    """
    rho = number("penalty", penalty, positive=True)
    x = check_inputs(net, x)
    double = ResidualMLP.from_weights([weight.double() for weight in net.weights], net.activation)
    z = double.feedforward(x.double())
    slope, (_, s, s_out) = double.dphi(z), double.scales
    single = torch.randn(z.shape[-3:], dtype=z.dtype, generator=torch.Generator("cpu").manual_seed(0)).to(z.device)
    v = single.expand_as(z)
    eigenvalue = torch.ones((), dtype=z.dtype, device=z.device)
    for _ in range(POWER_ITERATIONS):
        v = v / v.flatten(-3).norm(dim=-1)[..., None, None, None]
        below = v[..., :-1, :, :]
        constraint = v.clone()  # A v
        constraint[..., 1:, :, :] -= below + s * (slope[..., :-1, :, :] * below) @ double.hidden_weight.mT
        v_next = rho * constraint  # ρ Aᵀ A v
        v_next[..., :-1, :, :] -= backproject(double, rho * constraint, z)
        output = s_out * (slope[..., -1, :, :] * v[..., -1, :, :]) @ double.output_weight.mT  # J v
        v_next[..., -1, :, :] += s_out * (output @ double.output_weight) * slope[..., -1, :, :]  # Jᵀ J v
        v, eigenvalue = v_next, v_next.flatten(-3).norm(dim=-1)
    return tuple(eigenvalue.tolist()) if net.replicas is not None else float(eigenvalue)


def step_size(net: ResidualMLP, x: Tensor, penalty: float = 1.0) -> float | tuple[float, ...]:
    """The primal step η = 1/λ_max for inputs x [B, D] (training uses its first 64 samples); one per replica.

    PC-ALM's default is η at penalty 1, whatever its own ρ, α and κ; another penalty serves PC alone.

    Raises:
        ValueError: x of the wrong shape, dtype or device or not finite; penalty not positive.
    """
    eigenvalue = largest_eigenvalue(net, x, penalty)
    return tuple(1 / each for each in eigenvalue) if isinstance(eigenvalue, tuple) else 1 / eigenvalue


def stability_margin(method: PC | PCALM, eigenvalue: float) -> float:
    """4 − ησ²(2ρ + α) − 2ηκ for σ² = λ_max at ρ = 1; positive is stable, to first order around the feed-forward state.

    Raises:
        ValueError: a method with one step size per replica (ask for each replica on its own).
    """
    eta = number("step_size", method.step_size, positive=True)
    return 4 - eta * eigenvalue * (2 * method.penalty + method.dual_step) - 2 * eta * method.anchor
