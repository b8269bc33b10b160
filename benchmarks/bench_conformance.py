"""What the conformance suite costs those whom it tests: programs to compile, problems to solve, time."""

from __future__ import annotations

import functools
import time
from typing import Any

METHODS = {"all": ("bp", "pc", "pcalm"), "bp and pc": ("bp", "pc")}


@functools.cache
def quick(methods: str) -> tuple[Any, float]:
    """What a run of `--quick` asks of the NumPy example, and its CPU seconds in this process."""
    from pcalm_conformance import census  # commits without it have no such benchmarks
    from pcalm_conformance.implementations import numpy_loop

    started = time.process_time()
    counted = census.count(numpy_loop.impl, methods=METHODS[methods])
    return counted, time.process_time() - started


class Quick:
    params = (tuple(METHODS),)
    param_names = ("methods",)
    timeout = 600.0

    def setup(self, methods: str) -> None:
        self.counted, self.seconds = quick(methods)

    def track_signatures(self, methods: str) -> int:
        return len(self.counted.signatures)

    track_signatures.unit = "programs"  # type: ignore[attr-defined]

    def track_solves(self, methods: str) -> int:
        return int(self.counted.solves)

    track_solves.unit = "problems"  # type: ignore[attr-defined]

    def track_cpu_seconds(self, methods: str) -> float:
        return float(self.seconds)

    track_cpu_seconds.unit = "seconds"  # type: ignore[attr-defined]
