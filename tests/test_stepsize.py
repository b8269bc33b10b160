"""The step size against the dense Hessian, and the stability margin against the dense iteration."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import pcalm
from pcalm.dynamics import State
from pcalm.methods import PC, PCALM
from pcalm.network import ResidualMLP
from pcalm.stepsize import RESERVE, hessian, kept_step_size, largest_eigenvalue, stability_margin
from tests.conftest import draw, rounding

POWER_ITERATIONS = 64


def dense_hessian(net: ResidualMLP, x: Tensor, rho: float) -> Tensor:
    """ρ AᵀA + JᵀJ of the whole batch, by autograd of constraints and output; samples are blocks on its diagonal."""
    z_ff = net.feedforward(x).detach()

    a = constraint_jacobian(net, x)
    j = torch.autograd.functional.jacobian(lambda z: net.readout(z[-1]), z_ff).reshape(-1, z_ff.numel())
    return (rho * a.mT @ a + j.mT @ j).detach()


def constraint_jacobian(net: ResidualMLP, x: Tensor) -> Tensor:
    """A = ∂c/∂z of the whole batch at the feed-forward state, by autograd."""
    z_ff = net.feedforward(x).detach()

    def constraints(z: Tensor) -> Tensor:
        s = net.scales[1]
        below = [net.scales[0] * x @ net.input_weight.mT]
        below += [z[i] + s * net.phi(z[i]) @ weight.mT for i, weight in enumerate(net.hidden_weight)]
        return z - torch.stack(below)

    return torch.autograd.functional.jacobian(constraints, z_ff).reshape(z_ff.numel(), z_ff.numel()).detach()


@pytest.mark.parametrize("rho", [1.0, 0.3])
def test_step_size_is_one_over_the_largest_eigenvalue(activation: str, rho: float) -> None:
    net, x, _, _ = draw(activation, depth=4, width=3)
    hessian = dense_hessian(net, x, rho)
    v = torch.randn(3, 3, 3, dtype=net.dtype, generator=torch.Generator("cpu").manual_seed(0)).flatten()
    for _ in range(POWER_ITERATIONS):
        v = hessian @ (v / v.norm())
    # The same iteration on the same Hessian: rounding. How far it is from the limit: from a random start in n
    # dimensions the expected relative error after k steps is ≤ 0.871 ln(n)/(k − 1) (Kuczyński & Woźniakowski, 1992).
    found = largest_eigenvalue(net, x, rho)
    assert isinstance(found, float)
    assert found == pytest.approx(float(v.norm()), rel=rounding(net, POWER_ITERATIONS))
    exact = float(torch.linalg.eigvalsh(hessian)[-1])
    assert found == pytest.approx(exact, rel=0.871 * torch.tensor(len(v)).log().item() / (POWER_ITERATIONS - 1))
    assert pcalm.step_size(net, x, rho) == 1 / found


def test_step_size_is_computed_in_float64(activation: str) -> None:
    net, x, _, _ = draw(activation, dtype=torch.float32)
    double = ResidualMLP.from_weights([weight.double() for weight in net.weights], activation)
    assert pcalm.step_size(net, x) == pcalm.step_size(double, x.double())
    assert net.dtype == torch.float32


def test_step_size_of_replicas(activation: str) -> None:
    net, x, _, _ = draw(activation, replicas=2)
    found = pcalm.step_size(net, x)
    assert isinstance(found, tuple)
    for index, eta in enumerate(found):
        alone = pcalm.step_size(net.replica(index), x[index])
        assert eta == pytest.approx(alone, rel=rounding(net, POWER_ITERATIONS))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"penalty": 0.0}, "penalty must be positive and finite, got 0.0"),
        ({"x": torch.zeros(3, 5, dtype=torch.float64)}, "x must have shape [B, 6], got [3, 5]"),
        ({"x": torch.full((3, 6), torch.inf, dtype=torch.float64)}, "x must be finite: 18 of 18 values"),
        ({"x": torch.zeros(3, 6)}, "x must be torch.float64 on cpu like the network"),
    ],
)
def test_bad_arguments(change: dict[str, Any], message: str) -> None:
    net, x, _, _ = draw()
    with pytest.raises(ValueError, match=re.escape(message)):
        pcalm.step_size(**{"net": net, "x": x, **change})


def spectral_radius(net: ResidualMLP, method: PCALM) -> float:
    """Of one iteration of a linear network, read off the columns: at x = y = 0 the affine map has no constant part."""
    n = (net.depth - 1) * net.width
    basis = torch.eye(2 * n, dtype=net.dtype)
    z, lam = (part.reshape(2 * n, net.depth - 1, net.width).movedim(0, 1) for part in (basis[:, :n], basis[:, n:]))
    x, y = (torch.zeros(2 * n, size, dtype=net.dtype) for size in (net.input_dim, net.output_dim))
    after = pcalm.infer(net, method, x, y, State(z, lam), engine="reference")
    rows = torch.cat([part.movedim(1, 0).flatten(1) for part in after], dim=1)
    return float(torch.linalg.eigvals(rows).abs().max())


@pytest.mark.parametrize(("rho", "alpha"), [(1.0, 1.0), (0.1, 3.5), (0.25, 3.0)])
@pytest.mark.parametrize("kappa", [0.0, 0.5])
def test_margin_is_positive_exactly_where_the_iteration_is_stable(rho: float, alpha: float, kappa: float) -> None:
    # With W_L = 0 the loss has no curvature, so that the 2×2 maps per singular value of A are the whole iteration.
    drawn = draw("linear", depth=6).net.weights
    net = ResidualMLP.from_weights([*drawn[:-1], torch.zeros_like(drawn[-1])], "linear")
    eigenvalue = float(torch.linalg.eigvalsh(dense_hessian(net, torch.zeros(1, 6, dtype=net.dtype), 1.0))[-1])
    limit = 4 / (eigenvalue * (2 * rho + alpha) + 2 * kappa)  # the step at which the margin is 0
    for eta, stable in ((0.99 * limit, True), (1.01 * limit, False)):
        method = PCALM(1, eta, rho, alpha, credit="after", anchor=kappa)
        margin = stability_margin(method, eigenvalue)
        assert margin == pytest.approx(4 * (1 - eta / limit), rel=1e-12)
        assert (margin > 0) is stable
        assert (spectral_radius(net, method) < 1) is stable


def test_margin_of_pc_has_no_dual_step() -> None:
    assert stability_margin(PC(1, 0.25, penalty=2.0), 3.0) == 4 - 0.25 * 3 * 4


def test_margin_of_settings_of_each_layer_is_that_of_the_steepest() -> None:
    assert (
        stability_margin(PCALM(1, (0.25, 0.5), (1.0, 0.25), (1.0, 0.5), anchor=(0.5, 0.0)), 3.0) == 4 - 3 * 0.75 - 0.25
    )


@pytest.mark.parametrize("sizes", [((0.1, 0.2),) * 2, ((0.1,),)])
def test_margin_needs_one_network(sizes: tuple[tuple[float, ...], ...]) -> None:
    with pytest.raises(ValueError, match="stability_margin needs the settings of one network"):
        stability_margin(PC(1, sizes), 4.0)


@pytest.mark.parametrize("replicas", [None, 2])
def test_step_size_in_a_gauge_is_that_of_the_matrix_in_u(activation: str, replicas: int | None) -> None:
    net, x, _, _ = draw(activation, depth=4, width=3, replicas=replicas)
    single, inputs = (net, x) if replicas is None else (net.replica(1), x[1])
    w = torch.tensor([3.0, 0.5, 2.0], dtype=net.dtype)
    scale = w.repeat_interleave(9)
    # With W_L scaled as well, dense_hessian's loss term is that of the matrix in u, its constraints' are scaled here.
    whole = dense_hessian(single, inputs, 0.7)
    without_loss = ResidualMLP.from_weights([*single.weights[:-1], torch.zeros_like(single.weights[-1])], activation)
    loss_term = (whole - dense_hessian(without_loss, inputs, 0.7)) / scale[:, None] / scale
    a = constraint_jacobian(single, inputs) * scale[:, None] / scale
    exact = 0.7 * a.mT @ a + loss_term
    v = torch.randn(27, dtype=net.dtype, generator=torch.Generator("cpu").manual_seed(0))
    for _ in range(POWER_ITERATIONS):
        v = exact @ (v / v.norm())
    rows = w.tolist() if replicas is None else [[1.0, 1.0, 1.0], w.tolist()]
    found = largest_eigenvalue(net, x, 0.7, gauge=rows)
    value = found if isinstance(found, float) else found[1]
    # Rounding in u is scaled by the largest ratio of weights, twice.
    assert value == pytest.approx(float(v.norm()), rel=36 * rounding(net, POWER_ITERATIONS))


def test_a_kept_step_size_leaves_the_reserve_and_is_never_zero() -> None:
    for method in (PC(1, 0.1), PCALM(1, 0.1), PCALM(1, 0.1, 0.1, 3.5, anchor=1.0), PCALM(1, 0.1, 5.0, 5.0)):
        eta = kept_step_size(method, 4.5)
        margin = stability_margin(dataclasses.replace(method, step_size=eta), 4.5)
        assert eta == 1 / 4.5 or margin == pytest.approx(RESERVE, abs=1e-12)
        assert margin >= RESERVE - 1e-12
    with pytest.raises(ValueError, match=r"anchor κ = 1e\+308 leave no stable step size at λ_max = 4\.5; use smaller"):
        kept_step_size(PCALM(1, 0.1, anchor=1e308), 4.5)


def test_following_sees_a_sample_that_overtakes() -> None:
    """The largest sample falls back: the old vectors of the samples find the other one, that of the batch not."""
    net, x, _, _ = draw("relu", depth=5, width=6, batch=2)
    before = hessian(net, x)
    _, v = before.follow(before.start(), 200)
    _, whole = before.power_iteration(before.start(), 200)
    values = [largest_eigenvalue(net, each[None]) for each in x]
    larger = int(np.argmax(values))
    other = x.clone()
    other[larger] = 0
    after = hessian(net, other)
    found, _ = after.follow(v, 30)
    truth = largest_eigenvalue(net, other)
    assert isinstance(truth, float)
    # Thirty iterations of each sample's own: the eigenvalues are dense, so that a thousandth is what is left.
    assert float(found) == pytest.approx(truth, rel=1e-2)
    blind, _ = after.power_iteration(whole, 30)
    assert float(blind) < 0.95 * truth


@pytest.mark.parametrize("seed", range(5))
def test_following_is_above_an_eigenvalue_that_rises(seed: int) -> None:
    """After weights have moved by a tenth, two steps from the old vector bound λ_max; a power iteration's lag behind.

    The residual is of the new matrix at the old vector, so of the size of the change: the bound is within it.
    """
    generator = torch.Generator().manual_seed(seed)
    net = ResidualMLP(8, 6, 5, 3, seed=seed, dtype=torch.float64)
    x = torch.randn(3, 5, generator=generator, dtype=torch.float64)
    before = hessian(net, x)
    _, v = before.follow(before.start(), 30)
    moved = [
        weight + 0.1 * torch.randn(weight.shape, generator=generator, dtype=weight.dtype) for weight in net.weights
    ]
    after = hessian(ResidualMLP.from_weights([weight.detach() for weight in moved]), x)
    truth, _ = after.power_iteration(after.start(), 2000)
    bound, _ = after.follow(v, 2)
    lagging, _ = after.power_iteration(v, 2)
    assert float(lagging) < float(truth) <= float(bound) < 1.1 * float(truth)


def test_following_overflowing_weights_finds_no_number() -> None:
    net, x, _, _ = draw("relu", depth=4, width=4, batch=2)
    v = hessian(net, x).start()
    with torch.no_grad():
        net.hidden_weight.fill_(1e200)
    found, _ = hessian(net, x).follow(v, 2)
    assert not torch.isfinite(found)
