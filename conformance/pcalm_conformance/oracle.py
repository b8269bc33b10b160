"""The oracle: PC-ALM, PC and BP in float64 NumPy, written layer by layer straight from the equations.

It shares no code with any implementation under test, is slow, and is itself tested against finite differences of the
energy. Index l of the lists below is layer l of the equations; index 0 is unused (or the input).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pcalm_conformance.protocol import Problem, Solution
from pcalm_conformance.remembering import remembered

Layers = list[np.ndarray]

Map = Callable[[np.ndarray], np.ndarray]

PHI: dict[str, Map] = {"linear": lambda z: z, "tanh": np.tanh, "relu": lambda z: np.maximum(z, 0.0)}
DPHI: dict[str, Map] = {
    "linear": np.ones_like,
    "tanh": lambda z: 1.0 - np.tanh(z) ** 2,
    "relu": lambda z: (z > 0.0).astype(float),
}


class Network:
    """The model of a problem: s_l, W_l, φ, and everything that follows from them, in float64."""

    def __init__(self, problem: Problem) -> None:
        weights = [np.asarray(weight, dtype=np.float64) for weight in problem.weights]
        self.W: Layers = [np.empty(0), *weights]
        self.L = len(weights)
        self.N, self.D = weights[0].shape
        self.phi, self.dphi = PHI[problem.activation], DPHI[problem.activation]
        hidden = 1.0 / np.sqrt(self.N * self.L)
        self.s = [0.0, 1.0 / np.sqrt(self.D), *[hidden] * (self.L - 2), 1.0 / self.N]
        self.x = np.asarray(problem.inputs, dtype=np.float64)
        self.y = np.asarray(problem.targets, dtype=np.float64)

    def prediction(self, layer: int, below: np.ndarray) -> np.ndarray:
        if layer == 1:
            return self.s[1] * self.x @ self.W[1].T
        return below + self.s[layer] * self.phi(below) @ self.W[layer].T

    def feedforward(self) -> Layers:
        z = [np.empty(0)]
        for layer in range(1, self.L):
            z.append(self.prediction(layer, z[-1]))
        return z

    def output_error(self, z: Layers) -> np.ndarray:
        return self.s[self.L] * self.phi(z[self.L - 1]) @ self.W[self.L].T - self.y

    def residuals(self, z: Layers) -> Layers:
        return [np.empty(0), *(z[layer] - self.prediction(layer, z[layer - 1]) for layer in range(1, self.L))]

    def credit(self, z: Layers, lam: Layers, rho: float) -> Layers:
        c = self.residuals(z)
        return [np.empty(0), *(rho * c[layer] + lam[layer] for layer in range(1, self.L))]

    def send_down(self, layer: int, signal: np.ndarray, z: Layers) -> np.ndarray:
        """(∂pred_{l+1}/∂z_l)ᵀ applied to a signal at layer l+1 (skip connection included)."""
        s, W = self.s[layer + 1], self.W[layer + 1]
        return signal + s * (signal @ W) * self.dphi(z[layer])

    def loss_gradient(self, z: Layers) -> np.ndarray:
        return self.s[self.L] * (self.output_error(z) @ self.W[self.L]) * self.dphi(z[self.L - 1])

    def energy_gradient(self, z: Layers, lam: Layers, rho: float, kappa: float = 0.0) -> Layers:
        q = self.credit(z, lam, rho)
        below = [q[layer] - self.send_down(layer, q[layer + 1], z) for layer in range(1, self.L - 1)]
        gradient = [np.empty(0), *below, q[self.L - 1] + self.loss_gradient(z)]
        if kappa:
            anchor = self.feedforward()
            for layer in range(1, self.L):
                gradient[layer] = gradient[layer] + kappa * (z[layer] - anchor[layer])
        return gradient

    def energy(self, z: Layers, lam: Layers, rho: float, kappa: float = 0.0) -> np.ndarray:
        """E of every sample, [B]."""
        c, anchor = self.residuals(z), self.feedforward()
        total = 0.5 * (self.output_error(z) ** 2).sum(axis=-1)
        for layer in range(1, self.L):
            total = total + 0.5 * rho * ((c[layer] + lam[layer] / rho) ** 2).sum(axis=-1)
            total = total + 0.5 * kappa * ((z[layer] - anchor[layer]) ** 2).sum(axis=-1)
        return total

    def adjoint(self, z: Layers) -> Layers:
        """BP's δ_l = ∂(½‖out − y‖²)/∂z_l along the given (feed-forward) states."""
        delta: Layers = [np.empty(0)] * self.L
        delta[self.L - 1] = self.loss_gradient(z)
        for layer in range(self.L - 2, 0, -1):
            delta[layer] = self.send_down(layer, delta[layer + 1], z)
        return delta

    def weight_gradients(self, q: Layers, z: Layers) -> Layers:
        B = self.x.shape[0]
        hidden = [-self.s[layer] * q[layer].T @ self.phi(z[layer - 1]) / B for layer in range(2, self.L)]
        last = self.s[self.L] * self.output_error(z).T @ self.phi(z[self.L - 1]) / B
        return [-self.s[1] * q[1].T @ self.x / B, *hidden, last]


def stack(layers: Layers) -> np.ndarray:
    """Layers 1..L−1 as one array [L−1, B, N]."""
    return np.stack(layers[1:])


def unstack(array: np.ndarray) -> Layers:
    return [np.empty(0), *np.asarray(array, dtype=np.float64)]


@remembered
def solve(problem: Problem) -> Solution:
    """The solution of a problem, in float64 whatever the problem's dtype."""
    net = Network(problem)
    z = net.feedforward()
    lam = [np.zeros_like(layer) for layer in z]
    if problem.method == "bp":
        delta = net.adjoint(z)
        return Solution(stack(z), stack(lam), net.weight_gradients([-layer for layer in delta], z))
    alpha, kappa, inner, last_dual = problem.dual_step, problem.anchor, problem.inner_steps, problem.credit == "after"
    if problem.method == "pc":
        alpha, kappa, inner, last_dual = 0.0, 0.0, 1, False
    if problem.initial is not None:
        z, lam = (unstack(part) for part in problem.initial)
    for t in range(1, problem.steps + 1):
        for _ in range(inner):
            gradient = net.energy_gradient(z, lam, problem.penalty, kappa)
            z = [z[0], *(z[layer] - problem.step_size * gradient[layer] for layer in range(1, net.L))]
        if t < problem.steps or last_dual:
            c = net.residuals(z)
            lam = [lam[0], *(lam[layer] + alpha * c[layer] for layer in range(1, net.L))]
    q = net.credit(z, lam, problem.penalty)
    return Solution(stack(z), stack(lam), net.weight_gradients(q, z))


def backprop(problem: Problem) -> list[np.ndarray]:
    """BP's weight gradients for the network and batch of any problem."""
    net = Network(problem)
    z = net.feedforward()
    return net.weight_gradients([-layer for layer in net.adjoint(z)], z)


def kkt(problem: Problem) -> tuple[np.ndarray, np.ndarray]:
    """(z, λ) of the KKT point: the feed-forward states and λ = −δ, each [L−1, B, N]."""
    net = Network(problem)
    z = net.feedforward()
    return stack(z), -stack(net.adjoint(z))
