"""What the asv benchmarks (`bench_*.py`) run: their grid of parameters, and the problem of each combination.

PCALM_BENCH_GRID chooses the widths and depths: "quick" (one shape), "site" (four), "cpu" (nine; the default) or
"paper" (8..128 × 8..128). PCALM_BENCH_DEVICE is the device of the timed ones: "cpu" (the default) or "cuda".

On CPUs all run on one thread, and times are CPU times: on a quiet core they are the same as wall-clock times, and on a
busy machine they leave out what other processes took.
"""

from __future__ import annotations

import ctypes
import itertools
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import sklearn.datasets  # noqa: F401  here, so that it is imported once, before asv forks a process per combination
import torch
from torch import Tensor

import pcalm
from pcalm.checks import choice
from pcalm.engines import resolve
from pcalm.methods import BP, PC, PCALM, Method
from pcalm.network import ResidualMLP

GRIDS = {
    "quick": ((32,), (16,)),
    "site": ((8, 32), (8, 32)),
    "cpu": ((8, 32, 64), (8, 32, 64)),
    "paper": ((8, 16, 32, 64, 128), (8, 16, 32, 64, 128)),
}
CHOSEN = choice("PCALM_BENCH_GRID", os.environ.get("PCALM_BENCH_GRID", "cpu"), GRIDS)
WIDTHS, DEPTHS = GRIDS[CHOSEN]
DATASETS = ("digits",) if CHOSEN == "quick" else ("digits", "fashion-mnist", "mnist")
# Written out, not asked from pcalm, so that a name means the same parameter in every commit.
METHODS = ("bp", "pc", "pcalm", "anchored")
ENGINES = ("reference", "cpu", "torch", "triton")
FAST = ENGINES[1:]
DEVICE = choice("PCALM_BENCH_DEVICE", os.environ.get("PCALM_BENCH_DEVICE", "cpu"), ("cpu", "cuda"))
GRID = {"width": WIDTHS, "depth": DEPTHS, "device": (DEVICE,)}
timer = time.process_time if DEVICE == "cpu" else time.perf_counter
INPUTS, CLASSES, BATCH = 784, 10, 64
STEP_SIZE = 0.2  # for speed, where it does not matter
M_MMAP_THRESHOLD = -3  # of malloc.h
SGEMM = 512  # rows and columns of the product that times are compared with: about a millisecond
SHARE_S = 0.05  # for a ratio
DECIMALS = 6  # of tracked numbers: far more than any threshold needs, and fewer than rounding may change

torch.set_num_threads(1)


def method(name: str, steps: int, step_size: float, depth: int) -> Method:
    """The method of that name; "anchored" is PC-ALM with ρ = 0.1, α = 3.5, κ = 3/L."""
    if name == "bp":
        return BP()
    if name == "pc":
        return PC(steps, step_size)
    if name == "pcalm":
        return PCALM(steps, step_size)
    return PCALM(steps, step_size, penalty=0.1, dual_step=3.5, anchor=3 / depth)


@dataclass(frozen=True)
class Problem:
    """Arguments of `pcalm.gradients`, with x [B, D] and y [B, C]."""

    net: ResidualMLP
    method: Method
    x: Tensor
    y: Tensor
    engine: str

    def infer(self) -> None:
        pcalm.infer(self.net, self.method, self.x, self.y, engine=self.engine)
        self.wait()

    def gradients(self, method: Method | None = None) -> list[Tensor]:
        found = pcalm.gradients(self.net, method or self.method, self.x, self.y, engine=self.engine)
        self.wait()
        return found

    def wait(self) -> None:
        """Until a GPU has done what was asked of it."""
        if self.x.device.type == "cuda":
            torch.cuda.synchronize()


