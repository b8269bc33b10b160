"""The stacked engine for blocks: `pcalm.blocks` with all blocks of one structure and one state shape as one call.

- hidden layers of one shape are rows of one tensor [K, B, …], so that a step is a few operations for each shape;
- blocks of one kind run on their rows under `torch.func.vmap`, with their parameters stacked: two calls an iteration
  for each kind, one for the predictions and one for the vector–Jacobian products, however deep the network;
- light cone: from the feed-forward start only the top t hidden layers can have moved after t primal steps, so step t
  runs on those alone (from an explicit initial state, all steps run on all layers).

A block of which there is one only, or which `vmap` cannot run, is called as it is.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

from pcalm.blocks import Blocks, ParameterGradients, as_state, block_gradients, loss_gradient, plain_attention, summed
from pcalm.checks import first_line
from pcalm.dynamics import Gradients, State
from pcalm.engines import Solution, reference_blocks, say_once
from pcalm.engines.stacked import plus
from pcalm.methods import BP, PC, PCALM, SETTINGS, Method, Setting, active


def unavailable(device: torch.device, dtype: torch.dtype) -> str | None:
    return None


@torch.no_grad()
def solve(net: Blocks, method: Method, x: Tensor, y: Any, initial: State | None) -> Solution:
    if isinstance(method, BP):
        return reference_blocks.solve(net, method, x, y, initial)
    sweep = Sweep(net, method, x, y, initial)
    for step in range(1, method.steps + 1):
        for _ in range(method.inner_steps):
            sweep.primal_step()
        if step < method.steps or method.credit == "after":
            sweep.dual_step()
    return sweep.solution()


PLAIN = (bool, int, float, complex, str, bytes, set, frozenset, torch.dtype, torch.device)


class Rows(NamedTuple):
    """Hidden layers of one shape, from the inputs up, as evenly spaced rows of that shape's stacks."""

    shape: int
    start: int
    step: int
    number: int

    def of(self, stacks: Sequence[Any], first: int = 0) -> Any:
        """The rows but the lowest `first`: a view of their stack [K, B, …], or of a setting [K, 1, …]; or a number."""
        stack = stacks[self.shape]
        if not isinstance(stack, Tensor):
            return stack
        return stack[self.start + first * self.step : self.start + (self.number - 1) * self.step + 1 : self.step]

    def of_part(self, first: int, starts: Sequence[int]) -> Rows:
        """The rows but the lowest `first`, in stacks that begin with their rows `starts`."""
        return self._replace(start=self.start + first * self.step - starts[self.shape], number=self.number - first)


class _Group:
    """Blocks of one structure, from hidden layers of one shape to hidden layers of one shape.

    Attributes:
        inputs: the hidden layers' indices below the blocks, ascending.
        below, above: where those layers, and those above the blocks, stand.
    """

    def __init__(self, blocks: list[nn.Module], inputs: list[int], below: Rows, above: Rows) -> None:
        self.blocks, self.inputs, self.below, self.above = blocks, inputs, below, above
        if len(blocks) > 1:
            self.parameters = _stack([dict(block.named_parameters()) for block in blocks])
            self.buffers = _stack([dict(block.named_buffers()) for block in blocks])

    def __call__(self, z: Tensor, first: int = 0) -> Tensor:
        """The blocks but the lowest `first` on their inputs [K, B, …]."""
        if len(self.blocks) == 1:
            return self.blocks[0](z[0]).unsqueeze(0)
        held = [{name: part[first:] for name, part in each.items()} for each in (self.parameters, self.buffers)]
        with plain_attention():
            return stacked(self.blocks[0], *held)(z)

    def parameter_gradients(self, z: Tensor, q: Tensor) -> list[tuple[Tensor, Tensor | None]]:
        """Every parameter with −qᵀ ∂f/∂θ / B, from the blocks' inputs and the credit above them, [K, B, …]."""
        if len(self.blocks) == 1:
            return block_gradients(self.blocks[0], z[0], q[0])
        leaves = {name: part.requires_grad_() for name, part in self.parameters.items()}
        with torch.enable_grad(), plain_attention():
            out = stacked(self.blocks[0], leaves, self.buffers)(z)
        if not leaves:
            return []
        found = torch.autograd.grad(out, list(leaves.values()), -q / z.shape[1], allow_unused=True)
        by_name = dict(zip(leaves, found, strict=True))
        return [
            (parameter, None if (gradient := by_name[name]) is None else gradient[k])
            for k, block in enumerate(self.blocks)
            for name, parameter in block.named_parameters()
        ]


