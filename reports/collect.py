"""Takes the results of a directory of runs into the data that the project ships.

    python -m reports.collect RUNS [--output reports/data]

RUNS is a directory that `pcalm grid` wrote. Its runs join those in OUTPUT/training.csv, and the learning curves of the
cells in CURVES join those in OUTPUT/curves.csv, as do the ends of the epochs of all networks but the residual MLP; a
run that is there already is replaced. Numbers stay as they are.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas

from pcalm.experiments import records
from pcalm.experiments.storage import replacing
from pcalm.report import results

OUTPUT = Path(__file__).with_name("data")
TRAINING, CURVES_FILE = "training.csv", results.CURVES
# (data set, N, L) of the cells whose learning curves are kept.
CURVES = (("fashion-mnist", 32, 32),)


def collect(runs: Path, output: Path = OUTPUT) -> int:
    """The number of runs that were taken over.

    Raises:
        ValueError: runs is not a directory.
    """
    found = records.load_table(runs)
    output.mkdir(parents=True, exist_ok=True)
    training, curves = output / TRAINING, output / CURVES_FILE
    joined = _joined(records.load_table(training) if training.exists() else None, found)
    records.export(joined.sort_values("key", ignore_index=True), training)
    blocks = set(found.loc[found["network"] != "mlp", "key"])
    kept = {run.key for run in found.itertuples() if (run.dataset, run.width, run.depth) in CURVES} - blocks
    if kept | blocks:
        taken = records.load_curves(runs, kept | blocks)
        taken = taken[taken["key"].isin(kept) | taken["test_accuracy"].notna()]
        with_curves = _joined(pandas.read_csv(curves) if curves.exists() else None, taken)
        with replacing(curves) as file:
            with_curves.sort_values(["key", "step"], ignore_index=True).to_csv(file, index=False)
    return len(found)


def _joined(old: pandas.DataFrame | None, new: pandas.DataFrame) -> pandas.DataFrame:
    if old is None:
        return new
    return pandas.concat([old[~old["key"].isin(set(new["key"]))], new], ignore_index=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m reports.collect", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("runs", type=Path, metavar="RUNS", help="directory that pcalm grid wrote")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="directory of the shipped data")
    arguments = parser.parse_args()
    try:
        print(f"{collect(arguments.runs, arguments.output)} runs are in {arguments.output / TRAINING}")
    except ValueError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
