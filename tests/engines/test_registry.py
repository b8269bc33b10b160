"""The registry of engines: what there is, what runs where, and what it says otherwise."""

from __future__ import annotations

import re

import pytest
import torch

import pcalm
from pcalm.engines import ENGINES, MODULES, load, reasons, reference, resolve
from pcalm.methods import BP, PC, PCALM
from tests.conftest import draw


def test_every_engine_is_what_the_registry_promises() -> None:
    assert next(iter(MODULES)) == "reference"
    for name in MODULES:
        engine = load(name)
        assert callable(engine.solve)
        assert engine.__doc__


def test_a_gradient_lies_in_memory_as_its_parameter_does(activation: str) -> None:
    """torch's fused optimisers go through both in memory's order."""
    net, x, y, _ = draw(activation)
    for name in pcalm.engines():
        for method in (BP(), PC(3, 0.2), PCALM(3, 0.2, anchor=0.1)):
            found = load(name).solve(net, method, x, y, None).gradients
            for gradient, parameter in zip(found, net.parameters(), strict=True):
                assert (gradient.shape, gradient.stride()) == (parameter.shape, parameter.stride())


def test_reference_works_everywhere() -> None:
    for dtype in (torch.float32, torch.float64):
        assert reasons(torch.device("cpu"), dtype)["reference"] is None
    assert "reference" in pcalm.engines()


def test_engines_lists_those_without_a_reason() -> None:
    found = reasons(torch.device("cpu"))
    assert list(found) == list(MODULES)
    assert pcalm.engines() == [name for name, reason in found.items() if reason is None]
    assert all(reason for name, reason in found.items() if name not in pcalm.engines())


def test_auto_picks_one_that_works(activation: str) -> None:
    for dtype in (torch.float32, torch.float64):
        net, x, y, _ = draw(activation, dtype=dtype)
        picked = resolve("auto", net)
        assert picked.unavailable(net.device, net.dtype) is None
        found = pcalm.infer(net, PCALM(4, 0.2), x, y)
        assert torch.equal(found.activities, picked.solve(net, PCALM(4, 0.2), x, y, None).state.activities)


@pytest.mark.parametrize("name", ["", "Reference", "numpy"])
def test_unknown_engine(name: str) -> None:
    options = ", ".join(repr(option) for option in ENGINES)
    with pytest.raises(ValueError, match=re.escape(f"engine must be one of {options}, got {name!r}")):
        resolve(name, draw().net)


def test_engine_that_does_not_work_here_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "unavailable", lambda device, dtype: "it is out of order")
    net, x, y, _ = draw()
    message = "engine 'reference' does not work for torch.float64 on cpu: it is out of order; use engine='auto'"
    with pytest.raises(ValueError, match=re.escape(message)):
        pcalm.infer(net, PCALM(4, 0.2), x, y, engine="reference")
    assert "reference" not in pcalm.engines()


@pytest.mark.parametrize("device", ["meta", "abacus", "cuda:99"])
def test_engines_of_a_device_that_is_not_there(device: str) -> None:
    with pytest.raises(ValueError, match=r"^device "):
        pcalm.engines(device)
