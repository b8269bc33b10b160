"""Will PC-ALM work on this network? What must hold on any right chain of blocks, what it measures there, and advice.

Proofs, each a figure that must not exceed a bound (see `rounding`):

    at the KKT point z = feed-forward, λ = −δ, the parameter gradients are autograd's of the mean loss
    the KKT point is a fixed point of the iteration
    samples do not interact: one iteration of the batch is that of every sample alone
    the light cone: t steps after the feed-forward start only the top t hidden layers have moved
    the gauge: in u = w z the iteration is that of the chain of blocks w_l f_l(u / w_{l-1})

Measurements, at the feed-forward state: the blocks' gains σ_max(J_l), the growth of BP's adjoint ‖δ_l‖/‖δ_{L-1}‖, and
for every method λ_max, η, the stability margin, the cosine and norm ratio to BP by budget, and when half of the credit
has arrived. A method keeps the margin 4 − ησ²(2ρ + α) − 2ηκ at RESERVE or more:

    η = min(1/λ_max, (4 − RESERVE) / (λ_max (2ρ + α) + 2κ))

Everything runs in float64 on a copy of the network, with its modules in the mode in which they are given.

Source of the method: Seely & Gould, Augmented Lagrangian Predictive Coding, arXiv:2605.31022; blocks, anchor and gauge
are extensions of ours.
"""

from __future__ import annotations

import copy
import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from pcalm import analysis, blocks, refusals
from pcalm.blocks import Blocks
from pcalm.checks import integer, number, require
from pcalm.gauge import follow_credit, gauge, passing
from pcalm.methods import PC, PCALM, anchored
from pcalm.problem import infer
from pcalm.stepsize import hessian, kept_step_size, stability_margin
from pcalm.surroundings import independent

BUDGETS = (1.25, 2.0, 3.0, 4.0, 8.0)  # in multiples of L
SAMPLES = 16
TARGET = 0.95  # the cosine that a method is to reach
LEVEL = 4.2  # λ_max of a chain of near-isometries (measured 4.06 to 4.4 at initialisation)
GAIN_ITERATIONS = 32
# The local rule of `pcalm.gauge`, repeated from w = 1 as successive updates of a network at rest would.
GAUGE_ROUNDS, GAUGE_BUDGET, GAUGE_ITERATIONS = 6, 3, 16
# What is called a reason when no method aligns: gains and growths at which it was measured to fail.
HIGH_GAIN, HIGH_GROWTH, HIGH_EIGENVALUE = 3.0, 20.0, 8.0
EPS = torch.finfo(torch.float64).eps

Say = Callable[[str], None]


class Proof(NamedTuple):
    """Something that must hold on this network.

    Attributes:
        claim: what, in words.
        figure: by how much it is violated, relative to what it is about.
        bound: what rounding accounts for.
    """

    claim: str
    figure: float
    bound: float

    @property
    def passed(self) -> bool:
        return self.figure <= self.bound  # NaN is not


class BlockFigures(NamedTuple):
    """Block l of the chain: its module's class, σ_max(J_l) (None for l = 1, whose input is fixed), ‖δ_l‖/‖δ_{L-1}‖."""

    number: int
    kind: str
    gain: float | None
    adjoint: float | None


class Alignment(NamedTuple):
    """The parameter gradients after a budget of steps beside BP's."""

    budget: float
    steps: int
    cosine: float
    norm_ratio: float


@dataclasses.dataclass(frozen=True)
class Trajectory:
    """One method on the network.

    Attributes:
        name: as in tables.
        method: its settings, those of u = w z for a gauge, with the largest budget as steps.
        weights: the gauge w_1..w_{L-1}, or None.
        eigenvalue: λ_max, in the gauge.
        alignments: one for each budget.
        half: the iteration at which half of BP's credit has arrived at layers 1..L−1, None where it has not.
        arrived: −⟨q_l, δ_l⟩/‖δ_l‖² after iterations 1..T, [T, L−1].
    """

    name: str
    method: PC | PCALM
    weights: list[float] | None
    eigenvalue: float
    alignments: list[Alignment]
    half: list[int | None]
    arrived: Tensor

    @property
    def margin(self) -> float:
        """4 − ησ²(2ρ + α) − 2ηκ."""
        return stability_margin(self.method, self.eigenvalue)


