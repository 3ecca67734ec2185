"""Annotators who err, and how far a reward agrees with them.

An annotator is the probability that the first of two responses is preferred, given by how
much better it is. People disagree with each other on close calls; so a reward that is
perfect agrees with them no more often than they are right, and held-out accuracy against
labels has to be read against that ceiling.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.optimize
import scipy.special
from numpy.typing import ArrayLike, NDArray

from irl_jax.eval.checks import F64, finite, same_shape
from irl_jax.eval.intervals import LEVEL, RESAMPLES, Interval, bootstrap
from irl_jax.masking import check_range
from irl_jax.types import InputError

# f64[...] gold reward of the first response less that of the second -> P(first is preferred)
Annotator = Callable[[F64], F64]


def logistic_annotator(beta: float) -> Annotator:
    """Errs on close calls: P(first) = σ(β Δr), the Bradley-Terry model.

    Args:
        beta: β >= 0, per unit of gold reward; 0 tosses a coin, infinity never errs.

    Raises:
        InputError: β is negative.

    Reference: Sun, Shen & Ton 2025, "Rethinking Bradley-Terry models in
    preference-based reward modeling", arXiv 2411.04991, where β is the annotation quality.

    Example:
        >>> logistic_annotator(2.0)(np.array([-0.5, 0.0, 0.5])).round(3).tolist()
        [0.269, 0.5, 0.731]
    """
    check_range("beta", beta, 0.0)

    def prefers(gap: F64) -> F64:
        gap = np.asarray(gap, np.float64)
        differ = np.where(gap == 0, 1.0, gap)  # infinity times 0 is no number
        return np.where(gap == 0, 0.5, scipy.special.expit(beta * differ))

    return prefers


def flipping_annotator(rate: float) -> Annotator:
    """Errs on every pair alike: P(first) = 1 − ε where it is the better one, ε where not.

    Args:
        rate: ε in [0, 0.5]; equal responses are a coin toss.

    Raises:
        InputError: ε is out of range.

    Example:
        >>> flipping_annotator(0.1)(np.array([-0.5, 0.0, 0.5])).round(3).tolist()
        [0.1, 0.5, 0.9]
    """
    check_range("rate", rate, 0.0, 0.5)
    return lambda gap: 0.5 + (0.5 - rate) * np.sign(gap)


def prefers_first(
    gap: ArrayLike, annotator: Annotator, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Labels: whether the annotator prefers the first response of each pair, with P(first).

    Args:
        gap: f[...], gold reward of the first response less that of the second.
        annotator: of the labels.
        rng: one uniform number is drawn of it a pair, whoever the annotator is.

    Returns:
        bool[...].
    """
    return rng.random(np.shape(gap)) < annotator(np.asarray(gap, np.float64))


def annotate(
    gold: ArrayLike, annotator: Annotator, *, pairs_per_prompt: int, seed: int
) -> tuple[NDArray[np.int64], float]:
    """Labelled comparisons of responses to the same prompt, of pairs drawn at random.

    Responses of equal gold reward are not compared.

    Args:
        gold: f[P, K].
        annotator: of the labels.
        pairs_per_prompt: comparisons of each prompt's responses, at most.
        seed: of the choice of pairs and of the annotator's errors.

    Returns:
        i64[N, 3]: prompt, chosen response, rejected response; and the share of
        comparisons whose label contradicts the gold reward.

    Raises:
        InputError: no two responses to a prompt differ, or a reward is not finite.

    Example:
        >>> annotate([[0.1, 0.9, 0.1]], logistic_annotator(np.inf), pairs_per_prompt=1, seed=0)
        (array([[0, 1, 0]]), 0.0)
    """
    rows, rng, found = finite("gold", gold, 2), np.random.default_rng([seed, 1]), []
    first, second = np.triu_indices(rows.shape[1], 1)
    for prompt, scores in enumerate(rows):
        gap = scores[first] - scores[second]
        differ = np.flatnonzero(gap)
        drawn = differ[rng.permutation(len(differ))[:pairs_per_prompt]]
        sides = np.stack([first[drawn], second[drawn]], axis=1)
        ahead = prefers_first(gap[drawn], annotator, rng)
        sides = np.where(ahead[:, None], sides, sides[:, ::-1])
        found.append(np.insert(sides, 0, prompt, axis=1))
    index = np.concatenate(found)
    if not len(index):
        raise InputError("gold: all responses to each prompt are worth the same; none can differ")
    prompt, chosen, rejected = index.T
    return index, float((rows[prompt, chosen] < rows[prompt, rejected]).mean())


