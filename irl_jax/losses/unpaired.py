"""Direct alignment from responses that were judged one by one, good or bad.

An objective is the implicit reward of `irl_jax.losses.scores`, less a baseline, under a
link: ℓ(r − b) for a good response and ℓ(b − r) for a bad one.

    KTO             link=smoothed_zero_one, b = β KL(π‖π_ref) as `mismatched_kl` has it
    BCO             link=logistic, b = a running mean of both sides' rewards

`each_side` puts any of them on pairs, where the mean is over responses: half of what papers
on pairs sum. What a name stands for, to be given to `train.objectives`:

    KTO             mismatched_objective(…, partial(kto, beta=β, good=1.0, bad=1.0))
    KTO of pairs    mismatched_objective(…, partial(kto_pair, beta=β, good=1.0, bad=1.0))
    APO-zero        direct_objective(…, partial(direct_variants.apo_zero, beta=β)): pairs
    APO-zero of ratings
                    direct_objective(…, partial(kto, beta=β, kl=0.0, good=1.0, bad=1.0))
    BCO             direct_objective(…, partial(bco, beta=β)), its shift the batch's
    paired BCO      direct_objective(…, partial(bco_pair, beta=β))

Where good and bad come from different prompts, BCO weights the bad ones: give
`dynamics.weights.density_ratio` of their prompts to `batch.weight`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from irl_jax.losses.link import Link, logistic, smoothed_zero_one
from irl_jax.losses.reduction import weighted
from irl_jax.losses.scores import log_ratio
from irl_jax.masking import as_float, check_mask, check_range
from irl_jax.types import Loss, Preference, Rating, safe_divide


def unpaired_alignment(
    logp: Array,
    ref_logp: Array,
    batch: Rating,
    *,
    beta: float,
    baseline: Array | float,
    link: Link,
    good: float = 1.0,
    bad: float = 1.0,
) -> Loss:
    """L = s λ_g ℓ(r − b) + (1 − s) λ_b ℓ(b − r), r = β log π(y|x)/π_ref(y|x).

    Args:
        logp: f32[B, T], log-probs of the completions under the policy (nats). Read
            where `batch.mask` is true.
        ref_logp: f32[B, T], the same under the reference policy; a constant.
        batch: the ratings; `score` s is 1 for good, 0 for bad, or a probability between.
        beta: β > 0 (reward a nat).
        baseline: b, f32[], in units of the reward; a constant.
        link: ℓ.
        good: λ_g >= 0, weight of what is good.
        bad: λ_b >= 0, weight of what is bad.

    Returns:
        Loss a rating. Metrics: `accuracy` (of r > b against s > ½; a tie counts one
        half), `reward_good` and `reward_bad` (means of r over either), `logp`, nats a
        completion.

    Raises:
        InputError: an array has the wrong shape or dtype, a number is out of range.
    """
    check_range("beta", beta, 0.0, exclusive=True)
    check_range("good", good, 0.0)
    check_range("bad", bad, 0.0)
    logp = as_float("logp", logp, (None, None))
    ref_logp = as_float("ref_logp", ref_logp, logp.shape)
    check_mask("batch.mask", batch.mask, logp.shape)
    score = as_float("batch.score", batch.score, logp.shape[:1])
    weight = as_float("batch.weight", batch.weight, logp.shape[:1])
    counts = weight > 0
    score = jnp.where(counts, score, 0.0)
    reward = jnp.where(counts, beta * log_ratio(logp, ref_logp, batch.mask), 0.0)
    ahead = reward - jax.lax.stop_gradient(jnp.asarray(baseline, reward.dtype))
    cost = score * good * link(ahead) + (1.0 - score) * bad * link(-ahead)
    right = 0.5 * (1.0 + jnp.sign(ahead) * jnp.where(score > 0.5, 1.0, -1.0))
    metrics = {
        "accuracy": weighted(right, weight),
        "reward_good": weighted(reward, weight * score),
        "reward_bad": weighted(reward, weight * (1.0 - score)),
        "logp": weighted(jnp.where(batch.mask, logp, 0.0).sum(-1), weight),
    }
    return Loss(*weighted(cost, weight), metrics)


def mismatched_kl(logp: Array, ref_logp: Array, mask: Array, weight: Array) -> Array:
    """KTO's estimate of KL(π‖π_ref) in nats: the mean log-ratio of other prompts' completions.

    KL = max(0, Σᵢ wᵢ log π(y'ᵢ|xᵢ)/π_ref(y'ᵢ|xᵢ) / Σᵢ wᵢ), y'ᵢ a completion of another
    prompt of the batch. It is no unbiased estimate, as y' is not drawn from π, but
    moves with the divergence and costs no sampling.

    Args:
        logp: f32[B, T], log-probs of y'ᵢ after xᵢ under the policy (nats).
        ref_logp: f32[B, T], the same under the reference policy.
        mask: bool[B, T], tokens of y'ᵢ.
        weight: f32[B], weight of the pairing; 0 on padding rows.

    Returns:
        f32[], a constant to be differentiated around.

    Reference: Ethayarajh et al. 2024, arXiv 2402.01306, section 4.1.
    """
    total, rows = weighted(log_ratio(logp, ref_logp, mask), weight)
    return jax.lax.stop_gradient(jnp.maximum(safe_divide(total, rows), 0.0))


def kto(
    logp: Array,
    ref_logp: Array,
    batch: Rating,
    *,
    beta: float,
    kl: Array | float,
    good: float,
    bad: float,
) -> Loss:
    """Kahneman-Tversky optimisation: gains and losses against the policy's divergence.

    L = λ_y (1 − σ(±β (log π(y|x)/π_ref(y|x) − KL))), + for good and − for bad responses.

    Args:
        logp: f32[B, T], as in `unpaired_alignment`.
        ref_logp: f32[B, T], as in `unpaired_alignment`.
        batch: the ratings, as in `unpaired_alignment`.
        beta: β > 0; small β is little aversion to risk.
        kl: f32[], KL(π‖π_ref) in nats, such as `mismatched_kl`; a constant.
        good: λ_D >= 0. The authors keep λ_D n_D / (λ_U n_U) in [1, 3/2], n the numbers
            of good and bad responses.
        bad: λ_U >= 0.

    Returns:
        Loss a rating, with the metrics of `unpaired_alignment`.

    Raises:
        InputError: an array has the wrong shape or dtype, a number is out of range.

    Reference: Ethayarajh et al. 2024, "KTO: Model Alignment as Prospect Theoretic
    Optimization", arXiv 2402.01306, eq. 8.
    """
    baseline = beta * jnp.asarray(kl)
    return unpaired_alignment(
        logp,
        ref_logp,
        batch,
        beta=beta,
        baseline=baseline,
        link=smoothed_zero_one,
        good=good,
        bad=bad,
    )


def reward_shift(logp: Array, ref_logp: Array, batch: Rating, *, beta: float) -> Array:
    """The δ of `bco`: half-way between the mean rewards of good and of bad responses.

    δ = ½ (E[r | good] + E[r | bad]), r = β log π(y|x)/π_ref(y|x).

    Args:
        logp: f32[B, T], as in `unpaired_alignment`.
        ref_logp: f32[B, T], as in `unpaired_alignment`.
        batch: the ratings, as in `unpaired_alignment`.
        beta: β > 0 (reward a nat).

    Returns:
        f32[], a constant to be differentiated around; a kind that is absent counts 0.

    Reference: Jung et al. 2024, arXiv 2404.04656 (reward shift).

    Differs: of one (micro-)batch, where the paper has a running mean over batches. TRL's is a
    running mean of all rewards together, which is half-way only if good and bad ones are as
    many.
    """
    weight = as_float("batch.weight", batch.weight, jnp.shape(logp)[:1])
    counts = weight > 0
    score = jnp.where(counts, batch.score, 0.0)
    reward = jnp.where(counts, beta * log_ratio(logp, ref_logp, batch.mask), 0.0)
    good, bad = (safe_divide(*weighted(reward, weight * s)) for s in (score, 1.0 - score))
    return jax.lax.stop_gradient(0.5 * (good + bad))


def bco(
    logp: Array,
    ref_logp: Array,
    batch: Rating,
    *,
    beta: float,
    delta: Array | float | None = None,
    good: float = 1.0,
    bad: float = 1.0,
) -> Loss:
    """Binary classifier optimisation: the implicit reward tells good from bad.

    L = −s log σ(r − δ) − (1 − s) log σ(δ − r), a bound of the loss of `dpo`.

    Args:
        logp: f32[B, T], as in `unpaired_alignment`.
        ref_logp: f32[B, T], as in `unpaired_alignment`.
        batch: the ratings, as in `unpaired_alignment`.
        beta: β > 0 (reward a nat).
        delta: δ, f32[], a constant: half the sum of the mean rewards of good and bad
            responses, a running mean over batches in the paper (of all rewards together in
            TRL). None is that of the batch, `reward_shift`; of many, the metrics `reward_good`
            and `reward_bad` are its parts.
        good: weight of what is good.
        bad: weight of what is bad.

    Returns:
        Loss a rating (nats), with the metrics of `unpaired_alignment`.

    Raises:
        InputError: an array has the wrong shape or dtype, a number is out of range.

    Reference: Jung et al. 2024, "Binary Classifier Optimization for Large Language Model
    Alignment", arXiv 2404.04656.

    Differs: the density ratio of prompts that the paper weights bad responses with, where
    good and bad come from different prompts, is `dynamics.weights.density_ratio` in
    `batch.weight`, by whose sum the mean then divides; TRL divides by the number of rows.
    """
    if delta is None:
        delta = reward_shift(logp, ref_logp, batch, beta=beta)
    return unpaired_alignment(
        logp, ref_logp, batch, beta=beta, baseline=delta, link=logistic, good=good, bad=bad
    )


def each_side(loss: Callable[..., Loss]) -> Callable[..., Loss]:
    """A loss of ratings as one of pairs: chosen is good, rejected is bad.

    Args:
        loss: (logp f32[B, T], ref_logp f32[B, T], `Rating` of B rows, ...) -> Loss.

    Returns:
        (logp f32[B, 2, T], ref_logp f32[B, 2, T], `Preference` of B rows, ...) -> Loss;
        its loss is of a response, and what the pair tells beyond good and bad is not read.
    """

    def paired(logp: Array, ref_logp: Array, batch: Preference, **keywords: Any) -> Loss:
        logp = as_float("logp", logp, (None, 2, None))
        ref_logp = as_float("ref_logp", ref_logp, logp.shape)
        check_mask("batch.mask", batch.mask, logp.shape)
        weight = as_float("batch.weight", batch.weight, logp.shape[:1])
        flat = lambda x: x.reshape(-1, logp.shape[-1])
        absent: Any = None
        ratings = Rating(
            absent,
            absent,
            mask=flat(batch.mask),
            score=jnp.tile(jnp.array([1.0, 0.0], logp.dtype), logp.shape[0]),
            weight=jnp.repeat(weight, 2),
        )
        logp, ref_logp = (jnp.where(batch.mask, x, 0.0) for x in (logp, ref_logp))
        return loss(flat(logp), flat(ref_logp), ratings, **keywords)

    return paired


def kto_pair(
    logp: Array,
    ref_logp: Array,
    batch: Preference,
    *,
    beta: float,
    kl: Array | float,
    good: float,
    bad: float,
) -> Loss:
    """KTO of pairs, chosen as good and rejected as bad, L = ½ (λ_g σ(b − c) + λ_b σ(r − b)).

    c and r are the implicit rewards β log π/π_ref of the two sides, b = β KL.

    Args:
        logp: f32[B, 2, T], log-probs of the completions under the policy (nats).
        ref_logp: f32[B, 2, T], the same under the reference policy; a constant.
        batch: the pairs; the margin is not read.
        beta: β > 0 (reward a nat).
        kl: as in `kto`.
        good: λ_g >= 0.
        bad: λ_b >= 0.

    Returns:
        Loss a response, with the metrics of `kto`.

    Raises:
        InputError: an array has the wrong shape or dtype, a number is out of range.

    Reference: Ethayarajh et al. 2024, arXiv 2402.01306 (of preferences).
    """
    return each_side(kto)(logp, ref_logp, batch, beta=beta, kl=kl, good=good, bad=bad)


def bco_pair(logp: Array, ref_logp: Array, batch: Preference, *, beta: float) -> Loss:
    """BCO of pairs, chosen as good and rejected as bad, L = −½ (log σ(c − δ) + log σ(δ − r)).

    c and r are the implicit rewards β log π/π_ref of the two sides, δ the half-way point of
    their means over the batch.

    Args:
        logp: f32[B, 2, T], log-probs of the completions under the policy (nats).
        ref_logp: f32[B, 2, T], the same under the reference policy; a constant.
        batch: the pairs; the margin is not read.
        beta: β > 0 (reward a nat).

    Returns:
        Loss a response (nats), with the metrics of `bco`.

    Raises:
        InputError: an array has the wrong shape or dtype, a number is out of range.

    Reference: Jung et al. 2024, arXiv 2404.04656.
    """
    return each_side(bco)(logp, ref_logp, batch, beta=beta)
