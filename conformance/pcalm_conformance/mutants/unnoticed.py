"""Mistakes that went unnoticed at first."""

from __future__ import annotations

from pcalm_conformance.mutants.buffers import TILE_INITIAL_Z
from pcalm_conformance.mutants.edits import BLOCK, BP_RESULT, DUAL, INPUT, OUTPUT, PRIMAL, SETTINGS, edit, tiles

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
        "anchor[layer] * (self.z[layer] - self.start[layer])",
        "anchor[layer] *",
        "anchor[layer] * (np.arange(self.z.shape[2]) < max(VECTOR, len(self.problem.weights[0]) // VECTOR * VECTOR)) *",
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
