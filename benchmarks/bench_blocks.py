"""Networks of blocks, by the loop over blocks and stacked: time, and alignment before and after training."""

from __future__ import annotations

import torch
import torch._dynamo  # what an optimiser imports on first use; here, it is imported once, before asv forks

import pcalm
from benchmarks import problems
from benchmarks.problems import BATCH, CHOSEN, tracked
from pcalm import analysis
from pcalm.methods import BP

NETWORKS = ("conv", "transformer")
ENGINES = ("reference", "torch", "compiled")  # the loop over blocks, the stacked engine, and that as compiled programs
DEPTHS = (16,) if CHOSEN == "quick" else (8, 16, 32)
WIDTH = 8
BATCH_TIMED = 16
UPDATES, RATE = 44, 3e-3  # of BP with Adam: two epochs of digits


class Time:
    """A gradient of PC-ALM at T = 2L in units of backpropagation by autograd through the same network, 16 digits."""

    params = (NETWORKS, ENGINES, DEPTHS)
    param_names = ("network", "engine", "depth")
    timeout = 180.0
    unit = "times BP"

    def setup(self, network: str, engine: str, depth: int) -> None:
        x, y, self.net = problems.blocks(network, depth, WIDTH, torch.float32)
        self.x, self.y = x[:BATCH_TIMED], y[:BATCH_TIMED]
        self.method = problems.method("pcalm", 2 * depth, problems.STEP_SIZE, depth)
        problems.require_engine(engine, self.net)

    def backpropagate(self) -> None:
        self.net.zero_grad()
        self.net.losses(self.net(self.x), self.y).mean().backward()

    def track_time_over_bp(self, network: str, engine: str, depth: int) -> float:
        def run() -> None:
            pcalm.gradients(self.net, self.method, self.x, self.y, engine=engine)

        return problems.ratio_of_times(run, self.backpropagate)


class Accuracy:
    """The whole gradient beside BP's at T = 2L with η = 1/λ_max, at initialisation and after 44 updates of BP.

    64 digits, seed 0, float64: deterministic.
    """

    params = (NETWORKS, ("pc", "pcalm", "anchored"), ("initial", "trained"), DEPTHS[:2])
    param_names = ("network", "method", "weights", "depth")
    timeout = 180.0
    unit = "cosine"

    def setup(self, network: str, method: str, weights: str, depth: int) -> None:
        self.x, self.y, self.net = problems.blocks(network, depth, WIDTH, torch.float64)
        if weights == "trained":
            optimiser = torch.optim.Adam(self.net.parameters(), lr=RATE)
            for update in range(UPDATES):
                optimiser.zero_grad()
                batch = slice(update % (len(self.x) // BATCH) * BATCH, None)
                x, y = self.x[batch][:BATCH], self.y[batch][:BATCH]
                self.net.losses(self.net(x), y).mean().backward()
                optimiser.step()
        self.x, self.y = self.x[:BATCH], self.y[:BATCH]
        eta = pcalm.step_size(self.net, self.x)
        assert isinstance(eta, float)
        self.method = problems.method(method, 2 * depth, eta, depth)

    def track_cosine(self, *_: object) -> float:
        found, bp = (pcalm.gradients(self.net, each, self.x, self.y) for each in (self.method, BP()))
        return tracked(analysis.cosine(found, bp))
