"""Losses of rewards from pairs of which one was preferred.

A pairwise objective is margin -> link -> weights (`pairwise`); each paper's is a
choice of them. For an ensemble, `jax.vmap` a loss over a leading axis of rewards.
"""

from __future__ import annotations

from dataclasses import replace

import jax.numpy as jnp
from jax import Array

from irl_jax.losses.link import Link, logistic, smooth
from irl_jax.losses.reduction import weighted
from irl_jax.masking import as_float, check_range
from irl_jax.types import Loss, Preference


def pairwise(reward: Array, batch: Preference, *, link: Link) -> Loss:
    """L = Σᵢ wᵢ ℓ(r(yᵢʷ) − r(yᵢˡ) − mᵢ) / Σᵢ wᵢ, the form of every pairwise objective.

    Args:
        reward: f32[B, 2], learned or implicit rewards; index 0 is the chosen
            response. Rows of weight 0 may be NaN.
        batch: the pairs; `margin` mᵢ is in units of the reward.
        link: ℓ, from logits to losses.

    Returns:
        Loss a pair. Metrics: `accuracy` (of the rewards, without the margin; a
        tie counts one half), `reward_margin` r(yʷ) − r(yˡ), `reward_chosen`,
        `reward_rejected`.

    Raises:
        InputError: an array has the wrong shape or dtype.
    """
    reward = as_float("reward", reward, (None, 2))
    margin = as_float("batch.margin", batch.margin, reward.shape[:1])
    weight = as_float("batch.weight", batch.weight, reward.shape[:1])
    counts = weight > 0
    chosen, rejected = jnp.where(counts[:, None], reward, 0.0).T
    ahead = chosen - rejected
    total, total_weight = weighted(link(ahead - jnp.where(counts, margin, 0.0)), weight)
    metrics = {
        "accuracy": weighted(0.5 * (1.0 + jnp.sign(ahead)), weight),
        "reward_margin": weighted(ahead, weight),
        "reward_chosen": weighted(chosen, weight),
        "reward_rejected": weighted(rejected, weight),
    }
    return Loss(total, total_weight, metrics)


def bradley_terry(
    reward: Array, batch: Preference, *, label_smoothing: float = 0.0, centering: float = 0.0
) -> Loss:
    """Maximum likelihood of the Bradley-Terry model of preferences.

    L = −log σ(r(yʷ) − r(yˡ) − m) + c (r(yʷ) + r(yˡ))², the mean over pairs; with
    smoothing ε, the label is taken to be wrong with probability ε.

    Args:
        reward: f32[B, 2], rewards of the pair; index 0 is the chosen response.
            Rows of weight 0 may be NaN.
        batch: the pairs; `margin` m is in units of the reward, and all 0 is the
            plain Bradley-Terry model.
        label_smoothing: ε in [0, 0.5].
        centering: c >= 0. The likelihood fixes rewards only up to a constant a
            prompt; the penalty puts that constant near 0.

    Returns:
        Loss a pair (nats). Metrics: those of `pairwise`, and `centering`, the
        penalty before its coefficient.

    Raises:
        InputError: an array has the wrong shape or dtype, a number is out of range.

    Reference: Bradley & Terry 1952, "Rank analysis of incomplete block designs"; Touvron et
    al. 2023, arXiv 2307.09288, eq. 2 (margin); Mitchell 2023, "A note on DPO with
    noisy preferences" (smoothing); Eisenstein et al. 2023, arXiv 2312.09244
    (centering).

    Differs: smoothing acts on the logit after the margin, the likelihood of an
    annotator who applies the margin and then errs with probability ε.

    Example:
        >>> pairs = Preference(
        ...     None, action=None, mask=None, margin=jnp.zeros(1), weight=jnp.ones(1)
        ... )
        >>> round(float(bradley_terry(jnp.array([[1.0, 1.0]]), pairs).mean), 4)  # log 2
        0.6931
    """
    check_range("centering", centering, 0.0)
    reward = as_float("reward", reward, (None, 2))
    loss = pairwise(reward, batch, link=smooth(logistic, label_smoothing))
    weight = as_float("batch.weight", batch.weight, reward.shape[:1])
    level = jnp.where(weight[:, None] > 0, reward, 0.0).sum(-1)
    penalty = weighted(level**2, weight)
    return replace(
        loss,
        total=loss.total + centering * penalty[0],
        metrics={**loss.metrics, "centering": penalty},
    )
