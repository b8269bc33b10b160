"""Problems by recipe: a few named settings that anyone can paste, and that always build the same arrays.

from pcalm_conformance.problems import Recipe
problem = Recipe(depth=4, width=3, method="pc", steps=2).problem()
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import gzip
import itertools
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pcalm_conformance import oracle
from pcalm_conformance.optimiser import BATCH, Adam, batches
from pcalm_conformance.protocol import Problem

Setting = Any  # a number, or a tuple of one for each hidden layer from the inputs up

POWER_ITERATIONS = 64
LEARNING_RATE = 1e-2  # of `trained` networks, as in chapter 8
IMAGES = {"digits": (64, 10), "fashion-mnist": (784, 10)}  # inputs and classes of the data sets


@dataclass(frozen=True)
class Recipe:
    """Settings of a problem; the fields of `Problem` keep their meaning.

    Whatever a test asks an implementation for is a recipe, so that what failed can be asked for again.

    Attributes:
        blocks: how W_2..W_{L-1} are made: "gaussian", "antisymmetric" or "symmetric" (that part of a Gaussian block,
            rescaled to its norm), or "zero" (a chain of skip connections).
        input_weight: "gaussian" or "zero", how W_1 is made.
        readout: "gaussian" or "zero", how W_L is made.
        data: "gaussian" (targets too), or "digits" or "fashion-mnist" (the first training images, one-hot targets; 64
            or 784 inputs and 10 outputs whatever input_dim and output_dim say).
        start: "feedforward" (None), "random" (feed-forward plus N(0, 1) on both parts; on the activities alone for
            "pc"), "kkt" (feed-forward states and λ = −δ, BP's adjoint), "wave" (feed-forward states plus the free
            chain's mode number `mode`), or "basis" (one sample, repeated: from zero and from every basis vector of
            (z, λ), 2(L−1)N + 1 of them).
        step_size: η, or None for the rule 1/λ_max; a number or L−1 of them, as penalty, dual_step and anchor.
        anchor_per_depth: κ·L, added to `anchor`, which is a number then.
        gauge: w, L−1 numbers or one for all, or "adjoint" for w_l = ‖δ_l‖/‖δ_{L-1}‖ with BP's adjoint. The four
            settings are those of u_l = w_l z_l, and the rule's λ_max is that in u; the problem has them in terms of z:
            η/w², ρw², αw² and κw².
        budget: T/L; when given, T = round(budget · L).
        seed: of all random arrays.
        dtype: "float32" or "float64"; None leaves it to the suite's --dtype (float64 where nothing else is asked for).
        trained: for how many epochs of `data` the network has learned by BP, with the oracle's gradients.
        stretched: W_1 is multiplied, and W_L divided by it; so are z and λ of an initial state.
        nudged: (l, h): W_l has h times `direction(l)` added, once η is known.
        permuted: whether the hidden units are in another order, the same in all layers.
        samples: which of the batch's samples, in which order; None for all.
        duplicates: how often the batch is repeated.
        scale: a factor of inputs, targets and initial state.
        epochs: how long chapter 8 trains on `data`; no part of the problem.
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
    step_size: Setting = 0.15
    penalty: Setting = 1.0
    dual_step: Setting = 1.0
    inner_steps: int = 1
    credit: str = "before"
    anchor: Setting = 0.0
    anchor_per_depth: float = 0.0
    gauge: Setting = None
    start: str = "feedforward"
    mode: int = 1
    blocks: str = "gaussian"
    input_weight: str = "gaussian"
    readout: str = "gaussian"
    data: str = "gaussian"
    seed: int = 0
    dtype: str | None = None
    trained: int = 0
    stretched: float = 1.0
    nudged: tuple[int, float] | None = None
    permuted: bool = False
    samples: tuple[int, ...] | None = None
    duplicates: int = 1
    scale: float = 1.0
    epochs: int = 0

    def but(self, **changes: object) -> Recipe:
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]

    def __repr__(self) -> str:
        """Only what differs from the defaults, so that it can be read and pasted."""
        return f"Recipe({', '.join(f'{name}={value!r}' for name, value in self.given().items())})"

    def given(self) -> dict[str, Any]:
        """The fields that differ from the defaults."""
        values = {field.name: (getattr(self, field.name), field.default) for field in dataclasses.fields(self)}
        return {name: value for name, (value, default) in values.items() if value != default}

    def settings(self) -> list[str]:
        """The same as NAME=VALUE, for a command line."""
        return [f"{name}={value}" for name, value in self.given().items()]

    @classmethod
    def of(cls, settings: Sequence[str]) -> Recipe:
        """The recipe of NAME=VALUE settings.

        Raises:
            ValueError: there is no such setting.
        """
        names, given = {field.name for field in dataclasses.fields(cls)}, {}
        for setting in settings:
            name, separator, value = setting.partition("=")
            if not separator or name not in names:
                raise ValueError(f"settings are NAME=VALUE, with the fields of Recipe as names, got {setting!r}")
            try:
                given[name] = ast.literal_eval(value)
            except (ValueError, SyntaxError):
                given[name] = value
        return cls(**given)

    def resolved(self) -> Recipe:
        """The same problem, with those settings that can be given in two ways in one of them."""
        return self.but(
            steps=self.steps if self.budget is None else round(self.budget * self.depth),
            budget=None,
            anchor=self.anchor + self.anchor_per_depth / self.depth if self.anchor_per_depth else self.anchor,
            anchor_per_depth=0.0,
            dual_step=0.0 if self.method == "pc" else self.dual_step,
            dtype=self.dtype or "float64",
        )

    def without_gauge(self) -> Recipe:
        """The problem with the same numbers for its settings, but for z in place of u."""
        step = step_size_rule(self) if self.step_size is None else self.step_size
        return self.but(gauge=None, step_size=step)

    def problem(self) -> Problem:
        # One stream each, so that a network stays the same whatever the batch, and a batch whatever the start.
        drawn = [np.random.default_rng([self.seed, self.depth, self.width, stream]) for stream in range(3)]
        rng, for_data, for_start = drawn
        inputs, targets = _data(self, for_data)
        weights = [
            rng.standard_normal((self.width, inputs.shape[1])) * (self.input_weight == "gaussian"),
            *(_block(self.blocks, rng, self.width) for _ in range(self.depth - 2)),
            rng.standard_normal((targets.shape[1], self.width)) * (self.readout == "gaussian"),
        ]
        if self.trained:
            weights = list(_learned(network_of(self).but(batch=BATCH, dtype="float64")))
        draft = self._settled(weights, inputs, targets)
        step = self.step_size if self.step_size is not None else step_size_rule(self)
        draft = in_gauge(dataclasses.replace(draft, step_size=step), gauge_weights(self))
        if self.start == "basis":
            return self._changed(_from_every_basis_vector(draft))
        return self._changed(dataclasses.replace(draft, initial=_start(self, draft, for_start)))

    def outline(self) -> Problem:
        """A problem of the same shapes and settings, made without data or computation: its inputs and initial state are
        zero, the targets are one-hot where those of the data are, and a step size that a rule gives is 0.2."""
        inputs, outputs = IMAGES.get(self.data, (self.input_dim, self.output_dim))
        targets = np.zeros((self.batch, outputs))
        targets[:, 0] = self.data in IMAGES
        weights = [
            np.zeros((self.width, inputs)),
            *(np.zeros((self.width, self.width)) for _ in range(self.depth - 2)),
            np.zeros((outputs, self.width)),
        ]
        draft = self._settled(weights, np.zeros((self.batch, inputs)), targets)
        state = np.zeros((self.depth - 1, self.batch, self.width), draft.dtype)
        if self.start == "basis":
            state = np.zeros((self.depth - 1, 2 * (self.depth - 1) * self.width + 1, self.width), draft.dtype)
            draft = _repeated(draft, state.shape[1])
        initial = None if self.start == "feedforward" else (state, state)
        step = 0.2 if self.step_size is None else self.step_size
        draft = dataclasses.replace(draft, step_size=step, initial=initial)
        weights_of_gauge = (1.0,) * (self.depth - 1) if self.gauge == "adjoint" else self.gauge
        return self._changed(in_gauge(draft, weights_of_gauge))

    def _settled(self, weights: list[np.ndarray], inputs: np.ndarray, targets: np.ndarray) -> Problem:
        """The problem from the feed-forward start with these arrays; η is still to come."""
        one = self.resolved()
        kind = np.dtype(one.dtype)
        settings = ("activation", "method", "steps", "penalty", "dual_step", "inner_steps", "credit", "anchor", "dtype")
        return Problem(
            weights=[weight.astype(kind) for weight in weights],
            inputs=inputs.astype(kind),
            targets=targets.astype(kind),
            **{name: getattr(one, name) for name in settings},
        )

    def _changed(self, problem: Problem) -> Problem:
        """The problem with what `stretched`, `nudged`, `permuted`, `samples`, `duplicates` and `scale` say."""
        weights, inputs, targets = list(problem.weights), problem.inputs, problem.targets
        state = problem.initial
        if self.stretched != 1:
            factor = inputs.dtype.type(self.stretched)
            weights[0], weights[-1] = weights[0] * factor, weights[-1] / factor
            state = None if state is None else (state[0] * factor, state[1] / factor)
        if self.nudged is not None:
            layer, step = self.nudged
            weights[layer - 1] = weights[layer - 1] + step * direction(layer, weights[layer - 1].shape)
        if self.permuted:
            order = unit_order(self.width)
            first, *hidden, last = weights
            weights = [first[order], *(weight[np.ix_(order, order)] for weight in hidden), last[:, order]]
            state = mapped(state, lambda part: np.ascontiguousarray(part[..., order]))
        if self.samples is not None or self.duplicates > 1:
            chosen = np.array(range(len(inputs)) if self.samples is None else self.samples)
            rows = np.tile(chosen, self.duplicates)
            inputs, targets = inputs[rows], targets[rows]
            state = mapped(state, lambda part: part[:, rows])
        if self.scale != 1:
            factor = inputs.dtype.type(self.scale)
            inputs, targets = inputs * factor, targets * factor
            state = mapped(state, lambda part: part * factor)
        return dataclasses.replace(problem, weights=weights, inputs=inputs, targets=targets, initial=state)


