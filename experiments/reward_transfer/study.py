"""The study of `experiments.reward_transfer`: processes, learned rewards, what they are worth."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import numpy as np

from experiments.reward_transfer.config import Config
from experiments.reward_transfer.report import conclusion, write_report
from experiments.reward_transfer.worlds import (
    ERROR,
    IMITATION,
    KINDS,
    METHODS,
    STATES,
    learn,
    make_world,
    measure,
    places_of,
)
from irl_jax.eval.intervals import adjusted, t_interval
from irl_jax.files import as_json
from irl_jax.recipes.launch import Clock, kept, launch
from irl_jax.train.progress import Progress
from irl_jax.train.run import RunDirectory
from irl_jax.types import Advance


def main(config: Config) -> None:
    """Runs the experiment, goes on with it, or reports what is there."""
    launch(config, partial(experiment, config), conclusion)


def experiment(config: Config, run: RunDirectory, progress: Progress) -> None:
    """Learns rewards in every world, measures them, reports."""
    clock = Clock(run.path / "seconds.json")
    advance = progress.stage("worlds", config.worlds)
    with clock("worlds"), jax.enable_x64(True):
        found = kept(run, "measures", partial(measures, config, advance))
    summary = summarise(config, found) | {"seconds": clock.seconds}
    write_report(run, as_json(summary))
    run.finish(as_json(summary))


def measures(config: Config, advance: Advance) -> dict[str, np.ndarray]:
    """Measure -> f64[kinds, methods, worlds], to 9 digits after the point."""
    names = [ERROR, IMITATION, *places_of(config)]
    found = {name: np.zeros((len(KINDS), len(METHODS), config.worlds)) for name in names}
    for number in range(config.worlds):
        for at, kind in enumerate(KINDS):
            world = make_world(config, kind, number)
            for row, learned in enumerate(learn(world).values()):
                for name, value in measure(world, learned).items():
                    found[name][at, row, number] = round(value, 9) + 0.0
        advance(number + 1, {})
    return found


def summarise(config: Config, found: dict[str, np.ndarray]) -> dict[str, Any]:
    """Means over worlds by kind, method and measure, and differences to AIRL's of states."""
    by_kind = lambda make: {kind: make(at) for at, kind in enumerate(KINDS)}
    first = METHODS.index(STATES)
    apart = lambda at: {
        method: {name: x[at, row] - x[at, first] for name, x in found.items()}
        for row, method in enumerate(METHODS)
        if row != first
    }
    return {
        "worlds": config.worlds,
        "places": places_of(config),
        "measured": by_kind(
            lambda at: {
                method: {name: t_interval(x[at, row]) for name, x in found.items()}
                for row, method in enumerate(METHODS)
            }
        ),
        "behind": by_kind(
            lambda at: {
                method: {name: t_interval(x) for name, x in each.items()}
                for method, each in apart(at).items()
            }
        ),
        "p": by_kind(
            lambda at: adjusted(
                {
                    f"{method}, {name}": x
                    for method, each in apart(at).items()
                    for name, x in each.items()
                }
            )
        ),
    }
