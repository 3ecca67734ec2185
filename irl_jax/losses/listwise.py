"""Direct alignment from K ranked or graded responses: losses of rankings on implicit rewards."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from irl_jax.losses.link import Link, ahead_by, logistic
from irl_jax.losses.ranking import all_pairs, plackett_luce
from irl_jax.losses.reduction import weighted
from irl_jax.losses.scores import Score, log_ratio, mean_log_ratio
from irl_jax.masking import as_float, check_mask, check_range, check_shape
from irl_jax.types import Group, InputError, Loss, Ranking


def listwise_alignment(
    logp: Array,
    ref_logp: Array,
    batch: Ranking,
    *,
    beta: float,
    loss: Callable[..., Loss] = plackett_luce,
    score: Score = log_ratio,
    **keywords: Any,
) -> Loss:
    """A loss of rankings on the implicit rewards r = β log π(y|x)/π_ref(y|x).

    With `plackett_luce`, L = −Σₖ log exp r(yₖ) / Σⱼ≥ₖ exp r(yⱼ): DPO of rankings, and
    `dpo` where K = 2. With `ranking.all_pairs` it is DPO on all pairs, with `lambda_pairs`
    LiPO-λ.

    Args:
        logp: f32[B, K, T], log-probs of the completions under the policy (nats), the
            best first. Read where `batch.mask` is true.
        ref_logp: f32[B, K, T], the same under the reference policy; a constant.
        batch: the rankings.
        beta: β > 0 (reward a nat).
        loss: (rewards f32[B, K], `Ranking`, ...) -> Loss.
        score: what stands for log π(y|x)/π_ref(y|x).
        **keywords: of the loss.

    Returns:
        Loss a ranking, with the loss's metrics.

    Raises:
        InputError: an array has the wrong shape or dtype, a number is out of range.

    Reference: Rafailov et al. 2023, arXiv 2305.18290, appendix A.3 (Plackett-Luce); Liu et
    al. 2024, "LiPO: Listwise Preference Optimization through Learning-to-Rank", arXiv
    2402.01878.
    """
    check_range("beta", beta, 0.0, exclusive=True)
    logp = as_float("logp", logp, (None, None, None))
    ref_logp = as_float("ref_logp", ref_logp, logp.shape)
    check_mask("batch.mask", batch.mask, logp.shape)
    return loss(beta * score(logp, ref_logp, batch.mask), batch, **keywords)


def lambda_pairs(reward: Array, batch: Ranking, *, grade: Array, link: Link = logistic) -> Loss:
    """All pairs of a ranking, weighted by what their exchange would cost in DCG: LambdaLoss.

    L = Σ over gᵢ > gⱼ of |2^gᵢ − 2^gⱼ| |1/log(1 + τᵢ) − 1/log(1 + τⱼ)| ℓ(r(yᵢ) − r(yⱼ)), g
    the grades, τ = 1, 2, ... the places by the current rewards, ties in the order of the list;
    constants.

    Args:
        reward: f32[B, K], rewards. What was not ranked, and rows of weight 0, may be NaN.
        batch: the rankings; those of fewer than two responses do not count. Their order
            is read where rewards are tied, as they are at the reference.
        grade: g, f32[B, K], judgements of the responses; a constant.
        link: ℓ.

    Returns:
        Loss a ranking. Metric: `pair_accuracy` over the pairs of different grades of a
        batch; a tie of rewards counts one half.

    Raises:
        InputError: an array has the wrong shape or dtype.

    Reference: Burges 2010, "From RankNet to LambdaRank to LambdaMART"; Liu et al. 2024,
    "LiPO: Listwise Preference Optimization through Learning-to-Rank", arXiv 2402.01878, eq.
    9 (the weights of LiPO-λ).
    """
    reward = as_float("reward", reward, (None, None))
    grade = as_float("grade", grade, reward.shape)
    b, k = reward.shape
    check_shape("batch.count", batch.count, (b,))
    if not jnp.issubdtype(jnp.result_type(batch.count), jnp.integer):
        raise InputError(
            f"batch.count: expected an integer dtype, got {jnp.result_type(batch.count)}"
        )
    weight = jnp.where(batch.count > 1, as_float("batch.weight", batch.weight, (b,)), 0.0)
    ranked = (jnp.arange(k) < batch.count[:, None]) & (weight > 0)[:, None]
    reward = jnp.where(ranked, reward, 0.0)
    grade = jax.lax.stop_gradient(jnp.where(ranked, grade, 0.0))
    earlier = jnp.arange(k)[None, :] < jnp.arange(k)[:, None]
    above = (reward[:, None, :] > reward[:, :, None]) | (
        (reward[:, None, :] == reward[:, :, None]) & earlier
    )
    above &= ranked[:, None, :]
    place = 1.0 + above.sum(-1)
    gain, discount = jnp.exp2(jnp.minimum(grade, 30.0)), 1.0 / jnp.log(1.0 + place)
    gap = lambda x: jnp.abs(x[:, :, None] - x[:, None, :])
    better = ranked[:, :, None] & ranked[:, None, :] & (grade[:, :, None] > grade[:, None, :])
    ahead = reward[:, :, None] - reward[:, None, :]
    cost = jnp.where(better, gap(gain) * gap(discount) * link(ahead), 0.0).sum((1, 2))
    right = jnp.where(better, 0.5 * (1.0 + jnp.sign(ahead)), 0.0).sum((1, 2))
    pairs = better.sum((1, 2)).astype(reward.dtype)
    metrics = {"pair_accuracy": (weighted(right, weight)[0], weighted(pairs, weight)[0])}
    return Loss(*weighted(cost, weight), metrics)


def pl_dpo(logp: Array, ref_logp: Array, batch: Ranking, *, beta: float) -> Loss:
    """DPO of rankings: the Plackett-Luce likelihood of implicit rewards.

    L = −Σₖ log exp r(yₖ) / Σⱼ≥ₖ exp r(yⱼ), r = β log π(y|x)/π_ref(y|x).

    Args:
        logp: f32[B, K, T], as in `listwise_alignment`.
        ref_logp: f32[B, K, T], as in `listwise_alignment`.
        batch: the rankings, the best response first.
        beta: β > 0 (reward a nat).

    Returns:
        Loss a ranking (nats), with the metrics of `plackett_luce`.

    Raises:
        InputError: an array has the wrong shape or dtype, a number is out of range.

    Reference: Rafailov et al. 2023, arXiv 2305.18290, appendix A.3.
    """
    return listwise_alignment(logp, ref_logp, batch, beta=beta)


def lipo(logp: Array, ref_logp: Array, batch: Group, *, beta: float) -> Loss:
    """LiPO-λ: pairs of graded responses, weighted by what their exchange costs in DCG.

    L = `lambda_pairs` of r = β log π(y|x)/π_ref(y|x), the grades being the responses' scores.

    Args:
        logp: f32[B, K, T], as in `listwise_alignment`.
        ref_logp: f32[B, K, T], as in `listwise_alignment`.
        batch: the responses; `reward` is the score of each. Those without a token do not
            count.
        beta: β > 0 (reward a nat).

    Returns:
        Loss a prompt, with the metric of `lambda_pairs`.

    Raises:
        InputError: an array has the wrong shape or dtype, a number is out of range.

    Reference: Liu et al. 2024, "LiPO: Listwise Preference Optimization through
    Learning-to-Rank", arXiv 2402.01878, eq. 9.
    """
    check_range("beta", beta, 0.0, exclusive=True)
    logp = as_float("logp", logp, (None, None, None))
    ref_logp = as_float("ref_logp", ref_logp, logp.shape)
    check_mask("batch.mask", batch.mask, logp.shape)
    grade = as_float("batch.reward", batch.reward, logp.shape[:2])
    written = batch.mask.any(-1)
    order = jnp.argsort(~written, axis=1, stable=True)
    first = lambda x: jnp.take_along_axis(x, order, axis=1)
    count = written.sum(-1).astype(jnp.int32)
    absent: Any = None
    ranked = Ranking(absent, absent, absent, count, weight=(count > 0).astype(logp.dtype))
    reward = beta * log_ratio(logp, ref_logp, batch.mask)
    return lambda_pairs(first(reward), ranked, grade=first(jnp.where(written, grade, 0.0)))


def tpo(
    logp: Array, batch: Ranking, *, beta: float, gamma: float, alpha: float, score: Score
) -> Loss:
    """Triple preference optimisation: a gold response is imitated, others are compared.

    L = −log σ(r(yʷ) − r(yˡ) − γ) − α/|y*| log π(y*|x), y* the gold response, with
    r = β log π(y|x), or that a token (TPO-L).

    Args:
        logp: f32[B, K, T], log-probs under the policy (nats): of the gold response, then
            of the others, the best first; K = 3 in the paper. Read where `batch.mask` is true.
        batch: the rankings; those of fewer than three responses do not count.
        beta: β > 0.
        gamma: γ >= 0, in units of the reward; 0 in TPO.
        alpha: α >= 0.
        score: `log_ratio`, or `mean_log_ratio` for TPO-L; the reference is uniform.

    Returns:
        Loss a ranking (nats), the mean over the pairs of the others. Metrics: those of
        `all_pairs` for the others, and `nll` a token of the gold response.

    Raises:
        InputError: an array has the wrong shape or dtype, a number is out of range.

    Reference: Saeidi et al. 2024, "Triple Preference Optimization: Achieving Better
    Alignment using a Single Step Optimization", arXiv 2405.16681.

    Differs: the likelihood of the gold response is the mean over its tokens, then over
    rankings. The paper's has no 1/|y*|; code that extends TRL's CPO takes the mean over all
    gold tokens of a batch.
    """
    check_range("beta", beta, 0.0, exclusive=True)
    check_range("gamma", gamma, 0.0)
    check_range("alpha", alpha, 0.0)
    logp = as_float("logp", logp, (None, None, None))
    check_mask("batch.mask", batch.mask, logp.shape)
    none = jnp.zeros_like(logp)
    reward = beta * score(logp, none, batch.mask)
    others = replace(batch, count=batch.count - 1)
    loss = all_pairs(reward[:, 1:], others, link=ahead_by(logistic, gamma))
    weight = jnp.where(batch.count > 2, as_float("weight", batch.weight, logp.shape[:1]), 0.0)
    nll = weighted(-mean_log_ratio(logp, none, batch.mask)[:, 0], weight)
    metrics = {**loss.metrics, "nll": nll}
    return replace(loss, total=loss.total + alpha * nll[0], metrics=metrics)
