"""The comparison tables, made from `pcalm.report.results` alone: numbers in, numbers out, none of them edited.

A cell is what a network is trained on and how: implementation, data set, activation, epochs, learning rate, batch size,
engine, dtype, width N and depth L. In a cell, methods and budgets are compared with BP seed by seed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pandas

from pcalm.analysis import arrival_exponent, evenness
from pcalm.report import paper
from pcalm.report.results import Results
from pcalm.report.tables import VERDICT, Column, Table, Value

NAMES = {"bp": "BP", "pc": "PC", "pcalm": "PC-ALM", "anchored": "anchored PC-ALM"}
CONTEXT = ("implementation", "dataset", "activation", "epochs", "lr", "batch_size", "dtype", "device")
CELL = (*CONTEXT, "width", "depth")
BOOTSTRAP_SEEDS = 10  # fewer have no distribution to speak of
RESAMPLES = 10_000
CLOSE = 0.01  # "within one point of BP"
HEADINGS = {"width": "N", "depth": "L", "batch_size": "batch size", "dataset": "data set"}
Row = list[Value]


def name_of(setting: str) -> str:
    return NAMES.get(setting, setting)


def order_of(setting: str) -> tuple[int, str]:
    """BP, PC, PC-ALM, anchored PC-ALM, then the others by name."""
    return (list(NAMES).index(setting) if setting in NAMES else len(NAMES), setting)


def all_tables(results: Results) -> list[Table]:
    """Every table that there are results for, in the order of a report."""
    return [table for build in TABLES for table in build(results) if table.rows]


class _Builder:
    """Collects rows with their sources."""

    def __init__(self, id: str, title: str, columns: Sequence[Column], notes: Sequence[str] = ()) -> None:
        self.id, self.title, self.columns, self.notes = id, title, tuple(columns), tuple(notes)
        self.rows: list[tuple[Value, ...]] = []
        self.sources: list[tuple[str, ...]] = []

    def add(self, row: Sequence[Value], sources: Sequence[str]) -> None:
        self.rows.append(tuple(row))
        self.sources.append(tuple(sources))

    def table(self, *, without_empty: bool = False) -> Table:
        """The table; without the columns in which no row has a value, if so wanted."""
        kept = [
            i for i in range(len(self.columns)) if not without_empty or any(row[i] is not None for row in self.rows)
        ]
        columns = tuple(self.columns[i] for i in kept)
        rows = tuple(tuple(row[i] for i in kept) for row in self.rows)
        return Table(self.id, self.title, columns, rows, tuple(self.sources), self.notes)


class Cells:
    """Training runs by cell: which parts of the context differ become columns, the others a sentence."""

    def __init__(self, training: pandas.DataFrame) -> None:
        self.frame = training.assign(budget=training["budget"].fillna(0.0))
        self.varying = [name for name in CONTEXT if training[name].nunique() > 1]
        fixed = [name for name in CONTEXT if name not in self.varying]
        first = {} if training.empty else training.iloc[0].to_dict()
        self.note = (
            "All runs: " + ", ".join(f"{HEADINGS.get(name, name)} {first[name]}" for name in fixed if first) + "."
        )
        self.columns = [Column(HEADINGS.get(name, name)) for name in (*self.varying, "width", "depth")]

    def __iter__(self) -> Iterator[tuple[Row, pandas.DataFrame]]:
        """The cell's part of a row, and its runs."""
        for _, runs in self.frame.groupby(list(CELL), sort=True):
            first = runs.iloc[0]
            yield [_plain(first[name]) for name in (*self.varying, "width", "depth")], runs

    def contexts(self) -> Iterator[tuple[dict[str, Any], pandas.DataFrame]]:
        """What differs from one context to another, by name, and all runs of that context."""
        for _, runs in self.frame.groupby(list(CONTEXT), sort=True):
            yield {name: _plain(runs.iloc[0][name]) for name in self.varying}, runs

    @property
    def seeds(self) -> list[int]:
        return sorted(self.frame["seed"].unique().tolist())


