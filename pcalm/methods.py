"""The methods as frozen settings: what to run, never how.

Numbers may be of any type, such as NumPy's; what a method holds is plain Python's.

All symbols are those of the equations in `pcalm.dynamics`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pcalm.checks import choice, integer, items, number, require

CREDITS = ("before", "after")


@dataclass(frozen=True)
class BP:
    """Exact backpropagation: feed-forward states, λ = 0, and the gradient of the loss."""

    name = "bp"


@dataclass(frozen=True)
class PC:
    """Predictive coding: T primal steps on the energy with λ = 0 throughout.

    Args:
        steps: T ≥ 1, the inference budget; like every integer at most 2⁶³ − 1.
        step_size: η > 0; one number, or one per replica.
        penalty: ρ > 0.

    Raises:
        ValueError: an argument out of its range; the message names it.
    """

    steps: int
    step_size: float | tuple[float, ...]
    penalty: float = 1.0

    name = "pc"
    # What PC shares with PC-ALM, so that the dynamics are written once: α = 0 is exactly PC.
    dual_step = 0.0
    inner_steps = 1
    credit = "before"
    anchor = 0.0

    def __post_init__(self) -> None:
        _check(self)


@dataclass(frozen=True)
class PCALM:
    """Augmented Lagrangian predictive coding: primal and dual steps, one multiplier λ_l per hidden layer.

    Args:
        steps: T ≥ 1, the inference budget: rounds of `inner_steps` primal steps and one dual step.
        step_size: η > 0, the primal step; one number, or one per replica.
        penalty: ρ > 0.
        dual_step: α ≥ 0; 0 is exactly PC.
        inner_steps: primal steps before each dual step, ≥ 1; steps · inner_steps is at most 2⁶³ − 1.
        credit: "before" reads the weight gradients before the last dual step, which is then left out; "after" after it.
        anchor: κ ≥ 0, the pull of every hidden layer to its feed-forward state (an extension; 0 is the paper's method).

    Raises:
        ValueError: an argument out of its range; the message names it.
    """

    steps: int
    step_size: float | tuple[float, ...]
    penalty: float = 1.0
    dual_step: float = 1.0
    inner_steps: int = 1
    credit: str = "before"
    anchor: float = 0.0

    name = "pcalm"

    def __post_init__(self) -> None:
        _check(self)


def anchored(depth: int) -> dict[str, float]:
    """ρ = 0.1, α = 3.5, κ = 3/L: PC-ALM settings that align early, in 1.25L steps as the paper's in 2L."""
    return {"penalty": 0.1, "dual_step": 3.5, "anchor": 3 / depth}


Method = BP | PC | PCALM
METHODS = {"bp": BP, "pc": PC, "pcalm": PCALM}


def _check(method: PC | PCALM) -> None:
    """Checks all settings, and turns them into plain Python values, so that equal methods are equal."""
    settings: dict[str, Any] = {"steps": integer("steps", method.steps, 1)}
    sizes = items(method.step_size)
    if sizes is None:
        settings["step_size"] = number("step_size", method.step_size, positive=True)
    else:
        require(len(sizes) > 0, "step_size must be one number or one per replica, got an empty sequence")
        settings["step_size"] = tuple(number("step_size", size, positive=True) for size in sizes)
    settings["penalty"] = number("penalty", method.penalty, positive=True)
    if isinstance(method, PCALM):
        settings["dual_step"] = number("dual_step", method.dual_step, positive=False)
        settings["inner_steps"] = integer("inner_steps", method.inner_steps, 1)
        settings["credit"] = choice("credit", method.credit, CREDITS)
        settings["anchor"] = number("anchor", method.anchor, positive=False)
        integer("steps · inner_steps", settings["steps"] * settings["inner_steps"], 1)
    for name, value in settings.items():
        object.__setattr__(method, name, value)
