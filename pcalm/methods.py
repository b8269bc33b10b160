"""The methods as frozen settings: what to run, never how.

Numbers may be of any type, such as NumPy's; what a method holds is plain Python's.

All symbols are those of the equations in `pcalm.dynamics`. `step_size`, `penalty`, `dual_step` and `anchor` are each

    a number                          for all layers
    a sequence of L−1 numbers         one per hidden layer, from the inputs up
    a sequence of R numbers           one per replica, for a network with R replicas (also where R = L−1)
    R sequences of L−1 numbers        one per replica and hidden layer

and kept as numbers or tuples of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from pcalm.checks import choice, integer, items, number, require

CREDITS = ("before", "after")
# A number for all layers; one per hidden layer [L−1]; one per replica [R], for a network with replicas; or [R, L−1].
Setting = float | tuple[float, ...] | tuple[tuple[float, ...], ...]
SETTINGS = ("step_size", "penalty", "dual_step", "anchor")


@dataclass(frozen=True)
class BP:
    """Exact backpropagation: feed-forward states, λ = 0, and the gradient of the loss."""

    name = "bp"


@dataclass(frozen=True)
class PC:
    """Predictive coding: T primal steps on the energy with λ = 0 throughout.

    Args:
        steps: T ≥ 1, the inference budget; like every integer at most 2⁶³ − 1.
        step_size: η > 0; one number, one per hidden layer, or one per replica, as above.
        penalty: ρ > 0, likewise.

    Raises:
        ValueError: an argument out of its range; the message names it.
    """

    steps: int
    step_size: Setting
    penalty: Setting = 1.0

    name = "pc"
    # What PC shares with PC-ALM, so that the dynamics are written once: α = 0 is exactly PC.
    dual_step: ClassVar[Setting] = 0.0
    inner_steps: ClassVar[int] = 1
    credit: ClassVar[str] = "before"
    anchor: ClassVar[Setting] = 0.0

    def __post_init__(self) -> None:
        _check(self)


@dataclass(frozen=True)
class PCALM:
    """Augmented Lagrangian predictive coding: primal and dual steps, one multiplier λ_l per hidden layer.

    Args:
        steps: T ≥ 1, the inference budget: rounds of `inner_steps` primal steps and one dual step.
        step_size: η > 0, the primal step; one number, one per hidden layer, or one per replica, as above.
        penalty: ρ > 0, likewise.
        dual_step: α ≥ 0, likewise; 0 is exactly PC.
        inner_steps: primal steps before each dual step, ≥ 1; steps · inner_steps is at most 2⁶³ − 1.
        credit: "before" reads the weight gradients before the last dual step, which is then left out; "after" after it.
        anchor: κ ≥ 0, likewise, the pull of a hidden layer to its feed-forward state (an extension; 0 is the paper's
            method).

    Raises:
        ValueError: an argument out of its range; the message names it.
    """

    steps: int
    step_size: Setting
    penalty: Setting = 1.0
    dual_step: Setting = 1.0
    inner_steps: int = 1
    credit: str = "before"
    anchor: Setting = 0.0

    name = "pcalm"

    def __post_init__(self) -> None:
        _check(self)


def anchored(depth: int) -> dict[str, float]:
    """ρ = 0.1, α = 3.5, κ = 3/L: PC-ALM settings that align early, in 1.25L steps as the paper's in 2L."""
    return {"penalty": 0.1, "dual_step": 3.5, "anchor": 3 / depth}


Method = BP | PC | PCALM
METHODS = {"bp": BP, "pc": PC, "pcalm": PCALM}


def laid_out(name: str, setting: Setting, replicas: int | None, layers: int) -> Setting:
    """The setting if it fits a network of `layers` = L−1 hidden layers with R or no (None) replicas.

    Raises:
        ValueError: a sequence of another length, or one per replica and layer for a network without replicas.
    """
    if not isinstance(setting, tuple):
        return setting
    shape = (len(setting), *({len(row) for row in setting if isinstance(row, tuple)}))
    if replicas is None:
        require(
            shape == (layers,),
            f"{name} has {_shown(shape)} values, but the network has {layers} hidden layers and no replicas: give one "
            f"number, or {layers}",
        )
    else:
        require(
            shape in ((replicas,), (replicas, layers)),
            f"{name} has {_shown(shape)} values, but the network has {replicas} replicas of {layers} hidden layers: "
            f"give one number, {replicas} (one per replica), or [{replicas}, {layers}]",
        )
    return setting


def active(setting: Setting) -> bool:
    """Whether any of its numbers is not zero."""
    if not isinstance(setting, tuple):
        return setting > 0
    return any(number > 0 for row in setting for number in (row if isinstance(row, tuple) else (row,)))


def per_layer(setting: Setting, layers: int) -> list[float]:
    """The setting of a network without replicas as L−1 numbers."""
    if isinstance(setting, tuple):
        return [each for each in setting if not isinstance(each, tuple)]
    return [setting] * layers


def _check(method: PC | PCALM) -> None:
    """Checks all settings, and turns them into plain Python values, so that equal methods are equal."""
    settings: dict[str, Any] = {"steps": integer("steps", method.steps, 1)}
    for name in SETTINGS if isinstance(method, PCALM) else SETTINGS[:2]:
        settings[name] = setting(name, getattr(method, name))
    if isinstance(method, PCALM):
        settings["inner_steps"] = integer("inner_steps", method.inner_steps, 1)
        settings["credit"] = choice("credit", method.credit, CREDITS)
        integer("steps · inner_steps", settings["steps"] * settings["inner_steps"], 1)
    for name, value in settings.items():
        object.__setattr__(method, name, value)


def setting(name: str, value: Any) -> Setting:
    """A setting of any of the forms above as a float or tuples of them, > 0 or, for dual_step and anchor, ≥ 0.

    Raises:
        ValueError: another form, or a number out of range.
    """
    positive = name not in ("dual_step", "anchor")
    entries = items(value)
    if entries is None:
        return number(name, value, positive=positive)
    require(len(entries) > 0, f"{name} must be a number, or one per hidden layer or replica, got an empty sequence")
    rows = [items(entry) for entry in entries]
    if rows[0] is None:
        return tuple(number(name, entry, positive=positive) for entry in entries)
    lengths = [1 if row is None else len(row) for row in rows]
    require(
        None not in rows and len(set(lengths)) == 1 and lengths[0] > 0,
        f"{name} must have one number per hidden layer in every replica, got rows of {lengths}",
    )
    return tuple(tuple(number(name, each, positive=positive) for each in row or ()) for row in rows)


def _shown(shape: tuple[int, ...]) -> str:
    return str(shape[0]) if len(shape) == 1 else str(list(shape))
