"""How well a reward ranks: pair accuracy, and rank correlation with gold."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.stats
from numpy.typing import ArrayLike

from irl_jax.eval.best_of_n import best_of_n
from irl_jax.eval.checks import F64, cluster_rows, finite, same_shape
from irl_jax.eval.intervals import LEVEL, RESAMPLES, Interval, bootstrap
from irl_jax.types import InputError

MEASURES = ("pair accuracy", "rank correlation", "best of n")

Correlation = Callable[[ArrayLike, ArrayLike], float]


def pair_accuracy(
    reward: ArrayLike,
    weight: ArrayLike | None = None,
    clusters: ArrayLike | None = None,
    *,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Weighted share of pairs whose chosen side has the higher reward; a tie is half.

    Args:
        reward: f[N, 2], of chosen (0) and rejected (1).
        weight: f[N], non-negative; 1 each if None. Pairs of weight 0 (padding)
            are left out and may hold anything.
        clusters: [N], label of the prompt of a pair; pairs are independent if None.
        level: coverage wanted, in (0, 1).
        resamples: number of bootstrap samples.
        seed: of the resampling.

    Raises:
        InputError: shapes differ, a weight is negative, all are 0, or a reward
            that counts is not finite.
    """
    pairs = np.asarray(reward, np.float64)
    if pairs.ndim != 2 or pairs.shape[1] != 2:
        raise InputError(f"reward: expected shape [N, 2], got {list(pairs.shape)}")
    weights = np.ones(len(pairs)) if weight is None else finite("weight", weight, 1)
    same_shape(weight=weights, chosen=pairs[:, 0])
    if (weights < 0).any() or not weights.any():
        raise InputError("weight: expected non-negative weights, some of them positive")
    keep = weights > 0
    labels = None if clusters is None else np.asarray(clusters)
    if labels is not None:
        same_shape(clusters=labels, weight=weights)
        labels = labels[keep]
    pairs, weights = finite("reward", pairs[keep]), weights[keep]
    right = (np.sign(pairs[:, 0] - pairs[:, 1]) + 1) / 2
    return bootstrap(
        np.stack([right * weights, weights], axis=1),
        lambda rows: rows[:, 0].sum() / rows[:, 1].sum(),
        labels,
        level=level,
        resamples=resamples,
        seed=seed,
    )


def spearman(x: ArrayLike, y: ArrayLike) -> float:
    """Spearman's rank correlation ρ in [-1, 1]; 0 where x or y is constant.

    Example:
        >>> spearman([1, 2, 3], [10, 100, 1000])
        1.0
    """
    return _correlation(scipy.stats.spearmanr, x, y)


def kendall(x: ArrayLike, y: ArrayLike) -> float:
    """Kendall's rank correlation τ-b in [-1, 1]; 0 where x or y is constant.

    Example:
        >>> round(kendall([1, 2, 3], [1, 3, 2]), 3)
        0.333
    """
    return _correlation(scipy.stats.kendalltau, x, y)


def auc(score: ArrayLike, right: ArrayLike, strata: ArrayLike | None = None) -> float:
    """Area under the ROC curve: the chance that a right response scores above a wrong one.

    A tie counts one half. With strata only pairs inside one are compared,
    Σ_s U_s / Σ_s n_s⁺ n_s⁻: strata that are prompts leave out how hard a prompt is, strata
    that are models who wrote it. Like a correlation, it can be given to `pooled`.

    Args:
        score: f[N].
        right: bool[N], or 0 and 1.
        strata: [N], label of the group a response is compared in; one group if None.

    Returns:
        In [0, 1]; ½ where there is no right and wrong response to compare.

    Raises:
        InputError: lengths differ, `right` is not of 0 and 1, or a score is not finite.

    Reference: Mann & Whitney 1947, "On a test of whether one of two random variables is
    stochastically larger than the other".

    Example:
        >>> auc([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1])
        0.75
    """
    if not np.size(score) and not np.size(right):
        return 0.5
    score, right = finite("score", score, 1), finite("right", right, 1)
    same_shape(score=score, right=right)
    if not np.isin(right, (0.0, 1.0)).all():
        raise InputError("right: expected 0 and 1 alone")
    above = pairs = 0.0
    for rows in cluster_rows(len(score), np.zeros(len(score)) if strata is None else strata):
        good = right[rows] == 1
        n = int(good.sum())  # scipy.stats.mannwhitneyu finds a p, too, in each resample
        above += scipy.stats.rankdata(score[rows])[good].sum() - n * (n + 1) / 2
        pairs += n * (len(rows) - n)
    return float(above / pairs) if pairs else 0.5


