"""The study of `experiments.text_games`: what advantages of turns bring at equal episodes."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from experiments.text_games.config import Config
from experiments.text_games.report import conclusion, write_report
from experiments.text_games.runs import ARMS, EPISODE, GUESSES, MEASURES, RETURN, learn, make_step
from irl_jax.envs.text import fewest_guesses
from irl_jax.eval.intervals import adjusted, t_interval
from irl_jax.files import as_json
from irl_jax.recipes.launch import Clock, kept, launch
from irl_jax.train.progress import Progress
from irl_jax.train.run import RunDirectory

AT_END, ALL = "at the end", "over the run"


def main(config: Config) -> None:
    """Runs the experiment, goes on with it, or reports what is there."""
    launch(config, partial(experiment, config), conclusion)


def experiment(config: Config, run: RunDirectory, progress: Progress) -> None:
    """Runs every arm with every seed, reports."""
    clock = Clock(run.path / "seconds.json")
    step, tx = make_step(config)
    found: dict[str, list[dict[str, np.ndarray]]] = {arm: [] for arm in ARMS}
    for seed in range(config.seeds):
        for number, arm in enumerate(ARMS):
            with clock(arm):
                make = partial(learn, config, arm, seed, step, tx, progress)
                found[arm].append(kept(run, f"run_{number}_{seed}", make))
    stacked = {
        arm: {name: np.stack([row[name] for row in rows]) for name in MEASURES}
        for arm, rows in found.items()
    }
    summary = summarise(config, stacked) | {"seconds": clock.seconds}
    write_report(run, as_json(summary))
    run.finish(as_json(summary))


def summarise(config: Config, found: dict[str, dict[str, np.ndarray]]) -> dict[str, Any]:
    """Means over seeds, at the end and over the run, and how far arms are from one of episodes.

    Args:
        config: settings.
        found: arm -> measure -> f64[seeds, parts].
    """
    of = {AT_END: lambda x: x[:, -1], ALL: lambda x: x.mean(1)}
    apart = {
        when: {
            arm: take(rows[RETURN]) - take(found[EPISODE][RETURN])
            for arm, rows in found.items()
            if arm != EPISODE
        }
        for when, take in of.items()
    }
    joint = {f"{arm}, {when}": x for when, rows in apart.items() for arm, x in rows.items()}
    fewest = fewest_guesses(config.largest)
    played = config.updates * config.largest * config.episodes
    return {
        "seeds": config.seeds,
        "episodes": np.linspace(0, played, 2 * config.parts + 1)[1::2],
        "best": 1 - config.cost * fewest,
        "fewest": fewest,
        "measured": {
            arm: {name: t_interval(of[AT_END](rows[name])) for name in MEASURES}
            | {f"{RETURN} {ALL}": t_interval(of[ALL](rows[RETURN]))}
            for arm, rows in found.items()
        },
        "least": {arm: rows[RETURN][:, -1].min() for arm, rows in found.items()},
        "apart": {name: t_interval(x) for name, x in joint.items()},
        "p": adjusted(joint),
        "curve": {
            arm: {name: [t_interval(x) for x in rows[name].T] for name in (RETURN, GUESSES)}
            for arm, rows in found.items()
        },
    }
