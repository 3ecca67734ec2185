"""Metrics of a run sent on, as they are written: TensorBoard or Weights & Biases.

`metrics.jsonl` stays the source. A sink is a function of one of its rows; nothing is sent anywhere
unless a run is asked to.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from irl_jax.types import InputError

Tracker = Literal["tensorboard", "wandb"]
Sink = Callable[[Mapping[str, Any]], None]  # a row: stage, step, time, name -> number
PACKAGES = {"tensorboard": "tensorboardX", "wandb": "wandb"}
BESIDE = ("stage", "step", "time")  # of a row, what is no metric


def scalars(row: Mapping[str, Any]) -> dict[str, float]:
    """The metrics of a row by STAGE/NAME; those that were not finite are left out.

    Example:
        >>> scalars({"stage": "policy", "step": 1, "time": 2.0, "loss": 0.5, "kl": None})
        {'policy/loss': 0.5}
    """
    return {
        f"{row['stage']}/{name}": value
        for name, value in row.items()
        if name not in BESIDE and value is not None
    }


def load_tracker(tracker: Tracker) -> Any:
    """The package of a tracker.

    Raises:
        InputError: it is not installed.
    """
    try:
        return importlib.import_module(PACKAGES[tracker])
    except ModuleNotFoundError as error:
        raise InputError(
            f'track: {tracker} needs {PACKAGES[tracker]}; pip install "irl_jax[track]"'
        ) from error


@contextmanager
def tracked(
    tracker: Tracker | None, run_dir: Path, config: Mapping[str, Any]
) -> Iterator[tuple[Sink, ...]]:
    """The sinks of a run, closed at the end.

    Args:
        tracker: "tensorboard" writes RUN/tensorboard, "wandb" sends to the user's account, as
            the package is set up; None: there is no sink.
        run_dir: directory of the run, whose name the tracker shows.
        config: settings of the run.

    Raises:
        InputError: the tracker's package is not installed.
    """
    if tracker is None:
        yield ()
    elif tracker == "tensorboard":
        writer = load_tracker(tracker).SummaryWriter(str(run_dir / "tensorboard"))

        def write(row: Mapping[str, Any]) -> None:
            for name, value in scalars(row).items():
                writer.add_scalar(name, value, row["step"], row["time"])

        try:
            yield (write,)
        finally:
            writer.close()
    else:
        run = load_tracker(tracker).init(
            project="irl_jax", name=run_dir.name, dir=str(run_dir), config=dict(config)
        )
        try:
            yield (lambda row: run.log({**scalars(row), f"{row['stage']}/step": row["step"]}),)
        finally:
            run.finish()
