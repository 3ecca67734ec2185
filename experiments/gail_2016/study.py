"""The study of `experiments.gail_2016`: returns of all learners, beside the authors'."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.gail_2016.config import Config
from experiments.gail_2016.learners import Setting, cloned, imitated
from experiments.gail_2016.report import conclusion, write_report
from experiments.gail_2016.tasks import (
    CLONING,
    GAIL,
    RESULTS,
    Task,
    expert_act,
    read_expert,
    read_results,
    tasks,
)
from irl_jax.envs.environment import fixed_horizon
from irl_jax.eval.intervals import adjusted, t_interval
from irl_jax.files import as_json
from irl_jax.recipes.control import mean_return
from irl_jax.recipes.launch import Clock, kept, launch
from irl_jax.train.progress import Progress
from irl_jax.train.run import RunDirectory
from irl_jax.types import InputError

EVEN = 0.5  # b of a fixed horizon, where no sign is needed
Expert = dict[str, np.ndarray]
Row = tuple[int, int, float, bool]  # a `Setting` without its seed


def main(config: Config) -> None:
    """Runs the experiment, goes on with it, or reports what is there."""
    if config.data is None:
        raise InputError("data: no directory of results and experts; give one, --data gail2016")
    results, known = read_results(config.data), tasks()
    if unknown := set(config.tasks) - set(known):
        raise InputError(f"tasks: no {', '.join(sorted(unknown))}; they are {', '.join(known)}")
    chosen = {name: (known[name], read_expert(config.data, known[name])) for name in config.tasks}
    for name in chosen:
        for algorithm in (CLONING, GAIL):
            for number in config.demonstrations:
                if len(results.get((name, algorithm, number), ())) < 2:
                    raise InputError(
                        f"{config.data / RESULTS}: has no two runs of {algorithm} on {name} from "
                        f"{number} demonstrations; choose other --demonstrations"
                    )
    files = [RESULTS, *(task.expert for task, _ in chosen.values())]
    inputs = {f"data/{name}": config.data / name for name in files}
    work = partial(experiment, config, results, chosen)
    launch(config, work, conclusion, inputs=inputs)


def experiment(
    config: Config,
    results: dict[tuple[str, str, int], np.ndarray],
    chosen: dict[str, tuple[Task, Expert]],
    run: RunDirectory,
    progress: Progress,
) -> None:
    """Trains and measures all learners of each task, reports."""
    clock = Clock(run.path / "seconds.json")
    advance = progress.stage("tasks", len(chosen))
    found = {}
    for done, (name, (task, expert)) in enumerate(chosen.items(), start=1):
        with clock(name):
            found[name] = kept(run, name, partial(returns, config, task, expert))
        advance(done, {})
    summary = {
        "demonstrations": list(config.demonstrations),
        "seeds": config.seeds,
        "tasks": {
            name: summarise(
                {
                    algorithm: [results[name, algorithm, n] for n in config.demonstrations]
                    for algorithm in (CLONING, GAIL)
                },
                own,
            )
            for name, own in found.items()
        },
        "seconds": clock.seconds,
    }
    write_report(run, as_json(summary))
    run.finish(as_json(summary))


def returns(config: Config, task: Task, expert: Expert) -> dict[str, np.ndarray]:
    """Arm -> the return of each learner, f32[settings, seeds]; of the expert f32[1, seeds].

    `bclone` and `ga` have a setting for each number of demonstrations, and then one of the 'expert'
    that pushes left; it and what follows is demonstrated least. `whole`, of behaviour cloning, and
    `fixed`, of GAIL in a fixed horizon, are given every step; `fixed` has the pusher too.
    """
    arrays, env = jax.tree.map(jnp.asarray, expert), task.env
    least, every, b = min(config.demonstrations), task.every, task.b
    each = [(n, every, b, False) for n in config.demonstrations]
    left, opposite = (least, every, b, True), (least, every, 1.0 - b, False)
    whole, whole_left = (least, 1, EVEN, False), (least, 1, EVEN, True)
    cloning = partial(cloned, config, env, arrays)
    imitation = partial(imitated, config, env, arrays)
    fixed = partial(imitated, config, fixed_horizon(env), arrays)
    bclone = learned(cloning, [*each, left, whole], config.seeds)
    ga = learned(imitation, [*each, left, opposite], config.seeds)
    return {
        "expert": expert_returns(config, task, arrays),
        CLONING: bclone[:-1],
        "whole": bclone[-1:],
        GAIL: ga[:-1],
        "opposite": ga[-1:],
        "fixed": learned(fixed, [whole, whole_left], config.seeds),
    }


def learned(
    learner: Callable[[Setting], jax.Array],
    settings: list[Row],
    seeds: int,
) -> np.ndarray:
    """The returns of a learner in all settings and seeds at once, f32[settings, seeds]."""
    columns = (jnp.repeat(jnp.asarray(x), seeds) for x in zip(*settings, strict=True))
    lanes = Setting(jnp.tile(jnp.arange(seeds), len(settings)), *columns)
    found = jax.jit(jax.vmap(learner))(lanes)
    return np.asarray(found).reshape(len(settings), seeds)


def expert_returns(config: Config, task: Task, expert: Mapping[str, jax.Array]) -> np.ndarray:
    """Returns of the expert, f32[1, seeds], each a mean over episodes."""
    act = expert_act(expert, jnp.asarray(False))
    keys = jax.random.split(jax.random.key(config.seed), config.seeds)
    measure = jax.jit(jax.vmap(lambda key: mean_return(task.env, act, key, config.episodes)))
    return np.asarray(measure(keys))[None]


def summarise(theirs: dict[str, list[np.ndarray]], own: dict[str, np.ndarray]) -> dict[str, Any]:
    """Means over runs and seeds of one task, with intervals."""
    cloning, gail, (fixed, pushed) = own[CLONING], own[GAIL], own["fixed"]
    expert, whole, opposite = (own[name][0] for name in ("expert", "whole", "opposite"))
    margins = {
        "GAIL less behaviour cloning": gail[0] - cloning[0],
        "GAIL in a fixed horizon less behaviour cloning of every step": fixed - whole,
        "GAIL in a fixed horizon less the expert": fixed - expert,
        "GAIL less GAIL with the opposite sign": gail[0] - opposite,
    }
    return {
        "expert": t_interval(expert),
        "theirs": {name: [t_interval(x) for x in rows] for name, rows in theirs.items()},
        "ours": {name: [t_interval(x) for x in own[name][:-1]] for name in (CLONING, GAIL)},
        "whole": t_interval(whole),
        "fixed": t_interval(fixed),
        "opposite": t_interval(opposite),
        "left": {
            "behaviour cloning": t_interval(cloning[-1]),
            "GAIL": t_interval(gail[-1]),
            "GAIL in a fixed horizon": t_interval(pushed),
        },
        "margins": {name: t_interval(values) for name, values in margins.items()},
        "p": adjusted(margins),
    }
