"""Sizes and buffers: mistakes of fast code, edits of the tiled implementation."""

from __future__ import annotations

from pcalm_conformance.mutants.edits import tiles

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
    "self.q[0] = penalty[0] * (self.z[0] - self.first) + self.multipliers[0]\n"
    "        for layer, weight in enumerate(self.weights, 1)"
)
TILE_RESIDUAL = "            self.evaluate(1.0)\n"
TILE_END = (
    "                self.multipliers += dual_step[:, None, None] * (self.q - self.multipliers)\n"
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
