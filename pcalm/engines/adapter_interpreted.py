"""The triton engine where there is no GPU: under Triton's interpreter, which is read at import and so needs its own
process.

The interpreter takes about a millisecond for what a GPU does in one instruction: only short runs are supported.
"""

from __future__ import annotations

import os

os.environ["TRITON_INTERPRET"] = "1"

import torch
from pcalm_conformance.protocol import Problem

from pcalm.engines import load
from pcalm.engines.adapter import Engine

LONGEST = 40  # layers × primal steps × tiles of 16 samples


class Interpreted(Engine):
    """The triton engine, for problems that the interpreter can do in a second or two."""

    def supports(self, problem: Problem) -> bool:
        batch, steps = problem.inputs.shape[0], problem.steps * problem.inner_steps
        short = problem.method == "bp" or len(problem.weights) * steps * -(-batch // 16) <= LONGEST
        return short and super().supports(problem)


triton = Interpreted("triton")


def implementations(device: str = "cpu") -> list[str]:
    """The interpreted engine on the CPU, where Triton is installed; elsewhere the compiled one is tested."""
    works = device == "cpu" and load("triton").unavailable(torch.device(device), torch.float64) is None
    return ["triton"] if works else []
