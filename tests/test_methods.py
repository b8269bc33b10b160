"""The methods: frozen settings that validate themselves."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import Any

import numpy as np
import pytest
import torch

from pcalm.methods import BP, METHODS, PC, PCALM, Method

BOTH = pytest.mark.parametrize("kind", [PC, PCALM])


def test_defaults_are_the_papers() -> None:
    expected = {
        "steps": 6,
        "step_size": 0.2,
        "penalty": 1.0,
        "dual_step": 1.0,
        "inner_steps": 1,
        "credit": "before",
        "anchor": 0.0,
    }
    assert dataclasses.asdict(PCALM(6, 0.2)) == expected
    assert dataclasses.asdict(PC(6, 0.2)) == {name: expected[name] for name in ("steps", "step_size", "penalty")}
    assert METHODS == {"bp": BP, "pc": PC, "pcalm": PCALM}
    assert [BP.name, PC.name, PCALM.name] == list(METHODS)


@pytest.mark.parametrize("method", [BP(), PC(6, 0.2), PCALM(6, 0.2)])
def test_methods_are_frozen_values(method: Method) -> None:
    assert hash(dataclasses.replace(method)) == hash(method)
    assert dataclasses.replace(method) == method
    with pytest.raises(dataclasses.FrozenInstanceError):
        method.steps = 3  # type: ignore[misc, union-attr]


@BOTH
def test_step_size_per_replica(kind: type[PC] | type[PCALM]) -> None:
    sizes: Any = [0.1, np.float64(0.2)]
    assert kind(1, sizes).step_size == (0.1, 0.2)


@pytest.mark.parametrize("name", ["step_size", "penalty", "dual_step", "anchor"])
@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (2, 2),
        ([0.5, np.float64(0.25)], (0.5, 0.25)),
        (np.array([1, 2]), (1.0, 2.0)),
        (torch.tensor([[0.5, 1.0], [2.0, 4.0]]), ((0.5, 1.0), (2.0, 4.0))),
        ([(1, 2), [3, 4]], ((1.0, 2.0), (3.0, 4.0))),
    ],
)
def test_a_setting_is_kept_as_numbers_or_tuples(name: str, given: Any, kept: Any) -> None:
    method = PCALM(**{"steps": 1, "step_size": 0.1, name: given})
    assert getattr(method, name) == kept
    assert hash(dataclasses.replace(method)) == hash(method)


@BOTH
def test_any_number_becomes_a_plain_one(kind: type[PC] | type[PCALM]) -> None:
    given: dict[str, Any] = {"steps": np.int64(8), "step_size": np.array([0.5, 0.25]), "penalty": torch.tensor(2)}
    if kind is PCALM:
        given |= {"dual_step": np.float32(3), "inner_steps": np.uint8(2), "credit": np.str_("after"), "anchor": 1}
    method = kind(**given)
    assert method == kind(**dataclasses.asdict(method))
    assert json.loads(json.dumps(dataclasses.asdict(method))) == {
        name: np.asarray(value).tolist() for name, value in given.items()
    }
    assert {type(value) for value in vars(method).values()} <= {int, float, str, tuple}
    assert hash(method) == hash(dataclasses.replace(method))


def test_primal_steps_in_all_fit_an_integer_of_64_bits() -> None:
    assert PCALM(2**31, 0.2, inner_steps=2**31).steps == 2**31
    with pytest.raises(ValueError, match=re.escape(f"steps · inner_steps must be at most {2**63 - 1}, got {2**63}")):
        PCALM(2**32, 0.2, inner_steps=2**31)


@BOTH
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 2**63}, f"steps must be at most {2**63 - 1}, got {2**63}"),
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"steps": 2.5}, "steps must be an integer, got 2.5"),
        ({"steps": True}, "steps must be an integer, got True"),
        ({"step_size": 0}, "step_size must be positive and finite, got 0"),
        ({"step_size": -0.1}, "step_size must be positive and finite, got -0.1"),
        ({"step_size": float("nan")}, "step_size must be positive and finite, got nan"),
        ({"step_size": "0.1"}, "step_size must be a number, got '0.1'"),
        ({"step_size": ()}, "step_size must be a number, or one per hidden layer or replica, got an empty sequence"),
        ({"step_size": (0.1, 0.0)}, "step_size must be positive and finite, got 0.0"),
        ({"step_size": [[0.1, 0.2], [0.1]]}, "one number per hidden layer in every replica, got rows of [2, 1]"),
        ({"step_size": [[0.1, 0.2], 0.1]}, "one number per hidden layer in every replica, got rows of [2, 1]"),
        ({"step_size": [[], []]}, "one number per hidden layer in every replica, got rows of [0, 0]"),
        ({"penalty": 0}, "penalty must be positive and finite, got 0"),
        ({"penalty": (1.0, 0.0)}, "penalty must be positive and finite, got 0.0"),
        ({"penalty": float("inf")}, "penalty must be positive and finite, got inf"),
    ],
)
def test_bad_settings(kind: type[PC] | type[PCALM], change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        kind(**{"steps": 1, "step_size": 0.1, **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dual_step": -1}, "dual_step must be zero or positive and finite, got -1"),
        ({"anchor": -0.5}, "anchor must be zero or positive and finite, got -0.5"),
        ({"dual_step": (1.0, -1.0)}, "dual_step must be zero or positive and finite, got -1.0"),
        ({"anchor": [[0.0, float("nan")]]}, "anchor must be zero or positive and finite, got nan"),
        ({"anchor": None}, "anchor must be a number, got None"),
        ({"inner_steps": 0}, "inner_steps must be at least 1, got 0"),
        ({"credit": "during"}, "credit must be one of 'before', 'after', got 'during'"),
    ],
)
def test_bad_settings_of_pcalm(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        PCALM(**{"steps": 1, "step_size": 0.1, **change})
