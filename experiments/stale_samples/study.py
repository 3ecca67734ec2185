"""The study of `experiments.stale_samples`: every loss of stale samples, by models."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from experiments.stale_samples.arms import FRESH, PLAIN, World, losses
from experiments.stale_samples.config import Config
from experiments.stale_samples.report import conclusion, write_report
from irl_jax.eval.intervals import adjusted, t_interval
from irl_jax.files import as_json
from irl_jax.recipes.launch import Clock, kept, launch
from irl_jax.train.progress import Progress
from irl_jax.train.run import RunDirectory


def main(config: Config) -> None:
    """Runs the experiment, goes on with it, or reports what is there."""
    launch(config, partial(experiment, config), conclusion)


def experiment(config: Config, run: RunDirectory, progress: Progress) -> None:
    """Runs every loss with every model, reports."""
    clock = Clock(run.path / "seconds.json")
    found = []
    for number in range(config.seeds):
        with clock("models"):
            measure = partial(measures, config, config.seed + number, progress)
            found.append(kept(run, f"model_{number}", measure))
    joined = {name: np.stack([one[name] for one in found]) for name in found[0]}
    summary = summarise(config, joined) | {"seconds": clock.seconds}
    write_report(run, as_json(summary))
    run.finish(as_json(summary))


def measures(config: Config, seed: int, progress: Progress) -> dict[str, np.ndarray]:
    """Accuracies of a model.

    Returns:
        `ends`, f64[2]: before, and after fresh samples; `stale`, f64[lags, losses], after stale
        ones.
    """
    world = World(config, seed, progress)
    after = lambda name, lag: world.accuracy(world.after(name, lag))
    return {
        "ends": np.array([world.accuracy(world.model), after(PLAIN, 0)]),
        "stale": np.array([[after(name, lag) for name in losses(config)] for lag in config.lags]),
    }


def summarise(config: Config, found: dict[str, np.ndarray]) -> dict[str, Any]:
    """Means over models by lag and loss, and how much more than of samples taken as fresh.

    Args:
        config: of the study.
        found: of `measures`, stacked over models.
    """
    names = list(losses(config))
    before, fresh = found["ends"].T
    by_lag = lambda make: {
        str(lag): make(dict(zip(names, found["stale"][:, at].T, strict=True)))
        for at, lag in enumerate(config.lags)
    }

    def gains(rows: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {name: x - rows[PLAIN] for name, x in (rows | {FRESH: fresh}).items()}

    apart = lambda rows: {name: x for name, x in gains(rows).items() if name != PLAIN}
    return {
        "seeds": config.seeds,
        "ends": {"before": t_interval(before), FRESH: t_interval(fresh)},
        "stale": by_lag(lambda rows: {name: t_interval(x) for name, x in rows.items()}),
        "gain": by_lag(lambda rows: {name: t_interval(x) for name, x in apart(rows).items()}),
        "p": by_lag(lambda rows: adjusted(apart(rows))),
    }
