"""The default step size η = 1/λ_max, and the stability margin.

With A = ∂c/∂z at the feed-forward state, J_l = ∂f_l/∂z_{l-1} and H the loss' second derivative by out (1 for the
squared loss), the Gauss-Newton Hessian of one sample's energy in z is

    ρ AᵀA + J_Lᵀ H J_L,    (A v)_l = v_l − J_l v_{l-1}

and for the residual MLP

    J_l v = v + s_l (φ'(z_{l-1}) ⊙ v) W_lᵀ,    J_L v = s_L (φ'(z_{L-1}) ⊙ v) W_Lᵀ

λ_max is its largest eigenvalue over the samples: 64 power iterations over the whole batch at once, in float64. In a
gauge w (see `pcalm.gauge`) it is that of the matrix in u_l = w_l z_l, where A becomes w A w⁻¹ and J_L becomes J_L w⁻¹.

Per singular value σ of A, one iteration of PC-ALM with anchor κ is a 2×2 map with determinant 1 − ηρσ² − ηκ and trace
2 − ησ²(ρ + α) − ηκ, so both its eigenvalues lie inside the unit circle as long as the margin is positive:

    margin = 4 − ησ²(2ρ + α) − 2ηκ,    σ² = λ_max at ρ = 1
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pcalm import blocks, dynamics, integrity, refusals
from pcalm.blocks import Blocks
from pcalm.checks import number, require
from pcalm.methods import PC, PCALM, Setting, laid_out, per_layer, setting
from pcalm.network import ResidualMLP
from pcalm.problem import check_inputs
from pcalm.surroundings import independent, unwrapped

POWER_ITERATIONS = 64
RESERVE = 0.2  # of the stability margin, for states off the feed-forward one and weights that move


class Hessian(NamedTuple):
    """The Gauss-Newton Hessian in z (or u) of a batch's energy, as a map of vectors [n], or [R, n].

    Attributes:
        product: v ↦ H v; no sample's part of it depends on another's.
        sizes: of the layers in a vector, each [B, …] laid flat.
        batch: B.
        replicas: R, or None.
        dtype: of the vectors.
        device: where the vectors live.
    """

    product: Callable[[Tensor], Tensor]
    sizes: list[int]
    batch: int
    replicas: int | None
    dtype: torch.dtype
    device: torch.device

    def start(self) -> Tensor:
        """The power iteration's first vector, N(0, 1) from a generator seeded 0; the same for all replicas."""
        generator = torch.Generator("cpu").manual_seed(0)
        v = torch.randn(sum(self.sizes), dtype=torch.float64, generator=generator, device="cpu")
        return v.to(self.device, self.dtype).expand(*(() if self.replicas is None else (self.replicas,)), -1)

    def power_iteration(self, v: Tensor, iterations: int = POWER_ITERATIONS) -> tuple[Tensor, Tensor]:
        """The largest eigenvalue after so many iterations from v, [] or [R], and the vector to go on from."""
        eigenvalue = torch.ones(v.shape[:-1], dtype=v.dtype, device=v.device)
        for _ in range(iterations):
            v = self.product(v / v.norm(dim=-1, keepdim=True))
            eigenvalue = v.norm(dim=-1)
        return eigenvalue, v

    def follow(self, v: Tensor, iterations: int) -> tuple[Tensor, Tensor]:
        """An upper estimate of λ_max, [] or [R], and the vector to go on from, for weights that change.

        Lanczos' iteration from v, for every sample on its own, so that one which overtakes another is seen: a vector
        of the whole batch soon holds nothing but the one that was largest. The largest Ritz value θ is below λ_max, and
        θ + ‖r‖, r the residual of its vector, in practice above (Zhou & Li, Linear Algebra and its Applications 435,
        2011): an eigenvalue that rises past the one followed shows in r before it shows in θ.
        """
        u, norm = v, self._norms(v)
        basis: list[Tensor] = []
        diagonal: list[Tensor] = []
        beside: list[Tensor] = []
        for _ in range(iterations):
            q = self._per_sample(u, 1 / norm)
            u = self.product(q)
            diagonal.append(self._dots(q, u))
            u -= self._per_sample(q, diagonal[-1])
            if beside:
                u -= self._per_sample(basis[-1], beside[-1])
            norm = self._norms(u)
            basis.append(q)
            beside.append(norm)
        tridiagonal = torch.diag_embed(torch.stack(diagonal, dim=-1))
        if iterations > 1:
            off = torch.diag_embed(torch.stack(beside[:-1], dim=-1), offset=1)
            tridiagonal += off + off.mT
        broken = ~tridiagonal.isfinite().flatten(-2).all(dim=-1)  # weights that have overflowed
        ritz, vectors = torch.linalg.eigh(tridiagonal.masked_fill(broken[..., None, None], 0))
        top = vectors[..., -1].unbind(-1)
        parts = [self._per_sample(each, weight) for each, weight in zip(basis, top, strict=True)]
        bounds = (ritz[..., -1] + beside[-1] * top[-1].abs()).masked_fill(broken, torch.nan)
        return bounds.amax(dim=-1), sum(parts[1:], parts[0])

    def _norms(self, v: Tensor) -> Tensor:
        """‖v‖ of every sample, [B] or [R, B]; at least the smallest normal number, so that it divides."""
        return self._dots(v, v).sqrt().clamp(min=torch.finfo(v.dtype).tiny)

    def _dots(self, u: Tensor, v: Tensor) -> Tensor:
        """⟨u, v⟩ of every sample, [B] or [R, B]."""
        products = [part.sum((-3, -1)) for part in self._layers(u * v)]
        return sum(products[1:], products[0])

    def _per_sample(self, v: Tensor, factors: Tensor) -> Tensor:
        parts = [(part * factors[..., None, :, None]).flatten(-3) for part in self._layers(v)]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)

    def _layers(self, v: Tensor) -> list[Tensor]:
        """The vector as [..., layers, B, entries], layers of one size together."""
        if len(set(self.sizes)) == 1:
            return [v.unflatten(-1, (len(self.sizes), self.batch, -1))]
        return [part.unflatten(-1, (1, self.batch, -1)) for part in v.split(self.sizes, dim=-1)]


