"""Any network as a chain of blocks, and the dynamics of PC and PC-ALM on it: `pcalm.dynamics` for any f_l.

    z_l = f_l(z_{l-1}), l = 1..L−1, of any shape [B, …];   z_0 = x;   out = f_L(z_{L-1})

With c_l = z_l − f_l(z_{l-1}) and q_l = ρ_l c_l + λ_l for l ≤ L−1, with q_L = −∂ℓ/∂out, so that the loss is the edge
above the top layer, and with J_l = ∂f_l/∂z_{l-1}, taken by the block's own vector–Jacobian product:

    E(z, λ) = ℓ(out, y) + Σ_l (ρ_l/2) ‖c_l + λ_l/ρ_l‖² + Σ_l (κ_l/2) ‖z_l − z_l^ff‖²                (energy)
    ∂E/∂z_l = q_l − J_{l+1}ᵀ q_{l+1} + κ_l (z_l − z_l^ff)                                   (primal gradient)
    z_l ← z_l − η_l ∂E/∂z_l,   all layers at once from the same old z                           (primal step)
    λ_l ← λ_l + α_l c_l        at the new z                                                       (dual step)
    ∂E/∂θ_l = −q_lᵀ ∂f_l/∂θ_l,  batch mean                                               (parameter gradients)
    δ_L = ∂ℓ/∂out,  δ_l = J_{l+1}ᵀ δ_{l+1}:   backpropagation is q = −δ at the feed-forward state

Source: Seely & Gould, Augmented Lagrangian Predictive Coding, arXiv:2605.31022, whose residual MLP is one such chain;
other blocks, other losses and the anchor κ are extensions of ours.
Shapes: hidden layer l at index l−1, each [B, …].
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from pcalm.checks import require
from pcalm.dynamics import State
from pcalm.methods import BP, Method, per_layer

Loss = Callable[[Tensor, Any], Tensor]
Observer = Callable[[int, list[Tensor], list[Tensor]], None]


def squared(out: Tensor, y: Tensor) -> Tensor:
    """½‖out − y‖² of every sample, [B]."""
    return (out - y).square().reshape(len(out), -1).sum(1) / 2


def cross_entropy(out: Tensor, y: Tensor) -> Tensor:
    """−log softmax(out)_y of every sample, [B], for logits [B, C] and class indices [B]."""
    return F.cross_entropy(out, y, reduction="none")


LOSSES: dict[str, Loss] = {"squared": squared, "cross_entropy": cross_entropy}


class Blocks(nn.Module):
    """A network as a chain of L ≥ 2 blocks f_1..f_L, each any differentiable module of one input and one output.

    Args:
        blocks: the modules, in order; held, not copied. f_1 takes x of any dtype. Every output is [B, …], of the
            parameters' dtype, and depends for each sample on that sample alone. A module may stand in several places.
        loss: "squared" is ½‖out − y‖² summed over all but the batch; "cross_entropy" takes logits [B, C] and class
            indices [B]; a callable of (out, y) returns one value per sample, [B].

    Attributes:
        blocks: the modules, as an `nn.ModuleList`.
        loss: as given.

    Raises:
        ValueError: fewer than two blocks, something that is no module, an unknown loss.

    Extension of ours: the equations are those of Seely & Gould (arXiv:2605.31022) for any f_l.
    """

    def __init__(self, blocks: Iterable[nn.Module], loss: str | Loss = "squared") -> None:
        blocks = list(blocks)
        require(len(blocks) >= 2, f"blocks must be at least 2 modules (one hidden layer), got {len(blocks)}")
        for index, block in enumerate(blocks):
            require(
                isinstance(block, nn.Module),
                f"blocks[{index}] must be a torch.nn.Module, got {type(block).__name__}; wrap a function into one",
            )
        known = ", ".join(repr(name) for name in LOSSES)
        require(
            loss in LOSSES if isinstance(loss, str) else callable(loss),
            f"loss must be one of {known}, or a callable (out, y) -> [B], got {loss!r}",
        )
        require(
            not isinstance(loss, nn.Module) or not list(loss.parameters()),
            "loss must have no parameters: put what is learned into the last block",
        )
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.loss = loss

    @classmethod
    def from_sequential(cls, model: nn.Sequential, loss: str | Loss = "squared") -> Blocks:
        """A model as blocks of one module with parameters each, which share its modules.

        A module without parameters (an activation, pooling, flatten) is joined to the one with parameters behind it, at
        the end to the one before it: Linear, ReLU, Linear are two blocks, Linear and ReLU → Linear, whose state is the
        activation's input, as in `ResidualMLP`. `Blocks(model)` makes a block of every module instead.

        Raises:
            ValueError: no `nn.Sequential`, or fewer than two modules with parameters.
        """
        require(
            isinstance(model, nn.Sequential),
            f"model must be a torch.nn.Sequential, got {type(model).__name__}; give Blocks the list of its blocks",
        )
        groups: list[list[nn.Module]] = [[]]
        for module in model:
            groups[-1].append(module)
            if any(True for _ in module.parameters()):
                groups.append([])
        rest = groups.pop()
        require(
            len(groups) >= 2,
            f"model must have at least 2 modules with parameters, got {len(groups)}; Blocks(model) makes a block of "
            "every module",
        )
        groups[-1] += rest
        return cls([group[0] if len(group) == 1 else nn.Sequential(*group) for group in groups], loss)

    @property
    def depth(self) -> int:
        """L, the number of blocks."""
        return len(self.blocks)

    @property
    def replicas(self) -> None:
        """None: blocks have no replica dimension."""

    @property
    def dtype(self) -> torch.dtype:
        """That of the parameters, and so of all states."""
        return next((p.dtype for p in self.parameters()), torch.get_default_dtype())

    @property
    def device(self) -> torch.device:
        return next((p.device for p in self.parameters()), torch.device("cpu"))

    def losses(self, out: Tensor, y: Any) -> Tensor:
        """ℓ(out, y) of every sample, [B]."""
        return (LOSSES[self.loss] if isinstance(self.loss, str) else self.loss)(out, y)

    def feedforward(self, x: Tensor) -> list[Tensor]:
        """The feed-forward states z_1..z_{L-1} of inputs [B, …]."""
        states: list[Tensor] = []
        for block in self.blocks[:-1]:
            states.append(block(states[-1] if states else x))
        return states

    def forward(self, x: Tensor) -> Tensor:
        """Outputs [B, …] for inputs [B, …]; differentiable."""
        return self.blocks[-1](self.feedforward(x)[-1])

    def extra_repr(self) -> str:
        return f"depth={self.depth}, loss={self.loss!r}"


@torch.no_grad()
def infer(
    net: Blocks, method: Method, x: Tensor, y: Any, initial: State | None = None, observe: Observer | None = None
) -> State:
    """The state after the method's whole budget, from the feed-forward state with λ = 0 unless `initial` is given.

    `observe(t, q, z)` is called with the credit q_1..q_{L-1} at which each primal step t = 1, 2, ... ends, and its
    activities.
    """
    z_ff = net.feedforward(x)
    z, lam = (z_ff, [torch.zeros_like(each) for each in z_ff]) if initial is None else map(list, initial)
    if isinstance(method, BP):
        return as_state(z, lam)
    hidden = range(net.depth - 1)
    eta, rho, alpha, kappa = (
        per_layer(setting, net.depth - 1)
        for setting in (method.step_size, method.penalty, method.dual_step, method.anchor)
    )
    f, out, pull = linearise(net, z_ff, z)
    for t in range(1, method.steps + 1):
        for i in range(1, method.inner_steps + 1):
            q = [rho[h] * (z[h] - f[h]) + lam[h] for h in hidden] + [-loss_gradient(net, out, y)]
            slope = [q[h] - pull(h, q[h + 1]) + kappa[h] * (z[h] - z_ff[h]) for h in hidden]
            z = [z[h] - eta[h] * slope[h] for h in hidden]
            f, out, pull = linearise(net, z_ff, z)
            if observe is not None:
                number = (t - 1) * method.inner_steps + i
                observe(number, [rho[h] * (z[h] - f[h]) + lam[h] for h in hidden], z)
        if t < method.steps or method.credit == "after":
            lam = [lam[h] + alpha[h] * (z[h] - f[h]) for h in hidden]
    return as_state(z, lam)


@torch.no_grad()
def gradients(net: Blocks, method: Method, x: Tensor, y: Any, state: State) -> ParameterGradients:
    """The gradients of the batch mean of E by the parameters, at the given state."""
    return parameter_gradients(net, credit(net, method, x, y, state), x, list(state.activities))


@torch.no_grad()
def input_gradient(net: Blocks, method: Method, x: Tensor, y: Any, state: State) -> Tensor:
    """The derivative of the batch mean of E by x at the given state, −J_1ᵀ q_1 / B."""
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        above = net.blocks[0](x)
    if not above.requires_grad:  # f_1 does not depend on x
        return torch.zeros_like(x)
    q = credit(net, method, x, y, state)[0]
    return torch.autograd.grad(above, x, -q / len(x), materialize_grads=True)[0]


def credit(net: Blocks, method: Method, x: Tensor, y: Any, state: State) -> list[Tensor]:
    """q_1..q_L at the given state; −δ for backpropagation."""
    z, lam = map(list, state)
    if isinstance(method, BP):
        return [-delta for delta in adjoint(net, z, y)]
    rho = per_layer(method.penalty, net.depth - 1)
    f, out, _ = linearise(net, net.feedforward(x), z)
    return [rho[h] * (z[h] - f[h]) + lam[h] for h in range(net.depth - 1)] + [-loss_gradient(net, out, y)]


def linearise(
    net: Blocks, z_ff: Sequence[Tensor], z: Sequence[Tensor]
) -> tuple[list[Tensor], Tensor, Callable[[int, Tensor], Tensor]]:
    """f_1..f_{L-1} at z (f_1(x) is z_1^ff), out = f_L(z_{L-1}), and pull(h, q) = J_{l+1}ᵀ q for index h = l − 1.

    Each product may be asked for once.
    """
    below = [each.detach().requires_grad_() for each in z]
    with torch.enable_grad():
        above = [block(each) for block, each in zip(net.blocks[1:], below, strict=True)]

    def pull(h: int, q: Tensor) -> Tensor:
        if not above[h].requires_grad:  # f_{l+1} does not depend on z_l
            return torch.zeros_like(below[h])
        return torch.autograd.grad(above[h], below[h], q, materialize_grads=True)[0]

    return [z_ff[0], *(each.detach() for each in above[:-1])], above[-1].detach(), pull


def loss_gradient(net: Blocks, out: Tensor, y: Any) -> Tensor:
    """∂ℓ/∂out of every sample, [B, …]."""
    out = out.detach().requires_grad_()
    with torch.enable_grad():
        total = net.losses(out, y).sum()
    return torch.autograd.grad(total, out)[0]


def linear_maps(
    net: Blocks, z: Sequence[Tensor]
) -> tuple[Callable[[int, Tensor], Tensor], Callable[[int, Tensor], Tensor]]:
    """push(h, v) = J_{l+1} v and pull(h, q) = J_{l+1}ᵀ q at index h = l − 1, as often as one likes.

    J v is the derivative by q of Jᵀ q in the direction v, which needs no more than that blocks can be derived twice.
    """
    graphs = []
    with torch.enable_grad(), plain_attention():
        for block, each in zip(net.blocks[1:], z, strict=True):
            below = each.detach().requires_grad_()
            above = block(below)
            q = torch.zeros_like(above, requires_grad=True)
            back = torch.autograd.grad(above, below, q, create_graph=True, materialize_grads=True)[0]
            graphs.append((below, above, q, back))

    def push(h: int, v: Tensor) -> Tensor:
        _, _, q, back = graphs[h]
        return torch.autograd.grad(back, q, v, retain_graph=True, materialize_grads=True)[0]

    def pull(h: int, v: Tensor) -> Tensor:
        below, above, _, _ = graphs[h]
        return torch.autograd.grad(above, below, v, retain_graph=True, materialize_grads=True)[0]

    return push, pull


@contextlib.contextmanager
def plain_attention() -> Iterator[None]:
    """Attention by its formula: fused kernels can neither be derived twice nor run under `torch.func.vmap`."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def loss_curvature(net: Blocks, out: Tensor, y: Any) -> Callable[[Tensor], Tensor]:
    """v ↦ (∂²ℓ/∂out²) v."""
    out = out.detach().requires_grad_()
    with torch.enable_grad():
        slope = torch.autograd.grad(net.losses(out, y).sum(), out, create_graph=True)[0]

    def product(v: Tensor) -> Tensor:
        if not slope.requires_grad:  # a loss linear in out
            return torch.zeros_like(v)
        return torch.autograd.grad(slope, out, v, retain_graph=True, materialize_grads=True)[0]

    return product


