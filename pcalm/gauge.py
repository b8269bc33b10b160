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
from typing import Any, TypeVar

import numpy as np

from pcalm.checks import require
from pcalm.methods import PC, PCALM, SETTINGS, setting

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
