"""What the tests of the fast engines share: methods that reach every branch, and problems for them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pcalm.dynamics import State
from pcalm.methods import BP, PC, PCALM, Method
from pcalm.network import ResidualMLP

METHODS: dict[str, Method] = {
    "bp": BP(),
    "pc": PC(9, 0.2, penalty=0.7),
    "pcalm": PCALM(16, 0.2, dual_step=0.8),
    "pcalm, fewer steps than layers": PCALM(3, 0.2),
    "pcalm, one step": PCALM(1, 0.2, credit="after"),
    "pcalm, inner steps": PCALM(5, 0.15, penalty=0.5, inner_steps=3),
    "pcalm, inner steps, credit after": PCALM(4, 0.15, dual_step=0.8, inner_steps=2, credit="after"),
    "anchored": PCALM(10, 0.2, penalty=0.1, dual_step=3.5, anchor=0.4),
    "anchored, credit after": PCALM(7, 0.2, credit="after", anchor=0.1),
    "no dual step": PCALM(9, 0.2, dual_step=0.0, credit="after"),
}


def problem(
    net: ResidualMLP, batch: int = 5, seed: int = 1, start: bool = False
) -> tuple[Tensor, Tensor, State | None]:
    """Inputs, targets and, if asked for, a state away from the feed-forward one."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        lead = () if net.replicas is None else (net.replicas,)
        return torch.randn(*lead, *shape, generator=generator, dtype=torch.float64).to(net.device, net.dtype)

    state = (net.depth - 1, batch, net.width)
    initial = State(draw(*state), draw(*state)) if start else None
    return draw(batch, net.input_dim), draw(batch, net.output_dim), initial


def without_multipliers(initial: State | None, method: Method) -> State | None:
    return State(initial[0], torch.zeros_like(initial[1])) if initial and isinstance(method, PC) else initial


# Forms of settings that are not one number, and the seeds of networks for them (R = L−1 of the networks of depth 4).
FORMS = ("layers", "replicas", "replicas and layers")
SEEDS: dict[str, int | list[int]] = {"layers": 0, "replicas": [0, 1, 2], "replicas and layers": [0, 1, 2]}


def layered(net: ResidualMLP, form: str, seed: int = 0) -> list[Method]:
    """Methods with every setting different in every layer or replica, and with one of each kind beside numbers."""
    generator = torch.Generator().manual_seed(seed)
    layers, replicas = net.depth - 1, net.replicas or 1
    shape = {"layers": (layers,), "replicas": (replicas,), "replicas and layers": (replicas, layers)}[form]

    def between(low: float, high: float) -> Any:
        return (low + (high - low) * torch.rand(shape, generator=generator)).tolist()

    eta, rho, alpha, kappa = between(0.1, 0.2), between(0.3, 1), between(0.3, 1.5), between(0.1, 0.6)
    return [
        PCALM(9, eta, rho, alpha, anchor=kappa),
        PCALM(4, eta, rho, alpha, 2, "after", kappa),
        PCALM(9, 0.15, rho),
        PCALM(9, 0.15, 1, alpha, credit="after"),
        PCALM(9, 0.15, anchor=kappa),
        PC(9, eta, rho),
    ]
