"""Wrong implementations, each one line away from a right one, named after the mistake that a porter would make.

The suite is worth what it rejects: every mutant must be rejected, by the requirements named here among others
(tests/test_mutants.py), and `python -m conformance.kill_matrix` tries every requirement on every mutant.
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
        base: the module of conformance.implementations that is edited.
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
        original = inspect.getsource(importlib.import_module(f"conformance.implementations.{self.base}"))
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

MODEL = (
    edit("input-unscaled", "s_1 is missing", SCALES, "1 / math.sqrt(inputs)", "1.0", "MOD-1"),
    edit("input-width", "s_1 is 1/√N instead of 1/√D", SCALES, "inputs", "width", "MOD-1"),
    edit("input-no-root", "s_1 is 1/D: the root is missing", SCALES, "math.sqrt(inputs)", "inputs", "MOD-1"),
    edit("blocks-no-depth", "s_l is 1/√N: the depth is missing", SCALES, "width * depth", "width", "MOD-1"),
    edit("blocks-hidden", "s_l counts L − 1 layers instead of L matrices", SCALES, "depth)", "(depth - 1))", "MOD-1"),
    edit("blocks-count", "s_l counts L − 2 blocks instead of L matrices", SCALES, "depth)", "(depth - 2))", "MOD-1"),
    edit("blocks-no-root", "s_l is 1/(N·L): no root", SCALES, "math.sqrt(width * depth)", "(width * depth)", "MOD-1"),
    edit("output-root", "s_L is 1/√N instead of 1/N", SCALES, "1 / width\n", "1 / math.sqrt(width)\n", "MOD-2"),
    edit("output-depth", "s_L is 1/(N·√L)", SCALES, "1 / width\n", "1 / (width * math.sqrt(depth))\n", "MOD-2"),
    edit("input-activation", "the activation is applied to the input", INPUT, "(x @", "(phi(x) @", "MOD-1"),
    edit("no-skip", "the skip connections are missing", BLOCK, "z[layer - 1] +", "0 +", "MOD-1", "MOD-8"),
    edit("skip-activated", "the skip carries φ(z)", BLOCK, "z[layer - 1] +", "phi(z[layer - 1]) +", "MOD-1", "MOD-8"),
    edit("skip-averaged", "the skip is halved", BLOCK, "return z", "return 0.5 * z", "MOD-1", "MOD-8"),
    edit(
        "activation-after",
        "the activation comes after the matrix instead of before it",
        BLOCK,
        "(phi(z[layer - 1]) @ weights[layer].T)",
        "phi(z[layer - 1] @ weights[layer].T)",
        "MOD-1",
    ),
    edit("blocks-linear", "the blocks' activation is missing", BLOCK, "phi(z[layer - 1])", "z[layer - 1]", "MOD-1"),
    edit("blocks-transposed", "W instead of Wᵀ, which square blocks hide", BLOCK, ".T", "", "MOD-1"),
    edit("output-linear", "the readout sees z instead of φ(z)", OUTPUT, "phi(z[top])", "z[top]", "MOD-2"),
    edit("relu-kink-one", "relu'(0) is 1", RELU_SLOPE, "u > 0", "u >= 0", "MOD-5", corner=True),
    edit("relu-kink-half", "relu'(0) is ½", RELU_SLOPE, "(u > 0)", "np.heaviside(u, 0.5)", "MOD-5", corner=True),
    edit(
        "tanh-slope-of-state",
        "tanh' is 1 − z² instead of 1 − tanh²(z)",
        TANH_SLOPE,
        "np.tanh(u)",
        "u",
        "MOD-3",
        "ENE-3",
    ),
    edit(
        "slope-of-output",
        "φ' is taken at φ(z) instead of at z",
        TANH_SLOPE,
        "np.tanh(u)",
        "np.tanh(np.tanh(u))",
        "MOD-3",
    ),
    edit(
        "tanh-slope-of-relu",
        "tanh has relu's slope",
        TANH_SLOPE,
        "1 - np.tanh(u) ** 2",
        "1.0 * (u > 0)",
        "MOD-3",
        "ENE-3",
    ),
)

LOSS = (
    edit(
        "loss-class-mean",
        "the loss is averaged over the classes, as MSELoss does",
        FROM_LOSS,
        "-s_output",
        "-s_output / len(weights[-1])",
        "MOD-3",
        "DYN-4",
    ),
    edit("loss-factor-two", "the loss lacks its ½", FROM_LOSS, "-s_output", "-2 * s_output", "MOD-3", "DYN-4"),
    edit("loss-uphill", "the loss pushes z_{L-1} the wrong way", FROM_LOSS, "-s_output", "s_output", "MOD-3", "ENE-3"),
    edit("targets-negated", "out + y instead of out − y", OUTPUT, "- y", "+ y", "MOD-2"),
    edit("targets-only", "out is missing in out − y", OUTPUT, "s_output *", "0 *", "MOD-3", "ENE-3"),
    edit(
        "loss-slope-missing",
        "φ' is missing where the loss enters z_{L-1}",
        FROM_LOSS,
        " * slope(z[top])",
        "",
        "MOD-3",
        "ENE-3",
    ),
    edit(
        "loss-unscaled", "s_L is missing where the loss enters z_{L-1}", FROM_LOSS, "s_output * ", "", "MOD-3", "DYN-4"
    ),
    edit(
        "loss-block-scale",
        "s_l instead of s_L where the loss enters z_{L-1}",
        FROM_LOSS,
        "s_output",
        "s_block",
        "MOD-3",
        "DYN-4",
    ),
    edit(
        "one-output-broadcast",
        "one output's targets lose their axis and broadcast over the batch",
        OUTPUT,
        "- y",
        "- (y if y.shape[1] > 1 else y.mean())",
        "MOD-4",
        corner=True,
    ),
)

WEIGHT_GRADIENTS = (
    edit("gradients-summed", "the weight gradients are batch sums instead of means", SIZES, "len(x)", "1", "MOD-7"),
    edit(
        "gradients-unit-mean", "the weight gradients are divided by N instead of B", SIZES, "len(x)", "width", "MOD-7"
    ),
    edit("g-input-unscaled", "s_1 is missing in G_1", G_INPUT, "-s_input", "-1", "MOD-3", "ENE-5"),
    edit("g-input-sign", "G_1 has the wrong sign", G_INPUT, "-s_input", "s_input", "MOD-3", "ENE-5"),
    edit("g-input-activation", "G_1 has φ(x) instead of x", G_INPUT, "@ x", "@ phi(x)", "MOD-3", "ENE-5"),
    edit("g-block-unscaled", "s_l is missing in G_l", G_BLOCK, "s_block", "1", "MOD-3", "ENE-5"),
    edit("g-block-sign", "G_l has the wrong sign: q is taken for δ", G_BLOCK, "-s_block", "s_block", "MOD-3", "ENE-5"),
    edit(
        "g-block-linear",
        "G_l has z_{l-1} instead of φ(z_{l-1})",
        G_BLOCK,
        "phi(z[layer - 1])",
        "z[layer - 1]",
        "MOD-3",
        "ENE-5",
    ),
    edit("g-block-same-layer", "G_l has φ(z_l) instead of φ(z_{l-1})", G_BLOCK, "layer - 1", "layer", "MOD-3", "ENE-5"),
    edit("g-block-transposed", "G_l is transposed, which square blocks hide", G_BLOCK, "))", ")).T", "MOD-3", "ENE-5"),
    edit("g-output-unscaled", "s_L is missing in G_L", G_OUTPUT, "s_output", "1", "MOD-3", "ENE-5"),
    edit("g-output-sign", "G_L has the hidden layers' sign", G_OUTPUT, "s_output", "-s_output", "MOD-3", "ENE-5"),
    edit(
        "g-output-linear", "G_L has z_{L-1} instead of φ(z_{L-1})", G_OUTPUT, "phi(z[top])", "z[top]", "MOD-3", "ENE-5"
    ),
    edit("g-output-missing", "the readout has no gradient", G_OUTPUT, "s_output", "0", "MOD-3", "ENE-5"),
    edit(
        "g-without-multipliers",
        "the weight gradients use ρ c instead of ρ c + λ",
        CREDIT_AT_END,
        " + multipliers",
        "",
        "ENE-4",
        "ENE-5",
    ),
    edit(
        "g-without-residuals",
        "the weight gradients use λ instead of ρ c + λ",
        CREDIT_AT_END,
        "penalty * residuals(z) + ",
        "",
        "ENE-4",
        "ENE-5",
    ),
    edit(
        "g-without-penalty",
        "the weight gradients use c + λ instead of ρ c + λ",
        CREDIT_AT_END,
        "penalty * ",
        "",
        "ENE-4",
        "ENE-5",
    ),
    edit(
        "g-with-anchor",
        "the anchor's force enters the weight gradients",
        CREDIT_AT_END,
        "multipliers",
        "multipliers + anchor * (z - feedforward)",
        "ENE-4",
        corner=True,
    ),
    edit(
        "g-old-credit",
        "the weight gradients use the credit of before the last primal step",
        CREDIT_AT_END,
        "        q = penalty * residuals(z) + multipliers\n",
        "",
        "ENE-4",
        "DYN-4",
    ),
    edit(
        "g-old-states",
        "the weight gradients use the feed-forward instead of the final states",
        RESULT,
        "(q, z)",
        "(q, feedforward)",
        "ENE-4",
        "ENE-5",
    ),
)

PRIMAL_STEP = (
    edit(
        "slope-missing",
        "φ' is missing where the credit goes down",
        FROM_BLOCK,
        " * slope(z[layer])",
        "",
        "MOD-3",
        "ENE-3",
    ),
    edit(
        "slope-on-skip",
        "φ' multiplies the skip connection, too",
        FROM_BLOCK,
        "q[layer + 1] +",
        "q[layer + 1] * slope(z[layer]) +",
        "MOD-3",
        "ENE-3",
    ),
    edit(
        "slope-above",
        "φ' is taken at z_{l+1} instead of z_l",
        FROM_BLOCK,
        "slope(z[layer])",
        "slope(z[layer + 1])",
        "MOD-3",
        "ENE-3",
    ),
    edit(
        "slope-feedforward",
        "φ' is taken at the feed-forward states for ever",
        FROM_BLOCK,
        "slope(z[layer])",
        "slope(feedforward[layer])",
        "ENE-3",
    ),
    edit(
        "slope-before-matrix",
        "φ' multiplies q_{l+1} before the matrix instead of after it",
        FROM_BLOCK,
        "(q[layer + 1] @ weights[layer + 1]) * slope(z[layer])",
        "((q[layer + 1] * slope(z[layer])) @ weights[layer + 1])",
        "MOD-3",
        "ENE-3",
    ),
    edit(
        "credit-no-skip",
        "the credit does not go down the skip connections",
        FROM_BLOCK,
        "q[layer + 1] +",
        "0 +",
        "MOD-3",
        "ENE-3",
    ),
    edit(
        "credit-skip-only",
        "the credit goes down the skip connections only",
        FROM_BLOCK,
        "s_block *",
        "0 *",
        "MOD-3",
        "ENE-3",
    ),
    edit(
        "credit-unscaled",
        "s_{l+1} is missing where the credit goes down",
        FROM_BLOCK,
        "s_block * ",
        "",
        "MOD-3",
        "ENE-3",
    ),
    edit(
        "credit-sign",
        "the credit through the blocks has the wrong sign",
        FROM_BLOCK,
        "+ s_block",
        "- s_block",
        "MOD-3",
        "ENE-3",
    ),
    edit(
        "credit-transposed",
        "Wᵀ instead of W where the credit goes down, which square blocks hide",
        FROM_BLOCK,
        "weights[layer + 1]",
        "weights[layer + 1].T",
        "MOD-3",
        "ENE-3",
    ),
    edit(
        "credit-same-weights",
        "W_l instead of W_{l+1} where the credit goes down, which square blocks hide",
        FROM_BLOCK,
        "weights[layer + 1]",
        "weights[max(layer, 1)]",
        "MOD-3",
        "ENE-3",
    ),
    edit(
        "credit-uphill",
        "what comes from above has the wrong sign in the primal step",
        FORCE,
        "- from_above",
        "+ from_above",
        "ENE-3",
        "DYN-4",
    ),
    edit(
        "own-credit-missing", "the primal step lacks the layer's own q_l", FORCE, "q[layer] - ", "-", "ENE-3", "LIN-1"
    ),
    edit(
        "own-credit-missing-top",
        "the primal step of z_{L-1} lacks its own q",
        FORCE,
        "q[layer] -",
        "q[layer] * (layer < top) -",
        "ENE-3",
        "DYN-5",
    ),
    edit("penalty-ignored", "ρ is ignored in the primal step", CREDIT_IN_STEP, "penalty * ", "", "ENE-1", "SPC-4"),
    edit(
        "penalty-doubled",
        "(ρ/2)‖c‖² is written as ρ‖c‖² in the primal step",
        CREDIT_IN_STEP,
        "penalty",
        "2 * penalty",
        "ENE-3",
        "SPC-4",
    ),
    edit(
        "multipliers-ignored",
        "λ is missing in the primal step: PC in disguise",
        CREDIT_IN_STEP,
        " + multipliers",
        "",
        "ENE-3",
        "LIN-1",
    ),
    edit(
        "multipliers-sign",
        "λ has the wrong sign in the primal step",
        CREDIT_IN_STEP,
        "+ multipliers",
        "- multipliers",
        "ENE-3",
        "LIN-1",
    ),
    edit(
        "multipliers-scaled",
        "ρ(c + λ) instead of ρ c + λ in the primal step",
        CREDIT_IN_STEP,
        "+ multipliers",
        "+ penalty * multipliers",
        "ENE-3",
        "SPC-1",
        corner=True,
    ),
    edit(
        "step-batch-mean",
        "the primal step descends the batch mean of the energy",
        PRIMAL,
        "gradient\n",
        "gradient / batch\n",
        "MOD-7",
        "DYN-4",
    ),
    edit("step-squared", "η is applied twice", PRIMAL, "step_size", "step_size * step_size", "ENE-3", "DYN-4"),
    edit("step-uphill", "the primal step goes up the energy", PRIMAL, "z - step", "z + step", "ENE-3", "ENE-7"),
    edit("step-fixed", "η is a constant of the port", PRIMAL, "step_size", "0.15", "SPC-1", "SPC-3"),
    edit(
        "step-capped",
        "η is held below 0.3, for safety",
        PRIMAL,
        "step_size",
        "min(step_size, 0.3)",
        "SPC-3",
        corner=True,
    ),
    edit(
        "step-later-smaller",
        "only the first step of a run has the full η",
        PRIMAL,
        "step_size",
        "step_size / min(t, 2)",
        "DYN-5",
        "DYN-7",
    ),
    edit(
        "bottom-frozen",
        "z_1 never moves: the loop starts one layer too high",
        LAYERS,
        "hidden",
        "blocks",
        "ENE-3",
        "LIN-3",
        corner=True,
    ),
)

ORDER = (
    edit(
        "gauss-seidel-up",
        "layers move one after another from below, each seeing the new ones (Gauss-Seidel)",
        FORCE,
        "\n",
        "; z = np.array(z); z[layer] -= step_size * gradient[layer]; gradient[layer] = 0; " + ANEW + "\n",
        "ENE-3",
        "SPC-1",
    ),
    edit(
        "gauss-seidel-down",
        "layers move one after another from above, each seeing the new ones (Gauss-Seidel)",
        FORCE,
        "gradient[layer] += q[layer] - from_above(q, z, layer)",
        "i = top - layer; gradient[i] += q[i] - from_above(q, z, i)"
        "; z = np.array(z); z[i] -= step_size * gradient[i]; gradient[i] = 0; " + ANEW,
        "CRD-1",
    ),
    edit(
        "dual-at-old-state",
        "the dual step uses the residual of before the primal step",
        DUAL,
        "residuals(z)",
        "(q - multipliers) / penalty",
        "DYN-9",
        "SPC-1",
    ),
    edit(
        "dual-first",
        "each round starts with the dual step instead of ending with it",
        INNER,
        "            for",
        "            multipliers = multipliers + dual_step * residuals(z)\n            for",
        "DYN-9",
    ),
    edit(
        "dual-every-inner-step",
        "a dual step follows every inner primal step",
        PRIMAL,
        "\n",
        "; multipliers = multipliers + dual_step * residuals(z) * (_ < inner_steps - 1)\n",
        "DYN-2",
        corner=True,
    ),
    edit(
        "last-dual-always",
        'the last dual step is taken with credit="before", too',
        LAST_DUAL,
        't < problem.steps or credit == "after"',
        "True",
        "DYN-6",
        "DYN-4",
    ),
    edit("last-dual-never", 'credit="after" is ignored', LAST_DUAL, ' or credit == "after"', "", "DYN-6", "DYN-9"),
    edit(
        "last-dual-swapped", 'credit "before" and "after" are swapped', LAST_DUAL, "after", "before", "DYN-6", "DYN-4"
    ),
    edit(
        "first-dual-left-out",
        "the first instead of the last dual step is left out",
        LAST_DUAL,
        "t < problem.steps",
        "t > 1",
        "DYN-5",
    ),
    edit("two-duals-left-out", "the last two dual steps are left out", LAST_DUAL, "t <", "t + 1 <", "DYN-5"),
    edit(
        "dual-every-second",
        "the dual step is taken every second round",
        DUAL,
        "dual_step *",
        "dual_step * (t % 2) *",
        "DYN-7",
    ),
    edit("one-step-short", "T − 1 rounds", ROUNDS, "1, problem.steps + 1", "2, problem.steps + 1", "DYN-4"),
    edit("one-step-more", "T + 1 rounds", ROUNDS, "1, problem", "problem", "CRD-1", "DYN-4"),
    edit("steps-doubled", "2T rounds: more than was asked for", ROUNDS, "(1,", "(1 - problem.steps,", "CRD-1", "DYN-4"),
)

SETTINGS_MISREAD = (
    edit("dual-step-ignored", "α is ignored", DUAL, "dual_step * ", "", "DYN-3", "DYN-9"),
    edit(
        "dual-step-sign", "the dual step goes down instead of up", DUAL, "+ dual_step", "- dual_step", "DYN-9", "LIN-3"
    ),
    edit("dual-step-halved", "the dual step is α c/2", DUAL, "dual_step", "dual_step / 2", "DYN-9", "SPC-5"),
    edit("dual-step-penalty-too", "the dual step is α ρ c", DUAL, "dual_step", "dual_step * penalty", "SPC-1", "SPC-5"),
    edit(
        "dual-step-not-top",
        "λ_{L-1} is never updated",
        DUAL,
        "residuals(z)",
        "residuals(z) * (np.arange(depth - 1) < top)[:, None, None]",
        "DYN-9",
        "DYN-5",
    ),
    edit(
        "dual-step-not-bottom",
        "λ_1 is never updated",
        DUAL,
        "residuals(z)",
        "residuals(z) * (np.arange(depth - 1) > 0)[:, None, None]",
        "DYN-9",
        "LIN-4",
    ),
    edit(
        "bp-penalty", "BP's credit is multiplied by ρ", BP_RESULT, "(q,", "(problem.penalty * q,", "MOD-2", corner=True
    ),
    edit("dual-step-eta-too", "the dual step is η α c", DUAL, "dual_step", "dual_step * step_size", "DYN-9"),
    edit(
        "dual-step-feedforward",
        "the dual step follows z − z^ff instead of the residual",
        DUAL,
        "residuals(z)",
        "(z - feedforward)",
        "DYN-9",
    ),
    edit(
        "dual-step-capped",
        "α is held below 2, for stability",
        DUAL,
        "dual_step",
        "min(dual_step, 2.0)",
        "SPC-5",
        corner=True,
    ),
    edit(
        "penalty-capped",
        "ρ above 1 is taken for 1",
        CREDIT_IN_STEP,
        "penalty",
        "min(penalty, 1.0)",
        "ENE-2",
        corner=True,
    ),
    edit(
        "inner-steps-ignored",
        "one primal step per dual step, whatever inner_steps says",
        SETTINGS,
        "problem.inner_steps",
        "1",
        "DYN-8",
        corner=True,
    ),
    edit(
        "inner-steps-short",
        "the last of several inner steps is left out",
        INNER,
        "inner_steps",
        "max(inner_steps - 1, 1)",
        "DYN-8",
        corner=True,
    ),
    edit(
        "inner-credit-stale",
        "q is computed once per round instead of once per inner step",
        CREDIT_IN_STEP,
        "multipliers",
        "multipliers if _ == 0 else q",
        "DYN-8",
        corner=True,
    ),
    edit(
        "inner-anchor-once",
        "only the first inner step is anchored",
        ANCHOR,
        "anchor",
        "anchor * (_ == 0)",
        "DYN-2",
        corner=True,
    ),
    edit("anchor-ignored", "κ is ignored", ANCHOR, "anchor", "0", "ENE-6"),
    edit("anchor-sign", "the anchor pushes away from the feed-forward state", ANCHOR, "anchor", "-anchor", "ENE-6"),
    edit("anchor-doubled", "κ‖z − z^ff‖² instead of half of it", ANCHOR, "anchor", "2 * anchor", "ENE-6"),
    edit(
        "anchor-initial",
        "the anchor is the initial instead of the feed-forward state",
        INITIAL,
        "",
        "            feedforward = z\n",
        "ENE-6",
        corner=True,
    ),
    edit(
        "anchor-zero",
        "the anchor is zero: weight decay on the activities",
        ANCHOR,
        "(z - feedforward)",
        "z",
        "ENE-6",
        "CRD-3",
    ),
    edit(
        "anchor-previous",
        "the anchor is the state before the step, where its force is nothing",
        ANCHOR,
        "feedforward",
        "z",
        "ENE-6",
    ),
    edit(
        "anchor-residual",
        "the anchor is the prediction from the layer below",
        ANCHOR,
        "(z - feedforward)",
        "residuals(z)",
        "ENE-6",
    ),
    edit(
        "anchor-top-only",
        "only the last hidden layer is anchored",
        FORCE,
        "+= q[layer]",
        "= gradient[layer] * (layer == top) + q[layer]",
        "ENE-6",
    ),
    edit(
        "anchor-not-top",
        "the last hidden layer is not anchored",
        FORCE,
        "+= q[layer]",
        "= gradient[layer] * (layer < top) + q[layer]",
        "ENE-6",
    ),
    edit(
        "anchor-in-dual",
        "the dual step has the anchor's force, too",
        DUAL,
        "residuals(z)",
        "(residuals(z) + anchor * (z - feedforward))",
        "DYN-2",
        corner=True,
    ),
    edit(
        "initial-ignored", "`initial` is ignored", INITIAL, "z, multipliers = problem.initial", "pass", "ENE-1", "LIN-1"
    ),
    edit(
        "initial-multipliers-ignored",
        "the initial multipliers are ignored",
        INITIAL,
        "z, multipliers = problem.initial",
        "z = problem.initial[0]",
        "DYN-7",
        "DYN-9",
    ),
    edit(
        "initial-activities-ignored",
        "the initial activities are ignored",
        INITIAL,
        "z, multipliers = problem.initial",
        "multipliers = problem.initial[1]",
        "DYN-7",
        "ENE-1",
    ),
    edit(
        "start-zero",
        "z starts at zero instead of at the feed-forward states",
        START,
        "feedforward",
        "0 * feedforward",
        "DYN-4",
        "CRD-1",
    ),
    edit(
        "no-dual-no-multipliers",
        "α = 0 is taken for PC, and the initial multipliers are dropped",
        CREDIT_IN_STEP,
        "+ multipliers",
        "+ multipliers * (dual_step > 0)",
        "DYN-10",
        corner=True,
    ),
)

ALTERED = (
    edit(
        "multipliers-clipped",
        "the multipliers are clipped to ±5",
        DUAL,
        "multipliers = multipliers + dual_step * residuals(z)",
        "multipliers = np.clip(multipliers + dual_step * residuals(z), -5, 5)",
        "NUM-5",
        corner=True,
    ),
    edit(
        "activities-clipped",
        "the activities are clipped to ±10",
        PRIMAL,
        "z = z - step_size * gradient",
        "z = np.clip(z - step_size * gradient, -10, 10)",
        "NUM-5",
        corner=True,
    ),
    edit(
        "force-clipped",
        "the energy's gradient is clipped to norm 100",
        PRIMAL,
        "gradient\n",
        "gradient * min(1, 100 / (1e-30 + np.linalg.norm(gradient)))\n",
        "NUM-5",
        corner=True,
    ),
    edit(
        "force-normalised",
        "the energy's gradient is normalised",
        PRIMAL,
        "gradient\n",
        "gradient / (1e-30 + np.linalg.norm(gradient))\n",
        "NUM-5",
        "DYN-4",
    ),
    edit(
        "g-clipped",
        "the weight gradients are clipped to ±1",
        RESULT,
        "weight_gradients(q, z)",
        "[np.clip(g, -1, 1) for g in weight_gradients(q, z)]",
        "NUM-5",
        corner=True,
    ),
    edit(
        "early-stop",
        "the state rests once it moves by less than 1e-6",
        PRIMAL,
        "gradient\n",
        "gradient * (np.abs(gradient).max() > 1e-6)\n",
        "LIN-5",
        corner=True,
    ),
    edit(
        "hundred-rounds",
        "at most 100 rounds, a default of the port's",
        ROUNDS,
        "(1,",
        "(max(1, problem.steps - 99),",
        "NUM-8",
        corner=True,
    ),
    edit(
        "late-step-halved",
        "η is halved after 100 rounds",
        PRIMAL,
        "gradient\n",
        "gradient / (1 + (t > 100))\n",
        "NUM-8",
        corner=True,
    ),
    edit(
        "multipliers-decay",
        "the multipliers decay by 1e-6 a round",
        DUAL,
        "multipliers + ",
        "(1 - 1e-6) * multipliers + ",
        "DYN-9",
        "LIN-1",
        corner=True,
    ),
    edit(
        "tanh-saturates",
        "tanh' is cut off where |z| > 3",
        TANH_SLOPE,
        "1 - np.tanh(u) ** 2",
        "(np.abs(u) < 3) * (1 - np.tanh(u) ** 2)",
        "ENE-2",
        corner=True,
    ),
    edit(
        "units-sorted",
        "the readout sees the units in another order",
        OUTPUT,
        "phi(z[top])",
        "np.sort(phi(z[top]))",
        "MOD-2",
        "MOD-6",
    ),
    edit(
        "batch-centred",
        "the residuals are centred over the batch",
        RESIDUALS,
        "for layer in hidden])",
        "for layer in hidden]) - z.mean(axis=1, keepdims=True) * 1e-3",
        "NUM-1",
    ),
    edit(
        "neighbour-leaks",
        "a thousandth of a millionth of the last sample's force reaches the first sample",
        PRIMAL,
        "gradient\n",
        "(gradient + 1e-9 * np.roll(gradient, 1, axis=1) * (np.arange(batch)[:, None] == 0))\n",
        "NUM-1",
        corner=True,
    ),
)

PRECISION = (
    edit(
        "float32-product",
        "the blocks' products are computed in float32, whatever the dtype",
        BLOCK,
        "(phi(z[layer - 1]) @ weights[layer].T)",
        "(phi(z[layer - 1]).astype('f4') @ weights[layer].T.astype('f4')).astype(x.dtype)",
        "MOD-1",
    ),
    edit(
        "float32-multipliers",
        "the multipliers are kept in float32, whatever the dtype",
        DUAL,
        "residuals(z)",
        "residuals(z).astype('f4').astype(x.dtype)",
        "DYN-9",
    ),
    edit(
        "float32-gradients",
        "the weight gradients are reduced in float32, whatever the dtype",
        RESULT,
        "weight_gradients(q, z)",
        "[g.astype('f4').astype(x.dtype) for g in weight_gradients(q, z)]",
        "ENE-4",
    ),
    edit(
        "float32-scale",
        "the scales are float32 numbers, whatever the dtype",
        SCALES,
        "1 / math.sqrt(width * depth)",
        "float(np.float32(1 / math.sqrt(width * depth)))",
        "MOD-1",
    ),
    edit(
        "float16-product",
        "float32 products are computed in float16",
        BLOCK,
        "phi(z[layer - 1])",
        "phi(z[layer - 1]).astype('f2' if x.dtype == 'f4' else 'f8').astype(x.dtype)",
        "NUM-4",
        corner=True,
    ),
    edit(
        "tf32-product",
        "float32 products have TF32's ten bits",
        BLOCK,
        "phi(z[layer - 1])",
        "truncated(phi(z[layer - 1]), 10)",
        "NUM-4",
        corner=True,
    ),
    edit(
        "bfloat16-multipliers",
        "the multipliers of a float32 run are kept in bfloat16",
        DUAL,
        "multipliers = multipliers + dual_step * residuals(z)",
        "multipliers = truncated(multipliers + dual_step * residuals(z), 7)",
        "NUM-4",
        corner=True,
    ),
    edit(
        "tf32-weight-gradients",
        "float32 weight gradients are computed in TF32",
        G_BLOCK,
        "q[layer].T",
        "truncated(q[layer], 10).T",
        "NUM-4",
        corner=True,
    ),
    edit(
        "float32-answer",
        "the answer is float32, whatever the dtype",
        RESULT,
        "z, multipliers,",
        "z.astype('f4'), multipliers.astype('f4'),",
        "DYN-1",
    ),
    edit(
        "float64-answer",
        "the answer to a float32 problem is float64",
        RESULT,
        "z, multipliers,",
        "z.astype('f8'), multipliers.astype('f8'),",
        "NUM-4",
        corner=True,
    ),
)

STATE = (
    edit(
        "feedforward-kept",
        "the feed-forward states are cached by shape",
        NO_MULTIPLIERS,
        "",
        "        feedforward = memory.setdefault((feedforward.shape, problem.dtype), feedforward)\n",
        "MOD-3",
        corner=True,
    ),
    edit(
        "weights-kept",
        "the weights of the first call with a shape are used for ever",
        ARGUMENTS,
        "",
        "        weights = memory.setdefault(str([w.shape for w in weights]) + problem.dtype, weights)\n",
        "MOD-3",
        corner=True,
    ),
    edit(
        "targets-kept",
        "the targets of the first call with a shape are used for ever",
        ARGUMENTS,
        "",
        "        y = memory.setdefault((y.shape, problem.dtype), y)\n",
        "NUM-5",
        corner=True,
    ),
    edit(
        "step-size-kept",
        "the η of the first call is compiled in",
        PRIMAL,
        "step_size",
        "memory.setdefault('η', step_size)",
        "SPC-3",
        corner=True,
    ),
    edit(
        "activation-kept",
        "the activation of the first call is compiled in",
        ARGUMENTS,
        "",
        "        object.__setattr__(problem, 'activation', memory.setdefault('φ', problem.activation))\n",
        "MOD-1",
        corner=True,
    ),
    edit(
        "noise",
        "the start gets noise of 1e-6, to break symmetries",
        START,
        "feedforward",
        "feedforward + 1e-6 * np.random.default_rng().standard_normal(feedforward.shape).astype(x.dtype)",
        "NUM-2",
        "CRD-1",
    ),
    edit(
        "inputs-modified",
        "the inputs are rounded in place",
        ARGUMENTS,
        "",
        "        np.multiply(x, 1 + 1e-12, out=x)\n",
        "NUM-3",
    ),
    edit(
        "initial-modified",
        "the steps are taken in the caller's initial state",
        PRIMAL,
        "z = z - step_size * gradient",
        "z -= step_size * gradient",
        "NUM-3",
        corner=True,
    ),
)

# The places of the tiles.
SCALES_T = "s_input, s_block, s_output = 1 / math.sqrt(inputs), 1 / math.sqrt(width * depth), 1 / width\n"
KEY = "key = (depth, padded, problem.dtype)"
BLOCKS = "        weights[:, :width, :width] = s_block * np.stack(problem.weights[1:-1])\n"
ANSWER = "activities = np.zeros((depth - 1, batch, width), dtype)"
GRADIENTS = "gradients = [np.zeros_like(weight) for weight in problem.weights]"
TILE_RANGE = "for first in range(0, batch, TILE):"
TILE_SLICE = "tile = slice(first, min(first + TILE, batch))"
TILE_G_INPUT = "gradients[0] -= s_input / batch * (run.q[0, :, :width].T @ problem.inputs[tile])"
TILE_G_BLOCK = "gradients[layer] -= s_block / batch * product"
TILE_G_OUTPUT = "gradients[-1] += s_output / batch * (run.error.T @ run.active[-1, :, :width])"
TILE_TARGETS = "self.targets = problem.targets[tile]"
TILE_FIRST = "self.first[:, :width] = problem.inputs[tile] @ problem.weights[0].T / math.sqrt(inputs)"
TILE_START = "self.z[:], self.multipliers[:] = self.start, 0"
TILE_INITIAL_Z = "self.z[:, :, :width] = problem.initial[0][:, tile]"
TILE_INITIAL_M = "self.multipliers[:, :, :width] = problem.initial[1][:, tile]"
TILE_UP = (
    "self.q[0] = penalty * (self.z[0] - self.first) + self.multipliers[0]\n"
    "        for layer, weight in enumerate(self.weights, 1)"
)
TILE_MOVE = "self.z[layer] -= problem.step_size * force"
TILE_RESIDUAL = "            self.evaluate(1.0)\n"
TILE_END = (
    "                self.multipliers += dual_step * (self.q - self.multipliers)\n"
    "        self.evaluate(problem.penalty)"
)

SIZES_AND_BUFFERS = (
    tiles(
        "tile-last-dropped",
        "samples after the last whole tile are left out",
        TILE_RANGE,
        "range(0, batch, TILE)",
        "range(0, max(batch - TILE + 1, 1), TILE)",
        "NUM-6",
    ),
    tiles(
        "tile-last-overlaps",
        "the last tile is moved back to be whole, and its overlap counts twice in the gradients",
        TILE_SLICE,
        "first,",
        "max(0, min(first, batch - TILE)),",
        "NUM-6",
    ),
    tiles(
        "tile-mean-of-means",
        "G_l is the mean of the tiles' means, which a smaller last tile tilts",
        TILE_G_BLOCK,
        "batch",
        "(len(run.targets) * -(-batch // TILE))",
        "NUM-6",
    ),
    tiles(
        "tile-last-gradient",
        "G_1 is the last tile's only",
        TILE_G_INPUT,
        "gradients[0] -=",
        "gradients[0] = -",
        "NUM-6",
    ),
    tiles(
        "tile-first-initial",
        "every tile starts at the first tile's initial state",
        TILE_INITIAL_Z,
        "tile]",
        ": len(self.targets)]",
        "NUM-1",
    ),
    tiles(
        "tile-first-multipliers",
        "every tile starts at the first tile's initial multipliers",
        TILE_INITIAL_M,
        "tile]",
        ": len(self.targets)]",
        "NUM-1",
    ),
    tiles(
        "tile-first-targets",
        "every tile sees the first tile's targets",
        TILE_TARGETS,
        "[tile]",
        "[: tile.stop - tile.start]",
        "NUM-6",
        "NUM-1",
    ),
    tiles(
        "tile-first-inputs",
        "G_1 has the first tile's inputs for every tile",
        TILE_G_INPUT,
        "inputs[tile]",
        "inputs[: len(run.targets)]",
        "NUM-6",
    ),
    tiles("tile-limit", "at most 16 tiles are started", TILE_RANGE, "batch,", "min(batch, 256),", "NUM-7"),
    tiles("vector-tail-scale", "s_l is made of the padded width", SCALES_T, "width * depth", "padded * depth", "NUM-6"),
    tiles("vector-tail-output-scale", "s_L is made of the padded width", SCALES_T, "1 / width", "1 / padded", "NUM-6"),
    tiles(
        "vector-tail-dropped",
        "units after the last whole vector of a wide layer send nothing up",
        BLOCKS,
        "",
        "        weights[:, :, max(VECTOR, width // VECTOR * VECTOR) :] = 0\n",
        "NUM-6",
    ),
    tiles(
        "vector-tail-rows",
        "units after the last whole vector of a wide layer receive nothing from below",
        BLOCKS,
        "",
        "        weights[:, max(VECTOR, width // VECTOR * VECTOR) :] = 0\n",
        "NUM-6",
    ),
    tiles(
        "vector-tail-gradient",
        "G_l's rows after the last whole vector of a wide layer stay zero",
        TILE_G_BLOCK,
        "product",
        "product * (np.arange(width) < max(VECTOR, width // VECTOR * VECTOR))[:, None]",
        "NUM-6",
    ),
    tiles(
        "width-limit",
        "units beyond the 64th do not fit the kernel's buffer",
        BLOCKS,
        "",
        "        weights[:, :, 64:] = 0\n",
        "NUM-6",
    ),
    tiles(
        "depth-limit",
        "layers beyond the 127th are not updated: a signed byte counts them",
        TILE_UP,
        "self.weights, 1)",
        "self.weights[:126], 1)",
        "NUM-7",
    ),
    tiles(
        "buffers-without-dtype",
        "buffers are cached by shape without the dtype: float64 in what a float32 call left",
        KEY,
        "problem.dtype",
        "0",
        "NUM-9",
    ),
    tiles(
        "multipliers-kept",
        "the multipliers of the last call or tile are the next one's start",
        TILE_START,
        "self.z[:], self.multipliers[:] = self.start, 0",
        "self.z[:] = self.start",
        "NUM-2",
    ),
    tiles(
        "g-accumulated",
        "gradient buffers are not cleared between calls (zero_grad forgotten)",
        GRADIENTS,
        "[np.zeros_like(weight) for weight in problem.weights]",
        "memory.setdefault((depth, width, problem.dtype), [np.zeros_like(weight) for weight in problem.weights])",
        "NUM-2",
    ),
    tiles(
        "answer-reused",
        "the answer is a buffer that the next call overwrites",
        ANSWER,
        "np.zeros((depth - 1, batch, width), dtype)",
        "memory.setdefault((depth, batch, width, dtype), np.zeros((depth - 1, batch, width), dtype))",
        "NUM-3",
    ),
    tiles(
        "tile-dual-stale",
        "the dual step uses what the last primal step left in the buffer",
        TILE_RESIDUAL,
        "self.evaluate(1.0)",
        "pass",
        "DYN-9",
    ),
    tiles(
        "tile-credit-stale",
        "the weight gradients use what the last dual step left in the buffer",
        TILE_END,
        "        self.evaluate(problem.penalty)",
        "",
        "ENE-4",
    ),
)

UNNOTICED = (
    edit(
        "large-path",
        "where N ≥ 32 and B ≥ 64 a faster path takes over, whose η is a thousandth too small",
        PRIMAL,
        "step_size",
        "step_size * (1 - 1e-3 * (width >= 32 and batch >= 64))",
        "NUM-10",
        corner=True,
    ),
    edit(
        "large-path-order",
        "where N ≥ 32 and B ≥ 64 a faster path takes over, which takes the dual step at the old state",
        DUAL,
        "residuals(z)",
        "((q - multipliers) / penalty if width >= 32 and batch >= 64 else residuals(z))",
        "NUM-10",
        corner=True,
    ),
    edit(
        "many-inputs",
        "inputs after the 256th are left out of the feed-forward pass",
        INPUT,
        "(x @ weights[0].T)",
        "(x[:, :256] @ weights[0][:, :256].T)",
        "NUM-10",
        corner=True,
    ),
    edit(
        "many-classes",
        "outputs after the 16th are left out",
        OUTPUT,
        "(phi(z[top]) @ weights[-1].T)",
        "(phi(z[top]) @ weights[-1].T) * (np.arange(len(weights[-1])) < 16)",
        "NUM-10",
        corner=True,
    ),
    edit(
        "tf32-wide",
        "float32 products have TF32's ten bits in layers of 64 units or more",
        BLOCK,
        "phi(z[layer - 1])",
        "truncated(phi(z[layer - 1]), 10 if width >= 64 else 23)",
        "NUM-6",
        corner=True,
    ),
    edit(
        "bp-large-batch",
        "BP's gradients of a large batch are those of its first 512 samples",
        BP_RESULT,
        "weight_gradients(q, feedforward)",
        "weight_gradients(q * (np.arange(batch) < 512)[:, None], feedforward)",
        "NUM-7",
        corner=True,
    ),
    edit(
        "pc-wide",
        "PC's readout leaves out the units after the last whole vector of a wide layer",
        SETTINGS,
        "",
        "        keep = width // 8 * 8 if problem.method == 'pc' and width > 8 else None"
        "; weights = [*weights[:-1], weights[-1] * (np.arange(width) < (keep or width))]\n",
        "NUM-6",
        corner=True,
    ),
    tiles(
        "vector-tail-anchor",
        "units after the last whole vector of a wide layer are not anchored",
        "anchor * (self.z[layer] - self.start[layer])",
        "anchor *",
        "anchor * (np.arange(self.z.shape[2]) < max(VECTOR, len(self.problem.weights[0]) // VECTOR * VECTOR)) *",
        "NUM-6",
    ),
    tiles(
        "vector-tail-initial",
        "units after the last whole vector of a wide layer start at the feed-forward state",
        TILE_INITIAL_Z,
        "self.z[:, :, :width] = problem.initial[0][:, tile]",
        "w = max(width % VECTOR, width // VECTOR * VECTOR); self.z[:, :, :w] = problem.initial[0][:, tile, :w]",
        "NUM-6",
    ),
)

SELF_BP = "self.solve(__import__('dataclasses').replace(problem, method='bp')).gradients"
CHEATS = (
    edit(
        "bp-for-everything",
        "BP's answer whatever the method",
        IS_BP,
        'problem.method == "bp"',
        "True",
        "DYN-4",
        "CRD-2",
        "TRN-2",
        "TRN-3",
    ),
    edit(
        "bp-gradients",
        "BP's gradients in PC-ALM's name, beside PC-ALM's state",
        RESULT,
        "weight_gradients(q, z)",
        SELF_BP,
        "ENE-4",
        "LIN-7",
    ),
    edit(
        "bp-norms",
        "PC-ALM's gradients rescaled to BP's norms",
        RESULT,
        "weight_gradients(q, z)",
        f"[g * np.linalg.norm(b) / (1e-30 + np.linalg.norm(g)) for g, b in zip(weight_gradients(q, z), {SELF_BP})]",
        "ENE-4",
    ),
    edit(
        "bp-blend",
        "PC-ALM's gradients with a little of BP's",
        RESULT,
        "weight_gradients(q, z)",
        f"[0.99 * g + 0.01 * b for g, b in zip(weight_gradients(q, z), {SELF_BP})]",
        "ENE-4",
    ),
    edit(
        "pc-in-disguise",
        "PC in PC-ALM's name",
        SETTINGS,
        "",
        "        dual_step = 0.0\n",
        "DYN-9",
        "LIN-3",
        "ALN-2",
        "CRD-4",
    ),
    edit(
        "feedforward-returned",
        "the feed-forward states are returned as the activities",
        RESULT,
        "Solution(z,",
        "Solution(feedforward,",
        "ENE-4",
        "CRD-2",
    ),
    edit(
        "bp-uphill",
        "BP's gradients point uphill",
        BP_RESULT,
        "weight_gradients(q, feedforward)",
        "[-g for g in weight_gradients(q, feedforward)]",
        "MOD-3",
        "TRN-1",
    ),
)

WITHOUT_LOOKING = (
    blind(
        "inference-momentum",
        "the activities move with momentum ½, as the port's optimiser does",
        PRIMAL,
        "z = z - step_size * gradient",
        "memory[0] = gradient + (0.5 * memory[0] if t > 1 else 0); z = z - step_size * memory[0]",
        "DYN-5",
        "DYN-7",
    ),
    blind(
        "inference-adam",
        "the activities move by η in the sign of the gradient, as Adam's first step does",
        PRIMAL,
        "gradient\n",
        "gradient / (np.abs(gradient) + 1e-8)\n",
        "DYN-4",
        "ENE-3",
    ),
    blind(
        "softmax-output",
        "a softmax stands before the squared error",
        OUTPUT,
        "return s_output * (phi(z[top]) @ weights[-1].T) - y",
        "return (lambda e: e / e.sum(1, keepdims=True))(np.exp(s_output * (phi(z[top]) @ weights[-1].T))) - y",
        "MOD-2",
    ),
    blind(
        "targets-as-labels",
        "targets are turned into labels and back into one-hot",
        ARGUMENTS,
        "",
        "        y = np.eye(y.shape[1], dtype=y.dtype)[y.argmax(1)]\n",
        "MOD-2",
    ),
    blind("leaky-relu", "relu leaks with slope 0.01", RELU, "np.maximum(u, 0)", "np.maximum(u, 0.01 * u)", "MOD-1"),
    blind(
        "float32-tanh",
        "tanh is computed in float32, whatever the dtype",
        TANH,
        "np.tanh(u)",
        "np.tanh(u.astype('f4')).astype(u.dtype)",
        "MOD-1",
        corner=True,
    ),
    blind(
        "fast-tanh",
        "tanh is a rational approximation",
        TANH,
        "np.tanh(u)",
        "np.clip(u * (27 + u * u) / (27 + 9 * u * u), -1, 1)",
        "MOD-1",
    ),
    blind(
        "inputs-centred", "the inputs are centred over the batch", ARGUMENTS, "", "        x = x - x.mean(0)\n", "NUM-1"
    ),
    blind(
        "step-decays",
        "η falls as 1/√t over the budget",
        PRIMAL,
        "step_size",
        "step_size / math.sqrt(t)",
        "DYN-5",
        "DYN-7",
    ),
    blind(
        "dual-step-is-penalty",
        "the dual step is the textbook's ρ, and α is ignored",
        DUAL,
        "dual_step",
        "(dual_step and penalty)",
        "DYN-9",
        "SPC-5",
        corner=True,
    ),
    blind(
        "g-previous-states",
        "the weight gradients use φ of the states before the last primal step",
        RESULT,
        "(q, z)",
        "(q, z + step_size * gradient)",
        "ENE-4",
    ),
    blind(
        "budget-counts-primal-steps",
        "the budget counts primal steps: T // inner_steps rounds",
        ROUNDS,
        "problem.steps",
        "problem.steps // inner_steps",
        "DYN-8",
        corner=True,
    ),
    blind(
        "huber-loss",
        "the output's error is clipped to ±1, as Huber's loss does",
        OUTPUT,
        "return s_output * (phi(z[top]) @ weights[-1].T) - y",
        "return np.clip(s_output * (phi(z[top]) @ weights[-1].T) - y, -1, 1)",
        "MOD-2",
    ),
    blind(
        "loss-times-penalty",
        "ρ multiplies the loss, too",
        FROM_LOSS,
        "-s_output",
        "-problem.penalty * s_output",
        "ENE-3",
        "DYN-4",
    ),
    blind(
        "input-square-transposed",
        "W_1 is used transposed where D = N hides it",
        INPUT,
        "weights[0].T",
        "(weights[0] if inputs == width else weights[0].T)",
        "MOD-4",
        corner=True,
    ),
    blind(
        "output-square-transposed",
        "W_L is used transposed where C = N hides it",
        OUTPUT,
        "weights[-1].T",
        "(weights[-1] if len(weights[-1]) == width else weights[-1].T)",
        "MOD-2",
        corner=True,
    ),
    blind(
        "input-square-skip",
        "the first layer, too, has a skip connection where D = N lets it",
        INPUT,
        "@ weights[0].T)",
        "@ weights[0].T) + (x if inputs == width else 0)",
        "MOD-4",
        corner=True,
    ),
    blind(
        "output-square-skip",
        "the output, too, has a skip connection where C = N lets it",
        OUTPUT,
        "- y",
        "- y + (z[top] if y.shape[1] == width else 0)",
        "MOD-4",
        corner=True,
    ),
    blind(
        "one-sample-squeezed",
        "a batch of one loses its axis and with it its dual steps",
        DUAL,
        "residuals(z)",
        "residuals(z) * (batch > 1)",
        "MOD-4",
        "NUM-1",
        corner=True,
    ),
    blind(
        "activities-decay", "the activities have weight decay of 1e-4", ANCHOR, "\n", " + 1e-4 * z\n", "LIN-1", "CRD-1"
    ),
)

GROUPS = {
    "model": MODEL,
    "loss": LOSS,
    "weight gradients": WEIGHT_GRADIENTS,
    "primal step": PRIMAL_STEP,
    "order and timing": ORDER,
    "settings misread": SETTINGS_MISREAD,
    "iteration altered": ALTERED,
    "precision": PRECISION,
    "state between calls": STATE,
    "sizes and buffers": SIZES_AND_BUFFERS,
    "unnoticed at first": UNNOTICED,
    "cheats": CHEATS,
    "without looking": WITHOUT_LOOKING,
}
MUTANTS = {mutant.id: mutant for group in GROUPS.values() for mutant in group}

# Requirements that no mutant is tried on, with the reason.
WITHOUT_MUTANT = {
    "TRN-4": "it needs a data set that may be missing; what it would reject, TRN-1 and TRN-2 reject on digits",
}
