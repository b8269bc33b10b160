"""The triton engine, interpreted on the CPU: equal to the reference in everything it can be asked for.

Triton reads TRITON_INTERPRET when it is imported, so the cases run in a process of their own.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import pcalm
from pcalm.engines import sweep_triton
from pcalm.methods import PCALM
from pcalm.network import ACTIVATIONS, ResidualMLP

INSTALLED = importlib.util.find_spec("triton") is not None
needs_triton = pytest.mark.skipif(not INSTALLED, reason="triton is not installed: the engine is reported unavailable")


def interpreted(what: str) -> dict[str, float]:
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": path}
    run = subprocess.run(
        [sys.executable, "-m", "tests.engines.interpreted_triton", what],
        env=environment, cwd=root, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    return dict(json.loads(run.stdout))


@needs_triton
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_agrees_with_the_reference(activation: str) -> None:
    found = interpreted(activation)
    assert found
    assert {name: error for name, error in found.items() if not error <= 1} == {}


@needs_triton
def test_tanh_is_accurate_everywhere() -> None:
    # Seven roundings in each of the two formulas (sums, products, exp and a quotient) and half an ε of the reference.
    assert all(error <= 4 for error in interpreted("tanh itself").values())


@needs_triton
@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_compiles_for_gpus_within_their_shared_memory(
    dtype: torch.dtype, capability: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Needs no GPU: what the interpreter cannot tell, types that the compiler refuses and the room on the chip."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    from triton import compile as compile_kernel
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from pcalm.engines.sweep_triton_kernel import sweep

    kind = {torch.float32: "fp32", torch.float64: "fp64"}[dtype]
    for width, activation in ((8, "relu"), (sweep_triton.MAX_WIDTH[dtype], "tanh")):
        net = ResidualMLP(3, width, 1, width, activation, dtype=dtype)
        constants = sweep_triton.constants(net, PCALM(1, 0.1, anchor=0.1), from_state=False)
        options = {name: constants.pop(name) for name in ("num_warps", "num_stages")}
        constants["PRECISION"] = "tf32x3" if dtype == torch.float32 else "ieee"
        names = sweep.arg_names
        signature = {
            name: "constexpr" if name in constants else f"*{kind}" if name.endswith("_ptr") else "i32" for name in names
        }
        values = {(names.index(name),): value for name, value in constants.items()}
        source = ASTSource(fn=sweep, signature=signature, constexprs=values)
        compiled = compile_kernel(source, target=GPUTarget("cuda", capability, 32), options=options)
        assert compiled.metadata.shared <= 96 * 1024


def test_says_why_it_does_not_run_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    reason = sweep_triton.unavailable(torch.device("cpu"), torch.float32)
    assert reason is not None
    assert ("CUDA" if INSTALLED else "not installed") in reason
    assert "triton" not in pcalm.engines()
    net = ResidualMLP(3, 2, 2, 2)
    with pytest.raises(ValueError, match="engine 'triton' does not work"):
        pcalm.solve(net, PCALM(2, 0.1), torch.zeros(1, 2), torch.zeros(1, 2), engine="triton")


def test_says_when_it_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    reason = sweep_triton.unavailable(torch.device("cuda"), torch.float32)
    assert reason is not None
    assert "pip install" in reason


@pytest.mark.parametrize(("dtype", "width", "output_dim"), [(torch.float32, 129, 2), (torch.float64, 8, 65)])
def test_refuses_a_network_that_its_kernel_cannot_hold(dtype: torch.dtype, width: int, output_dim: int) -> None:
    net = ResidualMLP(3, width, 2, output_dim, dtype=dtype)
    x, y = torch.zeros(1, 2, dtype=dtype), torch.zeros(1, output_dim, dtype=dtype)
    with pytest.raises(ValueError, match=r"at most \d+, got .* use engine='torch'"):
        sweep_triton.solve(net, PCALM(2, 0.1), x, y, None)
