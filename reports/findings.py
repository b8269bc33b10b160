"""Three findings in plain words, each with its figure and a table. Every number in a sentence is one of a table."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from pcalm.report import paper
from pcalm.report.comparisons import budgets, cost, networks, overview, pairs
from pcalm.report.comparisons.methods import at, name_of
from pcalm.report.figures import accuracy_by_depth
from pcalm.report.figures import budgets as budget_figures
from pcalm.report.figures.drawing import Figure
from pcalm.report.results import Results
from pcalm.report.tables import Table

ACTIVATION = "relu"
PAPERS = ("PC, 2L", "PC-ALM, 2L")
IN_THE_DEEPEST = (*PAPERS, at("anchored", 2.0), at("gauged", 2.0))
EXTENSIONS = tuple(at(*kind) for kind in (("anchored", 1.25), ("anchored", 2.0), ("gauged", 2.0)))
Row = dict[str, Any]


class Finding(NamedTuple):
    """A heading, a paragraph, the figure that shows it, and the tables that it is told from."""

    title: str
    text: str
    figure: Figure
    tables: list[Table]


def findings(headline: Results, deep: Results, everything: Results) -> list[Finding]:
    """Those that there is data for; `headline` holds the runs of the grid only, `deep` those of far deeper networks."""
    found = [papers_claim(headline), anchoring_and_gauge(headline, deep), where_it_stops(headline, everything)]
    return [each for each in found if each is not None]


def papers_claim(headline: Results) -> Finding | None:
    relu = _relu(headline)
    summary = rows_of(_table(pairs.tables(headline), "pairs-summary"), lambda row: row["method"] in PAPERS)
    against_bp = {row["method"]: row for row in _rows(summary) if row["less"] == "BP" and _is_relu(row)}
    own = next((row for row in _rows(*overview.tables(relu)) if (row["N"], row["L"]) == (32, 32)), None)
    drawn = accuracy_by_depth.figures(relu)
    if own is None or set(PAPERS) - set(against_bp) or not drawn:
        return None
    theirs = [f"{100 * accuracy:.1f}" for accuracy, _ in paper.FIGURES.values()]
    ours = [f"{own[name]:.1f}" for name in ("BP", *PAPERS)]
    pc, pcalm = (against_bp[name] for name in PAPERS)
    text = (
        "The paper claims that PC-ALM with a budget of 2L learns what backpropagation (BP) learns, where predictive "
        f"coding (PC) fails in deep networks: with 32 layers of width 32, BP gets {theirs[0]} % of Fashion-MNIST's "
        f"test images right, PC {theirs[1]} % and PC-ALM {theirs[2]} % (one seed). We find {ours[0]}, {ours[1]} and "
        f"{ours[2]} % (mean of the seeds), and the same all over width × depth with relu: PC is worse than BP beyond "
        f"doubt in {pc['worse']} of {pc['cells']} cells, by {-pc['least']:.1f} points at worst; PC-ALM in "
        f"{pcalm['worse']} of {pcalm['cells']}, by {-pcalm['least']:.1f} points at worst and "
        f"{-pcalm['difference, mean']:.1f} on average. "
        "Beyond doubt: zero is outside the 95 % interval over seeds and test samples."
    )
    return Finding("The paper's claim holds: PC-ALM learns what BP learns", text, drawn[0], [summary])


def anchoring_and_gauge(headline: Results, deep: Results) -> Finding | None:
    drawn = [figure for figure in budget_figures.figures(headline) if figure.id == "trained-alignment"]
    alignment = _table(budgets.tables(headline), "trained-alignment")
    trained = {
        row["method"]: row
        for row in _rows(alignment)
        if row["activation"] == ACTIVATION and row["network"] == budgets.WEIGHTS["bp"]
    }
    methods = [name_of(name) for name in ("pcalm", "anchored", "gauged")]
    if not drawn or set(methods) - set(trained):
        return None
    medians = [f"{trained[name]['cosine at 2L, median']:.2f}" for name in methods]
    worst = [f"{trained[name]['cosine at 2L, worst']:.2f}" for name in methods]
    text = (
        "Accuracy hides how far the gradient is from BP's. In networks that were trained for an epoch, the cosine of "
        f"PC-ALM's weight gradient to BP's at a budget of 2L has the median {medians[0]}, but falls to {worst[0]}: "
        "credit is scattered where the chain has become uneven. Two extensions of this project, as local as the method "
        "itself, take no more iterations. Anchoring every layer to its feed-forward state damps the wave that the "
        f"paper's method rings with (median {medians[1]}, worst {worst[1]}); a gauge that each layer learns from the "
        f"credit that passes levels the chain (median {medians[2]}, worst {worst[2]})."
    )
    summary = rows_of(
        _table(pairs.tables(headline), "pairs-summary"),
        lambda row: row["method"] in EXTENSIONS,
        "extensions-summary",
        "What anchoring and the gauge buy in accuracy, over all cells",
    )
    text += _in_accuracy([row for row in _rows(summary) if _is_relu(row)])
    deepest = _of_the_deepest(deep)
    text += _in_the_deepest(_rows(deepest)) + _in_gradients()
    shown = [alignment, summary, deepest]
    return Finding("Anchoring and a gauge bring the gradient closer to BP's", text, drawn[0], shown)


def _of_the_deepest(deep: Results) -> Table:
    """The accuracy in the cells of far deeper networks that were trained by every method."""
    return rows_of(
        _table(overview.tables(deep), "overview"),
        lambda row: all(row.get(name) is not None for name in ("BP", *IN_THE_DEEPEST)),
        "deepest",
        "What anchoring and the gauge buy in the deepest networks",
    )


def _in_the_deepest(rows: list[Row]) -> str:
    if not rows:
        return ""
    row = max(rows, key=lambda each: int(each["L"]))
    others = ", ".join(f"{name.partition(',')[0]} {row[name]:.1f}" for name in IN_THE_DEEPEST)
    return (
        f" Both pay most where the chain is longest: with {row['L']} layers of width {row['N']}, BP gets "
        f"{row['BP']:.1f} % of the test images right, and at 2L {others}."
    )


def _in_accuracy(rows: list[Row]) -> str:
    """What the extensions buy in accuracy, as far as they were trained."""
    told = [
        f"{row['method']} is better beyond doubt in {row['better']} of {row['cells']} cells and worse in "
        f"{row['worse']} ({row['difference, mean']:+.1f} points on average)"
        for row in rows
        if row["less"] == "PC-ALM, 2L"
    ]
    return f" In accuracy, against PC-ALM at 2L: {'; '.join(told)}." if told else ""


def _in_gradients(depth: int = 32) -> str:
    """What an update costs at 2L, in BP's gradients; the same for the paper's method and the extensions."""
    return (
        f" At 2L and {depth} layers, an update costs {cost.bp_gradients(2 * depth):.0f} times BP's with any of them, "
        "counted in passes through the layers."
    )


def where_it_stops(headline: Results, everything: Results) -> Finding | None:
    drawn = [figure for figure in budget_figures.figures(headline) if figure.id == "budget-law"]
    tables = budgets.tables(headline)
    law = {
        (row["method"], row["cosine"]): row
        for row in _rows(_table(tables, "budget-law"))
        if row["activation"] == ACTIVATION
    }
    plain, anchored = (law.get((name_of(name), 0.9)) for name in ("pcalm", "anchored"))
    exact = {name: law.get((name_of(name), 0.99)) for name in ("pcalm", "anchored")}
    widest = [row for row in _rows(_table(tables, "needed")) if row["activation"] == ACTIVATION]
    if not drawn or plain is None or anchored is None or None in exact.values():
        return None
    few, many = (exact[name] or {} for name in ("pcalm", "anchored"))
    text = (
        "The budget that was enough at initialisation is not enough for ever. A cosine of 0.9 takes PC-ALM "
        f"{plain['T/L, initial']:.1f}L at initialisation; {_after_training(widest)} The wave's speed does not explain "
        f"it: √(λ_max/4) changes by a factor of {plain['by the law']:.2f} on average, which accounts for "
        f"{plain['explained']:.0%} of the change. How unlevel BP's adjoint has become does: its rank correlation with "
        f"the budget after training is {plain['with ‖δ_1‖/‖δ_{L−1}‖']:+.2f}, against {plain['with λ_max']:+.2f} of "
        "λ_max; and that is what the gauge mends. The last percent stays dear: within 8L, PC-ALM reaches a cosine of "
        f"0.99 in {few['reached, trained']} of {few['networks']} trained networks, anchored PC-ALM in "
        f"{many['reached, trained']} of {many['networks']}, at a median of {many['trained']:.1f}L."
    )
    text += _in_networks(_rows(*networks.tables(everything)))
    shown = [table for table in tables if table.id in ("budget-law", "needed")]
    return Finding("Where it stops: trained networks need more budget", text, drawn[0], shown)


def _in_networks(rows: list[Row]) -> str:
    """Of every other network what the paper's method loses, and the method and budget that lose least."""
    told = []
    cells: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        cell = tuple(row.get(name) for name in ("network", "data set", "L", "N", "lr", "epochs"))
        cells.setdefault(cell, []).append(row)
    papers = [name_of(each) for each in ("pcalm", "pcalm-tracked")]
    for (network, dataset, *_), runs in cells.items():
        compared = [row for row in runs if row["minus BP"] is not None]
        plain = next((row for row in compared if row["method"] in papers and row["T/L"] == 2), None)
        if plain is None:
            continue
        best = max(compared, key=lambda row: row["minus BP"])
        where = " on ".join(str(each) for each in (network, dataset) if each is not None)
        told.append(
            f"{where or 'blocks'} {plain['minus BP']:+.1f}, and {best['minus BP']:+.1f} ({best['method']} at "
            f"{best['T/L']:g}L, with a cosine of {best['cosine to BP']:.2f} in the end)"
        )
    if not told:
        return ""
    return (
        " In other networks the wave runs less freely, and what that costs is each network's own. The points that "
        f"PC-ALM at 2L wins or loses against BP, and the best of all methods and budgets: {'; '.join(told)}."
    )


