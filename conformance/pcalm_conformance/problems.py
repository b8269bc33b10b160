"""Problems by recipe: a few named settings that anyone can paste, and that always build the same arrays.

from pcalm_conformance.problems import Recipe
problem = Recipe(depth=4, width=3, method="pc", steps=2).problem()
"""

from __future__ import annotations

import dataclasses
import functools
import gzip
import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pcalm_conformance import oracle
from pcalm_conformance.protocol import Problem

POWER_ITERATIONS = 64


@dataclass(frozen=True)
class Recipe:
    """Settings of a problem; the fields of `Problem` keep their meaning.

    Attributes:
        blocks: how W_2..W_{L-1} are made: "gaussian", "antisymmetric" or "symmetric" (that part of a Gaussian block,
            rescaled to its norm), or "zero" (a chain of skip connections).
        input_weight: "gaussian" or "zero", how W_1 is made.
        readout: "gaussian" or "zero", how W_L is made.
        data: "gaussian" (targets too), or "digits" or "fashion-mnist" (the first training images, one-hot targets; 64
            or 784 inputs and 10 outputs whatever input_dim and output_dim say).
        start: "feedforward" (None), "random" (feed-forward plus N(0, 1) on both parts; on the activities alone for
            "pc"), or "kkt" (feed-forward states and λ = −δ, BP's adjoint).
        step_size: η, or None for the rule 1/λ_max.
        anchor_per_depth: κ·L, added to `anchor`.
        budget: T/L; when given, T = round(budget · L).
        duplicates: how often the batch is repeated.
        seed: of all random arrays.
        dtype: "float32" or "float64"; None leaves it to the suite's --dtype (float64 where nothing else is asked for).
    """

    depth: int = 4
    width: int = 3
    input_dim: int = 5
    output_dim: int = 2
    batch: int = 3
    activation: str = "tanh"
    method: str = "pcalm"
    steps: int = 3
    budget: float | None = None
    step_size: float | None = 0.15
    penalty: float = 1.0
    dual_step: float = 1.0
    inner_steps: int = 1
    credit: str = "before"
    anchor: float = 0.0
    anchor_per_depth: float = 0.0
    start: str = "feedforward"
    blocks: str = "gaussian"
    input_weight: str = "gaussian"
    readout: str = "gaussian"
    data: str = "gaussian"
    duplicates: int = 1
    seed: int = 0
    dtype: str | None = None

    def but(self, **changes: object) -> Recipe:
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]

    def __repr__(self) -> str:
        """Only what differs from the defaults, so that it can be read and pasted."""
        given = [
            f"{field.name}={value!r}"
            for field in dataclasses.fields(self)
            if (value := getattr(self, field.name)) != field.default
        ]
        return f"Recipe({', '.join(given)})"

    def problem(self) -> Problem:
        # One stream each, so that a network stays the same whatever the batch, and a batch whatever the start.
        drawn = [np.random.default_rng([self.seed, self.depth, self.width, stream]) for stream in range(3)]
        rng, for_data, for_start = drawn
        inputs, targets = _data(self, for_data)
        inputs, targets = (np.tile(part, (self.duplicates, 1)) for part in (inputs, targets))
        weights = [
            rng.standard_normal((self.width, inputs.shape[1])) * (self.input_weight == "gaussian"),
            *(_block(self.blocks, rng, self.width) for _ in range(self.depth - 2)),
            rng.standard_normal((targets.shape[1], self.width)) * (self.readout == "gaussian"),
        ]
        dtype = self.dtype or "float64"
        kind = np.dtype(dtype)
        draft = Problem(
            weights=[weight.astype(kind) for weight in weights],
            inputs=inputs.astype(kind),
            targets=targets.astype(kind),
            activation=self.activation,
            method=self.method,
            steps=self.steps if self.budget is None else round(self.budget * self.depth),
            penalty=self.penalty,
            dual_step=0.0 if self.method == "pc" else self.dual_step,
            inner_steps=self.inner_steps,
            credit=self.credit,
            anchor=self.anchor + self.anchor_per_depth / self.depth,
            dtype=dtype,
        )
        step = self.step_size if self.step_size is not None else step_size_rule(self)
        return dataclasses.replace(draft, step_size=step, initial=_start(self.start, draft, for_start))


