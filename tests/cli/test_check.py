"""`pcalm check`: tables, files and exit status, and a sentence for whatever is no network."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pcalm.cli import app

NETWORKS = """
import torch
from torch import nn
from pcalm import Blocks


class Mixing(nn.Module):
    def forward(self, z):
        return torch.cat([z[:1], z[1:] + 0.1 * z[1:].mean(0, keepdim=True)]) if len(z) > 1 else z


def modules():
    torch.manual_seed(0)
    return [nn.Linear(3, 4), nn.Sequential(nn.Tanh(), nn.Linear(4, 4)), nn.Linear(4, 2)]


x, y = torch.ones(3, 3), torch.zeros(3, 2)
listed = (modules(), "squared", (x, y))


def right():
    return Blocks(modules()), x, y


def mixing():
    first, *rest = modules()
    return Blocks([first, Mixing(), *rest]), torch.arange(9.0).view(3, 3), y


def normalised():
    first, *rest = modules()
    return Blocks([first, nn.BatchNorm1d(4), *rest]), x, y


def needs(argument):
    return argument


def raises():
    raise KeyError("weights")


def nothing():
    return None


def pair():
    return Blocks(modules()), x


def alone():
    return Blocks(modules())


def whole():
    return nn.Linear(3, 2), "squared", (x, y)


def short():
    return modules()[:1], "squared", (x, y)


number = 3
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "networks_to_check.py").write_text(NETWORKS)
    (tmp_path / "broken_to_check.py").write_text("raise RuntimeError('no\\nweights')\n")
    (tmp_path / "needing_to_check.py").write_text("import not_there_to_check\n")
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    yield tmp_path
    assert sys.path == before
    for name in list(sys.modules):
        if name.endswith("_to_check"):
            del sys.modules[name]


def check(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["check", *arguments], prog_name="pcalm")


def test_tables_and_files(here: Path) -> None:
    result = check("networks_to_check:right", "--budgets", "2,4", "--report", "out.json", "--figure", "out.svg")
    assert result.exit_code == 0, result.stderr
    assert re.search(r"^BP's gradient at the KKT point is autograd's +passed +\S+ +\S+$", result.stdout, re.MULTILINE)
    assert len(re.findall(" passed ", result.stdout)) == 5
    assert re.search(r"^2 +Sequential +\S+ +\S+$", result.stdout, re.MULTILINE)
    assert re.search(r"^steps +2L = 6 +4L = 12$", result.stdout, re.MULTILINE)
    assert len(re.findall(r"^gauged anchored ", result.stdout, re.MULTILINE)) == 2
    report = json.loads((here / "out.json").read_text())
    assert report["network"] == "networks_to_check:right"
    assert result.stdout.splitlines()[-len(report["advice"]) :] == report["advice"]
    assert (here / "out.svg").read_text().lstrip().startswith("<?xml")
    assert sorted(path.name for path in here.glob("out*")) == ["out.json", "out.svg"]
    assert "PC-ALM, up to 4L = 12 steps" in result.stderr


def test_a_tuple_of_modules_loss_and_batch(here: Path) -> None:
    result = check("networks_to_check:listed", "--budgets", "1", "--samples", "2")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith("3 blocks, 46 parameters, 2 samples, in float64 on a copy")


def test_a_proof_that_fails_is_exit_status_1(here: Path) -> None:
    result = check("networks_to_check:mixing", "--budgets", "1", "--report", "out.json")
    assert result.exit_code == 1
    assert re.search(r"^samples do not interact +FAILED", result.stdout, re.MULTILINE)
    assert json.loads((here / "out.json").read_text())["passed"] is False


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("networks_to_check", "must be MODULE:NAME, such as my_package.networks:trained, got 'networks_to_check'"),
        (":right", "must be MODULE:NAME"),
        ("nowhere_to_check:right", "module 'nowhere_to_check' cannot be imported: there is no module"),
        ("needing_to_check:right", "there is no module 'not_there_to_check'"),
        ("broken_to_check:right", "module 'broken_to_check' fails when it is imported: RuntimeError: no weights"),
        ("networks_to_check:wrong", "module 'networks_to_check' has no 'wrong'; it has 'Mixing', 'modules', 'right'"),
        ("networks_to_check:needs", "must be a function without arguments: missing a required argument: 'argument'"),
        ("networks_to_check:raises", "fails when it is called: KeyError: 'weights'"),
        ("networks_to_check:nothing", r"must be or return \(Blocks, x, y\) or .*, got NoneType"),
        ("networks_to_check:number", "got int"),
        ("networks_to_check:pair", "got a tuple of Blocks, Tensor"),
        ("networks_to_check:alone", "got a Blocks alone: a batch belongs to it"),
        ("networks_to_check:whole", "write Linear as a list of its blocks"),
        ("networks_to_check:short", "blocks must be at least 2 modules"),
        (
            "networks_to_check:right --budgets two",
            "budgets must be numbers with commas between, such as 2,4, got 'two'",
        ),
        ("networks_to_check:right --samples 0", "samples must be at least 1, got 0"),
        ("networks_to_check:right --figure out.pdf", "the suffix of figure must be one of '.svg', '.png', got '.pdf'"),
    ],
)
def test_bad_input(here: Path, arguments: str, message: str) -> None:
    result = check(*arguments.split())
    assert (result.exit_code, result.stdout) == (2, "")
    assert re.fullmatch(f"pcalm: [^\n]*{message}[^\n]*\n", result.stderr), result.stderr


def test_batch_norm_gets_the_sentence(here: Path) -> None:
    result = check("networks_to_check:normalised")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == (
        "pcalm: blocks.1 (BatchNorm1d) normalises over the batch, so that samples interact: call .eval() on it, which "
        "takes its running statistics, or use GroupNorm or LayerNorm\n"
    )
