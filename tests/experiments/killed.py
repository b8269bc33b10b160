"""Runs pieces of work in children of this process, each of which kills itself at a moment that is counted, not timed.

    python -m tests.experiments.killed train SETTINGS DIRECTORY KILLS
    python -m tests.experiments.killed grid SETTINGS DIRECTORY KILLS ADDRESS

First the work is done without a kill, in DIRECTORY/whole, and the lines of pcalm's own code are counted that it goes
through. Then it is killed (SIGKILL) in DIRECTORY/0, 1, ... at KILLS lines that are spread evenly over the whole of it.
"""

from __future__ import annotations

import ast
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from pcalm.experiments import rundir, scheduling, training
from pcalm.experiments.config import TrainingConfig
from pcalm.experiments.grid import Grid

Work = Callable[[Path], object]


def lines_of(work: Work, directory: Path, files: tuple[str, ...], last: int | None) -> int:
    """Does the work in a child, up to the given line of the files; how many it went through if it was not killed."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        count = 0

        def trace(frame: FrameType, event: str, argument: Any) -> Any:
            nonlocal count
            if not frame.f_code.co_filename.endswith(files):
                return None
            count += 1
            if count == last:
                os.kill(os.getpid(), signal.SIGKILL)
            return trace

        if files:
            sys.settrace(trace)
        work(directory)
        sys.settrace(None)
        os.write(writing, str(count).encode())
        os._exit(0)
    os.close(writing)
    _, status = os.waitpid(child, 0)
    with os.fdopen(reading) as pipe:
        counted = pipe.read()
    ended = os.waitstatus_to_exitcode(status)
    assert ended == (0 if last is None else -signal.SIGKILL), f"the child of {directory} ended with status {ended}"
    return int(counted or 0)


def train(settings: dict[str, Any]) -> Work:
    """A run that saves after every update, and notes each update that it begins in DIRECTORY.updates."""
    training.Training([TrainingConfig(**settings)]).update()  # what is imported by then no child has to import
    training.SAVE_EVERY_S = 0.0
    honest = training.Training.update

    def work(directory: Path) -> object:
        def update(self: training.Training) -> None:
            with directory.with_suffix(".updates").open("a") as file:
                file.write(f"{self.done}\n")
            honest(self)

        training.Training.update = update  # type: ignore[method-assign]
        return rundir.train_to(TrainingConfig(**settings), directory)

    return work


def grid(settings: dict[str, Any], address: str) -> Work:
    import distributed  # noqa: F401  here, once, and not in every child

    chosen = Grid(**settings)
    return lambda directory: scheduling.compute(chosen, directory, scheduler=address)


# The lines of the grid's own loop depend on the clock, those of its writing do not.
FILES = {"train": ("rundir.py", "training.py", "storage.py", "temporary.py"), "grid": ("storage.py", "temporary.py")}

if __name__ == "__main__":
    kind, settings, place, kills, *address = sys.argv[1:]
    work = train(ast.literal_eval(settings)) if kind == "train" else grid(ast.literal_eval(settings), *address)
    lines = lines_of(work, Path(place, "whole"), FILES[kind], None)
    for number in range(int(kills)):
        moment = 1 + int(lines * (number + 0.5) / int(kills))
        lines_of(work, Path(place, str(number)), FILES[kind], moment)
        if kind == "train":
            lines_of(work, Path(place, str(number)), (), None)
