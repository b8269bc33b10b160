"""What `pcalm-conformance compare` found: requirements met, time and memory of a gradient, and training."""

from __future__ import annotations

from pcalm.report.comparisons.methods import name_of
from pcalm.report.results import Results
from pcalm.report.tables import Column, Table, TableBuilder, Value


def tables(results: Results) -> list[Table]:
    return [right(results), fast(results), learning(results)]


def right(results: Results) -> Table:
    columns = [Column("implementation"), Column("chapter")]
    kinds = ("met", "failed", "in part", "unsupported", "not run")
    built = TableBuilder(
        "implementations",
        "Implementations: requirements by chapter",
        [*columns, *(Column(kind, "d") for kind in kinds)],
    )
    for record in results.comparisons:
        for chapter, counts in record.get("counts", {}).items():
            built.add([record["implementation"], chapter, *(counts.get(kind, 0) for kind in kinds)], [record["source"]])
    return built.table()


def fast(results: Results) -> Table:
    """Milliseconds and MiB, the fastest of a cell and method first."""
    built = TableBuilder(
        "implementations-time",
        "Implementations: time and memory of one gradient",
        [
            *(Column("N", "d"), Column("L", "d"), Column("B", "d"), Column("activation"), Column("method")),
            *(Column("implementation"), Column("timed", about="what was timed: prepare's function, or solve")),
            Column("ms", ".3g", "CPU time and waiting, conversions beyond a twentieth included"),
            Column("× baseline", ".3g", "how many times as fast as the suite's NumPy example in the same rounds"),
            Column("of product", ".2g", "part of the rate of a matrix product on the same machine"),
            *(Column("prepare ms", ".3g"), Column("first s", ".2g"), Column("MiB", ".1f")),
            Column("missing", about="why there is no time"),
        ],
        ["PC and PC-ALM at T = 2L. MiB: peak over that of an empty solve, with the last method that it supports."],
    )
    rows: list[tuple[tuple[int, int, str, bool, float], list[Value], str]] = []
    for record in results.comparisons:
        if record["comparison"] != "cell":
            continue
        cell, memory = record["cell"], record["memory"]
        for method, times in record["methods"].items():
            there = not times["missing"]
            order = (cell["width"], cell["depth"], method, not there, times.get("seconds", 0.0))
            last = there and memory.get("method", method) == method and not memory["missing"]
            row: list[Value] = [
                *(cell["width"], cell["depth"], cell["batch"], cell["activation"], name_of(method)),
                *(record["implementation"], times["how"] or None),
                *(
                    [1e3 * times["seconds"], times.get("times_baseline"), times.get("times_product")]
                    if there
                    else [None] * 3
                ),
                1e3 * times["prepare"] if there and times["how"] == "prepare" and "prepare" in times else None,
                times["first"].get("seconds") if there else None,
                memory["bytes"] / 2**20 if last else None,
                times["missing"] or None,
            ]
            rows.append((order, row, record["source"]))
    for _, row, source in sorted(rows, key=lambda entry: entry[0]):
        built.add(row, [source])
    return built.table()


def learning(results: Results) -> Table:
    built = TableBuilder(
        "implementations-training",
        "Implementations: training on digits by the suite's optimiser",
        [
            *(Column("implementation"), Column("method"), Column("test accuracy %", ".1f")),
            *(Column("epochs", "d"), Column("s of gradients", ".3g"), Column("steps/s", ".3g"), Column("missing")),
        ],
    )
    for record in results.comparisons:
        if record["comparison"] != "training":
            continue
        for method, run in record["methods"].items():
            start: list[Value] = [record["implementation"], name_of(method)]
            if run["missing"] or not run["curve"]:
                built.add([*start, None, None, None, None, run["missing"] or None], [record["source"]])
                continue
            epoch, seconds, accuracy = run["curve"][-1][:3]
            rate = run["steps"] / seconds if seconds else None
            built.add([*start, 100 * accuracy, int(epoch), seconds, rate, None], [record["source"]])
    return built.table()
