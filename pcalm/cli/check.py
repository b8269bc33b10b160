"""`pcalm check`: does PC-ALM work on somebody's own network, and with which settings?"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from torch import nn

from pcalm import diagnosis
from pcalm.blocks import Blocks
from pcalm.checks import choice, location, require
from pcalm.cli.output import show, show_table
from pcalm.diagnosis import BUDGETS, SAMPLES, Diagnosis
from pcalm.experiments.storage import replacing, write_json

FORMS = "(Blocks, x, y) or (list of modules, loss, (x, y))"
DEFAULT_BUDGETS = ",".join(f"{budget:g}" for budget in BUDGETS)


def check(
    network: Annotated[
        str,
        typer.Argument(
            metavar="MODULE:NAME",
            help=f"A function without arguments that returns {FORMS}, or such a tuple; the module is looked for in the "
            "current directory first.",
        ),
    ],
    samples: Annotated[int, typer.Option(help="The batch is cut to as many.")] = SAMPLES,
    budgets: Annotated[
        str, typer.Option(help="Inference steps T in multiples of L, with commas between.")
    ] = DEFAULT_BUDGETS,
    report: Annotated[str | None, typer.Option(metavar="FILE", help="Write all figures to it as JSON.")] = None,
    figure: Annotated[
        str | None,
        typer.Option(metavar="FILE.svg|FILE.png", help="Draw the credit's way down the network, layer by iteration."),
    ] = None,
) -> None:
    """Prove and measure PC-ALM on a network of your own, and say which settings align with backpropagation.

    A copy of the network is looked at, in float64, with its modules in the mode (train or eval) that they are in.
    Exit status 0: the proofs hold. 1: one fails. 2: a network that PC-ALM cannot run on, or other bad input.

    Try: pcalm check my_package.networks:trained --report check.json
    """
    chosen = _budgets(budgets)
    places = [None if path is None else location(name, path) for name, path in (("report", report), ("figure", figure))]
    if places[1] is not None:
        choice("the suffix of figure", places[1].suffix, (".svg", ".png"))
        _drawing()
    with _current_directory_first():
        net, x, y = load(network)
        found = diagnosis.diagnose(net, x, y, samples, chosen, say=lambda line: typer.echo(line, err=True))
    show_diagnosis(found)
    if places[0] is not None:
        write_json(places[0], {"network": network, **found.record()})
    if places[1] is not None:
        _draw(found, network, places[1])
    if not found.passed:
        raise typer.Exit(1)


def _budgets(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",") if part.strip()]
    except ValueError as error:
        raise ValueError(f"budgets must be numbers with commas between, such as 2,4, got {text!r}") from error


@contextlib.contextmanager
def _current_directory_first() -> Iterator[None]:
    here = os.getcwd()
    sys.path.insert(0, here)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # the module may have taken it off itself
            sys.path.remove(here)


def load(network: str) -> tuple[Blocks, Any, Any]:
    """The network and batch behind MODULE:NAME.

    Raises:
        ValueError: there is none, with what was found instead.
    """
    module, colon, name = network.partition(":")
    require(
        bool(colon and module and name),
        f"the network must be MODULE:NAME, such as my_package.networks:trained, got {network!r}",
    )
    try:
        place: Any = importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ValueError(
            f"module {module!r} cannot be imported: there is no module {error.name!r} here or among the installed ones"
        ) from error
    except (Exception, SystemExit) as error:
        raise ValueError(f"module {module!r} fails when it is imported: {_said(error)}") from error
    require(hasattr(place, name), f"module {module!r} has no {name!r}; it has {_listed(place)}")
    value = getattr(place, name)
    if callable(value) and not isinstance(value, nn.Module):
        try:
            inspect.signature(value).bind()
        except TypeError as error:
            raise ValueError(f"{network} must be a function without arguments: {error}") from error
        except ValueError:  # built-in functions may not tell
            pass
        try:
            value = value()
        except (Exception, SystemExit) as error:
            raise ValueError(f"{network} fails when it is called: {_said(error)}") from error
    return unpacked(network, value)


def unpacked(network: str, value: Any) -> tuple[Blocks, Any, Any]:
    """(Blocks, x, y) out of either form."""
    got = f"{network} must be or return {FORMS}, got "
    if isinstance(value, nn.Module):
        raise ValueError(f"{got}a {type(value).__name__} alone: a batch belongs to it")
    require(isinstance(value, tuple), f"{got}{type(value).__name__}")
    kinds = f"a tuple of {', '.join(type(each).__name__ for each in value) or 'nothing'}"
    require(len(value) == 3, got + kinds)
    first, second, third = value
    if isinstance(first, Blocks):
        return first, second, third
    if isinstance(first, nn.Module) and not isinstance(first, (nn.Sequential, nn.ModuleList)):
        raise ValueError(
            f"{got}{kinds}: write {type(first).__name__} as a list of its blocks, or make pcalm.Blocks of it, "
            "with pcalm.Blocks.from_sequential(model) for a torch.nn.Sequential"
        )
    require(
        isinstance(first, (list, tuple, nn.Sequential, nn.ModuleList))
        and isinstance(third, (list, tuple))
        and len(third) == 2,
        got + kinds,
    )
    return Blocks(first, second), *third


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _listed(module: Any) -> str:
    names = [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    ]
    return ", ".join(map(repr, names)) or "no function of its own"


def show_diagnosis(found: Diagnosis) -> None:
    """The tables and the advice."""
    show(
        f"{found.depth} blocks, {found.parameters} parameters, {found.samples} samples, in float64 on a copy of the "
        "network\n"
    )
    show_table(
        [
            ("proof", "", "figure", "bound"),
            *(
                (each.claim, "passed" if each.passed else "FAILED", f"{each.figure:.1e}", f"{each.bound:.1e}")
                for each in found.proofs
            ),
        ]
    )
    show("")
    show_table(
        [
            ("block", "", "gain σ_max(J)", "adjoint ‖δ_l‖/‖δ_{L-1}‖"),
            *((str(each.number), each.kind, _figure(each.gain), _figure(each.adjoint)) for each in found.blocks),
        ]
    )
    show("")
    rows = found.trajectories
    show_table(
        [
            ("method", "λ_max", "η", "ρ", "α", "κ", "margin", "half of the credit at layer 1"),
            *(
                (
                    each.name,
                    *(
                        _figure(value)
                        for value in (
                            each.eigenvalue,
                            each.method.step_size,
                            each.method.penalty,
                            each.method.dual_step,
                            each.method.anchor,
                        )
                    ),
                    f"{each.margin:.2f}",
                    f"after {each.half[0]} steps" if each.half[0] is not None else f"not in {each.method.steps} steps",
                )
                for each in rows
            ),
        ]
    )
    show("\ncosine to BP / norm ratio")
    show_table(
        [
            ("steps", *(f"{row.budget:g}L = {row.steps}" for row in rows[0].alignments)),
            *((each.name, *(f"{row.cosine:.3f} / {row.norm_ratio:.2f}" for row in each.alignments)) for each in rows),
        ]
    )
    show("")
    for line in found.advice:
        show(line)


def _figure(value: Any) -> str:
    return "–" if value is None else f"{value:.3g}"


def _drawing() -> Any:
    try:
        from pcalm.report.figures import space_time  # not at the top: without a figure this needs no matplotlib
    except ImportError as error:
        raise ValueError(f"--figure needs {error.name}: pip install 'pcalm[report]'") from error
    return space_time


def _draw(found: Diagnosis, network: str, path: Path) -> None:
    pictures = [(each.name, each.arrived.numpy()) for each in found.trajectories]
    drawn = _drawing().of_network(network, found.depth, pictures)
    with replacing(path) as file:
        file.write(drawn.svg().encode() if path.suffix == ".svg" else drawn.png())
