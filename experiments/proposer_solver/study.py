"""The study of `experiments.proposer_solver`: every arm, by models."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from experiments.proposer_solver.arms import (
    ALIKE,
    PROPOSED,
    RANDOM,
    World,
    terms_of,
    trained,
)
from experiments.proposer_solver.config import Config
from experiments.proposer_solver.report import conclusion, write_report
from irl_jax.eval.intervals import adjusted, t_interval
from irl_jax.files import as_json
from irl_jax.recipes.launch import Clock, kept, launch
from irl_jax.train.progress import Progress
from irl_jax.train.run import RunDirectory

BEFORE, ALL = "before", "all levels"
ARMS = (PROPOSED, ALIKE, RANDOM)


def main(config: Config) -> None:
    """Runs the experiment, goes on with it, or reports what is there."""
    launch(config, partial(experiment, config), conclusion)


def experiment(config: Config, run: RunDirectory, progress: Progress) -> None:
    """Runs every arm with every model, reports."""
    clock = Clock(run.path / "seconds.json")
    found = []
    for seed in range(config.first_seed, config.first_seed + config.seeds):
        with clock("models"):
            found.append(kept(run, f"model_{seed}", partial(measures, config, seed, progress)))
    each = {name: np.stack([own[name] for own in found]) for name in found[0]}
    summary = as_json(summarise(config, each) | {"seconds": clock.seconds})
    write_report(run, summary)
    run.finish(summary)


def measures(config: Config, seed: int, progress: Progress) -> dict[str, np.ndarray]:
    """What a model can do before and after every arm, and what was proposed.

    Returns:
        "accuracy" f64[1 + arms, levels]; by batch, "valid", "different" and "success", f64[N], and
        "level" f64[N, levels], the share of sums of each level that were proposed.
    """
    world = World(config, seed, progress)
    models, proposer = trained(world, progress)
    sizes = np.array([[terms_of(question) for question in asked] for asked in proposer.asked])
    return {
        "accuracy": np.array(
            [world.accuracy(world.model), *(world.accuracy(models[name]) for name in ARMS)]
        ),
        "valid": np.array(proposer.valid),
        "different": np.array(proposer.different),
        "success": np.array(proposer.success),
        "level": np.stack([(sizes == terms).mean(1) for terms in config.terms], -1),
    }


def summarise(config: Config, found: dict[str, np.ndarray]) -> dict[str, Any]:
    """Means over models by arm, and how much more the proposed sums gave.

    Args:
        config: of the study.
        found: of `measures`, with models in front.

    Returns:
        `accuracy`: by arm and column; `gain`: accuracy after the proposed sums less that of a
        control; `p`: of these by Holm's procedure, over both controls and all levels together;
        `proposals`: means over the first and the last fifth of the batches.
    """
    names, levels = (BEFORE, *ARMS), [f"{terms} terms" for terms in config.terms]
    accuracy = found["accuracy"]
    whole = np.concatenate([accuracy.mean(-1, keepdims=True), accuracy], axis=-1)
    columns = (ALL, *levels)
    apart = {
        name: whole[:, names.index(PROPOSED)] - whole[:, names.index(name)]
        for name in (BEFORE, ALIKE, RANDOM)
    }
    part = max(1, config.batches // 5)
    traces = {name: found[name] for name in ("valid", "different", "success")}
    traces |= {f"of {level}": found["level"][..., i] for i, level in enumerate(levels)}
    return {
        "seeds": config.seeds,
        "solutions": config.batches * config.prompts * config.completions,
        "accuracy": {
            name: {column: t_interval(whole[:, row, at]) for at, column in enumerate(columns)}
            for row, name in enumerate(names)
        },
        "gain": {
            name: {column: t_interval(x[:, at]) for at, column in enumerate(columns)}
            for name, x in apart.items()
        },
        "p": adjusted({name: x[:, 0] for name, x in apart.items() if name != BEFORE}),
        "proposals": {
            name: [t_interval(x[:, at].mean(1)) for at in (slice(part), slice(-part, None))]
            for name, x in traces.items()
        },
        "curves": {name: x.mean(0) for name, x in traces.items()},
    }
