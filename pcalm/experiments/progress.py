"""What a training run shows while it runs, and how Ctrl-C reaches it."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pcalm.experiments.training import Training


@contextlib.contextmanager
def deferred_interrupt() -> Iterator[list[int]]:
    """Turns the first Ctrl-C into an entry of the list that it gives; the second one interrupts at once, as ever.

    The list stays empty where Ctrl-C is not ours to take: outside Python's main thread, which alone receives signals;
    where it is ignored, as in a shell's background jobs; and where a program that embeds Python handles it in C, since
    that could not be given back.
    """
    received: list[int] = []

    def note(number: int, frame: Any) -> None:
        received.append(number)
        signal.signal(signal.SIGINT, before)

    before = signal.getsignal(signal.SIGINT)
    taken = before is not None and before is not signal.SIG_IGN
    if taken:
        try:
            signal.signal(signal.SIGINT, note)
        except ValueError:  # not the main thread, or not of the main interpreter
            taken = False
    try:
        yield received
    finally:
        if taken:
            signal.signal(signal.SIGINT, before)


class Display:
    """The progress bar, and a line at the start and after each epoch, on the standard error stream.

    The run goes on where that is closed, or is a pipe that nobody reads any more.
    """

    def __init__(self, training: Training, wanted: bool) -> None:
        self.training, self.bar = training, None
        self.rows = 0
        if wanted and sys.stderr is not None:
            from tqdm import tqdm  # not at the top: training needs torch and numpy only

            samples = training.config.batch_size * len(training.configs)
            self.samples, start = samples, training.done * samples
            self.bar = tqdm(
                total=training.updates * samples,
                initial=start,
                unit=" samples",
                unit_scale=True,
                disable=None,
                dynamic_ncols=True,
            )
            with contextlib.suppress(OSError):
                self._start()

    def _say(self, text: str) -> None:
        assert self.bar is not None
        self.bar.write(text, file=sys.stderr)

    def _start(self) -> None:
        training = self.training
        if training.tracker.step_sizes:
            sizes = ", ".join(f"{size:.4f}" for size in training.tracker.step_sizes)
            margins = ", ".join(f"{margin:.3f}" for margin in training.tracker.margins_at_start)
            self._say(f"step size {sizes}; stability margin {margins} at the start (stable above 0)")
        if training.done:
            self._say(f"resumed after {training.done} of {training.updates} updates")

    def show(self) -> None:
        if self.bar is not None:
            with contextlib.suppress(OSError):
                self._show(self.bar)

    def _show(self, bar: Any) -> None:
        training = self.training
        bar.update(self.samples)
        rows = [training.metrics[replica][-1] for replica in training.alive if training.metrics[replica]]
        if not rows or rows[0]["step"] != training.done:
            return
        bar.set_postfix(loss=f"{np.mean([row['loss'] for row in rows]):.4f}", refresh=False)
        if rows[0]["test_accuracy"] is not None:
            accuracies = ", ".join(f"{row['test_accuracy']:.2%}" for row in rows)
            line = f"epoch {rows[0]['epoch']}: test accuracy {accuracies}"
            margins = [row["margin"] for row in rows if row["margin"] is not None]
            if margins:
                line += f"; stability margin {', '.join(f'{margin:.3f}' for margin in margins)}"
                line += " (unstable: use a smaller step size)" if min(margins) < 0 else ""
            self._say(line)

    def __enter__(self) -> Display:
        return self

    def __exit__(self, *exception: object) -> None:
        if self.bar is not None:
            with contextlib.suppress(OSError):
                self.bar.close()
