"""The study of `experiments.exploration`: runs with every bonus, and when they solve the sea."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from experiments.exploration.config import Config
from experiments.exploration.report import FOUND, SOLVED, conclusion, write_report
from experiments.exploration.runs import DITHERING, arms, measure
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
    """Runs every arm in seas of every size, reports."""
    clock = Clock(run.path / "seconds.json")
    advance = progress.stage("sizes", len(config.sizes))
    with clock("runs"):
        found = kept(run, "measures", partial(measures, config, advance))
    summary = summarise(config, found) | {"seconds": clock.seconds}
    write_report(run, as_json(summary))
    run.finish(as_json(summary))


def measures(config: Config, advance: Advance) -> dict[str, np.ndarray]:
    """Episodes until the treasure was found, and the sea solved, f64[sizes, arms, seeds]."""
    rows = []
    for done, size in enumerate(config.sizes, 1):
        rows.append(measure(config, size))
        advance(done, {})
    found, solved = zip(*rows, strict=True)
    return {FOUND: np.stack(found), SOLVED: np.stack(solved)}


def summarise(config: Config, found: dict[str, np.ndarray]) -> dict[str, Any]:
    """Means over seeds by size and arm, and how many episodes fewer than by dithering."""
    names, solved = list(arms(config)), found[SOLVED]
    by_size = lambda make: {f"{n} rows": make(at) for at, n in enumerate(config.sizes)}
    first = names.index(DITHERING)
    apart = lambda at: {
        name: solved[at, first] - solved[at, row] for row, name in enumerate(names) if row != first
    }
    return {
        "seeds": config.seeds,
        "episodes": config.episodes,
        "measured": by_size(
            lambda at: {
                name: {
                    FOUND: t_interval(found[FOUND][at, row]),
                    SOLVED: t_interval(solved[at, row]),
                    "runs that solved it": int((solved[at, row] < config.episodes).sum()),
                }
                for row, name in enumerate(names)
            }
        ),
        "fewer": by_size(lambda at: {name: t_interval(x) for name, x in apart(at).items()}),
        "p": by_size(lambda at: adjusted(apart(at))),
    }