@dataclasses.dataclass(frozen=True)
class Diagnosis:
    """What `diagnose` found.

    Attributes:
        depth: L.
        samples: B.
        parameters: how many numbers learn.
        proofs, blocks, trajectories: see there.
        best: the cheapest (trajectory, alignment) with a cosine of TARGET or more, or None.
        advice: sentences.
    """

    depth: int
    samples: int
    parameters: int
    proofs: list[Proof]
    blocks: list[BlockFigures]
    trajectories: list[Trajectory]
    best: tuple[Trajectory, Alignment] | None
    advice: list[str]

    @property
    def passed(self) -> bool:
        return all(proof.passed for proof in self.proofs)

    def record(self) -> dict[str, Any]:
        """All of it as JSON has it; null for what is not finite."""
        return {
            "depth": self.depth,
            "samples": self.samples,
            "parameters": self.parameters,
            "passed": self.passed,
            "proofs": [
                {"claim": each.claim, "passed": each.passed, "figure": _plain(each.figure), "bound": each.bound}
                for each in self.proofs
            ],
            "blocks": [each._asdict() for each in self.blocks],
            "methods": [_method_record(each) for each in self.trajectories],
            "best": None
            if self.best is None
            else {"method": self.best[0].name, "budget": self.best[1].budget, "call": call(*self.best)},
            "advice": self.advice,
        }


def _method_record(found: Trajectory) -> dict[str, Any]:
    method = found.method
    settings = {name: getattr(method, name) for name in ("step_size", "penalty", "dual_step", "anchor")}
    return {
        "method": found.name,
        "largest_eigenvalue": found.eigenvalue,
        **settings,
        "margin": found.margin,
        "gauge": found.weights,
        "alignment": [
            {**each._asdict(), "cosine": _plain(each.cosine), "norm_ratio": _plain(each.norm_ratio)}
            for each in found.alignments
        ],
        "half_of_credit": found.half,
    }


def _plain(value: float) -> float | None:
    return value if math.isfinite(value) else None


class _Problem(NamedTuple):
    """The network in float64, and at its feed-forward state z_1..z_{L-1}, δ_1..δ_L, λ_max and BP's gradient."""

    net: Blocks
    x: Tensor
    y: Any
    z: list[Tensor]
    delta: list[Tensor]
    eigenvalue: float
    exact: list[Tensor]


@independent
def diagnose(
    net: Blocks,
    x: Tensor,
    y: Any,
    samples: int = SAMPLES,
    budgets: Sequence[float] = BUDGETS,
    say: Say = lambda _: None,
) -> Diagnosis:
    """Proves and measures PC-ALM on a network and a batch, and advises.

    The network keeps its values: a copy in float64 is looked at, in the mode (train or eval) of each module.

    Args:
        net: the network.
        x: inputs [B, …] of any dtype; floating ones are taken in float64.
        y: targets as the loss wants them, a tensor [B, …].
        samples: the batch is cut to as many.
        budgets: T in multiples of L.
        say: is told what is going on, a line at a time.

    Raises:
        ValueError: a block or argument that PC-ALM cannot run on, with the way out; a batch on which BP's gradient is
            zero, so that there is nothing to align with; no parameter that learns.
    """
    samples = integer("samples", samples, 1)
    budgets = sorted({number("budgets", budget, positive=True) for budget in budgets})
    require(len(budgets) > 0, "budgets must be at least one number, got none")
    given = _prepare(net, x, y, samples)
    say(f"{given.net.depth} blocks, {len(given.x)} samples: proofs")
    proofs = [prove(given) for prove in (kkt_gradient, fixed_point, samples_apart, light_cone, gauge_symmetry)]
    say("gains of the blocks")
    figures = block_figures(given)
    trajectories = []
    for name in ("PC", "PC-ALM", "anchored"):
        say(f"{name}, up to {budgets[-1]:g}L = {_steps(budgets[-1], given)} steps")
        trajectories.append(_follow(given, name, None, given.eigenvalue, budgets))
    say(f"gauged anchored: the gauge in {GAUGE_ROUNDS} rounds, then as many steps")
    weights, eigenvalue = local_gauge(given)
    trajectories.append(_follow(given, "gauged anchored", weights, eigenvalue, budgets))
    best = cheapest(trajectories)
    return Diagnosis(
        given.net.depth,
        len(given.x),
        sum(each.numel() for each in given.exact),
        proofs,
        figures,
        trajectories,
        best,
        advise(best, figures, trajectories),
    )


