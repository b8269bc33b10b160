"""One setting per hidden layer, and gauges made of them: mistakes that a number in their place hides."""

from __future__ import annotations

from pcalm_conformance.mutants.edits import CONSTANTS, CREDIT_AT_END, CREDIT_IN_STEP, DUAL, FORCE, INITIAL, Mutant, edit


def constant(id: str, mistake: str, setting: str, wrong: str, *killed_by: str) -> Mutant:
    """A setting that is read wrong where it is L−1 numbers; `wrong` in terms of its `np.ravel`, called s."""
    whole = f"(lambda s: {wrong})(np.ravel(problem.{setting}))"
    return edit(id, mistake, CONSTANTS, f"problem.{setting}", whole, *killed_by, corner=True)


PER_LAYER = (
    constant("step-size-shifted", "η_l is that of the layer below", "step_size", "np.roll(s, 1)", "DYN-11", "DYN-13"),
    constant("penalty-shifted", "ρ_l is that of the layer below", "penalty", "np.roll(s, 1)", "DYN-11", "SPC-7"),
    constant("dual-step-shifted", "α_l is that of the layer below", "dual_step", "np.roll(s, 1)", "DYN-11", "SPC-7"),
    constant("anchor-shifted", "κ_l is that of the layer below", "anchor", "np.roll(s, 1)", "DYN-11", "DYN-13"),
    constant(
        "step-size-of-neighbour",
        "η_l is that of the layer above",
        "step_size",
        "np.append(s[1:], s[-1])",
        "DYN-12",
        "SPC-7",
    ),
    constant("step-size-mean", "one η for all layers, the mean", "step_size", "s.mean()", "DYN-11", "SPC-7", "ALN-7"),
    constant("penalty-first", "one ρ for all layers, the first's", "penalty", "s[0]", "DYN-11", "DYN-13"),
    constant("dual-step-first", "one α for all layers, the first's", "dual_step", "s[0]", "DYN-11", "DYN-12"),
    constant("anchor-mean", "one κ for all layers, the mean", "anchor", "s.mean()", "DYN-11", "DYN-13"),
    constant("settings-reversed", "η is given from the top down", "step_size", "s[::-1]", "DYN-11", "DYN-13"),
    constant("gauge-without-step", "the gauge forgets η, which is the top layer's", "step_size", "s[-1]", "SPC-7"),
    constant("gauge-without-penalty", "the gauge forgets ρ, which is the top layer's", "penalty", "s[-1]", "SPC-7"),
    constant(
        "gauge-without-dual-step",
        "the gauge forgets α, which is the top layer's",
        "dual_step",
        "s[-1]",
        "DYN-13",
        "SPC-7",
        "ALN-7",
    ),
    constant("gauge-without-anchor", "the gauge forgets κ, which is the top layer's", "anchor", "s[-1]", "DYN-13"),
    constant(
        "gauge-once",
        "the gauge scales α by w where w² belongs",
        "dual_step",
        "s[-1] * (s / (s[-1] or 1)) ** 0.5",
        "DYN-13",
        "SPC-7",
    ),
    edit(
        "gauge-multipliers",
        "λ is taken for λ/w, the multiplier in u",
        INITIAL,
        "problem.initial",
        "problem.initial[0], problem.initial[1] * np.sqrt(penalty / penalty[-1])",
        "LIN-10",
        corner=True,
    ),
    edit(
        "credit-own-penalty",
        "the credit that comes down has the ρ of the layer that receives it",
        FORCE,
        "(q, z, layer)",
        "(penalty.ravel()[min(layer, penalty.size - 1)] * residuals(z) + multipliers, z, layer)",
        "DYN-11",
        "SPC-7",
        corner=True,
    ),
    edit(
        "g-first-penalty",
        "the weight gradients have the first layer's ρ throughout",
        CREDIT_AT_END,
        "penalty",
        "penalty[0]",
        "DYN-11",
        "DYN-13",
        corner=True,
    ),
    edit(
        "credit-mean-penalty",
        "the primal step has one ρ for all layers, the mean",
        CREDIT_IN_STEP,
        "penalty",
        "penalty.mean()",
        "DYN-11",
        "SPC-7",
        corner=True,
    ),
    edit(
        "dual-step-by-penalty",
        "α_l is α_{L-1} ρ_l/ρ_{L-1}: a gauge is taken for granted",
        DUAL,
        "dual_step *",
        "dual_step[-1] * penalty / penalty[-1] *",
        "DYN-11",
        corner=True,
    ),
)
