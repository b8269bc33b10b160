"""Computing in another precision than asked."""

from __future__ import annotations

from pcalm_conformance.mutants.edits import BLOCK, DUAL, G_BLOCK, RESULT, SCALES, edit

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
