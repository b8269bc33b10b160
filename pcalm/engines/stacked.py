"""The stacked engine: `pcalm.dynamics` on all layers at once, in place, on any device and in any dtype.

Four things make it faster than the reference, none of them an approximation:

- the residual after a primal step is the residual before the next one, which leaves two batched products an iteration:
  q_{l+1} W_{l+1} for the primal step and φ(z_l) W_{l+1}ᵀ for the residual;
- every buffer is allocated once, and every operation writes into one;
- light cone: from the feed-forward start only the top t hidden layers can have moved after t primal steps, so step t
  runs on those alone (from an explicit initial state, all steps run on all layers);
- on CUDA the whole call is captured as a graph, once for each shape and method, and replayed with new values.

Inside, states are stacked as rows [(L−1)·R, N, B]: row l·R + r is layer l of replica r, transposed. So the top of the
network is one contiguous block, one layer up is R rows further, and a small N is the short side of a product's left
factor, where CPU libraries are up to three times faster than with it as the short side of the right one.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pcalm import dynamics
from pcalm.dynamics import Gradients, State
from pcalm.engines import Solution, reference
from pcalm.methods import BP, PC, PCALM, SETTINGS, Method, Setting, active
from pcalm.network import ResidualMLP

# Every graph keeps its buffers on the device, and training one network needs one or two of them.
MAX_GRAPHS = 8
# Kernels stand in a graph one by one, some fifteen a step, so that a long call would fill memory to save little.
MAX_GRAPH_STEPS = 4096
_replaying = threading.Lock()


def unavailable(device: torch.device, dtype: torch.dtype) -> str | None:
    return None


def solve(net: ResidualMLP, method: Method, x: Tensor, y: Tensor, initial: State | None) -> Solution:
    primal_steps = 0 if isinstance(method, BP) else method.steps * method.inner_steps
    if x.device.type == "cuda" and primal_steps <= MAX_GRAPH_STEPS and not torch.cuda.is_current_stream_capturing():
        return replay(net, method, x, y, initial)
    return eager(net, method, x, y, initial)


@torch.no_grad()
def eager(
    net: ResidualMLP,
    method: Method,
    x: Tensor,
    y: Tensor,
    initial: State | None,
    settings: Sequence[float | Tensor] | None = None,
) -> Solution:
    """`solve`, one operation at a time; `settings`, as `_settings` gives them, replace the method's."""
    if isinstance(method, BP):
        return reference.solve(net, method, x, y, initial)
    sweep = _Sweep(net, method, x, y, initial, settings or _settings(net, method))
    for step in range(1, method.steps + 1):
        for _ in range(method.inner_steps):
            sweep.primal_step()
        if step < method.steps or method.credit == "after":
            sweep.dual_step()
    state = State(sweep.unstack(sweep.z), sweep.unstack(sweep.lam))
    credit = sweep.unstack(plus(sweep.lam, sweep.c, sweep.rho))
    return Solution(state, dynamics.weight_gradients(net, credit, state.activities, x, y))


@torch.no_grad()
def replay(net: ResidualMLP, method: Method, x: Tensor, y: Tensor, initial: State | None) -> Solution:
    """`eager` as a CUDA graph.

    The step size is data of the graph, as are settings of a layer's or replica's own: others need no other graph.
    """
    inputs = [net.input_weight, net.hidden_weight, net.output_weight, x, y, *(initial or ())]
    form, data = method, tuple[str, ...]()
    if not isinstance(method, BP):
        data = tuple(name for name in SETTINGS if name == "step_size" or isinstance(getattr(method, name), tuple))
        placeholders: dict[str, Any] = dict.fromkeys(data, 1.0)
        form = dataclasses.replace(method, **placeholders)
        inputs += [_rows(net, getattr(method, name)) for name in data]
    shape = (net.depth, net.width, net.input_dim, net.output_dim, x.shape[-2])
    stream = torch.cuda.current_stream(x.device).cuda_stream if x.device.type == "cuda" else 0
    place = (x.dtype, x.device, stream, torch.are_deterministic_algorithms_enabled())
    kind = _Kind(form, data, initial is not None, *shape, net.activation, net.replicas, *place)
    with _replaying:  # the buffers belong to one call at a time
        return _graph(kind).solve(inputs)


class _Kind(NamedTuple):
    """All that is fixed in a graph."""

    method: Method
    data: tuple[str, ...]  # the settings that are not
    from_state: bool
    depth: int
    width: int
    input_dim: int
    output_dim: int
    batch: int
    activation: str
    replicas: int | None
    dtype: torch.dtype
    device: torch.device
    stream: int  # two streams run at the same time, and a graph has one set of buffers
    deterministic: bool