def _after_training(needed: list[Row]) -> str:
    """The budgets of the widest networks after training, from the least to the largest."""
    trained = [row for row in needed if row["network"] == budgets.WEIGHTS["bp"]]
    widest = max((row["N"] for row in trained), default=0)
    found = [row[f"{name_of('pcalm')}, 0.9"] for row in trained if row["N"] == widest]
    known = sorted(each for each in found if each is not None)
    if not known:
        return f"after training, none of the networks of width {widest} reaches it within 8L."
    more = f" and more than 8L in {len(found) - len(known)} of {len(found)} depths" if len(known) < len(found) else ""
    return f"after training, at N = {widest}, it takes {known[0]:.1f}L to {known[-1]:.1f}L by depth{more}."


def _relu(headline: Results) -> Results:
    training = headline.training
    return dataclasses.replace(headline, training=training[training["activation"] == ACTIVATION])


def _is_relu(row: Row) -> bool:
    return bool(row.get("activation", ACTIVATION) == ACTIVATION)


def _table(tables: Iterable[Table], name: str) -> Table:
    return next((table for table in tables if table.id == name), Table(name, name, (), ()))


def _rows(table: Table) -> list[Row]:
    return [dict(zip(table.headers, row, strict=True)) for row in table.rows]


def rows_of(table: Table, wanted: Callable[[Row], bool], name: str = "", title: str = "") -> Table:
    """Part of a table's rows, with their records."""
    kept = [place for place, row in enumerate(_rows(table)) if wanted(row)]
    return dataclasses.replace(
        table,
        id=name or table.id,
        title=title or table.title,
        rows=tuple(table.rows[place] for place in kept),
        sources=tuple(table.sources[place] for place in kept),
    )
