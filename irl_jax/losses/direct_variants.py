"""Variants of DPO that no choice of score and link gives: length, sides, weights, tokens.

Each is a few lines over the parts of `irl_jax.losses.direct`. On the sides of a pair
(c, r the implicit rewards of chosen and rejected, z = c − r):

    R-DPO       ℓ(z + α(|yʷ| − |yˡ|))               the length is taxed
    DPOP        ℓ(z − λ max(0, −c))                 the chosen may not lose
    RPO         ℓ(z) − α log π(yʷ)                  the chosen is imitated
    NCA         ℓ(c) + ½ ℓ(−c) + ½ ℓ(−r)            each side for itself
    APO-zero    σ(−c) + σ(r)                        the chosen up, the rejected down
    APO-down    σ(c) + σ(−z)                        both down, the rejected more
    SPPO        (c − η(P(yʷ) − ½))² + (r − η(P(yˡ) − ½))²
    WPO         min(w(yʷ) w(yˡ), C) ℓ(z)            pairs as if they were the policy's own
    TDPO        ℓ(z − α(KL along yˡ − KL along yʷ))
    XPO         ℓ(z) + α log π(y of the reference)  an online explorer
"""

from __future__ import annotations

import math
from dataclasses import replace

import jax
import jax.numpy as jnp
from jax import Array

from irl_jax.losses.direct import add_likelihood, direct_alignment, dpo
from irl_jax.losses.link import Link, logistic, smoothed_zero_one
from irl_jax.losses.preference import margin_cost
from irl_jax.losses.reduction import weighted
from irl_jax.losses.scores import LIMIT, Score, log_ratio
from irl_jax.masking import as_float, check_mask, check_range, masked_mean, masked_sum
from irl_jax.types import Loss, Preference


def _reward(beta: float) -> Score:
    check_range("beta", beta, 0.0, exclusive=True)
    return lambda *arrays: beta * log_ratio(*arrays)


def r_dpo(logp: Array, ref_logp: Array, batch: Preference, *, beta: float, alpha: float) -> Loss:
    """DPO of a reward that is taxed by the token: the optimum is π_ref exp((r − α|y|)/β).

    L = −log σ(β log π(yʷ|x)/π_ref(yʷ|x) − β log π(yˡ|x)/π_ref(yˡ|x) + α|yʷ| − α|yˡ|).

    Args:
        logp: f32[B, 2, T], log-probs of the completions under the policy (nats);
            index 0 is the chosen response. Read where `batch.mask` is true.
        ref_logp: f32[B, 2, T], the same under the reference policy; a constant.
        batch: the pairs; `margin` is in units of the reward.
        beta: β > 0 (reward a nat).
        alpha: α, reward a token.

    Returns:
        Loss a pair (nats), with the metrics of `direct_alignment` for the reward with its tax paid
        back.

    Raises:
        InputError: an array has the wrong shape or dtype, a number is out of range.

    Reference: Park et al. 2024, "Disentangling Length from Quality in Direct Preference
    Optimization", arXiv 2403.19159.

    Differs: some tables and codes have the lengths with the other sign, under which a
    positive α makes responses longer.
    """
    reward = _reward(beta)
    taxed: Score = lambda *arrays: reward(*arrays) + alpha * arrays[2].sum(-1)
    return direct_alignment(logp, ref_logp, batch, score=taxed, cost=margin_cost(logistic))


def dpop(logp: Array, ref_logp: Array, batch: Preference, *, beta: float, lam: float) -> Loss:
    """DPO-positive: the chosen response may not become less likely than it was.

    L = −log σ(β (log π(yʷ|x)/π_ref(yʷ|x) − log π(yˡ|x)/π_ref(yˡ|x)
    − λ max(0, log π_ref(yʷ|x)/π(yʷ|x)))).

    Args:
        logp: f32[B, 2, T], as in `r_dpo`.
        ref_logp: f32[B, 2, T], as in `r_dpo`.
        batch: the pairs; `margin` is in units of the reward.
        beta: β > 0 (reward a nat).
        lam: λ >= 0; 0 is `dpo`.

    Returns:
        Loss a pair (nats), with the metrics of `direct_alignment`.

    Raises:
        InputError: an array has the wrong shape or dtype, a number is out of range.

    Reference: Pal et al. 2024, "Smaug: Fixing Failure Modes of Preference Optimisation
    with DPO-Positive", arXiv 2402.13228, eq. 3.
    """
    check_range("lam", lam, 0.0)
    cost = lambda chosen, rejected, margin: logistic(
        chosen - rejected - margin - lam * jax.nn.relu(-chosen)
    )
    return direct_alignment(logp, ref_logp, batch, score=_reward(beta), cost=cost)


