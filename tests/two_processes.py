"""What test_surroundings.py runs in two processes, each with its own half of a batch: prints what it found as JSON.

python -m tests.two_processes RANK FILE
"""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import pcalm
from pcalm.methods import PCALM
from tests.conftest import assert_near, draw, rounding

METHOD = PCALM(6, 0.2)
Grads = Sequence[torch.Tensor | None]


def close(net: pcalm.ResidualMLP, found: Grads, truth: Grads) -> bool:
    for mine, exact in zip(found, truth, strict=True):
        assert mine is not None
        assert exact is not None
        assert_near(mine, exact, rounding(net, METHOD.steps))
    return True


def main(rank: int) -> dict[str, object]:
    net, x, y, _ = draw(batch=4)
    mine = slice(2 * rank, 2 * rank + 2)

    def grads() -> Grads:
        return [parameter.grad for parameter in net.parameters()]

    # The mean of the two halves' batch means is the gradient of the whole batch.
    bare = copy.deepcopy(net)
    pcalm.backward(bare, METHOD, x, y)
    whole = [parameter.grad for parameter in bare.parameters() if parameter.grad is not None]
    ddp = DistributedDataParallel(net)
    found: dict[str, object] = {}
    for name, given in (("wrapped", ddp), ("its module", net)):
        net.zero_grad()
        pcalm.backward(given, METHOD, x[mine], y[mine])  # type: ignore[arg-type]
        found[name] = close(net, grads(), whole)
    net.zero_grad()
    with ddp.no_sync():
        pcalm.backward(net, METHOD, x[mine], y[mine])
    own = [parameter.grad.clone() for parameter in net.parameters() if parameter.grad is not None]
    found["no_sync"] = not torch.allclose(own[0], whole[0])
    pcalm.backward(net, METHOD, x[mine], y[mine])
    found["after no_sync"] = close(net, grads(), [2 * each for each in whole])

    encoder = nn.Linear(6, 6, dtype=x.dtype)
    with torch.no_grad():
        encoder.weight.copy_(torch.eye(6)).add_(0.1)
        encoder.bias.fill_(0.1)
    alone = copy.deepcopy(encoder)
    pcalm.backward(bare, METHOD, alone(x), y)
    in_front = DistributedDataParallel(encoder)
    pcalm.backward(ddp, METHOD, in_front(x[mine]), y[mine])  # type: ignore[arg-type]
    found["encoder"] = close(net, [encoder.weight.grad], [alone.weight.grad])

    def refused(net: nn.Module) -> str:
        try:
            pcalm.backward(net, METHOD, x[mine], y[mine])  # type: ignore[arg-type]
        except ValueError as error:
            return str(error)
        return "not refused"

    together = nn.Sequential(nn.Linear(6, 6, dtype=x.dtype), copy.deepcopy(net))
    around = DistributedDataParallel(together)
    found["with an encoder inside"] = refused(together[1])
    del around
    hooked = copy.deepcopy(net)
    other = DistributedDataParallel(hooked)
    other.register_comm_hook(None, lambda state, bucket: None)
    found["communication hook"] = refused(hooked)
    return found


if __name__ == "__main__":
    dist.init_process_group("gloo", init_method=f"file://{sys.argv[2]}", rank=int(sys.argv[1]), world_size=2)
    try:
        print(json.dumps(main(int(sys.argv[1]))))
    finally:
        dist.destroy_process_group()
