"""The page of implementations that are not ours: what each does, where it deviates, and what the suite says of it."""

from __future__ import annotations

import dataclasses
from typing import Any

from pcalm_conformance.comparison import suite, tables

from pcalm.report.results import Results, Source
from pcalm.report.tables import escape
from reports.peers import OURS, ROOT, Peer, peers

FOLDER = "peers/"  # of the data


def apart(found: Results) -> tuple[Results, Results]:
    """The results without what `make peers` left, and that alone."""
    theirs = {name: source for name, source in found.sources.items() if source.file.startswith(FOLDER)}
    ours = {name: source for name, source in found.sources.items() if name not in theirs}

    def of(records: list[dict[str, Any]], sources: dict[str, Source]) -> list[dict[str, Any]]:
        return [record for record in records if record["source"] in sources]

    conformance, comparisons = found.conformance, found.comparisons
    rest = dataclasses.replace(
        found, conformance=of(conformance, ours), comparisons=of(comparisons, ours), sources=ours
    )
    left = Results(conformance=of(conformance, theirs), comparisons=of(comparisons, theirs), sources=theirs)
    return rest, left


def document(found: Results) -> str:
    """The page, made from what `make peers` left, and from the adapters' own first lines."""
    reports = {name: report for report in found.conformance for name in report["implementations"]}
    lines = [
        "# Implementations",
        "",
        "Other people's libraries of predictive coding, held against the same suite as ours, and timed beside our",
        "engines. `make peers` builds an environment for each, runs both, and leaves the records in",
        "[data/](data/), from which `make report` makes this page. The adapters are short files in",
        "[conformance/peers/](../conformance/peers/): examples for your own.",
        "",
    ]
    for name, peer in peers().items():
        lines += [f"## {escape(name)}", "", *about(peer, reports.get(name)), ""]
    if compared := sorted(found.comparisons, key=in_order):
        lines += [tables.markdown(compared, caption(compared[0]))]
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
    counts = suite.counts(report["records"])["all"]
    met = counts["met"] + counts["in part"]
    ran = met + counts["failed"]
    versions = ", ".join(f"{package} {version}" for package, version in report["versions"].items())
    return [
        *lines,
        f"**Right?** It meets {met} of the {ran} requirements that ran at the level {report['level']};",
        f"{counts['failed']} failed. {counts['in part']} of them ran in part only, the other cases being left out, and",
        f"{counts['unsupported']} more are not supported: they ask for what the library does not do.",
        "",
        f"**Run as** {command} with {escape(versions)}.",
    ]


def in_order(record: dict[str, Any]) -> tuple[bool, str, int, int]:
    """Ours first, then by name; the smallest cells first."""
    cell = record.get("cell") or {"width": 0, "depth": 0}
    return record["spec"] not in OURS, record["implementation"], cell["width"], cell["depth"]


def caption(record: dict[str, Any]) -> str:
    """What was compared, where and how, by one of the records."""
    machine, settings = record["machine"], record["settings"]
    threads = "one thread" if settings["threads"] == 1 else f"{settings['threads']} threads"
    what = f"{settings['activation']}, B = {settings['batch']}, T = 2L, {settings['dtype']}, {threads} each"
    return (
        f"By `pcalm-conformance compare`, every implementation in a process of its own and in turns: {what};\n"
        f"{escape(machine['processor'])}, {machine['cores']} cores."
    )
