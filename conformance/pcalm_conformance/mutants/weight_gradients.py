"""Mistakes in the weight gradients."""

from __future__ import annotations

from pcalm_conformance.mutants.edits import CREDIT_AT_END, G_BLOCK, G_INPUT, G_OUTPUT, RESULT, SIZES, edit

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
