"""The command line: `train`, `grid`, `report`, `check`, `doctor`.

Exit status 0 done, 1 failed, 2 bad input, 130 interrupted.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

import torch
import typer
from typer.core import TyperGroup

from pcalm.blocks import LOSSES
from pcalm.checks import choice, location
from pcalm.cli import check as cli_check
from pcalm.cli import grid as cli_grid
from pcalm.cli import report as cli_report
from pcalm.cli.output import show, show_table, standard_streams
from pcalm.engines import BLOCKS, ENGINES, MODULES, reasons
from pcalm.experiments import data, machine, rundir, training
from pcalm.experiments.config import AUTO, DTYPE_NAMES, GAUGES, STEP_SIZES, TrainingConfig
from pcalm.experiments.networks import NETWORKS, PHI
from pcalm.methods import CREDITS, METHODS
from pcalm.network import resolve_device


class Commands(TyperGroup):
    """Turns what can go wrong into a sentence on the standard error stream and an exit status."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort):
            raise
        except KeyboardInterrupt:
            status, message = 130, "interrupted; with --output, the same command goes on from there"
        except ValueError as error:
            status, message = 2, str(error)
        except (OSError, RuntimeError, ImportError, MemoryError) as error:
            status, message = 1, str(error) or type(error).__name__
        typer.echo(f"pcalm: {message}", err=True)
        raise typer.Exit(status)


app = typer.Typer(
    name="pcalm",
    cls=Commands,
    help="Predictive coding, augmented Lagrangian predictive coding (PC-ALM) and backpropagation, side by side.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
DEFAULT = TrainingConfig()


def one_of(names: Iterable[str]) -> str:
    """How --help shows a choice; the configuration checks it."""
    return "|".join(names)


@app.command()
def train(
    dataset: Annotated[
        str, typer.Option(metavar=one_of(data.NAMES), help="What to learn; digits needs no files.")
    ] = DEFAULT.dataset,
    method: Annotated[
        str, typer.Option(metavar=one_of(METHODS), help="How the weight gradients are found.")
    ] = DEFAULT.method,
    network: Annotated[
        str, typer.Option(metavar=one_of(NETWORKS), help="What learns: mlp is the paper's residual MLP.")
    ] = DEFAULT.network,
    loss: Annotated[
        str,
        typer.Option(metavar=one_of((AUTO, *LOSSES)), help="auto is squared for mlp, else cross_entropy."),
    ] = AUTO,
    depth: Annotated[int, typer.Option(help="L, the number of weight matrices or blocks, at least 3.")] = DEFAULT.depth,
    width: Annotated[
        int, typer.Option(help="N, the units in every hidden layer, channels, or size of a token.")
    ] = DEFAULT.width,
    activation: Annotated[
        str,
        typer.Option(
            metavar=one_of((AUTO, *PHI)),
            help="Activation function; auto is gelu for transformer, else relu. mlp does not know gelu.",
        ),
    ] = AUTO,
    seed: Annotated[int, typer.Option(help="Draws the weights and the order of the batches.")] = DEFAULT.seed,
    epochs: Annotated[int, typer.Option(help="Passes through the training set.")] = DEFAULT.epochs,
    output: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="Directory for config.json, metrics.csv, summary.json and a checkpoint; the same command goes on "
            "where it was interrupted. Without it nothing is written.",
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Start anew, whatever run --output holds.")] = False,
    steps: Annotated[
        int | None, typer.Option(help="T, the inference steps per weight update (not for bp).", show_default="2L")
    ] = DEFAULT.steps,
    step_size: Annotated[
        str | None,
        typer.Option(
            metavar="<float>|" + one_of(STEP_SIZES),
            help="η, the size of an inference step (not for bp): 1/λ_max at the start, or tracked while training.",
            show_default="tracked with --anchor or --gauge, else start",
        ),
    ] = None,
    penalty: Annotated[float, typer.Option(help="ρ, the penalty (not for bp).")] = DEFAULT.penalty,
    dual_step: Annotated[float, typer.Option(help="α, the step of the multipliers (pcalm only).")] = DEFAULT.dual_step,
    inner_steps: Annotated[
        int, typer.Option(help="Inference steps before each step of the multipliers (pcalm only).")
    ] = DEFAULT.inner_steps,
    credit: Annotated[
        str,
        typer.Option(
            metavar=one_of(CREDITS), help="Take the gradients before or after the last multiplier step (pcalm only)."
        ),
    ] = DEFAULT.credit,
    anchor: Annotated[
        float, typer.Option(help="κ, the pull of every layer to its feed-forward state (pcalm only).")
    ] = DEFAULT.anchor,
    gauge: Annotated[
        str, typer.Option(metavar=one_of(GAUGES), help="Whether the gauge follows the credit (not for bp).")
    ] = DEFAULT.gauge,
    lr: Annotated[
        float | None,
        typer.Option(help="Adam's learning rate; for mlp it is lr·√(N/L).", show_default="1e-3 for mlp, else 3e-3"),
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Samples per weight update.")] = DEFAULT.batch_size,
    log_every: Annotated[
        int, typer.Option(help="Weight updates from one row of metrics.csv to the next.")
    ] = DEFAULT.log_every,
    validation: Annotated[
        float,
        typer.Option(
            help="The part of the training set that is held out and takes the test set's place, for choosing settings."
        ),
    ] = DEFAULT.validation,
    engine: Annotated[
        str, typer.Option(metavar=one_of(ENGINES), help="Which implementation runs the inference.")
    ] = DEFAULT.engine,
    device: Annotated[str, typer.Option(help="Such as cpu, cuda or cuda:0.")] = DEFAULT.device,
    dtype: Annotated[str, typer.Option(metavar=one_of(DTYPE_NAMES), help="Precision of everything.")] = DEFAULT.dtype,
    data_dir: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="Where to look first for IDX files; then come $PCALM_DATA, the cache, Debian's, a download.",
        ),
    ] = None,
) -> None:
    """Train one network and report its test accuracy, and how close its weight gradients are to backpropagation's.

    Try: pcalm train --method pcalm --width 16 --epochs 20 --lr 1e-2
    """
    settings = {name: value for name, value in locals().items() if name in TrainingConfig.__dataclass_fields__}
    config = TrainingConfig(**settings | {"step_size": step_size_of(step_size)})
    if data_dir is not None:
        location("data_dir", data_dir)
    if output is None:
        summary = training.train(config, data_dir=data_dir, progress=True).summary
    else:
        held = None if overwrite else rundir.finished(config, output)
        if held is not None:
            typer.echo(f"{output} holds this run, and it is done; --overwrite starts it anew", err=True)
        summary = held or rundir.train_to(config, output, overwrite=overwrite, data_dir=data_dir, progress=True)
    show_table(summary_rows(summary))