def in_gauge(problem: Problem, w: Any) -> Problem:
    """The problem whose settings are those of u_l = w_l z_l, for w = None, one number or L−1, in terms of z."""
    if w is None or problem.method == "bp":
        return problem
    square = np.square(w)

    def changed(setting: Any, factor: Any) -> Any:
        found = (np.asarray(setting) * factor).tolist()
        return tuple(found) if isinstance(found, list) else found

    settings = {"step_size": changed(problem.step_size, 1 / square), "penalty": changed(problem.penalty, square)}
    if problem.method == "pcalm":
        settings |= {name: changed(getattr(problem, name), square) for name in ("dual_step", "anchor")}
    return dataclasses.replace(problem, **settings)


Pair = tuple[np.ndarray, np.ndarray]


def mapped(initial: Pair | None, change: Callable[[np.ndarray], np.ndarray]) -> Pair | None:
    """The initial state with both its parts changed."""
    return None if initial is None else (change(initial[0]), change(initial[1]))


def direction(layer: int, shape: tuple[int, ...]) -> np.ndarray:
    """The N(0, 1) matrix along which W_l is `nudged`."""
    return np.random.default_rng([1, layer]).standard_normal(shape)


def unit_order(width: int) -> np.ndarray:
    """The order of the hidden units in a `permuted` network."""
    return np.random.default_rng(2).permutation(width)


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