def _prepare(net: Blocks, x: Any, y: Any, samples: int) -> _Problem:
    require(isinstance(net, Blocks), f"net must be a pcalm.Blocks, got {type(net).__name__}")
    for name, each in (("x", x), ("y", y)):
        require(isinstance(each, Tensor) and each.ndim > 0, f"{name} must be a tensor [B, …], got {_shown(each)}")
    net = copy.deepcopy(net).double()
    x, y = (each[:samples].detach() for each in (x, y))
    x, y = (each.double() if each.is_floating_point() else each for each in (x, y))
    x, states = refusals.check_inputs(net, x)
    refusals.check_targets(net, states[-1], y)
    learned = [parameter for parameter in net.parameters() if parameter.requires_grad]
    require(len(learned) > 0, "the network must have a parameter that requires a gradient: all are frozen, or none is")
    with torch.enable_grad():
        loss = net.losses(net(x), y).mean()
        require(loss.requires_grad, "the loss must depend on a parameter that requires a gradient, but none reaches it")
        exact = list(torch.autograd.grad(loss, learned, materialize_grads=True))
    require(
        any(bool(each.any()) for each in exact),
        "BP's gradient is zero on this batch, so that there is nothing to align with: give a batch whose loss has a "
        "slope",
    )
    found = hessian(net, x, y=y)
    eigenvalue, _ = found.power_iteration(found.start())
    z = states[:-1]
    return _Problem(net, x, y, z, blocks.adjoint(net, z, y), float(eigenvalue), exact)


def _shown(value: Any) -> str:
    return str(value.dtype) + " without dimensions" if isinstance(value, Tensor) else type(value).__name__


def settings(name: str, depth: int, steps: int, eigenvalue: float) -> PC | PCALM:
    """A method by the name that it has in tables, with the largest η up to 1/λ_max that leaves RESERVE.

    Anchored is (0.1, 3.5, 3/L · λ_max/4.2): κ grows with λ_max, so that what the anchor takes off a wave in one step,
    ηκ, is what it is at λ_max = 4.2, a network at initialisation.
    """
    if name == "PC":
        method: PC | PCALM = PC(steps, 1.0)
    elif name == "PC-ALM":
        method = PCALM(steps, 1.0)
    else:
        chosen: dict[str, Any] = anchored(depth)
        method = PCALM(steps, 1.0, **chosen | {"anchor": chosen["anchor"] * eigenvalue / LEVEL})
    return dataclasses.replace(method, step_size=kept_step_size(method, eigenvalue))


def _steps(budget: float, given: _Problem) -> int:
    return max(1, round(budget * given.net.depth))


def rounding(given: _Problem) -> float:
    """How far two right computations of one thing may be apart, relative to it.

    Each of L blocks adds up at most as many terms as a layer has numbers in the batch, n, forward and back, and each
    addition rounds by ε: 2Lnε of the terms. Where terms cancel that is more of the sum, hence at least √ε = 1.5e-8,
    half of the digits of float64, which no wrong formula reaches.
    """
    return max(EPS**0.5, 2 * given.net.depth * max(each.numel() for each in given.z) * EPS)


def kkt_gradient(given: _Problem) -> Proof:
    """−q_lᵀ ∂f_l/∂θ_l / B at z = feed-forward, λ = −δ, against autograd through the whole chain."""
    state = blocks.as_state(given.z, [-each for each in given.delta[:-1]])
    found = blocks.gradients(given.net, PCALM(1, 1 / given.eigenvalue), given.x, given.y, state)
    error = analysis.relative_error(_learned(given.net, found), given.exact)
    return Proof("BP's gradient at the KKT point is autograd's", error, rounding(given))


def fixed_point(given: _Problem) -> Proof:
    """How far three iterations of anchored PC-ALM move the KKT point: z in parts of a step η‖δ‖, λ in parts of ‖δ‖.

    The bound adds what storing z costs, ε‖z‖ at each of some operations (100 of them), in the same unit.
    """
    start = blocks.as_state(given.z, [-each for each in given.delta[:-1]])
    method = dataclasses.replace(_anchored(given, 3), credit="after")
    end = blocks.infer(given.net, method, given.x, given.y, start)
    eta = float(1 / given.eigenvalue)
    size, unit = _norm(given.z), _norm(given.delta[:-1])
    moved = max(_apart(end.activities, start.activities) / eta, _apart(end.multipliers, start.multipliers))
    return Proof(
        "the KKT point is a fixed point", _part(moved, unit), rounding(given) + 100 * EPS * size / (eta * unit)
    )