def methods_of(runs: pandas.DataFrame) -> list[tuple[str, float, pandas.DataFrame]]:
    """(setting, budget T/L or 0 for BP, its runs by seed), in the order of a report."""
    groups = [(str(key[0]), float(key[1]), part) for key, part in runs.groupby(["setting", "budget"])]
    ordered = sorted(groups, key=lambda group: (order_of(group[0]), group[1]))
    return [(setting, budget, part.sort_values("seed")) for setting, budget, part in ordered]


def accuracy(results: Results) -> list[Table]:
    """Every seed's test accuracy, mean and range, paired differences to BP, and the paper's figure where known."""
    cells = Cells(results.training)
    seeds = cells.seeds
    bootstrap = len(seeds) >= BOOTSTRAP_SEEDS
    columns = [
        *cells.columns,
        Column("method"),
        Column("T/L", "g", "inference steps in multiples of the depth"),
        *(Column(f"seed {seed}", ".1f", "test accuracy, %") for seed in seeds),
        Column("mean", ".1f", "test accuracy, %, over the seeds"),
        Column("min", ".1f"),
        Column("max", ".1f"),
        Column("minus BP", "+.1f", "mean over the seeds that both have, points"),
        *([Column("95 % from", "+.1f"), Column("to", "+.1f")] if bootstrap else []),
        Column("cosine to BP", ".3f", "of the weight gradient after training, mean over the seeds"),
        Column("norm ratio", ".2f", "‖gradient‖ / ‖BP's‖ after training, mean over the seeds"),
        Column("diverged", "d", "runs that became non-finite; they have no accuracy"),
        Column("the paper's accuracy", ".1f", f"Seely & Gould, arXiv:2605.31022, seed {paper.SEED}, %"),
        Column("ours minus it", "+.1f", f"seed {paper.SEED}, points"),
        Column("the paper's cosine", ".2f", f"Seely & Gould, arXiv:2605.31022, seed {paper.SEED}"),
        Column("our cosine minus it", "+.2f", f"seed {paper.SEED}"),
    ]
    notes = [f"Test accuracy in %, differences in points. {cells.note}"]
    if bootstrap:
        notes.append(
            f"Intervals: percentile bootstrap of the mean paired difference, {RESAMPLES} resamples of the seeds."
        )
    built = _Builder("accuracy", "Test accuracy by width, depth and method", columns, notes)
    for cell, runs in cells:
        exact = by_seed(runs[runs["setting"] == "bp"])
        for setting, budget, part in methods_of(runs):
            mine = by_seed(part)
            difference = paired(mine, exact) if setting != "bp" else []
            theirs, their_cosine = _paper(part, setting, budget)
            ours, our_cosine = mine.get(paper.SEED), by_seed(part, "gradient_cosine").get(paper.SEED)
            row: Row = [*cell, name_of(setting), budget or None]
            row += [_percent(mine.get(seed)) for seed in seeds]
            row += [_percent(f(list(mine.values()))) if mine else None for f in (_mean, min, max)]
            row += [_percent(_mean(difference)) if difference else None]
            if bootstrap:
                enough = len(difference) >= BOOTSTRAP_SEEDS
                row += [_percent(end) for end in bootstrap_interval(difference)] if enough else [None, None]
            row += [_mean_of(part, "gradient_cosine"), _mean_of(part, "gradient_norm_ratio")]
            row += [int((part["status"] == "diverged").sum())]
            row += [_percent(theirs), _percent(_minus(ours, theirs)), their_cosine, _minus(our_cosine, their_cosine)]
            built.add(row, [*part["source"], *(runs[runs["setting"] == "bp"]["source"] if difference else ())])
    return [built.table(without_empty=True)]


def overview(results: Results) -> list[Table]:
    """The mean accuracy of every method at every budget, one row per cell."""
    cells = Cells(results.training)
    kinds = methods_of(cells.frame)
    columns = [Column(at(setting, budget), ".1f") for setting, budget, _ in kinds]
    notes = [f"Mean test accuracy in % over the seeds that were run. {cells.note}"]
    built = _Builder("overview", "Test accuracy at a glance", [*cells.columns, *columns], notes)
    for cell, runs in cells:
        found = {(setting, budget): _mean_of(part, "test_accuracy") for setting, budget, part in methods_of(runs)}
        built.add([*cell, *(_percent(found.get((s, b))) for s, b, _ in kinds)], list(runs["source"]))
    return [built.table()]


