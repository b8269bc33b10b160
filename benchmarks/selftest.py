"""Does the gate tell the truth? Plants each case in a scratch clone, runs the gate on it, and checks the verdict.

    python -m benchmarks.selftest [CASE ...]

The clone and all samples are in a temporary folder; only asv's environment and the cpu engine's builds are shared, as
they are between any two runs. Ends with 0 only if every verdict was the right one.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tabulate import tabulate

from benchmarks.compare import ROOT
from benchmarks.repository import git
from benchmarks.verdict import Outcome
from benchmarks.workplace import run, workplace

UNCHANGED_RUNS = 10
AUTHOR = ("-c", "user.name=selftest", "-c", "user.email=selftest@localhost")


@dataclass(frozen=True)
class Case:
    """A change, and what the gate has to say about it.

    Args:
        plant: makes the change in the working tree of the clone.
        outcome: the verdict's.
        says: a regular expression to be found in the summary.
        bench: the benchmarks to measure.
    """

    plant: Callable[[Path], None]
    outcome: Outcome
    says: str
    bench: str = ""


def substitute(file: str, pattern: str, replacement: str) -> Callable[[Path], None]:
    """A change that replaces every match of the pattern in a file, of which there has to be one."""

    def plant(tree: Path) -> None:
        text, count = re.subn(pattern, replacement, (tree / file).read_text(), flags=re.MULTILINE)
        if count == 0:
            raise SystemExit(f"{file} no longer has anything like {pattern!r}: the case has to be planted elsewhere")
        (tree / file).write_text(text)

    return plant


def add_benchmark(tree: Path) -> None:
    (tree / "benchmarks" / "bench_new.py").write_text("def time_new() -> None:\n    sum(range(1000))\n")


def nothing(tree: Path) -> None:
    (tree / "unchanged.txt").write_text("a file that is not code\n")


CASES = {
    # Without blocking in registers every weight is loaded once per vector.
    "slowed sweep": Case(
        substitute("pcalm/engines/sweep.cpp", r"ROWS = \d+;", "ROWS = 1;"),
        Outcome.REGRESSION,
        r"\| worse \| `bench_gradient\.Time\.time_gradients\(method=pcalm, engine=cpu",
        "bench_gradient.Time",
    ),
    "changed sign": Case(
        substitute("pcalm/dynamics.py", r"return above \+ net\.scales", "return above - net.scales"),
        Outcome.REGRESSION,
        r"\| worse \| `bench_gradient\.Accuracy\.track_cosine\(method=pcalm, engine=reference",
        "bench_gradient.Accuracy",
    ),
    "benchmark that raises": Case(
        substitute("benchmarks/bench_stepsize.py", r"pcalm\.step_size\(", "pcalm.no_such_name("),
        Outcome.FAILED,
        "1 failed.*(.|\n)*no_such_name",
        "bench_stepsize",
    ),
    "benchmark that disappears": Case(
        lambda tree: (tree / "benchmarks" / "bench_stepsize.py").unlink(),
        Outcome.FAILED,
        r"\| disappeared \| `bench_stepsize",
        "bench_stepsize|bench_data",
    ),
    "new benchmark": Case(
        add_benchmark, Outcome.NO_REGRESSION, r"\| new \| `bench_new\.time_new", "bench_stepsize|bench_new"
    ),
    "code that cannot be imported": Case(
        substitute("pcalm/analysis.py", r"^import torch$", "import torch, no_such_module"),
        Outcome.FAILED,
        "benchmarks of head cannot be imported: ModuleNotFoundError: No module named 'no_such_module'",
    ),
    "environment that cannot be built": Case(
        substitute("asv.conf.json", r'"torch": \["[^"]*"\]', '"torch": ["0.0.0"]'),
        Outcome.NOTHING,
        "nothing was measured: the environment cannot be built",
    ),
    "interpreter that is not there": Case(
        substitute("asv.conf.json", r'"matrix"', '"pythons": ["3.99"],\n    "matrix"'),
        Outcome.NOTHING,
        "nothing was measured: no environment of asv.conf.json is available",
    ),
    "unchanged": Case(nothing, Outcome.NO_REGRESSION, "no regression"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.selftest", description="Plants each case in a scratch clone and checks the verdict."
    )
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of: {', '.join(CASES)} (default: all)")
    chosen = parser.parse_args(arguments).cases or list(CASES)
    unknown = [name for name in chosen if name not in CASES]
    if unknown:
        parser.error(f"no case {unknown[0]!r}; choose from {', '.join(CASES)}")
    rows, right = [], True
    with workplace() as place:
        clone = place / "clone"
        git(ROOT, "clone", "--quiet", str(ROOT), str(clone))
        base = git(clone, "rev-parse", "HEAD")
        for name in chosen:
            case = CASES[name]
            git(clone, "checkout", "--quiet", "--detach", base)
            case.plant(clone)
            git(clone, "add", "--all")
            git(clone, *AUTHOR, "commit", "--quiet", "--message", name)
            for number in range(1, 1 + (UNCHANGED_RUNS if name == "unchanged" else 1)):
                start = time.perf_counter()
                done = gate(clone, base, case.bench, place / "results")
                passed = done.returncode == case.outcome.value and re.search(case.says, done.stdout) is not None
                right &= passed
                label = f"{name}, run {number}" if name == "unchanged" else name
                took = f"{time.perf_counter() - start:.0f} s"
                rows.append((label, case.outcome.value, done.returncode, "right" if passed else "WRONG", took))
                print(f"{label}: {rows[-1][3]} ({took})", flush=True)
                if not passed:
                    print(done.stdout + done.stderr, flush=True)
    print(tabulate(rows, headers=["planted", "expected", "exit status", "verdict", "took"]))
    return 0 if right else 1


def gate(clone: Path, base: str, bench: str, results: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.compare", base, "--repository", str(clone), "--results", str(results)]
    return run([*command, "--bench", bench], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


if __name__ == "__main__":
    sys.exit(main())
