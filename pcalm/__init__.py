"""Augmented Lagrangian predictive coding (PC-ALM) beside predictive coding and backpropagation.

Source of the algorithm: Seely & Gould, Augmented Lagrangian Predictive Coding, arXiv:2605.31022.
"""

import torch as _torch

from pcalm.blocks import Blocks
from pcalm.dynamics import State
from pcalm.engines import Solution, reasons
from pcalm.gauge import gauge
from pcalm.methods import BP, PC, PCALM
from pcalm.network import ResidualMLP
from pcalm.problem import backward, gradients, infer, solve
from pcalm.stepsize import step_size

__version__ = "0.1.0"
__all__ = [
    "BP",
    "PC",
    "PCALM",
    "Blocks",
    "ResidualMLP",
    "Solution",
    "State",
    "backward",
    "engines",
    "gauge",
    "gradients",
    "infer",
    "solve",
    "step_size",
]


def engines(device: str = "cpu") -> list[str]:
    """The names of the engines that work on this machine, on the device."""
    return [name for name, reason in reasons(_torch.device(device)).items() if reason is None]
