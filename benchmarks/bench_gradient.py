"""Weight gradients: their time, alone and beside fixed yardsticks, and how near they come to backpropagation's."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pcalm
from benchmarks import baselines, problems
from benchmarks.problems import DEPTHS, ENGINES, FAST, GRID, METHODS, WIDTHS, tracked
from pcalm import analysis
from pcalm.methods import BP, PCALM

APPROXIMATE = ("pc", "pcalm", "anchored")
BUDGETS = (1, 2, 4)
SEARCHED = 4.0  # budgets T/L up to this one, in steps of
STEP = 0.25


class Time(problems.Sampling):
    params = (METHODS, ENGINES, *GRID.values())
    param_names = ("method", "engine", *GRID)

    def setup(self, method: str, engine: str, width: int, depth: int, device: str) -> None:
        self.problem = problems.draw(method, engine, width, depth, device)

    def time_gradients(self, *_: object) -> None:
        self.problem.gradients()


class Ratio:
    """Times that mean the same on two machines, T = 2L: against backpropagation by autograd, and against an sgemm."""

    params = (METHODS, FAST, *GRID.values())
    param_names = ("method", "engine", *GRID)
    timeout = 180.0

    def setup(self, method: str, engine: str, width: int, depth: int, device: str) -> None:
        self.problem = problems.draw(method, engine, width, depth, device)
        self.sgemm = problems.sgemm(device)

    def backpropagate(self) -> None:
        baselines.bp(self.problem.net, self.problem.x, self.problem.y)
        self.problem.wait()

    def track_time_over_bp(self, *_: object) -> float:
        return problems.ratio_of_times(self.problem.gradients, self.backpropagate)

    def track_time_over_sgemm(self, *_: object) -> float:
        return problems.ratio_of_times(self.problem.gradients, self.sgemm)


Ratio.track_time_over_bp.unit = "times BP"  # type: ignore[attr-defined]
Ratio.track_time_over_sgemm.unit = "times sgemm"  # type: ignore[attr-defined]


class Accuracy:
    """The whole weight gradient beside BP's, at T = L, 2L and 4L; 64 digits, relu, seed 0, float64: deterministic."""

    params = (APPROXIMATE, ("reference", "auto"), BUDGETS, WIDTHS, DEPTHS)
    param_names = ("method", "engine", "T/L", "width", "depth")
    timeout = 180.0

    def setup(self, method: str, engine: str, budget: int, width: int, depth: int) -> None:
        self.problem = problems.digits(method, engine, width, depth, budget)
        self.bp = pcalm.gradients(self.problem.net, BP(), self.problem.x, self.problem.y, engine=engine)

    def track_cosine(self, *_: object) -> float:
        return tracked(analysis.cosine(self.problem.gradients(), self.bp))

    def track_relative_error(self, *_: object) -> float:
        return tracked(analysis.relative_error(self.problem.gradients(), self.bp))


Accuracy.track_cosine.unit = "cosine"  # type: ignore[attr-defined]
Accuracy.track_relative_error.unit = "relative error"  # type: ignore[attr-defined]


class Budget:
    """The smallest T/L, in steps of a quarter, whose gradient reaches a cosine to BP's; 4 means: not before 4."""

    params = (("pcalm", "anchored"), (0.9, 0.99), WIDTHS, DEPTHS)
    param_names = ("method", "cosine", "width", "depth")
    timeout = 180.0
    unit = "T/L"

    def setup(self, method: str, cosine: float, width: int, depth: int) -> None:
        self.problem = problems.digits(method, "auto", width, depth)
        self.bp = pcalm.gradients(self.problem.net, BP(), self.problem.x, self.problem.y)

    def reaches(self, budget: float, cosine: float) -> bool:
        settings = self.problem.method
        assert isinstance(settings, PCALM)
        steps = max(1, round(budget * self.problem.net.depth))
        return analysis.cosine(self.problem.gradients(replace(settings, steps=steps)), self.bp) >= cosine

    def track_budget(self, method: str, cosine: float, width: int, depth: int) -> float:
        budgets = itertools.takewhile(lambda budget: budget < SEARCHED, itertools.count(STEP, STEP))
        return next((budget for budget in budgets if self.reaches(budget, cosine)), SEARCHED)
