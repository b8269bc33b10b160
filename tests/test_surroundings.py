"""Calls among other torch code: figures do not depend on what torch is set to, and gradients arrive everywhere."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

import pcalm
from pcalm.methods import BP, PCALM
from pcalm.network import ResidualMLP
from pcalm.surroundings import PRECISIONS, independent
from tests.conftest import assert_near, draw, rounding

METHOD = PCALM(6, 0.2, anchor=0.3)
ENGINES = pcalm.engines()
EVERY_ENGINE = pytest.mark.parametrize("engine", ENGINES)


@contextlib.contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextlib.contextmanager
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


@contextlib.contextmanager
def precision(value: str) -> Iterator[None]:
    before = [torch._C._get_fp32_precision_getter(*each) for each in PRECISIONS]
    torch.set_float32_matmul_precision(value)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision("highest")
        for each, was in zip(PRECISIONS, before, strict=True):
            torch._C._set_fp32_precision_setter(*each, was)


SURROUNDINGS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "default float64": lambda: default_dtype(torch.float64),
    "default bfloat16": lambda: default_dtype(torch.bfloat16),
    "default float16": lambda: default_dtype(torch.float16),
    "default device meta": lambda: torch.device("meta"),
    "default device cpu": lambda: torch.device("cpu"),
    "autocast bfloat16": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "autocast float16": lambda: torch.autocast("cpu", dtype=torch.float16),
    "inference mode": torch.inference_mode,
    "no_grad": torch.no_grad,
    "deterministic": deterministic,
    "medium precision": lambda: precision("medium"),
}
SURROUNDED = pytest.mark.parametrize("surrounding", SURROUNDINGS.values(), ids=SURROUNDINGS)


def large() -> tuple[ResidualMLP, Tensor, Tensor]:
    """In float32, and large enough that CPUs with bfloat16 products use them where they are allowed to."""
    net = ResidualMLP(4, 64, 64, 8, "tanh")
    generator = torch.Generator().manual_seed(1)
    x, y = (torch.randn(64, n, generator=generator, dtype=torch.float32, device="cpu") for n in (64, 8))
    return net, x, y


@EVERY_ENGINE
@SURROUNDED
def test_figures_do_not_depend_on_what_torch_is_set_to(
    surrounding: Callable[[], AbstractContextManager[Any]], engine: str
) -> None:
    net, x, y = large()
    truth = [*pcalm.solve(net, METHOD, x, y, engine=engine).state, *pcalm.gradients(net, METHOD, x, y, engine=engine)]
    size = pcalm.step_size(net, x)
    pcalm.backward(net, METHOD, x, y, engine=engine)
    with surrounding():
        again, x_again, y_again = large()
        weights = zip(net.weights, again.weights, strict=True)
        state, grads = pcalm.solve(again, METHOD, x_again, y_again, engine=engine)
        assert pcalm.step_size(again, x_again) == size
        pcalm.backward(again, METHOD, x_again, y_again, engine=engine)
    assert all(torch.equal(a, b) for a, b in weights)
    assert all(torch.equal(a, b) for a, b in zip([*state, *grads], truth, strict=True))
    for parameter, plain in zip(again.parameters(), net.parameters(), strict=True):
        assert parameter.grad is not None
        assert plain.grad is not None
        assert torch.equal(parameter.grad, plain.grad)
        assert not parameter.is_inference()
        assert not parameter.grad.is_inference()
    torch.optim.Adam(again.parameters(), lr=1e-3).step()


@SURROUNDED
def test_blocks_do_not_depend_on_it_either(surrounding: Callable[[], AbstractContextManager[Any]]) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = pcalm.Blocks([nn.Linear(64, 64), nn.Sequential(nn.Tanh(), nn.Linear(64, 64)), nn.Linear(64, 8)])
    _, x, y = large()
    truth = pcalm.gradients(net, METHOD, x, y)
    size = pcalm.step_size(net, x)
    with surrounding():
        found = pcalm.gradients(net, METHOD, x, y)
        assert pcalm.step_size(net, x) == size
        pcalm.backward(net, METHOD, x, y)
    grads = [parameter.grad for parameter in net.parameters()]
    for mine, kept, exact in zip(found, grads, truth, strict=True):
        assert kept is not None
        assert torch.equal(mine, exact)
        assert torch.equal(kept, exact)
        assert not kept.is_inference()


@SURROUNDED
def test_training_does_not_depend_on_what_torch_is_set_to(
    surrounding: Callable[[], AbstractContextManager[Any]],
) -> None:
    from pcalm.experiments.config import TrainingConfig
    from pcalm.experiments.training import train

    config = TrainingConfig(depth=4, width=4, batch_size=480, steps=3, engine="torch")
    truth = train(config)
    with surrounding():
        run = train(config)
    assert run.metrics == truth.metrics
    assert run.summary["gradient_cosine"] == truth.summary["gradient_cosine"]


def test_settings_are_given_back() -> None:
    @independent
    def inside() -> tuple[bool, bool, list[str]]:
        autocast = torch.is_autocast_enabled("cpu")
        return (
            torch.is_inference_mode_enabled(),
            autocast,
            [torch._C._get_fp32_precision_getter(*p) for p in PRECISIONS],
        )

    with torch.inference_mode(), torch.autocast("cpu"), precision("medium"):
        assert inside() == (False, False, ["ieee", "ieee"])
        assert torch.is_inference_mode_enabled()
        assert torch.is_autocast_enabled("cpu")
        assert torch.get_float32_matmul_precision() == "medium"
        assert [torch._C._get_fp32_precision_getter(*p) for p in PRECISIONS] == ["tf32", "bf16"]


@EVERY_ENGINE
def test_a_compiled_step_takes_the_same_step(engine: str) -> None:
    def trained(compile: bool) -> list[Tensor]:
        net, x, y, _ = draw()
        encoder = nn.Linear(6, 6, dtype=net.dtype)
        with torch.no_grad():
            encoder.weight.copy_(torch.eye(6)), encoder.bias.zero_()
        optimiser = torch.optim.SGD([*net.parameters(), *encoder.parameters()], lr=0.1)

        def step(x: Tensor, y: Tensor) -> Tensor:
            optimiser.zero_grad()
            pcalm.backward(net, METHOD, encoder(x), y, engine=engine)
            optimiser.step()
            return 2 * pcalm.infer(net, METHOD, x, y, engine=engine).activities.sum()

        run = torch.compile(step, backend="aot_eager") if compile else step
        figures = [run(x, y), run(x, y)]
        return [*figures, *(parameter.detach() for parameter in (*net.parameters(), *encoder.parameters()))]

    for mine, plain in zip(trained(True), trained(False), strict=True):
        assert torch.equal(mine, plain)


def test_wrapped_networks_are_the_network() -> None:
    net, x, y, _ = draw()
    expected = pcalm.gradients(net, METHOD, x, y)
    for wrapped in (nn.DataParallel(net), torch.compile(net, backend="eager")):
        for mine, own in zip(pcalm.gradients(wrapped, METHOD, x, y), expected, strict=True):  # type: ignore[arg-type]
            assert torch.equal(mine, own)
        assert pcalm.step_size(wrapped, x) == pcalm.step_size(net, x)  # type: ignore[arg-type]


@pytest.mark.skipif(
    not (torch.distributed.is_available() and torch.distributed.is_gloo_available()), reason="torch has no gloo here"
)
def test_two_processes_get_the_mean(tmp_path: Path) -> None:
    root = Path(__file__).parents[1]
    path = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", "-m", "tests.two_processes"]
    ranks = [
        subprocess.Popen(
            [*command, str(rank), str(tmp_path / "store")],
            cwd=root, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for rank in range(2)
    ]  # fmt: skip
    try:
        answers = [rank.communicate(timeout=300) for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
            rank.communicate()
    for rank, (out, errors) in zip(ranks, answers, strict=True):
        assert rank.returncode == 0, errors
        found = json.loads(out)
        assert "must be the only module with parameters" in found.pop("with an encoder inside")
        assert "without communication hooks" in found.pop("communication hook")
        assert found == dict.fromkeys(["wrapped", "its module", "no_sync", "after no_sync", "encoder"], True)


# Gradients arrive as autograd's own do


@EVERY_ENGINE
def test_frozen_parameters_get_no_gradient(engine: str) -> None:
    net, x, y, _ = draw()
    net.hidden_weight.requires_grad_(False)
    kept = net.hidden_weight.clone()
    optimiser = torch.optim.Adam(net.parameters(), lr=0.1)
    pcalm.backward(net, METHOD, x, y, engine=engine)
    assert net.hidden_weight.grad is None
    optimiser.step()
    assert torch.equal(net.hidden_weight, kept)
    assert net.input_weight.grad is not None
    assert all(grad is not None for grad in pcalm.gradients(net, METHOD, x, y, engine=engine))


def test_all_frozen_is_refused_unless_the_inputs_learn() -> None:
    net, x, y, _ = draw()
    for parameter in net.parameters():
        parameter.requires_grad_(False)
    with pytest.raises(ValueError, match="net must have a parameter that requires a gradient, or x must"):
        pcalm.backward(net, METHOD, x, y)
    x.requires_grad_()
    pcalm.backward(net, METHOD, x, y)
    assert x.grad is not None


def test_training_leaves_frozen_weights_alone() -> None:
    from pcalm.experiments.config import TrainingConfig
    from pcalm.experiments.training import Training

    training = Training([TrainingConfig(depth=4, width=4, batch_size=480, steps=3, engine="torch")])
    training.net.hidden_weight.requires_grad_(False)
    before = [parameter.detach().clone() for parameter in training.net.parameters()]
    training.run()
    same = [torch.equal(a, b) for a, b in zip(before, training.net.parameters(), strict=True)]
    assert same == [False, True, False]


@EVERY_ENGINE
def test_gradients_are_added_in_place(engine: str) -> None:
    net, x, y, _ = draw()
    pcalm.backward(net, METHOD, x, y, engine=engine)
    held = [parameter.grad for parameter in net.parameters()]
    once = [grad.clone() for grad in held if grad is not None]
    pcalm.backward(net, METHOD, x, y, engine=engine)
    for parameter, before, grad in zip(net.parameters(), held, once, strict=True):
        assert before is not None
        assert parameter.grad is before
        assert torch.equal(before, 2 * grad)


def test_a_gradient_that_cannot_be_added_to() -> None:
    net, x, y, _ = draw()
    (exact, *_) = pcalm.gradients(net, METHOD, x, y)
    net.input_weight.grad = torch.ones_like(exact).to_sparse()  # as an embedding's: autograd adds, and so do we
    pcalm.backward(net, METHOD, x, y)
    assert torch.equal(net.input_weight.grad, exact + 1)
    with torch.inference_mode():
        frozen_in_time = torch.zeros_like(exact)
    for grad in (frozen_in_time, torch.zeros((), dtype=exact.dtype).expand_as(exact)):
        net.zero_grad()
        net.input_weight.grad = grad
        with pytest.raises(ValueError, match=r"\.grad must be a tensor that can be added to, .*: set it to None first"):
            pcalm.backward(net, METHOD, x, y)
        assert net.output_weight.grad is None


@EVERY_ENGINE
def test_hooks_of_parameters_run_once(engine: str) -> None:
    net, x, y, _ = draw()
    expected = pcalm.gradients(net, METHOD, x, y, engine=engine)
    done: list[str] = []
    net.input_weight.register_hook(lambda grad: 3 * grad)
    net.output_weight.register_post_accumulate_grad_hook(lambda parameter: done.append("post"))
    pcalm.backward(net, METHOD, x, y, engine=engine)
    assert net.input_weight.grad is not None
    assert torch.equal(net.input_weight.grad, 3 * expected[0])
    assert done == ["post"]


def test_hooks_of_blocks_parameters_are_refused() -> None:
    first = nn.Linear(2, 2)
    net = pcalm.Blocks([first, nn.Linear(2, 2)])
    x, y = torch.ones(1, 2), torch.ones(1, 2)
    first.weight.register_post_accumulate_grad_hook(lambda parameter: None)
    pcalm.backward(net, METHOD, x, y)
    first.weight.register_hook(lambda grad: 3 * grad)
    with pytest.raises(ValueError, match=r"blocks\.0\.weight has a hook \(register_hook\)"):
        pcalm.backward(net, METHOD, x, y)


@EVERY_ENGINE
@pytest.mark.parametrize("shared", [False, True])
def test_an_encoder_in_front_learns_what_autograd_teaches_it(engine: str, replicas: int | None, shared: bool) -> None:
    net, x, y, _ = draw(replicas=replicas)
    if replicas and shared:
        x = x[0]
    encoder = nn.Linear(6, 6, dtype=net.dtype)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=net.dtype))
    x.requires_grad_()
    pcalm.backward(net, BP(), torch.tanh(encoder(x)), y, engine=engine)
    found = [part.grad for part in (x, *encoder.parameters(), *net.parameters())]
    for part in (x, *encoder.parameters(), *net.parameters()):
        part.grad = None
    (((net(torch.tanh(encoder(x))) - y) ** 2).sum() / 2 / x.shape[-2]).backward()
    for mine, part in zip(found, (x, *encoder.parameters(), *net.parameters()), strict=True):
        assert mine is not None
        assert part.grad is not None
        assert_near(mine, part.grad, rounding(net))


@EVERY_ENGINE
@pytest.mark.parametrize("method", [METHOD, pcalm.PC(6, 0.2, penalty=0.5)])
def test_the_gradient_of_x_is_that_of_the_energy(method: pcalm.PC | PCALM, engine: str, replicas: int | None) -> None:
    from tests.test_dynamics import energy

    net, x, y, _ = draw(replicas=replicas)
    state = pcalm.infer(net, method, x, y, engine=engine)
    given = x.clone().requires_grad_()
    pcalm.backward(net, method, given, y, engine=engine)
    rho = method.penalty
    assert isinstance(rho, float)
    x.requires_grad_()
    (exact,) = torch.autograd.grad(energy(net, *state, x, y, rho), x)
    assert given.grad is not None
    assert_near(given.grad, exact / x.shape[-2], rounding(net, method.steps))


def test_blocks_teach_an_encoder_too() -> None:
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = pcalm.Blocks([nn.Linear(6, 4), nn.Sequential(nn.Tanh(), nn.Linear(4, 4)), nn.Linear(4, 2)]).double()
    drawn, y = (torch.randn(3, size, generator=generator, dtype=torch.float64) for size in (6, 2))
    x, other = drawn.clone().requires_grad_(), drawn.clone().requires_grad_()
    pcalm.backward(net, BP(), 2 * x, y)
    (((net(2 * other) - y) ** 2).sum() / 2 / 3).backward()
    assert x.grad is not None
    assert other.grad is not None
    # Three products of at most 6 terms and some 8 elementwise operations, up and down.
    assert_near(x.grad, other.grad, 2 * 3 * (6 + 8) * torch.finfo(torch.float64).eps)


def test_targets_that_require_a_gradient_are_refused() -> None:
    net, x, y, _ = draw()
    with pytest.raises(ValueError, match=r"y must not require a gradient, .*: use y.detach\(\)"):
        pcalm.backward(net, METHOD, x, y.requires_grad_())
    assert not pcalm.gradients(net, METHOD, x, y)[0].requires_grad


# Tensors that are not what they seem


def fake(x: Tensor) -> Tensor:
    from torch._subclasses import FakeTensorMode

    return FakeTensorMode().from_tensor(x)


@EVERY_ENGINE
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (Tensor.to_sparse, "x must be a dense tensor, got torch.sparse_coo"),
        (lambda x: x.float().to_mkldnn(), r"x must be a dense tensor, got torch._mkldnn"),
        (fake, "x must be a plain tensor with its numbers in memory, got FakeTensor"),
        (lambda x: x.to("meta"), "x must be torch.float64 on cpu like the network, got torch.float64 on meta"),
    ],
)
def test_other_kinds_of_tensors(change: Callable[[Tensor], Tensor], message: str, engine: str) -> None:
    net, x, y, _ = draw()
    with pytest.raises(ValueError, match=message):
        pcalm.gradients(net, METHOD, change(x), y, engine=engine)


@EVERY_ENGINE
def test_lazily_negated_and_strided_inputs(engine: str) -> None:
    net, x, y, _ = draw()
    expected = pcalm.gradients(net, METHOD, x, y, engine=engine)
    negated = torch.complex(x, -x).conj().imag
    assert negated.is_neg()
    for other in (negated, x.mT.contiguous().mT, torch.stack([x, x], dim=-1)[..., 0]):
        for mine, own in zip(pcalm.gradients(net, METHOD, other, y, engine=engine), expected, strict=True):
            assert_near(mine, own, rounding(net, METHOD.steps))


@EVERY_ENGINE
def test_function_transforms_are_refused(engine: str) -> None:
    net, x, y, _ = draw()

    def call(x: Tensor) -> Tensor:
        return pcalm.gradients(net, METHOD, x, y, engine=engine)[0].sum()

    for transformed in (lambda: torch.func.grad(call)(x), lambda: torch.vmap(call)(x.expand(2, -1, -1))):
        with pytest.raises(ValueError, match=r"x must be a tensor of numbers, got one of a torch\.func transform"):
            transformed()
    with (
        forward_ad.dual_level(),
        pytest.raises(ValueError, match=r"x must not carry a forward-mode derivative, .*\.detach\(\)"),
    ):
        call(forward_ad.make_dual(x, x))
    with pytest.raises(ValueError, match=r"gradients cannot be traced by torch\.jit\.trace: call it outside"):
        torch.jit.trace(call, (x,))
