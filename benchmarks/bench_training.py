"""Training: the time of a step, and the test accuracy that a fixed budget of training buys."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch._dynamo  # what an optimiser imports on first use; here, it is imported once, before asv forks

import pcalm
from benchmarks import problems
from benchmarks.problems import FAST, GRID, METHODS

EPOCHS, WIDTH, DEPTH = 4, 16, 16


class Step(problems.Sampling):
    """One update of the weights: gradients of a batch of 64 at T = 2L, and Adam."""

    params = (METHODS, FAST, *GRID.values())
    param_names = ("method", "engine", *GRID)

    def setup(self, method: str, engine: str, width: int, depth: int, device: str) -> None:
        self.problem = problems.draw(method, engine, width, depth, device)
        # With a learning rate of 0 every call finds the same network.
        self.optimiser = torch.optim.Adam(self.problem.net.parameters(), lr=0.0)

    def update(self) -> None:
        problem = self.problem
        self.optimiser.zero_grad()
        pcalm.backward(problem.net, problem.method, problem.x, problem.y, engine=problem.engine)
        self.optimiser.step()
        problem.wait()

    def time_step(self, *_: object) -> None:
        self.update()


class Accuracy:
    """Test accuracy on digits after 4 epochs at N = L = 16, T = 2L, seed 0: deterministic on one machine."""

    params = METHODS
    param_names = ("method",)
    timeout = 180.0
    unit = "test accuracy"

    def setup(self, method: str) -> None:
        # Not at the top: commits that have no training still have steps measured.
        from pcalm.experiments.config import TrainingConfig
        from pcalm.experiments.training import train

        name = "pcalm" if method == "anchored" else method
        config = TrainingConfig("digits", name, DEPTH, WIDTH, epochs=EPOCHS, lr=1e-2)
        if method == "anchored":
            config = replace(config, penalty=0.1, dual_step=3.5, anchor=3 / DEPTH)
        self.config = config
        self.train = train

    def track_test_accuracy(self, method: str) -> float:
        return problems.tracked(self.train(self.config).summary["test_accuracy"])
