"""Mistakes in the order and timing of the steps."""

from __future__ import annotations

from pcalm_conformance.mutants.edits import ANEW, DUAL, FORCE, INNER, LAST_DUAL, PRIMAL, ROUNDS, edit

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
