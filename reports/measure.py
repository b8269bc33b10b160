"""Measures what is not a training run, at initialisation, and leaves it as compact JSON for tables and figures.

    python -m reports.measure [NAME ...] [--output reports/data/measured]

    alignment     cosine and norm ratio of the weight gradient to BP's, by width × depth, activation, seed and budget
    convergence   the cosine at every budget up to 8L, and the iterations that a given cosine takes, by depth
    credit        the part of BP's credit that has arrived, by layer and iteration; credit shares; arrival by distance
    scattering    cosine against budget for linear blocks that are Gaussian, antisymmetric and symmetric

Interrupted at any time, the same command goes on with the cells that are missing. Each file holds the settings, its
rows, and where they come from: commit, machine, versions, date. All of it is measured on the first 64 training images
of Fashion-MNIST with η = 1/λ_max. `credit` fits arrival = factor · distance^exponent over distances d = L − l ≥ 3.
"""

from __future__ import annotations

import argparse
import datetime
import functools
import json
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

import pcalm
from pcalm import analysis, dynamics
from pcalm.experiments import data, records
from pcalm.experiments.machine import environment
from pcalm.experiments.storage import write_text
from pcalm.experiments.training import PROBE
from pcalm.methods import BP, PC, PCALM, anchored
from pcalm.network import ResidualMLP

SCHEMA = 1
OUTPUT = Path(__file__).with_name("data") / "measured"
DATASET = "fashion-mnist"
SIZES = (8, 16, 32, 64, 128)
SEEDS = (0, 1, 2)
BUDGETS = (1, 1.25, 1.5, 2, 3, 4, 8)  # in multiples of L
TARGETS = (0.8, 0.9)
WIDTH = 32  # of all networks but those of `alignment`
PICTURED = (32, 128)  # depths
SCATTERING_DEPTH = 64
PICTURE_STEPS = 128  # points in time that a space-time picture has
ARRIVED = {"pc": 0.1, "pcalm": 0.5, "anchored": 0.5}  # the part of ‖δ_l‖ at which credit counts as arrived

Row = dict[str, Any]


def method(name: str, depth: int, steps: int, step_size: float) -> PC | PCALM:
    """The settings behind the names that tables and figures use."""
    if name == "pc":
        return PC(steps, step_size)
    settings: dict[str, dict[str, Any]] = {
        "pcalm": {},
        "anchored": anchored(depth),
        "anchored, near exact": {"penalty": 0.25, "dual_step": 3.0, "anchor": 4 / depth},
    }
    return PCALM(steps, step_size, **settings[name])


class Problem(NamedTuple):
    """A network at initialisation on real data, with its step size and BP's gradient."""

    net: ResidualMLP
    x: Tensor
    y: Tensor
    step_size: float
    exact: list[Tensor]


def problem(net: ResidualMLP) -> Problem:
    x, y = _samples()
    eta = pcalm.step_size(net, x)
    assert isinstance(eta, float)
    return Problem(net, x, y, eta, pcalm.gradients(net, BP(), x, y))


@functools.cache
def _samples() -> tuple[Tensor, Tensor]:
    dataset = data.load(DATASET)
    return dataset.train_inputs[:PROBE], dataset.one_hot(dataset.train_labels[:PROBE])


class Trace(NamedTuple):
    """What one trajectory shows after iterations t = 1..T; with credit "before", each t is a budget of its own.

    cosine [T] of the weight gradient to BP's; norm [T, L−1] is ‖q_l‖, and arrived [T, L−1] is −⟨q_l, δ_l⟩/‖δ_l‖², the
    part of BP's credit that has arrived (1 is all of it, and more than 1 an overshoot); delta [L−1] is ‖δ_l‖.
    """

    cosine: Tensor
    norm: Tensor
    arrived: Tensor
    delta: Tensor


@torch.no_grad()
def trace(given: Problem, settings: PC | PCALM) -> Trace:
    net, x, y, _, exact = given
    delta = dynamics.adjoint(net, net.feedforward(x), y).double()
    size = delta.flatten(1).norm(dim=1)
    cosine, norm, arrived = [], [], []

    def observe(_: int, q: Tensor, z: Tensor) -> None:
        cosine.append(analysis.cosine(dynamics.weight_gradients(net, q, z, x, y).as_list(), exact))
        q = q.double()
        norm.append(q.flatten(1).norm(dim=1))
        arrived.append(-(q * delta).flatten(1).sum(1) / size**2)

    dynamics.infer(net, settings, x, y, observe=observe)
    return Trace(torch.tensor(cosine), torch.stack(norm), torch.stack(arrived), size)