def step_size_of(text: str | None) -> float | str | None:
    """What --step-size says: a number, or the name of a rule."""
    try:
        return text if text is None else float(text)
    except ValueError:
        return choice("step_size", text, ("a number", *STEP_SIZES))


def summary_rows(summary: dict[str, Any]) -> list[tuple[str, str]]:
    """What a person wants to see of a summary."""

    def shown(name: str, form: str) -> str:
        return "–" if summary[name] is None else format(summary[name], form)

    return [
        ("test accuracy", shown("test_accuracy", ".2%")),
        ("training loss, last epoch", shown("train_loss", ".4f")),
        ("gradient cosine to BP", shown("gradient_cosine", ".4f")),
        ("gradient norm / BP's", shown("gradient_norm_ratio", ".4f")),
        ("inference steps T", shown("inference_steps", "d")),
        ("step size η", shown("step_size", ".4f")),
        ("stability margin, start and end", f"{shown('margin_at_start', '.3f')}, {shown('margin', '.3f')}"),
        ("weight updates", shown("updates", "d")),
        ("seconds", shown("seconds", ".1f")),
        ("samples per second", shown("samples_per_second", ".0f")),
        ("engine", summary["engine"]),
    ]


app.command()(cli_grid.grid)
app.command()(cli_report.report)
app.command()(cli_check.check)


@app.command()
def doctor(device: Annotated[str, typer.Option(help="The device to ask about.")] = "cpu") -> None:
    """Show what works on this machine: versions, engines, data sets; and why not, where something does not."""
    where = resolve_device(device)
    show_table([(name, str(value)) for name, value in machine.environment(where).items()])
    devices = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    show(f"\nDevices: {', '.join(devices)}")
    for kind, modules in (("Engines", MODULES), ("Engines for networks of blocks", BLOCKS)):
        show(f"\n{kind} on {where}:")
        rows = []
        for name in modules:
            for dtype_name, dtype in DTYPE_NAMES.items():
                reason = reasons(where, dtype, modules)[name]
                rows.append((name, dtype_name, "works" if reason is None else f"does not work: {reason}"))
        show_table(rows)
    show("\nData sets:")
    show_table([(name, _data_place(name)) for name in data.NAMES])


def _data_place(name: str) -> str:
    if name == "digits":
        return "comes with scikit-learn"
    try:
        return str(data.locate(name, download=False))
    except FileNotFoundError:
        return f"not on this machine: will be downloaded when it is needed; or else {data.PACKAGES[name]}"


def main() -> None:
    with standard_streams():
        app(prog_name="pcalm")
