"""The study of `experiments.hindsight`: runs with every kind of hindsight, and how they end."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from experiments.hindsight.config import Config
from experiments.hindsight.report import conclusion, write_report
from experiments.hindsight.runs import ARMS, CHANCE, NONE, measure
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
    """Runs every arm with every number of bits, reports."""
    clock = Clock(run.path / "seconds.json")
    advance = progress.stage("bits", len(config.bits))
    with clock("runs"):
        found = kept(run, "measures", partial(measures, config, advance))
    summary = summarise(config, found) | {"seconds": clock.seconds}
    write_report(run, as_json(summary))
    run.finish(as_json(summary))


def measures(config: Config, advance: Advance) -> dict[str, np.ndarray]:
    """The shares of episodes that end at their goal, f64[bits, arms, seeds]; the last by chance."""
    found = []
    for done, bits in enumerate(config.bits, 1):
        learned, chance = zip(*(measure(config, bits, arm) for arm in ARMS), strict=True)
        found.append(np.stack([*learned, np.mean(chance, 0)]))
        advance(done, {})
    return {"success": np.stack(found)}


def summarise(config: Config, found: dict[str, np.ndarray]) -> dict[str, Any]:
    """Means over seeds by bits and arm, and how much more often than without hindsight."""
    names, share = (*ARMS, CHANCE), found["success"]
    by_bits = lambda make: {f"{bits} bits": make(at) for at, bits in enumerate(config.bits)}
    apart = lambda at: {
        name: share[at, row] - share[at, names.index(NONE)]
        for row, name in enumerate(names)
        if name != NONE
    }
    return {
        "seeds": config.seeds,
        "steps": config.learning.steps,
        "success": by_bits(
            lambda at: {name: t_interval(share[at, row]) for row, name in enumerate(names)}
        ),
        "gain": by_bits(lambda at: {name: t_interval(x) for name, x in apart(at).items()}),
        "p": by_bits(lambda at: adjusted(apart(at))),
    }
