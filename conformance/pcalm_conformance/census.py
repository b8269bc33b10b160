"""What the suite asks of an implementation, counted: python -m pcalm_conformance.census [MODULE:NAME]

A compiling implementation compiles one program per signature: shapes, activation, precision, method, and whether an
initial state is given. Everything else can be an argument of the program.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from tabulate import tabulate

from pcalm_conformance.checking import LEVELS, QUICK, TESTS, Answers, Check, NotRun, Unsupported, load_tests
from pcalm_conformance.guest import CannotLoad, InProcess, load
from pcalm_conformance.protocol import Problem
from pcalm_conformance.requirements import METHODS

EXAMPLE = "pcalm_conformance.implementations.numpy_loop:impl"
Signature = tuple[Any, ...]


def signature(problem: Problem) -> Signature:
    """What a program is compiled for."""
    shapes = tuple(array.shape for array in (*problem.weights, problem.inputs, problem.targets))
    return shapes, problem.activation, problem.dtype, problem.method, problem.initial is not None


def words(problem: Problem) -> set[str]:
    """What a problem needs, in the words of `requirements.NEEDS`."""
    found = {problem.method, problem.activation, problem.dtype}
    if problem.method != "bp" and problem.initial is not None:
        found.add("initial")
    if problem.method != "bp" and problem.per_layer:
        found.add("settings per layer")
    if problem.method == "pcalm":
        found.add(f"credit {problem.credit}")
        used = {"anchor": bool(np.any(problem.anchor)), "inner steps": problem.inner_steps > 1}
        found |= {word for word, is_used in used.items() if is_used}
    return found


@dataclass
class Counted:
    """An implementation that counts, limited to some methods.

    Attributes:
        signatures, solves: of all calls of solve().
        words: what they needed.
        seconds: CPU time within them.
    """

    implementation: Any
    methods: Collection[str] = METHODS
    signatures: set[Signature] = field(default_factory=set)
    solves: int = 0
    words: set[str] = field(default_factory=set)
    seconds: float = 0.0
    name: str = "counted"

    def supports(self, problem: Problem) -> bool:
        asked = getattr(self.implementation, "supports", None)
        return problem.method in self.methods and (asked is None or bool(asked(problem)))

    def solve(self, problem: Problem) -> Any:
        self.signatures.add(signature(problem))
        self.words |= words(problem)
        self.solves += 1
        started = time.process_time()
        found = self.implementation.solve(problem)
        self.seconds += time.process_time() - started
        return found


def count(implementation: Any, level: str = QUICK, methods: Collection[str] = METHODS) -> Counted:
    """What a whole run asks, in this process.

    Raises:
        Nonconformity: a requirement fails.
    """
    load_tests()
    counted, answers = Counted(implementation, methods), Answers()
    for test in TESTS.values():
        try:
            test.run(Check(InProcess(counted), test.requirement, level, answers=answers))
        except (Unsupported, NotRun):
            continue
    return counted


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("implementation", nargs="?", default=EXAMPLE, metavar="MODULE:NAME")
    parser.add_argument("--level", choices=LEVELS, default=QUICK)
    options = parser.parse_args(arguments)
    module, _, name = options.implementation.partition(":")
    rows = []
    try:
        for methods in (METHODS, ("bp", "pc")):
            implementation = load(module, [name])[name]
            started = time.process_time()
            found = count(implementation, options.level, methods)
            seconds = [f"{time.process_time() - started:.1f}", f"{found.seconds:.1f}"]
            rows.append([" ".join(methods), len(found.signatures), found.solves, *seconds])
    except CannotLoad as error:
        parser.error(str(error))
    print(tabulate(rows, ["methods", "signatures", "solves", "CPU seconds", "of them in solve()"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