class Measurement(NamedTuple):
    """What is measured cell by cell: `run(*cell)` gives lists, and those of all cells are joined, under `settings`."""

    settings: Row
    cells: list[tuple[Any, ...]]
    run: Callable[..., dict[str, list[Any]]]


def alignment(activation: str, depth: int, width: int, seed: int) -> dict[str, list[Any]]:
    rows = []
    given = problem(ResidualMLP(depth, width, activation=activation, seed=seed))
    for name in ("pc", "pcalm", "anchored", "anchored, near exact"):
        for budget in BUDGETS:
            settings = method(name, depth, round(budget * depth), given.step_size)
            found = pcalm.gradients(given.net, settings, given.x, given.y)
            figures = (analysis.cosine(found, given.exact), analysis.norm_ratio(found, given.exact))
            rows.append((activation, depth, width, seed, name, budget, *(round(value, 4) for value in figures)))
    return {"rows": rows}


def convergence(depth: int, seed: int) -> dict[str, list[Any]]:
    curves, reached = [], []
    given = problem(ResidualMLP(depth, WIDTH, seed=seed))
    for name in ("pc", "pcalm", "anchored"):
        # PC takes some L² iterations to align, so it is followed that far where that can be waited for.
        steps = 4 * depth**2 if name == "pc" and depth <= 64 else 8 * depth
        cosine = trace(given, method(name, depth, steps, given.step_size)).cosine
        for target in TARGETS:
            first = (cosine >= target).nonzero()
            reached.append((depth, seed, name, target, int(first[0]) + 1 if len(first) else None, steps))
        points = torch.arange(depth // 8, 8 * depth + 1, depth // 8)
        curve = [round(value, 4) for value in cosine[points - 1].tolist()]
        curves.append({"depth": depth, "seed": seed, "method": name, "cosine": curve})
    return {"curves": curves, "rows": reached}


def credit(depth: int) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {"pictures": [], "shares": [], "arrivals": [], "rows": []}
    given = problem(ResidualMLP(depth, WIDTH))
    every = 4 * depth // PICTURE_STEPS
    for name in ("pc", "pcalm", "anchored"):
        seen = trace(given, method(name, depth, 8 * depth, given.step_size))
        where = {"depth": depth, "method": name}
        if depth in PICTURED:
            picture = [[round(part, 2) for part in row] for row in seen.arrived[every - 1 : 4 * depth : every].tolist()]
            found["pictures"].append({**where, "every": every, "step_size": given.step_size, "arrived": picture})
            for budget in (2, 4):
                settings = method(name, depth, budget * depth, given.step_size)
                share = analysis.credit_share(pcalm.gradients(given.net, settings, given.x, given.y), given.exact)
                found["shares"].append({**where, "budget": budget, "share": [float(f"{part:.4g}") for part in share]})
        when = analysis.credit_arrival(seen.norm, seen.delta, ARRIVED[name])
        by_distance = {depth - layer: step for layer, step in enumerate(when, 1) if step is not None}
        arrival = [by_distance.get(distance) for distance in range(1, depth)]
        found["arrivals"].append({**where, "fraction": ARRIVED[name], "arrival": arrival})
        far = {distance: step for distance, step in sorted(by_distance.items()) if distance >= 3}
        exponent, factor = analysis.arrival_exponent(list(far), list(far.values())) if len(far) > 1 else (None, None)
        per_layer = far[max(far)] / max(far) if far else None
        found["rows"].append((depth, name, ARRIVED[name], len(by_distance) / (depth - 1), exponent, factor, per_layer))
    return found


def scattering(seed: int) -> dict[str, list[Any]]:
    depth = SCATTERING_DEPTH
    curves = []
    gaussian = ResidualMLP(depth, WIDTH, activation="linear", seed=seed)
    hidden = gaussian.hidden_weight.detach()
    # The parts of a Gaussian matrix have half its variance, so √2 makes them as large as the whole.
    blocks = {
        "Gaussian": hidden,
        "antisymmetric": (hidden - hidden.mT) / 2**0.5,
        "symmetric": (hidden + hidden.mT) / 2**0.5,
    }
    for kind, block in blocks.items():
        weights = [gaussian.input_weight, *block, gaussian.output_weight]
        given = problem(ResidualMLP.from_weights(weights, "linear"))
        # κ = 0: nothing damps what is scattered.
        settings: Row = anchored(depth) | {"anchor": 0.0}
        cosine = trace(given, PCALM(4 * depth, given.step_size, **settings)).cosine
        points = [round(value, 4) for value in cosine[depth // 16 - 1 :: depth // 16].tolist()]
        curves.append({"seed": seed, "blocks": kind, "step_size": given.step_size, "cosine": points})
    return {"curves": curves}


MEASUREMENTS = {
    "alignment": Measurement(
        {"columns": ["activation", "depth", "width", "seed", "method", "budget", "cosine", "norm_ratio"]},
        list(product(("relu", "tanh"), SIZES, SIZES, SEEDS)),
        alignment,
    ),
    "convergence": Measurement(
        {
            "width": WIDTH,
            "activation": "relu",
            "targets": TARGETS,
            "curve_budgets": [k / 8 for k in range(1, 65)],
            "columns": ["depth", "seed", "method", "target", "iterations", "followed"],
        },
        list(product(SIZES, SEEDS)),
        convergence,
    ),
    "credit": Measurement(
        {
            "width": WIDTH,
            "activation": "relu",
            "seed": 0,
            "columns": ["depth", "method", "fraction", "reached", "exponent", "factor", "iterations_per_layer"],
        },
        [(32,), (64,), (128,)],
        credit,
    ),
    "scattering": Measurement(
        {
            "depth": SCATTERING_DEPTH,
            "width": WIDTH,
            "penalty": 0.1,
            "dual_step": 3.5,
            "curve_budgets": [k / 16 for k in range(1, 65)],
        },
        [(seed,) for seed in SEEDS],
        scattering,
    ),
}


def measure(name: str, directory: Path) -> Path:
    """Measures what is still missing, and writes the measurement with its provenance; returns the file's path.

    Finished cells are kept in a file beside it until all of them are there, each with the commit that it was measured
    with: the measurement names them all.
    """
    settings, cells, run = MEASUREMENTS[name]
    partial = directory / f".{name}.partial.jsonl"
    commit = records.source_commit()
    done = _finished_cells(partial)
    for cell in cells:
        if list(cell) in [each["cell"] for each in done]:
            continue
        start = time.perf_counter()
        found = run(*cell)
        seconds = round(time.perf_counter() - start, 2)
        done.append({"commit": commit, "cell": list(cell), "seconds": seconds, "found": found})
        with partial.open("a", encoding="utf-8") as file:
            file.write(_compact(done[-1]) + "\n")
    in_order = sorted(done, key=lambda each: cells.index(tuple(each["cell"])))
    content = {
        "schema": SCHEMA,
        "measurement": name,
        "command": f"python -m reports.measure {name}",
        "dataset": DATASET,
        "samples": PROBE,
        "commit": ", ".join(dict.fromkeys(str(each["commit"]) for each in in_order)),
        "environment": environment(torch.device("cpu")),
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "seconds": round(sum(each["seconds"] for each in done), 1),
        **settings,
        **{part: [row for each in in_order for row in each["found"][part]] for part in in_order[0]["found"]},
    }
    path = directory / f"{name}.json"
    write_text(path, _compact(content) + "\n")
    partial.unlink()
    return path


def _finished_cells(partial: Path) -> list[Row]:
    """The cells in the file; what follows its last newline is a cell that was not finished, and is cut off."""
    if not partial.exists():
        return []
    whole, newline, _ = partial.read_text(encoding="utf-8").rpartition("\n")
    write_text(partial, whole + newline)
    return [json.loads(line) for line in whole.splitlines()]


def _compact(content: Any) -> str:
    return json.dumps(content, separators=(",", ":"), allow_nan=False, ensure_ascii=False)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m reports.measure", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(MEASUREMENTS)} (default: all)")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="directory for the JSON files")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.names if name not in MEASUREMENTS]
    if unknown:
        parser.error(f"NAME must be one of {', '.join(MEASUREMENTS)}, got {unknown[0]!r}")
    arguments.output.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)  # networks this small gain little from threads
    for name in arguments.names or MEASUREMENTS:
        print(measure(name, arguments.output))


if __name__ == "__main__":
    main()
