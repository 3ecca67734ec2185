"""Attributes that were rated, and their weights from a few comparisons, on SmolLM2's answers.

A person likes an answer for its valence, brevity, plain words and variety, each to a degree
of their own that nobody knows. Ratings of the four teach what an answer is like; comparisons
teach what the person likes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.feedback_forms.feedback import FIRST, Rows, first, learn
from experiments.valence.comparisons import draw_pairs, label, predict
from irl_jax.eval.annotator import beta_of_error_rate, logistic_annotator
from irl_jax.eval.intervals import bootstrap, paired_difference
from irl_jax.eval.ranking import ranking_measures
from irl_jax.recipes.launch import kept
from irl_jax.rewards.attributes import AttributeReward, fit_attributes
from irl_jax.rewards.embedding import EnsembleConfig
from irl_jax.rollout.session import Completions
from irl_jax.train.run import RunDirectory
from irl_jax.types import InputError, Preference, Rating

ATTRIBUTES = ("valence", "brevity", "plain words", "variety")
ALONE, MORE = "comparisons alone", "comparisons alone, as many decisions"
WEIGHED, EQUAL = "attributes, weights learned", "attributes, equal weights"
WAYS = (ALONE, MORE, WEIGHED, EQUAL)
MEASURED = ("rank correlation", "best of n")


@dataclass(frozen=True)
class AttributesConfig:
    """How attributes and their weights are learned."""

    rated: int = 240  # answers whose attributes are rated, each by four numbers
    comparisons: tuple[int, ...] = (8, 30, 120, 480)  # overall judgements of two answers
    scorer: EnsembleConfig = field(
        default_factory=lambda: EnsembleConfig(members=8, widths=(), steps=100, lr=3e-3)
    )
    weights: EnsembleConfig = field(
        default_factory=lambda: EnsembleConfig(
            members=1, steps=200, batch_size=64, lr=0.03, weight_decay=0.0
        )
    )


def check_attributes(config: AttributesConfig, prompts: int, completions: int) -> None:
    """Raises `InputError` unless there are answers and pairs enough."""
    there = prompts * completions
    if not 2 <= config.rated <= there:
        raise InputError(f"attributes.rated: expected 2 to {there} answers, got {config.rated}")
    pairs = there * (completions - 1) // 2
    most = max(config.comparisons, default=0) + config.rated * len(ATTRIBUTES)
    if not config.comparisons or min(config.comparisons) < 1 or most > pairs:
        raise InputError(
            f"attributes.comparisons: with {config.rated} answers rated give 1 to "
            f"{pairs - config.rated * len(ATTRIBUTES)} (pairs of the answers), "
            f"got {config.comparisons}"
        )


def attributes_of(responses: Completions) -> np.ndarray:
    """f64[P, K, 4], more is better; in standard deviations within a prompt, mean 0."""
    words = [[text.lower().split() or [""] for text in row] for row in responses.text]
    each = lambda of: np.array([[of(w) for w in row] for row in words], np.float64)
    columns = [
        responses.values["gold"],
        each(lambda w: -len(w)),
        each(lambda w: -np.mean([len(word) for word in w])),
        each(lambda w: len(set(w)) / len(w)),
    ]
    return np.stack([(x - x.mean()) / _within(x) for x in columns], axis=-1)


def _within(x: np.ndarray) -> float:
    """Standard deviation within prompts of f64[P, K]."""
    return float((x - x.mean(1, keepdims=True)).std()) or 1.0


def _beta(gold: np.ndarray, rate: float) -> float:
    """The annotator's β of an error rate; any will do where answers do not differ."""
    i, j = np.triu_indices(gold.shape[1], 1)
    gap = (gold[:, i] - gold[:, j]).ravel()
    return beta_of_error_rate(rate, gap) if gap.any() else 1.0


def attribute_study(
    config: AttributesConfig,
    responses: Completions,
    train: np.ndarray,
    run: RunDirectory,
    *,
    best_of: int,
    error_rate: float,
    reward: EnsembleConfig,
    lrs: tuple[float, ...],
) -> dict[str, Any]:
    """Each way to learn, at each number of comparisons, as a row; kept in the run directory.

    Returns:
        `rows` of `comparisons`, `from` (of `WAYS`), `decisions`, of each of `MEASURED` its
        interval over seeds, its paired difference to comparisons alone (`against`) and to as
        many decisions (`against decisions`), its values by seed; and `weights`, the mean over
        seeds of the correlation of learned with true weights.
    """
    make = partial(
        _outcome, config, responses, train, best_of=best_of, error_rate=error_rate, reward=reward,
        lrs=lrs,
    )  # fmt: skip
    values = kept(run, "attributes", make)
    extra = config.rated * len(ATTRIBUTES)
    rows = []
    for i, n in enumerate(config.comparisons):
        for k, way in enumerate(WAYS):
            own = {m: values[m][i, k] for m in MEASURED}
            against = lambda other, own=own, i=i: {
                m: paired_difference(values[m][i, other], own[m]) for m in MEASURED
            }
            rows.append(
                {
                    "comparisons": n,
                    "from": way,
                    "decisions": n if way == ALONE else n + extra if way != EQUAL else extra,
                    **{m: bootstrap(own[m]) for m in MEASURED},
                    "against": against(0),
                    "against decisions": against(1),
                    "by_seed": {m: own[m].tolist() for m in MEASURED},
                }
            )
    learned, true = values["learned"], values["true"]
    agree = [
        float(np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(one, true, strict=True)]))
        for one in learned
    ]
    return {"rows": rows, "weights": dict(zip(map(str, config.comparisons), agree, strict=True))}


