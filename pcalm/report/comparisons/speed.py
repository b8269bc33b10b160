"""Milliseconds per weight gradient, by cell and engine."""

from __future__ import annotations

from pcalm.report.results import Results
from pcalm.report.tables import Column, Table, TableBuilder


def tables(results: Results) -> list[Table]:
    times = [record for record in results.speed if record["cell"]["kind"] == "time"]
    times.sort(key=lambda r: [r["cell"][name] for name in ("device", "threads", "width", "depth")])
    names = list(dict.fromkeys(name for record in times for name in record["seconds"]))
    columns = [Column("device"), Column("threads", "d"), Column("N", "d"), Column("L", "d")]
    columns += [Column(name, ".3g") for name in names]
    notes = ["Best of repeated runs; a dash: not measured there."]
    built = TableBuilder("speed", "Milliseconds per weight gradient, by engine and cell", columns, notes)
    for record in times:
        cell = record["cell"]
        row = [1e3 * record["seconds"][name] if name in record["seconds"] else None for name in names]
        built.add([cell["device"], cell["threads"], cell["width"], cell["depth"], *row], [record["source"]])
    return [built.table()]
