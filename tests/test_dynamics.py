"""The reference dynamics against autograd of the energy, written here from its definition, layer by layer."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pcalm import dynamics
from pcalm.dynamics import State
from pcalm.methods import BP, PC, PCALM
from pcalm.network import ResidualMLP
from tests.conftest import assert_near, draw, rounding

RHO, ALPHA, KAPPA, ETA = 0.7, 1.3, 0.4, 0.15


def energy(net: ResidualMLP, z: Tensor, lam: Tensor, x: Tensor, y: Tensor, rho: float, kappa: float = 0.0) -> Tensor:
    """Σ over samples (and replicas) of ½‖out − y‖² + Σ_l (ρ/2) ‖c_l + λ_l/ρ‖² + Σ_l (κ/2) ‖z_l − z_l^ff‖²."""
    states, multipliers, weights = z.unbind(-3), lam.unbind(-3), net.weights
    s_in, s, s_out = net.scales
    predictions = [s_in * x @ weights[0].mT]
    for below, weight in zip(states[:-1], weights[1:-1], strict=True):
        predictions.append(below + s * net.phi(below) @ weight.mT)
    total = ((s_out * net.phi(states[-1]) @ weights[-1].mT - y) ** 2).sum() / 2
    for state, prediction, multiplier in zip(states, predictions, multipliers, strict=True):
        total = total + rho / 2 * ((state - prediction + multiplier / rho) ** 2).sum()
    return total + kappa / 2 * ((z - net.feedforward(x).detach()) ** 2).sum()


def slope(net: ResidualMLP, z: Tensor, lam: Tensor, x: Tensor, y: Tensor, rho: float, kappa: float) -> Tensor:
    """∂E/∂z by autograd."""
    z = z.detach().requires_grad_()
    return torch.autograd.grad(energy(net, z, lam, x, y, rho, kappa), z)[0]


def constraint(net: ResidualMLP, z: Tensor, x: Tensor) -> Tensor:
    return dynamics.residuals(net, z, net.feedforward(x)[..., :1, :, :]).detach()


@pytest.mark.parametrize("kappa", [0.0, KAPPA])
def test_primal_gradient_is_the_derivative_of_the_energy(activation: str, replicas: int | None, kappa: float) -> None:
    net, x, y, (z, lam) = draw(activation, replicas=replicas)
    credit = RHO * constraint(net, z, x) + lam
    found = dynamics.primal_gradient(net, credit, z, y, net.feedforward(x), kappa)
    assert_near(found, slope(net, z, lam, x, y, RHO, kappa), rounding(net))


def test_weight_gradients_are_the_derivative_of_the_energy(activation: str, replicas: int | None) -> None:
    # The anchor is in the method and not in the energy here: it never enters the weight gradients.
    net, x, y, state = draw(activation, replicas=replicas)
    method = PCALM(1, ETA, penalty=RHO, anchor=KAPPA)
    found = dynamics.gradients(net, method, x, y, state)
    expected = torch.autograd.grad(energy(net, *state, x, y, RHO), list(net.parameters()))
    for mine, exact in zip(found, expected, strict=True):
        assert_near(mine, exact / x.shape[-2], rounding(net))


def test_bp_is_the_derivative_of_the_loss(activation: str, replicas: int | None) -> None:
    net, x, y, _ = draw(activation, replicas=replicas)
    state = dynamics.infer(net, BP(), x, y)
    assert torch.equal(state.activities, net.feedforward(x))
    assert not state.multipliers.any()
    found = dynamics.gradients(net, BP(), x, y, state)
    loss = ((net(x) - y) ** 2).sum() / 2 / x.shape[-2]
    for mine, exact in zip(found, torch.autograd.grad(loss, list(net.parameters())), strict=True):
        assert_near(mine, exact, rounding(net))


def test_adjoint_is_the_derivative_of_the_loss_by_the_states(activation: str, replicas: int | None) -> None:
    net, x, y, _ = draw(activation, replicas=replicas)
    # A shift of every state, at zero: its derivative is δ.
    shift = torch.zeros_like(net.feedforward(x)).requires_grad_()
    z = net.scales[0] * x @ net.input_weight.mT + shift[..., 0, :, :]
    for layer, weight in enumerate(net.hidden_weight.unbind(-3), 1):
        z = z + net.scales[1] * net.phi(z) @ weight.mT + shift[..., layer, :, :]
    (exact,) = torch.autograd.grad(((net.readout(z) - y) ** 2).sum() / 2, shift)
    assert_near(dynamics.adjoint(net, net.feedforward(x), y), exact, rounding(net))


@pytest.mark.parametrize("start", ["feed-forward", "given"])
@pytest.mark.parametrize("credit", ["before", "after"])
@pytest.mark.parametrize("inner_steps", [1, 3])
@pytest.mark.parametrize("kappa", [0.0, KAPPA])
def test_infer_is_the_iteration(activation: str, start: str, credit: str, inner_steps: int, kappa: float) -> None:
    net, x, y, given = draw(activation)
    steps = 4
    method = PCALM(steps, ETA, RHO, ALPHA, inner_steps, credit, kappa)
    z_ff = net.feedforward(x).detach()
    z, lam = (z_ff, torch.zeros_like(z_ff)) if start == "feed-forward" else given
    found = dynamics.infer(net, method, x, y, None if start == "feed-forward" else given)
    for t in range(steps):
        for _ in range(inner_steps):
            z = z - ETA * slope(net, z, lam, x, y, RHO, kappa)
        if credit == "after" or t < steps - 1:
            lam = lam + ALPHA * constraint(net, z, x)
    bound = rounding(net, iterations=steps * inner_steps)
    assert_near(found.activities, z, bound)
    assert_near(found.multipliers, lam, bound)


def test_pc_is_pcalm_without_dual_steps(activation: str) -> None:
    net, x, y, (z, lam) = draw(activation)
    start = State(z, torch.zeros_like(lam))
    found = dynamics.infer(net, PC(5, ETA, RHO), x, y, start)
    assert torch.equal(found.activities, dynamics.infer(net, PCALM(5, ETA, RHO, dual_step=0), x, y, start).activities)
    assert not found.multipliers.any()


def test_feedforward_states_with_bps_adjoint_are_a_fixed_point(activation: str, replicas: int | None) -> None:
    net, x, y, _ = draw(activation, replicas=replicas)
    z_ff = net.feedforward(x).detach()
    kkt = State(z_ff, -dynamics.adjoint(net, z_ff, y))
    method = PCALM(5, ETA, RHO, ALPHA, credit="after", anchor=KAPPA)
    found = dynamics.infer(net, method, x, y, kkt)
    for part, exact in zip(found, kkt, strict=True):
        assert_near(part, exact, rounding(net, iterations=method.steps))
    exact_gradients = dynamics.gradients(net, BP(), x, y, kkt)
    for mine, exact in zip(dynamics.gradients(net, method, x, y, kkt), exact_gradients, strict=True):
        assert_near(mine, exact, rounding(net))


def test_information_moves_one_layer_per_step(activation: str) -> None:
    net, x, y, _ = draw(activation, depth=8)
    z_ff = net.feedforward(x).detach()
    still = 100 * torch.finfo(net.dtype).eps * float(z_ff.abs().max())
    for steps in range(1, net.depth):
        moved = (dynamics.infer(net, PCALM(steps, ETA), x, y).activities - z_ff).abs().amax(dim=(-2, -1)) > still
        assert moved.tolist() == [layer >= net.depth - 1 - steps for layer in range(net.depth - 1)]


def test_observer_sees_every_primal_step() -> None:
    net, x, y, _ = draw()
    method = PCALM(3, ETA, RHO, ALPHA, inner_steps=2)
    seen: list[tuple[int, Tensor, Tensor]] = []
    final = dynamics.infer(net, method, x, y, observe=lambda number, q, z: seen.append((number, q, z)))
    assert [number for number, _, _ in seen] == [1, 2, 3, 4, 5, 6]
    _, credit, z = seen[-1]
    assert torch.equal(z, final.activities)
    assert_near(credit, RHO * constraint(net, z, x) + final.multipliers, rounding(net))


@pytest.mark.parametrize("credit", ["before", "after"])
def test_settings_of_a_layers_own(activation: str, credit: str) -> None:
    net, x, y, (z, lam) = draw(activation)
    eta, rho, alpha, kappa = (0.1, 0.2, 0.15, 0.05), (0.7, 1.0, 0.3, 2.0), (1.0, 0.2, 3.0, 0.5), (0.1, 0.0, 0.4, 0.2)
    method = PCALM(3, eta, rho, alpha, 2, credit, kappa)
    start = State(z, lam)
    found = dynamics.infer(net, method, x, y, start)
    e, r, a, k = (torch.tensor(value, dtype=net.dtype).view(-1, 1, 1) for value in (eta, rho, alpha, kappa))
    z_ff = net.feedforward(x).detach()
    for t in range(3):
        for _ in range(2):
            # With ρ = 1 and λ = ρ_l c_l + λ_l − c_l the energy's credit is that of the layer's own penalty.
            c = constraint(net, z, x)
            z = z - e * (slope(net, z, r * c + lam - c, x, y, 1.0, 0.0) + k * (z - z_ff))
        if credit == "after" or t < 2:
            lam = lam + a * constraint(net, z, x)
    for part, exact in zip(found, (z, lam), strict=True):
        assert_near(part, exact, rounding(net, iterations=6))
    at_end = dynamics.gradients(net, method, x, y, found)
    c = constraint(net, z, x)
    expected = torch.autograd.grad(energy(net, z, r * c + lam - c, x, y, 1.0), list(net.parameters()))
    for mine, exact in zip(at_end, expected, strict=True):
        assert_near(mine, exact / x.shape[-2], rounding(net, iterations=6))


def test_settings_of_replicas_and_layers() -> None:
    net, x, y, state = draw(replicas=4)  # R = L−1, where a flat sequence is one per replica
    rows = [[0.1 + 0.01 * (layer + 4 * r) for layer in range(4)] for r in range(4)]
    for value, of_replica in ((rows, rows), (rows[0], [[number] * 4 for number in rows[0]])):
        found = dynamics.infer(net, PCALM(4, value, value, value, anchor=value), x, y, state)  # type: ignore[arg-type]
        for index, own in enumerate(of_replica):
            start = State(state.activities[index], state.multipliers[index])
            method = PCALM(4, tuple(own), tuple(own), tuple(own), anchor=tuple(own))
            alone = dynamics.infer(net.replica(index), method, x[index], y[index], start)
            for part, single in zip(found, alone, strict=True):
                assert_near(part[index], single, rounding(net, iterations=4))


def test_step_size_per_replica() -> None:
    net, x, y, state = draw(replicas=2)
    found = dynamics.infer(net, PCALM(4, (0.1, 0.2)), x, y, state)
    for index, eta in enumerate((0.1, 0.2)):
        start = State(state.activities[index], state.multipliers[index])
        alone = dynamics.infer(net.replica(index), PCALM(4, eta), x[index], y[index], start)
        for part, single in zip(found, alone, strict=True):
            assert_near(part[index], single, rounding(net, iterations=4))