@lru_cache(MAX_GRAPHS)
def _graph(kind: _Kind) -> _Graph:
    return _Graph(kind)


class _Graph:
    """A captured call, with the inputs that it reads and the solution that it writes at fixed addresses."""

    def __init__(self, kind: _Kind) -> None:
        def zeros(*sizes: int) -> Tensor:
            return torch.zeros(sizes, dtype=kind.dtype, device=kind.device)

        lead, seed = ((), 0) if kind.replicas is None else ((kind.replicas,), range(kind.replicas))
        net = ResidualMLP(
            *(kind.depth, kind.width, kind.input_dim, kind.output_dim, kind.activation),
            seed=seed,
            dtype=kind.dtype,
            device=kind.device,
        )
        x, y = zeros(*lead, kind.batch, kind.input_dim), zeros(*lead, kind.batch, kind.output_dim)
        state = (*lead, kind.depth - 1, kind.batch, kind.width)
        initial = State(zeros(*state), zeros(*state)) if kind.from_state else None
        rows = {name: zeros((kind.depth - 1) * (kind.replicas or 1), 1, 1) for name in kind.data}
        self.inputs = [*net.parameters(), x, y, *(initial or ()), *rows.values()]
        settings = [rows.get(name, getattr(kind.method, name, 0.0)) for name in SETTINGS]
        self.run = capture(lambda: eager(net, kind.method, x, y, initial, settings), kind.device)

    def solve(self, inputs: list[Tensor]) -> Solution:
        for own, given in zip(self.inputs, inputs, strict=True):
            own.copy_(given)
        state, gradients = self.run()
        return Solution(State(*(part.clone() for part in state)), Gradients(*(part.clone() for part in gradients)))


def capture(function: Callable[[], Solution], device: torch.device) -> Callable[[], Solution]:
    """The function as a CUDA graph: every call of the result repeats its kernels and returns the same tensors."""
    with torch.cuda.device(device):
        # Libraries set themselves up in a first run, which must not be recorded.
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            function()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            solution = function()

    def run() -> Solution:
        graph.replay()
        return solution

    return run


def _settings(net: ResidualMLP, method: PC | PCALM) -> list[float | Tensor]:
    """η, ρ, α and κ, each a number or, where a layer or a replica has its own, rows [(L−1)·R, 1, 1]."""
    values = [getattr(method, name) for name in SETTINGS]
    return [_rows(net, value) if isinstance(value, tuple) else value for value in values]


def _rows(net: ResidualMLP, value: Setting) -> Tensor:
    lead = () if net.replicas is None else (net.replicas,)
    shape = (*lead, net.depth - 1, 1, 1)
    whole = torch.as_tensor(
        dynamics.setting(value, net.input_weight.new_empty(shape)), dtype=net.dtype, device=net.device
    )
    return whole.expand(shape).movedim(-3, 0).reshape(-1, 1, 1)


def plus(a: Tensor, b: Tensor, factor: float | Tensor, out: Tensor | None = None) -> Tensor:
    """a + factor · b, in one pass for numbers and for rows."""
    if isinstance(factor, Tensor):
        return torch.addcmul(a, b, factor[-len(a) :], out=out)
    return torch.add(a, b, alpha=factor, out=out)


class _Cone(NamedTuple):
    """Views of the rows that can have moved, of their neighbours, and of the weights between."""

    z: Tensor
    z_ff: Tensor
    lam: Tensor
    c: Tensor
    g: Tensor
    a: Tensor
    # all of those but the top layer, which has the loss above it: q_{l+1} W_{l+1} is added to g_l
    c_above: Tensor
    g_below: Tensor
    w_above: Tensor
    # all of those but the network's first layer, which has the inputs below it: c_l is between z_l and z_{l-1}
    c_upper: Tensor
    z_upper: Tensor
    z_lower: Tensor
    a_lower: Tensor
    w_lower: Tensor


