"""The page of implementations that are not ours: what each does, where it deviates, and what the suite says of it."""

from __future__ import annotations

import dataclasses
from typing import Any

from pcalm_conformance.records import FAILURES, IN_PART, LEFT_OUT, PASSED

from pcalm.report.results import Results
from pcalm.report.tables import Column, TableBuilder, escape
from reports.peers import ROOT, Peer, peers

FOLDER = "peers/"  # of the data
ALL = "all"


def apart(found: Results) -> tuple[Results, Results]:
    """The results without what `make peers` left, and that alone."""
    theirs = {name: source for name, source in found.sources.items() if source.file.startswith(FOLDER)}
    ours = {name: source for name, source in found.sources.items() if name not in theirs}
    mine = [report for report in found.conformance if report["source"] in ours]
    rest = [report for report in found.conformance if report["source"] in theirs]
    return dataclasses.replace(found, conformance=mine, sources=ours), Results(conformance=rest, sources=theirs)


def document(found: Results) -> str:
    """The page, made from what `make peers` left, and from the adapters' own first lines."""
    reports = {name: report for report in found.conformance for name in report["implementations"]}
    lines = [
        "# Implementations",
        "",
        "Other people's libraries of predictive coding, held against the same suite as ours. `make peers` builds an",
        "environment for each, runs it, and leaves the records in [data/](data/), from which `make report` makes this",
        "page. The adapters are short files in [conformance/peers/](../conformance/peers/): examples for your own.",
        "",
    ]
    for name, peer in peers().items():
        lines += [f"## {escape(name)}", "", *about(peer, reports.get(name)), ""]
    if reports:
        lines += [chapters(reports).section("markdown"), ""]
    return "\n".join(lines)


def about(peer: Peer, report: dict[str, Any] | None) -> list[str]:
    lines = [f"{escape(peer.does)}", "", f"**Deviates in:** {escape(peer.deviates)}", ""]
    command = f"`pcalm-conformance --implementation {peer.implementation} --python {peer.python.relative_to(ROOT)}`"
    if report is None:
        return [
            *lines,
            "**No record:** where this page was made it could not be installed or run. Its adapter awaits",
            f"{command}.",
        ]
    verdicts = [record["verdict"] for record in report["records"]]
    met, ran = sum(one in PASSED for one in verdicts), sum(one not in LEFT_OUT for one in verdicts)
    failed = sum(one in FAILURES for one in verdicts)
    versions = ", ".join(f"{package} {version}" for package, version in report["versions"].items())
    return [
        *lines,
        f"**Right?** It meets {met} of the {ran} requirements that ran at the level {report['level']};",
        f"{failed} failed. {verdicts.count(IN_PART)} of them ran in part only, the other cases being left out, and",
        f"{verdicts.count('unsupported')} more are not supported: they ask for what the library does not do.",
        "",
        f"**Run as** {command} with {escape(versions)}.",
    ]


def chapters(reports: dict[str, dict[str, Any]]) -> Any:
    """Chapter × implementation: the requirements met, of those that ran."""
    notes = [
        "Met, of those that ran; in brackets those that ran in part, without the cases that the library does not do."
    ]
    columns = [Column("chapter"), *map(Column, reports)]
    built = TableBuilder("implementations", "By chapter", columns, notes)
    records = {name: report["records"] for name, report in reports.items()}
    order = dict.fromkeys(record["chapter"] for report in records.values() for record in report)
    for chapter in [*order, ALL]:
        row = [chapter]
        for name in reports:
            verdicts = [one["verdict"] for one in records[name] if chapter in (one["chapter"], ALL)]
            ran = [one for one in verdicts if one not in LEFT_OUT]
            met, part = sum(one in PASSED for one in ran), ran.count(IN_PART)
            row.append(f"{met} of {len(ran)}{f' ({part})' if part else ''}" if ran else "–")
        built.add(row, [report["source"] for report in reports.values()])
    return built.table()
