"""The study of `experiments.annotation_noise`: settings, stages, summary."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from experiments.annotation_noise.report import FIRST, NOISES, conclusion, write_report
from experiments.valence.answers import AnswersConfig, sample_answers
from experiments.valence.comparisons import check_best_of, draw_pairs, label, learn, predict
from irl_jax.eval.annotator import (
    Annotator,
    agreement,
    beta_of_error_rate,
    flipping_annotator,
    logistic_annotator,
)
from irl_jax.eval.best_of_n import best_of_n
from irl_jax.eval.intervals import Interval, bootstrap, paired_difference
from irl_jax.eval.ranking import MEASURES, ranking_measures
from irl_jax.files import as_json
from irl_jax.losses.link import logistic, smoothed_zero_one, unbiased
from irl_jax.losses.preference import bradley_terry, order_classification, pairwise
from irl_jax.recipes.launch import Clock, kept, launch, splits
from irl_jax.rewards.embedding import EmbeddingReward, EnsembleConfig
from irl_jax.rollout.session import Completions
from irl_jax.train.progress import Progress
from irl_jax.train.run import RunDirectory
from irl_jax.types import InputError

QUICK = EnsembleConfig(members=2, widths=(32,), steps=100, batch_size=128, lr=1e-3)


@dataclass(frozen=True)
class Config:
    """Losses of comparisons as annotators get worse."""

    run_dir: Path = Path("runs/annotation_noise")  # directory of results; a run resumes there
    answers: AnswersConfig = field(default_factory=AnswersConfig)
    error_rates: tuple[float, ...] = (0.0, 0.1, 0.2, 0.3, 0.4, 0.45)  # shares of wrong labels
    pairs: int = 1000  # comparisons of answers to the same prompt
    held_out: float = 0.25  # share of the prompts that is kept from training
    best_of: int = 16  # answers from which the learned reward chooses the best
    seeds: int = 10  # repeats, with other splits, pairs, labels and models
    reward: EnsembleConfig = QUICK


CONFIG = Config()


def losses(rate: Any) -> dict[str, Callable]:
    """Name -> loss of pairs, for labels of which a share `rate` (a number, f32[]) is wrong."""
    return {
        FIRST: bradley_terry,
        "order classification": order_classification,
        "label smoothing": partial(bradley_terry, label_smoothing=rate),
        "unbiased under flips": partial(pairwise, link=unbiased(logistic, rate)),
        "sigmoid": partial(pairwise, link=smoothed_zero_one),
    }


def annotator(noise: str, rate: float, gap: np.ndarray) -> Annotator:
    """An annotator who errs on a share `rate` of pairs with these differences of gold."""
    if noise == NOISES[0]:
        return logistic_annotator(beta_of_error_rate(rate, gap))
    return flipping_annotator(rate)


@partial(jax.jit, static_argnames=("name", "config"))
def learn_at(
    rate: Array,
    features: Array,
    pairs: Array,
    weight: Array,
    keys: Array,
    *,
    name: str,
    config: EnsembleConfig,
) -> EmbeddingReward:
    """`learn` under the loss of this name, told that a share f32[] of the labels is wrong."""
    return learn(features, pairs, weight, keys, config=config, loss=losses(rate)[name])


def check(config: Config) -> None:
    """Raises `InputError` for what a run would only stumble over after sampling."""
    if not all(0 <= rate < 0.5 for rate in config.error_rates) or not config.error_rates:
        raise InputError(f"error_rates: give shares in [0, 0.5), got {config.error_rates}")
    check_best_of(config.best_of, config.answers)


def main(config: Config) -> None:
    """Runs the experiment, goes on with it, or reports what is there."""
    check(config)
    launch(config, partial(experiment, config), conclusion, inputs=config.answers.inputs)


def experiment(config: Config, run: RunDirectory, progress: Progress) -> None:
    """Samples answers, trains every loss at every rate and seed, reports."""
    clock = Clock(run.path / "seconds.json")
    with clock("sample answers"):
        responses = sample_answers(config.answers, run, progress, seed=0)
    with clock("train reward models"):
        rows, ends = study(config, responses, run, progress)
    summary = {
        "rows": rows,
        "ends": ends,
        "seeds": config.seeds,
        "best_of": config.best_of,
        "seconds": clock.seconds,
    }
    write_report(run, as_json(summary))
    run.finish(as_json(summary))


def study(
    config: Config, responses: Completions, run: RunDirectory, progress: Progress
) -> tuple[list[dict[str, Any]], dict[str, Interval]]:
    """Every noise, rate and loss as a row, and best-of-n by gold and at random.

    What a noise and a rate gave is kept in the run directory.

    Returns:
        Rows of `noise`, `error_rate`, `loss`; of each of `MEASURES` its interval over
        seeds, its paired difference to Bradley-Terry and its values by seed; `agreement`
        with the annotator and its `ceiling`, means over seeds.
    """
    gold, (prompts, completions) = responses.values["gold"], responses.values["gold"].shape
    train = splits(np.arange(prompts), config.held_out, config.seeds)
    drawn = np.stack(
        [
            draw_pairs(np.flatnonzero(own), completions, config.pairs, seed, across=False)
            for seed, own in enumerate(train)
        ]
    )
    conditions = [(noise, rate) for noise in NOISES for rate in config.error_rates]
    advance = progress.stage("annotators", len(conditions))
    rows: list[dict[str, Any]] = []
    for done, (noise, rate) in enumerate(conditions, 1):
        make = partial(condition, config, responses, train, drawn, noise, rate)
        values = kept(run, f"{noise}_{rate}".replace(" ", "_"), make)
        for i, name in enumerate(losses(rate)):
            rows.append(
                {
                    "noise": noise,
                    "error_rate": rate,
                    "loss": name,
                    **{m: bootstrap(values[m][i]) for m in MEASURES},
                    "against": {m: paired_difference(values[m][0], values[m][i]) for m in MEASURES},
                    "by_seed": {m: values[m][i].tolist() for m in MEASURES},
                    "agreement": float(values["agreement"][i].mean()),
                    "ceiling": float(values["ceiling"][i].mean()),
                }
            )
        advance(done, {})
    best = lambda t: best_of_n(gold[~t], gold[~t], config.best_of).mean()
    ends = {
        "by gold itself": bootstrap([best(t) for t in train]),
        "at random": bootstrap([gold[~t].mean() for t in train]),
    }
    return rows, ends


def condition(
    config: Config,
    responses: Completions,
    train: np.ndarray,
    drawn: np.ndarray,
    noise: str,
    rate: float,
) -> dict[str, np.ndarray]:
    """What every loss learns from one annotator: each of `MEASURES`, `agreement`, `ceiling`.

    Args:
        config: of the experiment.
        responses: of P prompts.
        train: bool[S, P], prompts that a seed learns from.
        drawn: i64[S, N, 2], pairs of answers to them.
        noise: how the annotator errs.
        rate: share of wrong labels.

    Returns:
        Name -> f64[losses, S].
    """
    gold, features = responses.values["gold"], responses.values["features"]
    flat = jnp.asarray(features.reshape(-1, features.shape[-1]))
    gap = np.subtract(*np.moveaxis(gold.ravel()[drawn], -1, 0))
    people = annotator(noise, rate, gap.ravel())
    labelled = np.stack([label(gold, pairs, people, s) for s, pairs in enumerate(drawn)])
    weight = jnp.asarray(gap != 0, jnp.float32)  # equal answers are not compared
    keys = jax.random.split(jax.random.key(1), len(drawn))
    found = []
    for name in losses(rate):
        models = learn_at(
            jnp.float32(rate), flat, labelled, weight, keys, name=name, config=config.reward
        )
        reward = np.asarray(predict(models, flat)).reshape(-1, *gold.shape)
        held = [(r[~t], gold[~t]) for r, t in zip(reward, train, strict=True)]
        agree = [agreement(*pair, people, resamples=2) for pair in held]
        found.append(
            [
                ranking_measures(*pair, best_of=config.best_of)
                | {"agreement": a.proxy.estimate, "ceiling": a.ceiling.estimate}
                for pair, a in zip(held, agree, strict=True)
            ]
        )
    names = (*MEASURES, "agreement", "ceiling")
    return {m: np.array([[one[m] for one in seeds] for seeds in found]) for m in names}