class _Sweep:
    """The buffers of one call: between two steps z, λ, a = φ(z) and the residual c all belong to the same state."""

    def __init__(
        self,
        net: ResidualMLP,
        method: PC | PCALM,
        x: Tensor,
        y: Tensor,
        initial: State | None,
        settings: Sequence[float | Tensor],
    ) -> None:
        self.eta, self.rho, self.alpha, self.kappa = settings
        self.dual, self.anchored = active(method.dual_step), active(method.anchor)
        self.activation, self.scales = net.activation, net.scales
        self.replicas, self.layers, self.width, self.batch = net.replicas, net.depth - 1, net.width, x.shape[-2]
        self.rows = self.replicas or 1
        self.w = self._layers_first(net.hidden_weight.detach())
        self.w_out = net.output_weight.detach().reshape(self.rows, -1, self.width)
        self.y = y.mT.reshape(self.rows, -1, self.batch)
        z_ff = net.feedforward(x)
        self.z_ff = self._layers_first(z_ff.mT)
        self.z = self.z_ff.clone() if initial is None else self._layers_first(initial.activities.mT).clone()
        self.lam = torch.zeros_like(self.z) if initial is None else self._layers_first(initial.multipliers.mT).clone()
        self.c, self.g = torch.zeros_like(self.z), torch.empty_like(self.z)
        self.a = net.phi(self.z)  # linear: z itself, which every step keeps up to date
        self.error, self.a_top, self.g_top = torch.empty_like(self.y), self.a[-self.rows :], self.g[-self.rows :]
        self.low = self.layers  # the lowest layer that can have moved
        if initial is not None:
            self._grow_to(0)
            self._residual()

    def _layers_first(self, stack: Tensor) -> Tensor:
        """[(R,) layers, i, j] as contiguous rows [layers·R, i, j]."""
        lead = stack if self.replicas else stack.unsqueeze(0)
        return lead.transpose(0, 1).reshape(-1, *stack.shape[-2:]).contiguous()

    def unstack(self, rows: Tensor) -> Tensor:
        """States as the caller knows them, [(R,) L−1, B, N]."""
        stack = rows.view(self.layers, self.rows, self.width, self.batch).transpose(0, 1).mT
        return (stack if self.replicas else stack.squeeze(0)).contiguous()

    def _grow_to(self, low: int) -> None:
        """Sets the views to layers `low` and up."""
        self.low = low
        one, start = self.rows, low * self.rows
        upper = max(start, one)
        every = slice(start, None)
        self.cone = _Cone(
            z=self.z[every],
            z_ff=self.z_ff[every],
            lam=self.lam[every],
            c=self.c[every],
            g=self.g[every],
            a=self.a[every],
            c_above=self.c[start + one :],
            g_below=self.g[start:-one],
            w_above=self.w[every].mT,
            c_upper=self.c[upper:],
            z_upper=self.z[upper:],
            z_lower=self.z[upper - one : -one],
            a_lower=self.a[upper - one : -one],
            w_lower=self.w[upper - one :],
        )

    def primal_step(self) -> None:
        """z ← z + η g with g = −∂E/∂z, then φ(z) and the residual there."""
        if self.low > 0:
            self._grow_to(self.low - 1)
        v, (_, s, s_out) = self.cone, self.scales
        plus(v.lam, v.c, self.rho, out=v.c)  # the credit q = ρ c + λ, in the place of c
        torch.baddbmm(v.g_below, v.w_above, v.c_above, beta=0, alpha=s, out=v.g_below)
        torch.baddbmm(self.y, self.w_out, self.a_top, alpha=-s_out, out=self.error)
        torch.baddbmm(self.g_top, self.w_out.mT, self.error, beta=0, alpha=s_out, out=self.g_top)
        if self.activation == "relu":
            torch.ops.aten.threshold_backward.grad_input(v.g, v.a, 0, grad_input=v.g)  # g ⊙ (a > 0)
        elif self.activation == "tanh":
            torch.ops.aten.tanh_backward.grad_input(v.g, v.a, grad_input=v.g)  # g ⊙ (1 − a²)
        v.g_below.add_(v.c_above)
        v.g.sub_(v.c)
        if self.anchored:
            plus(v.g, v.z_ff, self.kappa, out=v.g)
            plus(v.g, v.z, -self.kappa, out=v.g)
        plus(v.z, v.g, self.eta, out=v.z)
        if self.activation == "relu":
            torch.clamp_min(v.z, 0, out=v.a)
        elif self.activation == "tanh":
            torch.tanh(v.z, out=v.a)
        self._residual()

    def _residual(self) -> None:
        """c_l = z_l − z_{l-1} − s W_l φ(z_{l-1}), and c_1 = z_1 − pred_1, where pred_1 is the feed-forward state."""
        v, one = self.cone, self.rows
        if self.low == 0:
            torch.sub(self.z[:one], self.z_ff[:one], out=self.c[:one])
        torch.sub(v.z_upper, v.z_lower, out=v.c_upper)
        v.c_upper.baddbmm_(v.w_lower, v.a_lower, alpha=-self.scales[1])

    def dual_step(self) -> None:
        """λ ← λ + α c; below the cone c is zero."""
        if self.dual:
            plus(self.cone.lam, self.cone.c, self.alpha, out=self.cone.lam)