def pooled(
    correlation: Correlation,
    proxy: ArrayLike,
    gold: ArrayLike,
    clusters: ArrayLike | None = None,
    *,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Rank correlation over all completions at once.

    Mixes two abilities: telling good completions from bad, and telling prompts
    that go well from those that do not. Only the first helps a policy.

    Args:
        correlation: `spearman`, `kendall` or `auc`.
        proxy: f[N], reward to be judged.
        gold: f[N], reward to be matched.
        clusters: [N], label of the prompt of a completion, resampled as wholes.
        level: coverage wanted, in (0, 1).
        resamples: number of bootstrap samples.
        seed: of the resampling.
    """
    both = _stack(proxy, gold)
    return bootstrap(
        both,
        lambda rows: correlation(rows[:, 0], rows[:, 1]),
        clusters,
        level=level,
        resamples=resamples,
        seed=seed,
    )


def within_prompt(
    correlation: Correlation,
    proxy: ArrayLike,
    gold: ArrayLike,
    clusters: ArrayLike,
    *,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Mean over prompts of the rank correlation among a prompt's completions.

    A prompt whose gold rewards are all equal has no order to find and is left
    out; one whose proxy rewards are all equal counts as 0.

    Args:
        correlation: `spearman`, `kendall` or `auc`.
        proxy: f[N], reward to be judged.
        gold: f[N], reward to be matched.
        clusters: [N], label of the prompt of a completion.
        level: coverage wanted, in (0, 1).
        resamples: number of bootstrap samples, of prompts.
        seed: of the resampling.

    Raises:
        InputError: fewer than two prompts have gold rewards that differ.
    """
    both = _stack(proxy, gold)
    groups = [both[rows] for rows in cluster_rows(len(both), clusters)]
    ranked = [group for group in groups if np.ptp(group[:, 1]) > 0]
    if len(ranked) < 2:
        raise InputError(
            f"gold: {len(ranked)} of {len(groups)} prompts have gold rewards that differ; "
            "a rank correlation within prompts needs at least 2"
        )
    values = [correlation(group[:, 0], group[:, 1]) for group in ranked]
    return bootstrap(values, level=level, resamples=resamples, seed=seed)


def ranking_measures(reward: ArrayLike, gold: ArrayLike, *, best_of: int) -> dict[str, float]:
    """How well a reward orders responses to the same prompt: each of `MEASURES`.

    Share of the pairs of different gold reward in the right order, a tie being half; Spearman's
    correlation with gold, mean over prompts whose gold rewards differ; gold reward of the best
    of n by the reward.

    Args:
        reward: f[P, K], to be judged.
        gold: f[P, K].
        best_of: n.

    Raises:
        InputError: shapes differ, a reward is not finite, or n is not in 1..K.
    """
    reward, gold = finite("reward", reward, 2), finite("gold", gold, 2)
    same_shape(reward=reward, gold=gold)
    i, j = np.triu_indices(gold.shape[1], 1)
    gap, ahead = gold[:, i] - gold[:, j], reward[:, i] - reward[:, j]
    right = 0.5 + 0.5 * np.sign(gap * ahead)
    ranked = np.ptp(gold, axis=1) > 0
    values = (
        right[gap != 0].mean(),
        np.mean([spearman(r, g) for r, g in zip(reward[ranked], gold[ranked], strict=True)]),
        best_of_n(reward, gold, best_of).mean(),
    )
    return {name: float(value) for name, value in zip(MEASURES, values, strict=True)}


def _stack(proxy: ArrayLike, gold: ArrayLike) -> F64:
    columns = finite("proxy", proxy, 1), finite("gold", gold, 1)
    same_shape(proxy=columns[0], gold=columns[1])
    return np.stack(columns, axis=1)


def _correlation(function: Callable, x: ArrayLike, y: ArrayLike) -> float:
    x, y = np.asarray(x), np.asarray(y)
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return 0.0
    return float(function(x, y).statistic)
