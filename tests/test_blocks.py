"""Blocks against autograd, against `ResidualMLP`, and what is refused."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

import pcalm
from pcalm import blocks
from pcalm.analysis import cosine
from pcalm.blocks import Blocks
from pcalm.dynamics import State
from pcalm.engines import BLOCKS, MODULES
from pcalm.methods import BP, PC, PCALM, Method, anchored
from pcalm.network import ResidualMLP
from tests.block_cases import CASES, EPS, Case, as_blocks, case, convolutional
from tests.conftest import assert_near, draw, rounding
from tests.engines.engine_cases import METHODS, layered, problem, without_multipliers

EVERY = pytest.mark.parametrize("name", CASES)
ENGINES = pytest.mark.parametrize("engine", BLOCKS)


def autograd(given: Case) -> list[Tensor | None]:
    """The gradient of the mean loss by the parameters, as `backward()` of torch leaves it."""
    net = copy.deepcopy(given.net)
    net.losses(net(given.x), given.y).mean().backward()
    return [parameter.grad for parameter in net.parameters()]


def assert_same(found: Sequence[Tensor | None], truth: Sequence[Tensor | None], bound: float) -> None:
    assert len(found) == len(truth)
    size = max(1.0, *(float(part.abs().max()) for part in truth if part is not None))
    for mine, exact in zip(found, truth, strict=True):
        if mine is None or exact is None:
            assert mine is exact
        else:
            torch.testing.assert_close(mine, exact, rtol=0, atol=bound * size)


@ENGINES
@EVERY
def test_bp_is_autograd(name: str, engine: str) -> None:
    given = case(name)
    solution = pcalm.solve(given.net, BP(), given.x, given.y, engine=engine)
    assert_same(list(solution.gradients), autograd(given), given.bound)
    for z, lam, exact in zip(*solution.state, given.net.feedforward(given.x), strict=True):
        assert_near(z, exact.detach(), given.bound)
        assert not lam.any()


@ENGINES
@EVERY
def test_the_kkt_point_is_a_fixed_point_with_autograds_gradient(name: str, engine: str) -> None:
    net, x, y, bound = given = case(name)
    z_ff = [each.detach() for each in net.feedforward(x)]
    kkt = blocks.as_state(z_ff, [-delta for delta in blocks.adjoint(net, z_ff, y)[:-1]])
    method = PCALM(5, 0.2, 0.7, 1.3, 2, "after", 0.3)
    solution = pcalm.solve(net, method, x, y, kkt, engine=engine)
    for part, exact in zip(solution.state, kkt, strict=True):
        for mine, truth in zip(part, exact, strict=True):
            assert_near(mine, truth, 10 * bound)
    assert_same(list(solution.gradients), autograd(given), 10 * bound)


@EVERY
def test_the_iteration_descends_the_energy(name: str) -> None:
    """infer and gradients against autograd of the energy, written here from its definition."""
    net, x, y, bound = case(name)
    layers = net.depth - 1
    eta, rho, alpha, kappa = (
        [c + d * h for h in range(layers)] for c, d in ((0.1, 0.02), (0.5, 0.1), (0.3, 0.2), (0, 0.1))
    )
    z_ff = [each.detach() for each in net.feedforward(x)]
    generator = torch.Generator().manual_seed(2)
    z, lam = ([torch.randn(each.shape, generator=generator, dtype=each.dtype) for each in z_ff] for _ in range(2))

    def energy(z: list[Tensor], lam: list[Tensor], kappa: list[float]) -> Tensor:
        predictions = [block(below) for block, below in zip(net.blocks, [x, *z], strict=True)]
        total = net.losses(predictions.pop(), y).sum()
        for h in range(layers):
            total = total + rho[h] / 2 * (z[h] - predictions[h] + lam[h] / rho[h]).square().sum()
            total = total + kappa[h] / 2 * (z[h] - z_ff[h]).square().sum()
        return total

    method = PCALM(2, tuple(eta), tuple(rho), tuple(alpha), 2, "after", tuple(kappa))
    solution = pcalm.solve(net, method, x, y, (z, lam), engine="reference")  # type: ignore[arg-type]
    for _ in range(2):
        for _ in range(2):
            free = [each.clone().requires_grad_() for each in z]
            slopes = torch.autograd.grad(energy(free, lam, kappa), free)
            z = [z[h] - eta[h] * slopes[h] for h in range(layers)]
        with torch.no_grad():
            lam = [lam[h] + alpha[h] * (z[h] - net.blocks[h]([x, *z][h])) for h in range(layers)]
    for part, truth in zip(solution.state, (z, lam), strict=True):
        for mine, exact in zip(part, truth, strict=True):
            assert_near(mine, exact, 5 * bound)
    learned = [parameter for parameter in net.parameters() if parameter.requires_grad]
    found = torch.autograd.grad(energy(z, lam, [0.0] * layers) / len(x), learned, allow_unused=True)
    by_parameter = dict(zip(learned, found, strict=True))
    expected = [by_parameter.get(parameter) for parameter in net.parameters()]
    assert_same(list(solution.gradients), expected, 5 * bound)


@ENGINES
@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_residual_mlp_as_blocks(method: Method, activation: str, engine: str) -> None:
    net = ResidualMLP(7, 5, 6, 3, activation, dtype=torch.float64)
    for start in (False, True) if method.name != "bp" else (False,):
        x, y, initial = problem(net, start=start)
        assert_equals_mlp(net, method, x, y, without_multipliers(initial, method), engine)


@ENGINES
def test_residual_mlp_as_blocks_with_settings_of_each_layer(activation: str, engine: str) -> None:
    net = ResidualMLP(7, 5, 6, 3, activation, dtype=torch.float64)
    x, y, _ = problem(net)
    for method in layered(net, "layers"):
        assert_equals_mlp(net, method, x, y, None, engine)


def assert_equals_mlp(
    net: ResidualMLP, method: Method, x: Tensor, y: Tensor, initial: State | None, engine: str
) -> None:
    truth = pcalm.solve(net, method, x, y, initial, engine="reference")
    found = pcalm.solve(as_blocks(net), method, x, y, initial, engine=engine)
    bound = rounding(net, 1 if isinstance(method, BP) else method.steps * method.inner_steps)
    for part, exact in zip(found.state, truth.state, strict=True):
        assert isinstance(part, Tensor)  # equal shapes are stacked
        assert_near(part, exact, bound)
    assert_same(list(found.gradients), list(truth.gradients), bound)


@pytest.mark.parametrize("rho", [1.0, 0.3])
def test_step_size_of_residual_mlp_as_blocks(activation: str, rho: float) -> None:
    net, x, _, _ = draw(activation)
    w = (3.0, 0.5, 2.0, 1.0)
    for gauge in (None, w):
        found, truth = (pcalm.step_size(each, x, rho, gauge) for each in (as_blocks(net), net))
        assert found == pytest.approx(truth, rel=36 * rounding(net, 64))


@EVERY
def test_step_size_is_that_of_the_dense_hessian(name: str) -> None:
    net, x, y, bound = case(name, batch=2)
    z_ff = [each.detach() for each in net.feedforward(x)]
    shapes, sizes = [each.shape for each in z_ff], [each.numel() for each in z_ff]
    w = [1.0 + 0.5 * (h % 3) for h in range(len(z_ff))]

    def unflatten(flat: Tensor) -> list[Tensor]:
        """z of the vector u."""
        return [p.view(s) / w[h] for h, (p, s) in enumerate(zip(flat.split(sizes), shapes, strict=True))]

    def constraint(flat: Tensor) -> Tensor:
        z = unflatten(flat)
        return torch.cat([(w[h] * (z[h] - net.blocks[h]([x, *z][h]))).flatten() for h in range(len(z))])

    def output(flat: Tensor) -> Tensor:
        return net.blocks[-1](unflatten(flat)[-1])

    u = torch.cat([(w[h] * z_ff[h]).flatten() for h in range(len(z_ff))])
    # Fused attention has no derivative of its Jacobian's kind; the plain formula has.
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        a = torch.autograd.functional.jacobian(constraint, u)
        j = torch.autograd.functional.jacobian(output, u).reshape(-1, len(u))
    out = net(x).detach()
    curvature = torch.autograd.functional.hessian(lambda o: net.losses(o, y).sum(), out).reshape(j.shape[0], -1)
    dense = 0.7 * a.mT @ a + j.mT @ curvature @ j
    v = torch.randn(len(u), dtype=torch.float64, generator=torch.Generator("cpu").manual_seed(0))
    for _ in range(64):
        v = dense @ (v / v.norm())
    needed = {} if isinstance(net.loss, str) else {"y": y}
    assert pcalm.step_size(net, x, 0.7, w, **needed) == pytest.approx(1 / float(v.norm()), rel=64 * bound)


def test_step_size_of_a_loss_of_ones_own_needs_targets() -> None:
    net, x, _, _ = case("tied")
    with pytest.raises(ValueError, match="y must be given for a loss of one's own"):
        pcalm.step_size(net, x)


@ENGINES
@EVERY
def test_calls_agree_and_keep_their_arguments(name: str, engine: str) -> None:
    net, x, y, _ = case(name)
    method = PCALM(3, 0.1, anchor=0.2)
    kept = copy.deepcopy((net.state_dict(), x, y))
    solution = pcalm.solve(net, method, x, y, engine=engine)
    state = pcalm.infer(net, method, x, y, engine=engine)
    for part, again in zip(solution.state, state, strict=True):
        assert all(map(torch.equal, part, again))
        assert not any(each.requires_grad for each in part)
    assert_same(pcalm.gradients(net, method, x, y, engine=engine), list(solution.gradients), 0)
    for times in (1, 2):
        pcalm.backward(net, method, x, y, engine=engine)
        expected = [None if each is None else times * each for each in solution.gradients]
        assert_same([parameter.grad for parameter in net.parameters()], expected, 0)
    for part in (*state.activities, *state.multipliers, *(g for g in solution.gradients if g is not None)):
        part.add_(1)  # nothing returned may share memory with an argument
    torch.testing.assert_close((net.state_dict(), x, y), kept, rtol=0, atol=0)


@ENGINES
@EVERY
def test_a_run_can_be_cut(name: str, engine: str) -> None:
    net, x, y, bound = case(name)

    def run(steps: int, initial: State | None) -> State:
        return pcalm.infer(net, PCALM(steps, 0.1, 0.5, 2.0, 2, "after", 0.3), x, y, initial, engine)

    for part, whole in zip(run(2, run(3, None)), run(5, None), strict=True):
        for mine, exact in zip(part, whole, strict=True):
            assert_near(mine, exact, 5 * bound)


@ENGINES
@EVERY
def test_samples_do_not_interact_and_credit_moves_one_layer_per_step(name: str, engine: str) -> None:
    net, x, y, bound = case(name)
    z_ff = net.feedforward(x)
    state = pcalm.infer(net, PCALM(2, 0.1), x, y, engine=engine)
    alone = pcalm.infer(net, PCALM(2, 0.1), x[1:2], y[1:2], engine=engine)
    for z, single in zip(state.activities, alone.activities, strict=True):
        assert_near(z[1:2], single, 2 * bound)
    moved = [not torch.allclose(z, start, rtol=0, atol=bound) for z, start in zip(state.activities, z_ff, strict=True)]
    assert not any(moved[:-2])
    assert moved[-1]


def test_states_are_stacked_where_they_can_be() -> None:
    net, x, y, _ = case("convolutional")
    assert pcalm.infer(net, PCALM(2, 0.1), x, y).activities.shape == (4, 3, 3, 4, 4)
    net, x, y, _ = case("shapes")
    for part in pcalm.infer(net, PCALM(2, 0.1), x, y):
        assert type(part).__name__ == "tuple"
        assert [list(each.shape) for each in part] == [[3, 3, 4, 4], [3, 4, 2, 2], [3, 6]]


def test_observer_sees_every_primal_step() -> None:
    net, x, y, bound = case("shapes")
    seen: list[tuple[int, list[Tensor], list[Tensor]]] = []
    final = blocks.infer(net, PCALM(3, 0.1, 0.5, inner_steps=2), x, y, observe=lambda *each: seen.append(each))
    assert [number for number, _, _ in seen] == [1, 2, 3, 4, 5, 6]
    _, credit, z = seen[-1]
    assert all(map(torch.equal, z, final.activities))
    for h, block in enumerate(net.blocks[:-1]):
        c = z[h] - block([x, *z][h])
        assert_near(credit[h], (0.5 * c + final.multipliers[h]).detach(), bound)


def test_from_sequential_joins_modules_without_parameters() -> None:
    one, two, three = nn.Conv2d(1, 2, 3), nn.Conv2d(2, 2, 3), nn.Linear(8, 3)
    model = nn.Sequential(
        nn.Identity(), one, nn.ReLU(), nn.MaxPool2d(2), two, nn.ReLU(), nn.Flatten(), three, nn.Softplus()
    )
    net = Blocks.from_sequential(model, "squared")
    found = [[type(part).__name__ for part in block.children()] for block in net.blocks]
    assert found == [["Identity", "Conv2d"], ["ReLU", "MaxPool2d", "Conv2d"], ["ReLU", "Flatten", "Linear", "Softplus"]]
    assert list(net.parameters()) == list(model.parameters())
    x = torch.randn(2, 1, 10, 10)
    assert torch.equal(net(x), model(x))
    with pytest.raises(ValueError, match=re.escape("at least 2 modules with parameters, got 1; Blocks(model)")):
        Blocks.from_sequential(nn.Sequential(one, nn.ReLU()))
    with pytest.raises(ValueError, match=re.escape("model must be a torch.nn.Sequential, got Linear")):
        Blocks.from_sequential(three)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([nn.Linear(2, 2)],), "blocks must be at least 2 modules (one hidden layer), got 1"),
        (([nn.Linear(2, 2), torch.relu],), "blocks[1] must be a torch.nn.Module, got builtin_function_or_method; wrap"),
        (
            ([nn.Linear(2, 2)] * 2, "mse"),
            "loss must be one of 'squared', 'cross_entropy', or a callable (out, y) -> [B]",
        ),
        (([nn.Linear(2, 2)] * 2, nn.Linear(2, 2)), "loss must have no parameters: put what is learned into the last"),
    ],
)
def test_bad_construction(arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        Blocks(*arguments)


@pytest.mark.parametrize("engine", [name for name in MODULES if name not in BLOCKS])
def test_engines_written_for_one_architecture_say_so(engine: str) -> None:
    net, x, y, _ = case("tied")
    with pytest.raises(ValueError, match=f"engine '{engine}' is written for ResidualMLP"):
        pcalm.solve(net, PCALM(1, 0.1), x, y, engine=engine)


class Function(nn.Module):
    """A block out of a function, with a parameter and a buffer."""

    def __init__(self, function: Callable[[Function, Tensor], Any]) -> None:
        super().__init__()
        self.function, self.gain = function, nn.Parameter(torch.ones(()))
        self.count: Tensor
        self.register_buffer("count", torch.zeros(()))

    def forward(self, z: Tensor) -> Any:
        return self.function(self, z)


def replaced(self: Function, z: Tensor) -> Tensor:
    self.count = self.count + 1
    return z


@pytest.mark.parametrize(
    ("block", "message"),
    [
        (nn.BatchNorm1d(4), "blocks.1 (BatchNorm1d) normalises over the batch, so that samples"),
        (nn.BatchNorm1d(4, track_running_stats=False).eval(), "blocks.1 (BatchNorm1d) normalises over the batch"),
        (nn.Sequential(nn.Tanh(), nn.Dropout(0.1)), "blocks.1.1 (Dropout) drops at random, so that the energy changes"),
        (nn.LazyLinear(4), "blocks.1.weight has no shape yet: call net(x) once before"),
        (nn.Linear(4, 4).double(), "the parameters must share one dtype and device: blocks.1.weight is torch.float64"),
        (nn.Linear(4, 4).half(), "the dtype of blocks.1.weight must be one of torch.float32, torch.float64"),
        (Function(lambda self, z: z + self.count.add_(1)), "blocks.1.count changes when its block is evaluated"),
        (Function(replaced), "blocks.1.count changes when its block is evaluated"),
        (Function(lambda self, z: z * self.gain.mul_(2)), "blocks.1.gain changes when its block is evaluated"),
        (Function(lambda self, z: z.mul_(2)), "blocks.1 (Function) changes its input in place"),
        (nn.ReLU(inplace=True), "blocks.1 (ReLU) changes its input in place, which is a state of the network: use"),
        (Function(lambda self, z: z + torch.randn(4)), "blocks.1 (Function) draws random numbers, so that the energy"),
        (nn.RReLU(), "blocks.1 (RReLU) draws random numbers"),
        (Function(lambda self, z: z - z.mean(0)), "blocks.1 (Function) gives another result for the first sample"),
        (Function(lambda self, z: (z, z)), "blocks.1 (Function) must return one tensor [B, …], got tuple"),
        (Function(lambda self, z: z.mT), "must return a state of shape [B, …] with B = 3, the samples first, got [4"),
        (Function(lambda self, z: z.sum()), "must return a state of shape [B, …] with B = 3, the samples first"),
        (Function(lambda self, z: z.double()), "must return torch.float32 on cpu like the network, got torch.float64"),
        (Function(lambda self, z: z.log()), "the feed-forward state behind blocks.1 (Function) must be finite"),
        (nn.Linear(5, 4), "blocks.1 (Linear) fails on an input of shape [3, 4] and torch.float32: RuntimeError: "),
        (Function(lambda self, z: z.view(3, 4)), "blocks.1 (Function), given the first sample of the batch alone"),
        (nn.MultiheadAttention(4, 2, dropout=0.5), "blocks.1 (MultiheadAttention) drops at random"),
    ],
)  # fmt: skip
def test_blocks_that_are_refused(block: nn.Module, message: str) -> None:
    net = Blocks([nn.Linear(2, 4), block, nn.Linear(4, 2)])
    x, y = torch.randn(3, 2, generator=torch.Generator().manual_seed(0)), torch.zeros(3, 2)
    for call in (lambda: pcalm.solve(net, PC(1, 0.1), x, y), lambda: pcalm.step_size(net, x)):
        with pytest.raises(ValueError, match=re.escape(message)):
            call()


def test_arguments_made_in_inference_mode() -> None:
    for name in ("convolutional", "shapes"):
        net, x, y, bound = case(name)
        expected = pcalm.gradients(net, PCALM(3, 0.1), x, y)
        with torch.inference_mode():
            x, y = x.clone(), y.clone()
            state = pcalm.infer(net, PCALM(1, 0.1, credit="after"), x, y)
            found = pcalm.gradients(net, PCALM(2, 0.1), x, y, state)
        assert_same(found, expected, 10 * bound)
    with torch.inference_mode():
        made = Blocks([nn.Linear(2, 2), nn.Linear(2, 2)])
    with pytest.raises(ValueError, match=re.escape("blocks.0.weight was made in inference mode")):
        pcalm.gradients(made, PC(1, 0.1), torch.zeros(1, 2), torch.zeros(1, 2))


def test_the_smallest_chain_has_one_hidden_layer() -> None:
    net = Blocks([nn.Linear(3, 4), nn.Linear(4, 2)]).double()
    x, y = torch.randn(5, 3).double(), torch.randn(5, 2).double()
    kkt = blocks.infer(net, BP(), x, y)
    z = list(kkt.activities)
    kkt = blocks.as_state(z, [-blocks.adjoint(net, z, y)[0]])
    exact = pcalm.gradients(net, BP(), x, y)
    for engine in BLOCKS:
        assert_same(pcalm.gradients(net, PCALM(4, 0.2, credit="after"), x, y, kkt, engine), exact, 200 * EPS)


X, Y = torch.zeros(3, 2), torch.zeros(3, 2)
NET = Blocks([nn.Linear(2, 4), nn.Linear(4, 4), nn.Linear(4, 2)])
LABELLED = Blocks(list(NET.blocks), "cross_entropy")
STATE = torch.zeros(2, 3, 4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": X.tolist()}, "x must be a torch tensor, got list"),
        ({"x": torch.zeros(())}, "x must have shape [B, …] with B >= 1, got []"),
        ({"x": X[:0]}, "x must have shape [B, …] with B >= 1, got [0, 2]"),
        ({"x": X.to("meta")}, "x must be on cpu like the network, got meta"),
        ({"x": X + math.nan}, "x must be finite: 6 of 6 values are NaN or infinite"),
        ({"y": Y.tolist()}, "y must be a torch tensor, got list"),
        ({"y": Y[:2]}, "of the outputs' shape [3, 2] for the squared loss, got torch.float32 of shape [2, 2]"),
        ({"y": torch.zeros(3, dtype=torch.int64)}, "torch.nn.functional.one_hot, or use loss='cross_entropy'"),
        ({"y": Y + math.inf}, "y must be finite: 6 of 6 values"),
        ({"net": LABELLED}, "y must be class indices [B] = [3], int64, for cross_entropy, got torch.float32"),
        ({"net": LABELLED, "y": torch.tensor([0, 2, 1])}, "y must be class indices from 0 to 1, got 2"),
        ({"net": Blocks(list(NET.blocks), nn.MSELoss())}, "loss must return one value per sample, shape [3], got []"),
        ({"method": BP(), "initial": (STATE, STATE)}, "initial must be None for BP"),
        ({"initial": STATE}, "initial must be a state from infer() or a pair (activities, multipliers), got Tensor"),
        ({"initial": (STATE, STATE[:1])}, "must be 2 hidden layers of shapes [[3, 4], [3, 4]], got [[3, 4]]"),
        ({"initial": (STATE.double(), STATE)}, "initial activities must be torch.float32 on cpu like the network"),
        ({"initial": (STATE, [STATE[0], STATE[1] + math.nan])}, "initial multipliers of layer 2 must be finite"),
        ({"method": PC(1, 0.1), "initial": (STATE, STATE + 1)}, "initial multipliers must be zero for PC"),
        ({"method": PCALM(1, (0.1, 0.2, 0.3))}, "step_size has 3 values, but the network has 2 hidden layers"),
    ],
)  # fmt: skip
def test_bad_arguments(change: dict[str, Any], message: str) -> None:
    arguments = {"net": NET, "method": PCALM(2, 0.2), "x": X, "y": Y, "initial": None, **change}
    for call in (pcalm.solve, pcalm.infer, pcalm.gradients):
        with pytest.raises(ValueError, match=re.escape(message)):
            call(**arguments)


@pytest.mark.parametrize("seed", [0, 2])
def test_alignment_of_a_convolutional_network_at_initialisation(seed: int) -> None:
    """Handwritten digits, 16 samples, 8 channels, L = 16, as published for residual MLPs: PC-ALM aligns, PC does not.

    Measured with these seeds: λ_max 4.18; cosine to BP of PC at 2L 0.79 to 0.92, of PC-ALM at 2L 0.995 to
    1.00, anchored at 1.25L 0.98 to 0.99. The bounds leave 0.02.
    """
    digits = load_digits()
    images = torch.tensor(digits.images)[np.random.default_rng(0).permutation(1797)[:1440]]
    labels = torch.tensor(digits.target)[np.random.default_rng(0).permutation(1797)[:1440]]
    x, y, depth = ((images - images.mean()) / images.std())[:16, None], labels[:16], 16
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = Blocks(convolutional(depth), "cross_entropy").double()
    eta = pcalm.step_size(net, x)
    assert isinstance(eta, float)
    assert 4.1 < 1 / eta < 4.3
    exact = pcalm.gradients(net, BP(), x, y)

    def aligned(method: Method) -> float:
        return cosine(pcalm.gradients(net, method, x, y), exact)

    of_pcalm = aligned(PCALM(2 * depth, eta))
    assert of_pcalm > 0.975
    assert of_pcalm - aligned(PC(2 * depth, eta)) > 0.05
    settings: dict[str, Any] = anchored(depth)
    assert aligned(PCALM(round(1.25 * depth), eta, **settings)) > 0.96