Settings = Mapping[str, Any]


def product(
    *groups: Sequence[Settings], settings: Sequence[Settings] = ({},), **choices: Sequence[Any]
) -> list[Recipe]:
    """All combinations: of every group of settings one, and of every named field one of its values."""
    fields = [[{name: value} for value in values] for name, values in choices.items()]
    return [
        Recipe(**{name: value for part in parts for name, value in part.items()})
        for parts in itertools.product(*groups, settings, *fields)
    ]


def cases(recipes: Sequence[Recipe], quick: int = 12) -> Callable[[str], list[Recipe]]:
    """The recipes of a requirement, smallest network first; at the quick level `quick` of them, evenly spread."""
    ordered = sorted(recipes, key=lambda r: r.depth * r.width * r.batch)

    def at(level: str) -> list[Recipe]:
        if level != "quick" or len(ordered) <= quick:
            return ordered
        return [ordered[round(i * (len(ordered) - 1) / (quick - 1))] for i in range(quick)]

    return at


def levels(quick: Sequence[Recipe], default: Sequence[Recipe], full: Sequence[Recipe]) -> Callable[[str], list[Recipe]]:
    """Cases that grow with the level."""
    extra = {"quick": [], "default": [*default], "full": [*default, *full]}
    return lambda level: [*quick, *extra[level]]


def network_of(recipe: Recipe) -> Recipe:
    """The recipe with only what determines network and batch, for caches."""
    names = ("depth", "width", "input_dim", "output_dim", "batch", "activation", "blocks", "input_weight", "readout")
    kept = {name: getattr(recipe, name) for name in (*names, "data", "duplicates", "seed", "dtype")}
    return Recipe(**kept)


@functools.lru_cache(maxsize=64)
def _rule(recipe: Recipe) -> float:
    return 1 / largest_eigenvalue(recipe.problem())


def step_size_rule(recipe: Recipe) -> float:
    """η = 1/λ_max for the recipe's network and batch."""
    return _rule(network_of(recipe))


@functools.lru_cache(maxsize=64)
def _backprop(recipe: Recipe) -> list[np.ndarray]:
    return oracle.backprop(recipe.problem())


def backprop(recipe: Recipe) -> list[np.ndarray]:
    """BP's weight gradients for the recipe's network and batch, by the oracle."""
    return _backprop(network_of(recipe))


def largest_eigenvalue(problem: Problem) -> float:
    """λ_max of the Gauss-Newton Hessian in z at the feed-forward state and ρ = 1, over the batch at once.

    64 power iterations on AᵀA + JᵀJ with A = ∂c/∂z and J = ∂out/∂z_{L-1}.
    """
    net = oracle.Network(problem)
    z = net.feedforward()
    slope = [np.empty(0), *(net.dphi(layer) for layer in z[1:])]
    rng = np.random.default_rng(0)
    v = [np.empty(0), *(rng.standard_normal(layer.shape) for layer in z[1:])]
    size = 1.0
    for _ in range(POWER_ITERATIONS):
        v = [part / size for part in v]
        size = np.sqrt(sum(float((part**2).sum()) for part in v))
        v = [part / size for part in v]
        a = [np.empty(0), v[1]]  # A v
        for layer in range(2, net.L):
            below = v[layer - 1]
            a.append(v[layer] - below - net.s[layer] * (slope[layer - 1] * below) @ net.W[layer].T)
        out = net.s[net.L] * (slope[-1] * v[-1]) @ net.W[net.L].T  # J v
        v = [np.empty(0), *(a[layer] - net.send_down(layer, a[layer + 1], z) for layer in range(1, net.L - 1)), a[-1]]
        v[-1] = v[-1] + net.s[net.L] * (out @ net.W[net.L]) * slope[-1]
        size = np.sqrt(sum(float((part**2).sum()) for part in v))
    return float(size)


