"""What a training run shows while it runs, and how Ctrl-C reaches it."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pcalm.experiments.training import Training


@contextlib.contextmanager
def deferred_interrupt() -> Iterator[list[int]]:
    """Turns the first Ctrl-C into an entry of the list that it gives; the second one interrupts at once, as ever.

    Only Python's main thread receives signals, so elsewhere the list stays empty.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return

    def note(number: int, frame: Any) -> None:
        received.append(number)
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield received
    finally:
        signal.signal(signal.SIGINT, before)


class Display:
    """The progress bar, and a line at the start and after each epoch, on the standard error stream."""

    def __init__(self, training: Training, wanted: bool) -> None:
        self.training, self.bar = training, None
        self.rows = 0
        if wanted:
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
            self._start()

    def _say(self, text: str) -> None:
        assert self.bar is not None
        self.bar.write(text, file=sys.stderr)

    def _start(self) -> None:
        training = self.training
        if training.step_sizes:
            sizes = ", ".join(f"{size:.4f}" for size in training.step_sizes)
            margins = ", ".join(f"{margin:.3f}" for margin in training.margins_at_start)
            self._say(f"step size {sizes}; stability margin {margins} at the start (stable above 0)")
        if training.done:
            self._say(f"resumed after {training.done} of {training.updates} updates")

    def show(self) -> None:
        training = self.training
        if self.bar is None:
            return
        self.bar.update(self.samples)
        rows = [training.metrics[replica][-1] for replica in training.alive if training.metrics[replica]]
        if not rows or rows[0]["step"] != training.done:
            return
        self.bar.set_postfix(loss=f"{np.mean([row['loss'] for row in rows]):.4f}", refresh=False)
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
            self.bar.close()
