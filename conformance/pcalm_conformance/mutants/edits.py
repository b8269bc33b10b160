"""How mutants are made: wrong implementations, each one line away from a right one, named after a porter's mistake.

The suite is worth what it rejects: every mutant must be rejected, by the requirements named here among others
(conformance/tests/test_mutants.py), and `python -m pcalm_conformance.kill_matrix` tries every requirement on every
mutant.
"""

from __future__ import annotations

import importlib
import inspect
import types
from dataclasses import dataclass
from typing import Any

import numpy as np

LOOP, TILES = "numpy_loop", "numpy_tiles"


@dataclass(frozen=True)
class Mutant:
    """A right implementation with one edit.

    Attributes:
        id: stable, in the words of the mistake.
        mistake: what the porter did, for whoever sees the same failures.
        line: text that occurs once in the right implementation.
        right: text that occurs once in `line`, or "" for the line's end.
        wrong: what stands there instead.
        killed_by: the requirements made for this mistake; each of them alone must reject the mutant.
        base: the module of pcalm_conformance.implementations that is edited.
        corner: it only bites at some sizes, budgets, precisions, settings or orders of calls.
        blind: thought of by somebody who knew the method, before reading the requirements.
    """

    id: str
    mistake: str
    line: str
    right: str
    wrong: str
    killed_by: tuple[str, ...]
    base: str = LOOP
    corner: bool = False
    blind: bool = False

    def source(self) -> str:
        """The base's source with the edit.

        Raises:
            ValueError: the place of the edit is missing or ambiguous, since the base has changed.
        """
        original = inspect.getsource(importlib.import_module(f"pcalm_conformance.implementations.{self.base}"))
        if original.count(self.line) != 1 or (self.right and self.line.count(self.right) != 1):
            raise ValueError(f"mutant {self.id}: {self.right!r} of {self.line!r} must occur once in {self.base}.py")
        edited = self.line.replace(self.right, self.wrong) if self.right else self.line + self.wrong
        return original.replace(self.line, edited)

    def build(self) -> Any:
        """The wrong implementation, fresh. Its code may use `memory`, kept between calls, and `truncated`."""
        module = types.ModuleType(f"mutant_{self.id.replace('-', '_')}")
        module.__dict__.update(memory={}, truncated=truncated)
        exec(compile(self.source(), module.__name__, "exec"), module.__dict__)
        module.__dict__["impl"].name = self.id
        return module.__dict__["impl"]


def truncated(array: np.ndarray, bits: int) -> np.ndarray:
    """float32 with only so many bits of its mantissa's 23; other dtypes unchanged."""
    if array.dtype != np.float32:
        return array
    mask = np.uint32(0xFFFFFFFF << (23 - bits) & 0xFFFFFFFF)
    return (np.ascontiguousarray(array).view(np.uint32) & mask).view(np.float32)


def edit(
    id: str, mistake: str, line: str, right: str, wrong: str, *killed_by: str, base: str = LOOP, corner: bool = False
) -> Mutant:
    return Mutant(id, mistake, line, right, wrong, killed_by, base, corner)


def tiles(id: str, mistake: str, line: str, right: str, wrong: str, *killed_by: str) -> Mutant:
    return Mutant(id, mistake, line, right, wrong, killed_by, TILES, corner=True)


def blind(id: str, mistake: str, line: str, right: str, wrong: str, *killed_by: str, corner: bool = False) -> Mutant:
    return Mutant(id, mistake, line, right, wrong, killed_by, LOOP, corner, blind=True)


# The places of the loop: single lines, with a neighbour where a line occurs twice.
ARGUMENTS = "        weights, x, y = problem.weights, problem.inputs, problem.targets\n"
SIZES = "depth, batch = len(weights), len(x)"
SCALES = "s_input, s_block, s_output = 1 / math.sqrt(inputs), 1 / math.sqrt(width * depth), 1 / width\n"
TANH = "return np.tanh(u)\n"
RELU = 'return np.maximum(u, 0) if problem.activation == "relu" else u\n'
TANH_SLOPE = "return 1 - np.tanh(u) ** 2"
RELU_SLOPE = 'return (u > 0).astype(u.dtype) if problem.activation == "relu" else np.ones_like(u)'
INPUT = "return s_input * (x @ weights[0].T)"
BLOCK = "return z[layer - 1] + s_block * (phi(z[layer - 1]) @ weights[layer].T)"
RESIDUALS = "return np.stack([z[layer] - prediction(z, layer) for layer in hidden])"
OUTPUT = "return s_output * (phi(z[top]) @ weights[-1].T) - y"
FROM_LOSS = "return -s_output * (output_error(z) @ weights[-1]) * slope(z[top])"
FROM_BLOCK = "return q[layer + 1] + s_block * (q[layer + 1] @ weights[layer + 1]) * slope(z[layer])"
G_INPUT = "gradients = [-s_input / batch * (q[0].T @ x)]\n"
G_BLOCK = "[-s_block / batch * (q[layer].T @ phi(z[layer - 1])) for layer in blocks]"
G_OUTPUT = "[*gradients, s_output / batch * (output_error(z).T @ phi(z[top]))]"
NO_MULTIPLIERS = "        multipliers = np.zeros_like(feedforward)\n"
IS_BP = 'if problem.method == "bp":\n'
BP_RESULT = "return Solution(feedforward, multipliers, weight_gradients(q, feedforward))"
CONSTANTS = (
    "penalty, step_size, dual_step, anchor = problem.penalty, problem.step_size, problem.dual_step, problem.anchor"
)
SETTINGS = "        inner_steps, credit = problem.inner_steps, problem.credit\n"
START = "        z = feedforward\n"
INITIAL = "            z, multipliers = problem.initial\n"
ROUNDS = "for t in range(1, problem.steps + 1):\n"
INNER = "            for _ in range(inner_steps):\n"
ANEW = "q = penalty * residuals(z) + multipliers"
CREDIT_IN_STEP = "                q = penalty * residuals(z) + multipliers\n"
ANCHOR = "gradient = anchor * (z - feedforward)\n"
LAYERS = "                for layer in hidden:\n"
FORCE = "gradient[layer] += q[layer] - from_above(q, z, layer)\n"
PRIMAL = "                z = z - step_size * gradient\n"
LAST_DUAL = 'if t < problem.steps or credit == "after":\n'
DUAL = "                multipliers = multipliers + dual_step * residuals(z)\n"
CREDIT_AT_END = "        q = penalty * residuals(z) + multipliers\n        return"
RESULT = "return Solution(z, multipliers, weight_gradients(q, z))"
