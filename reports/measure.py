"""Measures what is not a training run, at initialisation, and leaves it as compact JSON for tables and figures.

    python -m reports.measure [NAME ...] [--output reports/data/measured]

    alignment     cosine and norm ratio of the weight gradient to BP's, by width × depth, activation, seed and budget
    convergence   the cosine at every budget up to 8L, and the iterations that a given cosine takes, by depth
    credit        the part of BP's credit that has arrived, by layer and iteration; credit shares; arrival by distance
    scattering    cosine against budget for linear blocks that are Gaussian, antisymmetric and symmetric

Each file holds the settings, its rows, and where they come from: commit, machine, versions, date. All of it is measured
on the first 64 training images of Fashion-MNIST with η = 1/λ_max. `credit` fits arrival = factor · distance^exponent
over distances d = L − l ≥ 3 (`pcalm.analysis`).
"""

from __future__ import annotations

import argparse
import datetime
import functools
import json
import sys
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

import pcalm
from pcalm import analysis, data, dynamics, records
from pcalm.methods import BP, PC, PCALM, anchored
from pcalm.network import ResidualMLP
from pcalm.storage import write_text
from pcalm.training import PROBE, environment

SCHEMA = 1
OUTPUT = Path(__file__).with_name("data") / "measured"
DATASET = "fashion-mnist"
SIZES = (8, 16, 32, 64, 128)
SEEDS = (0, 1, 2)
BUDGETS = (1, 1.25, 1.5, 2, 3, 4, 8)  # in multiples of L
TARGETS = (0.8, 0.9)
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


def alignment() -> Row:
    rows = []
    for activation, depth, width, seed in product(("relu", "tanh"), SIZES, SIZES, SEEDS):
        given = problem(ResidualMLP(depth, width, activation=activation, seed=seed))
        for name in ("pc", "pcalm", "anchored", "anchored, near exact"):
            for budget in BUDGETS:
                settings = method(name, depth, round(budget * depth), given.step_size)
                found = pcalm.gradients(given.net, settings, given.x, given.y)
                figures = (analysis.cosine(found, given.exact), analysis.norm_ratio(found, given.exact))
                rows.append((activation, depth, width, seed, name, budget, *(round(value, 4) for value in figures)))
    return {
        "columns": ["activation", "depth", "width", "seed", "method", "budget", "cosine", "norm_ratio"],
        "rows": rows,
    }


def convergence() -> Row:
    width, curves, reached = 32, [], []
    for depth, seed in product(SIZES, SEEDS):
        given = problem(ResidualMLP(depth, width, seed=seed))
        for name in ("pc", "pcalm", "anchored"):
            # PC takes some L² iterations to align, so it is followed that far where that can be waited for.
            steps = 4 * depth**2 if name == "pc" and depth <= 64 and seed == 0 else 8 * depth
            cosine = trace(given, method(name, depth, steps, given.step_size)).cosine
            for target in TARGETS:
                first = (cosine >= target).nonzero()
                reached.append((depth, seed, name, target, int(first[0]) + 1 if len(first) else None, steps))
            points = torch.arange(depth // 8, 8 * depth + 1, depth // 8)
            curve = [round(value, 4) for value in cosine[points - 1].tolist()]
            curves.append({"depth": depth, "seed": seed, "method": name, "cosine": curve})
    return {
        "width": width,
        "activation": "relu",
        "targets": TARGETS,
        "curve_budgets": [k / 8 for k in range(1, 65)],
        "curves": curves,
        "columns": ["depth", "seed", "method", "target", "iterations", "followed"],
        "rows": reached,
    }


def credit() -> Row:
    width, pictures, shares, arrivals, fits = 32, [], [], [], []
    for depth in (32, 64, 128):
        given = problem(ResidualMLP(depth, width))
        for name in ("pc", "pcalm", "anchored"):
            found = trace(given, method(name, depth, 8 * depth, given.step_size))
            where = {"depth": depth, "method": name}
            every = 4 * depth // PICTURE_STEPS
            if depth != 64:
                picture = [
                    [round(part, 2) for part in row] for row in found.arrived[every - 1 : 4 * depth : every].tolist()
                ]
                pictures.append({**where, "every": every, "step_size": given.step_size, "arrived": picture})
                for budget in (2, 4):
                    settings = method(name, depth, budget * depth, given.step_size)
                    share = analysis.credit_share(pcalm.gradients(given.net, settings, given.x, given.y), given.exact)
                    shares.append({**where, "budget": budget, "share": [float(f"{part:.4g}") for part in share]})
            when = analysis.credit_arrival(found.norm, found.delta, ARRIVED[name])
            by_distance = {depth - layer: step for layer, step in enumerate(when, 1) if step is not None}
            arrivals.append(
                {**where, "fraction": ARRIVED[name], "arrival": [by_distance.get(d) for d in range(1, depth)]}
            )
            far = {d: step for d, step in sorted(by_distance.items()) if d >= 3}
            exponent, factor = (
                analysis.arrival_exponent(list(far), list(far.values())) if len(far) > 1 else (None, None)
            )
            per_layer = far[max(far)] / max(far) if far else None
            fits.append((depth, name, ARRIVED[name], len(by_distance) / (depth - 1), exponent, factor, per_layer))
    columns = ["depth", "method", "fraction", "reached", "exponent", "factor", "iterations_per_layer"]
    return {
        "width": width,
        "activation": "relu",
        "seed": 0,
        "pictures": pictures,
        "shares": shares,
        "arrivals": arrivals,
        "columns": columns,
        "rows": fits,
    }


def scattering() -> Row:
    depth, width = 64, 32
    curves = []
    for seed in SEEDS:
        gaussian = ResidualMLP(depth, width, activation="linear", seed=seed)
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
    return {
        "depth": depth,
        "width": width,
        "penalty": 0.1,
        "dual_step": 3.5,
        "curve_budgets": [k / 16 for k in range(1, 65)],
        "curves": curves,
    }


MEASUREMENTS: dict[str, Callable[[], Row]] = {
    "alignment": alignment,
    "convergence": convergence,
    "credit": credit,
    "scattering": scattering,
}


def measure(name: str) -> Row:
    """The measurement with its provenance, as it is written."""
    start = time.perf_counter()
    found = MEASUREMENTS[name]()
    return {
        "schema": SCHEMA,
        "measurement": name,
        "command": f"python -m reports.measure {name}",
        "dataset": DATASET,
        "samples": PROBE,
        "commit": records.source_commit(),
        "environment": environment(torch.device("cpu")),
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "seconds": round(time.perf_counter() - start, 1),
        **found,
    }


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
        found = measure(name)
        text = json.dumps(found, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
        write_text(arguments.output / f"{name}.json", text + "\n")
        print(f"{arguments.output / name}.json: {found['seconds']} s", file=sys.stderr)


if __name__ == "__main__":
    main()