def samples_apart(given: _Problem) -> Proof:
    """One iteration and its gradients from a drawn state, for the batch and for every sample alone."""
    net, x, y = given.net, given.x, given.y
    method = dataclasses.replace(_anchored(given, 1), credit="after")
    start = _drawn(given)

    def run(part: slice) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        state = blocks.as_state(*([each[part] for each in side] for side in start))
        end = blocks.infer(net, method, x[part], y[part], state)
        found = blocks.gradients(net, method, x[part], y[part], end)
        return list(end.activities), list(end.multipliers), _learned(net, found)

    whole = run(slice(None))
    alone = [run(slice(index, index + 1)) for index in range(len(x))]
    z, lam = ([torch.cat(layer) for layer in zip(*(each[side] for each in alone), strict=True)] for side in (0, 1))
    mean = [torch.stack(parts).mean(0) for parts in zip(*(each[2] for each in alone), strict=True)]
    errors = [analysis.relative_error(*pair) for pair in zip((z, lam, mean), whole, strict=True)]
    return Proof("samples do not interact", max(errors, key=_nan_largest), rounding(given))


def light_cone(given: _Problem) -> Proof:
    """How far a layer below the top t has moved after t steps, in parts of the largest |z|.

    The feed-forward pass and the residuals may round differently, by some ε of the largest state: 100 ε.
    """
    depth, size = given.net.depth, max(float(each.abs().max()) for each in given.z)
    moved = [0.0]

    def observe(t: int, _: list[Tensor], z: list[Tensor]) -> None:
        moved.extend(float((z[h] - given.z[h]).abs().max()) for h in range(depth - 1 - t))

    blocks.infer(given.net, _anchored(given, max(1, depth - 2)), given.x, given.y, observe=observe)
    return Proof("after t steps only the top t layers moved", _part(max(moved, key=_nan_largest), size), 100 * EPS)


def gauge_symmetry(given: _Problem) -> Proof:
    """Two iterations and their gradients: in the gauge w, and with the method as it is on the rescaled network."""
    net, generator = given.net, torch.Generator("cpu").manual_seed(1)
    w = (2 ** (torch.rand(net.depth - 1, dtype=torch.float64, generator=generator, device="cpu") - 0.5)).tolist()
    scales = [1.0, *w, 1.0]
    rescaled = Blocks(
        [_Rescaled(block, *around) for block, around in zip(net.blocks, itertools.pairwise(scales), strict=True)],
        net.loss,
    )
    method = dataclasses.replace(_anchored(given, 2), credit="after")
    z, lam = _drawn(given)
    u = blocks.as_state(
        [each * weight for each, weight in zip(z, w, strict=True)],
        [each / weight for each, weight in zip(lam, w, strict=True)],
    )
    found, errors = [], []
    for chain, how, start in ((net, gauge(method, w), blocks.as_state(z, lam)), (rescaled, method, u)):
        end = blocks.infer(chain, how, given.x, given.y, start)
        found.append((end, _learned(chain, blocks.gradients(chain, how, given.x, given.y, end))))
    (in_z, gradients), (in_u, others) = found
    errors = [
        analysis.relative_error(
            [each * weight for each, weight in zip(in_z.activities, w, strict=True)], list(in_u[0])
        ),
        analysis.relative_error(
            [each / weight for each, weight in zip(in_z.multipliers, w, strict=True)], list(in_u[1])
        ),
        analysis.relative_error(gradients, others),
    ]
    return Proof("a gauge is a rescaling of the network", max(errors, key=_nan_largest), rounding(given))


class _Rescaled(nn.Module):
    """u ↦ w_l f_l(u / w_{l-1})."""

    def __init__(self, block: nn.Module, below: float, above: float) -> None:
        super().__init__()
        self.block, self.below, self.above = block, below, above

    def forward(self, u: Tensor) -> Tensor:
        return self.above * self.block(u if self.below == 1.0 else u / self.below)  # tokens are not divided


def _anchored(given: _Problem, steps: int) -> PCALM:
    """The proofs' method: all of its settings are at work, and differ."""
    method = settings("anchored", given.net.depth, steps, given.eigenvalue)
    assert isinstance(method, PCALM)
    return method


