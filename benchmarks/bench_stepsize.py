"""Step-size estimation: η = 1/λ_max by power iteration on 64 samples, in float64."""

from __future__ import annotations

import pcalm
from benchmarks import problems
from benchmarks.problems import GRID


class Time(problems.Sampling):
    params = tuple(GRID.values())
    param_names = tuple(GRID)

    def setup(self, width: int, depth: int, device: str) -> None:
        self.problem = problems.draw("bp", "reference", width, depth, device)

    def time_step_size(self, *_: object) -> None:
        pcalm.step_size(self.problem.net, self.problem.x)
