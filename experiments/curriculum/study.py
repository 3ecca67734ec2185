"""The study of `experiments.curriculum`: every way to choose questions, by models."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from experiments.curriculum.arms import ARMS, UNIFORM, World
from experiments.curriculum.config import Config
from experiments.curriculum.report import conclusion, write_report
from irl_jax.eval.intervals import adjusted, t_interval
from irl_jax.files import as_json
from irl_jax.recipes.launch import Clock, kept, launch
from irl_jax.train.progress import Progress
from irl_jax.train.run import RunDirectory

BEFORE, ALL = "before", "all levels"


def main(config: Config) -> None:
    """Runs the experiment, goes on with it, or reports what is there."""
    launch(config, partial(experiment, config), conclusion)


def experiment(config: Config, run: RunDirectory, progress: Progress) -> None:
    """Runs every arm with every model, reports."""
    clock = Clock(run.path / "seconds.json")
    found = []
    for number in range(config.seeds):
        with clock("models"):
            measure = partial(measures, config, config.seed + number, progress)
            found.append(kept(run, f"model_{number}", measure)["accuracy"])
    summary = summarise(config, np.stack(found)) | {"seconds": clock.seconds}
    write_report(run, as_json(summary))
    run.finish(as_json(summary))


def measures(config: Config, seed: int, progress: Progress) -> dict[str, np.ndarray]:
    """Accuracies on each level of a model, before and after every arm, f64[1 + arms, levels]."""
    world = World(config, seed, progress)
    models = (arm(world, progress, name) for name, arm in ARMS.items())
    accuracies = [world.accuracy(world.model), *(world.accuracy(model) for model in models)]
    return {"accuracy": np.array(accuracies)}


def summarise(config: Config, accuracy: np.ndarray) -> dict[str, Any]:
    """Means over models by arm, and how much more than of all levels alike.

    Args:
        config: of the study.
        accuracy: f64[models, 1 + arms, levels].
    """
    names = (BEFORE, *ARMS)
    levels = [f"{terms} terms" for terms in config.terms]
    whole = np.concatenate([accuracy.mean(-1, keepdims=True), accuracy], axis=-1)
    columns = (ALL, *levels)
    apart = {
        column: {
            name: whole[:, row, at] - whole[:, names.index(UNIFORM), at]
            for row, name in enumerate(names)
            if name not in (BEFORE, UNIFORM)
        }
        for at, column in enumerate(columns)
        if column in (ALL, levels[-1])
    }
    return {
        "seeds": config.seeds,
        "solutions": config.batches * config.prompts * config.completions,
        "accuracy": {
            name: {column: t_interval(whole[:, row, at]) for at, column in enumerate(columns)}
            for row, name in enumerate(names)
        },
        "gain": {
            column: {name: t_interval(x) for name, x in rows.items()}
            for column, rows in apart.items()
        },
        "p": {column: adjusted(rows) for column, rows in apart.items()},
    }
