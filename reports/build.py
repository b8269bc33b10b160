"""The project's own results: documents, figures and the README's table, made from the data that is shipped.

    python -m reports.build             writes the documents and figures in reports/, and the table in README.md
    python -m reports.build --check     writes nothing; exit status 1 if a file would differ, with its name

The same data gives the same files, byte for byte; drawings do so with the releases in constraints.txt.
"""

from __future__ import annotations

import argparse
import dataclasses
import re
import sys
import textwrap
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path

import pandas

from pcalm.experiments.grid import SIZES
from pcalm.experiments.networks import NETWORKS
from pcalm.experiments.storage import write_text
from pcalm.report import results
from pcalm.report.comparisons import (
    accuracy,
    alignment,
    budgets,
    conformance,
    convergence,
    cost,
    credit,
    kill_matrix,
    missing,
    networks,
    overview,
    pairs,
    scattering,
    speed,
)
from pcalm.report.figures import (
    cosine_by_budget,
    credit_share,
    exponents,
    heat_maps,
    learning_curves,
    space_time,
)
from pcalm.report.figures import networks as networks_in_training
from pcalm.report.figures import scattering as scattering_curves
from pcalm.report.figures.drawing import Figure
from pcalm.report.results import Results
from pcalm.report.tables import Column, Table, escape
from reports import findings, implementations

HERE = Path(__file__).parent
KILL_MATRIX = HERE.parent / "conformance" / "pcalm_conformance" / "kill_matrix.json"
# The headline grid: all of it, so that what is missing can be said.
SHORT = (("bp", 0.0), ("pc", 2.0), ("pcalm", 2.0), ("gauged", 2.0))
METHODS = {"relu": (*SHORT[:3], ("anchored", 1.25), ("anchored", 2.0), SHORT[3]), "tanh": SHORT, "linear": SHORT}
CELL = {"activation": Column("activation"), "width": Column("N", "d"), "depth": Column("L", "d")}
# Widest last.
HEADLINE = {(name, width, depth): METHODS[name] for width, depth, name in product(SIZES, SIZES, METHODS)}
# The same for networks of blocks, by data set.
TRACKED = ("pc-tracked", "pcalm-tracked", "anchored", "gauged")
BLOCKS_METHODS = {
    dataset: (("bp", 0.0), *((name, budget) for name in TRACKED for budget in budgets))
    for dataset, budgets in (("digits", (2.0, 3.0, 4.0)), ("fashion-mnist", (2.0,)))
}
BLOCKS_CELL = {"dataset": Column("data set"), "network": Column("network")}
BLOCKS = {
    (name, network): BLOCKS_METHODS[name]
    for name, network in product(BLOCKS_METHODS, NETWORKS)
    if network != networks.MLP
}
SEEDS = (0, 1, 2)
DEEP = 500  # layers
README = HERE.parent / "README.md"
STORY_WIDTH = 32  # of the README's table
WIDTH = 120  # of a line of text
STORY = re.compile(r"(?<=<!-- table: make report -->\n).*?(?=<!-- end of table -->)", re.DOTALL)


def files(data: Path = HERE / "data") -> dict[str, str]:
    """Every file that is made from the data, by its path below reports/."""
    found, of_peers = implementations.apart(results.load(data))
    if KILL_MATRIX.exists():
        results.read_json(found, KILL_MATRIX, "conformance/kill_matrix.json")
    drawn: dict[str, Figure] = {}
    documents = {
        "results.md": "\n".join(_text(found, drawn)),
        "implementations.md": implementations.document(of_peers),
    }
    return documents | {f"figures/{name}.svg": figure.svg() for name, figure in drawn.items()}


def _text(found: Results, drawn: dict[str, Figure]) -> list[str]:
    """The document's lines; the figures that it shows are put into `drawn`."""
    held_out = found.training["validation"] > 0  # for choosing settings: no results
    choices = dataclasses.replace(found, training=found.training[held_out])
    found = dataclasses.replace(found, training=found.training[~held_out])
    headline = _headline(found)
    deep = dataclasses.replace(found, training=found.training[found.training["depth"] >= DEEP])
    lines = [
        "# Results",
        "",
        "Made by `make report` from the records in [data/](data/), none of it by hand. The paper is Seely & Gould,",
        "Augmented Lagrangian Predictive Coding, arXiv:2605.31022; anchored PC-ALM and the gauge are extensions of",
        "this project. L is the depth, N the width, T the budget in iterations.",
        "",
    ]

    for number, finding in enumerate(findings.findings(headline, deep, found), 1):
        drawn[finding.figure.id] = finding.figure
        lines += [f"## {number}. {escape(finding.title)}", "", *_wrapped(escape(finding.text)), ""]
        lines += [*_image(finding.figure), ""]
        for table in (each for each in finding.tables if each.rows):
            lines += [table.section("markdown", level=3), ""]

    def show(title: str, source: Results, *builds: Callable[[Results], Sequence[Table | Figure]]) -> None:
        shown: list[str] = []
        for item in (each for build in builds for each in build(source)):
            if isinstance(item, Figure):
                drawn[item.id] = item
                shown += [*_image(item), ""]
            elif item.rows:
                shown += [item.section("markdown", level=3), ""]
        if shown:
            lines.extend([f"## {title}", "", *shown])

    def lacking(source: Results) -> list[Table]:
        return [missing.table(source.training, CELL, HEADLINE, SEEDS)]

    def lacking_blocks(source: Results) -> list[Table]:
        return [missing.table(source.training, BLOCKS_CELL, BLOCKS, SEEDS)]

    accuracies = (overview.tables, _without("pairs-summary", pairs.tables), lacking, cost.tables, accuracy.tables)
    show(
        "Accuracy over width × depth, Fashion-MNIST, one epoch",
        headline,
        *(heat_maps.figures, *accuracies, learning_curves.figures),
    )
    show("What a step size that follows the weights cures", found, tracked)
    show("Deeper", deep, pairs.tables, cost.tables, accuracy.tables)
    show("Settings chosen on held-out training samples", choices, overview.tables)
    blocks = networks.of_blocks(found)
    show(
        "Convolutions, attention and plain networks",
        blocks,
        *(networks_in_training.figures, networks.tables, lacking_blocks, cost.tables),
    )
    show("Alignment with BP after training", found, after_training)
    show(
        "Alignment with BP at initialisation",
        found,
        *(cosine_by_budget.figures, _without("alignment-cells", alignment.tables), convergence.tables),
    )
    travel = (space_time.figures, exponents.figures, credit.tables, credit_share.figures)
    show("How credit travels", found, *travel, scattering_curves.figures, scattering.tables)
    show("Conformance", found, _without("conformance-figures", conformance.tables), kill_matrix.tables)
    show("Speed", found, speed.tables)
    return [*lines, provenance(found).section("markdown", level=2), ""]


