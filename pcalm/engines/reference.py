"""The reference engine: `pcalm.dynamics` as it stands, on any device and in any dtype."""

from __future__ import annotations

import torch
from torch import Tensor

from pcalm import dynamics
from pcalm.dynamics import State
from pcalm.engines import Solution
from pcalm.methods import Method
from pcalm.network import ResidualMLP


def unavailable(device: torch.device, dtype: torch.dtype) -> str | None:
    return None


def solve(net: ResidualMLP, method: Method, x: Tensor, y: Tensor, initial: State | None) -> Solution:
    state = dynamics.infer(net, method, x, y, initial)
    return Solution(state, dynamics.gradients(net, method, x, y, state))