def inference_cost(results: Results) -> list[Table]:
    """Accuracy against what inference costs, and the budget that comes within one point of BP."""
    cells = Cells(results.training)
    cost = _Builder(
        "cost",
        "Test accuracy against inference cost",
        [
            *cells.columns,
            Column("method"),
            Column("T/L", "g"),
            Column("steps", "d", "primal steps per weight update"),
            Column("accuracy", ".1f", "%, mean over the seeds"),
            Column("minus BP", "+.1f", "points, over the seeds that both have"),
            Column("seconds a run", ".3g", "mean over the seeds, on the machine of the record"),
            Column("times BP", ".1f", "seconds, of BP's in the same cell"),
        ],
        [cells.note],
    )
    needed = _Builder(
        "budget",
        "Smallest measured budget within one point of BP",
        [
            *cells.columns,
            Column("method"),
            Column("T/L", "g", "smallest measured budget whose mean accuracy is within one point of BP's"),
            Column("tried up to", "g", "the largest measured budget, T/L"),
            Column(
                "minus BP there", "+.1f", "points, at the smallest such budget, or at the best one if there is none"
            ),
        ],
        [f"Mean paired difference to BP of at most one point. {cells.note}"],
    )
    for cell, runs in cells:
        is_bp = runs["setting"] == "bp"
        exact, seconds, bp_sources = (
            by_seed(runs[is_bp]),
            _mean_of(runs[is_bp], "seconds"),
            list(runs[is_bp]["source"]),
        )
        gaps: dict[str, list[tuple[float, float, list[str]]]] = {}
        for setting, budget, part in methods_of(runs):
            difference = paired(by_seed(part), exact)
            gap = _mean(difference) if difference and setting != "bp" else None
            if gap is not None:
                gaps.setdefault(setting, []).append((budget, gap, list(part["source"])))
            mine = _mean_of(part, "seconds")
            steps = 0 if setting == "bp" else int(part["steps"].iloc[0]) * int(part["inner_steps"].iloc[0])
            row = [*cell, name_of(setting), budget or None, steps, _percent(_mean_of(part, "test_accuracy"))]
            cost.add(
                [*row, _percent(gap), mine, mine / seconds if mine and seconds else None],
                [*part["source"], *bp_sources],
            )
        for setting, tried in gaps.items():
            close = next((each for each in tried if each[1] >= -CLOSE), None)
            _, gap, sources = close or max(tried, key=lambda each: each[1])
            budget_needed = close[0] if close else None
            needed.add([*cell, name_of(setting), budget_needed, tried[-1][0], _percent(gap)], [*sources, *bp_sources])
    return [cost.table(), needed.table()]


def diverged(results: Results) -> list[Table]:
    cells = Cells(results.training)
    columns = [
        *cells.columns,
        Column("method"),
        Column("T/L", "g"),
        Column("seed", "d"),
        Column("update", "d"),
        Column("why"),
    ]
    built = _Builder("diverged", "Runs that diverged", columns, [cells.note])
    for cell, runs in cells:
        for setting, budget, part in methods_of(runs[runs["status"] == "diverged"]):
            for run in part.to_dict("records"):
                row = [name_of(setting), budget or None, run["seed"], run["diverged_step"], run["divergence"]]
                built.add([*cell, *row], [run["source"]])
    return [built.table()]


