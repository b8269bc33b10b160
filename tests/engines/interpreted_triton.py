"""What test_engine_triton.py runs with TRITON_INTERPRET=1 in the environment: prints errors by case as JSON.

python -m tests.engines.interpreted_triton {relu,tanh,linear}      every case with that activation
python -m tests.engines.interpreted_triton "tanh itself"
"""

from __future__ import annotations

import json
import sys

import torch
import triton
import triton.language as tl

from benchmarks.gate import disagreement
from pcalm.engines import sweep_triton
from pcalm.engines.sweep_triton_kernel import tanh
from pcalm.methods import BP, PC, PCALM, Method
from pcalm.network import ResidualMLP
from tests.engines.engine_cases import layered, problem, without_multipliers


def _layered(shape: tuple[int, int, int, int], seed: int | list[int], form: str, which: int) -> Method:
    return layered(ResidualMLP(*shape, seed=seed), form)[which]


# name: (network: depth, width, input_dim, output_dim), batch, method, seeds, from a state of one's own)
CASES: dict[str, tuple[tuple[int, int, int, int], int, Method, int | list[int], bool]] = {
    "one unit, one sample": ((3, 1, 2, 1), 1, PCALM(4, 0.2), 0, False),
    "pc": ((5, 7, 6, 3), 3, PC(6, 0.2, penalty=0.7), 0, False),
    "fewer steps than layers": ((6, 5, 6, 3), 3, PCALM(3, 0.2), 0, False),
    "two tiles, the second one not full": ((4, 7, 6, 3), 19, PCALM(7, 0.2, credit="after"), 0, False),
    "wider than a block": ((4, 20, 6, 18), 3, PCALM(7, 0.2), 0, False),
    "inner steps": ((4, 7, 6, 3), 3, PCALM(3, 0.1, 0.5, 0.8, inner_steps=3, credit="after"), 0, False),
    "anchored": ((4, 7, 6, 3), 3, PCALM(7, 0.2, penalty=0.1, dual_step=3.5, anchor=0.4), 0, False),
    "replicas with step sizes of their own": ((4, 7, 6, 3), 18, PCALM(5, (0.1, 0.2)), [0, 1], False),
    "own start": ((5, 7, 6, 3), 3, PCALM(4, 0.1, anchor=0.3), 0, True),
    "own start, pc, replicas": ((4, 7, 6, 3), 3, PC(4, 0.2), [0, 1], True),
    "bp": ((4, 7, 6, 3), 3, BP(), 0, False),
    "layers of their own": ((4, 7, 6, 3), 3, _layered((4, 7, 6, 3), 0, "layers", 0), 0, False),
    "layers of their own, inner steps": ((4, 7, 6, 3), 3, _layered((4, 7, 6, 3), 0, "layers", 1), 0, True),
    "replicas and layers of their own": (
        *((4, 7, 6, 3), 3, _layered((4, 7, 6, 3), [0, 1], "replicas and layers", 0)),
        *([0, 1], False),
    ),
}


def measure(activation: str) -> dict[str, float]:
    """The disagreement of every case with the reference, in both dtypes."""
    found = {}
    for dtype in (torch.float32, torch.float64):
        for name, (shape, batch, method, seed, start) in CASES.items():
            net = ResidualMLP(*shape, activation, seed=seed, dtype=dtype)
            x, y, initial = problem(net, batch, start=start)
            initial = without_multipliers(initial, method)
            found[f"{name}, {dtype}"] = disagreement(sweep_triton, net, method, x, y, initial)
    return found


@triton.jit  # type: ignore[untyped-decorator]
def apply_tanh(source, target, SIZE: tl.constexpr):  # type: ignore[no-untyped-def]
    at = tl.arange(0, SIZE)
    tl.store(target + at, tanh(tl.load(source + at)))


def tanh_errors() -> dict[str, float]:
    """The largest error of the kernel's tanh, relative to tanh itself and in units of ε, over all magnitudes."""
    found = {}
    for dtype in (torch.float32, torch.float64):
        size = 4096
        magnitudes = 2 ** torch.linspace(-30, 5, size // 2 - 1, dtype=torch.float64)
        x = torch.cat([torch.tensor([0.0, 1e30]), magnitudes, -magnitudes]).to(dtype)
        result = torch.full_like(x, torch.nan)
        apply_tanh[(1,)](x, result, SIZE=size)
        exact = torch.tanh(x.double())
        error = (result.double() - exact).abs() / exact.abs().clamp_min(torch.finfo(torch.float64).tiny)
        found[str(dtype)] = float(error.max()) / torch.finfo(dtype).eps
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps(tanh_errors() if sys.argv[1] == "tanh itself" else measure(sys.argv[1])))
