"""Conformance reports: requirement × implementation, and every figure with its bound."""

from __future__ import annotations

from typing import Any

from pcalm.report.results import Results
from pcalm.report.tables import VERDICT, Column, Table, TableBuilder


def tables(results: Results) -> list[Table]:
    """Requirement × implementation, and every figure with its bound."""
    found = [(report, record) for report in results.conformance for record in report["records"]]
    names = list(dict.fromkeys(record["implementation"] for _, record in found))
    built = TableBuilder(
        "conformance",
        "Conformance by requirement and implementation",
        [Column("requirement"), Column("chapter"), Column("claim"), *(Column(name, VERDICT) for name in names)],
        [
            "unsupported: the implementation does not offer what the requirement needs, or it does not apply there.",
            "passed in part: some of the requirement's cases were left out, and the others hold.",
            *(f"{report['source']} was broken off." for report in results.conformance if not report["complete"]),
        ],
    )
    detail = TableBuilder(
        "conformance-figures",
        "Conformance: figures and bounds",
        [
            *(Column("requirement"), Column("implementation"), Column("figure"), Column("measured", ".4g")),
            *(
                Column("must be"),
                Column("bound", ".4g"),
                Column("verdict", VERDICT),
                Column("cases", "d"),
                Column("seconds", ".1f"),
            ),
            Column("explained by"),
        ],
    )
    for requirement in dict.fromkeys(record["requirement"] for _, record in found):
        here = [(report, record) for report, record in found if record["requirement"] == requirement]
        verdicts = {record["implementation"]: _verdict(record) for _, record in here}
        first = here[0][1]
        row = [requirement, first["chapter"], first["claim"], *(verdicts.get(name) for name in names)]
        built.add(row, list(dict.fromkeys(report["source"] for report, _ in here)))
        for report, record in here:
            figures = [record[name] for name in ("what", "figure", "relation", "bound")]
            outcome = [_verdict(record), record["cases"], record["seconds"], ", ".join(record["follows_from"])]
            detail.add([requirement, record["implementation"], *figures, *outcome], [report["source"]])
    return [built.table(), detail.table()]


def _verdict(record: dict[str, Any]) -> str:
    """With how much of it ran, where a requirement passed in part: never to be taken for passed."""
    if record["verdict"] != "passed in part":
        return str(record["verdict"])
    return f"passed in part ({record['cases']} of {record['cases'] + record['left_out']})"
