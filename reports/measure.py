"""Measures what is not a training run, and leaves it as compact JSON for tables and figures.

    python -m reports.measure [NAME ...] [--output reports/data/measured]

    alignment     cosine and norm ratio of the weight gradient to BP's, by width × depth, activation, seed and budget
    convergence   the cosine at every budget up to 8L, and the iterations that a given cosine takes, by depth
    credit        the part of BP's credit that has arrived, by layer and iteration; credit shares; arrival by distance
    scattering    cosine against budget for linear blocks that are Gaussian, antisymmetric and symmetric
    budgets       cosine and norm ratio at L, 2L and 4L, and the least budget for a cosine of 0.9 and 0.99: of networks
                  at initialisation, trained by BP, and trained by the method itself
    cost          CPU seconds of a weight update, for every kind of run in the shipped training.csv

Interrupted at any time, or with more cells than before, the same command goes on with those that are missing; the file
holds those that are there, and names the others. Each file holds the settings, its rows, and where they come from:
commit, machine, versions, date.
All of it is measured on the first 64 training images of Fashion-MNIST, at initialisation where nothing else is said,
with η = 1/λ_max. `credit` fits arrival = factor · distance^exponent over distances d = L − l ≥ 3. Networks of `budgets`
are trained for one epoch as `pcalm train` does, and λ_max is that of the weights measured; anchored methods keep a
reserve of the stability margin, as in training. Of its gauges, "gauged" is the local rule after FOLLOWED rounds of 2L
iterations, or what the network's own training ended with, and "gauged by BP" has the weights ‖δ_l‖/‖δ_{L-1}‖ of BP's
adjoint, which no local rule knows: a yardstick. `cost` takes all kinds of runs on one machine, on one core, since
records come from several, and from busy ones: the least mean of ROUND updates in a row, after as many, in SECONDS.
"""

from __future__ import annotations

import argparse
import dataclasses
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
from tqdm import tqdm

import pcalm
from pcalm import analysis, dynamics
from pcalm.experiments import data, records
from pcalm.experiments.config import TrainingConfig
from pcalm.experiments.grid import SETTINGS, Grid
from pcalm.experiments.grid import cost as expected
from pcalm.experiments.machine import environment
from pcalm.experiments.storage import write_text
from pcalm.experiments.training import PROBE, Training, train
from pcalm.gauge import follow_credit, passing
from pcalm.methods import BP, PC, PCALM, anchored
from pcalm.network import ResidualMLP
from pcalm.report.comparisons.cells import plain
from pcalm.report.comparisons.cost import KIND
from pcalm.report.comparisons.methods import of_rule
from pcalm.stepsize import hessian, kept_step_size, largest_eigenvalue

SCHEMA = 1
OUTPUT = Path(__file__).with_name("data") / "measured"
TRAINING = Path(__file__).with_name("data") / "training.csv"
DATASET = "fashion-mnist"
SIZES = (8, 16, 32, 64, 128)
SEEDS = (0, 1, 2)
BUDGETS = (1, 1.25, 1.5, 2, 3, 4, 8)  # in multiples of L
TARGETS = (0.8, 0.9)
WIDTH = 32  # of all networks but those of `alignment`
PICTURED = (32, 128)  # depths
SCATTERING_DEPTH = 64
PICTURE_STEPS = 128  # points in time that a space-time picture has
ALIGNED = (0.9, 0.99)  # cosines whose least budget is asked for
AT = (1, 2, 4)  # budgets at which alignment is given, in multiples of L
# The budget up to which they are followed.
FURTHEST = {"pc": 4, "pcalm": 8, "anchored": 8, "gauged": 8, "gauged by BP": 8}
FOLLOWED = 12  # rounds of the gauge's rule, of which (1 − 0.3)^12 = 1 % of the start is left
OWN_WIDTH, OWN_DEPTH = 32, 64  # the largest networks that are trained by each method itself
ROUND = 10  # weight updates in a row, of which `TrainingConfig.log_every` logs one
SECONDS = 0.5  # of updates, at least
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
    x, y = samples()
    eta = pcalm.step_size(net, x)
    assert isinstance(eta, float)
    return Problem(net, x, y, eta, pcalm.gradients(net, BP(), x, y))


