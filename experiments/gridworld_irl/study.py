"""The study of `experiments.gridworld_irl`: worlds, inferred rewards, what they are worth."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np

from experiments.gridworld_irl.config import Config
from experiments.gridworld_irl.report import MEASURES, conclusion, write_report
from experiments.gridworld_irl.worlds import ACTIONS, CELLS, arms, demonstrate, make_world, measure
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
    """Infers rewards in every world, compares them, reports."""
    clock = Clock(run.path / "seconds.json")
    advance = progress.stage("worlds", config.worlds)
    with clock("worlds"):
        found = kept(run, "measures", partial(measures, config, advance))
    rewards = found.pop("rewards")
    summary = summarise(config, found) | {"seconds": clock.seconds}
    write_report(run, as_json(summary), maps_of(config, rewards))
    run.finish(as_json(summary))


def measures(config: Config, advance: Advance) -> dict[str, np.ndarray]:
    """Measure -> f64[arms, worlds, sizes]; `rewards` f64[arms, sizes, S, A] of the first world."""
    with jax.enable_x64(True):
        infer: list[Callable] = [jax.jit(arm) for arm in arms(config).values()]
        judge = jax.jit(partial(measure, config))
        shape = (len(infer), config.worlds, len(config.demonstrations))
        found = {name: np.zeros(shape) for name in MEASURES}
        rewards = np.zeros((shape[0], shape[2], config.rows * config.columns, ACTIONS))
        for number in range(config.worlds):
            world = make_world(config, number)
            counts = demonstrate(config, world, number)
            for at in np.ndindex(shape[0], shape[2]):
                learned = infer[at[0]](world.mdp, counts[at[1]])
                if number == 0:
                    rewards[at] = learned
                for name, value in judge(world, learned).items():
                    found[name][at[0], number, at[1]] = round(float(value), 12) + 0.0
            advance(number + 1, {})
    return found | {"rewards": rewards}


def maps_of(config: Config, rewards: np.ndarray) -> dict[str, np.ndarray]:
    """Title -> rewards of the cells of the first world, f64[rows, columns], less their mean.

    Args:
        config: the settings.
        rewards: f64[arms, sizes, S, A], as learned; their mean over moves is shown.
    """
    least, most = (f"{size:,}" for size in (config.demonstrations[0], config.demonstrations[-1]))
    cells, moved, counted = rewards.mean(-1)
    shown = {
        "true reward": np.asarray(make_world(config, 0).reward),
        f"cells, {least}": cells[0],
        f"cells, {most}": cells[-1],
        f"and moves, {most}": moved[-1],
        f"counts, {most}": counted[-1],
    }
    shape = config.rows, config.columns
    return {title: (x - x.mean()).reshape(shape) for title, x in shown.items()}


def summarise(config: Config, found: dict[str, np.ndarray]) -> dict[str, Any]:
    """Means over worlds by measure and arm, a size each, and differences to rewards of cells."""
    names = list(arms(config))
    behind = {
        measure: {
            name: values[at] - values[names.index(CELLS)]
            for at, name in enumerate(names)
            if name != CELLS
        }
        for measure, values in found.items()
    }
    sizes = [f"{size:,}" for size in config.demonstrations]
    return {
        "worlds": config.worlds,
        "sizes": list(config.demonstrations),
        "measured": {
            measure: dict(zip(names, map(means, values), strict=True))
            for measure, values in found.items()
        },
        "behind": {
            measure: {name: means(values) for name, values in arm.items()}
            for measure, arm in behind.items()
        },
        "p": {
            measure: adjusted(
                {
                    f"{name}, {size}": values[:, column]
                    for name, values in arm.items()
                    for column, size in enumerate(sizes)
                }
            )
            for measure, arm in behind.items()
        },
    }


def means(values: np.ndarray) -> list[Any]:
    """The mean over worlds with its interval, one of each size; values f64[worlds, sizes]."""
    return [t_interval(column) for column in values.T]
