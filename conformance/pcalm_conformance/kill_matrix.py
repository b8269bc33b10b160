"""Which requirement rejects which mutant: python -m pcalm_conformance.kill_matrix

Holds every requirement, alone and at the quick level, against a fresh build of every mutant, prints the table and the
suite's score, and writes conformance/kill_matrix.json, from which failure messages name the known mistakes.
Requirements without quick cases (training) are held at the default level against the mutants made for them; mutants
that survive the quick level are tried at the default level.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import signal
import sys
import time
import types
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import hypothesis
from tabulate import tabulate
from tqdm import tqdm

from pcalm_conformance.checking import DEFAULT, QUICK, TESTS, Check, Nonconformity, NotRun, Unsupported, load_tests
from pcalm_conformance.files import write_text
from pcalm_conformance.guest import InProcess
from pcalm_conformance.mutants import GROUPS, MUTANTS, WITHOUT_MUTANT
from pcalm_conformance.requirements import CHAPTERS, REQUIREMENTS

OUTPUT = Path(__file__).with_name("kill_matrix.json")
TIME_LIMIT = 120  # seconds for one requirement on one mutant; a mutant that is still not rejected counts as surviving


def start_worker() -> None:
    """One process: whether a property test rejects a mutant is what counts, so its example need not be made small."""
    load_tests()
    hypothesis.settings.register_profile("mutants", phases=[hypothesis.Phase.generate])
    hypothesis.settings.load_profile("mutants")


def level_of(requirement: str) -> str:
    """The quickest level at which it has cases."""
    return QUICK if TESTS[requirement].cases(QUICK) else DEFAULT


class TooLong(Exception):
    """The time limit has passed."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    def stop(number: int, frame: types.FrameType | None) -> None:
        raise TooLong

    previous = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def rejects(requirement: str, mutant: str, level: str | None = None) -> Nonconformity | None:
    """How a requirement rejects a fresh build of a mutant, at its first failing case; None where it does not."""
    test = TESTS[requirement]
    check = Check(InProcess(MUTANTS[mutant].build()), test.requirement, level or level_of(requirement))
    try:
        # Mutants overflow, and say so.
        with warnings.catch_warnings(action="ignore"):
            test.run(check)
    except Nonconformity as error:
        return error
    except (Unsupported, NotRun):
        pass
    return None


@dataclass
class Row:
    """One mutant: the requirements that reject it, those that ran out of time or broke down, and how long all took."""

    mutant: str
    level: str
    killed_by: list[str] = field(default_factory=list)
    too_long: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    seconds: float = 0.0


def row(task: tuple[str, str]) -> Row:
    """One mutant against every requirement at a level."""
    mutant, level = task
    found, started = Row(mutant, level), time.perf_counter()
    for requirement in REQUIREMENTS:
        training = level_of(requirement) != QUICK
        if training and requirement not in MUTANTS[mutant].killed_by:
            continue
        try:
            with time_limit(TIME_LIMIT):
                if rejects(requirement, mutant, DEFAULT if training else level):
                    found.killed_by.append(requirement)
        except TooLong:
            found.too_long.append(requirement)
        except Exception as error:  # the requirement's own test broke down, which is a defect of the suite
            found.broken.append(f"{requirement} ({type(error).__name__}: {error})")
    found.seconds = time.perf_counter() - started
    return found


def rows(tasks: list[tuple[str, str]], jobs: int) -> dict[str, Row]:
    if not tasks:
        return {}
    context = multiprocessing.get_context("spawn")
    with context.Pool(jobs, initializer=start_worker) as pool:
        done = tqdm(pool.imap_unordered(row, tasks), total=len(tasks), unit="mutant", mininterval=5)
        return {one.mutant: one for one in done}


def table(found: Mapping[str, Row]) -> str:
    """Mutant × chapter, with the numbers of the requirements that reject it; * for those that bite in corners only."""
    lines = []
    for group, mutants in GROUPS.items():
        for mutant in mutants:
            if mutant.id not in found:
                continue
            killed = [identity.split("-") for identity in found[mutant.id].killed_by]
            by_chapter = [" ".join(number for prefix, number in killed if prefix == chapter) for chapter in CHAPTERS]
            lines.append([group, mutant.id + "*" * mutant.corner, *by_chapter, len(killed)])
            group = ""
    return tabulate(
        lines, ["", "mutant", *CHAPTERS, "all"], disable_numparse=True, maxcolwidths=[None, None, *[16] * 9]
    )