def _headline(found: Results) -> Results:
    training = found.training
    of_headline = (training["dataset"] == "fashion-mnist") & (training["depth"] < DEEP)
    of_headline &= (training["network"] == "mlp") & (training["loss"] == "squared") & (training["validation"] == 0)
    # Anchored with the step size of the start is superseded: a section of its own shows what tracking cures.
    of_headline &= training["setting"] != "anchored-start"
    return dataclasses.replace(found, training=training[of_headline])


def readme(text: str, data: Path = HERE / "data") -> str:
    """The README's text with the table of today's data: test accuracy by depth.

    Raises:
        ValueError: the text has no place for it.
    """
    found = _headline(results.load(data))
    of_story = (found.training["width"] == STORY_WIDTH) & (found.training["activation"] == "relu")
    of_width = dataclasses.replace(found, training=found.training[of_story])
    (table,) = overview.tables(of_width)
    replaced, count = STORY.subn(lambda _: f"{table.render('markdown')}\n", text)
    if count != 1:
        raise ValueError("README.md must have the comments that say where its table begins and ends, once")
    return replaced


def after_training(found: Results) -> list[Table]:
    """Alignment of the networks that BP has trained, cell by cell; the others are in the overview of a finding."""
    cells = [table for table in budgets.tables(found) if table.id == "trained-cells"]
    return [findings.rows_of(table, lambda row: row["network"] == budgets.WEIGHTS["bp"]) for table in cells]


def tracked(found: Results) -> list[Table]:
    """Anchored PC-ALM whose step size follows the weights, against the same with the step size of the start."""
    setting = found.training["setting"]
    anchored = dataclasses.replace(found, training=found.training[setting.isin(["anchored", "anchored-start"])])
    return [dataclasses.replace(table, id=f"tracked-{table.id}") for table in pairs.tables(anchored)]


def provenance(found: Results) -> Table:
    """How many records come from which commit and machine."""
    sources = pandas.DataFrame([dataclasses.asdict(source) for source in found.sources.values()])
    names = ["file", "commit", "machine", "versions"]
    rows = [
        (*key, len(part), part["finished"].min(), part["finished"].max())
        for key, part in sources.groupby(names, sort=True)
    ]
    columns = (*map(Column, names), Column("records", "d"), Column("first"), Column("last"))
    return Table("provenance", "Where the numbers come from", columns, tuple(rows))


def _image(figure: Figure) -> list[str]:
    return [f"![{escape(figure.title)}](figures/{figure.id}.svg)", "", escape(figure.caption)]


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, break_long_words=False, break_on_hyphens=False)


def _without(name: str, build: Callable[[Results], list[Table]]) -> Callable[[Results], list[Table]]:
    return lambda found: [table for table in build(found) if table.id != name]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m reports.build", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a file would differ")
    check = parser.parse_args().check
    made = {HERE / name: text for name, text in files().items()}
    made[README] = readme(README.read_text(encoding="utf-8"))
    stale = sorted(path for path in (HERE / "figures").glob("*.svg") if path not in made)
    differing = [path.relative_to(HERE.parent) for path in made if not _holds(path, made[path])]
    differing += [path.relative_to(HERE.parent) for path in stale]
    if check:
        print("\n".join(f"differs: {path}" for path in differing) or "no difference")
        return int(bool(differing))
    (HERE / "figures").mkdir(exist_ok=True)
    for path, text in made.items():
        write_text(path, text)
    for path in stale:
        path.unlink()
    print("\n".join(f"changed: {path}" for path in differing) or "no difference")
    return 0


def _holds(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text(encoding="utf-8") == text


if __name__ == "__main__":
    sys.exit(main())
