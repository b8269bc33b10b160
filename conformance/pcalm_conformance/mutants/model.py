"""Mistakes in the model: scales, skips, activations."""

from __future__ import annotations

from pcalm_conformance.mutants.edits import BLOCK, INPUT, OUTPUT, RELU_SLOPE, SCALES, TANH_SLOPE, edit

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
