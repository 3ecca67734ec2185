"""The study of `experiments.adversarial_imitation`: returns of all learners and controls."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.adversarial_imitation.config import Config
from experiments.adversarial_imitation.learners import (
    FORMS,
    POINTS,
    Lane,
    Learner,
    World,
    clone_of_all,
    learners,
)
from experiments.adversarial_imitation.report import conclusion, write_report
from experiments.adversarial_imitation.tasks import Episodes, Task, read_episodes, tasks
from irl_jax.eval.intervals import adjusted, t_interval
from irl_jax.files import as_json
from irl_jax.recipes.launch import Clock, kept, launch
from irl_jax.train.progress import Progress
from irl_jax.train.run import RunDirectory
from irl_jax.types import InputError

BASE, LEFT = "behaviour cloning", ", shown pushes to the left"
CONTROLS = ("GAIL, opposite sign", "GAIL, constant reward")
Row = tuple[str, bool, int, int]  # name of an arm, whether it is shown pushes, its form, its seeds


def main(config: Config) -> None:
    """Runs the experiment, goes on with it, or reports what is there."""
    if config.data is None:
        raise InputError("data: no directory of episodes; give one, --data imitation_experts")
    known = tasks()
    if unknown := set(config.tasks) - set(known):
        raise InputError(f"tasks: no {', '.join(sorted(unknown))}; they are {', '.join(known)}")
    chosen = {name: (known[name], read_episodes(config.data, known[name])) for name in config.tasks}
    inputs = {f"data/{task.file}": config.data / task.file for task, _ in chosen.values()}
    launch(config, partial(experiment, config, chosen), conclusion, inputs=inputs)


def experiment(
    config: Config,
    chosen: dict[str, tuple[Task, Episodes]],
    run: RunDirectory,
    progress: Progress,
) -> None:
    """Trains and measures all learners of each task, reports."""
    clock = Clock(run.path / "seconds.json")
    names = learners(config)
    advance = progress.stage("learners", len(chosen) * len(names))
    found: dict[str, Any] = {}
    done = 0
    for name, (task, episodes) in chosen.items():
        asked, whole = clone_of_all(config, task, episodes)
        world = World(config, task, episodes, asked)
        measured: dict[str, np.ndarray] = {}
        for which, learner in names.items():
            with clock(which):
                slug = "".join(c if c.isalnum() else "_" for c in f"{name} {which}")
                work = partial(learned, learner, world, rows_of(config, which))
                measured |= kept(run, slug, work)
            done += 1
            advance(done, {})
        found[name] = summarise(config, episodes.returns, np.asarray(whole), measured)
    summary = {"seeds": config.seeds, "tasks": found, "seconds": clock.seconds}
    write_report(run, as_json(summary))
    run.finish(as_json(summary))


def rows_of(config: Config, name: str) -> list[Row]:
    """The arms that are learned together by one learner."""
    few, gail = config.control_seeds, "GAIL" if name == "adversarial" else name
    arms: list[Row] = [(gail, False, 0, config.seeds)]
    if name == "adversarial":
        arms.append(("FAIRL", False, FORMS.index("FAIRL"), config.seeds))
        arms += [
            (arm, False, FORMS.index(form), few)
            for arm, form in zip(CONTROLS, ("opposite", "constant"), strict=True)
        ]
    if name != "DAgger":  # it asks somebody else
        arms.append((gail + LEFT, True, 0, few))
    return arms


def learned(learner: Learner, world: World, arms: list[Row]) -> dict[str, np.ndarray]:
    """Arm -> f32[seeds, 1 + POINTS]: what its policies return, and what they did over time."""
    seeds = jnp.concatenate([jnp.arange(count) for *_, count in arms])
    each = lambda column: jnp.repeat(
        jnp.asarray([arm[column] for arm in arms]),
        jnp.asarray([arm[3] for arm in arms]),
        total_repeat_length=len(seeds),
    )
    value, curve = jax.jit(jax.vmap(partial(learner, world)))(Lane(seeds, each(1), each(2)))
    rows = np.concatenate([np.asarray(value)[:, None], np.asarray(curve)], 1)
    parts = np.split(rows, np.cumsum([arm[3] for arm in arms])[:-1])
    return {arm[0]: part for arm, part in zip(arms, parts, strict=True)}


def summarise(
    config: Config, expert: np.ndarray, asked: np.ndarray, measured: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    """Means over seeds of one task, with intervals, and differences in the same seeds."""
    value = {name: rows[:, 0] for name, rows in measured.items()}
    failing = {name: x for name, x in value.items() if LEFT in name or name in CONTROLS}
    methods = {name: x for name, x in value.items() if name not in failing}
    margins = {name: x - methods[BASE] for name, x in methods.items() if name != BASE}
    partner = lambda name: methods[name.split(", shown")[0] if LEFT in name else "GAIL"]
    losses = {name: x - partner(name)[: len(x)] for name, x in failing.items()}
    acted = {"DAgger": config.dagger.rounds * config.dagger.environments * config.dagger.unroll}
    acted |= dict.fromkeys(("SQIL", "IQ-Learn"), config.soft.steps)
    acted |= dict.fromkeys(("GAIL", "FAIRL", "AIRL"), config.policy.steps)
    middle = (np.arange(POINTS) + 0.5) / POINTS
    known = {name: np.isfinite(measured[name]).all(0)[1:] for name in acted}
    curves = {name: measured[name][:, 1:].T[there] for name, there in known.items()}
    intervals = lambda x: {name: t_interval(values) for name, values in x.items()}
    return {
        "expert": t_interval(expert),
        "asked": t_interval(asked),
        "methods": intervals(methods),
        "controls": intervals(failing),
        "margins": intervals(margins),
        "p": adjusted(margins),
        "losses": intervals(losses),
        "p_losses": adjusted(losses),
        "steps": {name: (middle[known[name]] * count).tolist() for name, count in acted.items()},
        "curves": {name: [t_interval(x) for x in columns] for name, columns in curves.items()},
    }
