"""The cells of a comparison: one network and batch each, its problem for every method, the right answers, and copies of
the problem.

**Copies.** Every timed call gets a problem that nobody has seen before, whose answer is known all the same. The order
of samples, inputs, hidden units and outputs is arbitrary, and so are the signs of inputs and outputs, and, where φ is
odd, of hidden units (the same unit of all layers at once, for the skip connections). A copy draws all of these anew.
Signs and orders are exact in floating point: the gradients of the copy are those of the original, and so are their
rounding bounds, once they are put into the same order and signs.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import multiprocessing
import os
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pcalm_conformance import oracle, rounding
from pcalm_conformance.files import write_bytes
from pcalm_conformance.problems import Recipe
from pcalm_conformance.protocol import Problem
from pcalm_conformance.remembering import fingerprint

METHODS = ("bp", "pc", "pcalm")
INPUTS, OUTPUTS = 784, 10  # those of Fashion-MNIST
BUDGET = 2  # T/L, the paper's


@dataclass(frozen=True)
class Cell:
    """N hidden units, L weight matrices, B samples; T = 2L and η = 1/λ_max, all else as in the paper."""

    width: int
    depth: int
    batch: int = 64
    activation: str = "tanh"
    dtype: str = "float32"

    @property
    def name(self) -> str:
        return f"{self.width}x{self.depth}"

    def recipe(self, method: str) -> Recipe:
        return Recipe(
            depth=self.depth,
            width=self.width,
            input_dim=INPUTS,
            output_dim=OUTPUTS,
            batch=self.batch,
            activation=self.activation,
            method=method,
            budget=BUDGET,
            step_size=None,
            dtype=self.dtype,
        )

    def problem(self, method: str) -> Problem:
        return dataclasses.replace(self.recipe(method).problem(), wants=("gradients",))


def flops(problem: Problem) -> float:
    """Additions and multiplications of the matrix products that one gradient cannot do without.

    A product of a block with B samples is 2·B·N² of them. BP has three for each block: up, down and the gradient. An
    iteration has two for each block that it can reach: from the feed-forward start, in t steps, only the top t hidden
    layers have moved (CRD-1). Feed-forward pass and gradient take two more; W_1 and W_L are used once in each of these,
    and W_L twice in every iteration.
    """
    (width, inputs), outputs, depth = problem.weights[0].shape, len(problem.weights[-1]), len(problem.weights)
    batch = len(problem.inputs)
    block, first, last = 2 * batch * width**2, 2 * batch * width * inputs, 2 * batch * width * outputs
    blocks = depth - 2
    if problem.method == "bp":
        return float(3 * blocks * block + 2 * first + 3 * last)
    reached = sum(min(t, blocks) for t in range(1, problem.steps * problem.inner_steps + 1))
    return float(2 * reached * block + 2 * blocks * block + 2 * first + 2 * (problem.steps + 1) * last)


@dataclass(frozen=True)
class Truth:
    """The right gradients G_1..G_L in float64, and how far rounding may leave every entry of each from it, [L]."""

    gradients: Sequence[np.ndarray]
    bounds: np.ndarray

    def disagreement(self, found: Sequence[np.ndarray]) -> float:
        """The largest error of any entry over its bound: at most 1 agrees; infinite where a value is not finite."""
        worst = 0.0
        for mine, right, bound in zip(found, self.gradients, self.bounds, strict=True):
            error = float(np.abs(mine.astype(np.float64) - right).max())
            worst = max(worst, error / bound) if np.isfinite(error) else np.inf
        return worst


def truth(problem: Problem) -> Truth:
    return Truth(oracle.solve(problem).gradients, rounding.bounds(problem).gradients)


@dataclass(frozen=True)
class Copy:
    """A problem, and the answer that is right for it."""

    problem: Problem
    truth: Truth


class Copies:
    """Copies of a problem, as this file's first lines have it.

    Args:
        problem: the original.
        right: its truth.
        seed: of the first copy; the next ones go on from there.
    """

    def __init__(self, problem: Problem, right: Truth, seed: int) -> None:
        self.problem, self.right, self.rng = problem, right, np.random.default_rng([seed, 0xC0B])

    def draw(self) -> Copy:
        one = self.problem
        width, inputs = one.weights[0].shape
        x, units, y = (self._ordered(size) for size in (inputs, width, len(one.weights[-1])))
        if one.activation == "relu":
            units = units[0], np.ones(width)
        samples = self.rng.permutation(len(one.inputs))

        def moved(weights: Sequence[np.ndarray]) -> list[np.ndarray]:
            first, *hidden, last = weights
            return [_at(first, units, x), *(_at(block, units, units) for block in hidden), _at(last, y, units)]

        every = samples, np.ones(len(samples))
        problem = dataclasses.replace(
            one, weights=moved(one.weights), inputs=_at(one.inputs, every, x), targets=_at(one.targets, every, y)
        )
        return Copy(problem, Truth(moved(self.right.gradients), self.right.bounds))

    def _ordered(self, size: int) -> tuple[np.ndarray, np.ndarray]:
        return self.rng.permutation(size), self.rng.choice([-1.0, 1.0], size)


def _at(matrix: np.ndarray, rows: tuple[np.ndarray, np.ndarray], columns: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """The matrix with its rows and columns in another order and with other signs."""
    signs = np.outer(rows[1], columns[1]).astype(matrix.dtype)
    return np.ascontiguousarray(matrix[np.ix_(rows[0], columns[0])] * signs)


def truths(problems: Sequence[Problem], folder: Path, cores: int) -> Iterator[Truth]:
    """The truth of every problem in turn, kept in a folder and computed on several cores: a bound is dear.

    Raises:
        BrokenProcessPool: one of the processes that compute was ended from outside.
    """
    files = [folder / f"{key(problem)}.npz" for problem in problems]
    missing = [(problem, file) for problem, file in zip(problems, files, strict=True) if not _kept(file)]
    # The longest first, so that no core is left with it at the end.
    missing.sort(key=lambda pair: -flops(pair[0]))
    if missing:
        folder.mkdir(parents=True, exist_ok=True)
        # No multiprocessing.Pool: it waits for ever for what a worker did that a signal has ended.
        context = multiprocessing.get_context("spawn")
        with _one_thread(), ProcessPoolExecutor(min(cores, len(missing)), context, _ignore) as pool:
            try:
                for done in as_completed([pool.submit(_compute, each) for each in missing]):
                    done.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    for file in files:
        with np.load(file) as kept:
            arrays = [kept[name] for name in kept.files]
        yield Truth(arrays[1:], arrays[0])


def key(problem: Problem) -> str:
    """A hash of the problem, and of the code that says what is right."""
    digest = hashlib.sha256(fingerprint(problem))
    for module in (oracle, rounding):
        digest.update(Path(str(module.__file__)).read_bytes())
    return digest.hexdigest()[:24]


def _compute(task: tuple[Problem, Path]) -> None:
    problem, file = task
    found = truth(problem)
    write_bytes(file, lambda stream: np.savez(stream, found.bounds, *found.gradients))


def _kept(file: Path) -> bool:
    try:
        with np.load(file) as kept:
            return bool(kept.files)
    except (OSError, ValueError, EOFError):
        return False


def _ignore() -> None:
    """Ctrl-C is for the process that waits for these."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """New processes use one thread each: several of them share the cores."""
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        yield
    finally:
        del os.environ["OMP_NUM_THREADS"]
        if before is not None:
            os.environ["OMP_NUM_THREADS"] = before