def rpo(
    logp: Array,
    ref_logp: Array,
    batch: Preference,
    *,
    beta: float,
    alpha: float,
    likelihood: Score,
) -> Loss:
    """DPO and the likelihood of the chosen response.

    L = −log σ(β log π(yʷ|x)/π_ref(yʷ|x) − β log π(yˡ|x)/π_ref(yˡ|x)) − α log π(yʷ|x) / n,
    with n = |yʷ| (iterative reasoning preference optimisation) or 1 (regularised
    preference optimisation, where the term is what pessimism asks for).

    Args:
        logp: f32[B, 2, T], as in `r_dpo`.
        ref_logp: f32[B, 2, T], as in `r_dpo`.
        batch: the pairs; `margin` is in units of the reward.
        beta: β > 0 (reward a nat).
        alpha: α >= 0.
        likelihood: `mean_log_ratio` for n = |yʷ|, `log_ratio` for n = 1.

    Returns:
        Loss a pair (nats), with the metrics of `direct_alignment`, and `nll`.

    Raises:
        InputError: an array has the wrong shape or dtype, a number is out of range.

    Reference: Pang et al. 2024, "Iterative Reasoning Preference Optimization", arXiv
    2404.19733, eq. 1; Liu et al. 2024, "Provably Mitigating Overoptimization in RLHF: Your
    SFT Loss is Implicitly an Adversarial Regularizer", arXiv 2405.16436.
    """
    loss = dpo(logp, ref_logp, batch, beta=beta)
    return add_likelihood(loss, logp, batch, coefficient=alpha, score=likelihood)


def nca(logp: Array, ref_logp: Array, batch: Preference, *, beta: float) -> Loss:
    """Noise-contrastive alignment of a pair: absolute rewards, so that chosen ones do not fall.

    L = −log σ(c) − ½ log σ(−c) − ½ log σ(−r), c and r the implicit rewards
    β log π/π_ref of the chosen and the rejected response.

    Args:
        logp: f32[B, 2, T], as in `r_dpo`.
        ref_logp: f32[B, 2, T], as in `r_dpo`.
        batch: the pairs; the margin is not read.
        beta: β > 0 (reward a nat).

    Returns:
        Loss a pair (nats), with the metrics of `direct_alignment`.

    Raises:
        InputError: an array has the wrong shape or dtype, a number is out of range.

    Reference: Chen et al. 2024, "Noise Contrastive Alignment of Language Models with
    Explicit Rewards", arXiv 2402.05369 (NCA on preference data).
    """
    cost = lambda c, r, m: logistic(c) + 0.5 * logistic(-c) + 0.5 * logistic(-r)
    return direct_alignment(logp, ref_logp, batch, score=_reward(beta), cost=cost)


def apo_zero(logp: Array, ref_logp: Array, batch: Preference, *, beta: float) -> Loss:
    """Anchored preference optimisation where the chosen response is better than the policy.

    L = 1 − σ(c) + σ(r), c and r the implicit rewards β log π/π_ref: each side moves away
    from the reference for itself, the chosen one up and the rejected one down.

    Args:
        logp: f32[B, 2, T], as in `r_dpo`.
        ref_logp: f32[B, 2, T], as in `r_dpo`.
        batch: the pairs; the margin is not read.
        beta: β > 0 (reward a nat).

    Returns:
        Loss a pair in [0, 2], with the metrics of `direct_alignment`.

    Raises:
        InputError: an array has the wrong shape or dtype, a number is out of range.

    Reference: D'Oosterlinck et al. 2024, arXiv 2408.06266, eq. 7.
    """
    cost = lambda chosen, rejected, margin: smoothed_zero_one(chosen) + smoothed_zero_one(-rejected)
    return direct_alignment(logp, ref_logp, batch, score=_reward(beta), cost=cost)


def apo_down(logp: Array, ref_logp: Array, batch: Preference, *, beta: float) -> Loss:
    """Anchored preference optimisation where the policy is better than the chosen response.

    L = σ(c) + 1 − σ(c − r), c and r the implicit rewards β log π/π_ref: both sides go
    down, the rejected one more. Where chosen responses are better than the policy's, take
    `apo_zero`.

    Args:
        logp: f32[B, 2, T], as in `r_dpo`.
        ref_logp: f32[B, 2, T], as in `r_dpo`.
        batch: the pairs; `margin` is in units of the reward, all 0 in the paper.
        beta: β > 0 (reward a nat).

    Returns:
        Loss a pair in [0, 2], with the metrics of `direct_alignment`.

    Raises:
        InputError: an array has the wrong shape or dtype, a number is out of range.

    Reference: D'Oosterlinck et al. 2024, "Anchored Preference Optimization and Contrastive
    Revisions: Addressing Underspecification in Alignment", arXiv 2408.06266, eq. 8.
    """
    cost = lambda chosen, rejected, margin: (
        smoothed_zero_one(-chosen) + smoothed_zero_one(chosen - rejected - margin)
    )
    return direct_alignment(logp, ref_logp, batch, score=_reward(beta), cost=cost)