def adjoint(net: Blocks, z_ff: Sequence[Tensor], y: Any) -> list[Tensor]:
    """BP's δ_l = ∂ℓ/∂z_l for l = 1..L−1 at the feed-forward state, and δ_L = ∂ℓ/∂out.

    λ = −δ is PC-ALM's fixed point.
    """
    _, out, pull = linearise(net, z_ff, z_ff)
    delta = [loss_gradient(net, out, y)]
    for h in reversed(range(net.depth - 1)):
        delta.insert(0, pull(h, delta[0]))
    return delta


class ParameterGradients(tuple[Tensor | None, ...]):
    """One gradient per parameter, in the order of `net.parameters()`; None where the parameter is frozen or unused."""

    __slots__ = ()

    def as_list(self) -> list[Tensor | None]:
        return list(self)


def parameter_gradients(net: Blocks, q: Sequence[Tensor], x: Tensor, z: Sequence[Tensor]) -> ParameterGradients:
    """−q_lᵀ ∂f_l/∂θ / B, summed over the blocks that use θ, from the credit q_1..q_L."""
    every = zip(net.blocks, [x, *z], q, strict=True)
    return summed(net, [pair for block, below, credit in every for pair in block_gradients(block, below, credit)])


def block_gradients(block: nn.Module, below: Tensor, q: Tensor) -> list[tuple[Tensor, Tensor | None]]:
    """Every parameter that the block learns with −qᵀ ∂f/∂θ / B; None where f does not depend on it."""
    learned = [parameter for parameter in block.parameters() if parameter.requires_grad]
    with torch.enable_grad():
        f = block(below.detach())
    if not learned or not f.requires_grad:
        return []
    return list(zip(learned, torch.autograd.grad(f, learned, -q / len(below), allow_unused=True), strict=True))


