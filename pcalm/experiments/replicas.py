"""The networks of one training as the protocol sees them: R of one shape, everything with a leading R.

Replicas    R residual MLPs, which engines run in one pass
Single      one network of blocks, R = 1
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from pcalm import blocks, dynamics
from pcalm.blocks import Blocks
from pcalm.dynamics import State
from pcalm.engines import Engine
from pcalm.methods import BP, Method
from pcalm.network import ResidualMLP


class Networks(Protocol):
    """What training asks of its networks.

    Attributes:
        net: all of them, as engines take them.
        parameters: of all, each [R, …], in the order of `net.parameters()` and in its memory.
    """

    @property
    def net(self) -> ResidualMLP | Blocks: ...

    parameters: list[Tensor]

    def solve(self, method: Method, x: Tensor, y: Tensor) -> tuple[State, list[Tensor]]:
        """The state, as the engine gives it, and the gradients of the parameters [R, …], for x and y [R, B, …]."""

    def outputs(self, x: Tensor, y: Tensor) -> Tensor:
        """[R, B, C] for a batch of each, x and y [R, B, …]."""

    def shared(self, x: Tensor) -> Tensor:
        """Outputs [R, B, C] for inputs [B, D] that all of them get."""

    def adjoint(self, x: Tensor, y: Tensor) -> list[list[Tensor]]:
        """BP's δ_1..δ_{L-1} of each network for x and y [B, …] that all of them get."""

    def alone(self, replica: int) -> ResidualMLP | Blocks:
        """One of them as a network of its own."""

    def layers(self, parts: list[Tensor], replica: int) -> list[Tensor]:
        """Of parameters, or gradients of them, [R, …], those of one network: a tensor for each layer."""


class Replicas:
    """R residual MLPs in one."""

    def __init__(self, net: ResidualMLP, engine: Engine) -> None:
        self.net, self.engine = net, engine
        self.parameters = [parameter.data for parameter in net.parameters()]

    def solve(self, method: Method, x: Tensor, y: Tensor) -> tuple[State, list[Tensor]]:
        state, gradients = self.engine.solve(self.net, method, x, y, None)
        return state, list(gradients)

    def outputs(self, x: Tensor, y: Tensor) -> Tensor:
        state = self.engine.solve(self.net, BP(), x, y, None).state
        return self.net.readout(state.activities[..., -1, :, :])

    def shared(self, x: Tensor) -> Tensor:
        out: Tensor = self.net(x)
        return out

    @torch.no_grad()
    def adjoint(self, x: Tensor, y: Tensor) -> list[list[Tensor]]:
        return [list(delta) for delta in dynamics.adjoint(self.net, self.net.feedforward(x), y)]

    def alone(self, replica: int) -> ResidualMLP:
        return self.net.replica(replica)

    def layers(self, parts: list[Tensor], replica: int) -> list[Tensor]:
        first, hidden, last = (part[replica] for part in parts)
        return [first, *hidden, last]


class Single:
    """One network of blocks."""

    def __init__(self, net: Blocks, engine: Engine) -> None:
        self.net, self.engine = net, engine
        self.parameters = [parameter.data.unsqueeze(0) for parameter in net.parameters()]

    def solve(self, method: Method, x: Tensor, y: Tensor) -> tuple[State, list[Tensor]]:
        state, gradients = self.engine.solve(self.net, method, x[0], y[0], None)
        both = zip(gradients, self.parameters, strict=True)
        return state, [torch.zeros_like(part) if found is None else found.unsqueeze(0) for found, part in both]

    def outputs(self, x: Tensor, y: Tensor) -> Tensor:
        return self.shared(x[0])

    def shared(self, x: Tensor) -> Tensor:
        out: Tensor = self.net(x)
        return out.unsqueeze(0)

    @torch.no_grad()
    def adjoint(self, x: Tensor, y: Tensor) -> list[list[Tensor]]:
        return [blocks.adjoint(self.net, self.net.feedforward(x), y)[:-1]]

    def alone(self, replica: int) -> Blocks:
        return self.net

    def layers(self, parts: list[Tensor], replica: int) -> list[Tensor]:
        rest = iter(parts)
        return [torch.cat([next(rest).flatten() for _ in block.parameters()]) for block in self.net.blocks]