def stacked(block: nn.Module, parameters: dict[str, Tensor], buffers: dict[str, Tensor]) -> Callable[[Tensor], Tensor]:
    """The block with each of the K parameters and buffers stacked, on its own of the inputs [K, B, …]."""
    run = torch.func.vmap(functools.partial(functional_call, block))
    return lambda z: run((parameters, buffers), (z,))


def _stack(named: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.stack([parts[name].detach() for parts in named]) for name in named[0]}


class Sweep:
    """The state of one call: between two steps z, λ, the residuals c and the blocks' graphs belong to the same state.

    Hidden layer h is row `place[h][1]` of the stacks z, λ, … of shape `place[h][0]`, each [K, B, …].
    """

    def __init__(self, net: Blocks, method: PC | PCALM, x: Tensor, y: Any, initial: State | None) -> None:
        self.net, self.x, self.y, self.top = net, x, y, net.depth - 2
        z_ff = net.feedforward(x)
        shapes = list(dict.fromkeys(each.shape for each in z_ff))
        self.members = [[h for h, each in enumerate(z_ff) if each.shape == shape] for shape in shapes]
        self.place = [(shape := shapes.index(z.shape), self.members[shape].index(h)) for h, z in enumerate(z_ff)]

        def stacks(layers: Any) -> list[Tensor]:
            return [torch.stack([layers[h] for h in each]) for each in self.members]

        def settings(value: Setting) -> list[Any]:
            if not isinstance(value, tuple):
                return [value] * len(shapes)
            numbers = torch.tensor(value, dtype=net.dtype, device=net.device)
            return [
                numbers[each].view(-1, *(1,) * len(shape)) for each, shape in zip(self.members, shapes, strict=True)
            ]

        self.eta, self.rho, self.alpha, self.kappa = (settings(getattr(method, name)) for name in SETTINGS)
        self.dual, self.anchored = active(method.dual_step), active(method.anchor)
        self.z_ff = stacks(z_ff)
        self.z = [each.clone() for each in self.z_ff] if initial is None else stacks(initial.activities)
        self.lam = [torch.zeros_like(each) for each in self.z] if initial is None else stacks(initial.multipliers)
        self.c, self.q = ([torch.zeros_like(each) for each in self.z] for _ in range(2))
        self.groups = self._grouped()
        self.low = self.top if initial is None else 0  # the lowest hidden layer that the next step moves
        self.linearise()

    def _grouped(self) -> list[_Group]:
        """The blocks between hidden layers, those of one kind and with evenly spaced rows together."""
        kinds: list[list[int]] = []
        for h in range(self.top):
            fitting = (kind for kind in kinds if self._fits(kind, h))
            if (kind := next(fitting, None)) is None:
                kinds.append([h])
            else:
                kind.append(h)
        return [group for kind in kinds for group in self._groups(kind)]

    def _fits(self, kind: list[int], h: int) -> bool:
        """Whether the block above hidden layer h can be called together with those above the layers `kind`."""
        last = kind[-1]
        for up in (0, 1):
            shape, row = self.place[h + up]
            before, below = self.place[last + up], self.place[kind[-2] + up] if len(kind) > 1 else None
            if before[0] != shape or (below is not None and row - before[1] != before[1] - below[1]):
                return False
        return alike(self.net.blocks[kind[0] + 1], self.net.blocks[h + 1])

    def _groups(self, inputs: list[int]) -> list[_Group]:
        """One group, or one for each block where `vmap` does not run them."""

        def rows(layers: list[int]) -> Rows:
            shape, start = self.place[layers[0]]
            return Rows(shape, start, self.place[layers[1]][1] - start if len(layers) > 1 else 1, len(layers))

        def group(inputs: list[int]) -> _Group:
            return _Group([self.net.blocks[h + 1] for h in inputs], inputs, rows(inputs), rows([h + 1 for h in inputs]))

        whole = group(inputs)
        if len(inputs) > 1:
            z = whole.below.of(self.z_ff).detach().requires_grad_()
            try:
                with torch.enable_grad():
                    out = whole(z)
                torch.autograd.grad(out, z, torch.zeros_like(out), allow_unused=True)
            except Exception as error:  # whatever it is, each block has run by itself before
                kind, reason = type(whole.blocks[0]).__name__, first_line(error)
                say_once(f"{len(inputs)} blocks ({kind}) run one by one in engine 'torch', since vmap fails: {reason}")
                return [group([h]) for h in inputs]
        return [whole]

    def layers(self, stacks: list[Tensor]) -> list[Tensor]:
        return [stacks[shape][row] for shape, row in self.place]

    def linearise(self) -> None:
        """c_l = z_l − f_l(z_{l-1}) and the blocks' graphs, for all layers that the next step moves; below c is zero."""
        if self.low == 0:
            shape, row = self.place[0]
            torch.sub(self.z[shape][row], self.z_ff[shape][row], out=self.c[shape][row])
        self.graphs = []
        for group in self.groups:
            first = sum(h < self.low for h in group.inputs)
            if first < len(group.inputs):
                z = group.below.of(self.z, first).detach().requires_grad_()
                with torch.enable_grad():
                    f = group(z, first)
                torch.sub(group.above.of(self.z, first), f.detach(), out=group.above.of(self.c, first))
                self.graphs.append((group, first, z, f))

    def primal_step(self) -> None:
        """z ← z − η ∂E/∂z, then all that belongs to the new z."""
        starts = [sum(h < self.low for h in each) for each in self.members]
        for rho, lam, c, q, at in zip(self.rho, self.lam, self.c, self.q, starts, strict=True):
            plus(lam[at:], c[at:], rho, out=q[at:])
        pulled = [
            torch.autograd.grad(f, z, group.above.of(self.q, first), materialize_grads=True)[0]
            if f.requires_grad  # else f does not depend on z
            else torch.zeros_like(z)
            for group, first, z, f in self.graphs
        ]
        shape, row = self.place[self.top]
        self.q[shape][row] += self._loss_slope(self.z[shape][row])
        for eta, kappa, z, z_ff, q, at in zip(self.eta, self.kappa, self.z, self.z_ff, self.q, starts, strict=True):
            if self.anchored:
                plus(q[at:], z[at:] - z_ff[at:], kappa, out=q[at:])
            plus(z[at:], q[at:], -eta, out=z[at:])
        for (group, first, _, _), value in zip(self.graphs, pulled, strict=True):
            z = group.below.of(self.z, first)
            plus(z, value, group.below.of(self.eta, first), out=z)
        self.low = max(0, self.low - 1)
        self.linearise()

    def _loss_slope(self, z: Tensor) -> Tensor:
        """∂ℓ/∂z_{L-1}."""
        z = z.detach().requires_grad_()
        with torch.enable_grad():
            total = self.net.losses(self.net.blocks[-1](z), self.y).sum()
        return torch.autograd.grad(total, z, materialize_grads=True)[0]

    def dual_step(self) -> None:
        """λ ← λ + α c."""
        if self.dual:
            for lam, alpha, c in zip(self.lam, self.alpha, self.c, strict=True):
                plus(lam, c, alpha, out=lam)

    def solution(self) -> Solution:
        """The state, and the gradients there."""
        return Solution(as_state(self.layers(self.z), self.layers(self.lam)), cast(Gradients, self.gradients()))

    def gradients(self) -> ParameterGradients:
        """The gradients of the batch mean of E by the parameters."""
        credit = [plus(lam, c, rho) for lam, rho, c in zip(self.lam, self.rho, self.c, strict=True)]
        q, z_top = self.layers(credit), self.layers(self.z)[-1]
        found = block_gradients(self.net.blocks[0], self.x, q[0])
        for group in self.groups:
            found += group.parameter_gradients(group.below.of(self.z), group.above.of(credit))
        out = self.net.blocks[-1](z_top)
        found += block_gradients(self.net.blocks[-1], z_top, -loss_gradient(self.net, out, self.y))
        return summed(self.net, found)


