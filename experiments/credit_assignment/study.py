"""The study of `experiments.credit_assignment`: runs of every arm, and what they are worth."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from experiments.credit_assignment.arms import ARMS, TERMINAL
from experiments.credit_assignment.config import Config
from experiments.credit_assignment.report import conclusion, write_report
from experiments.credit_assignment.runs import END, ERROR, KINDS, LEARNED, RATE, measure
from irl_jax.eval.intervals import adjusted, proportion, t_interval
from irl_jax.files import as_json
from irl_jax.recipes.launch import Clock, kept, launch
from irl_jax.train.progress import Progress
from irl_jax.train.run import RunDirectory
from irl_jax.types import Advance

REACHED = "learned"


def main(config: Config) -> None:
    """Runs the experiment, goes on with it, or reports what is there."""
    launch(config, partial(experiment, config), conclusion)


def experiment(config: Config, run: RunDirectory, progress: Progress) -> None:
    """Runs every arm in every kind of corridor, reports."""
    clock = Clock(run.path / "seconds.json")
    advance = progress.stage("arms", len(ARMS))
    with clock("arms"):
        found = kept(run, "measures", partial(measures, config, advance))
    summary = summarise(config, found) | {"seconds": clock.seconds}
    write_report(run, as_json(summary))
    run.finish(as_json(summary))


def measures(config: Config, advance: Advance) -> dict[str, np.ndarray]:
    """Measure -> f64[kinds, arms, seeds]; the learning rate, f64[kinds, arms]."""
    found: dict[str, list[np.ndarray]] = {}
    for number, arm in enumerate(ARMS.values()):
        for kind in KINDS:
            for name, value in measure(config, kind, number, arm).items():
                found.setdefault(name, []).append(value)
        advance(number + 1, {})
    fold = lambda rows: np.moveaxis(np.reshape(rows, (len(ARMS), len(KINDS), *rows[0].shape)), 0, 1)
    return {name: fold(rows) for name, rows in found.items()}


def summarise(config: Config, found: dict[str, np.ndarray]) -> dict[str, Any]:
    """Means over seeds by kind and arm, and how many steps less than by the terminal reward."""
    first = list(ARMS).index(TERMINAL)
    learned = found[LEARNED]

    def rows(at: int) -> dict[str, Any]:
        return {
            arm: {
                LEARNED: t_interval(learned[at, row]),
                REACHED: proportion(learned[at, row] < config.budget / 1e3),
                END: t_interval(found[END][at, row]),
                ERROR: t_interval(found[ERROR][at, row]),
                RATE: float(found[RATE][at, row]),
            }
            for row, arm in enumerate(ARMS)
        }

    apart = lambda at: {
        arm: learned[at, first] - learned[at, row] for row, arm in enumerate(ARMS) if row != first
    }
    by_kind = lambda make: {kind: make(at) for at, kind in enumerate(KINDS)}
    return {
        "seeds": config.seeds,
        "budget": config.budget,
        "measured": by_kind(rows),
        "saved": by_kind(lambda at: {arm: t_interval(x) for arm, x in apart(at).items()}),
        "p": by_kind(lambda at: adjusted(apart(at))),
    }
