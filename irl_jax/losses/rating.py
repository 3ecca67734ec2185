"""Losses of rewards from responses that were judged one by one."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from irl_jax.losses.link import logistic
from irl_jax.losses.reduction import weighted
from irl_jax.masking import as_float
from irl_jax.types import Loss, Rating


def _read(reward: Array, batch: Rating) -> tuple[Array, Array, Array]:
    """reward, score and weight, f32[B]; 0 where the weight is."""
    reward = as_float("reward", reward, (None,))
    score = as_float("batch.score", batch.score, reward.shape)
    weight = as_float("batch.weight", batch.weight, reward.shape)
    counts = weight > 0
    return jnp.where(counts, reward, 0.0), jnp.where(counts, score, 0.0), weight


def regression(reward: Array, batch: Rating) -> Loss:
    """Least squares on the scores, L = (r(y) − s)².

    Args:
        reward: f32[B], in units of the scores. Rows of weight 0 may be NaN.
        batch: the ratings; `score` s is a number.

    Returns:
        Loss a rating. Metrics: `reward` and `score`.

    Raises:
        InputError: an array has the wrong shape or dtype.

    Reference: Wang et al. 2024, "HelpSteer2", arXiv 2406.08673 (reward models by
    regression on annotators' scores).
    """
    reward, score, weight = _read(reward, batch)
    metrics = {"reward": weighted(reward, weight), "score": weighted(score, weight)}
    return Loss(*weighted((reward - score) ** 2, weight), metrics)


def binary_cross_entropy(reward: Array, batch: Rating) -> Loss:
    """Logistic regression on feedback without pairs.

    L = −s log σ(r(y)) − (1 − s) log σ(−r(y)).

    Args:
        reward: f32[B], logits of "is good". Rows of weight 0 may be NaN.
        batch: the ratings; `score` s is 1 for good, 0 for bad, or a probability
            between.

    Returns:
        Loss a rating (nats). Metrics: `accuracy` (of s > ½; a reward of 0 counts one
        half), `reward` and `score`.

    Raises:
        InputError: an array has the wrong shape or dtype.

    Reference: Cobbe et al. 2021, "Training verifiers to solve math word problems",
    arXiv 2110.14168 (right or wrong as the label of a response).
    """
    reward, score, weight = _read(reward, batch)
    cost = score * logistic(reward) + (1.0 - score) * logistic(-reward)
    right = 0.5 * (1.0 + jnp.sign(reward) * jnp.where(score > 0.5, 1.0, -1.0))
    metrics = {
        "accuracy": weighted(right, weight),
        "reward": weighted(reward, weight),
        "score": weighted(score, weight),
    }
    return Loss(*weighted(cost, weight), metrics)


def ordinal(reward: Array, batch: Rating, *, cutpoints: Array) -> Loss:
    """Cumulative logits: a rating says between which cutpoints a noisy reward fell.

    P(s ≤ c) = σ(θ_c − r(y)), L = −log [σ(θ_s − r) − σ(θ_{s−1} − r)], with θ₋₁ = −∞ and
    θ_{C−1} = ∞. With two categories it is logistic regression.

    Args:
        reward: f32[B]. Rows of weight 0 may be NaN.
        batch: the ratings; `score` s is a category 0, 1, ..., C − 1 (whole numbers).
        cutpoints: θ, f32[C − 1], increasing, in units of the reward; may be learned,
            see `increasing`.

    Returns:
        Loss a rating (nats). Metrics: `accuracy` of the category between whose
        cutpoints the reward lies, `reward` and `score`.

    Raises:
        InputError: an array has the wrong shape or dtype.

    Reference: McCullagh 1980, "Regression models for ordinal data".
    """
    reward, score, weight = _read(reward, batch)
    cutpoints = as_float("cutpoints", cutpoints, (None,))
    category = score.astype(jnp.int32)
    last = cutpoints.shape[0]
    at = lambda c: cutpoints[jnp.clip(c, 0, last - 1)] - reward
    above, below = at(category), -at(category - 1)
    # σ(a) − σ(−b) = σ(a) σ(b) (1 − e⁻⁽ᵃ⁺ᵇ⁾), and a + b is the width of the category.
    inner = (category > 0) & (category < last)
    width = jnp.where(inner, above + below, 1.0)
    cost = jnp.where(category < last, logistic(above), 0.0)
    cost += jnp.where(category > 0, logistic(below), 0.0)
    cost -= jnp.where(inner, jnp.log(-jnp.expm1(-width)), 0.0)
    predicted = (reward[:, None] > cutpoints).sum(-1)
    metrics = {
        "accuracy": weighted((predicted == category).astype(reward.dtype), weight),
        "reward": weighted(reward, weight),
        "score": weighted(score, weight),
    }
    return Loss(*weighted(cost, weight), metrics)


def increasing(raw: Array) -> Array:
    """Free numbers f32[C − 1] -> increasing cutpoints: the first, then steps exp(raw).

    Example:
        >>> increasing(jnp.array([-1.0, 0.0, 0.0])).tolist()
        [-1.0, 0.0, 1.0]
    """
    return jnp.cumsum(jnp.concatenate([raw[:1], jnp.exp(raw[1:])]))
