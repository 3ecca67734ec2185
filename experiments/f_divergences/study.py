"""The study of `experiments.f_divergences`: the nearest policies, and what they visit."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

import jax
import numpy as np

from experiments.f_divergences.config import Config
from experiments.f_divergences.control import LEARNERS, REWARDS, drive, modes
from experiments.f_divergences.report import MEASURES, SETTLED, conclusion, write_report
from experiments.f_divergences.worlds import (
    DIVERGENCES,
    FORWARD,
    Modes,
    World,
    divergence,
    learners,
    make_objective,
    make_world,
    nearest,
    share,
)
from irl_jax.eval.intervals import adjusted, proportion, t_interval
from irl_jax.files import as_json
from irl_jax.recipes.launch import Clock, kept, launch
from irl_jax.train.progress import Progress
from irl_jax.train.run import RunDirectory
from irl_jax.types import Advance


def main(config: Config) -> None:
    """Runs the experiment, goes on with it, or reports what is there."""
    launch(config, partial(experiment, config), conclusion)


def experiment(config: Config, run: RunDirectory, progress: Progress) -> None:
    """Minimises every divergence in every world, measures what was found, reports."""
    clock = Clock(run.path / "seconds.json")
    advance = progress.stage("worlds", config.worlds)
    with jax.enable_x64(True), clock("worlds"):
        found = kept(run, "found", partial(search, config, advance))
    advance = progress.stage("control", 2)
    with clock("control"):
        driven = kept(run, "control", partial(drive, config, advance))
    with jax.enable_x64(True):
        summary = summarise(config, found) | {"control": summarise_control(config, driven)}
        summary["seconds"] = clock.seconds
        visited = visits_of(config, found["visits"][0])
        write_report(run, as_json(summary), visited, positions(driven))
    run.finish(as_json(summary))


def search(config: Config, advance: Advance) -> dict[str, np.ndarray]:
    """What each learner does that minimises each divergence, in each world.

    Returns:
        `visits` f64[worlds, learners, divergences, S, A], in shares; `alike`
        f64[worlds, learners, divergences], of `Found`.
    """
    kinds = learners(config)
    cells = config.rows * config.columns
    shape = (config.worlds, len(kinds), len(DIVERGENCES))
    found = {"visits": np.zeros((*shape, cells, 4)), "alike": np.zeros(shape)}
    tools = [(kind, make_objective(kind), jax.jit(kind.policy)) for kind in kinds.values()]
    for number in range(config.worlds):
        world = make_world(config, number)
        for at in np.ndindex(shape[1:]):
            kind, objective, policy = tools[at[0]]
            best = nearest(config, kind, objective, at[1], world)
            found["visits"][number][at] = share(world.mdp, policy(world.mdp, best.theta))
            found["alike"][number][at] = best.alike
        advance(number + 1, {})
    return found


def measure(world: World | Modes, visits: np.ndarray) -> dict[str, float]:
    """What a policy with these visits f64[S, A] covers of an expert, and what else it does."""
    of_cells = visits.sum(-1)
    own, expert = world.modes @ of_cells, world.modes @ world.expert.sum(-1)
    there = expert > 0
    return {
        "covered": float((own[there] / expert[there]).min()),
        "heavy": float(own[0]),
        "light": float(own[1]),
        "off": float(1.0 - own.sum()),
        "distance": float(0.5 * np.abs(visits - world.expert).sum()),
    }


def measures(config: Config, visits: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Measure -> f64[worlds, learners, divergences], and the divergences of each minimiser.

    Args:
        config: the settings.
        visits: f64[worlds, learners, divergences, S, A].

    Returns:
        The measures; and f64[worlds, learners, minimised, measured].
    """
    shape = visits.shape[:3]
    found = {name: np.zeros(shape) for name in MEASURES}
    values = np.zeros((*shape, len(DIVERGENCES)))
    judge = jax.jit(lambda *x: [divergence(f, *x) for f in DIVERGENCES.values()])
    for number in range(shape[0]):
        world = make_world(config, number)
        for at in np.ndindex(shape[1:]):
            mine = visits[number][at]
            values[number][at] = judge(mine, world.expert)
            for name, value in measure(world, mine).items():
                found[name][number][at] = value
    return found, values