def uneven(middle: float, depth: int) -> tuple[float, ...]:
    """L−1 numbers from 0.6 to 1.4 times the middle one, all different: multiples of the golden ratio, modulo 1."""
    golden = (math.sqrt(5) - 1) / 2
    return tuple(round(middle * (0.6 + 0.8 * (k * golden % 1)), 4) for k in range(1, depth))


ACTIVATIONS = ("linear", "tanh", "relu")
SHAPES: tuple[Settings, ...] = (
    {"depth": 3, "width": 2, "input_dim": 3, "output_dim": 2, "batch": 2},
    {"depth": 5, "width": 4, "input_dim": 7, "output_dim": 3, "batch": 5},
    {"depth": 9, "width": 7, "input_dim": 11, "output_dim": 10, "batch": 6},
)
# What the quick level holds requirements of any network against: few, for a compiler works for seconds on each.
QUICK_NETWORKS = [*((SHAPES[1], activation) for activation in ACTIVATIONS), (SHAPES[2], "relu")]


def is_quick(recipe: Recipe) -> bool:
    """Whether its network and batch are among those of the quick level."""
    return any(recipe == recipe.but(**shape, activation=activation) for shape, activation in QUICK_NETWORKS)


def cases(recipes: Sequence[Recipe], quick: int = 12) -> Callable[[str], list[Recipe]]:
    """The recipes of a requirement, smallest network first; at the quick level `quick` of those that are `is_quick` (of
    all, if none is), evenly spread."""
    ordered = sorted(recipes, key=lambda r: r.depth * r.width * r.batch)
    few = [recipe for recipe in ordered if is_quick(recipe)] or ordered

    def at(level: str) -> list[Recipe]:
        if level != "quick":
            return ordered
        return few if len(few) <= quick else [few[round(i * (len(few) - 1) / (quick - 1))] for i in range(quick)]

    return at


