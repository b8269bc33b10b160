"""The kinds of JSON files that a report is made from, and what each must hold: one schema per kind.

    conformance report   of pytest conformance --report
    kill matrix          of pcalm_conformance.kill_matrix
    speed record         of benchmarks.speed
    comparison           of pcalm-conformance compare, one cell, training or verdict of one implementation
    measurement          of reports.measure, by its name

What passes has every field that tables and figures use, of the type and in the range that they need.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pcalm.checks import require
from pcalm.experiments.schema import (
    Check,
    anything,
    boolean,
    fields,
    integer,
    line,
    listing,
    mapping,
    nullable,
    number,
    rows,
    scalar,
    text,
)

Content = dict[str, Any]
# The newest that is read; a file that says nothing about it is of the first.
SCHEMAS = {"conformance report": 2, "kill matrix": 1, "speed record": 1, "comparison": 1, "measurement": 1}
ABOUT: dict[str, Check] = {
    "schema": integer(),
    "commit": nullable(text),
    "fingerprint": text,
    "environment": mapping(scalar),
    "machine": mapping(scalar),
    "versions": mapping(nullable(text)),
    "platform": text,
    "finished": text,
    "command": text,
    "seconds": anything,
    "level": text,
    "dtype": text,
    "device": text,
}
depth, width, seed = integer(3, 10**6), integer(1, 10**6), integer(-(2**63))
share = number(0, 1e12)
# Rounding takes a cosine a little beyond its range, and a report shows no more than three digits.
cosine = number(-1.001, 1.001)
budget = number(1e-6, 1e6)
positive = number(1e-300, 1e300)

CONFORMANCE_RECORD = fields(
    {
        "requirement": line,
        "chapter": text,
        "claim": text,
        "implementation": line,
        "verdict": line,
        "what": text,
        "figure": nullable(number(finite=False)),  # what an implementation computed may be NaN
        "relation": text,
        "bound": nullable(number(finite=False)),
        "cases": integer(),
        "seconds": number(0),
        "follows_from": listing(line),
    },
    {
        "left_out": integer(),
        "solved": integer(),
        "broke": boolean,
        "needs": anything,
        **dict.fromkeys(("message", "recipe", "bound_origin", "output"), text),
        "case": listing(text),
    },
)
CONFORMANCE = fields(
    {"implementations": listing(line), "records": listing(CONFORMANCE_RECORD)}, {**ABOUT, "complete": boolean}
)
KILL_MATRIX = fields(
    {"mutants": mapping(fields({"mistake": text, "killed_by": listing(line)}, {"level": text}))},
    {**ABOUT, "requirements": mapping(anything)},
)
SPEED_CELL = fields({"kind": text, "device": text, "threads": integer(), "width": width, "depth": integer(1)})
SPEED = fields(
    {"cell": SPEED_CELL, "machine": mapping(scalar)},
    {
        **ABOUT,
        "seconds": mapping(positive),
        "missing": mapping(text),
        "disagreement": mapping(anything),
        "preempted": anything,
        "buffers": mapping(anything),
    },
)
COMPARED: dict[str, Check] = {"comparison": line, "implementation": line, "spec": line}
COMPARED_WITH: dict[str, Check] = {**ABOUT, "key": text, "settings": mapping(anything)}
seconds = number(0, 1e12)
COMPARED_TIMES = fields(
    {"missing": text, "how": text},
    {
        **dict.fromkeys(("seconds", "call", "prepare", "waiting", "wall", "busy"), seconds),
        **dict.fromkeys(("times_baseline", "times_product"), nullable(share)),
        **dict.fromkeys(("agreement", "flops", "suite", "rounds"), anything),
        "first": mapping(number()),
    },
)
COMPARED_CELL = fields(
    {"width": width, "depth": depth, "batch": integer(1), "activation": line, "dtype": line},
)
COMPARISONS: dict[str, Check] = {
    "cell": fields(
        {
            **COMPARED,
            "cell": COMPARED_CELL,
            "methods": mapping(COMPARED_TIMES),
            "memory": fields({"missing": text}, {"bytes": number(0), "method": text}),
        },
        {**COMPARED_WITH, "busy_from": anything},
    ),
    "training": fields(
        {
            **COMPARED,
            "epochs": integer(1),
            "methods": mapping(
                fields(
                    {"missing": text, "curve": listing(listing(number(0), least=3)), "steps": integer()},
                    {"cut": boolean},
                )
            ),
        },
        COMPARED_WITH,
    ),
    "suite": fields(
        {**COMPARED, "counts": mapping(mapping(integer())), "level": text},
        {**COMPARED_WITH, "missing": text, "report": text},
    ),
}
COLUMNS_AND_ROWS: dict[str, Check] = {"columns": listing(line), "rows": listing(listing(anything))}
CURVES_OVER: dict[str, Check] = {"curve_budgets": listing(budget, least=1)}
MEASURED: dict[str, Check] = {"measurement": line, "dataset": text, "samples": integer(1)}
ALIGNMENT = fields({**MEASURED, **COLUMNS_AND_ROWS}, ABOUT)
ALIGNMENT_ROWS = rows(
    {
        "activation": line,
        "depth": depth,
        "width": width,
        "seed": seed,
        "method": line,
        "budget": budget,
        "cosine": cosine,
        "norm_ratio": share,
    }
)
CONVERGENCE = fields(
    {
        **MEASURED,
        **COLUMNS_AND_ROWS,
        **CURVES_OVER,
        "width": width,
        "activation": text,
        "targets": listing(cosine),
        "curves": listing(fields({"depth": depth, "seed": seed, "method": line, "cosine": listing(cosine)}), least=1),
    },
    ABOUT,
)
CONVERGENCE_ROWS = rows(
    {
        "depth": depth,
        "seed": seed,
        "method": line,
        "target": cosine,
        "iterations": nullable(integer(1)),
        "followed": integer(1),
    }
)
CREDIT = fields(
    {
        **MEASURED,
        **COLUMNS_AND_ROWS,
        "width": width,
        "activation": text,
        "seed": seed,
        "pictures": listing(
            fields(
                {
                    "depth": depth,
                    "method": line,
                    "every": integer(1, 10**6),
                    "step_size": number(1e-12, 1e12),
                    "arrived": listing(listing(number(-1e12, 1e12)), least=2),
                }
            )
        ),
        "shares": listing(fields({"depth": depth, "method": line, "budget": budget, "share": listing(share)}), least=1),
        "arrivals": listing(
            fields(
                {"depth": depth, "method": line, "fraction": number(0, 1), "arrival": listing(nullable(integer(1)))}
            ),
            least=1,
        ),
    },
    ABOUT,
)
CREDIT_ROWS = rows(
    {
        "depth": depth,
        "method": line,
        "fraction": number(0, 1),
        "reached": number(0, 1),
        "exponent": nullable(number()),
        "factor": nullable(number()),
        "iterations_per_layer": nullable(number()),
    }
)
BUDGETS = fields(
    {**MEASURED, **COLUMNS_AND_ROWS},
    {**ABOUT, "targets": listing(cosine), "at": listing(budget), "missing": listing(listing(anything))},
)
BUDGETS_ROWS = rows(
    {
        "weights": line,
        "activation": line,
        "width": width,
        "depth": depth,
        "seed": seed,
        "method": line,
        "eigenvalue": positive,
        "gauge": positive,
        "adjoint": positive,
        **{
            f"{figure}_{at}": check for at in (1, 2, 4) for figure, check in (("cosine", cosine), ("norm_ratio", share))
        },
        "least_0.9": nullable(budget),
        "least_0.99": nullable(budget),
        "followed": budget,
    }
)
COST = fields({**MEASURED, **COLUMNS_AND_ROWS}, {**ABOUT, "missing": listing(listing(anything))})
COST_ROWS = rows(
    {
        **dict.fromkeys(("network", "dataset", "activation", "setting"), line),
        "epochs": integer(1),
        "width": width,
        "depth": depth,
        "budget": number(0, 1e12),
        "updates": integer(1),
        "seconds": positive,
    }
)
SCATTERING_BUDGETS = (1.125, 1.25, 1.5, 2, 4)  # those of the table
SCATTERING_BLOCKS = ("Gaussian", "antisymmetric", "symmetric")
SCATTERING = fields(
    {
        **MEASURED,
        **CURVES_OVER,
        "depth": depth,
        "width": width,
        "penalty": number(),
        "dual_step": number(),
        "curves": listing(fields({"blocks": line, "seed": seed, "cosine": listing(cosine)}, {"step_size": anything})),
    },
    ABOUT,
)


def _conformance(content: Content, unknown: list[str]) -> Content:
    checked: Content = CONFORMANCE(content, "", unknown)
    return {"complete": True, **checked}  # schema 1 was written at the end of a run only


def _alignment(content: Content, unknown: list[str]) -> Content:
    return ALIGNMENT_ROWS(ALIGNMENT(content, "", unknown), unknown)


def _convergence(content: Content, unknown: list[str]) -> Content:
    checked = CONVERGENCE_ROWS(CONVERGENCE(content, "", unknown), unknown)
    _as_long_as_budgets(checked)
    return checked


def _budgets(content: Content, unknown: list[str]) -> Content:
    return BUDGETS_ROWS(BUDGETS(content, "", unknown), unknown)


def _credit(content: Content, unknown: list[str]) -> Content:
    checked = CREDIT_ROWS(CREDIT(content, "", unknown), unknown)
    for part, values in (("shares", "share"), ("arrivals", "arrival"), ("pictures", "arrived")):
        for index, entry in enumerate(checked[part]):
            layers = entry["depth"] - 1
            for each in entry[values] if part == "pictures" else [entry[values]]:
                require(len(each) == layers, f"{part}[{index}].{values} must have {layers} layers, got {len(each)}")
            # How evenly credit is shared is relative to the largest share.
            require(part != "shares" or max(entry[values]) > 0, f"{part}[{index}].{values} must not be all zero")
    return checked


def _cost(content: Content, unknown: list[str]) -> Content:
    return COST_ROWS(COST(content, "", unknown), unknown)


def _scattering(content: Content, unknown: list[str]) -> Content:
    checked: Content = SCATTERING(content, "", unknown)
    _as_long_as_budgets(checked)
    lacking = [each for each in SCATTERING_BUDGETS if each not in checked["curve_budgets"]]
    require(not lacking, f"curve_budgets lacks {', '.join(map(str, lacking))}")
    there = {curve["blocks"] for curve in checked["curves"]}
    require(there == set(SCATTERING_BLOCKS), f"curves must be of {', '.join(SCATTERING_BLOCKS)}")
    return checked


def _as_long_as_budgets(content: Content) -> None:
    points = len(content["curve_budgets"])
    for index, curve in enumerate(content["curves"]):
        found = len(curve["cosine"])
        require(found == points, f"curves[{index}].cosine must have one value per budget, {points}, got {found}")


def _speed(content: Content, unknown: list[str]) -> Content:
    checked: Content = SPEED(content, "", unknown)
    require(checked["cell"]["kind"] != "time" or "seconds" in checked, "its content lacks 'seconds'")
    return checked


def _comparison(content: Content, unknown: list[str]) -> Content:
    about = content["comparison"]
    known = isinstance(about, str) and about in COMPARISONS
    require(known, f"comparison must be one of {', '.join(COMPARISONS)}, got {about!r:.60}")
    checked: Content = COMPARISONS[about](content, "", unknown)
    for name, one in checked.get("methods", {}).items():
        timed = bool(one["missing"]) or about != "cell" or {"seconds", "first"} <= set(one)
        require(timed, f"methods.{name} must have seconds and first, or say what is missing")
    require(
        about != "cell" or bool(checked["memory"]["missing"]) or "bytes" in checked["memory"], "memory lacks 'bytes'"
    )
    return checked


MEASUREMENTS: dict[str, Callable[[Content, list[str]], Content]] = {
    "alignment": _alignment,
    "budgets": _budgets,
    "convergence": _convergence,
    "cost": _cost,
    "credit": _credit,
    "scattering": _scattering,
}


def recognise(content: Content) -> tuple[str, Content, list[str]]:
    """The kind of a file's content, what a report uses of it, and the places of the fields that it does not know.

    Raises:
        ValueError: it is of no kind, of a newer schema, or does not hold what its kind must.
    """
    unknown: list[str] = []
    if "measurement" in content:
        kind, measurement = "measurement", content["measurement"]
        known = isinstance(measurement, str) and measurement in MEASUREMENTS
        require(known, f"measurement must be one of {', '.join(MEASUREMENTS)}, got {measurement!r:.60}")
        check = MEASUREMENTS[measurement]
    elif "implementations" in content and "records" in content:
        kind, check = "conformance report", _conformance
    elif "mutants" in content:
        kind, check = "kill matrix", lambda content, unknown: KILL_MATRIX(content, "", unknown)
    elif "comparison" in content:
        kind, check = "comparison", _comparison
    elif "cell" in content and "machine" in content:
        kind, check = "speed record", _speed
    else:
        raise ValueError("its content is of no kind that a report is made from")
    schema, newest = integer(1)(content.get("schema", 1), "schema", unknown), SCHEMAS[kind]
    require(schema <= newest, f"it is of schema {schema}, and this version of pcalm reads up to {newest}: update pcalm")
    return kind, check(content, unknown), unknown
