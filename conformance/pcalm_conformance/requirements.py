"""The catalogue: every requirement, declared once. The tests refer to it by id, and so do records, tables and mutants."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

PAPER = "the paper"
DERIVED = "derived"
EXTENSION = "extension"

CHAPTERS = {
    "MOD": "1 · model",
    "ENE": "2 · energies and gradients",
    "DYN": "3 · primal and dual dynamics",
    "LIN": "4 · linear exactness",
    "SPC": "5 · spectrum and stability",
    "ALN": "6 · nonlinear alignment",
    "CRD": "7 · credit propagation",
    "TRN": "8 · training",
    "NUM": "9 · numerics",
}

METHODS = ("bp", "pc", "pcalm")
NEEDS = {
    **dict.fromkeys(METHODS, "the method of that name"),
    **dict.fromkeys(("linear", "tanh", "relu"), "the activation of that name"),
    **dict.fromkeys(("float32", "float64"), "the precision of that name"),
    "initial": "an initial state",
    "anchor": "κ > 0",
    "settings per layer": "L−1 numbers, one per hidden layer, for η, ρ, α or κ",
    "inner steps": "more than one primal step before each dual step",
    "credit before": "multipliers and gradients before the last dual step",
    "credit after": "multipliers and gradients after the last dual step",
}


@dataclass(frozen=True)
class Requirement:
    """One claim about every right implementation.

    Attributes:
        id: stable, e.g. "LIN-3".
        claim: one sentence.
        source: "the paper", "derived" or "extension" (this project's anchored PC-ALM, settings per layer and gauge), with the
            derivation where it is ours.
        needs: what an implementation must support for it, a comma or "and" between what is needed together, "or" between
            what will do; of the words in `NEEDS`.
        bound: what the figure is held against, in words.
        origin: where the bound comes from.
        limits: the numbers in the bound, by name, as the test uses them.
        builds_on: requirements whose failure explains a failure of this one.
        oracle: whether the figure is a comparison with the oracle's solution; the others are claims that stand on their own.
    """

    id: str
    claim: str
    source: str
    needs: str
    bound: str
    origin: str
    limits: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    builds_on: tuple[str, ...] = ()
    oracle: bool = False

    @property
    def chapter(self) -> str:
        return CHAPTERS[self.id.split("-")[0]]

    @property
    def clauses(self) -> list[frozenset[str]]:
        """`needs`, as sets of words of each of which one must be supported."""
        together = self.needs.replace("any method", " or ".join(METHODS)).replace(" and ", ", ").split(", ")
        return [frozenset(clause.split(" or ")) for clause in together]


ROUNDING = "error of every entry ≤ its rounding bound"
BOTH = "difference of every entry ≤ twice its rounding bound, since two runs are compared"
FIRST_ORDER = "running first-order error analysis of the equations, for any order of the operations (rounding.py)"

_LIST = [
    # --- 1 · model ----------------------------------------------------------------------------------------------------------
    Requirement(
        "MOD-1",
        "The feed-forward states are z_1 = x W_1ᵀ/√D and z_l = z_{l-1} + φ(z_{l-1}) W_lᵀ/√(N·L).",
        PAPER,
        "bp",
        ROUNDING,
        FIRST_ORDER,
        oracle=True,
    ),
    Requirement(
        "MOD-2",
        "BP returns the exact weight gradient of the batch mean of ½‖out − y‖², with out = φ(z_{L-1}) W_Lᵀ/N.",
        PAPER,
        "bp",
        ROUNDING,
        FIRST_ORDER,
        builds_on=("MOD-1",),
        oracle=True,
    ),
    Requirement(
        "MOD-3",
        "BP's gradient is the derivative of the loss: it predicts central differences of the loss along random directions.",
        "derived: (f(w + hd) − f(w − hd))/2h = ⟨∇f, d⟩ + O(h²)",
        "bp, float64",
        "difference ≤ difference·(‖G_l‖‖d‖ + 1e-3)",
        "h = 1e-5 leaves h² ≈ 1e-10 of truncation and ε/h ≈ 2e-11 of rounding, times derivatives of order 10²",
        {"difference": 1e-7},
        builds_on=("MOD-1",),
    ),
    Requirement(
        "MOD-4",
        "The smallest and the square shapes are no special cases: depth 3, width 1, one input, output or sample, N = D = C = B.",
        DERIVED + ": the equations hold from L = 3 and N = D = C = B = 1, and square matrices have a transpose, too",
        "any method",
        ROUNDING,
        FIRST_ORDER,
        builds_on=("MOD-1", "MOD-2", "DYN-1"),
        oracle=True,
    ),
    Requirement(
        "MOD-5",
        "relu'(0) = 0: units that are exactly zero neither move nor send credit.",
        DERIVED + ": W_1 = 0 makes every state zero, so that φ' = 0 blocks the loss' gradient at the top",
        "any method, relu",
        "all activities and gradients exactly 0",
        "products with an exact zero are exact",
        builds_on=("MOD-1",),
    ),
    Requirement(
        "MOD-6",
        "Hidden units have no order: permuting them in all weights permutes states and gradients alike.",
        DERIVED
        + ": the skip connection ties unit i of every layer, so one permutation of all hidden layers is a symmetry",
        "any method, tanh or relu",
        BOTH,
        FIRST_ORDER,
        builds_on=("MOD-1",),
    ),
    Requirement(
        "MOD-7",
        "Weight gradients are batch means: a batch given twice over has the same gradients, and every sample the same states.",
        DERIVED + ": (1/2B) Σ over 2B samples equals (1/B) Σ over B",
        "any method, tanh or relu",
        BOTH,
        FIRST_ORDER,
        builds_on=("MOD-1",),
    ),
    Requirement(
        "MOD-8",
        "With all hidden blocks zero the network is a chain of skips: every feed-forward state equals the first, exactly.",
        DERIVED + ": z_l = z_{l-1} + φ(z_{l-1})·0",
        "bp",
        "difference exactly 0",
        "adding an exact zero is exact",
    ),
    # --- 2 · energies and gradients ------------------------------------------------------------------------------------------
    Requirement(
        "ENE-1",
        "One PC step from any state is z − η ∂E/∂z with λ = 0, for every activation and penalty.",
        PAPER,
        "pc, initial",
        ROUNDING,
        FIRST_ORDER,
        builds_on=("MOD-1",),
        oracle=True,
    ),
    Requirement(
        "ENE-2",
        "One PC-ALM step from any activities and multipliers is z − η ∂E/∂z, with q_l = ρ c_l + λ_l.",
        PAPER,
        "pcalm, initial, credit before",
        ROUNDING,
        FIRST_ORDER,
        builds_on=("MOD-1", "ENE-1"),
        oracle=True,
    ),
    Requirement(
        "ENE-3",
        "The primal step goes down the energy: (z' − z)/η is minus the central difference of E along random directions.",
        "derived: the energy is written out, its gradient is not used",
        "pcalm, initial, credit before, float64",
        "difference ≤ difference·(‖force‖‖d‖ + 1e-3)",
        "h = 1e-5 leaves h² ≈ 1e-10 of truncation and ε·E/h of rounding, with E of order 10² on these problems",
        {"difference": 1e-6},
        builds_on=("ENE-2",),
    ),
    Requirement(
        "ENE-4",
        "The weight gradients are those of the returned state: −s_l q_lᵀ φ(z_{l-1})/B with q = ρ c + λ, and the loss' at the output.",
        PAPER,
        "pc or pcalm",
        ROUNDING,
        FIRST_ORDER,
        builds_on=("MOD-1",),
        oracle=True,
    ),
    Requirement(
        "ENE-5",
        "The weight gradients are those of E at fixed state: they predict central differences of E in the weights.",
        "derived: the anchor does not depend on the weights here (κ = 0), the rest of E is written out",
        "pcalm, initial, credit before, float64",
        "difference ≤ difference·(‖G_l‖‖d‖ + 1e-3)",
        "h = 1e-5, as ENE-3",
        {"difference": 1e-6},
        builds_on=("ENE-4",),
    ),
    Requirement(
        "ENE-6",
        "The anchor adds κ(z_l − z_l^ff) to the gradient of every hidden layer, measured from the feed-forward state and no other.",
        EXTENSION + ": the anchor term (κ/2)‖z_l − z_l^ff‖²",
        "pcalm, initial, anchor, credit before, tanh or relu",
        "error of the difference between the steps with κ and without ≤ twice its rounding bound, since two runs are compared",
        FIRST_ORDER,
        builds_on=("MOD-1",),
    ),
    Requirement(
        "ENE-7",
        "PC's energy never rises in a linear network while η ≤ 1/λ_max.",
        "derived: gradient descent on a quadratic form with step at most 1/(largest eigenvalue)",
        "pc, linear",
        "rise ≤ Σ (|∂E/∂z| + |q|)·(rounding bound of z), of both states",
        FIRST_ORDER,
        builds_on=("ENE-1",),
    ),
    # --- 3 · primal and dual dynamics -----------------------------------------------------------------------------------------
    Requirement(
        "DYN-1",
        "From the feed-forward start, states and gradients after T steps are the oracle's, for every activation and method.",
        PAPER,
        "pc or pcalm",
        ROUNDING,
        FIRST_ORDER,
        builds_on=("MOD-1", "ENE-1", "ENE-2", "ENE-4", "DYN-5", "DYN-6", "DYN-8", "DYN-9"),
        oracle=True,
    ),
    Requirement(
        "DYN-2",
        "From any initial state, states and gradients after T steps are the oracle's, for every activation and method.",
        PAPER,
        "pc or pcalm, initial",
        ROUNDING,
        FIRST_ORDER,
        builds_on=("MOD-1", "ENE-1", "ENE-2", "ENE-4", "DYN-6", "DYN-8", "DYN-9"),
        oracle=True,
    ),
    Requirement(
        "DYN-3",
        "PC-ALM without dual steps (α = 0) is PC, and PC keeps λ = 0 exactly.",
        PAPER,
        "pc and pcalm, credit before",
        BOTH + "; PC's multipliers exactly 0",
        FIRST_ORDER,
        builds_on=("ENE-1", "ENE-2"),
    ),
    Requirement(
        "DYN-4",
        "T = 1 by hand: only z_{L-1} moves, by −η s_L((out − y) W_L) ⊙ φ', its credit is ρ times that, all others are 0.",
        "derived: at the feed-forward start c = λ = 0, so the loss is the only force",
        "pcalm, credit before",
        ROUNDING,
        FIRST_ORDER,
        builds_on=("MOD-1", "ENE-2", "ENE-4"),
    ),
    Requirement(
        "DYN-5",
        "T = 2 by hand: the second step has λ = α c of the first, and moves z_{L-2} by what z_{L-1} sends down.",
        "derived: two steps written out for the two top layers",
        "pcalm, credit before",
        ROUNDING,
        FIRST_ORDER,
        builds_on=("DYN-4", "DYN-9"),
    ),
    Requirement(
        "DYN-6",
        'credit="before" leaves out exactly the last dual step: same activities as "after", and λ_after − λ_before = α c(z).',
        PAPER,
        "pcalm, credit before and credit after",
        "difference of activities ≤ twice their rounding bound; error of λ_after − λ_before ≤ that of λ_after and twice that of λ_before",
        FIRST_ORDER,
        builds_on=("DYN-9",),
    ),
    Requirement(
        "DYN-7",
        'A run can be cut: T_1 steps ("after"), then T_2 from that state, is T_1 + T_2 steps.',
        DERIVED + ": the iteration has no memory but (z, λ)",
        "pcalm, initial, credit after",
        BOTH,
        FIRST_ORDER,
        builds_on=("ENE-2", "DYN-9"),
    ),
    Requirement(
        "DYN-8",
        "inner_steps counts primal steps per dual step: with α = 0, T rounds of k are T·k PC steps; with α > 0 they are not.",
        PAPER,
        "pc and pcalm, inner steps, credit before",
        BOTH + "; with α = 1 the activities differ by effect, relative",
        FIRST_ORDER + "; the effect was measured at 0.02 and more",
        {"effect": 1e-3},
        builds_on=("DYN-3",),
    ),
    Requirement(
        "DYN-9",
        "The dual step uses the residual at the new activities: λ = λ_0 + α c(z_1) after one step.",
        PAPER,
        "pcalm, initial, credit after",
        ROUNDING,
        FIRST_ORDER,
        builds_on=("MOD-1", "ENE-2"),
    ),
    Requirement(
        "DYN-10",
        "Any problem with any settings inside the stable region gives the oracle's solution (property test).",
        DERIVED + ": everything above at once",
        "any method",
        ROUNDING,
        FIRST_ORDER,
        builds_on=("MOD-1", "MOD-2", "ENE-4", "DYN-1", "DYN-2"),
        oracle=True,
    ),
    Requirement(
        "DYN-11",
        "Each of η, ρ, α and κ may be L−1 numbers in place of one: layer l has its own, and q_{l+1} = ρ_{l+1} c_{l+1} + λ_{l+1} comes "
        "down with the ρ of the layer that sends it.",
        EXTENSION + ": the equations with ρ_l, κ_l, η_l and α_l; each alone, and all at once",
        "pc or pcalm, settings per layer",
        ROUNDING,
        FIRST_ORDER,
        builds_on=("DYN-1", "DYN-2"),
        oracle=True,
    ),
    Requirement(
        "DYN-12",
        "Any problem with any settings per layer inside the stable region gives the oracle's solution (property test).",
        EXTENSION + ": stable while η σ²(2ρ + α) + 2ηκ < 4 with the greatest of each",
        "pc or pcalm, settings per layer",
        ROUNDING,
        FIRST_ORDER,
        builds_on=("DYN-10", "DYN-11"),
        oracle=True,
    ),
    Requirement(
        "DYN-13",
        "The gauge is a symmetry: with η/w², ρw², αw² and κw² the states u_l = w_l z_l are those of the rescaled network with η, ρ, α and κ.",
        EXTENSION
        + ": in u the constraint is w_l c_l, its multiplier λ_l/w_l, and the blocks are w_l f_l(u/w_{l-1}); the oracle solves "
        "that chain and never sees the settings per layer",
        "pc or pcalm, settings per layer",
        "distance of every entry from what the rescaled chain says ≤ twice its rounding bound, since multiplying and dividing by w rounds as well",
        FIRST_ORDER,
        builds_on=("DYN-11",),
        oracle=True,
    ),
    Requirement(
        "DYN-14",
        "One weight for all layers needs one number for all: η/w², ρw², αw² and κw² are W_1 times w and W_L divided by w, with z times w "
        "and λ divided by it.",
        DERIVED
        + ": for homogeneous φ the rescaled blocks w f_l(u/w) are f_l, and w moves into the first and last weights",
        "pc or pcalm, linear or relu",
        BOTH,
        FIRST_ORDER + "; w is a power of two, which is exact",
        builds_on=("DYN-1", "DYN-2"),
    ),
    # --- 4 · linear exactness -------------------------------------------------------------------------------------------------
    Requirement(
        "LIN-1",
        "z = feed-forward, λ = −δ (BP's adjoint) is a fixed point for every activation, at depths 3 to 128 and widths 1 to 128.",
        PAPER,
        "pcalm, initial, credit after",
        "movement of z and λ in one round ≤ twice their rounding bound, since the point itself is rounded",
        FIRST_ORDER,
        builds_on=("MOD-1", "ENE-2"),
    ),
    Requirement(
        "LIN-2",
        "At that point the weight gradient is BP's for every activation.",
        PAPER,
        "pcalm, initial, credit after",
        "distance of every entry from BP's ≤ twice its rounding bound, since the point itself is rounded",
        FIRST_ORDER,
        builds_on=("MOD-1", "ENE-4"),
    ),
    Requirement(
        "LIN-3",
        "In a linear network the iteration's affine map has spectral radius < 1, so that it converges from every start.",
        "derived: the map is read off with basis vectors as initial states; holds for ρ = 1, 0 < α < 2, η = 1/λ_max",
        "pcalm, linear, initial, credit after",
        "1 − spectral radius ≥ 10·ε·(size of the map)",
        "eigenvalues of an n×n matrix are computed to about n·ε",
        builds_on=("DYN-1", "DYN-2"),
    ),
    Requirement(
        "LIN-4",
        "The only fixed point of that map is BP's: z feed-forward, λ = −δ.",
        PAPER,
        "pcalm, linear, initial, credit after",
        "cond(I − M)·ε ≤ 0.1, and error ≤ factor·cond(I − M)·ε, relative",
        "perturbation bound of a linear system, with the factor for the rounding of the probed entries",
        {"factor": 100},
        builds_on=("LIN-3",),
    ),
    Requirement(
        "LIN-5",
        "A small linear network, run long enough from the cold start, reaches BP's gradient down to rounding.",
        PAPER,
        "pcalm, linear, credit before",
        "error of z and λ ≤ ‖(I − M)⁻¹‖ times the 2-norm of the rounding bounds of one round; of every gradient ≤ ‖(I − M)⁻¹‖·√(2n) times its own",
        "18 decades by the spectral radius of the oracle's map M; the rounding of every round is amplified by ‖(I − M)⁻¹‖ at most, "
        "in the worst of the 2n directions that a bound is the root mean square of",
        builds_on=("DYN-1",),
    ),
    Requirement(
        "LIN-6",
        "PC's own equilibrium in a linear network solves its symmetric linear system, and is not BP.",
        "derived: ∂E/∂z = 0 at λ = 0 is H z = b with H = ρAᵀA + JᵀJ",
        "pc, linear",
        "error of z ≤ the 2-norm of the rounding bounds of one step/(η·λ_min(H)); relative distance of its gradient from BP's ≥ distance",
        "18 decades by λ_min(H), which also bounds how the rounding of every step is amplified; distance measured at 0.5 to 0.9",
        {"distance": 0.2},
        builds_on=("DYN-1",),
    ),
    Requirement(
        "LIN-7",
        "At a finite budget linear PC-ALM is not BP: the cosine at T = 2L is high but not 1.",
        "the paper; the interval was measured at 0.80 to 0.97 for depths 8 to 128",
        "pcalm, linear, credit before",
        "low ≤ cosine ≤ high",
        "measured interval, widened by 0.05 below and to 0.995 above",
        {"low": 0.75, "high": 0.995},
        builds_on=("DYN-1",),
    ),
    Requirement(
        "LIN-8",
        "Anchored PC-ALM has the same fixed point and converges in O(L): about 4.6/(ηκ) iterations per decade of error.",
        EXTENSION + ": measured 4.1 to 4.8 /(ηκ) for N = 8, L = 8 to 128",
        "pcalm, linear, initial, credit after, anchor",
        "iterations per decade times ηκ ≤ per_decade; fixed point as LIN-4",
        "measured, plus 10 %",
        {"per_decade": 5.2, "factor": 100},
        builds_on=("LIN-4", "ENE-6"),
    ),
    Requirement(
        "LIN-9",
        "What scatters the wave is the symmetric part of the blocks: at 1.1L antisymmetric blocks align best, symmetric ones worst.",
        EXTENSION + ": measured 0.99 against 0.81 (Gaussian) and 0.68 (symmetric) at N = 32, L = 64",
        "pcalm, linear, credit before",
        "cosine of antisymmetric − Gaussian ≥ gap, and of Gaussian − symmetric ≥ gap",
        "measured gaps 0.18 and 0.13, less 0.08",
        {"gap": 0.05},
        builds_on=("DYN-1",),
    ),
    Requirement(
        "LIN-10",
        "No gauge moves the fixed point: at z = feed-forward, λ = −δ nothing changes, and the gradient is BP's, for every activation and w.",
        EXTENSION + ": there c = 0, and ∂E/∂z = λ_l − Jᵀλ_{l+1} = 0 whatever ρ_l, κ_l, η_l and α_l are",
        "pcalm, initial, credit after, settings per layer",
        "movement of z and λ in one round, and distance of every gradient entry from BP's ≤ twice their rounding bounds, since the point "
        "itself is rounded",
        FIRST_ORDER,
        builds_on=("LIN-1", "LIN-2", "DYN-11"),
    ),
    # --- 5 · spectrum and stability --------------------------------------------------------------------------------------------
    Requirement(
        "SPC-1",
        "Without the loss (W_L = 0) the iteration is one 2×2 map per singular value σ of A = ∂c/∂z: [[a, −ησ], [ασa, 1 − ηασ²]].",
        "derived: a = 1 − ηρσ² − ηκ, in the singular bases of A for z and λ",
        "pcalm, linear, initial, credit after",
        "error of every entry ≤ 2n times twice the rounding bound of the run that the map is read from",
        "an entry is the difference of two images; 2n bounds the norm of the error, which a change of basis keeps",
        builds_on=("ENE-2", "DYN-9"),
    ),
    Requirement(
        "SPC-2",
        "Complex eigenvalue pairs have modulus √(1 − ηρσ²), whatever α is.",
        "the paper",
        "pcalm, linear, initial, credit after",
        "as many complex pairs as predicted, where the bound can tell; distance to the nearest predicted modulus ≤ cond(V) times the bound of SPC-1",
        "Bauer and Fike's bound with the eigenvectors V of the probed map",
        builds_on=("SPC-1",),
    ),
    Requirement(
        "SPC-3",
        "Stable just inside ησ²(2ρ + α) + 2ηκ = 4, unstable just outside.",
        "the paper for κ = 0, derived for κ > 0: trace and determinant of the 2×2 map",
        "pcalm, linear, initial, credit after",
        "spectral radius ≤ 1 − ε at inside times the bound's η, ≥ 1 + ε at outside times it",
        "exact statement",
        {"inside": 0.99, "outside": 1.01},
        builds_on=("SPC-1",),
    ),
    Requirement(
        "SPC-4",
        "On a chain PC is the heat kernel: a wave of wave number k decays as exp(−ρηk²) per iteration.",
        PAPER,
        "pc, linear, initial",
        "relative deviation of the fitted rate ≤ k²(1/12 + ρη) and what the rounding bound of a step makes of it",
        "next order of σ² = 4 sin²(k/2) and of the logarithm",
        builds_on=("ENE-1",),
    ),
    Requirement(
        "SPC-5",
        "On a chain PC-ALM is a damped wave: frequency √(αη) k and decay ½ρηk² per iteration.",
        PAPER,
        "pcalm, linear, initial, credit after",
        "relative deviation of frequency ≤ k²(1/24 + η(α/6 + ρ²/(8α) + ρ/2)), of decay ≤ k²(1/12 + ρη/2) plus 1e-6 for its fit",
        "next order of σ² = 4 sin²(k/2), of the logarithm and of the arc cosine",
        builds_on=("SPC-1",),
    ),
    Requirement(
        "SPC-6",
        "From the cold start the error falls at the rate that the spectral radius says.",
        "derived: |log(rate) − log(radius)| ≤ 2·log cond(V)/ΔT for the slowest mode",
        "pcalm, linear, credit after",
        "deviation ≤ 2·log cond(V)/ΔT",
        "eigenvector expansion of the error",
        builds_on=("LIN-3",),
    ),
    Requirement(
        "SPC-7",
        "In a gauge the stability law is the plain one of another matrix: SPC-1 holds in u = w z and λ/w, with the singular values of w A w⁻¹.",
        EXTENSION + ": ∂(w c)/∂u = w A w⁻¹",
        "pcalm, linear, initial, credit after, settings per layer",
        "error of every entry ≤ that of SPC-1 times (greatest/smallest of w and 1/w), by which the change from z to u may enlarge it",
        "as SPC-1",
        builds_on=("SPC-1", "DYN-11"),
    ),
    # --- 6 · nonlinear alignment -------------------------------------------------------------------------------------------------
    Requirement(
        "ALN-1",
        "PC-ALM's gradient aligns with BP's at initialisation in every cell: at T = L, 2L and 4L.",
        "the paper (claim); bounds measured for any seed, relu and tanh, N and L in 8..128",
        "pcalm, credit before, tanh or relu",
        "cosine ≥ L, ≥ 2L, ≥ 4L",
        "worst measured over data sets and up to 10 seeds (0.45, 0.81, 0.94), less 0.02 to 0.03",
        {"L": 0.42, "2L": 0.78, "4L": 0.92},
        builds_on=("DYN-1",),
    ),
    Requirement(
        "ALN-2",
        "PC-ALM aligns better than PC in every cell: at T = 2L by at least 0.05 in cosine, on the same network.",
        "the paper (claim); gap measured",
        "pc and pcalm, credit before, tanh or relu",
        "cosine(PC-ALM) − cosine(PC) ≥ gap",
        "smallest gap measured over cells, 20 seeds and two data sets: 0.080 (digits, tanh, N = 8, L = 16), less 0.03",
        {"gap": 0.05},
        builds_on=("DYN-1", "DYN-3"),
    ),
    Requirement(
        "ALN-3",
        "Gradient norms at T = 2L: PC-ALM's is of the order of BP's, and above PC's.",
        "the paper (claim); intervals measured",
        "pc and pcalm, credit before, tanh or relu",
        "low ≤ ‖g‖/‖g_BP‖ ≤ high for PC-ALM; PC's less by gap or more",
        "measured interval 0.35 to 1.0, widened by 0.05; smallest gap measured 0.117, less 0.067",
        {"low": 0.3, "high": 1.05, "gap": 0.05},
        builds_on=("DYN-1",),
    ),
    Requirement(
        "ALN-4",
        "Anchored PC-ALM (ρ = 0.1, α = 3.5, κ = 3/L) aligns at 1.25L as the plain one at 2L, and better at 2L and 3L.",
        EXTENSION + ": worst measured 0.855, 0.931, 0.967 at 1.25L, 2L, 3L",
        "pcalm, anchor, credit before, tanh or relu",
        "cosine ≥ 1.25L, ≥ 2L, ≥ 3L",
        "worst measured over N in 8..32, L in 8..64, relu and tanh, 3 to 10 seeds, less 0.02 to 0.03",
        {"1.25L": 0.82, "2L": 0.91, "3L": 0.95},
        builds_on=("DYN-1", "ENE-6"),
    ),
    Requirement(
        "ALN-5",
        "Anchored PC-ALM (ρ = 0.25, α = 3, κ = 4/L) is nearly exact BP at 4L and 8L, in direction and norm.",
        EXTENSION + ": worst measured cosine 0.988, 0.997, norm ratio 0.90 to 1.11 and 0.97 to 1.03",
        "pcalm, anchor, credit before, tanh or relu",
        "cosine ≥ 4L, ≥ 8L; norm ratio within 1 ± norm_4L, 1 ± norm_8L",
        "worst measured, less 0.02 to 0.03",
        {"4L": 0.98, "8L": 0.995, "norm_4L": 0.13, "norm_8L": 0.05},
        builds_on=("DYN-1", "ENE-6"),
    ),
    Requirement(
        "ALN-6",
        "In tanh and relu networks, too, the limit is exact BP: where the iteration settles, its gradient is BP's.",
        "the paper (claim): at a KKT point c = 0 and λ = −δ for every φ",
        "pcalm, anchor, credit before, tanh or relu",
        "relative error of the full gradient ≤ error, in float32 ≤ error_float32",
        "anchored, 24 decades by the rate of LIN-8, since waves of finite size take longer to settle; rounding amplified 10³ times",
        {"error": 1e-9, "error_float32": 1e-2},
        builds_on=("DYN-1", "ENE-6"),
    ),
    Requirement(
        "ALN-7",
        "In a trained network, where BP's adjoint is no longer level, the gauge w_l = ‖δ_l‖/‖δ_{L-1}‖ brings alignment back: at 2L it is "
        "better than without, and high.",
        EXTENSION
        + ": networks that learned digits by BP, with the suite's optimiser; δ is the suite's own, as a yardstick",
        "pcalm, anchor, credit before, relu, settings per layer",
        "cosine in the gauge ≥ plain, and ≥ anchored; better by gap or more than without, each with its own η = 1/λ_max",
        "worst measured on eleven networks (N = L = 32 with seeds 0 to 5, N = 128 with L = 16 and 32; adjoints grown 3.4 to 4.9 times), in the "
        "gauge 0.79 and 0.94, better by 0.058: less 0.02; without it PC-ALM had 0.65 to 0.85, anchored 0.76 to 0.90",
        {"plain": 0.77, "anchored": 0.92, "gap": 0.038},
        builds_on=("DYN-1", "ENE-6", "DYN-11"),
    ),
    # --- 7 · credit propagation -----------------------------------------------------------------------------------------------------
    Requirement(
        "CRD-1",
        "Light cone: after t primal steps only the top t hidden layers have moved, and only the top t − 1 multipliers.",
        PAPER,
        "bp, pc or pcalm",
        "movement of activities and size of multipliers outside the cone ≤ factor·ε·max|z|",
        "feed-forward pass and residuals round differently",
        {"factor": 100},
        builds_on=("MOD-1",),
    ),
    Requirement(
        "CRD-2",
        "The cone is filled: after t steps layer L − t has moved (no layer is skipped, no step is idle).",
        PAPER,
        "bp, pc or pcalm",
        "movement of layer L − t ≥ part · η^(t−1) · that of the top layer",
        "every layer that the front passes multiplies it by about η",
        {"part": 0.1},
        builds_on=("ENE-2", "DYN-9"),
    ),
    Requirement(
        "CRD-3",
        "Anchoring leaves the light cone alone.",
        EXTENSION + ": the anchor pulls to where a layer outside the cone already is",
        "bp and pcalm, anchor, credit before",
        "movement of activities and size of multipliers outside the cone ≤ factor·ε·max|z|",
        "as CRD-1",
        {"factor": 100},
        builds_on=("CRD-1",),
    ),
    Requirement(
        "CRD-4",
        "PC-ALM's credit is ballistic: half of BP's adjoint arrives at distance d after a time proportional to d.",
        "the paper (claim); theory 1/√(αη) ≈ 2.05 iterations per layer",
        "pcalm, initial, credit after",
        "all layers reached within 4L; exponent within low..high; iterations per layer within fastest..slowest",
        "measured 0.9 to 1.2 and 2.0 to 3.0 for L = 64 and 128, N = 16 and 32, all activations",
        {"low": 0.9, "high": 1.2, "fastest": 2.0, "slowest": 3.0},
        builds_on=("DYN-1", "DYN-7"),
    ),
    Requirement(
        "CRD-5",
        "PC's credit is diffusive: a tenth of BP's adjoint arrives after a time that grows as the square of the distance.",
        "the paper (claim)",
        "pc, initial",
        "exponent within low..high; layers reached within 8L ≤ reach, and 6 or more",
        "measured 1.8 to 2.6 and at most 40 % for L = 64 and 128, N = 16 and 32, all activations",
        {"low": 1.8, "high": 2.6, "reach": 0.4},
        builds_on=("DYN-1",),
    ),
    Requirement(
        "CRD-6",
        "PC-ALM's credit is even over the layers: with r_l = ‖G_l‖/‖G_l^BP‖, min r/max r is high at 2L and 4L.",
        "the paper (claim); measured 0.40 to 0.42 and 0.67 to 0.71",
        "pcalm, credit before, relu",
        "min r/max r ≥ 2L, ≥ 4L",
        "measured, less a quarter",
        {"2L": 0.3, "4L": 0.55},
        builds_on=("DYN-1",),
    ),
    Requirement(
        "CRD-7",
        "PC's credit is not: its lowest layers get next to nothing.",
        "the paper (claim); measured < 1e-7 at 2L, 1e-4 at 4L for L = 32",
        "pc, relu",
        "min r/max r ≤ most",
        "measured, with a factor of ten above",
        {"most": 1e-3},
        builds_on=("DYN-1",),
    ),
    # --- 8 · training -----------------------------------------------------------------------------------------------------------------
    Requirement(
        "TRN-1",
        "In a deep narrow network PC-ALM trains about as well as BP on handwritten digits.",
        "the paper (claim)",
        "bp and pcalm, credit before, relu",
        "test accuracy(BP) ≥ bp; accuracy(BP) − accuracy(PC-ALM) ≤ distance",
        "measured, N = 16, relu: L = 24, 10 epochs (default): BP 89.4 %, PC-ALM at 2L 0.3 points below; "
        "the three networks of L = 64, 15 epochs (full): BP 89 to 93 %, PC-ALM −1 to 2 points below",
        {"bp": 0.85, "distance": 0.05},
        builds_on=("DYN-1", "MOD-2"),
    ),
    Requirement(
        "TRN-2",
        "PC does not: it stays well below PC-ALM there.",
        "the paper (claim)",
        "pc and pcalm, credit before, relu",
        "accuracy(PC-ALM) − accuracy(PC) ≥ gap",
        "measured on TRN-1's networks: 12 points in 24 layers, 14 to 22 in 64; less two fifths of the smallest",
        {"gap": 0.07},
        builds_on=("DYN-1",),
    ),
    Requirement(
        "TRN-3",
        "Anchored PC-ALM at 1.25L trains better than plain PC-ALM at 1.25L.",
        EXTENSION + ": at 1.25L the plain wave has hardly arrived",
        "pcalm, anchor, credit before, relu",
        "accuracy(anchored) − accuracy(plain) ≥ gap",
        "measured on the three networks of 64 layers: 10 to 18 points after 15 epochs, on one of 48 layers 15 after 3 (default); "
        "half of the smallest",
        {"gap": 0.05},
        builds_on=("DYN-1", "ENE-6"),
    ),
    Requirement(
        "TRN-4",
        "Fashion-MNIST, N = L = 32, relu, one epoch, T = 2L: PC-ALM close to BP, PC well below, with the gradient cosines to match.",
        "the paper: BP 78.7, PC 68.1, PC-ALM 77.8 %, cosine 0.91 and 0.60",
        "bp, pc and pcalm, credit before, relu",
        "bp within bp_low..bp_high; BP − PC-ALM ≤ distance; PC-ALM − PC ≥ gap; cosines within their intervals",
        "measured over six seeds: bp 76.5 to 78.3, PC-ALM 75.5 to 77.6, PC 62.9 to 67.1 %",
        {
            "bp_low": 0.755,
            "bp_high": 0.80,
            "distance": 0.025,
            "gap": 0.06,
            "pcalm_cosine_low": 0.85,
            "pcalm_cosine_high": 0.94,
            "pc_cosine_low": 0.45,
            "pc_cosine_high": 0.75,
        },
        builds_on=("TRN-1",),
    ),
    # --- 9 · numerics -------------------------------------------------------------------------------------------------------
    Requirement(
        "NUM-1",
        "Samples do not interact: a sample's states are the same alone, in any batch and at any place of it.",
        DERIVED + ": the energy is a sum over samples, and the step is on the per-sample energy",
        "any method",
        BOTH,
        FIRST_ORDER,
        builds_on=("MOD-1",),
    ),
    Requirement(
        "NUM-2",
        "Calls do not interact: the same problem gives the same bits, also after other problems of other shapes and settings.",
        DERIVED + ": solve() is a function of the problem",
        "any method",
        "difference exactly 0",
        "same operations on the same numbers",
    ),
    Requirement(
        "NUM-3",
        "Arguments and earlier solutions keep their values: nothing is written to but what the call returns.",
        DERIVED + ": the protocol",
        "any method",
        "arrays written to = 0",
        "exact statement",
    ),
    Requirement(
        "NUM-4",
        "In float32 the result is the float64 oracle's to float32's rounding, for every activation and method.",
        DERIVED + ": the same first-order bound with float32's ε",
        "any method, float32",
        ROUNDING,
        FIRST_ORDER,
        builds_on=("MOD-2", "DYN-1", "DYN-2"),
        oracle=True,
    ),
    Requirement(
        "NUM-5",
        "Linear and relu networks are homogeneous: inputs, targets and state times 2^k give states times 2^k, gradients times 4^k.",
        DERIVED + ": every formula is homogeneous in (x, y, z, λ), and powers of two are exact",
        "any method, linear or relu",
        BOTH,
        FIRST_ORDER + "; exact for the same operations, but another order is allowed",
        builds_on=("MOD-1",),
    ),
    Requirement(
        "NUM-6",
        "Ragged sizes are no special cases: widths and batches around every tile and vector length, with all settings in use.",
        DERIVED + ": tails are where fast code goes wrong",
        "any method",
        ROUNDING,
        FIRST_ORDER,
        builds_on=("MOD-2", "DYN-1"),
        oracle=True,
    ),
    Requirement(
        "NUM-7",
        "Great depth and a large batch are no special cases: 200 layers, and 1000 samples, with every method.",
        DERIVED + ": buffers, recursion and reductions that only break at size",
        "any method",
        ROUNDING,
        FIRST_ORDER,
        builds_on=("MOD-2", "DYN-1"),
        oracle=True,
    ),
    Requirement(
        "NUM-8",
        "Long budgets are no special cases: after 40L steps and more the state is still the oracle's.",
        DERIVED + ": drift, lost multipliers and early stopping only show late",
        "pcalm, credit before",
        ROUNDING,
        FIRST_ORDER,
        builds_on=("DYN-1",),
        oracle=True,
    ),
    Requirement(
        "NUM-9",
        "What the first call of a shape was decides nothing: after other weights, data, settings or precision the next is right.",
        DERIVED + ": caches, buffers and compiled programs must be keyed on all that they depend on",
        "any method",
        ROUNDING,
        FIRST_ORDER,
        builds_on=("DYN-1", "DYN-2"),
        oracle=True,
    ),
    Requirement(
        "NUM-10",
        "The sizes that people use are no special cases: hundreds of inputs, tens of classes, wide layers and whole batches at once.",
        DERIVED + ": fast paths that are chosen by size never see small problems",
        "any method",
        ROUNDING,
        FIRST_ORDER,
        builds_on=("NUM-6",),
        oracle=True,
    ),
]

REQUIREMENTS: dict[str, Requirement] = {requirement.id: requirement for requirement in _LIST}
