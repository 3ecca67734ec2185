"""The study of `experiments.self_play`: how far from an equilibrium self-play is, and ends."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from experiments.self_play.config import Config
from experiments.self_play.report import conclusion, write_report
from experiments.self_play.runs import (
    ARMS,
    GAMES,
    HELD,
    METHODS,
    PLAIN,
    Arm,
    measure,
    measure_exact,
    settings,
)
from irl_jax.eval.intervals import adjusted, t_interval
from irl_jax.files import as_json
from irl_jax.recipes.launch import Clock, kept, launch
from irl_jax.recipes.self_play import BASELINES, ROLE
from irl_jax.train.progress import Progress
from irl_jax.train.run import RunDirectory
from irl_jax.types import Advance


def main(config: Config) -> None:
    """Runs the experiment, goes on with it, or reports what is there."""
    launch(config, partial(experiment, config), conclusion)


def experiment(config: Config, run: RunDirectory, progress: Progress) -> None:
    """Runs every arm and the exact gradients, reports."""
    clock = Clock(run.path / "seconds.json")
    advance = progress.stage("arms", len(ARMS))
    with clock("runs"):
        found = kept(run, "measures", partial(measures, config, advance))
    summary = summarise(config, found) | {"seconds": clock.seconds}
    write_report(run, as_json(summary))
    run.finish(as_json(summary))


def measures(config: Config, advance: Advance) -> dict[str, np.ndarray]:
    """Of each arm exploitability and value on the way, f64[seeds, snapshots + 1]; of exact ones."""
    found: dict[str, np.ndarray] = {}
    for at, arm in enumerate(ARMS):
        found[f"off_{at}"], found[f"value_{at}"] = measure(config, arm)
        advance(at + 1, {})
    exact_off, exact_value = map(
        np.stack, zip(*(measure_exact(config, m) for m in METHODS), strict=True)
    )
    return found | {"exact_off": exact_off, "exact_value": exact_value}


def summarise(config: Config, found: dict[str, np.ndarray]) -> dict[str, Any]:
    """Means over seeds: at the end, apart from each other, and on the way."""
    off = {arm: found[f"off_{at}"] for at, arm in enumerate(ARMS)}
    value = {arm: found[f"value_{at}"] for at, arm in enumerate(ARMS)}
    of = lambda game: [arm for arm in ARMS if arm.game == game]
    late = lambda arm: off[arm][:, off[arm].shape[1] // 2 :].mean(1)
    end = lambda *arm: off[Arm(*arm)][:, -1]

    def apart(game: str) -> dict[str, np.ndarray]:
        baselines = [b for b in BASELINES if Arm(game, HELD, b) in off]
        by_method = {
            f"{PLAIN} − {HELD}, baseline: {b}": end(game, PLAIN, b) - end(game, HELD, b)
            for b in baselines
        }
        return by_method | {
            f"{method}, baseline {b} − {ROLE}, second half": late(Arm(game, method, b))
            - late(Arm(game, method, ROLE))
            for method in METHODS
            for b in baselines
            if b != ROLE
        }

    def games(game: str) -> np.ndarray:
        learning = settings(config, Arm(game, HELD, ROLE))
        return np.linspace(0, learning.updates * learning.games, learning.snapshots + 1)

    by_game = lambda make: {game: make(game) for game in GAMES}
    return {
        "seeds": config.seeds,
        "bound": config.bound,
        "games": by_game(games),
        "end": by_game(lambda g: {a.label: t_interval(off[a][:, -1]) for a in of(g)}),
        "late": by_game(lambda g: {a.label: t_interval(late(a)) for a in of(g)}),
        "most": by_game(lambda g: {a.label: off[a][:, -1].max() for a in of(g)}),
        "below": by_game(lambda g: {a.label: (off[a][:, -1] < config.bound).sum() for a in of(g)}),
        "value": by_game(lambda g: {a.label: t_interval(value[a][:, -1]) for a in of(g)}),
        "apart": by_game(lambda g: {k: t_interval(x) for k, x in apart(g).items()}),
        "p": by_game(lambda g: adjusted(apart(g))),
        "curve": by_game(lambda g: {a.label: [t_interval(x) for x in off[a].T] for a in of(g)}),
        "exact": {
            method: [found["exact_off"][at, -1], found["exact_value"][at, -1]]
            for at, method in enumerate(METHODS)
        },
    }
