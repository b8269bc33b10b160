"""Made-up results for the tests of reports: small, and of round numbers, so that figures can be checked by hand."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

from pcalm.experiments import records
from pcalm.experiments.config import TrainingConfig
from pcalm.experiments.grid import SETTINGS
from pcalm.experiments.records import Record
from pcalm.report.comparisons import all_tables
from pcalm.report.results import Results, Source
from pcalm.report.tables import Column, Table

# method: accuracy lost to BP, in points
LOSS = {"bp": 0, "pc": 10, "pcalm": 2, "anchored": 1}


def record(
    setting: str = "bp",
    *,
    seed: int = 0,
    width: int = 8,
    depth: int = 4,
    budget: float = 2,
    accuracy: float | None = None,
    implementation: str = "pcalm",
    **settings: Any,
) -> Record:
    """A finished run; BP has 80 % in seed 0 and a point less in every further one, the others less by LOSS.

    An accuracy of −1 means that it diverged.
    """
    own = SETTINGS[setting](depth) | ({} if setting == "bp" else {"steps": round(budget * depth)})
    config = TrainingConfig(**own, seed=seed, width=width, depth=depth, **{"engine": "cpu", **settings})
    diverged = accuracy == -1
    divergence = {
        "step": 7,
        "inference_step": 3,
        "layer": 2,
        "margin": -0.1,
        "message": "training diverged at update 7",
    }
    found = accuracy if accuracy is not None else (80 - seed - LOSS[setting]) / 100
    summary = {
        "status": "diverged" if diverged else "finished",
        "divergence": divergence if diverged else None,
        "test_accuracy": None if diverged else found,
        "train_loss": None if diverged else 0.5,
        "gradient_cosine": None if diverged else 1 - LOSS[setting] / 20,
        "gradient_norm_ratio": None if diverged else 1.0,
        "eigenvalue": None if diverged or setting == "bp" else 5.0,
        "growth": None if diverged else 3.0,
        "seconds": 2.0 if setting == "bp" else 10.0,
        "updates": 6 if diverged else 20,
        "step_size": None if setting == "bp" else 0.23,
    }
    curve: dict[str, list[Any]] = {
        "step": [10, 20],
        "epoch": [1, 1],
        "loss": [0.6, 0.5],
        "accuracy": [0.5, found],
        "test_accuracy": [None, found],
        "gradient_cosine": [None, 1 - LOSS[setting] / 20],
        "eigenvalue": [None, None if setting == "bp" else 5.0],
        "growth": [None, 3.0],
    }
    return Record(
        setting,
        config.resolved(),
        summary,
        curve,
        1,
        {"pcalm": "0.1.0", "python": "3.11.0", "torch": "2.11.0", "numpy": "2.0.0"},
        {"platform": "Linux", "device": "abacus", "threads": 1},
        "0123456789abcdef",
        "2026-01-01T00:00:00+00:00",
        implementation,
    )


def write_grid(directory: Path, implementation: str = "pcalm", seeds: int = 2) -> list[Record]:
    """Two depths, all methods, in `directory`/records."""
    made = [
        record(setting, seed=seed, depth=depth, implementation=implementation)
        for depth in (4, 8)
        for setting in LOSS
        for seed in range(seeds)
    ]
    for each in made:
        records.write(directory, each)
    return made


def conformance_report(name: str, verdict: str = "passed") -> dict[str, Any]:
    """What `pytest conformance --report` leaves for one implementation: one requirement passed, one as given."""

    def entry(requirement: str, outcome: str) -> dict[str, Any]:
        return {
            "requirement": requirement,
            "chapter": "1 · model",
            "claim": f"The claim of {requirement}.",
            "implementation": name,
            "verdict": outcome,
            "what": "error",
            "figure": 1.5 if outcome == "failed" else 0.5,
            "relation": "<=",
            "bound": 1.0,
            "cases": 3,
            "left_out": 6 * (outcome == "passed in part"),
            "solved": 5,
            "seconds": 0.25,
            "message": "",
            "recipe": "",
            "broke": False,
            "follows_from": [],
        }

    return {
        "schema": 2,
        "complete": True,
        "level": "quick",
        "dtype": "float64",
        "versions": {"numpy": "2.0.0"},
        "implementations": [name],
        "records": [entry("MOD-1", "passed"), entry("MOD-2", verdict)],
    }


def kill_matrix() -> dict[str, Any]:
    mutants = {
        "sign": {"mistake": "The credit has the wrong sign.", "killed_by": ["MOD-1", "MOD-2"]},
        "scale": {"mistake": "The scale lacks its root.", "killed_by": ["MOD-2"]},
    }
    return {"level": "quick", "requirements": {"MOD-1": {}, "MOD-2": {}, "MOD-3": {}}, "mutants": mutants}


def speed_record(width: int = 8) -> dict[str, Any]:
    return {
        "cell": {"kind": "time", "device": "cpu", "threads": 1, "width": width, "depth": 8},
        "machine": {"cpu": "abacus", "cores": 2},
        "fingerprint": "fedcba",
        "seconds": {"bp": 0.001, "cpu": 0.002 * width},
        "missing": {},
    }


def comparison(about: str = "cell", name: str = "theirs") -> dict[str, Any]:
    """What `pcalm-conformance compare` leaves of one implementation."""
    times = {"seconds": 0.004, "call": 0.004, "prepare": 1e-4, "waiting": 0.0, "wall": 0.005, "busy": 0.0}
    ratios = {"times_baseline": 12.5, "times_product": 0.5, "agreement": 0.1, "flops": 1e9, "suite": 1e-4}
    timed = {"how": "prepare", "missing": "", "first": {"seconds": 1.5, "wall": 2.0}, "rounds": [{}], **times, **ratios}
    part: dict[str, dict[str, Any]] = {
        "cell": {
            "cell": {"width": 32, "depth": 16, "batch": 64, "activation": "tanh", "dtype": "float32"},
            "methods": {"pc": timed, "pcalm": {"how": "", "missing": "unsupported"}},
            "memory": {"missing": "", "bytes": 2**20, "method": "pc"},
        },
        "training": {
            "epochs": 2,
            "methods": {"bp": {"missing": "", "curve": [[1, 0.5, 0.6], [2, 1.0, 0.9]], "steps": 44, "cut": False}},
        },
        "suite": {
            "level": "quick",
            "counts": {"1 · model": {"met": 3, "failed": 1, "in part": 0, "unsupported": 0, "not run": 0}},
            "missing": "",
            "report": "a.json",
        },
    }
    about_it = {"implementation": name, "spec": f"{name}:impl", "key": "abc", "versions": {"numpy": "2.0"}}
    return {"schema": 1, "comparison": about, **about_it, "machine": {"processor": "abacus"}, **part[about]}


def write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def write_everything(directory: Path) -> None:
    """Training runs of three implementations, their conformance reports, and one of everything else."""
    for name, verdict in (("pcalm", "passed"), ("theirs", "failed"), ("others", "unsupported")):
        write_grid(directory / name, name)
        write_json(directory / name / "conformance.json", conformance_report(name, verdict))
    for name, content in measured().items():
        write_json(directory / "measured" / f"{name}.json", as_written(content))
    write_json(directory / "kill_matrix.json", kill_matrix())
    for about in ("cell", "training", "suite"):
        write_json(directory / "comparison" / "records" / f"{about}.json", comparison(about))
    for width in (8, 32):
        write_json(directory / "speed" / f"{width}.json", speed_record(width))


def as_written(content: dict[str, Any]) -> dict[str, Any]:
    """A measurement without what reading it adds."""
    return {name: value for name, value in content.items() if name != "source"}


def measured() -> dict[str, dict[str, Any]]:
    """One measurement of every kind, as `pcalm.report.results` holds them."""
    budgets = [k / 16 for k in range(1, 65)]
    methods = ("pc", "pcalm", "anchored")
    found: dict[str, dict[str, Any]] = {
        "alignment": {
            "columns": ["activation", "depth", "width", "seed", "method", "budget", "cosine", "norm_ratio"],
            "rows": [("relu", 8, 8, seed, "pcalm", 2, 0.9 - 0.1 * seed, 0.5 + 0.1 * seed) for seed in range(3)],
        },
        "convergence": {
            "width": 32,
            "activation": "relu",
            "targets": [0.8],
            "curve_budgets": [k / 8 for k in range(1, 65)],
            "curves": [
                {"depth": 8, "seed": seed, "method": method, "cosine": [(0.9 + seed / 20) * k / 64 for k in range(64)]}
                for method in methods
                for seed in (0, 1)
            ],
            "columns": ["depth", "seed", "method", "target", "iterations", "followed"],
            "rows": [(depth, 0, "pcalm", 0.8, 2 * depth, 8 * depth) for depth in (8, 16, 32)]
            + [(8, 0, "pc", 0.8, None, 64)],
        },
        "credit": {
            "width": 32,
            "activation": "relu",
            "seed": 0,
            # A front goes down one layer in every step, from the top; behind it the methods differ.
            "pictures": [
                {
                    "depth": 8,
                    "method": method,
                    "every": 1,
                    "step_size": 0.25,
                    "arrived": [
                        [min(1.2 + number / 10, max(0, 0.5 * (t + layer - 6))) for layer in range(1, 8)]
                        for t in range(1, 33)
                    ],
                }
                for number, method in enumerate(methods)
            ],
            "shares": [
                {"depth": 8, "method": method, "budget": budget, "share": [0.5, 1.0, 1.5, 1, 1, 1, 1]}
                for method in methods
                for budget in (2, 4)
            ],
            "arrivals": [
                {"depth": 8, "method": method, "fraction": 0.5, "arrival": [2 * d for d in range(1, 8)]}
                for method in methods
            ],
            "columns": ["depth", "method", "fraction", "reached", "exponent", "factor", "iterations_per_layer"],
            "rows": [(8, "pcalm", 0.5, 1.0, 1.01, 2.1, 2.05)],
        },
        # Training doubles λ_max and makes the budget √2 times as large: the law, to the letter.
        "budgets": {
            "columns": [
                *("weights", "activation", "width", "depth", "seed", "method", "eigenvalue", "gauge", "adjoint"),
                *(f"{figure}_{at}" for at in (1, 2, 4) for figure in ("cosine", "norm_ratio")),
                *("least_0.9", "least_0.99", "followed"),
            ],
            "rows": [
                (
                    *(weights, "relu", width, 8, 0, method, 4.0 * grown, 1.0, 1.0 * grown),
                    *(0.5, 0.6, 0.8 - 0.1 * grown, 0.9, 0.95, 1.1),
                    *((None, None, 4) if method == "pc" else (2 * math.sqrt(grown), None, 8)),
                )
                for width in (8, 16)
                for weights, grown in (("initial", 1), ("bp", 2), ("pcalm", 2))
                for method in (("pc", "pcalm") if weights != "pcalm" else ("pcalm",))
            ],
            "missing": [["bp", "relu", 32, 8, 0]],
        },
        "cost": {
            "columns": [
                *("network", "dataset", "activation", "epochs", "width", "depth", "setting", "budget"),
                *("updates", "seconds"),
            ],
            "rows": [
                ("mlp", "digits", "relu", 1, 8, 4, setting, budget, 22, 0.001 * (1 + 2 * budget))
                for setting, budget in (("bp", 0.0), ("pc", 2.0), ("pcalm", 2.0))
            ],
        },
        "scattering": {
            "width": 32,
            "depth": 64,
            "penalty": 0.1,
            "dual_step": 3.5,
            "curve_budgets": budgets,
            "curves": [
                {"blocks": kind, "seed": seed, "cosine": [budget / 4 for budget in budgets]}
                for kind in ("Gaussian", "antisymmetric", "symmetric")
                for seed in (0, 1)
            ],
        },
    }
    return {
        name: {"measurement": name, "dataset": "fashion-mnist", "samples": 64, "source": f"measured-{name}", **content}
        for name, content in found.items()
    }


def rows(found: Results, name: str) -> list[dict[str, Any]]:
    """The rows of the table of that id, by heading."""
    (table,) = [each for each in all_tables(found) if each.id == name]
    return [dict(zip(table.headers, row, strict=True)) for row in table.rows]


def many(count: int) -> tuple[list[Table], Results]:
    """What that many runs leave if every one is a cell of its own: three tables with a row for each, and its source."""
    chance = random.Random(0)
    sources = {}
    for index in range(count):
        key = f"{chance.getrandbits(128):032x}"
        what = f"pcalm: pcalm fashion-mnist N={index} L=32 relu T=2L seed 0"
        finished = f"2026-01-01T00:{index // 60 % 60:02}:{index % 60:02}+00:00"
        sources[key[:10]] = Source(
            key[:10], what, f"runs/records/{key}.jsonl", "0123456789abcdef", "abacus, Linux", "pcalm 0.1.0", finished
        )
    figures = [Column(f"figure {number}", ".3f") for number in range(8)]
    columns = (Column("N", "d"), Column("L", "d"), Column("method"), *figures)
    rows = [
        (index % 997, index % 101, "PC-ALM" if index % 2 else "PC", *(chance.random() for _ in figures))
        for index in range(count)
    ]
    own = tuple((source,) for source in sources)
    tables = [Table(name, name, columns, tuple(rows), own) for name in ("overview", "accuracy", "cost")]
    return tables, Results(sources=sources)