def draw(
    name: str, engine: str, width: int, depth: int, device: str, *, batch: int = BATCH, steps: int | None = None
) -> Problem:
    """A problem of the size of Fashion-MNIST with inputs drawn from N(0, 1) and T = 2L unless `steps` is given.

    Raises:
        NotImplementedError: the machine does not have the device, or the engine does not work there.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise NotImplementedError(f"no {device} on this machine")
    net = ResidualMLP(depth, width, INPUTS, CLASSES, device=device)
    require_engine(engine, net)
    x = torch.randn(batch, INPUTS, generator=torch.Generator().manual_seed(0)).to(device)
    y = torch.eye(CLASSES, device=device)[torch.arange(batch) % CLASSES]
    return Problem(net, method(name, 2 * depth if steps is None else steps, STEP_SIZE, depth), x, y, engine)


def digits(name: str, engine: str, width: int, depth: int, budget: float = 2) -> Problem:
    """The first 64 training digits in float64, with T = budget · L and η = 1/λ_max; for accuracy.

    Raises:
        NotImplementedError: the engine does not work on CPUs.
    """
    from pcalm.experiments.data import load  # commits that have no data sets still have their speed measured

    data = load("digits", dtype=torch.float64)
    x = data.train_inputs[:BATCH]
    net = ResidualMLP(depth, width, x.shape[1], data.classes, dtype=torch.float64)
    require_engine(engine, net)
    eta = pcalm.step_size(net, x)
    assert isinstance(eta, float)
    settings = method(name, max(1, round(budget * depth)), eta, depth)
    return Problem(net, settings, x, data.one_hot(data.train_labels[:BATCH]), engine)


def blocks(network: str, depth: int, width: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Any]:
    """All training digits [n, D] with their labels [n], and the network of that name for them, with cross-entropy.

    Raises:
        NotImplementedError: the commit has no such networks.
    """
    try:
        from pcalm.experiments import networks
    except ImportError as error:
        raise NotImplementedError("no networks of blocks") from error
    from pcalm.experiments.data import load

    data = load("digits", dtype=dtype)
    activation = networks.NETWORKS[network].activation
    shape = data.train_inputs.shape[1], data.classes
    net = networks.build(network, depth, width, *shape, activation=activation, loss="cross_entropy", dtype=dtype)
    return data.train_inputs, data.train_labels, net


def require_engine(engine: str, net: Any) -> None:
    """Raises NotImplementedError, which asv reports as "not available", where the engine does not work."""
    try:
        resolve(engine, net)
    except ValueError as error:
        raise NotImplementedError(str(error)) from error


def sgemm(device: str) -> Callable[[], Any]:
    """A fixed product of two square matrices in float32."""
    a, b = torch.randn(2, SGEMM, SGEMM, generator=torch.Generator().manual_seed(0)).to(device)

    def run() -> None:
        a @ b
        if device == "cuda":
            torch.cuda.synchronize()

    return run


def ratio_of_times(run: Callable[[], Any], yardstick: Callable[[], Any]) -> float:
    """The best time of the one over the best of the other, taken in turns in this process."""
    calls, best = (run, yardstick), [math.inf, math.inf]
    for call in calls:
        call()  # the first one pays for what is made once
    start = timer()
    for turn in itertools.count(1):
        for side, call in enumerate(calls):
            before = timer()
            call()
            best[side] = min(best[side], timer() - before)
        if turn >= 3 and timer() - start > SHARE_S:
            break
    return best[0] / best[1]


def fix_heap() -> None:
    """Has glibc return every large block to the system when it is freed, so that peak memory is that of live tensors.

    Otherwise the heap that the process begins with decides how much freed memory is still there at the peak. (measured:
    70 to 118 MiB for the same code, 62.1 to 62.4 with this.) It makes allocations slow, so it is for memory alone.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(M_MMAP_THRESHOLD, 2**16)


def tracked(value: float) -> float:
    """The number as asv should keep it; it takes NaN for "not available", so one that is not finite is an error."""
    if not math.isfinite(value):
        raise ArithmeticError(f"the tracked number is {value}")
    return round(value, DECIMALS)


class Sampling:
    """How asv samples a time: in one process, up to five samples of ten milliseconds (or of one call, if longer)."""

    rounds = 1
    repeat = (2, 5, 0.2)
    warmup_time = 0.02
    timeout = 180.0  # the first use of the cpu engine compiles it
    timer = staticmethod(timer)