def missing(
    training: pandas.DataFrame,
    widths: Sequence[int],
    depths: Sequence[int],
    methods: Sequence[tuple[str, float]],
    seeds: Sequence[int],
) -> Table:
    """The runs of a grid that are not there: width, depth, how many of how many, and which."""
    columns = [Column("N", "d"), Column("L", "d"), Column("runs", "d"), Column("missing", "d"), Column("which")]
    note = f"Of seeds {', '.join(map(str, seeds))} and {', '.join(at(*method) for method in methods)}."
    built = _Builder("missing", "Runs that are still to come", columns, [note])
    names = ["width", "depth", "setting", "budget", "seed"]
    there = set(training.assign(budget=training["budget"].fillna(0.0))[names].itertuples(index=False, name=None))
    for depth in depths:
        for width in widths:
            lacking = {
                method: [seed for seed in seeds if (width, depth, *method, seed) not in there] for method in methods
            }
            count = sum(map(len, lacking.values()))
            if count:
                texts = [
                    at(*method) + (f" (seed {', '.join(map(str, which))})" if len(which) < len(seeds) else "")
                    for method, which in lacking.items()
                    if which
                ]
                every = len(methods) * len(seeds)
                built.add([width, depth, every, count, "all" if count == every else "; ".join(texts)], [])
    return built.table()


def alignment(results: Results) -> list[Table]:
    """At initialisation: the worst and best over all cells by budget, and every cell."""
    content = results.measured.get("alignment")
    if content is None:
        return []
    frame = pandas.DataFrame(content["rows"], columns=content["columns"])
    about = (
        f"Weight gradient against BP's at initialisation, on {content['samples']} {content['dataset']} images; N and L "
        f"in {', '.join(map(str, sorted(frame['depth'].unique())))}, {' and '.join(frame['activation'].unique())}, "
        f"seeds {', '.join(map(str, sorted(frame['seed'].unique())))}."
    )
    near = "anchored, near exact has ρ = 0.25, α = 3, κ = 4/L; anchored has ρ = 0.1, α = 3.5, κ = 3/L."
    figures = [Column("cosine, worst", ".3f"), Column("median", ".3f"), Column("best", ".3f")]
    figures += [Column("norm ratio, least", ".2f"), Column("most", ".2f")]
    worst = _Builder(
        "alignment",
        "Alignment with BP at initialisation, over all cells",
        [Column("method"), Column("T/L", "g"), *figures, Column("worst at")],
        [about, near],
    )
    groups = sorted(frame.groupby(["method", "budget"]), key=lambda pair: (order_of(pair[0][0]), pair[0][1]))
    for (setting, budget), part in groups:
        low = part.loc[part["cosine"].idxmin()]
        where = f"{low['activation']} N={low['width']} L={low['depth']} seed {low['seed']}"
        spread = [part["cosine"].min(), part["cosine"].median(), part["cosine"].max()]
        row = [*spread, part["norm_ratio"].min(), part["norm_ratio"].max()]
        worst.add([name_of(setting), float(budget), *map(float, row), where], [content["source"]])
    columns = [Column("activation"), Column("N", "d"), Column("L", "d"), Column("method"), Column("T/L", "g")]
    columns += [Column("cosine, mean", ".3f"), Column("least", ".3f"), Column("norm ratio, mean", ".2f")]
    cells = _Builder("alignment-cells", "Alignment with BP at initialisation, by cell", columns, [about, near])
    for key, part in frame.groupby(["activation", "width", "depth", "method", "budget"], sort=False):
        activation, width, depth, setting, budget = key
        row = [part["cosine"].mean(), part["cosine"].min(), part["norm_ratio"].mean()]
        first: Row = [activation, int(width), int(depth), name_of(setting), float(budget)]
        cells.add([*first, *map(float, row)], [content["source"]])
    return [worst.table(), cells.table()]


def convergence(results: Results) -> list[Table]:
    """The iterations that an alignment takes, by depth, with the fitted exponent."""
    content = results.measured.get("convergence")
    if content is None:
        return []
    frame = pandas.DataFrame(content["rows"], columns=content["columns"])
    depths = sorted(frame["depth"].unique().tolist())
    columns = [Column("cosine", "g"), Column("method"), *(Column(f"L = {depth}", ".0f") for depth in depths)]
    columns += [Column("exponent", ".2f"), Column("factor", ".2f")]
    notes = [
        "First iteration with that cosine to BP's weight gradient, mean over the seeds; at initialisation, "
        f"N = {content['width']}, relu. Fit: iterations = factor · L^exponent.",
        "A dash: not reached in every seed. PC was followed for 4L² iterations up to L = 64, all others for 8L.",
    ]
    built = _Builder("convergence", "Iterations to a given alignment with BP, by depth", columns, notes)
    for target in content["targets"]:
        for setting in sorted(frame["method"].unique(), key=order_of):
            means = reached(frame, setting, target)
            fit = arrival_exponent(list(means), list(means.values())) if len(means) > 1 else (None, None)
            row = [target, name_of(setting), *(means.get(depth) for depth in depths), *fit]
            built.add(row, [content["source"]])
    return [built.table()]