def hessian(
    net: ResidualMLP | Blocks,
    x: Tensor,
    penalty: float = 1.0,
    gauge: Any = None,
    y: Any = None,
    dtype: torch.dtype = torch.float64,
    checked: bool = False,
) -> Hessian:
    """The Hessian at the feed-forward state of x, in the dtype; other arguments and errors as in `step_size`.

    Blocks and x that an earlier call has checked need not be checked again.
    """
    net = unwrapped(net)
    require(
        isinstance(net, (ResidualMLP, Blocks)),
        f"net must be a pcalm.ResidualMLP or pcalm.Blocks, got {type(net).__name__}",
    )
    rho = number("penalty", penalty, positive=True)
    w = 1.0 if gauge is None else laid_out("gauge", setting("gauge", gauge), net.replicas, net.depth - 1)
    if isinstance(net, Blocks):
        if not checked:
            y = _checked_targets(net, x, y)
        return _of_blocks(net, x, rho, per_layer(w, net.depth - 1), y, dtype)
    require(y is None, "y must be None for a ResidualMLP: the squared loss has the same curvature for all targets")
    return _of_mlp(net, x, rho, w, dtype)


@torch.no_grad()
def _of_mlp(net: ResidualMLP, x: Tensor, rho: float, gauge: Setting, dtype: torch.dtype) -> Hessian:
    net, parts = integrity.readable(net)
    x = check_inputs(net, x)
    copied = integrity.holding(net, [part.to(dtype) for part in parts])
    z = copied.feedforward(x.to(dtype))
    slope, (_, s, s_out), w = copied.dphi(z), copied.scales, dynamics.setting(gauge, z)

    def product(v: Tensor) -> Tensor:
        v = v.reshape(z.shape) / w
        below = v[..., :-1, :, :]
        constraint = v.clone()  # A v
        constraint[..., 1:, :, :] -= below + s * (slope[..., :-1, :, :] * below) @ copied.hidden_weight.mT
        constraint *= w * w * rho
        found = constraint.clone()  # ρ Aᵀ A v
        found[..., :-1, :, :] -= dynamics.backproject(copied, constraint, z)
        output = s_out * (slope[..., -1, :, :] * v[..., -1, :, :]) @ copied.output_weight.mT  # J v
        found[..., -1, :, :] += s_out * (output @ copied.output_weight) * slope[..., -1, :, :]  # Jᵀ J v
        return (found / w).flatten(-3)

    layers, batch, width = z.shape[-3:]
    return Hessian(torch.no_grad()(product), [batch * width] * layers, batch, net.replicas, dtype, z.device)


def _checked_targets(net: Blocks, x: Tensor, y: Any) -> Any:
    """The targets, after everything has been checked."""
    require(
        isinstance(net.loss, str) or y is not None,
        "y must be given for a loss of one's own, whose curvature may depend on the targets: step_size(net, x, y=y)",
    )
    _, (*_, out) = refusals.check_inputs(net, x)
    y = _any_targets(net, out) if y is None else y
    refusals.check_targets(net, out, y)
    return y


def _any_targets(net: Blocks, out: Tensor) -> Tensor:
    """Targets for the known losses, whose curvature is the same for all."""
    return torch.zeros_like(out) if net.loss == "squared" else out.new_zeros(len(out), dtype=torch.int64)


