"""The study of `experiments.feedback_forms`: settings, stages, summary."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.feedback_forms.attributes import attribute_study, check_attributes
from experiments.feedback_forms.config import Config
from experiments.feedback_forms.feedback import FIRST, FORMS, GROUP, Form, Readings, first, learn
from experiments.feedback_forms.report import conclusion, write_report
from experiments.feedback_forms.training_rate import models_a_minute
from experiments.valence.answers import sample_answers
from experiments.valence.comparisons import check_best_of, predict
from irl_jax.eval.annotator import beta_of_error_rate
from irl_jax.eval.best_of_n import best_of_n
from irl_jax.eval.intervals import bootstrap, paired_difference
from irl_jax.eval.ranking import ranking_measures
from irl_jax.files import as_json
from irl_jax.masking import check_range
from irl_jax.recipes.launch import Clock, kept, launch, splits
from irl_jax.rollout.session import Completions
from irl_jax.train.progress import Progress
from irl_jax.train.run import RunDirectory
from irl_jax.types import InputError

MEASURED = ("rank correlation", "best of n")
CURVES = (
    FIRST,
    "rankings of 8, Plackett-Luce",
    "good or bad",
    "marks of 5, ordinal",
    "numbers, regression",
)


@dataclass(frozen=True)
class Condition:
    """What is asked of people, and how they are.

    Attributes:
        name: of the row.
        error_rate: share of pairs told the wrong way round, from the noise of impressions.
        readings: answers read, the same for all forms; None if `decisions` is given.
        decisions: marks or comparisons, the same for all forms.
        differ: whether people differ in scale and offset.
        forms: those that are tried.
    """

    name: str
    error_rate: float
    forms: tuple[str, ...]
    readings: int | None = None
    decisions: int | None = None
    differ: bool = False

    def judgements(self, form: Form) -> int:
        """How many judgements are given."""
        if self.readings is None:
            return (self.decisions or 0) // form.decisions
        return self.readings // form.answers


def conditions(config: Config) -> list[Condition]:
    """All that are run."""
    most, rate = config.readings[-1], config.error_rate
    some = tuple(name for name in config.forms if name in CURVES)
    return [
        *(Condition(f"{r:.0%} wrong", r, config.forms, most) for r in config.error_rates),
        Condition("people differ", rate, config.forms, most, differ=True),
        Condition(f"{config.decisions} decisions", rate, config.forms, decisions=config.decisions),
        *(Condition(f"{n} read", rate, some, n) for n in config.readings[:-1]),
    ]


def check(config: Config) -> None:
    """Raises `InputError` for what a run would only stumble over after sampling."""
    if not all(0 <= rate < 0.5 for rate in (*config.error_rates, config.error_rate)):
        raise InputError(f"error_rates: give shares in [0, 0.5), got {config.error_rates}")
    if config.error_rate not in config.error_rates:
        raise InputError(f"error_rates: {config.error_rates} lacks error_rate {config.error_rate}")
    unknown = [name for name in config.forms if name not in FORMS]
    if unknown or config.forms[:1] != (FIRST,):
        raise InputError(f"forms: give {FIRST!r} and then of {list(FORMS)[1:]}, got {config.forms}")
    check_range("ties", config.ties, 0.0, 1.0, exclusive=True)
    check_range("people", config.people, 1)
    check_best_of(config.best_of, config.answers)
    prompts = int(splits(np.arange(config.answers.prompts), config.held_out, 1).sum())
    there = prompts * (config.answers.completions // GROUP) * GROUP
    if not config.readings or not all(GROUP <= n <= there for n in config.readings):
        raise InputError(
            f"readings: give numbers from {GROUP} to {there}, the answers to {prompts} prompts "
            f"in groups of {GROUP}, got {config.readings}"
        )
    most = max(form.decisions for form in FORMS.values())
    if not most <= config.decisions <= there // 2:
        raise InputError(
            f"decisions: expected {most} to {there // 2} (pairs of the answers), "
            f"got {config.decisions}"
        )
    check_attributes(config.attributes, prompts, config.answers.completions)


def main(config: Config) -> None:
    """Runs the experiment, goes on with it, or reports what is there."""
    check(config)
    launch(config, partial(experiment, config), conclusion, inputs=config.answers.inputs)


def experiment(config: Config, run: RunDirectory, progress: Progress) -> None:
    """Samples answers, learns from every form in every condition, reports."""
    clock = Clock(run.path / "seconds.json")
    with clock("sample answers"):
        responses = sample_answers(config.answers, run, progress, seed=0)
    gold = responses.values["gold"]
    train = splits(np.arange(len(gold)), config.held_out, config.seeds)
    with clock("forms of feedback"):
        rows = study(config, responses, train, run, progress)
    with clock("attributes"):
        attributes = attribute_study(
            config.attributes, responses, train, run, best_of=config.best_of,
            error_rate=config.error_rate, reward=config.reward, lrs=config.lrs,
        )  # fmt: skip
    with clock("count models a minute"):
        rate = models_a_minute(config.rate, responses.values["features"], config.reward)
    best = lambda t: best_of_n(gold[~t], gold[~t], config.best_of).mean()
    summary = {
        "rows": rows,
        "attributes": attributes,
        "models a minute": rate,
        "ends": {
            "by gold itself": bootstrap([best(t) for t in train]),
            "at random": bootstrap([gold[~t].mean() for t in train]),
        },
        "seeds": config.seeds,
        "best_of": config.best_of,
        "seconds": clock.seconds,
    }
    write_report(run, as_json(summary))
    run.finish(as_json(summary))


def read(config: Config, gold: np.ndarray, own: np.ndarray, here: Condition, seed: int) -> Readings:
    """What people thought of the answers to some prompts.

    The same answers, noise (but for its size) and people in every condition of a seed.

    Args:
        config: of the experiment.
        gold: f64[P, K].
        own: bool[P], the prompts.
        here: the condition.
        seed: of the draw.
    """
    rng = np.random.default_rng([seed, 5])
    prompts, completions = np.flatnonzero(own), gold.shape[1]
    groups = completions // GROUP
    shuffled = rng.permuted(np.tile(np.arange(completions), (len(prompts), 1)), axis=1)
    answer = prompts[:, None] * completions + shuffled[:, : groups * GROUP]
    answer = rng.permutation(answer.reshape(-1, GROUP))
    i, j = np.triu_indices(completions, 1)
    beta = beta_of_error_rate(here.error_rate, (gold[own][:, i] - gold[own][:, j]).ravel())
    impression = gold.ravel()[answer] + rng.gumbel(size=answer.shape) / beta
    gap = np.abs(np.diff(impression.reshape(-1, 2)))
    person = rng.permutation(np.arange(len(answer)) % config.people)
    habit = rng.normal(size=(2, config.people)) * here.differ
    scale = np.exp(config.spread * habit[0] - config.spread**2 / 2 * here.differ)
    return Readings(
        answer=answer,
        impression=impression,
        scale=scale[person],
        offset=config.offset * habit[1][person],
        person=person,
        draw=float(np.quantile(gap, config.ties)),
    )


def study(
    config: Config,
    responses: Completions,
    train: np.ndarray,
    run: RunDirectory,
    progress: Progress,
) -> list[dict[str, Any]]:
    """Every condition and form as a row; what a condition gave is kept in the run directory.

    Returns:
        Rows of `condition`, `form`; whether they belong to the `curve` over readings; how
        many `answers` were read for how many `judgements` and `decisions`; the learning rate
        `lr` that was best; of each of `MEASURED` its interval over seeds, its paired
        difference to Bradley-Terry (`against`) and its values by seed.
    """
    todo = conditions(config)
    advance = progress.stage("conditions", len(todo))
    rows: list[dict[str, Any]] = []
    for done, here in enumerate(todo, 1):
        make = partial(outcome, config, responses, train, here)
        file = f"{here.name} {here.error_rate}".replace(" ", "_").replace("%", "")
        values = kept(run, file, make)
        best = values["best of n"].mean(-1).argmax(1)
        chosen = {m: values[m][np.arange(len(best)), best] for m in MEASURED}
        for i, name in enumerate(here.forms):
            form = FORMS[name]
            n = here.judgements(form)
            rows.append(
                {
                    "condition": here.name,
                    "curve": name in CURVES
                    and here.readings is not None
                    and not here.differ
                    and here.error_rate == config.error_rate,
                    "form": name,
                    "answers": n * form.answers,
                    "judgements": n,
                    "decisions": n * form.decisions,
                    "lr": config.lrs[best[i]],
                    **{m: bootstrap(chosen[m][i]) for m in MEASURED},
                    "against": {m: paired_difference(chosen[m][0], chosen[m][i]) for m in MEASURED},
                    "by_seed": {m: chosen[m][i].tolist() for m in MEASURED},
                }
            )
        advance(done, {})
    return rows


def outcome(
    config: Config, responses: Completions, train: np.ndarray, here: Condition
) -> dict[str, np.ndarray]:
    """What every form teaches in one condition: each of `MEASURED`, f64[forms, lrs, S].

    Args:
        config: of the experiment.
        responses: of P prompts.
        train: bool[S, P], prompts that a seed learns from.
        here: the condition.
    """
    gold, features = responses.values["gold"], responses.values["features"]
    flat = jnp.asarray(features.reshape(-1, features.shape[-1]))
    readings = [read(config, gold, own, here, seed) for seed, own in enumerate(train)]
    keys = jax.random.split(jax.random.key(1), len(train))
    found = []
    for name in here.forms:
        form = FORMS[name]
        said = [first(form.rows(r), here.judgements(form)) for r in readings]
        answer = np.stack([rows.answer for rows in said]).astype(np.int32)
        label = np.stack([rows.label for rows in said]).astype(np.float32)
        weight = np.stack([rows.weight for rows in said]).astype(np.float32)
        for lr in config.lrs:
            models = learn(
                flat, answer, label, weight, keys, jnp.float32(lr), form=name, config=config.reward
            )
            reward = np.asarray(predict(models, flat)).reshape(-1, *gold.shape)
            found.append(
                [
                    ranking_measures(r[~t], gold[~t], best_of=config.best_of)
                    for r, t in zip(reward, train, strict=True)
                ]
            )
    shape = (len(here.forms), len(config.lrs), len(train))
    return {m: np.array([[s[m] for s in one] for one in found]).reshape(shape) for m in MEASURED}
