"""Import time, in a fresh interpreter: what `import pcalm` adds to torch and numpy."""

from __future__ import annotations


class Import:
    rounds = 1
    repeat = 1
    number = 1
    min_run_count = 1
    warmup_time = 0
    timeout = 60.0

    def timeraw_pcalm(self) -> tuple[str, str]:
        return "import pcalm", "import numpy, torch"
