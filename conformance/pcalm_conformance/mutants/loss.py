"""Mistakes in the loss and what it sends down."""

from __future__ import annotations

from pcalm_conformance.mutants.edits import FROM_LOSS, OUTPUT, edit

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