Whole = Callable[[int, int], int]
Choice = Callable[[Sequence[Any]], Any]


def any_shape(whole: Whole, choice: Choice) -> Recipe:
    """Shape, activation, method and start of any problem; `whole(low, high)` draws a number, both ends included, and
    `choice` one of several."""
    recipe = Recipe(
        depth=whole(3, 12),
        width=whole(1, 20),
        input_dim=whole(1, 20),
        output_dim=whole(1, 11),
        batch=whole(1, 20),
        activation=choice(ACTIVATIONS),
        method=choice(["bp", "pc", "pcalm"]),
    )
    return recipe if recipe.method == "bp" else recipe.but(start=choice(["feedforward", "random"]))


def any_settings(recipe: Recipe, whole: Whole, choice: Choice, per_layer: bool = False) -> Recipe:
    """The recipe with any settings inside the stable region, and any seed; with `per_layer` η is one number for each
    hidden layer, and of ρ, α and κ any."""

    def one_or_each(options: Sequence[float], each: bool) -> Setting:
        return tuple(choice(options) for _ in range(recipe.depth - 1)) if each else choice(options)

    def any_of(options: Sequence[float]) -> Setting:
        return one_or_each(options, per_layer and choice([False, True]))

    recipe = recipe.but(seed=whole(0, 99))
    if recipe.method == "bp":
        return recipe
    recipe = recipe.but(steps=whole(1, 12), penalty=any_of([0.1, 0.5, 1.0, 2.0]))
    if recipe.method == "pcalm":
        recipe = recipe.but(
            dual_step=any_of([0.0, 0.3, 1.0, 3.0]),
            inner_steps=whole(1, 3),
            credit=choice(["before", "after"]),
            anchor=any_of([0.0, 0.2, 1.0]),
        )
    # λ_max ≤ 7 for these networks, so this is inside 4 − ησ²(2ρ + α) − 2ηκ > 0; with the greatest of each, where they
    # differ from layer to layer. Then an eigenvector ζ of the iteration, in coordinates z/√η, with eigenvalue θ has
    # (θ − 1)² + (θ − 1)p + θq = 0 with p = ζ*(√η (AᵀρA + κ) √η)ζ and q = ζ*(√η AᵀαA √η)ζ: |θ| < 1 while 2p + q < 4.
    rho, alpha, kappa = (float(np.max(each)) for each in (recipe.penalty, recipe.dual_step, recipe.anchor))
    stable = 3.8 / (7 * (2 * rho + alpha) + 2 * kappa)
    return recipe.but(step_size=one_or_each([round(stable * part, 4) for part in (0.1, 0.5, 1.0)], per_layer))


def levels(quick: Sequence[Recipe], default: Sequence[Recipe], full: Sequence[Recipe]) -> Callable[[str], list[Recipe]]:
    """Cases that grow with the level; what stands in two of the lists is there once."""
    extra = {"quick": [], "default": [*default], "full": [*default, *full]}
    return lambda level: list(dict.fromkeys([*quick, *extra[level]]))