def _drawn(given: _Problem) -> tuple[list[Tensor], list[Tensor]]:
    """A state away from the feed-forward one: z and λ with N(0, 1) numbers of the sizes of z and δ; seeded."""
    generator = torch.Generator("cpu").manual_seed(0)

    def noise(like: Tensor) -> Tensor:
        drawn = torch.randn(like.shape, dtype=torch.float64, generator=generator, device="cpu").to(like.device)
        return drawn * like.square().mean().sqrt()

    return [each + noise(each) for each in given.z], [noise(each) for each in given.delta[:-1]]


def _learned(net: Blocks, found: Sequence[Tensor | None]) -> list[Tensor]:
    """The gradients of the parameters that learn, zero for one that the loss does not depend on."""
    pairs = zip(net.parameters(), found, strict=True)
    return [torch.zeros_like(p) if each is None else each for p, each in pairs if p.requires_grad]


def _norm(parts: Sequence[Tensor]) -> float:
    return math.hypot(*(float(each.norm()) for each in parts))


def _apart(a: Any, b: Any) -> float:
    return _norm([one - other for one, other in zip(a, b, strict=True)])


def _part(value: float, whole: float) -> float:
    return value / whole if whole > 0 else (0.0 if value == 0 else math.inf)


def _nan_largest(value: float) -> float:
    return math.inf if math.isnan(value) else value


def block_figures(given: _Problem) -> list[BlockFigures]:
    """Gain and adjoint of every block; gains by power iteration with J and Jᵀ over the batch, so from below."""
    push, pull = blocks.linear_maps(given.net, given.z)
    generator = torch.Generator("cpu").manual_seed(0)
    gains: list[float | None] = [None]
    for h, z in enumerate(given.z):
        v = torch.randn(z.shape, dtype=torch.float64, generator=generator, device="cpu").to(z.device)
        gain = 0.0
        for _ in range(GAIN_ITERATIONS):
            if not v.norm() > 0:
                break
            above = push(h, v / v.norm())
            gain, v = float(above.norm()), pull(h, above)
        gains.append(gain)
    top = float(given.delta[-2].norm())
    adjoint = [_plain(_part(float(each.norm()), top)) for each in given.delta[:-1]]
    kinds = [type(block).__name__ for block in given.net.blocks]
    return [BlockFigures(*each) for each in zip(range(1, len(kinds) + 1), kinds, gains, [*adjoint, None], strict=True)]


def local_gauge(given: _Problem) -> tuple[list[float], float]:
    """(w, λ_max in that gauge) that the local rule finds from w = 1, without knowing δ."""
    net = given.net
    w = torch.ones(net.depth - 1, dtype=torch.float64, device=net.device)
    vector, eigenvalue = None, given.eigenvalue
    for _ in range(GAUGE_ROUNDS):
        method = gauge(settings("anchored", net.depth, _steps(GAUGE_BUDGET, given), eigenvalue), w.tolist())
        state = infer(net, method, given.x, given.y)
        w = follow_credit(w, passing(net, method, given.x, state), rate=1.0)
        found = hessian(net, given.x, gauge=w.tolist(), y=given.y)
        largest, vector = found.power_iteration(found.start() if vector is None else vector, GAUGE_ITERATIONS)
        eigenvalue = float(largest)
    found = hessian(net, given.x, gauge=w.tolist(), y=given.y)
    return w.tolist(), float(found.power_iteration(found.start())[0])


def _follow(
    given: _Problem, name: str, weights: list[float] | None, eigenvalue: float, budgets: Sequence[float]
) -> Trajectory:
    """One trajectory shows all budgets: with credit "before", each iteration is the end of a budget of its own."""
    net, delta = given.net, given.delta[:-1]
    plain = settings(name, net.depth, _steps(budgets[-1], given), eigenvalue)
    method = plain if weights is None else gauge(plain, weights)
    sizes = torch.stack([each.norm() for each in delta]).cpu()
    wanted = {_steps(budget, given): budget for budget in budgets}
    alignments, norms, arrived = [], [], []

    def observe(t: int, q: list[Tensor], z: list[Tensor]) -> None:
        norms.append(torch.stack([each.norm() for each in q]).cpu())
        products = torch.stack([-(one * other).sum() for one, other in zip(q, delta, strict=True)]).cpu()
        arrived.append(products / sizes**2)
        if t in wanted:
            out = net.blocks[-1](z[-1])
            credit = [*q, -blocks.loss_gradient(net, out, given.y)]
            found = _learned(net, blocks.parameter_gradients(net, credit, given.x, z))
            figures = (analysis.cosine(found, given.exact), analysis.norm_ratio(found, given.exact))
            alignments.append(Alignment(wanted[t], t, *figures))

    blocks.infer(net, method, given.x, given.y, observe=observe)
    half = analysis.credit_arrival(torch.stack(norms), sizes, 0.5)
    return Trajectory(name, plain, weights, eigenvalue, alignments, half, torch.stack(arrived))