@functools.cache
def dataset(name: str = DATASET) -> data.Dataset:
    return data.load(name)


def samples() -> tuple[Tensor, Tensor]:
    return dataset().train_inputs[:PROBE], dataset().one_hot(dataset().train_labels[:PROBE])


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
    cells: Callable[[], list[tuple[Any, ...]]]
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


def budgets(weights: str, activation: str, width: int, depth: int, seed: int) -> dict[str, list[Any]]:
    """One network: the weights "initial", or what it was trained by, of which then only that method is measured."""
    net, followed = ResidualMLP(depth, width, activation=activation, seed=seed), None
    if weights != "initial":
        shape: Row = {"depth": depth, "width": width, "activation": activation, "seed": seed}
        run = train(TrainingConfig(dataset=DATASET, **SETTINGS[weights](depth), **shape), dataset())
        assert isinstance(run.net, ResidualMLP)
        net, followed = run.net, run.summary.get("gauge")
    x, y = samples()
    exact = pcalm.gradients(net, BP(), x, y)
    delta = dynamics.adjoint(net, net.feedforward(x), y).detach().double().flatten(1).norm(dim=1)
    level = delta / delta[-1]
    names = [weights] if weights not in ("initial", "bp") else ["pc", "pcalm", "anchored", "gauged", "gauged by BP"]
    eigenvalue = eigenvalue_in(net, x, None)
    rows = []
    for name in names:
        w, own = None, eigenvalue
        if name.startswith("gauged"):
            w = level.tolist() if name != "gauged" else followed or local_gauge(net, x, y)
            own = eigenvalue_in(net, x, w)
        at, least = alignment_by_budget(net, in_gauge(name, depth, 1, own, w), x, y, exact, FURTHEST[name])
        figures = [own, 1.0 if w is None else w[0], float(level[0]), *at]
        rows.append((weights, activation, width, depth, seed, name, *map(_short, figures), *least, FURTHEST[name]))
    return {"rows": rows}


def eigenvalue_in(net: ResidualMLP, x: Tensor, w: list[float] | None) -> float:
    eigenvalue = largest_eigenvalue(net, x, gauge=w)
    assert isinstance(eigenvalue, float)
    return eigenvalue


def in_gauge(name: str, depth: int, steps: int, eigenvalue: float, w: list[float] | None) -> PC | PCALM:
    """The method of that name in the gauge w (None is 1), with the step size for λ_max in that gauge."""
    settings = method(name if name in ("pc", "pcalm") else "anchored", depth, steps, 1 / eigenvalue)
    if name not in ("pc", "pcalm"):
        settings = dataclasses.replace(settings, step_size=kept_step_size(settings, eigenvalue))
    return settings if w is None else pcalm.gauge(settings, w)


def local_gauge(net: ResidualMLP, x: Tensor, y: Tensor) -> list[float]:
    """The gauge that follows the credit at a budget of 2L, FOLLOWED times at the same weights."""
    w = torch.ones(net.depth - 1, dtype=torch.float64)
    _, vector = hessian(net, x).power_iteration(hessian(net, x).start())
    vector = vector.to(net.dtype)
    for _ in range(FOLLOWED):
        # From the last gauge's vector a few iterations lead to this one's, as in training.
        eigenvalue, vector = hessian(net, x, gauge=w.tolist(), dtype=net.dtype).follow(vector, 4)
        settings = in_gauge("gauged", net.depth, 2 * net.depth, float(eigenvalue), w.tolist())
        w = follow_credit(w, passing(net, settings, x, pcalm.infer(net, settings, x, y)))
    return w.tolist()


