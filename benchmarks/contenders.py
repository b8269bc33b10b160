"""What competes in a cell of the speed table: the engines, their baselines, and the products that bound them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from benchmarks import baselines
from benchmarks.gate import Truth
from benchmarks.tables import BATCH, CPU_REPLICAS, CUDA_REPLICAS, INPUTS, SGEMM, packed, separate
from pcalm.engines import MODULES, Engine, Solution, load, stacked
from pcalm.experiments.config import TrainingConfig
from pcalm.experiments.data import Dataset
from pcalm.experiments.training import Training
from pcalm.methods import BP, PCALM
from pcalm.network import ResidualMLP

CLASSES, STEP_SIZE = 10, 0.2


@dataclass(frozen=True)
class Cell:
    """One line of a table: what is measured ("time" or "memory"), where, with how many threads, at which shape."""

    kind: str
    device: str
    threads: int
    width: int
    depth: int

    @property
    def file(self) -> str:
        return f"{self.kind}-{self.device}-{self.threads}-N{self.width}-L{self.depth}.json"

    @property
    def method(self) -> PCALM:
        return PCALM(2 * self.depth, STEP_SIZE)

    def problem(self, replicas: int | None, batch: int = BATCH) -> tuple[ResidualMLP, Tensor, Tensor]:
        """A network, inputs from N(0, 1) and one-hot targets."""
        seed = 0 if replicas is None else range(replicas)
        net = ResidualMLP(self.depth, self.width, INPUTS, CLASSES, seed=seed, device=self.device)
        lead = () if replicas is None else (replicas,)
        x = torch.randn(*lead, batch, INPUTS, generator=torch.Generator().manual_seed(0)).to(self.device)
        y = torch.eye(CLASSES, device=self.device)[torch.arange(batch) % CLASSES].expand(*lead, -1, -1)
        return net, x, y.contiguous()


class Contender(NamedTuple):
    """A call to be timed, and the truth that its solution has to agree with (None: it makes none)."""

    name: str
    run: Callable[[], Any]
    truth: Truth | None = None


def contenders(cell: Cell, missing: dict[str, str]) -> Iterator[Contender]:
    """All that compete; an engine that does not work there is put into `missing` with the reason."""
    return _on_cpu(cell, missing) if cell.device == "cpu" else _on_gpu(cell, missing)


def _working(net: ResidualMLP, missing: dict[str, str]) -> Iterator[tuple[str, Engine]]:
    for name in MODULES:
        engine = load(name)
        reason = engine.unavailable(net.device, net.dtype)
        if reason is None:
            yield name, engine
        else:
            missing[name] = reason


def _on_cpu(cell: Cell, missing: dict[str, str]) -> Iterator[Contender]:
    method, replicas = cell.method, CPU_REPLICAS
    nets, xs, ys = cell.problem(replicas)
    truths = Truth(nets, method, xs, ys)
    singles = [(nets.replica(r), xs[r], ys[r]) for r in range(replicas)]
    net, x, y = singles[0]
    truth = truths.replica(0)
    a, b = torch.randn(SGEMM, SGEMM), torch.randn(SGEMM, SGEMM)
    yield Contender("sgemm", functools.partial(torch.mm, a, b))
    yield Contender("sgemm numpy", functools.partial(np.matmul, a.numpy(), b.numpy()))
    yield Contender("bp", functools.partial(baselines.bp, net, x, y), Truth(net, BP(), x, y))
    yield Contender("textbook", functools.partial(baselines.textbook, net, method, x, y), truth)
    torch.compiler.reset()  # one graph per cell, and no count of recompilations across cells
    yield Contender("compiled", baselines.Compiled(net, method, x, y), truth)
    for name, engine in _working(net, missing):
        run = functools.partial(engine.solve, net, method, x, y, None)
        yield Contender(name, run, truth)
        if name == "reference":
            continue
        yield Contender(packed(name, replicas), functools.partial(engine.solve, nets, method, xs, ys, None), truths)
        yield Contender(separate(name, replicas), functools.partial(_one_by_one, engine, method, singles))
        if name == "cpu":
            yield from _whole_steps(cell, name)
        if cell.threads > 1:
            yield Contender(f"{name}, 1 thread", functools.partial(_on_one_thread, run), truth)


def _one_by_one(engine: Engine, method: PCALM, problems: Sequence[tuple[ResidualMLP, Tensor, Tensor]]) -> None:
    for net, x, y in problems:
        engine.solve(net, method, x, y, None)


def _on_one_thread(run: Callable[[], Solution]) -> Solution:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return run()
    finally:
        torch.set_num_threads(threads)


def _whole_steps(cell: Cell, name: str) -> Iterator[Contender]:
    """A whole training step, of those (all but one in ten) that log nothing; at N = 8 also of replicas."""
    one = [_training(cell, name, [0])]
    yield Contender(f"{name}, training", functools.partial(_updates, one))
    if cell.width == 8:
        together = [_training(cell, name, range(CPU_REPLICAS))]
        each = [_training(cell, name, [seed]) for seed in range(CPU_REPLICAS)]
        yield Contender(packed(f"{name}, training", CPU_REPLICAS), functools.partial(_updates, together))
        yield Contender(separate(f"{name}, training", CPU_REPLICAS), functools.partial(_updates, each))


def _training(cell: Cell, name: str, seeds: Sequence[int]) -> Training:
    configs = [
        TrainingConfig(
            dataset="fashion-mnist",
            method="pcalm",
            depth=cell.depth,
            width=cell.width,
            seed=seed,
            step_size=STEP_SIZE,
            lr=1e-12,  # the weights hardly move, so that no run diverges while it is timed
            batch_size=BATCH,
            log_every=1_000_000,
            engine=name,
        )
        for seed in seeds
    ]
    return Training(configs, _images())


@functools.cache
def _images() -> Dataset:
    """Noise of the shape of Fashion-MNIST."""
    train, test = (torch.randn(n, INPUTS, generator=torch.Generator().manual_seed(n)) for n in (60_000, 1_000))
    labels = [torch.arange(len(part)) % CLASSES for part in (train, test)]
    return Dataset("fashion-mnist", train, labels[0], test, labels[1], CLASSES, 0.0, 1.0)


def _updates(trainings: Sequence[Training]) -> None:
    for training in trainings:
        training.update()


def _on_gpu(cell: Cell, missing: dict[str, str]) -> Iterator[Contender]:
    method, device = cell.method, torch.device(cell.device)
    for replicas in CUDA_REPLICAS:
        net, x, y = cell.problem(replicas)
        truth, exact = Truth(net, method, x, y), Truth(net, BP(), x, y)
        a = torch.randn(replicas * (cell.depth - 2), BATCH, cell.width, device=device)
        weight = net.hidden_weight.detach().flatten(0, 1)
        yield Contender(packed("bmm", replicas), functools.partial(torch.bmm, a, weight))
        backward = functools.partial(baselines.bp, net, x, y)
        yield Contender(packed("bp", replicas), backward, exact)
        yield Contender(packed("bp graph", replicas), _as_graph(backward, device), exact)
        eager = functools.partial(stacked.eager, net, method, x, y, None)
        yield Contender(packed("torch eager", replicas), eager, truth)
        for name, engine in _working(net, missing):
            if name != "reference":
                run = functools.partial(engine.solve, net, method, x, y, None)
                yield Contender(packed(name, replicas), run, truth)


def _as_graph(run: Callable[[], Solution], device: torch.device) -> Callable[[], Solution]:
    """The same as a CUDA graph, captured at the first call."""
    captured = functools.cache(functools.partial(stacked.capture, run, device))
    return lambda: captured()()
