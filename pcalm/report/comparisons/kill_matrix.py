"""Which requirements reject which known mistake, and how many each requirement rejects."""

from __future__ import annotations

from pcalm.report.results import Results
from pcalm.report.tables import Column, Table, TableBuilder


def tables(results: Results) -> list[Table]:
    columns = [Column("wrong implementation"), Column("mistake"), Column("rejected by", "d"), Column("which")]
    built = TableBuilder("mutants", "Wrong implementations, and the requirements that reject them", columns)
    counts: dict[str, int] = {}
    sources = []
    for matrix in results.kill_matrices:
        sources.append(matrix["source"])
        counts |= {requirement: counts.get(requirement, 0) for requirement in matrix.get("requirements", ())}
        for name, mutant in matrix["mutants"].items():
            killed = mutant["killed_by"]
            for requirement in killed:
                counts[requirement] = counts.get(requirement, 0) + 1
            built.add([name, mutant["mistake"], len(killed), ", ".join(killed)], [matrix["source"]])
    columns = [Column("requirement"), Column("wrong implementations rejected", "d")]
    strength = TableBuilder("strength", "How many wrong implementations each requirement rejects", columns)
    for requirement, count in counts.items():
        strength.add([requirement, count], sources)
    return [built.table(), strength.table()]
