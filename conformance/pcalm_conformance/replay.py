"""One case of one requirement on one implementation, figure by figure: what a failure of the suite gives to paste.

    python -m pcalm_conformance.replay my_package.adapter:impl DYN-9 depth=3 width=2 steps=1 credit=after start=random

The settings are those of `Recipe`. Prints every figure with its bound up to the one that fails, and how far each layer
of the problem's solution is from the oracle's. Exit status: 0 when the case holds, 1 when it fails.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import shlex
import subprocess
import sys
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from pcalm_conformance import oracle
from pcalm_conformance.checking import (
    TESTS,
    BrokenImplementation,
    Check,
    Nonconformity,
    Subject,
    Unsupported,
    load_tests,
)
from pcalm_conformance.guest import CannotLoad, InProcess, load
from pcalm_conformance.isolation import Isolated, Workplace
from pcalm_conformance.problems import Recipe
from pcalm_conformance.protocol import Solution
from pcalm_conformance.requirements import REQUIREMENTS

PARENT = Path(__file__).parents[1]


def command(spec: str, requirement: str, settings: Sequence[str], workplace: Workplace | None = None) -> str:
    """The line for a shell that replays the case of those settings."""
    options = []
    if workplace is not None and workplace.device != "cpu":
        options += ["--device", workplace.device]
    if workplace is not None and workplace.python != sys.executable:
        options += ["--python", workplace.python]
    line = shlex.join([sys.executable, "-m", "pcalm_conformance.replay", *options, spec, requirement, *settings])
    return line if importable() else f"PYTHONPATH={shlex.quote(str(PARENT))} {line}"


@functools.cache
def importable() -> bool:
    """Whether a fresh interpreter finds this very package: not where a checkout is used that is not installed."""
    script = "from importlib.util import find_spec as find; print(getattr(find('pcalm_conformance'), 'origin', ''))"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False).stdout.strip()
    return bool(found) and Path(found).parent == Path(__file__).parent


def distances(found: Solution, right: Solution) -> list[str]:
    """The greatest difference of every layer, one line for each part of the solution."""
    lines = []
    for part in ("activities", "multipliers", "gradients"):
        pairs = zip(getattr(found, part), getattr(right, part), strict=True)
        apart = [f"{np.abs(np.asarray(mine, np.float64) - truth).max():.3g}" for mine, truth in pairs]
        lines.append(f"  {part}, l = 1..{len(apart)}: {' '.join(apart)}")
    return lines


def replay(check: Check, case: Recipe) -> Nonconformity | None:
    """Holds the case, and prints what comes of it; its failure, None where it holds."""
    print(f"{check.requirement.id}: {check.requirement.claim}")
    failure = None
    try:
        TESTS[check.requirement.id].function(check, case)
    except Nonconformity as error:
        failure = error
    for measurement in check.measurements:
        print(f"  {measurement}")
    if failure is None:
        print("it holds")
        return None
    if isinstance(failure, BrokenImplementation):
        print(failure)
        if failure.__cause__ is not None:
            traceback.print_exception(failure.__cause__, file=sys.stdout)
        return failure
    recipe = failure.recipe or case
    print(f"the last of these fails. {recipe!r}.problem() (from pcalm_conformance.problems import Recipe)")
    print("and how far its solution is from that of pcalm_conformance.oracle.solve:")
    print(*distances(check.solve(recipe, again=True), oracle.solve(recipe.problem())), sep="\n")
    return failure


@contextlib.contextmanager
def subject_of(module: str, name: str, device: str, python: str | None) -> Iterator[Subject]:
    """The implementation: in this process, where a debugger can look at it, unless it needs another interpreter."""
    if python is None:
        yield InProcess(load(module, [name], device)[name])
        return
    isolated = Isolated(module, name, name, Workplace(os.getcwd(), device, python))
    try:
        yield isolated
    finally:
        isolated.stop()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", help="passed to an implementation that has a field `device`")
    parser.add_argument("--python", help="the interpreter that it runs in (default: this one, and in this process)")
    parser.add_argument("implementation", metavar="MODULE:NAME")
    parser.add_argument("requirement", choices=REQUIREMENTS, metavar="ID")
    parser.add_argument("settings", nargs="*", metavar="NAME=VALUE")
    options = parser.parse_args(arguments)
    module, _, name = options.implementation.partition(":")
    load_tests()
    try:
        case = Recipe.of(options.settings)
        with subject_of(module, name, options.device, options.python) as subject:
            check = Check(subject, REQUIREMENTS[options.requirement], dtype=case.dtype or "float64")
            return 1 if replay(check, case) else 0
    except (CannotLoad, ValueError) as error:
        parser.error(str(error))
    except Unsupported:
        print("unsupported")
        return 0


if __name__ == "__main__":
    sys.exit(main())
