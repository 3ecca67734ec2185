"""Comparisons of a language model's answers: drawn, labelled, learned from.

The answers of `experiments.valence.answers` are numbered through, prompt after prompt.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import numpy as np
from jax import Array

from experiments.valence.answers import AnswersConfig
from irl_jax.eval.annotator import Annotator, prefers_first
from irl_jax.losses.preference import bradley_terry
from irl_jax.rewards.embedding import EmbeddingReward, EnsembleConfig, fit_ensemble
from irl_jax.types import InputError, Loss, Preference


def check_best_of(best_of: int, answers: AnswersConfig) -> None:
    """Raises `InputError` unless there are answers enough to choose the best of."""
    if not 1 <= best_of <= answers.completions:
        raise InputError(
            f"best_of: expected 1 to {answers.completions} (answers.completions), got {best_of}"
        )


def draw_pairs(
    prompts: np.ndarray, completions: int, count: int, seed: int, *, across: bool
) -> np.ndarray:
    """Different pairs of answers at random, i64[count, 2].

    Args:
        prompts: i64[P], numbers of the prompts whose answers are compared.
        completions: answers to each prompt.
        count: number of pairs.
        seed: of the draw.
        across: whether answers to different prompts are compared too.

    Raises:
        InputError: there are fewer pairs than `count`.
    """
    answers = (prompts[:, None] * completions + np.arange(completions)).ravel()
    pairs = np.stack([answers[i] for i in np.triu_indices(len(answers), 1)], axis=1)
    if not across:
        pairs = pairs[pairs[:, 0] // completions == pairs[:, 1] // completions]
    if len(pairs) < count:
        raise InputError(f"pairs: the answers make {len(pairs)} pairs, {count} are asked for")
    return np.random.default_rng([seed, 2]).choice(pairs, count, replace=False)


def label(gold: np.ndarray, pairs: np.ndarray, annotator: Annotator, seed: int) -> np.ndarray:
    """The pairs with the answer that was preferred first, i64[N, 2].

    Args:
        gold: f64[P, K].
        pairs: i64[N, 2].
        annotator: of the labels.
        seed: of the errors; for every annotator it draws the same numbers.
    """
    first, second = gold.ravel()[pairs].T
    ahead = prefers_first(first - second, annotator, np.random.default_rng([seed, 3]))
    return np.where(ahead[:, None], pairs, pairs[:, ::-1])


@partial(jax.jit, static_argnames=("config", "loss"))
def learn(
    features: Array,
    pairs: Array,
    weight: Array,
    keys: Array,
    *,
    config: EnsembleConfig,
    loss: Callable[[Array, Preference], Loss] = bradley_terry,
) -> EmbeddingReward:
    """Reward models of S runs in one program; every leaf has a leading axis S.

    Args:
        features: f32[R, F], of all answers.
        pairs: i64[S, N, 2], the preferred answer first.
        weight: f32[S, N].
        keys: typed PRNG keys [S].
        config: of the ensembles.
        loss: of rewards f32[B, 2] and their pairs.
    """

    def one(pairs: Array, weight: Array, key: Array) -> EmbeddingReward:
        batch = Preference.without_tokens(weight)
        return fit_ensemble(features[pairs], batch, key, config=config, loss=loss)[0]

    return jax.vmap(one)(pairs, weight, keys)


@jax.jit
def predict(models: EmbeddingReward, features: Array) -> Array:
    """Mean reward of each run's ensemble, f32[S, R].

    Args:
        models: of S runs, every leaf with a leading axis S.
        features: f32[R, F], of all answers.
    """
    return jax.vmap(lambda model: model(features).mean(0))(models)