def reached(frame: pandas.DataFrame, setting: str, target: float) -> dict[int, float]:
    """Depth → mean iterations, where every seed reached the cosine."""
    found = frame[(frame["method"] == setting) & (frame["target"] == target)].groupby("depth")["iterations"]
    return {int(depth): float(each.mean()) for depth, each in found if each.notna().all()}


def credit(results: Results) -> list[Table]:
    """How credit travels, and how evenly it is shared."""
    content = results.measured.get("credit")
    if content is None:
        return []
    where = f"{content['dataset']}, N = {content['width']}, {content['activation']}, seed {content['seed']}"
    about = f"{where}, at initialisation."
    columns = [Column("L", "d"), Column("method"), Column("arrived at", "g", "part of ‖δ_l‖ that counts as arrival")]
    columns += [
        Column("layers reached", ".0%", "within 8L iterations"),
        Column("exponent", ".2f"),
        Column("factor", ".2f"),
    ]
    columns += [Column("iterations a layer", ".2f", "to the farthest layer reached")]
    notes = [
        f"{about} Fit over distances ≥ 3 from the top: iterations = factor · distance^exponent. Up to 8L iterations."
    ]
    travel = _Builder("arrival", "How credit travels down the layers", columns, notes)
    for depth, setting, *figures in content["rows"]:
        travel.add([depth, name_of(setting), *figures], [content["source"]])
    columns = [Column("L", "d"), Column("method"), Column("T/L", "g"), Column("min r / max r", ".2g")]
    columns += [Column("std / mean", ".2f")]
    even = _Builder(
        "evenness", "How evenly credit is shared", columns, [f"r_l = ‖G_l‖/‖G_l^BP‖ for l = 1..L−1. {about}"]
    )
    for share in content["shares"]:
        row = [share["depth"], name_of(share["method"]), share["budget"], *evenness(share["share"])]
        even.add(row, [content["source"]])
    return [travel.table(), even.table()]


def scattering(results: Results) -> list[Table]:
    content = results.measured.get("scattering")
    if content is None:
        return []
    budgets = (1.125, 1.25, 1.5, 2, 4)
    at = [content["curve_budgets"].index(budget) for budget in budgets]
    columns = [Column("hidden blocks"), *(Column(f"{budget:g}L", ".3f") for budget in budgets)]
    seeds = len({curve["seed"] for curve in content["curves"]})
    notes = [
        f"Cosine to BP's weight gradient by budget, mean over {seeds} seeds; linear, N = {content['width']},"
        f" L = {content['depth']}, ρ = {content['penalty']}, α = {content['dual_step']}, κ = 0."
    ]
    built = _Builder("scattering", "What scatters the first arrival: the symmetric part of the blocks", columns, notes)
    for kind in dict.fromkeys(curve["blocks"] for curve in content["curves"]):
        curves = [curve["cosine"] for curve in content["curves"] if curve["blocks"] == kind]
        built.add([kind, *(float(np.mean([curve[i] for curve in curves])) for i in at)], [content["source"]])
    return [built.table()]