def _of_blocks(net: Blocks, x: Tensor, rho: float, w: Sequence[float], y: Any, dtype: torch.dtype) -> Hessian:
    net = net if dtype == net.dtype else copy.deepcopy(net).to(dtype)
    with torch.no_grad():
        z = net.feedforward(x.detach().to(dtype) if x.is_floating_point() else x)
        out = net.blocks[-1](z[-1])
    if y is None:
        y = _any_targets(net, out)
    elif isinstance(y, Tensor) and y.is_floating_point():
        y = y.to(dtype)
    push, pull = blocks.linear_maps(net, z)
    curvature = blocks.loss_curvature(net, out, y)
    hidden, sizes, shapes = range(net.depth - 1), [each.numel() for each in z], [each.shape for each in z]

    def product(flat: Tensor) -> Tensor:
        v = [part.view(shape) / w[h] for h, (part, shape) in enumerate(zip(flat.split(sizes), shapes, strict=True))]
        up = [push(h, v[h]) for h in hidden]  # J_{l+1} v_l
        q = [rho * w[h] ** 2 * (v[h] - up[h - 1] if h else v[h]) for h in hidden] + [-curvature(up[-1])]  # ρ A v
        return torch.cat([((q[h] - pull(h, q[h + 1])) / w[h]).flatten() for h in hidden])

    return Hessian(product, sizes, len(out), None, dtype, z[0].device)


@independent
def largest_eigenvalue(
    net: ResidualMLP | Blocks, x: Tensor, penalty: float = 1.0, gauge: Any = None, y: Any = None
) -> float | tuple[float, ...]:
    """λ_max of the Gauss-Newton Hessian at the feed-forward state of x; one per replica for replicas.

    Arguments and errors as in `step_size`.
    """
    found = hessian(net, x, penalty, gauge, y)
    eigenvalue, _ = found.power_iteration(found.start())
    return tuple(eigenvalue.tolist()) if found.replicas is not None else float(eigenvalue)


@independent
def step_size(
    net: ResidualMLP | Blocks, x: Tensor, penalty: float = 1.0, gauge: Any = None, y: Any = None
) -> float | tuple[float, ...]:
    """The primal step η = 1/λ_max for inputs x (training uses its first 64 samples); one per replica.

    PC-ALM's default is η at penalty 1, whatever its own ρ, α and κ; another penalty serves PC alone.

    Args:
        net: the network.
        x: inputs [B, D] (or [R, B, D] for replicas), for blocks [B, …] of any dtype.
        penalty: ρ > 0.
        gauge: w > 0 of every hidden layer, [L−1] (for replicas [R, L−1]): λ_max is then that of the matrix in u = w z,
            as `pcalm.gauge(method, w)` needs it for its η.
        y: targets, needed only for blocks whose loss is a callable, whose second derivative by `out` they give.

    Raises:
        ValueError: x of the wrong shape, dtype or device or not finite; penalty or gauge not positive; blocks that
            PC-ALM cannot run on.
    """
    eigenvalue = largest_eigenvalue(net, x, penalty, gauge, y)
    return tuple(1 / each for each in eigenvalue) if isinstance(eigenvalue, tuple) else 1 / eigenvalue


def kept_step_size(method: PC | PCALM, eigenvalue: float) -> float:
    """The largest η up to 1/λ_max whose margin is RESERVE at least, for the method whatever its own η.

    Raises:
        ValueError: as in `stability_margin`, or settings so large that there is none.
    """
    # The margin is 4 − η(λ_max (2ρ + α) + 2κ).
    steepest = 4 - stability_margin(dataclasses.replace(method, step_size=1.0), eigenvalue)
    size = min(1 / eigenvalue, (4 - RESERVE) / steepest)
    require(
        size > 0,
        f"penalty ρ = {method.penalty}, dual_step α = {method.dual_step} and anchor κ = {method.anchor} leave no "
        f"stable step size at λ_max = {eigenvalue:.4g}; use smaller ones",
    )
    return size


def stability_margin(method: PC | PCALM, eigenvalue: float) -> float:
    """4 − ησ²(2ρ + α) − 2ηκ for σ² = λ_max at ρ = 1; positive is stable, to first order around the feed-forward state.

    With settings of a layer's own it takes the largest η_l(2ρ_l + α_l) and the largest η_l κ_l: in the gauge
    w_l ∝ η_l^−½, whose λ_max is to be given, the step is the same in all layers, and an eigenvector z of the iteration
    with eigenvalue μ fulfils (μ − 1)² + (μ − 1)(r + k) + μ s = 0, r = z*AᵀRAz, s = z*AᵀSAz, k = z*Kz for the diagonal
    matrices R = ηρ, S = ηα, K = ηκ, so that the margin is at most 4 − 2(r + k) − s. In `pcalm.gauge` all of them are
    equal and it is exact.

    Raises:
        ValueError: a method with settings of a replica's and layer's own (ask for each replica on its own).
    """
    values = (method.step_size, method.penalty, method.dual_step, method.anchor)
    lengths = {len(value) for value in values if isinstance(value, tuple)}
    require(
        len(lengths) <= 1 and not any(isinstance(value, tuple) and isinstance(value[0], tuple) for value in values),
        "stability_margin needs the settings of one network, numbers or one per hidden layer: ask for each replica on "
        f"its own, got {method}",
    )
    layers = [per_layer(value, max(lengths, default=1)) for value in values]
    steepest = max(eta * (2 * rho + alpha) for eta, rho, alpha, _ in zip(*layers, strict=True))
    return 4 - eigenvalue * steepest - 2 * max(eta * kappa for eta, _, _, kappa in zip(*layers, strict=True))