SMALLEST: tuple[Settings, ...] = (
    {"depth": 3, "width": 1, "input_dim": 1, "output_dim": 1, "batch": 1},
    {"depth": 3, "width": 4, "input_dim": 3, "output_dim": 2, "batch": 2},
    {"depth": 5, "width": 1, "input_dim": 3, "output_dim": 2, "batch": 2},
    {"depth": 4, "width": 3, "input_dim": 1, "output_dim": 2, "batch": 2},
    {"depth": 4, "width": 3, "input_dim": 5, "output_dim": 1, "batch": 3},
    {"depth": 4, "width": 3, "input_dim": 5, "output_dim": 2, "batch": 1},
    {"depth": 4, "width": 3, "input_dim": 3, "output_dim": 3, "batch": 3},
)
# Every shape with the whole method, and those that shapes alone can break with the others.
SMALLEST_QUICK = [
    *(Recipe(**shape, activation=("tanh", "relu")[i % 2]) for i, shape in enumerate(SMALLEST)),
    *(Recipe(**SMALLEST[i], activation="relu", method="bp") for i in (0, 4, 6)),
    *(Recipe(**SMALLEST[i], activation="tanh", method="pc") for i in (1, 5)),
]
RAGGED: tuple[Settings, ...] = (
    *({"width": width, "batch": 5} for width in (1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 65, 100)),
    *({"width": 6, "batch": batch} for batch in (1, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 65, 100)),
    {"width": 17, "batch": 17, "output_dim": 1},
    {"width": 33, "batch": 33, "output_dim": 11, "input_dim": 129},
)
ALL_SETTINGS = {"anchor": 0.3, "penalty": 0.5, "inner_steps": 2, "steps": 3, "credit": "after", "start": "random"}
RAGGED_RUNS: tuple[Settings, ...] = (
    {"method": "bp"},
    {"method": "pc", "steps": 6},
    {"method": "pcalm", "steps": 6},
    ALL_SETTINGS,
)
# A width and a batch at a time, and the methods, activations and precisions in turns.
RAGGED_QUICK = [
    Recipe(depth=5, width=width, batch=batch, activation=activation, dtype=dtype, **RAGGED_RUNS[method])
    for width, batch, method, activation, dtype in (
        (2, 7, 3, "tanh", None),
        (7, 8, 2, "relu", "float32"),
        (8, 15, 3, "relu", None),
        (9, 16, 1, "tanh", None),
        (9, 16, 3, "relu", "float32"),
        (15, 17, 0, "relu", None),
        (16, 31, 3, "tanh", "float32"),
        (17, 33, 2, "relu", None),
        (17, 33, 3, "tanh", None),
        (31, 32, 1, "relu", "float32"),
        (33, 9, 3, "relu", None),
        (33, 63, 0, "tanh", "float32"),
        (65, 5, 3, "tanh", None),
        (65, 5, 2, "tanh", "float32"),
        (100, 65, 2, "relu", None),
        (6, 100, 3, "tanh", None),
        (17, 100, 1, "relu", None),
    )
]


def network_of(recipe: Recipe) -> Recipe:
    """The recipe with only what determines network and batch, for caches."""
    names = ("depth", "width", "input_dim", "output_dim", "batch", "activation", "blocks", "input_weight", "readout")
    kept = {name: getattr(recipe, name) for name in (*names, "data", "trained", "seed", "dtype")}
    return Recipe(**kept)


@functools.lru_cache(maxsize=64)
def _rule(recipe: Recipe, w: Any) -> float:
    return 1 / largest_eigenvalue(recipe.problem(), 1.0 if w is None else w)


def step_size_rule(recipe: Recipe) -> float:
    """η = 1/λ_max for the recipe's network, batch and gauge."""
    return _rule(network_of(recipe), gauge_weights(recipe))


@functools.lru_cache(maxsize=16)
def _adjoint_gauge(recipe: Recipe) -> tuple[float, ...]:
    size = np.linalg.norm(oracle.kkt(recipe.problem())[1], axis=(1, 2))
    return tuple((size / size[-1]).tolist())


def gauge_weights(recipe: Recipe) -> Any:
    """w of the recipe's gauge: None, a number, or L−1 of them."""
    return _adjoint_gauge(network_of(recipe)) if recipe.gauge == "adjoint" else recipe.gauge


@functools.lru_cache(maxsize=16)
def _learned(recipe: Recipe) -> tuple[np.ndarray, ...]:
    """The weights after `trained` epochs of BP, in float64."""
    images, labels, _, _ = dataset(recipe.data)
    problem, targets = recipe.but(trained=0).problem(), np.eye(10)
    adam = Adam(problem.weights, LEARNING_RATE)
    for chosen in batches(len(images), recipe.trained, recipe.seed):
        step = dataclasses.replace(
            problem, weights=adam.weights, inputs=images[chosen], targets=targets[labels[chosen]]
        )
        adam.step(oracle.backprop(step))
    return tuple(adam.weights)


@functools.lru_cache(maxsize=64)
def _backprop(recipe: Recipe) -> list[np.ndarray]:
    return oracle.backprop(recipe.problem())


def backprop(recipe: Recipe) -> list[np.ndarray]:
    """BP's weight gradients for the recipe's network and batch, by the oracle."""
    return _backprop(network_of(recipe))


