"""The study of `experiments.dense_or_sparse`: every way to spend a budget, by students."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from experiments.dense_or_sparse.arms import ARMS, SPARSE, Spender, World, costs
from experiments.dense_or_sparse.config import Config
from experiments.dense_or_sparse.report import conclusion, write_report
from irl_jax.eval.intervals import adjusted, t_interval
from irl_jax.files import as_json
from irl_jax.recipes.launch import Clock, kept, launch
from irl_jax.train.progress import Progress
from irl_jax.train.run import RunDirectory

BEFORE = ("student", "teacher", "knowing")
SETS = ("practised", "held_out")


def main(config: Config) -> None:
    """Runs the experiment, goes on with it, or reports what is there."""
    launch(config, partial(experiment, config), conclusion)


def experiment(config: Config, run: RunDirectory, progress: Progress) -> None:
    """Runs every arm with every student, reports."""
    clock = Clock(run.path / "seconds.json")
    found = []
    for number in range(config.seeds):
        with clock("students"):
            measure = partial(measures, config, config.seed + number, progress)
            found.append(kept(run, f"student_{number}", measure))
    joined = {name: np.stack([one[name] for one in found]) for name in found[0]}
    summary = summarise(config, joined) | {"seconds": clock.seconds}
    write_report(run, as_json(summary))
    run.finish(as_json(summary))


def measures(config: Config, seed: int, progress: Progress) -> dict[str, np.ndarray]:
    """Accuracies of a student and its teachers.

    Returns:
        `before`, f64[3, 2]: of the models, before, on practised and held-out questions; `after`,
        f64[budgets, arms, 2].
    """
    world = World(config, seed, progress)
    spender = Spender(world, progress)
    judge = lambda model: [world.accuracy(model, getattr(world, name)) for name in SETS]
    return {
        "before": np.array([judge(getattr(world, name)) for name in BEFORE]),
        "after": np.array(
            [[judge(arm(spender, budget)) for arm in ARMS.values()] for budget in config.budgets]
        ),
    }


def summarise(config: Config, found: dict[str, np.ndarray]) -> dict[str, Any]:
    """Means over students by budget and arm, and how much less than by the reward at the end."""
    before, after = found["before"], found["after"]
    first = list(ARMS).index(SPARSE)

    def rows(at: int) -> dict[str, Any]:
        return {
            arm: {name: t_interval(after[:, at, row, k]) for k, name in enumerate(SETS)}
            for row, arm in enumerate(ARMS)
        }

    apart = lambda at: {
        arm: after[:, at, row, 0] - after[:, at, first, 0]
        for row, arm in enumerate(ARMS)
        if row != first
    }
    by_budget = lambda make: {str(b): make(at) for at, b in enumerate(config.budgets)}
    return {
        "seeds": config.seeds,
        "before": {
            model: {name: t_interval(before[:, row, k]) for k, name in enumerate(SETS)}
            for row, model in enumerate(BEFORE)
        },
        "after": by_budget(rows),
        "gain": by_budget(lambda at: {arm: t_interval(x) for arm, x in apart(at).items()}),
        "p": by_budget(lambda at: adjusted(apart(at))),
        "costs": costs(config),
    }
