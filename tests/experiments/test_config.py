"""The settings of a run: plain values in their ranges, whatever numbers they were given as."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest
import torch

from pcalm.checks import LARGEST
from pcalm.experiments.config import INTEGERS, TrainingConfig


def test_numpy_and_torch_numbers_are_the_same_run() -> None:
    given: dict[str, Any] = {
        "depth": np.int64(4),
        "width": torch.tensor(8),
        "seed": np.uint8(3),
        "lr": np.float64(1e-2),
        "steps": 7,
    }
    given |= {"step_size": np.array(0.1), "penalty": 2, "method": np.str_("pcalm"), "device": torch.device("cpu")}
    config = TrainingConfig(**given)
    plain = TrainingConfig(depth=4, width=8, seed=3, lr=1e-2, steps=7, step_size=0.1, penalty=2.0)
    assert config == plain
    assert hash(config) == hash(plain)
    assert json.dumps(config.resolved()) == json.dumps(plain.resolved())


@pytest.mark.parametrize("name", [*INTEGERS, "steps"])
@pytest.mark.parametrize("method", ["bp", "pc", "pcalm"])
def test_every_integer_has_a_range(name: str, method: str) -> None:
    for value, message in ((LARGEST + 1, "at most"), (INTEGERS.get(name, 1) - 1, "at least")):
        with pytest.raises(ValueError, match=f"{name} must be {message}"):
            TrainingConfig(**{"method": method, name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 2**62, "inner_steps": 2}, f"steps · inner_steps must be at most {LARGEST}, got {LARGEST + 1}"),
        ({"depth": 2**62}, f"steps must be at most {LARGEST}, got {LARGEST + 1}"),  # 2L
        ({"step_size": (0.1, 0.2)}, "step_size must be a number, got (0.1, 0.2)"),
        ({"device": 0}, "device must be such as 'cpu' or 'cuda', got 0"),
        ({"lr": True}, "lr must be a number, got True"),
    ],
)
def test_bad_settings(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        TrainingConfig(**change)
