"""The model: the pinned draw, the equations, copies, and bad input."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pcalm.network import ACTIVATIONS, ResidualMLP
from tests.conftest import assert_near, draw, rounding

PHI: dict[str, Callable[[float], float]] = {"linear": lambda v: v, "tanh": math.tanh, "relu": lambda v: max(v, 0.0)}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_seed_is_the_same_network_in_every_dtype(dtype: torch.dtype) -> None:
    depth, width, inputs, outputs, seed = 5, 4, 6, 2, 7
    generator = torch.Generator("cpu").manual_seed(seed)
    first = torch.randn(width, inputs, generator=generator)
    stack = torch.randn(depth - 2, width, width, generator=generator)
    last = torch.randn(outputs, width, generator=generator)
    net = ResidualMLP(depth, width, inputs, outputs, seed=seed, dtype=dtype)
    for found, drawn in zip(net.weights, [first, *stack, last], strict=True):
        assert torch.equal(found, drawn.to(dtype))


def test_seeds_differ_and_the_global_generator_is_left_alone() -> None:
    torch.manual_seed(3)
    expected = torch.randn(4)
    torch.manual_seed(3)
    first, second = ResidualMLP(3, 2, seed=0), ResidualMLP(3, 2, seed=1)
    assert torch.equal(torch.randn(4), expected)
    assert not torch.equal(first.input_weight, second.input_weight)


def test_sizes_and_seeds_may_be_of_any_integer_type() -> None:
    net = ResidualMLP(np.int64(3), np.uint8(4), np.array(6), torch.tensor(2), seed=np.arange(2))  # type: ignore[arg-type]
    for weight, plain in zip(net.weights, ResidualMLP(3, 4, 6, 2, seed=[0, 1]).weights, strict=True):
        assert torch.equal(weight, plain)


def test_parameters_are_three_and_stacked() -> None:
    net = ResidualMLP(7, 4, 6, 2)
    shapes = {name: tuple(parameter.shape) for name, parameter in net.named_parameters()}
    assert shapes == {"input_weight": (4, 6), "hidden_weight": (5, 4, 4), "output_weight": (2, 4)}
    assert (net.depth, net.width, net.input_dim, net.output_dim, net.replicas) == (7, 4, 6, 2, None)
    assert [tuple(weight.shape) for weight in net.weights] == [(4, 6), *5 * [(4, 4)], (2, 4)]
    assert repr(net).startswith("ResidualMLP(depth=7, width=4, input_dim=6, output_dim=2, activation='relu'")


def test_scales() -> None:
    net = ResidualMLP(depth=8, width=2, input_dim=9)
    assert net.scales == (1 / 3, 1 / 4, 1 / 2)


def test_forward_is_the_layer_by_layer_formula(activation: str) -> None:
    net, x, _, _ = draw(activation)
    phi = PHI[activation]
    weights = [weight.tolist() for weight in net.weights]
    inner = 1 / math.sqrt(net.width * net.depth)

    def product(matrix: list[list[float]], vector: list[float]) -> list[float]:
        return [sum(w * v for w, v in zip(row, vector, strict=True)) for row in matrix]

    for sample, found in zip(x, net(x), strict=True):
        z = [value / math.sqrt(net.input_dim) for value in product(weights[0], sample.tolist())]
        for matrix in weights[1:-1]:
            z = [a + inner * b for a, b in zip(z, product(matrix, [phi(v) for v in z]), strict=True)]
        out = [value / net.width for value in product(weights[-1], [phi(v) for v in z])]
        assert_near(found.detach(), torch.tensor(out, dtype=net.dtype), rounding(net))


def test_derivative_of_the_activation(activation: str) -> None:
    phi, derivative = ACTIVATIONS[activation]
    z = torch.tensor([-3.0, -0.5, 0.0, 0.5, 3.0], dtype=torch.float64)
    expected = torch.func.vmap(torch.func.grad(phi))(z)
    # 1 − tanh² loses a few ε to cancellation; the other two are exact.
    assert_near(derivative(z), expected, 4 * torch.finfo(torch.float64).eps)
    if activation == "relu":
        assert derivative(torch.zeros(1)).item() == 0


def test_replicas_are_separate_networks(activation: str) -> None:
    net, x, _, _ = draw(activation, replicas=3)
    assert net.replicas == 3
    for index in range(3):
        single = ResidualMLP(net.depth, net.width, 6, 2, activation, seed=index, dtype=net.dtype)
        assert all(torch.equal(a, b) for a, b in zip(net.replica(index).weights, single.weights, strict=True))
        assert_near(net(x)[index], single(x[index]), rounding(net))


def test_replica_needs_replicas() -> None:
    with pytest.raises(ValueError, match="needs a network with replicas"):
        ResidualMLP(3, 2).replica(0)


def test_from_weights_copies(replicas: int | None) -> None:
    source = draw(replicas=replicas).net
    given = [weight.detach().clone() for weight in source.weights]
    kept = [weight.clone() for weight in given]
    net = ResidualMLP.from_weights(given, "tanh")
    assert (net.replicas, net.scales, net.dtype) == (source.replicas, source.scales, source.dtype)
    with torch.no_grad():
        for weight in given:
            weight.zero_()
    assert all(torch.equal(a, b) for a, b in zip(net.weights, kept, strict=True))
    with torch.no_grad():
        for parameter in ResidualMLP.from_weights(source.weights, "tanh").parameters():
            parameter.zero_()
    assert all(torch.equal(a, b) for a, b in zip(source.weights, kept, strict=True))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"depth": 2}, "depth must be at least 3, got 2"),
        ({"depth": 4.0}, "depth must be an integer, got 4.0"),
        ({"width": 0}, "width must be at least 1, got 0"),
        ({"width": True}, "width must be an integer, got True"),
        ({"input_dim": 0}, "input_dim must be at least 1, got 0"),
        ({"output_dim": -1}, "output_dim must be at least 1, got -1"),
        ({"activation": "gelu"}, "activation must be one of 'linear', 'tanh', 'relu', got 'gelu'"),
        ({"dtype": torch.float16}, "dtype must be one of torch.float32, torch.float64, got torch.float16"),
        ({"dtype": "float32"}, "dtype must be one of torch.float32, torch.float64, got 'float32'"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"seed": []}, "seed must be an integer or at least one of them, got []"),
        ({"seed": 0.5}, "seed must be an integer, got 0.5"),
        ({"seed": 2**63}, f"seed must be at most {2**63 - 1}, got {2**63}"),
        ({"width": 2**63}, f"width must be at most {2**63 - 1}, got {2**63}"),
        ({"width": 2**40}, "must give weights that fit into memory: shapes [(1099511627776, 784), "),
        ({"depth": 2**62}, "must give weights that fit into memory: shapes [(2, 784), (4611686018427387902, 2, 2), "),
        ({"device": "meta"}, "device must be one that holds numbers, and 'meta' holds shapes alone; use 'cpu'"),
        ({"device": "cpu:1"}, "device must be 'cpu', which has no numbers, got 'cpu:1'"),
        ({"device": "cuda:256"}, "device 'cuda:256' is not on this machine"),
        ({"device": "vulkan"}, "device 'vulkan' does not work on this machine: Could not run "),
        ({"device": "abacus"}, "device must be such as 'cpu', 'cuda' or 'cuda:0', got 'abacus'"),
    ],
)
def test_bad_arguments(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        ResidualMLP(**{"depth": 3, "width": 2, **change})


@pytest.mark.parametrize(("device", "count"), [("cuda", 0), ("cuda:0", 0), ("cuda:3", 2)])
def test_cuda_device_that_is_not_there(monkeypatch: pytest.MonkeyPatch, device: str, count: int) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    with pytest.raises(ValueError, match=f"'{device}' is not on this machine .*sees {count} CUDA.*use device='cpu'"):
        ResidualMLP(3, 2, device=device)


def zeros(*shapes: Sequence[int], dtype: torch.dtype = torch.float32) -> list[Tensor]:
    return [torch.zeros(*shape, dtype=dtype) for shape in shapes]


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([], "weights must be at least 3 matrices (depth >= 3), got 0"),
        (zeros((4, 6), (2, 4)), "weights must be at least 3 matrices (depth >= 3), got 2"),
        ([[1.0], *zeros((4, 4), (2, 4))], "weights[0] must be a torch tensor, got list"),
        (zeros((4,), (4, 4), (2, 4)), "weights[0] must be [N, D] or [R, N, D], got shape [4]"),
        (zeros((4, 6), (4, 3), (2, 4)), "weights[1] has shape [4, 3], expected [4, 4]"),
        (zeros((4, 6), (4, 4), (2, 5)), "weights[2] has shape [2, 5], expected [2, 4]"),
        (zeros((4, 6), (4, 4), (4,)), "weights[2] has shape [4], expected [4, 4]"),
        (zeros((3, 4, 6), (2, 4, 4), (3, 2, 4)), "weights[1] has shape [2, 4, 4], expected [3, 4, 4]"),
        (zeros((4, 0), (4, 4), (2, 4)), "weights[0] has shape [4, 0]"),
        ([*zeros((4, 6), (4, 4)), *zeros((2, 4), dtype=torch.float64)], "weights[2] is torch.float64 on cpu"),
        (
            zeros((4, 6), (4, 4), (2, 4), dtype=torch.int64),
            "weights[0].dtype must be one of torch.float32, torch.float64",
        ),
        (
            [*zeros((4, 6)), torch.full((4, 4), float("nan")), *zeros((2, 4))],
            "weights[1] must be finite: 16 of 16 values are NaN or infinite, first at [0, 0]",
        ),
    ],
)
def test_bad_weights(weights: list[Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        ResidualMLP.from_weights(weights)


def test_bad_activation_in_from_weights() -> None:
    with pytest.raises(ValueError, match="activation must be one of 'linear', 'tanh', 'relu', got 'gelu'"):
        ResidualMLP.from_weights(zeros((4, 6), (4, 4), (2, 4)), "gelu")
