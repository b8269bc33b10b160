"""`pcalm grid`: many training runs, resumable, on this machine or a Dask cluster."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

import typer

from pcalm.checks import choice, location
from pcalm.cli.output import show
from pcalm.experiments import records
from pcalm.experiments.config import STEP_SIZES
from pcalm.experiments.grid import AXES, PRESETS, SETTINGS, SHARED, Grid, cost, read_toml
from pcalm.experiments.networks import NETWORKS

DEFAULT = Grid()


def _values(name: str, text: str | None) -> tuple[Any, ...] | None:
    """A comma-separated option as the values of an axis of a grid."""
    if text is None:
        return None
    kind = type(getattr(DEFAULT, name)[0])
    try:
        return tuple(kind(part.strip()) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise ValueError(f"{name} must be {kind.__name__} values with commas between, got {text!r}") from error


def _listed(name: str) -> str:
    return ",".join(map(str, getattr(DEFAULT, name)))


def _plan(chosen: Grid, output: str) -> None:
    runs, done = chosen.runs(), records.keys(output)
    todo = [run for run in runs if run.key not in done]
    hours = sum(cost(run.config) for run in todo) / 3600
    show(
        f"{len(runs)} runs: {len(runs) - len(todo)} done, {len(todo)} to do, about {hours:.2g} core hours by the cost "
        "model"
    )


def grid(
    output: Annotated[
        str,
        typer.Option(
            metavar="PATH",
            help="Directory of the records; the same command goes on where it was interrupted.",
        ),
    ],
    preset: Annotated[
        str | None,
        typer.Option(
            metavar="|".join(PRESETS),
            help="quick: digits, some minutes. paper: Fashion-MNIST, all widths, depths and activations, hours. "
            "Other options change it.",
        ),
    ] = None,
    file: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="TOML file with settings named as these options: widths = [8, 16], lr = 1e-2.",
        ),
    ] = None,
    networks: Annotated[
        str | None, typer.Option(help=f"Some of {','.join(NETWORKS)}.", show_default=_listed("networks"))
    ] = None,
    losses: Annotated[
        str | None,
        typer.Option(help="Some of squared,cross_entropy,auto, the network's own.", show_default=_listed("losses")),
    ] = None,
    datasets: Annotated[
        str | None, typer.Option(help="Such as digits,fashion-mnist.", show_default=_listed("datasets"))
    ] = None,
    widths: Annotated[str | None, typer.Option(help="N, such as 8,16,32.", show_default=_listed("widths"))] = None,
    depths: Annotated[str | None, typer.Option(help="L, such as 8,16,32.", show_default=_listed("depths"))] = None,
    activations: Annotated[
        str | None,
        typer.Option(help="Such as linear,tanh,relu; auto is the network's own.", show_default=_listed("activations")),
    ] = None,
    methods: Annotated[
        str | None, typer.Option(help=f"Some of {','.join(SETTINGS)}.", show_default=_listed("methods"))
    ] = None,
    seeds: Annotated[str | None, typer.Option(help="Such as 0,1,2.", show_default=_listed("seeds"))] = None,
    budgets: Annotated[
        str | None,
        typer.Option(help="Inference steps T in multiples of L, such as 1.25,2.", show_default=_listed("budgets")),
    ] = None,
    step_size: Annotated[
        str | None,
        typer.Option(
            metavar="|".join(STEP_SIZES),
            help="How all methods find η.",
            show_default="start for pc and pcalm, tracked for anchored and gauged",
        ),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Passes through the training set.", show_default=str(DEFAULT.epochs))
    ] = None,
    lr: Annotated[
        float | None,
        typer.Option(help="Adam's learning rate; for mlp it is lr·√(N/L).", show_default="1e-3 for mlp, else 3e-3"),
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Samples per weight update.", show_default=str(DEFAULT.batch_size))
    ] = None,
    log_every: Annotated[
        int | None,
        typer.Option(help="Updates between points of the learning curves.", show_default=str(DEFAULT.log_every)),
    ] = None,
    validation: Annotated[
        float | None,
        typer.Option(
            help="The part of the training set that is held out and takes the test set's place, for choosing settings.",
            show_default=str(DEFAULT.validation),
        ),
    ] = None,
    engine: Annotated[
        str | None, typer.Option(help="Which implementation runs the inference.", show_default=DEFAULT.engine)
    ] = None,
    device: Annotated[str | None, typer.Option(help="Such as cpu or cuda.", show_default=DEFAULT.device)] = None,
    dtype: Annotated[str | None, typer.Option(help="float32 or float64.", show_default=DEFAULT.dtype)] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Dask scheduler to run on, such as tcp://host:8786, whose workers have pcalm and the data sets; "
            "without it all cores of this machine.",
        ),
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Processes on this machine.", show_default="one per core")] = None,
    data_dir: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="Where the workers look first for the data sets' files.",
        ),
    ] = None,
    export: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="Also write the table of all runs in --output to this .parquet or .csv file.",
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say how much there is to do.")] = False,
) -> None:
    """Train every combination of networks, sizes, activations, methods, seeds and budgets, and record every run.

    A run that diverges, or that is refused since its settings are unstable, is a result, too, and is recorded as such.

    Try: pcalm grid --preset quick --output results
    """
    given = {name: value for name, value in locals().items() if name in (*AXES, *SHARED)}
    for name, place in (("output", output), ("file", file), ("data_dir", data_dir), ("export", export)):
        if place is not None:
            location(name, place)
    given |= {name: _values(name, given[name]) for name in AXES}
    settings = dataclasses.asdict(PRESETS[choice("preset", preset, PRESETS)]) if preset else {}
    settings |= {} if file is None else read_toml(file)
    settings |= {name: value for name, value in given.items() if value is not None}
    chosen = Grid(**settings)
    if export is not None:
        records.check_export(export)
    if dry_run:
        _plan(chosen, output)
        return
    from pcalm.experiments import (
        scheduling,  # not at the top: its locks are POSIX's, and the other commands run without
    )

    outcome = scheduling.compute(chosen, output, scheduler=scheduler, workers=workers, data_dir=data_dir, progress=True)
    show(
        f"{outcome.runs} runs: {outcome.before} were done before, {outcome.computed} computed now, "
        f"{len(outcome.failures)} failed; the records are in {output}"
    )
    if outcome.diverged or outcome.refused:
        show(
            f"no accuracy: {outcome.diverged} diverged, {outcome.refused} refused since their settings are unstable; "
            "pcalm report tells each one's why"
        )
    if export is not None:
        records.export(records.load_table(output), export)
    alike: dict[str, list[str]] = {}
    for run, error in outcome.failures:
        alike.setdefault(error, []).append(run.title)
    for error, titles in alike.items():
        more = "" if len(titles) == 1 else f" and {len(titles) - 1} more"
        typer.echo(f"failed: {titles[0]}{more}: {error}", err=True)
    if outcome.failures:
        raise typer.Exit(1)