def sppo(logp: Array, ref_logp: Array, batch: Preference, *, win: Array, eta: float) -> Loss:
    """Self-play preference optimisation: a step of multiplicative weights, as least squares.

    L = Σ over both y of (log π(y|x)/π_t(y|x) − η (P(y ≻ π_t|x) − ½))².

    Args:
        logp: f32[B, 2, T], as in `r_dpo`.
        ref_logp: f32[B, 2, T], log-probs under the last iterate π_t; a constant.
        batch: the pairs, of responses that π_t wrote; the margin is not read.
        win: P(y ≻ π_t|x), f32[B, 2], the share of π_t's responses that y wins against; a
            constant. (1, 0) for all pairs is the hard variant of TRL.
        eta: η > 0, the step of the weights.

    Returns:
        Loss a pair (nats²), with the metrics of `direct_alignment` for the log-ratio.

    Raises:
        InputError: an array has the wrong shape or dtype, a number is out of range.

    Reference: Wu et al. 2024, "Self-Play Preference Optimization for Language Model
    Alignment", arXiv 2405.00675, eq. 4.7.

    Differs: the sum over both responses, as in TRL's `sppo_hard`; the paper has an
    expectation over responses and the authors' code a mean, half of this. log Z(x) is taken
    to be η/2, as in the paper's own algorithm.
    """
    check_range("eta", eta, 0.0, exclusive=True)
    logp = as_float("logp", logp, (None, 2, None))
    check_mask("batch.mask", batch.mask, logp.shape)
    weight = as_float("batch.weight", batch.weight, logp.shape[:1])
    win = as_float("win", win, logp.shape[:2])
    win = jax.lax.stop_gradient(jnp.where(weight[:, None] > 0, win, 0.5))
    target = eta * (win - 0.5)
    cost = lambda c, r, m: (c - target[:, 0]) ** 2 + (r - target[:, 1]) ** 2
    return direct_alignment(logp, ref_logp, batch, score=log_ratio, cost=cost)


def on_policy_weight(logp: Array, log_collision: Array, mask: Array) -> Array:
    """w(y) of WPO: how likely the policy is to write a completion, by the token.

    log w(y) = 1/|y| Σₜ (log π(yₜ) − log Σᵥ π(v)²): a token counts against the mean
    probability of a token that the policy samples.

    Args:
        logp: f32[..., T], log-probs under the policy (nats).
        log_collision: log Σᵥ π(v|x, y₍<ₜ₎)², f32[..., T] (nats), of
            `models.logprob.completion_logp_collision`; zeros are the weights without
            alignment.
        mask: bool[..., T], tokens of the completion; elsewhere both may be NaN.

    Returns:
        f32[...], constants; 1 for an empty completion, at most exp(`LIMIT`).

    Reference: Zhou et al. 2024, arXiv 2406.11827 (sampled alignment).
    """
    own = masked_mean(logp, mask, -1) - masked_mean(log_collision, mask, -1)
    return jax.lax.stop_gradient(jnp.exp(jnp.minimum(own, LIMIT)))


def wpo(
    logp: Array,
    ref_logp: Array,
    batch: Preference,
    *,
    share: Array,
    beta: float,
    link: Link = logistic,
    cap: float = math.inf,
) -> Loss:
    """DPO whose pairs are weighted as if the policy had written them.

    L = min(w(yʷ) w(yˡ), C) ℓ(z), z as in `dpo`. Pairs that the policy would not write weigh
    little, also all of them together: the mean is not divided by w.

    Args:
        logp: f32[B, 2, T], as in `r_dpo`.
        ref_logp: f32[B, 2, T], as in `r_dpo`.
        batch: the pairs; `margin` is in units of the reward.
        share: w, f32[B, 2], such as `on_policy_weight`; a constant.
        beta: β > 0 (reward a nat).
        link: ℓ.
        cap: C > 0; infinity in eq. 2.

    Returns:
        Loss a pair, with the metrics of `direct_alignment`, and `pair_weight`, min(w(yʷ) w(yˡ), C).

    Raises:
        InputError: an array has the wrong shape or dtype, a number is out of range.

    Reference: Zhou et al. 2024, "WPO: Enhancing RLHF with Weighted Preference
    Optimization", arXiv 2406.11827, eq. 2.

    Differs: the authors' code and TRL have C = 1. It matters with `on_policy_weight`, which is
    above 1 where a completion is likelier than what the policy samples on average.
    """
    check_range("cap", cap, 0.0, exclusive=True)
    logp = as_float("logp", logp, (None, 2, None))
    check_mask("batch.mask", batch.mask, logp.shape)
    weight = as_float("batch.weight", batch.weight, logp.shape[:1])
    share = as_float("share", share, logp.shape[:2])
    both = jnp.where(weight[:, None] > 0, share, 0.0).prod(-1)
    pair = jax.lax.stop_gradient(jnp.minimum(both, cap))
    cost = lambda c, r, m: pair * link(c - r - m)
    loss = direct_alignment(logp, ref_logp, batch, score=_reward(beta), cost=cost)
    return replace(loss, metrics={**loss.metrics, "pair_weight": weighted(pair, weight)})


