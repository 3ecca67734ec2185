"""Progress of the stages of a run: bars with the time left, or now and then a line."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import TextIO

import jax
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from irl_jax.types import Advance

FIRST = ("reward", "loss")  # shown first, of the metrics
SHOWN = 4  # metrics beside a bar
INTERVAL = 30.0  # seconds between lines where there is no terminal


def describe(metrics: Mapping[str, float]) -> str:
    """The first few metrics in one line.

    Example:
        >>> describe({"accuracy": 0.5, "loss": 0.6931})
        'loss 0.693  accuracy 0.5'
    """
    names = [name for name in FIRST if name in metrics]
    names += [name for name in metrics if name not in FIRST]
    return "  ".join(f"{name} {metrics[name]:.3g}" for name in names[:SHOWN])


class Progress:
    """Progress of several stages on stderr; a context manager, shared by the loops of a run."""

    def __init__(self, file: TextIO | None = None):
        """Draws bars if `file` (stderr) is a terminal, else writes a line every `INTERVAL`."""
        self._file = sys.stderr if file is None else file
        console = Console(file=self._file)
        self._bars = None
        if console.is_terminal:
            self._bars = RichProgress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(elapsed_when_finished=True),
                TextColumn("{task.fields[metrics]}"),
                console=console,
            )

    def __enter__(self) -> Progress:
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bars is not None:
            self._bars.stop()

    def stage(self, name: str, total: int, done: int = 0) -> Advance:
        """Starts a stage.

        Args:
            name: what is being done.
            total: number of updates.
            done: updates of an earlier launch.

        Returns:
            `(done, metrics) -> None`, to call as updates are done. Of several processes, the
            first alone shows them.
        """
        if jax.process_index() > 0:
            return lambda step, metrics: None
        if self._bars is None:
            return self._lines(name, total)
        bars = self._bars
        task = bars.add_task(name, total=total, completed=done, metrics="")
        return lambda step, metrics: bars.update(task, completed=step, metrics=describe(metrics))

    def _lines(self, name: str, total: int) -> Advance:
        written = time.monotonic()
        first: tuple[float, int] | None = None  # time and number of the update that compiled

        def advance(step: int, metrics: Mapping[str, float]) -> None:
            nonlocal written, first
            now = time.monotonic()
            begun, compiled = first = first or (now, step)
            if now - written < INTERVAL and step < total:
                return
            written = now
            words = [f"{name} {step}/{total}"]
            if step > compiled:
                left = (now - begun) / (step - compiled) * (total - step)
                minutes, seconds = divmod(round(left), 60)
                words.append(f"{minutes}:{seconds:02d} left")
            print(*words, describe(metrics), sep="  ", file=self._file, flush=True)

        return advance
