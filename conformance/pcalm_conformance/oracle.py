"""The oracle: PC-ALM, PC and BP in float64 NumPy, written layer by layer straight from the equations.

It shares no code with any implementation under test, is slow, and is itself tested against finite differences of the
energy. Index l of the lists below is layer l of the equations; index 0 is unused (or the input).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from pcalm_conformance.protocol import Problem, Solution
from pcalm_conformance.remembering import remembered

Layers = list[np.ndarray]
Setting = float | Sequence[float]  # a number, or one for each hidden layer

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

    def each(self, setting: Setting) -> list[float]:
        """A setting of every hidden layer, by layer."""
        return [0.0, *np.broadcast_to(np.asarray(setting, np.float64), self.L - 1).tolist()]

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

    def credit(self, z: Layers, lam: Layers, penalty: Setting) -> Layers:
        c, rho = self.residuals(z), self.each(penalty)
        return [np.empty(0), *(rho[layer] * c[layer] + lam[layer] for layer in range(1, self.L))]

    def send_down(self, layer: int, signal: np.ndarray, z: Layers) -> np.ndarray:
        """(∂pred_{l+1}/∂z_l)ᵀ applied to a signal at layer l+1 (skip connection included)."""
        s, W = self.s[layer + 1], self.W[layer + 1]
        return signal + s * (signal @ W) * self.dphi(z[layer])

    def loss_gradient(self, z: Layers) -> np.ndarray:
        return self.s[self.L] * (self.output_error(z) @ self.W[self.L]) * self.dphi(z[self.L - 1])

    def energy_gradient(self, z: Layers, lam: Layers, penalty: Setting, anchor: Setting = 0.0) -> Layers:
        q, kappa = self.credit(z, lam, penalty), self.each(anchor)
        below = [q[layer] - self.send_down(layer, q[layer + 1], z) for layer in range(1, self.L - 1)]
        gradient = [np.empty(0), *below, q[self.L - 1] + self.loss_gradient(z)]
        if any(kappa):
            start = self.feedforward()
            for layer in range(1, self.L):
                gradient[layer] = gradient[layer] + kappa[layer] * (z[layer] - start[layer])
        return gradient

    def energy(self, z: Layers, lam: Layers, penalty: Setting, anchor: Setting = 0.0) -> np.ndarray:
        """E of every sample, [B]."""
        c, start, rho, kappa = self.residuals(z), self.feedforward(), self.each(penalty), self.each(anchor)
        total = 0.5 * (self.output_error(z) ** 2).sum(axis=-1)
        for layer in range(1, self.L):
            total = total + 0.5 * rho[layer] * ((c[layer] + lam[layer] / rho[layer]) ** 2).sum(axis=-1)
            total = total + 0.5 * kappa[layer] * ((z[layer] - start[layer]) ** 2).sum(axis=-1)
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


class Rescaled(Network):
    """The same network as a chain of other blocks, f̃_l(u) = w_l f_l(u/w_{l-1}), whose states are u_l = w_l z_l."""

    def __init__(self, problem: Problem, w: Sequence[float]) -> None:
        super().__init__(problem)
        self.plain, self.w = Network(problem), [1.0, *w]

    def states(self, u: Layers) -> Layers:
        """z_l = u_l/w_l."""
        return [layer / weight for layer, weight in zip(u, self.w, strict=True)]

    def prediction(self, layer: int, below: np.ndarray) -> np.ndarray:
        return self.w[layer] * self.plain.prediction(layer, below / self.w[layer - 1])

    def send_down(self, layer: int, signal: np.ndarray, u: Layers) -> np.ndarray:
        return self.plain.send_down(layer, self.w[layer + 1] * signal, self.states(u)) / self.w[layer]

    def output_error(self, u: Layers) -> np.ndarray:
        return self.plain.output_error(self.states(u))

    def loss_gradient(self, u: Layers) -> np.ndarray:
        return self.plain.loss_gradient(self.states(u)) / self.w[self.L - 1]

    def weight_gradients(self, q: Layers, u: Layers) -> Layers:
        """In W_l: −q_lᵀ ∂f̃_l/∂W_l, where f̃_l has w_l before it."""
        weighted = [weight * layer for layer, weight in zip(q, self.w, strict=True)]
        return self.plain.weight_gradients(weighted, self.states(u))


def stack(layers: Layers) -> np.ndarray:
    """Layers 1..L−1 as one array [L−1, B, N]."""
    return np.stack(layers[1:])


def unstack(array: np.ndarray) -> Layers:
    return [np.empty(0), *np.asarray(array, dtype=np.float64)]


@remembered
def solve(problem: Problem) -> Solution:
    """The solution of a problem, in float64 whatever the problem's dtype."""
    return solution(Network(problem), problem)


def solve_rescaled(problem: Problem, w: Sequence[float]) -> Solution:
    """What the rescaled network's solution says about z: there the problem's settings are those of u_l = w_l z_l, and
    the multipliers are λ_l/w_l."""
    weight = np.reshape(w, (-1, 1, 1))
    if problem.initial is not None:
        z, lam = (np.asarray(part, np.float64) for part in problem.initial)
        problem = dataclasses.replace(problem, initial=(weight * z, lam / weight))
    found = solution(Rescaled(problem, w), problem)
    return Solution(found.activities / weight, found.multipliers * weight, found.gradients)


def solution(net: Network, problem: Problem) -> Solution:
    """The solution of a problem on a network."""
    z = net.feedforward()
    lam = [np.zeros_like(layer) for layer in z]
    if problem.method == "bp":
        delta = net.adjoint(z)
        return Solution(stack(z), stack(lam), net.weight_gradients([-layer for layer in delta], z))
    eta, alpha, kappa = net.each(problem.step_size), net.each(problem.dual_step), problem.anchor
    inner, last_dual = problem.inner_steps, problem.credit == "after"
    if problem.method == "pc":
        alpha, kappa, inner, last_dual = net.each(0.0), 0.0, 1, False
    if problem.initial is not None:
        z, lam = (unstack(part) for part in problem.initial)
    for t in range(1, problem.steps + 1):
        for _ in range(inner):
            gradient = net.energy_gradient(z, lam, problem.penalty, kappa)
            z = [z[0], *(z[layer] - eta[layer] * gradient[layer] for layer in range(1, net.L))]
        if t < problem.steps or last_dual:
            c = net.residuals(z)
            lam = [lam[0], *(lam[layer] + alpha[layer] * c[layer] for layer in range(1, net.L))]
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
