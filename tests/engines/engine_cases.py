"""What the tests of the fast engines share: methods that reach every branch, and problems for them."""

from __future__ import annotations

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