def summed(net: Blocks, found: Iterable[tuple[Tensor, Tensor | None]]) -> ParameterGradients:
    """The sum of the gradients found for each parameter of the network; None for one that is frozen or has none.

    A gradient lies in memory as its parameter does, as autograd's do: torch's fused optimisers rely on it, and pair
    the wrong entries where it is not so.
    """
    total: dict[Tensor, Tensor] = {}
    for parameter, gradient in found:
        if gradient is not None:
            total[parameter] = total[parameter] + gradient if parameter in total else gradient
    for parameter, gradient in total.items():
        if gradient.stride() != parameter.stride():
            total[parameter] = torch.empty_like(parameter, requires_grad=False).copy_(gradient)
    return ParameterGradients(total.get(each) if each.requires_grad else None for each in net.parameters())


def as_state(z: Sequence[Tensor], lam: Sequence[Tensor]) -> State:
    """The layers as the caller gets them: stacked [L−1, B, …] where all have one shape, else a tuple of L−1 tensors.

    Nothing in it shares memory with anything else.
    """
    if len({each.shape for each in z}) == 1:
        return State(torch.stack(list(z)), torch.stack(list(lam)))
    # `State` is declared for the stacked form; both forms give layer l as state.activities[l − 1].
    return State(*(cast(Tensor, tuple(each.clone() for each in part)) for part in (z, lam)))
