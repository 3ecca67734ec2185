"""The study of `experiments.active_reward_modelling`: settings, stages, summary."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from experiments.active_reward_modelling.config import Config
from experiments.active_reward_modelling.report import DESIGNS, RANDOM, conclusion, write_report
from experiments.valence.answers import sample_answers
from experiments.valence.comparisons import check_best_of, draw_pairs, label, learn, predict
from irl_jax.eval.annotator import logistic_annotator
from irl_jax.eval.intervals import bootstrap, paired_difference
from irl_jax.eval.ranking import MEASURES, ranking_measures
from irl_jax.files import as_json
from irl_jax.recipes.launch import Clock, kept, launch, splits
from irl_jax.rewards.active import (
    batch_bald,
    d_optimal,
    entropy,
    highest,
    information,
    k_centre,
    leverage,
)
from irl_jax.rewards.embedding import EmbeddingReward
from irl_jax.rollout.session import Completions
from irl_jax.train.progress import Progress
from irl_jax.train.run import RunDirectory
from irl_jax.types import InputError

SETTINGS = {"same prompt": False, "any two answers": True}


class Pool(NamedTuple):
    """The pairs as a rule sees them.

    Attributes:
        change: f32[N, F], difference of the two answers' last-layer features.
        logit: f32[M, N], difference of their rewards by each member.
        labelled: bool[N].
        key: typed PRNG key.
    """

    change: Array
    logit: Array
    labelled: Array
    key: Array


def rules(config: Config) -> dict[str, Callable[[Pool], Array]]:
    """Name -> rule, from the pool to i32[batch] pairs to label next."""
    size = config.batch
    mean = lambda pool: pool.logit.mean(0)
    prior = lambda pool: config.prior * jnp.eye(pool.change.shape[1])
    top = lambda score: lambda pool: highest(score(pool), pool.labelled, size=size)

    def known(pool: Pool, weight: Array) -> Array:
        """The prior and the information of the weighted pairs."""
        return prior(pool) + information(pool.change, mean(pool), weight)

    def design(precision: Callable[[Pool], Array]) -> Callable[[Pool], Array]:
        return lambda pool: d_optimal(
            pool.change, mean(pool), precision(pool), pool.labelled, size=size
        )

    plain, aware, first_order = DESIGNS
    return {
        RANDOM: top(lambda pool: jax.random.uniform(pool.key, pool.labelled.shape)),
        "largest difference": top(lambda pool: jnp.abs(mean(pool))),
        "entropy": top(lambda pool: entropy(mean(pool))),
        "k-centre": lambda pool: k_centre(pool.change, pool.labelled, size=size),
        "BatchBALD": lambda pool: batch_bald(
            pool.logit, pool.labelled, pool.key, size=size, samples=config.samples
        ),
        plain: design(prior),
        aware: design(lambda pool: known(pool, pool.labelled)),
        first_order: top(
            lambda pool: leverage(
                pool.change, mean(pool), known(pool, jnp.ones(pool.labelled.shape))
            )
        ),
    }


@partial(jax.jit, static_argnames=("rule", "config"))
def choose(
    models: EmbeddingReward,
    features: Array,
    pairs: Array,
    labelled: Array,
    keys: Array,
    *,
    rule: str,
    config: Config,
) -> Array:
    """The next batch of each of S seeds, i32[S, batch].

    Args:
        models: of S seeds, every leaf with a leading axis S.
        features: f32[R, F], of all answers.
        pairs: i64[S, N, 2], the pools.
        labelled: bool[S, N].
        keys: typed PRNG keys [S].
        rule: its name.
        config: of the experiment.
    """

    def one(model: EmbeddingReward, pairs: Array, labelled: Array, key: Array) -> Array:
        reward, hidden = model(features), model.last_layer(features)
        first, second = pairs.T
        change, logit = hidden[first] - hidden[second], reward[:, first] - reward[:, second]
        return rules(config)[rule](Pool(change, logit, labelled, key))

    return jax.vmap(one)(models, pairs, labelled, keys)


def repeated(count: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows 0..count − 1 again and again up to `size`, i64[size], and weights f32[size].

    All rows have the same weight in total: training has one shape, hence one compilation,
    however many labels there are.
    """
    index = np.arange(size) % count
    return index, (1 / np.bincount(index)[index]).astype(np.float32)