def summarise(config: Config, found: dict[str, np.ndarray]) -> dict[str, Any]:
    """Means over worlds by measure, learner and divergence, and differences to forward KL."""
    visits = found["visits"]
    measured, values = measures(config, visits)
    worlds = [make_world(config, number) for number in range(config.worlds)]
    own = [measure(world, world.expert) for world in worlds]
    least = values.min(2)
    exceeding = np.diagonal(values, axis1=2, axis2=3) - least
    between = 0.5 * np.abs(visits[:, :, :, None] - visits[:, :, None]).sum((-1, -2))
    heavier = measured["heavy"] > measured["light"]
    kinds = learners(config)
    by_kind = lambda make: {kind: make(at) for at, kind in enumerate(kinds)}
    return {
        "worlds": config.worlds,
        "expert": {name: t_interval([each[name] for each in own]) for name in MEASURES},
        "measured": {
            name: by_kind(lambda at, x=x: named(map(t_interval, x[:, at].T)))
            for name, x in measured.items()
        },
        "behind": {name: by_kind(lambda at, x=x: behind(x[:, at])) for name, x in measured.items()},
        "heavier": by_kind(lambda at: named(map(proportion, heavier[:, at].T))),
        "alike": by_kind(lambda at: named(map(t_interval, found["alike"][:, at].T))),
        "matrix": by_kind(lambda at: named(map(named, np.median(values[:, at], 0).tolist()))),
        "exceeding": by_kind(lambda at: float(exceeding[:, at].max())),
        "between": by_kind(lambda at: float(between[:, at].max())),
    }


def summarise_control(config: Config, found: dict[str, np.ndarray]) -> dict[str, Any]:
    """Means over seeds by measure, learner and reward, and differences to forward KL."""
    measured: dict[str, dict[str, np.ndarray]] = {name: {} for name in MEASURES}
    experts = {}
    for learner in LEARNERS:
        expert = modes(config, found["expert"], learner)
        experts[learner] = measure(expert, expert.expert)
        each = [[measure(expert, np.asarray(x, np.float64)) for x in row] for row in found[learner]]
        for name in MEASURES:
            measured[name][learner] = np.array([[x[name] for x in row] for row in each]).T
    by_learner = lambda of: {
        name: {learner: of(x) for learner, x in rows.items()} for name, rows in measured.items()
    }
    return {
        "seeds": config.control.seeds,
        "expert": experts,
        "measured": by_learner(lambda x: named(map(t_interval, x.T), REWARDS)),
        "behind": by_learner(lambda x: behind(x, REWARDS)),
        "settled": {
            learner: named(map(proportion, (x < SETTLED).T), REWARDS)
            for learner, x in measured["covered"].items()
        },
    }


def positions(found: dict[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
    """Learner -> reward -> share of steps in each cell of positions, f[seeds, CELLS]."""
    return {learner: named(found[learner].sum(-1), REWARDS) for learner in LEARNERS} | {
        "expert": named(found["expert"].sum(-1), ("right", "left"))
    }


def named(values: Iterable[Any], names: Iterable[str] = DIVERGENCES) -> dict[str, Any]:
    """Values of the divergences, by name."""
    return dict(zip(names, values, strict=True))


def behind(values: np.ndarray, names: Iterable[str] = DIVERGENCES) -> dict[str, dict[str, Any]]:
    """How much more each divergence has than forward KL, and p; f64[worlds, divergences]."""
    columns = named(values.T, names)
    apart = {k: x - columns[FORWARD] for k, x in columns.items() if k != FORWARD}
    p = adjusted(apart)
    return {name: {"more": t_interval(x), "p": p[name]} for name, x in apart.items()}


def visits_of(config: Config, visits: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
    """Learner -> title -> visits to cells in the first world, f64[rows, columns]; NaN: a wall.

    Args:
        config: the settings.
        visits: f64[learners, divergences, S, A].
    """
    world = make_world(config, 0)
    shape = config.rows, config.columns
    drawn = lambda x: np.where(world.walls, np.nan, x.sum(-1)).reshape(shape)
    return {
        kind: {"expert": drawn(world.expert)}
        | {name: drawn(x) for name, x in zip(DIVERGENCES, each, strict=True)}
        for kind, each in zip(learners(config), visits, strict=True)
    }