def _outcome(
    config: AttributesConfig,
    responses: Completions,
    train: np.ndarray,
    *,
    best_of: int,
    error_rate: float,
    reward: EnsembleConfig,
    lrs: tuple[float, ...],
) -> dict[str, np.ndarray]:
    """Each of `MEASURED` f64[comparisons, ways, S]; weights `learned` and `true`."""
    worlds = [_world(config, responses, own, seed, error_rate) for seed, own in enumerate(train)]
    stack = lambda name: np.stack([world[name] for world in worlds])
    overall, pairs, true = stack("overall"), stack("pairs"), stack("true")
    features = responses.values["features"]
    flat = jnp.asarray(features.reshape(-1, features.shape[-1]))
    keys = jax.random.split(jax.random.key(2), len(train))
    shape = (-1, *responses.values["gold"].shape)
    score = lambda r: [
        ranking_measures(own[~t], u[~t], best_of=best_of)
        for own, u, t in zip(r.reshape(shape), overall, train, strict=True)
    ]

    def alone(n: int) -> list[dict[str, float]]:
        tried = []
        said = [_first_pairs(p, n) for p in pairs]
        batch = [
            np.stack([getattr(rows, name) for rows in said]).astype(kind)
            for name, kind in (("answer", np.int32), ("label", np.float32), ("weight", np.float32))
        ]
        for lr in lrs:
            models = learn(flat, *batch, keys, jnp.float32(lr), form=FIRST, config=reward)
            tried.append(score(np.asarray(predict(models, flat))))
        return max(tried, key=lambda one: np.mean([s["best of n"] for s in one]))

    @jax.jit
    def fit(rated: Any, score: Any, pairs: Any, weight: Any, keys: Any) -> AttributeReward:
        def one(rated: Any, score: Any, pairs: Any, weight: Any, key: Any) -> AttributeReward:
            absent: Any = None
            ratings = Rating(absent, absent, absent, score=score, weight=jnp.ones_like(score))
            return fit_attributes(
                flat[rated], ratings, flat[pairs], Preference.without_tokens(weight), key,
                config=config.scorer, scalarisation=config.weights,
            )  # fmt: skip

        return jax.vmap(one)(rated, score, pairs, weight, keys)

    found, learned = [], []
    extra = config.rated * len(ATTRIBUTES)
    for n in config.comparisons:
        said = [_first_pairs(p[: max(config.comparisons)], n) for p in pairs]
        model = fit(
            stack("rated"), stack("score"),
            np.stack([rows.answer for rows in said]), np.stack([rows.weight for rows in said]),
            keys,
        )  # fmt: skip
        parts = np.asarray(jax.vmap(lambda m: m.attributes(flat).mean(0))(model))
        weights = np.asarray(model.weights)
        learned.append(weights)
        weighed = (parts * weights[:, None]).sum(-1)
        found.append([alone(n), alone(n + extra), score(weighed), score(parts.sum(-1))])
    return {
        **{m: np.array([[[s[m] for s in way] for way in one] for one in found]) for m in MEASURED},
        "learned": np.stack(learned),
        "true": true,
    }


def _first_pairs(pairs: np.ndarray, count: int) -> Rows:
    n = len(pairs)
    return first(Rows(pairs, np.zeros(n), np.ones(n, np.float32)), count)


def _world(
    config: AttributesConfig, responses: Completions, own: np.ndarray, seed: int, rate: float
) -> dict[str, np.ndarray]:
    """A person: what they like, their ratings of attributes, their comparisons.

    Returns:
        `true` f64[4], weights that sum to 1; `overall` f64[P, K] in standard deviations
        within a prompt; `rated` i64[R], answers; `score` f32[R, 4]; `pairs` i64[N, 2], the
        preferred first.
    """
    rng = np.random.default_rng([seed, 6])
    traits = attributes_of(responses)
    true = rng.dirichlet(np.ones(len(ATTRIBUTES)))
    overall = traits @ true
    overall = overall / _within(overall)
    prompts, completions = np.flatnonzero(own), overall.shape[1]
    there = (prompts[:, None] * completions + np.arange(completions)).ravel()
    rated = rng.choice(there, config.rated, replace=False)
    beta = np.array([_beta(traits[own][..., k], rate) for k in range(len(ATTRIBUTES))])
    noise = rng.gumbel(size=(config.rated, len(ATTRIBUTES))) / beta
    score = traits.reshape(-1, len(ATTRIBUTES))[rated] + noise
    most = max(config.comparisons) + config.rated * len(ATTRIBUTES)
    drawn = draw_pairs(prompts, completions, most, seed, across=False)
    annotator = logistic_annotator(_beta(overall[own], rate))
    return {
        "true": true,
        "overall": overall,
        "rated": rated,
        "score": ((score - score.mean(0)) / score.std(0)).astype(np.float32),
        "pairs": label(overall, drawn, annotator, seed),
    }