def check(config: Config) -> None:
    """Raises `InputError` for what a run would only stumble over after sampling."""
    if config.batch * config.rounds > config.pool:
        raise InputError(
            f"pool: {config.rounds} rounds of {config.batch} need"
            f" {config.batch * config.rounds} pairs or more, got {config.pool}"
        )
    check_best_of(config.best_of, config.answers)


def main(config: Config) -> None:
    """Runs the experiment, goes on with it, or reports what is there."""
    check(config)
    launch(config, partial(experiment, config), conclusion, inputs=config.answers.inputs)


def experiment(config: Config, run: RunDirectory, progress: Progress) -> None:
    """Samples answers, runs every rule on every seed, reports."""
    clock = Clock(run.path / "seconds.json")
    with clock("sample answers"):
        responses = sample_answers(config.answers, run, progress, seed=0)
    with clock("choose, label, train"):
        curves = study(config, responses, run, progress)
    summary = summarise(config, curves, clock.seconds)
    write_report(run, as_json(summary))
    run.finish(as_json(summary))


def study(
    config: Config, responses: Completions, run: RunDirectory, progress: Progress
) -> dict[tuple[str, str], dict[str, np.ndarray]]:
    """(setting, rule) -> of each of `MEASURES` f64[S, rounds], and `wrong` f64[S].

    The seeds of all rules share their splits, pools, labels and first batch. What a rule
    gave is kept in the run directory.
    """
    gold, (prompts, completions) = responses.values["gold"], responses.values["gold"].shape
    train = splits(np.arange(prompts), config.held_out, config.seeds)
    people = logistic_annotator(config.beta)
    names = list(rules(config))
    advance = progress.stage("rules", len(SETTINGS) * len(names))
    curves: dict[tuple[str, str], dict[str, np.ndarray]] = {}
    for setting, across in SETTINGS.items():
        pools = np.stack(
            [
                draw_pairs(np.flatnonzero(t), completions, config.pool, s, across=across)
                for s, t in enumerate(train)
            ]
        )
        labels = np.stack([label(gold, pool, people, s) for s, pool in enumerate(pools)])
        for rule in names:
            make = partial(learning_curve, config, rule, responses, train, pools, labels)
            file = f"{setting}, {rule}".replace(", ", "-").replace(" ", "_")
            curves[setting, rule] = kept(run, file, make)
            advance(len(curves), {})
    return curves


def learning_curve(
    config: Config,
    rule: str,
    responses: Completions,
    train: np.ndarray,
    pools: np.ndarray,
    labels: np.ndarray,
) -> dict[str, np.ndarray]:
    """What a rule's reward models are worth after each round, and what its labels were.

    Args:
        config: of the experiment.
        rule: its name.
        responses: of P prompts.
        train: bool[S, P], prompts that a seed learns from.
        pools: i64[S, N, 2], pairs of answers to them.
        labels: i64[S, N, 2], the same, the answer first that the annotator prefers.

    Returns:
        Each of `MEASURES` on the other prompts, f64[S, rounds]; `wrong` f64[S], share of the
        labels that contradict gold, a toss-up being half wrong.
    """
    gold, features = responses.values["gold"], responses.values["features"]
    flat = jnp.asarray(features.reshape(-1, features.shape[-1]))
    chosen, rewards = rounds(config, rule, flat, pools, labels)
    rewards = rewards.reshape(*rewards.shape[:2], *gold.shape)
    found = [
        [ranking_measures(r[~t], gold[~t], best_of=config.best_of) for r in of_seed]
        for of_seed, t in zip(rewards, train, strict=True)
    ]
    curves = {m: np.array([[one[m] for one in of_seed] for of_seed in found]) for m in MEASURES}
    ahead = np.subtract(*np.moveaxis(gold.ravel()[labels], -1, 0))
    wrong = np.where(ahead == 0, 0.5, ahead < 0)
    return curves | {"wrong": np.take_along_axis(wrong, chosen, axis=1).mean(1)}