def alike(one: nn.Module, other: nn.Module) -> bool:
    """Whether two modules compute the same function of their parameters, buffers and input, as far as one can tell.

    That is so for modules of one class with equal attributes and parameters of equal shapes, all the way down.
    """
    if type(one) is not type(other) or vars(one).keys() != vars(other).keys() or _sharing(one) != _sharing(other):
        return False
    for name, value in vars(one).items():
        second = vars(other)[name]
        if name in ("_parameters", "_buffers"):
            same = value.keys() == second.keys() and all(
                (a is None) == (b is None) and (a is None or (a.shape, a.dtype) == (b.shape, b.dtype))
                for a, b in zip(value.values(), second.values(), strict=True)
            )
        elif name == "_modules":
            same = value.keys() == second.keys() and all(
                (a is None) == (b is None) and (a is None or alike(a, b))
                for a, b in zip(value.values(), second.values(), strict=True)
            )
        else:
            same = _equal(value, second)
        if not same:
            return False
    return True


def _equal(one: Any, other: Any) -> bool:
    """Equal plain values, the same object, or containers of such."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_equal(value, other[key]) for key, value in one.items())
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(_equal, one, other))
    return one is other or (isinstance(one, PLAIN) and bool(one == other))


def _sharing(module: nn.Module) -> list[list[str]]:
    """Which of a module's parameters and buffers are one tensor under several names."""
    names: dict[int, list[str]] = {}
    for kind in (module.named_parameters(remove_duplicate=False), module.named_buffers(remove_duplicate=False)):
        for name, part in kind:
            names.setdefault(id(part), []).append(name)
    return list(names.values())
