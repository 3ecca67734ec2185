"""The study of `experiments.mle_or_inverse_q`: both halves, and their summary."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.mle_or_inverse_q import solutions, worlds
from experiments.mle_or_inverse_q.config import Config, SolutionsConfig
from experiments.mle_or_inverse_q.report import conclusion, write_report
from experiments.mle_or_inverse_q.worlds import MLE, arms_of, gold_at_likeness
from experiments.sandbox.runs import interval
from experiments.sandbox.task import Task, kept_task
from irl_jax.eval.intervals import adjusted, bootstrap, paired_difference, t_interval
from irl_jax.files import as_json
from irl_jax.recipes.launch import Clock, given_model, kept, launch
from irl_jax.train.progress import Progress
from irl_jax.train.run import RunDirectory


def main(config: Config) -> None:
    """Runs the experiment, goes on with it, or reports what is there."""
    own = config.solutions
    inputs = {}
    if own.train is not None:
        model = given_model(own.model)
        inputs = {"solutions.train": own.train, "solutions.test": own.test}
        inputs |= {"solutions.model": model}
    launch(config, partial(experiment, config), conclusion, inputs=inputs)


def experiment(config: Config, run: RunDirectory, progress: Progress) -> None:
    """Worlds, their policies, the language model if there are solutions, the report."""
    clock = Clock(run.path / "seconds.json")
    advance = progress.stage("sandbox", 2)
    with clock("worlds"):
        each = [kept_task(run, config.sandbox, config.first_seed + s) for s in range(config.seeds)]
        tasks: Task = jax.tree.map(lambda *x: jnp.stack(x), *each)
        advance(1, {})
    with clock("policies of the sandbox"):
        found = kept(run, "imitated", partial(worlds.imitate, config, tasks))
        advance(2, {})
    summary: dict[str, Any] = {"sandbox": of_worlds(config, found), "solutions": None}
    if config.solutions.train is not None:
        with clock("solutions"):
            learned = solutions.imitate(config.solutions, run, progress)
        summary["solutions"] = of_solutions(config.solutions, learned)
    summary = as_json(summary | {"seconds": clock.seconds})
    write_report(run, summary)
    run.finish(summary)


def of_worlds(config: Config, found: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The sandbox's results; intervals over worlds.

    Returns:
        `rows`: of each number of demonstrations and arm, its `surprise`, and `gold` and `likeness`
        at each temperature, and all three less MLE's; `equal`: gold where self-BLEU is that of MLE
        at each temperature of `config.equal`, less MLE's; `corrected`: p of these and of the
        surprise less MLE's, by Holm's procedure over all λ of a number of demonstrations.
    """
    rows, corrected = [], []
    for c, count in enumerate(config.demonstrations):
        tested: dict[str, np.ndarray] = {}
        for a, name in enumerate(arms_of(config)):
            own = {k: found[k][:, c, a] for k in ("gold", "likeness", "surprise")}
            base = {k: found[k][:, c, 0] for k in own}
            by_temperature = lambda x: [t_interval(column) for column in x.T]
            row: dict[str, Any] = {"demonstrations": count, "arm": name}
            row["surprise"] = t_interval(own["surprise"])
            row |= {k: by_temperature(own[k]) for k in ("gold", "likeness")}
            if name != MLE:
                less = {k: own[k] - base[k] for k in own}
                row["surprise_less"] = t_interval(less["surprise"])
                row |= {f"{k}_less": by_temperature(less[k]) for k in ("gold", "likeness")}
                equal = {t: at_equal(config, own, base, t) for t in config.equal}
                row["equal"] = [interval(x) for x in equal.values()]
                tested |= {
                    f"{name}, gold at {t:g}": x for t, x in equal.items() if np.isfinite(x).all()
                }
                tested[f"{name}, −log π"] = less["surprise"]
            rows.append(row)
        corrected.append(adjusted(tested))
    return {
        "worlds": config.seeds,
        "temperatures": config.temperatures,
        "equal_temperatures": config.equal,
        "demonstrations": config.demonstrations,
        "arms": arms_of(config),
        "rows": rows,
        "corrected": corrected,
        "expert": t_interval(found["expert"]),
        "apart": float(found["apart"]),
    }


def at_equal(
    config: Config, own: Mapping[str, np.ndarray], base: Mapping[str, np.ndarray], at: float
) -> np.ndarray:
    """Gold less MLE's where self-BLEU is that of MLE at a temperature, f64[S]; NaN beyond."""
    t = config.temperatures.index(at)
    levels = base["likeness"][:, t]
    curves = zip(own["likeness"], own["gold"], levels, strict=True)
    return np.array([gold_at_likeness(*curve) for curve in curves]) - base["gold"][:, t]


def of_solutions(
    config: SolutionsConfig, found: Mapping[str, Mapping[str, np.ndarray]]
) -> dict[str, Any]:
    """The language model's results; intervals by the bootstrap over questions.

    Returns:
        `rows`: of each policy, `surprise`, and at each temperature `likeness`, `marked`, `right`
        and `tokens`; and all of them less MLE's.
    """
    rows = []
    for name, own in found.items():
        row: dict[str, Any] = {"arm": name}
        for key, x in own.items():
            each, base = np.atleast_2d(x), np.atleast_2d(found[MLE][key])
            row[key] = [bootstrap(values) for values in each]
            if name != MLE:
                pairs = zip(base, each, strict=True)
                row[f"{key}_less"] = [paired_difference(*pair) for pair in pairs]
        rows.append(row)
    return {
        "temperatures": config.temperatures,
        "updates": config.updates,
        "questions": config.questions,
        "rows": rows,
    }
