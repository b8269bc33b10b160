"""Cheats: answers from somewhere else than the dynamics."""

from __future__ import annotations

from pcalm_conformance.mutants.edits import BP_RESULT, IS_BP, RESULT, SETTINGS, edit

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
