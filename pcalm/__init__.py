"""Augmented Lagrangian predictive coding (PC-ALM) beside predictive coding and backpropagation.

Source of the algorithm: Seely & Gould, Augmented Lagrangian Predictive Coding, arXiv:2605.31022.
"""

from pcalm.blocks import Blocks
from pcalm.dynamics import State
from pcalm.engines import engines
from pcalm.gauge import gauge
from pcalm.methods import BP, PC, PCALM
from pcalm.network import ResidualMLP
from pcalm.problem import Solution, backward, gradients, infer, solve
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