def error_rate(annotator: Annotator, gap: ArrayLike) -> float:
    """Expected share of labels that contradict gold, among pairs whose gold rewards differ.

    Args:
        annotator: of the labels.
        gap: f[N], gold reward of the first response less that of the second.

    Raises:
        InputError: all gaps are 0, or one is not finite.
    """
    differ = _differing(gap)
    return float(np.where(differ > 0, 1 - annotator(differ), annotator(differ)).mean())


def beta_of_error_rate(rate: float, gap: ArrayLike) -> float:
    """The β at which a logistic annotator errs on a given share of pairs.

    Args:
        rate: share of the pairs that differ, in [0, 0.5].
        gap: f[N], gold reward of the first response less that of the second.

    Returns:
        β; infinity for a rate of 0.

    Raises:
        InputError: the rate is out of range, all gaps are 0, or one is not finite.
    """
    check_range("rate", rate, 0.0, 0.5)
    differ = np.abs(_differing(gap))
    if rate in (0.0, 0.5):
        return 0.0 if rate else np.inf
    excess = lambda log_beta: error_rate(logistic_annotator(np.exp(log_beta)), differ) - rate
    typical = np.log(np.median(differ))
    return float(np.exp(scipy.optimize.brentq(excess, -typical - 20, -typical + 20)))


@dataclass(frozen=True)
class Agreement:
    """How often a reward and an annotator order two responses to a prompt alike.

    Attributes:
        proxy: expected share of pairs on which the reward agrees with a label.
        ceiling: the same for the gold reward itself: no reward does better.
        error: share of labels that contradict gold, of pairs that differ.
    """

    proxy: Interval
    ceiling: Interval
    error: float


def agreement(
    proxy: ArrayLike,
    gold: ArrayLike,
    annotator: Annotator,
    *,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Agreement:
    """Expected agreement of a reward with a noisy annotator, exactly: no label is drawn.

    Mean over all pairs of a prompt's responses, then over prompts, of
    P(first) [r̂₁ > r̂₂] + (1 − P(first)) [r̂₁ < r̂₂]; a tie of rewards is half.

    Args:
        proxy: f[P, K], reward to be judged.
        gold: f[P, K], reward that the annotator goes by.
        annotator: see `logistic_annotator`.
        level: coverage wanted, in (0, 1).
        resamples: number of bootstrap samples, of prompts.
        seed: of the resampling.

    Raises:
        InputError: shapes differ, fewer than 2 prompts or responses, or a reward that is
            not finite.
    """
    rewards = {"proxy": finite("proxy", proxy, 2), "gold": finite("gold", gold, 2)}
    same_shape(**rewards)
    completions = rewards["gold"].shape[1]
    if completions < 2:
        raise InputError("gold: agreement is about pairs; give 2 or more responses to a prompt")
    first, second = np.triu_indices(completions, 1)
    gap = {name: x[:, first] - x[:, second] for name, x in rewards.items()}
    prefers = annotator(gap["gold"])
    agree = lambda x: (0.5 + np.sign(x) * (prefers - 0.5)).mean(1)
    interval = lambda x: bootstrap(x, level=level, resamples=resamples, seed=seed)
    return Agreement(
        proxy=interval(agree(gap["proxy"])),
        ceiling=interval(agree(gap["gold"])),
        error=error_rate(annotator, gap["gold"].ravel()),
    )


def _differing(gap: ArrayLike) -> F64:
    gaps = finite("gap", gap, 1)
    if not gaps.any():
        raise InputError("gap: all gold rewards are equal; an error needs a pair that differs")
    return gaps[gaps != 0]
