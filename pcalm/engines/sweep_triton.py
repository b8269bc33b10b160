"""The triton engine: all primal and dual steps in one kernel, for CUDA devices.

One program takes one tile of samples of one replica through all T steps. A step is one sweep up the layers that carries
the old z_l and q_l: it loads W_{l+1}, z_{l+1} and λ_{l+1} once, and writes z_l and λ_{l+1} once.

    c       = z_{l+1} − z_l − s φ(z_l) W_{l+1}ᵀ               all values old
    λ_{l+1} ← λ_{l+1} + α c                                   the dual step of the previous iteration, where one was due
    q_{l+1} = ρ c + λ_{l+1}
    z_l     ← z_l + η (q_{l+1} − q_l + s (q_{l+1} W_{l+1}) ⊙ φ'(z_l))

The last dual step (credit "after") and the weight gradients are `pcalm.dynamics` on the final state. Samples are
independent, so the programs need nothing of each other. The products are taken in three tf32 parts where the device has
tensor cores for them, which is as exact as float32 to a few roundings; plain tf32 is not.
"""

from __future__ import annotations

import importlib.util
import os
from typing import Any

import torch
from torch import Tensor

from pcalm import dynamics
from pcalm.checks import require
from pcalm.dynamics import State
from pcalm.engines import Solution, reference
from pcalm.methods import BP, PC, PCALM, SETTINGS, Method, active
from pcalm.network import ResidualMLP

BLOCK = 16  # samples of a tile, and the least that a matrix product takes in any direction
# A weight matrix is held on the chip as a whole. At these widths the kernel takes up to 80 KiB of shared memory, and
# GPUs of compute capability 7.0 and from 8.0 on have 96 KiB or more.
MAX_WIDTH = {torch.float32: 128, torch.float64: 64}


def unavailable(device: torch.device, dtype: torch.dtype) -> str | None:
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed; on Linux: pip install 'pcalm[triton]'"
    if device.type == "cuda" or (device.type == "cpu" and os.environ.get("TRITON_INTERPRET") == "1"):
        return None
    return (
        f"it needs a CUDA device, got {device}"
        " (for tests: TRITON_INTERPRET=1 in the environment from the start interprets it on the CPU, slowly)"
    )


def too_large(net: ResidualMLP) -> str | None:
    """Why the kernel does not take a network of this shape, or None."""
    most = MAX_WIDTH[net.dtype]
    if max(net.width, net.output_dim) <= most:
        return None
    return f"in {net.dtype} it takes a width and output_dim of at most {most}, got {net.width} and {net.output_dim}"


@torch.no_grad()
def solve(net: ResidualMLP, method: Method, x: Tensor, y: Tensor, initial: State | None) -> Solution:
    if isinstance(method, BP):
        return reference.solve(net, method, x, y, initial)
    reason = too_large(net)
    require(reason is None, f"engine 'triton' does not work for this network: {reason}; use engine='torch'")
    from pcalm.engines.sweep_triton_kernel import sweep  # not at the top: triton is optional

    z_ff = net.feedforward(x)
    start = State(z_ff, torch.zeros_like(z_ff)) if initial is None else initial
    z, lam = (part.clone(memory_format=torch.contiguous_format) for part in start)
    batch, replicas, layers = x.shape[-2], net.replicas or 1, net.depth - 1
    values = [dynamics.setting(value, z) for value in (getattr(method, name) for name in SETTINGS)]
    # One row of η, ρ, α, κ for each replica and layer, and after a replica's rows its s and s_out.
    rows = [torch.as_tensor(value, dtype=x.dtype, device=x.device).expand(replicas, layers, 1, 1) for value in values]
    numbers = torch.cat(
        [torch.stack(rows, dim=2).view(replicas, -1), x.new_tensor(net.scales[1:]).expand(replicas, 2)], 1
    )
    with torch.cuda.device_of(z):
        sweep[(-(-batch // BLOCK), replicas)](
            *(z, lam, z_ff, net.hidden_weight.contiguous(), net.output_weight.contiguous(), y.contiguous(), numbers),
            *(batch, layers, method.steps * method.inner_steps, method.inner_steps, net.width, net.output_dim),
            **constants(net, method, from_state=initial is not None),
        )
    c = dynamics.residuals(net, z, z_ff[..., :1, :, :])
    _, rho, alpha, _ = values
    if method.credit == "after":
        lam.add_(alpha * c)
    credit = lam + rho * c
    return Solution(State(z, lam), dynamics.weight_gradients(net, credit, z, x, y))


def constants(net: ResidualMLP, method: PC | PCALM, *, from_state: bool) -> dict[str, Any]:
    """What a compiled kernel is for; the numbers of samples, layers and steps are not among it."""
    block_n, small = _block(net.width), net.width <= 32
    return {
        "BLOCK_B": BLOCK,
        "BLOCK_N": block_n,
        "BLOCK_C": _block(net.output_dim),
        "ACTIVATION": net.activation,
        "ANCHOR": active(method.anchor),
        "PER_LAYER": any(isinstance(getattr(method, name), tuple) for name in SETTINGS),
        "CONE": not from_state,
        "PRECISION": _precision(net),
        "num_warps": 4 if small else 8,
        "num_stages": 2 if small else 1,  # weight matrices on the chip at a time: the next one is loaded early
    }


def _block(size: int) -> int:
    """The power of two that a dimension is padded to."""
    return max(BLOCK, 1 << (size - 1).bit_length())


def _precision(net: ResidualMLP) -> str:
    if net.dtype == torch.float64 or net.device.type == "cpu" or torch.version.hip is not None:
        return "ieee"
    return "tf32x3" if torch.cuda.get_device_capability(net.device) >= (8, 0) else "ieee"