def _block(kind: str, rng: np.random.Generator, width: int) -> np.ndarray:
    gaussian = rng.standard_normal((width, width))
    if kind == "gaussian":
        return gaussian
    if kind == "zero":
        return np.zeros_like(gaussian)
    part = gaussian - gaussian.T if kind == "antisymmetric" else gaussian + gaussian.T
    return part * (np.linalg.norm(gaussian) / np.linalg.norm(part))


def _start(kind: str, problem: Problem, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray] | None:
    if kind == "feedforward":
        return None
    dtype = np.dtype(problem.dtype)
    activities, multipliers = oracle.kkt(problem)
    if kind == "random":
        activities = activities + rng.standard_normal(activities.shape)
        multipliers = rng.standard_normal(multipliers.shape) * (problem.method != "pc")
    return activities.astype(dtype), multipliers.astype(dtype)


def _data(recipe: Recipe, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    if recipe.data == "gaussian":
        shape = (recipe.batch, recipe.input_dim), (recipe.batch, recipe.output_dim)
        return rng.standard_normal(shape[0]), rng.standard_normal(shape[1])
    images, labels, _, _ = dataset(recipe.data)
    return images[: recipe.batch], np.eye(10)[labels[: recipe.batch]]


class MissingData(Exception):
    """A data set is not on this machine; the message says where it was looked for."""


# Where Fashion-MNIST is looked for: $PCALM_DATA, then where Debian's package dataset-fashion-mnist puts it.
FASHION = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
DEBIAN = Path("/usr/share/datasets/fashion-mnist")


@functools.lru_cache(maxsize=2)
def dataset(name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Standardised training images [n, D] and labels [n], and those of the test set, in float64.

    "digits" comes with scikit-learn: its rows permuted by default_rng(0), the first 1440 for training. The mean and
    deviation of the training images standardise both.

    Raises:
        MissingData: it is not on this machine.
    """
    if name == "digits":
        from sklearn.datasets import load_digits  # not at the top: few requirements need images

        found = load_digits()
        order = np.random.default_rng(0).permutation(1797)
        images, labels = found.data[order], found.target[order].astype(np.int64)
        x, x_test, labels, labels_test = images[:1440], images[1440:], labels[:1440], labels[1440:]
    else:
        x, labels, x_test, labels_test = (read_idx(part) for part in FASHION)
    mean, deviation = x.mean(dtype=np.float64), x.std(dtype=np.float64)
    flat = [(part.reshape(len(part), -1) - mean) / deviation for part in (x, x_test)]
    return flat[0], labels.astype(np.int64), flat[1], labels_test.astype(np.int64)


def read_idx(name: str) -> np.ndarray:
    """An array of unsigned bytes from an IDX file of Fashion-MNIST, gzipped or not.

    The format: two zero bytes, 8 for unsigned bytes, the number of dimensions, each dimension as a big-endian 32-bit
    integer, then the entries.
    """
    given = os.environ.get("PCALM_DATA")
    for folder in [Path(given), DEBIAN] if given else [DEBIAN]:
        for file in (folder / "fashion-mnist" / name, folder / name, folder / f"{name}.gz"):
            if file.is_file():
                content = file.read_bytes()
                content = gzip.decompress(content) if file.suffix == ".gz" else content
                dimensions = content[3]
                shape = np.frombuffer(content, ">i4", dimensions, offset=4)
                return np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions).reshape(shape)
    raise MissingData(f"{name} is neither in $PCALM_DATA nor in {DEBIAN} (Debian's package dataset-fashion-mnist)")
