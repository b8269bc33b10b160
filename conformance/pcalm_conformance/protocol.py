"""What an implementation under test sees: one problem in, one solution out. NumPy only.

An adapter is any object with a `name` and `solve(problem) -> solution`, and optionally `supports(problem) -> bool`:

    class Mine:
        name = "mine"

        def solve(self, problem):
            ...
            return Solution(activities, multipliers, gradients)

    impl = Mine()

    pytest conformance --implementation my_package.adapter:impl

It may also have `prepare(problem)`, for `pcalm-conformance compare`: a function without arguments comes back, and each
of its calls computes the problem's weight gradients once, waits for the device, and returns them.

The model and the equations are in conformance/README.md. Shapes: L weight matrices, N hidden units, D inputs, C
outputs, B samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np


@dataclass(frozen=True, eq=False)
class Problem:
    """One inference problem. All arrays have the dtype `dtype` and must not be modified.

    Attributes:
        weights: W_1 [N, D], W_2..W_{L-1} [N, N], W_L [C, N], unscaled.
        inputs: x [B, D].
        targets: y [B, C].
        activation: "linear", "tanh" or "relu".
        method: "bp", "pc" or "pcalm".
        steps: T, the inference budget; for "bp" it means nothing, as all settings below.
        step_size: η, the primal step: a number, or a tuple of L−1 numbers, one per hidden layer from the inputs up;
            so are penalty, dual_step and anchor. `supports` may decline tuples: `per_layer` says whether there is one.
        penalty: ρ.
        dual_step: α (0 for "pc").
        inner_steps: primal steps before each dual step.
        credit: "before" or "after" the last dual step.
        anchor: κ.
        initial: None for the feed-forward start with λ = 0, else (activities, multipliers), each [L−1, B, N].
        dtype: "float32" or "float64", in which to compute and to answer.
        wants: what of the solution is looked at, of "states" and "gradients"; what is not may be left out (None), or be
            there all the same.
    """

    weights: Sequence[np.ndarray]
    inputs: np.ndarray
    targets: np.ndarray
    activation: str
    method: str
    steps: int = 1
    step_size: Any = 0.1
    penalty: Any = 1.0
    dual_step: Any = 1.0
    inner_steps: int = 1
    credit: str = "before"
    anchor: Any = 0.0
    initial: tuple[np.ndarray, np.ndarray] | None = None
    dtype: str = "float64"
    wants: tuple[str, ...] = ("states", "gradients")

    @property
    def per_layer(self) -> bool:
        """Whether any of step_size, penalty, dual_step and anchor is one number for each hidden layer."""
        return any(np.ndim(setting) > 0 for setting in (self.step_size, self.penalty, self.dual_step, self.anchor))


@dataclass(frozen=True, eq=False)
class Solution:
    """The state after the whole budget, and the weight gradients of the batch mean there.

    Attributes:
        activities: z [L−1, B, N]; for "bp" the feed-forward states.
        multipliers: λ [L−1, B, N]; zero for "bp" and "pc".
        gradients: G_1..G_L, shaped as the weights.
    """

    activities: np.ndarray
    multipliers: np.ndarray
    gradients: Sequence[np.ndarray]


@runtime_checkable
class Implementation(Protocol):
    """What is under test. Two methods may be added:

    - `supports(problem) -> bool` says what it cannot do, by shapes and settings: the arrays of the problem that it is
      asked about may be all zero. The default is everything.
    - `prepare(problem) -> function` is for timing, and may convert, transfer and compile. The function has no arguments
      and returns G_1..G_L of that problem, in arrays that `numpy.asarray` takes, of the problem's dtype. Without it
      `solve` is timed.
    """

    name: str

    def solve(self, problem: Problem) -> Solution:
        """The state and gradients after the problem's whole budget, in arrays of the problem's dtype."""
        ...
