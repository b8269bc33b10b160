"""State that survives between calls."""

from __future__ import annotations

from pcalm_conformance.mutants.edits import ARGUMENTS, NO_MULTIPLIERS, PRIMAL, START, edit

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