def alignment_by_budget(
    net: ResidualMLP, settings: PC | PCALM, x: Tensor, y: Tensor, exact: list[Tensor], furthest: int
) -> tuple[list[float], list[float | None]]:
    """Cosine and norm ratio at the budgets AT, and the least T/L for every cosine in ALIGNED, None beyond furthest.

    One run of the iteration, looked at every L/16 iterations: the budget T is that run cut off at T, whose last dual
    step is not taken before the gradient is read (credit "before"), and is taken before the run goes on.
    """
    depth, every = net.depth, max(1, net.depth // 16)
    settings, state = dataclasses.replace(settings, steps=every), None
    at: list[float] = []
    least: list[float | None] = [None] * len(ALIGNED)
    for t in range(every, furthest * depth + 1, every):
        state, gradients = pcalm.solve(net, settings, x, y, state)
        cosine = analysis.cosine(gradients, exact)
        least = [
            t / depth if seen is None and cosine >= target else seen
            for seen, target in zip(least, ALIGNED, strict=True)
        ]
        if t in [budget * depth for budget in AT]:
            at += [cosine, analysis.norm_ratio(gradients, exact)]
        if None not in least and t >= AT[-1] * depth:
            break
        if isinstance(settings, PCALM):
            z, multipliers = state
            residuals = dynamics.residuals(net, z, net.feedforward(x)[:1])
            state = dynamics.State(z, multipliers + dynamics.setting(settings.dual_step, z) * residuals)
    return at, least


def cost(
    network: str, name: str, activation: str, epochs: int, width: int, depth: int, setting: str, budget: float
) -> dict[str, list[Any]]:
    """A kind of run: how many weight updates it has, and the CPU seconds of one."""
    config = _config(network, name, activation, epochs, width, depth, setting, budget)
    training = Training([config], dataset(name))
    for _ in range(ROUND):
        training.update()
    rounds: list[float] = []
    while sum(rounds) < SECONDS:
        started = time.process_time()
        for _ in range(ROUND):
            training.update()
        rounds.append(time.process_time() - started)
    row = (network, name, activation, epochs, width, depth, setting, budget)
    return {"rows": [(*row, training.updates, _short(min(rounds) / ROUND))]}


def _config(
    network: str, name: str, activation: str, epochs: int, width: int, depth: int, setting: str, budget: float
) -> TrainingConfig:
    method, rule = of_rule(setting)
    grid = Grid((network,), datasets=(name,), widths=(width,), depths=(depth,), activations=(activation,))
    grid = dataclasses.replace(grid, methods=(method,), seeds=(0,), budgets=(budget or 1.0,), epochs=epochs)
    (run,) = dataclasses.replace(grid, step_size=rule or None).runs()
    return run.config


def _kinds_of_runs() -> list[tuple[Any, ...]]:
    """The cells of `cost`, the longest last."""
    frame = records.load_table(TRAINING)
    own_loss = frame["network"].map(lambda network: TrainingConfig(network=network).loss) == frame["loss"]
    kinds = frame[own_loss & (frame["validation"] == 0)].assign(budget=frame["budget"].fillna(0.0))[list(KIND)]
    cells = [tuple(map(plain, row)) for row in kinds.drop_duplicates().itertuples(index=False)]
    return sorted(cells, key=lambda cell: (expected(_config(*cell)), cell))


def _networks() -> list[tuple[Any, ...]]:
    """The cells of `budgets`, the widest and deepest networks last."""
    grid = (("initial", "relu", 128), ("bp", "relu", 128), ("bp", "tanh", 64), ("bp", "linear", 64))
    cells = [
        (weights, activation, width, depth, seed)
        for weights, activation, largest in grid
        for width, depth, seed in product(SIZES, SIZES, SEEDS)
        if max(width, depth) <= largest
    ]
    cells += [
        (weights, "relu", width, depth, seed)
        for weights, width, depth, seed in product(("pc", "pcalm", "anchored", "gauged"), SIZES, SIZES, SEEDS)
        if width <= OWN_WIDTH and depth <= OWN_DEPTH
    ]
    return sorted(cells, key=lambda cell: cell[2] * cell[3])


MEASUREMENTS = {
    "alignment": Measurement(
        {"columns": ["activation", "depth", "width", "seed", "method", "budget", "cosine", "norm_ratio"]},
        lambda: list(product(("relu", "tanh"), SIZES, SIZES, SEEDS)),
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
        lambda: list(product(SIZES, SEEDS)),
        convergence,
    ),
    "credit": Measurement(
        {
            "width": WIDTH,
            "activation": "relu",
            "seed": 0,
            "columns": ["depth", "method", "fraction", "reached", "exponent", "factor", "iterations_per_layer"],
        },
        lambda: [(32,), (64,), (128,)],
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
        lambda: [(seed,) for seed in SEEDS],
        scattering,
    ),
    "budgets": Measurement(
        {
            "targets": ALIGNED,
            "at": AT,
            "columns": [
                *("weights", "activation", "width", "depth", "seed", "method", "eigenvalue", "gauge", "adjoint"),
                *(f"{figure}_{budget}" for budget in AT for figure in ("cosine", "norm_ratio")),
                *(f"least_{target}" for target in ALIGNED),
                "followed",
            ],
        },
        _networks,
        budgets,
    ),
    "cost": Measurement({"dataset": "of each row", "columns": [*KIND, "updates", "seconds"]}, _kinds_of_runs, cost),
}


def measure(name: str, directory: Path) -> Path:
    """Measures what is still missing, and writes the measurement with its provenance; returns the file's path.

    Finished cells are kept in a file beside it until all of them are there, each with the commit that it was measured
    with: the measurement names them all. When it is interrupted, it is written with what is there, and a shipped one
    that is incomplete goes on likewise; a complete one is measured anew.
    """
    settings, every_cell, run = MEASUREMENTS[name]
    cells = every_cell()
    partial, path = directory / f".{name}.partial.jsonl", directory / f"{name}.json"
    commit = records.source_commit()
    done = _finished_cells(partial) if partial.exists() else _shipped_cells(path, cells)
    there = {tuple(each["cell"]) for each in done}
    try:
        for cell in tqdm([cell for cell in cells if cell not in there], name, unit="cell"):
            start = time.perf_counter()
            found = run(*cell)
            seconds = round(time.perf_counter() - start, 2)
            done.append({"commit": commit, "cell": list(cell), "seconds": seconds, "found": found})
            with partial.open("a", encoding="utf-8") as file:
                file.write(_compact(done[-1]) + "\n")
    finally:
        if done:
            write_text(path, _compact(_content(name, settings, cells, done)) + "\n")
    partial.unlink()
    return path


def _content(name: str, settings: Row, cells: list[tuple[Any, ...]], done: list[Row]) -> Row:
    place = {cell: number for number, cell in enumerate(cells)}
    in_order = sorted(done, key=lambda each: place[tuple(each["cell"])])
    there = {tuple(each["cell"]) for each in done}
    lacking = [list(cell) for cell in cells if cell not in there]
    return {
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
        **({"missing": lacking} if lacking else {}),
        **{part: [row for each in in_order for row in each["found"][part]] for part in in_order[0]["found"]},
    }


def _finished_cells(partial: Path) -> list[Row]:
    """The cells in the file; what follows its last newline is a cell that was not finished, and is cut off."""
    whole, newline, _ = partial.read_text(encoding="utf-8").rpartition("\n")
    write_text(partial, whole + newline)
    return [json.loads(line) for line in whole.splitlines()]


def _shipped_cells(path: Path, cells: list[tuple[Any, ...]]) -> list[Row]:
    """Those of an incomplete measurement that came without the file beside it; its rows begin with their cell. None of
    a complete one, which is measured anew."""
    content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    found: dict[tuple[Any, ...], list[Any]] = {}
    for row in content.get("rows", []):
        found.setdefault(tuple(row[: len(cells[0])]), []).append(row)
    found = {cell: found[cell] for cell in cells if cell in found}
    if not found or len(found) == len(cells):
        return []
    seconds = round(content["seconds"] / len(found), 2)
    shared = {"commit": content["commit"], "seconds": seconds}
    return [{**shared, "cell": list(cell), "found": {"rows": rows}} for cell, rows in found.items()]


def _short(value: float) -> float:
    return float(f"{value:.4g}")


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
