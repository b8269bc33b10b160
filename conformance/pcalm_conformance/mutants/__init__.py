"""Wrong implementations that the suite must reject: `edits` says how they are made, each other file holds one kind."""

from __future__ import annotations

from pcalm_conformance.mutants.blind import WITHOUT_LOOKING
from pcalm_conformance.mutants.buffers import SIZES_AND_BUFFERS
from pcalm_conformance.mutants.cheats import CHEATS
from pcalm_conformance.mutants.edits import Mutant
from pcalm_conformance.mutants.iteration import ALTERED
from pcalm_conformance.mutants.loss import LOSS
from pcalm_conformance.mutants.model import MODEL
from pcalm_conformance.mutants.order import ORDER
from pcalm_conformance.mutants.per_layer import PER_LAYER
from pcalm_conformance.mutants.precision import PRECISION
from pcalm_conformance.mutants.primal_step import PRIMAL_STEP
from pcalm_conformance.mutants.settings import SETTINGS_MISREAD
from pcalm_conformance.mutants.state import STATE
from pcalm_conformance.mutants.unnoticed import UNNOTICED
from pcalm_conformance.mutants.weight_gradients import WEIGHT_GRADIENTS

GROUPS = {
    "model": MODEL,
    "loss": LOSS,
    "weight gradients": WEIGHT_GRADIENTS,
    "primal step": PRIMAL_STEP,
    "order and timing": ORDER,
    "settings misread": SETTINGS_MISREAD,
    "settings per layer": PER_LAYER,
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

__all__ = ["GROUPS", "MUTANTS", "WITHOUT_MUTANT", "Mutant"]
