"""An implementation as the suite calls it: found by its name, given copies, its answer checked for form. NumPy only."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pcalm_conformance.protocol import Problem, Solution

LONGEST_TEXT = 2000  # characters of any sentence about an implementation
LONGEST_NAME = 60
FRAMES = 5  # of a traceback


class CannotLoad(Exception):
    """There is no such implementation; the message is one sentence."""


def load(module_name: str, names: list[str] | None, device: str = "cpu") -> dict[str, Any]:
    """The implementations of those names in a module.

    Args:
        module_name: as in `import`.
        names: the module's attributes; None for all that its `implementations(device)` lists.
        device: for those that are dataclasses with this field.

    Raises:
        CannotLoad: the module or a name is missing, or an object has no solve() or no fit name.
    """
    # Whatever a stranger's module does when it is imported or looked at, the sentence says so: SystemExit, too.
    try:
        module = importlib.import_module(module_name)
    except BaseException as error:
        raise CannotLoad(f"cannot import {module_name!r}: {said(error)}{place(error)}") from error
    try:
        if names is None:
            if not callable(getattr(module, "implementations", None)):
                raise CannotLoad(
                    "--implementation must be MODULE:NAME, such as my_package.adapter:impl, or a MODULE with a "
                    f"function implementations(device) that lists its names, got {module_name!r}"
                )
            names = list(module.implementations(device))
        return {name: fit(module, name, device) for name in names}
    except CannotLoad:
        raise
    except BaseException as error:
        raise CannotLoad(f"{module_name!r} cannot be used: {said(error)}{place(error)}") from error


def fit(module: Any, name: str, device: str) -> Any:
    """The implementation `name` of a module, for the device.

    Raises:
        CannotLoad: it is missing, or has no solve() or no fit name.
    """
    if not hasattr(module, name):
        raise CannotLoad(f"module {module.__name__!r} has no {name!r}")
    implementation = getattr(module, name)
    solve = getattr(implementation, "solve", None)
    if not callable(solve):
        raise CannotLoad(f"{name!r} has no solve(problem); see pcalm_conformance/protocol.py")
    if parameters := strange_parameters(solve):
        if isinstance(implementation, type):
            raise CannotLoad(f"{name!r} is a class, and its solve() needs an instance: name one, as in impl = {name}()")
        raise CannotLoad(f"{name!r}: solve(problem) must take one argument, is solve{parameters}")
    if device != "cpu" and dataclasses.is_dataclass(implementation) and hasattr(implementation, "device"):
        implementation = dataclasses.replace(implementation, device=device)  # type: ignore[type-var]
    given = getattr(implementation, "name", None)
    if not isinstance(given, str) or not fit_name(given):
        raise CannotLoad(
            f"{name!r} needs a name for the tables, one line of at most {LONGEST_NAME} printable characters, "
            f"got {'none' if given is None else shortened(safe(repr, given))}"
        )
    return implementation


def strange_parameters(function: Any) -> str:
    """Those of a function that cannot be called with one argument; "" of one that can, and where Python cannot tell."""
    try:
        signature = inspect.signature(function, follow_wrapped=False)  # a decorator may hand over the others
    except (TypeError, ValueError):
        return ""
    try:
        signature.bind(None)
    except TypeError:
        return str(signature)
    return ""


def fit_name(name: str) -> bool:
    """Whether it can stand in a table, a file and a terminal: one line of printable characters, not all blank."""
    return name.isprintable() and name == name.strip() != "" and len(name) <= LONGEST_NAME


def shortened(text: str, most: int = LONGEST_TEXT) -> str:
    """The text with its middle left out where it is longer than `most`."""
    half = most // 2
    return text if len(text) <= most else f"{text[:half]} … [{len(text) - most} characters] … {text[-half:]}"


def safe(show: Any, value: Any) -> str:
    """show(value), whatever that does: a message may refuse to be printed."""
    try:
        return str(show(value))
    except BaseException as error:
        return f"[{type(value).__name__} that cannot be printed: {type(error).__name__}]"


def said(error: BaseException) -> str:
    """An exception in words: what it is and what it says."""
    message = safe(str, error)
    return shortened(f"{type(error).__name__}: {message}" if message else type(error).__name__)


def frames(error: BaseException) -> list[Any]:
    """Where it was raised, the innermost last, without this package's own lines."""
    here = str(Path(__file__).parent)
    own = [f"{here}/{name}" for name in ("guest.py", "child.py")]
    return [one for one in traceback.extract_tb(error.__traceback__) if one.filename not in own]


def place(error: BaseException) -> str:
    """The innermost line outside the import machinery, in brackets, "" where there is none."""
    machinery = ("<", str(Path(importlib.__file__).parent))
    outside = [one for one in frames(error) if not one.filename.startswith(machinery)]
    return f" ({Path(outside[-1].filename).name}, line {outside[-1].lineno})" if outside else ""


def trace(error: BaseException) -> str:
    """The last lines of its traceback."""
    return shortened("".join(traceback.format_list(frames(error)[-FRAMES:])).rstrip())