def cheapest(trajectories: Sequence[Trajectory]) -> tuple[Trajectory, Alignment] | None:
    """What reaches the target with the fewest steps; of several the first, which has fewer settings."""
    reached = [(each, row) for each in trajectories for row in each.alignments if row.cosine >= TARGET]
    return min(reached, key=lambda pair: pair[1].steps, default=None)


def call(found: Trajectory, row: Alignment) -> str:
    """The method in Python."""
    method = found.method
    settings = {"steps": row.steps, "step_size": method.step_size}
    if isinstance(method, PCALM) and method.anchor != 0:
        settings |= {"penalty": method.penalty, "dual_step": method.dual_step, "anchor": method.anchor}
    shown = f"pcalm.{type(method).__name__}({', '.join(f'{name}={value:.4g}' for name, value in settings.items())})"
    if found.weights is None:
        return shown
    return f"pcalm.gauge({shown}, [{', '.join(f'{weight:.3g}' for weight in found.weights)}])"


def advise(
    best: tuple[Trajectory, Alignment] | None, figures: Sequence[BlockFigures], trajectories: Sequence[Trajectory]
) -> list[str]:
    """Sentences: what to use, or that nothing reached the target, and why."""
    if best is not None:
        found, row = best
        lines = [
            f"{found.name} reaches a cosine of {row.cosine:.3f} to BP in {row.budget:g}L = {row.steps} steps, "
            f"with {row.norm_ratio:.2f} of its norm: {call(found, row)}"
        ]
        if found.half[0] is None or found.half[0] > row.steps:
            lines.append(
                "but by then not half of the credit has arrived at the first layer: it is the upper blocks whose large "
                "gradients align"
            )
        return lines
    every = [(each, row) for each in trajectories for row in each.alignments if math.isfinite(row.cosine)]
    most = trajectories[0].alignments[-1]
    lines = [f"no method reached a cosine of {TARGET} within {most.budget:g}L = {most.steps} steps"]
    if every:
        found, row = max(every, key=lambda pair: pair[1].cosine)
        lines[0] += f"; the best is {row.cosine:.3f}, {found.name} at {row.budget:g}L"
    return lines + [f"why: {reason}" for reason in reasons(figures, trajectories)]


def reasons(figures: Sequence[BlockFigures], trajectories: Sequence[Trajectory]) -> list[str]:
    """What is known to keep credit from arriving and is the case here, the worst blocks first."""
    steep = sorted((each for each in figures if (each.gain or 0) >= HIGH_GAIN), key=lambda each: -(each.gain or 0))
    found = [
        f"block {block.number} ({block.kind}) has gain {block.gain:.3g}; credit passes well where gains are near 1: "
        "scale its branch down (1/√L on a residual branch), or normalise its output"
        for block in steep[:3]
    ]
    if len(steep) > 3:
        found.append(f"{len(steep) - 3} more blocks have a gain of {HIGH_GAIN:g} or more")
    sizes = [each.adjoint for each in figures if each.adjoint is not None]
    low, high = min(sizes, default=1.0), max(sizes, default=1.0)
    if low == 0:
        found.append("BP's adjoint vanishes on its way down: a layer gets no credit from BP either")
    elif high / low >= HIGH_GROWTH:
        found.append(
            f"BP's adjoint changes by a factor of {high / low:.3g} along the chain, and credit is scattered where "
            "it is not level"
        )
    eigenvalue = trajectories[0].eigenvalue
    if eigenvalue >= HIGH_EIGENVALUE:
        found.append(
            f"λ_max is {eigenvalue:.3g}, so that steps are small: credit takes {math.sqrt(eigenvalue / LEVEL):.2g} "
            "times the steps that it takes at initialisation; give larger budgets"
        )
    if all(each.half[0] is None for each in trajectories):
        found.append("half of the credit has arrived at the first layer with no method: give larger budgets")
    return found or ["nothing measured here stands out: give larger budgets, or look at the figures by budget"]
