"""The reference engine for blocks: `pcalm.blocks` as it stands, one block after the other."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from pcalm import blocks
from pcalm.blocks import Blocks
from pcalm.dynamics import Gradients, State
from pcalm.engines import Solution
from pcalm.methods import Method


def unavailable(device: torch.device, dtype: torch.dtype) -> str | None:
    return None


def solve(net: Blocks, method: Method, x: Tensor, y: Any, initial: State | None) -> Solution:
    state = blocks.infer(net, method, x, y, initial)
    return Solution(state, cast(Gradients, blocks.gradients(net, method, x, y, state)))