def requirement_table(found: Mapping[str, Row]) -> str:
    """Requirement × how many mutants it rejects, and which of them nothing else does."""
    lines = []
    for requirement in REQUIREMENTS:
        killed = [one for one in found.values() if requirement in one.killed_by]
        alone = [one.mutant for one in killed if one.killed_by == [requirement]]
        note = ", ".join(alone) or ("" if killed else WITHOUT_MUTANT.get(requirement, "REJECTS NONE"))
        lines.append([requirement, len(killed), note])
    return tabulate(lines, ["requirement", "rejects", "nothing else rejects"], maxcolwidths=[None, None, 80])


def share(found: Mapping[str, Row], requirements: set[str], corners: bool = False) -> str:
    """How many mutants these requirements reject."""
    chosen = [one for one in found.values() if MUTANTS[one.mutant].corner or not corners]
    killed = sum(bool(requirements & set(one.killed_by)) for one in chosen)
    return f"{killed} of {len(chosen)} ({100 * killed / max(len(chosen), 1):.1f} %)"


def scores(quick: Mapping[str, Row], all_levels: Mapping[str, Row]) -> str:
    whole = set(REQUIREMENTS)
    claims = {identity for identity, requirement in REQUIREMENTS.items() if not requirement.oracle}
    lines = [
        ["rejected by the suite", share(all_levels, whole), share(all_levels, whole, corners=True)],
        ["rejected by --quick", share(quick, whole), share(quick, whole, corners=True)],
        ["rejected by the claims alone", share(all_levels, claims), share(all_levels, claims, corners=True)],
    ]
    return tabulate(lines, ["", "all mutants", "those that bite in corners only"])


def as_json(found: Mapping[str, Row]) -> str:
    """One line per requirement and per mutant, so that a change shows."""
    kills = {one: sum(one in row.killed_by for row in found.values()) for one in REQUIREMENTS}
    mutants = {
        identity: {
            "mistake": MUTANTS[identity].mistake,
            "level": found[identity].level,
            "killed_by": found[identity].killed_by,
        }
        for identity in MUTANTS
    }

    def lines(entries: Mapping[str, object]) -> str:
        return ",\n".join(
            f"  {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in entries.items()
        )

    return f'{{"level": "{QUICK}",\n "requirements": {{\n{lines(kills)}}},\n "mutants": {{\n{lines(mutants)}}}}}\n'


def earlier(path: Path) -> dict[str, Row]:
    """The rows of a matrix that was written before."""
    if not path.exists():
        return {}
    mutants = json.loads(path.read_text(encoding="utf-8"))["mutants"]
    return {mutant: Row(mutant, one["level"], one["killed_by"]) for mutant, one in mutants.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: one per core)")
    parser.add_argument(
        "--mutant",
        action="append",
        choices=MUTANTS,
        metavar="ID",
        help="only this one, beside what the file says of others",
    )
    parser.add_argument("--output", type=Path, default=OUTPUT, help="the file that holds the matrix")
    options = parser.parse_args()
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(variable, "1")  # one process per core already
    load_tests()
    started = time.perf_counter()
    quick = rows([(mutant, QUICK) for mutant in options.mutant or MUTANTS], options.jobs)
    quick = {mutant: quick[mutant] for mutant in options.mutant or MUTANTS}
    late = rows([(one.mutant, DEFAULT) for one in quick.values() if not one.killed_by], options.jobs)
    found = {**quick, **{mutant: one for mutant, one in late.items() if one.killed_by}}
    print(table(found), requirement_table(found), scores(quick, found), sep="\n\n")
    surviving = [mutant for mutant, one in found.items() if not one.killed_by]
    unmet = [f"{m}: {r}" for m, one in found.items() for r in MUTANTS[m].killed_by if r not in one.killed_by]
    slow = [f"{mutant}: {', '.join(one.too_long)}" for mutant, one in found.items() if one.too_long]
    broken = [f"{mutant}: {', '.join(one.broken)}" for mutant, one in found.items() if one.broken]
    notes = {"surviving": surviving, "not rejected as declared": unmet, "out of time": slow, "broken down": broken}
    for what, names in notes.items():
        print(f"\n{what}: {'; '.join(names) or 'none'}")
    print(f"\n{time.perf_counter() - started:.0f} s")
    whole = {**(earlier(options.output) if options.mutant else {}), **found}
    if missing := [mutant for mutant in MUTANTS if mutant not in whole]:
        print(f"not written, since nothing is known of {', '.join(missing)}: run without --mutant", file=sys.stderr)
        return 1
    write_text(options.output, as_json({mutant: whole[mutant] for mutant in MUTANTS}))
    return 1 if surviving or unmet or broken else 0


if __name__ == "__main__":
    sys.exit(main())