def rounds(
    config: Config, rule: str, features: Array, pools: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """One rule from the first batch to the last, all seeds at once.

    Args:
        config: of the experiment.
        rule: its name.
        features: f32[R, F], of all answers.
        pools: i64[S, N, 2], pairs of answers.
        labels: i64[S, N, 2], the same, the answer first that the annotator prefers; read
            for pairs that were chosen.

    Returns:
        The pairs in the order they were labelled, i64[S, batch * rounds], and the learned
        reward of every answer after each round, f32[S, rounds, R].
    """
    seeds, budget = np.arange(len(pools))[:, None], config.batch * config.rounds
    keys = jax.random.split(jax.random.key(1), len(pools))
    chosen = np.tile(np.arange(config.batch), (len(pools), 1))  # pools are in random order
    rewards = []
    while True:
        index, weight = repeated(chosen.shape[1], budget)
        known = labels[seeds, chosen[:, index]]
        weights = np.tile(weight, (len(pools), 1))
        models = learn(features, known, weights, keys, config=config.reward)
        rewards.append(np.asarray(predict(models, features)))
        if len(rewards) == config.rounds:
            return chosen, np.stack(rewards, axis=1)
        labelled = np.zeros(pools.shape[:2], bool)
        np.put_along_axis(labelled, chosen, True, axis=1)
        fresh = jax.vmap(jax.random.fold_in, (0, None))(keys, len(rewards))
        following = choose(models, features, pools, labelled, fresh, rule=rule, config=config)
        chosen = np.concatenate([chosen, np.asarray(following)], axis=1)


def summarise(
    config: Config,
    curves: dict[tuple[str, str], dict[str, np.ndarray]],
    seconds: dict[str, float],
) -> dict[str, Any]:
    """The results of a run: a row for each setting and rule, and settings held together.

    A row has, of each of `MEASURES`, its `curve` of intervals over seeds and how far that
    is `ahead` of random pairs, the `area` under the curve (by the trapezium rule, over its
    width: its mean), the difference of that to random pairs, and its values by seed.
    `across` is the area of random pairs of any two answers, less that of random pairs of
    answers to one prompt.
    """
    rows = []
    area = lambda y: (0.5 * (y[:, 1:] + y[:, :-1])).mean(1) if y.shape[1] > 1 else y[:, 0]
    interval = partial(bootstrap, resamples=1000)
    for (setting, rule), curve in curves.items():
        base = curves[setting, RANDOM]
        areas = {m: (area(base[m]), area(curve[m])) for m in MEASURES}
        rows.append(
            {
                "setting": setting,
                "rule": rule,
                "curve": {m: [interval(v) for v in curve[m].T] for m in MEASURES},
                "ahead": {m: [interval(v) for v in (curve[m] - base[m]).T] for m in MEASURES},
                "area": {m: bootstrap(own) for m, (_, own) in areas.items()},
                "against": {m: paired_difference(*both) for m, both in areas.items()},
                "by_seed": {m: curve[m].tolist() for m in MEASURES},
                "wrong": bootstrap(curve["wrong"]),
            }
        )
    return {
        "labels": [config.batch * (i + 1) for i in range(config.rounds)],
        "rows": rows,
        "across": {
            m: paired_difference(*(area(curves[setting, RANDOM][m]) for setting in SETTINGS))
            for m in MEASURES
        },
        "seeds": config.seeds,
        "best_of": config.best_of,
        "seconds": seconds,
    }