def conformance(results: Results) -> list[Table]:
    """Requirement × implementation, and every figure with its bound."""
    found = [(report, record) for report in results.conformance for record in report["records"]]
    names = list(dict.fromkeys(record["implementation"] for _, record in found))
    built = _Builder(
        "conformance",
        "Conformance by requirement and implementation",
        [Column("requirement"), Column("chapter"), Column("claim"), *(Column(name, VERDICT) for name in names)],
        ["unsupported: the implementation does not offer what the requirement needs, or it does not apply there."],
    )
    detail = _Builder(
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
        verdicts = {record["implementation"]: record["verdict"] for _, record in here}
        first = here[0][1]
        row = [requirement, first["chapter"], first["claim"], *(verdicts.get(name) for name in names)]
        built.add(row, list(dict.fromkeys(report["source"] for report, _ in here)))
        for report, record in here:
            figures = [record[name] for name in ("what", "figure", "relation", "bound", "verdict", "cases", "seconds")]
            explained = ", ".join(record["follows_from"])
            detail.add([requirement, record["implementation"], *figures, explained], [report["source"]])
    return [built.table(), detail.table()]


def kill_matrix(results: Results) -> list[Table]:
    """Which requirements reject which known mistake, and how many each requirement rejects."""
    columns = [Column("wrong implementation"), Column("mistake"), Column("rejected by", "d"), Column("which")]
    built = _Builder("mutants", "Wrong implementations, and the requirements that reject them", columns)
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
    strength = _Builder("strength", "How many wrong implementations each requirement rejects", columns)
    for requirement, count in counts.items():
        strength.add([requirement, count], sources)
    return [built.table(), strength.table()]


def speed(results: Results) -> list[Table]:
    """Milliseconds per weight gradient, by cell and engine."""
    times = [record for record in results.speed if record["cell"]["kind"] == "time"]
    times.sort(key=lambda r: [r["cell"][name] for name in ("device", "threads", "width", "depth")])
    names = list(dict.fromkeys(name for record in times for name in record["seconds"]))
    columns = [Column("device"), Column("threads", "d"), Column("N", "d"), Column("L", "d")]
    columns += [Column(name, ".3g") for name in names]
    notes = ["Best of repeated runs; a dash: not measured there."]
    built = _Builder("speed", "Milliseconds per weight gradient, by engine and cell", columns, notes)
    for record in times:
        cell = record["cell"]
        row = [1e3 * record["seconds"][name] if name in record["seconds"] else None for name in names]
        built.add([cell["device"], cell["threads"], cell["width"], cell["depth"], *row], [record["source"]])
    return [built.table()]


TABLES: tuple[Callable[[Results], list[Table]], ...] = (
    *(overview, accuracy, inference_cost, diverged, alignment, convergence, credit, scattering),
    *(conformance, kill_matrix, speed),
)


def paired(mine: dict[int, float], theirs: dict[int, float]) -> list[float]:
    """mine − theirs for every seed that both have."""
    return [value - theirs[seed] for seed, value in mine.items() if seed in theirs]


def bootstrap_interval(values: Sequence[float]) -> tuple[float, float]:
    """95 % percentile bootstrap interval of the mean; the resampling is seeded, so that a report can be repeated."""
    drawn = np.random.default_rng(0).choice(np.asarray(values), (RESAMPLES, len(values)))
    low, high = np.percentile(drawn.mean(axis=1), (2.5, 97.5))
    return float(low), float(high)


def by_seed(runs: pandas.DataFrame, name: str = "test_accuracy") -> dict[int, float]:
    """Seed → figure, of the runs that have one."""
    done = runs[runs[name].notna()]
    return dict(zip(done["seed"].astype(int), done[name].astype(float), strict=True))


def _minus(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a - b


def _paper(runs: pandas.DataFrame, setting: str, budget: float) -> tuple[float | None, float | None]:
    """The authors' test accuracy and cosine for this cell, method and budget, where they are known."""
    first = runs.iloc[0]
    same = all(first[name] == value for name, value in paper.CELL.items())
    return paper.FIGURES.get(setting, (None, None)) if same and budget in (0.0, paper.BUDGET) else (None, None)


def at(setting: str, budget: float) -> str:
    return f"{name_of(setting)}, {budget:g}L" if budget else name_of(setting)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _mean_of(runs: pandas.DataFrame, name: str) -> float | None:
    values = runs[name].dropna().astype(float).tolist()
    return _mean(values) if values else None


def _percent(value: float | None) -> float | None:
    return None if value is None else 100 * value


def _plain(value: Any) -> Value:
    """A NumPy number as Python's own."""
    plain: Value = value.item() if isinstance(value, np.generic) else value
    return plain
