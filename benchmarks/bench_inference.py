"""Inference: the activities and multipliers after T = 2L steps (the engines give the weight gradients with them)."""

from __future__ import annotations

from benchmarks import problems
from benchmarks.problems import ENGINES, GRID

MEMORY_BATCH = 4096  # large enough for the states to outweigh what importing torch takes


class Time(problems.Sampling):
    params = (("pc", "pcalm", "anchored"), ENGINES, *GRID.values())
    param_names = ("method", "engine", *GRID)

    def setup(self, method: str, engine: str, width: int, depth: int, device: str) -> None:
        self.problem = problems.draw(method, engine, width, depth, device)

    def time_infer(self, *_: object) -> None:
        self.problem.infer()


class Memory:
    """Peak memory of the process: subtract `peakmem_reference`, which makes the problem and does not solve it."""

    params = (("bp", "pcalm"), ENGINES, *GRID.values())
    param_names = ("method", "engine", *GRID)
    timeout = 180.0

    def setup(self, method: str, engine: str, width: int, depth: int, device: str) -> None:
        problems.fix_heap()
        # A step needs all the memory that a hundred need.
        self.problem = problems.draw(method, engine, width, depth, device, batch=MEMORY_BATCH, steps=2)

    def peakmem_infer(self, *_: object) -> None:
        self.problem.infer()

    def peakmem_reference(self, *_: object) -> None:
        pass