def tdpo(
    logp: Array, kl: Array, ref_logp: Array, batch: Preference, *, beta: float, alpha: float
) -> Loss:
    """Token-level DPO: the divergence along the rejected response is held down.

    L = −log σ(β log π(yʷ|x)/π_ref(yʷ|x) − β log π(yˡ|x)/π_ref(yˡ|x) − α (D(yˡ) − sg D(yʷ))),
    D(y) = β Σₜ KL(π_ref(·|x, y₍<ₜ₎)‖π(·|x, y₍<ₜ₎)), sg a constant: TDPO₂.

    Args:
        logp: f32[B, 2, T], as in `r_dpo`.
        kl: f32[B, 2, T], KL(π_ref‖π) before each token (nats), differentiable; of
            `models.logprob.completion_logp_kl`.
        ref_logp: f32[B, 2, T], as in `r_dpo`.
        batch: the pairs; `margin` is in units of the reward.
        beta: β > 0 (reward a nat).
        alpha: α; 0 is `dpo`.

    Returns:
        Loss a pair (nats), with the metrics of `direct_alignment`, and `kl_chosen`, `kl_rejected`,
        nats a completion.

    Raises:
        InputError: an array has the wrong shape or dtype, a number is out of range.

    Reference: Zeng et al. 2024, "Token-level Direct Preference Optimization", arXiv
    2404.11999, eq. 17.
    """
    logp = as_float("logp", logp, (None, 2, None))
    kl = as_float("kl", kl, logp.shape)
    check_mask("batch.mask", batch.mask, logp.shape)
    chosen, rejected = masked_sum(kl, batch.mask, -1).T
    gap = alpha * beta * (rejected - jax.lax.stop_gradient(chosen))
    cost = lambda c, r, m: logistic(c - r - m - gap)
    loss = direct_alignment(logp, ref_logp, batch, score=_reward(beta), cost=cost)
    weight = as_float("batch.weight", batch.weight, logp.shape[:1])
    along = {"kl_chosen": weighted(chosen, weight), "kl_rejected": weighted(rejected, weight)}
    return replace(loss, metrics={**loss.metrics, **along})


def xpo(
    logp: Array,
    ref_logp: Array,
    batch: Preference,
    *,
    explore: Array,
    beta: float,
    alpha: float,
) -> Loss:
    """Exploratory preference optimisation: online DPO, away from what the reference writes.

    L = −log σ(β log π(yʷ|x)/π_ref(yʷ|x) − β log π(yˡ|x)/π_ref(yˡ|x)) + α log π(ỹ|x), of
    each pair one response of the policy's and one, ỹ, of the reference's.

    Args:
        logp: f32[B, 2, T], as in `r_dpo`.
        ref_logp: f32[B, 2, T], as in `r_dpo`.
        batch: the pairs; `margin` is in units of the reward.
        explore: bool[B, 2], true on ỹ.
        beta: β > 0 (reward a nat).
        alpha: α >= 0; 0 is online `dpo`.

    Returns:
        Loss a pair (nats), with the metrics of `direct_alignment`, and `optimism`, log π(ỹ|x).

    Raises:
        InputError: an array has the wrong shape or dtype, a number is out of range.

    Reference: Xie et al. 2024, "Exploratory Preference Optimization: Harnessing Implicit
    Q*-Approximation for Sample-Efficient RLHF", arXiv 2405.21046, algorithm 1.
    """
    check_range("alpha", alpha, 0.0)
    loss = dpo(logp, ref_logp, batch, beta=beta)
    logp = as_float("logp", logp, (None, 2, None))
    check_mask("explore", explore, logp.shape[:2])
    own = jnp.where(explore, masked_sum(logp, batch.mask, -1), 0.0).sum(-1)
    optimism = weighted(own, as_float("batch.weight", batch.weight, logp.shape[:1]))
    metrics = {**loss.metrics, "optimism": optimism}
    return replace(loss, total=loss.total + alpha * optimism[0], metrics=metrics)
