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
from experiments.mle_or_inverse_q.worlds import BASES, MLE, arms_of, gold_at_likeness
from experiments.sandbox.runs import interval
from experiments.sandbox.task import Task, kept_task
from irl_jax.eval.intervals import adjusted, bootstrap, paired_difference, t_interval
from irl_jax.files import as_json
from irl_jax.recipes.launch import Clock, given_model, kept, launch
from irl_jax.train.progress import Progress
from irl_jax.train.run import RunDirectory

MEASURED = ("gold", "likeness", "surprise")


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
        at each temperature, `at`, the updates of an arm that was stopped, and `less`, by the name
        of a base of `BASES`: all of `less` less the base's; `corrected`: p of −log π and
        of gold at equal self-BLEU less the base's, by Holm's procedure over all arms and both
        bases of a number of demonstrations.
    """
    rows, corrected = [], []
    arms = arms_of(config)
    for c, count in enumerate(config.demonstrations):
        tested: dict[str, np.ndarray] = {}
        every = [{k: found[k][:, c, a] for k in MEASURED} for a in range(len(arms))]
        for a, name in enumerate(arms):
            own = every[a]
            row: dict[str, Any] = {"demonstrations": count, "arm": name, "less": {}}
            row["surprise"] = t_interval(own["surprise"])
            row |= {k: by_temperature(own[k]) for k in ("gold", "likeness")}
            if (stopped := a - len(arms) + 2) >= 0:
                row["at"] = t_interval(found["stopped"][:, c, stopped])
            for base in (base for base in BASES if base != name):
                row["less"][base], differences = less(config, own, every[arms.index(base)])
                tested |= {f"{name}, {k} less {base}": x for k, x in differences.items()}
            rows.append(row)
        corrected.append(adjusted(tested))
    return {
        "worlds": config.seeds,
        "temperatures": config.temperatures,
        "equal_temperatures": config.equal,
        "demonstrations": config.demonstrations,
        "arms": arms,
        "rows": rows,
        "corrected": corrected,
        "expert": t_interval(found["expert"]),
        "apart": float(found["apart"]),
    }


def by_temperature(x: np.ndarray) -> list[Any]:
    """An interval over worlds at each temperature, of f64[S, temperatures]."""
    return [t_interval(column) for column in x.T]


def less(
    config: Config, own: Mapping[str, np.ndarray], base: Mapping[str, np.ndarray]
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What an arm has less a base, with intervals over worlds; and those that are tested.

    Returns:
        `surprise`; `gold` and `likeness` at each temperature; `equal`, gold where self-BLEU is
        that of the base at each temperature of `config.equal`; and f64[S] by name.
    """
    gap = {k: own[k] - base[k] for k in MEASURED}
    equal = {t: at_equal(config, own, base, t) for t in config.equal}
    found = {
        "surprise": t_interval(gap["surprise"]),
        "gold": by_temperature(gap["gold"]),
        "likeness": by_temperature(gap["likeness"]),
        "equal": [interval(x) for x in equal.values()],
    }
    tested = {f"gold at {t:g}": x for t, x in equal.items() if np.isfinite(x).all()}
    return found, tested | {"−log π": gap["surprise"]}


def at_equal(
    config: Config, own: Mapping[str, np.ndarray], base: Mapping[str, np.ndarray], at: float
) -> np.ndarray:
    """Gold less a base's where self-BLEU is the base's at a temperature, f64[S]; NaN beyond."""
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