@dataclass
class InProcess:
    """An implementation in this process.

    Attributes:
        implementation: the object under test.
        modified: what the last solve() wrote to that it should not have, in words.
    """

    implementation: Any
    modified: list[str] = field(default_factory=list)
    _last: tuple[list[Any], list[np.ndarray]] | None = None  # what the last call returned, and copies of it
    _prepared: Callable[[], Any] | None = None

    @property
    def name(self) -> str:
        return str(self.implementation.name)

    def solve(self, problem: Problem) -> Any:
        guarded = copied(problem)
        found = self.implementation.solve(guarded)
        self.modified = list(changes(problem, guarded))
        if self._last is not None and any(not np.array_equal(a, b) for a, b in zip(*self._last, strict=True)):
            self.modified.append(
                "the previous call's solution was overwritten: every call must return arrays of its own"
            )
        if defects(found, problem):
            self._last = None
            return found
        given = arrays(found, problem)
        kept = [np.array(array) for array in given]
        self._last = (given, kept)
        return solution(kept, problem)

    @property
    def prepares(self) -> bool:
        """Whether it has `prepare`."""
        return callable(getattr(self.implementation, "prepare", None))

    def prepare(self, problem: Problem) -> None:
        """The first half of what is timed.

        Raises:
            TypeError: it returned no function.
        """
        self._prepared = self.implementation.prepare(problem)
        if not callable(self._prepared):
            raise TypeError(
                "prepare() must return a function without arguments that returns the gradients, got "
                f"{shortened(safe(repr, self._prepared))}"
            )

    def gradients(self, problem: Problem) -> Any:
        """The other half, with nothing around it: the prepared function's answer where there is one, else solve()'s."""
        prepared, self._prepared = self._prepared, None
        if prepared is None:
            return self.implementation.solve(problem)
        found = prepared()
        return Solution(np.empty(0), np.empty(0), list(found) if isinstance(found, Iterable) else found)

    def supports(self, problem: Problem) -> bool:
        asked = getattr(self.implementation, "supports", None)
        answer = True if asked is None else asked(problem)
        if answer is None:
            raise TypeError("supports() must return True or False, got None")
        return bool(answer)


def arrays(found: Any, problem: Problem) -> list[Any]:
    """What is wanted of a solution: the states, then the gradients."""
    states = [found.activities, found.multipliers] if "states" in problem.wants else []
    return [*states, *(found.gradients if "gradients" in problem.wants else [])]


def solution(given: list[np.ndarray], problem: Problem) -> Solution:
    """The solution of which those are the wanted arrays; what is not wanted is empty."""
    if "states" not in problem.wants:
        return Solution(np.empty(0), np.empty(0), given)
    return Solution(given[0], given[1], given[2:])


def forms(problem: Problem) -> list[tuple[str, tuple[int, ...]]]:
    """The name and shape of every array that is wanted of the problem's solution, in the order of `arrays`."""
    shape = (len(problem.weights) - 1, problem.inputs.shape[0], problem.weights[0].shape[0])
    states = [("activities", shape), ("multipliers", shape)] if "states" in problem.wants else []
    gradients = [(f"gradients[{i}]", weight.shape) for i, weight in enumerate(problem.weights)]
    return [*states, *(gradients if "gradients" in problem.wants else [])]


def misshapen(found: Any, problem: Problem) -> Iterable[str]:
    """What keeps an object from having the form of a solution of the problem."""
    wanted = ["activities", "multipliers"] * ("states" in problem.wants) + ["gradients"] * (
        "gradients" in problem.wants
    )
    missing = [name for name in wanted if getattr(found, name, None) is None]
    if missing:
        yield (
            f"solve() must return an object with {', '.join(wanted)}, such as a Solution; "
            f"{', '.join(missing)} missing in the {type(found).__name__} that it returned"
        )
        return
    expected, values = forms(problem), arrays(found, problem)
    if len(values) != len(expected):
        depth = len(problem.weights)
        yield f"gradients must be {depth} arrays, one per weight matrix, got {len(values) - len(expected) + depth}"
        expected = expected[:-depth]
    same: dict[str, list[str]] = {}  # one sentence for all arrays of which it is true
    for (name, shape), value in zip(expected, values, strict=False):
        array = np.asarray(value)
        if array.shape != shape:
            same.setdefault(f"must have shape {list(shape)}, got {list(array.shape)}", []).append(name)
        elif array.dtype != np.dtype(problem.dtype):
            same.setdefault(f"must be {problem.dtype}, got {array.dtype}", []).append(name)
    for sentence, names in same.items():
        others = f" and {len(names) - 3} more" if len(names) > 3 else ""
        yield f"{', '.join(names[:3])}{others} {sentence}"


def defects(found: Any, problem: Problem) -> list[str]:
    """What keeps an object from being a solution of the problem."""
    wrong = list(misshapen(found, problem))
    if wrong:
        return wrong
    odd = [
        (name, int((~np.isfinite(a)).sum()))
        for (name, _), a in zip(forms(problem), arrays(found, problem), strict=True)
    ]
    return [f"{name} must be finite, got {count} NaN or infinite values" for name, count in odd if count]


def copied(problem: Problem) -> Problem:
    """The problem with its own copies of all arrays."""
    start = problem.initial
    return dataclasses.replace(
        problem,
        weights=[weight.copy() for weight in problem.weights],
        inputs=problem.inputs.copy(),
        targets=problem.targets.copy(),
        initial=None if start is None else (start[0].copy(), start[1].copy()),
    )


def changes(before: Problem, after: Problem) -> Iterable[str]:
    """Which of the problem's arrays were written to."""
    pairs: list[tuple[str, np.ndarray, np.ndarray]] = [
        ("inputs", before.inputs, after.inputs),
        ("targets", before.targets, after.targets),
        *((f"weights[{i}]", a, b) for i, (a, b) in enumerate(zip(before.weights, after.weights, strict=True))),
    ]
    if before.initial is not None and after.initial is not None:
        pairs += [
            (f"initial {n}", a, b)
            for n, a, b in zip(("activities", "multipliers"), before.initial, after.initial, strict=True)
        ]
    for name, a, b in pairs:
        if not np.array_equal(a, b):
            yield f"{name} of the problem: solve() must leave its arguments alone"