def largest_eigenvalue(problem: Problem, w: Any = 1.0) -> float:
    """λ_max of the Gauss-Newton Hessian in u = w z at the feed-forward state and ρ = 1, over the batch at once.

    64 power iterations on AᵀA + JᵀJ with A = ∂(w c)/∂u and J = ∂out/∂u_{L-1}.
    """
    net = oracle.Network(problem)
    weight = net.each(w)
    z = net.feedforward()
    slope = [np.empty(0), *(net.dphi(layer) for layer in z[1:])]
    rng = np.random.default_rng(0)
    v = [np.empty(0), *(rng.standard_normal(layer.shape) for layer in z[1:])]
    size = 1.0
    for _ in range(POWER_ITERATIONS):
        v = [part / size for part in v]
        size = np.sqrt(sum(float((part**2).sum()) for part in v))
        v = [part / size for part in v]
        in_z = [np.empty(0), *(part / each for part, each in zip(v[1:], weight[1:], strict=True))]
        a = [np.empty(0), in_z[1]]  # A v, and then w² of it
        for layer in range(2, net.L):
            below = in_z[layer - 1]
            a.append(in_z[layer] - below - net.s[layer] * (slope[layer - 1] * below) @ net.W[layer].T)
        a = [part * each**2 for part, each in zip(a, weight, strict=True)]
        out = net.s[net.L] * (slope[-1] * in_z[-1]) @ net.W[net.L].T  # J v
        v = [np.empty(0), *(a[layer] - net.send_down(layer, a[layer + 1], z) for layer in range(1, net.L - 1)), a[-1]]
        v[-1] = v[-1] + net.s[net.L] * (out @ net.W[net.L]) * slope[-1]
        v = [np.empty(0), *(part / each for part, each in zip(v[1:], weight[1:], strict=True))]
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


def _start(recipe: Recipe, problem: Problem, rng: np.random.Generator) -> Pair | None:
    kind, dtype = recipe.start, np.dtype(problem.dtype)
    if kind == "feedforward":
        return None
    activities, multipliers = oracle.kkt(problem)
    if kind == "random":
        activities = activities + rng.standard_normal(activities.shape)
        multipliers = rng.standard_normal(multipliers.shape) * (problem.method != "pc")
    if kind == "wave":
        activities, multipliers = activities + wave(recipe)[1], np.zeros_like(multipliers)
    return activities.astype(dtype), multipliers.astype(dtype)


def wave(recipe: Recipe) -> tuple[float, np.ndarray]:
    """Wave number k and shape [L−1, 1, 1] of the free chain's mode.

    AᵀA of the chain (fixed at the input, free at the top) has eigenvectors sin(kl) with k = (2m − 1)π/(2(L−1) + 1).
    """
    layers = recipe.depth - 1
    k = (2 * recipe.mode - 1) * math.pi / (2 * layers + 1)
    return k, np.sin(k * np.arange(1, layers + 1))[:, None, None]


def _from_every_basis_vector(problem: Problem) -> Problem:
    """The one-sample problem from zero and from every basis vector of (z, λ): z before λ, layer by layer."""
    layers, width = len(problem.weights) - 1, problem.weights[0].shape[0]
    size = 2 * layers * width
    vectors = np.concatenate([np.zeros((1, size)), np.eye(size)]).astype(problem.dtype)
    z, lam = vectors.reshape(size + 1, 2, layers, width).transpose(1, 2, 0, 3)
    state = np.ascontiguousarray(z), np.ascontiguousarray(lam)
    return dataclasses.replace(_repeated(problem, size + 1), initial=state)


def _repeated(problem: Problem, times: int) -> Problem:
    """The problem with its batch so many times."""
    inputs, targets = (np.tile(part, (times, 1)) for part in (problem.inputs, problem.targets))
    return dataclasses.replace(problem, inputs=inputs, targets=targets)


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
        for file in (place / part for place in (folder / "fashion-mnist", folder) for part in (name, f"{name}.gz")):
            if file.is_file():
                content = file.read_bytes()
                content = gzip.decompress(content) if file.suffix == ".gz" else content
                dimensions = content[3]
                shape = np.frombuffer(content, ">i4", dimensions, offset=4)
                return np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions).reshape(shape)
    raise MissingData(f"{name} is neither in $PCALM_DATA nor in {DEBIAN} (Debian's package dataset-fashion-mnist)")
