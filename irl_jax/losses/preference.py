"""Losses of rewards from pairs of which one was preferred.

A pairwise objective is margin -> link -> weights (`pairwise`); each paper's is a
choice of them. For an ensemble, `jax.vmap` a loss over a leading axis of rewards.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import jax
import jax.numpy as jnp
from jax import Array

from irl_jax.losses.link import Link, logistic, probit, smooth, smoothed_zero_one, unbiased
from irl_jax.losses.reduction import weighted
from irl_jax.masking import as_float, check_mask, check_range
from irl_jax.types import Loss, Preference

# rewards of chosen and rejected, margins, f32[B] each -> f32[B]
Cost = Callable[[Array, Array, Array], Array]


def margin_cost(link: Link) -> Cost:
    """The cost ℓ(chosen − rejected − margin) of a pair."""
    return lambda chosen, rejected, margin: link(chosen - rejected - margin)


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
    return pairwise_loss(reward, batch, margin_cost(link))


def pairwise_loss(reward: Array, batch: Preference, cost: Cost) -> Loss:
    """L = Σᵢ wᵢ c(r(yᵢʷ), r(yᵢˡ), mᵢ) / Σᵢ wᵢ, the form of every loss of pairs.

    Args:
        reward: f32[B, 2]; index 0 is the chosen response. Rows of weight 0 may be NaN.
        batch: the pairs.
        cost: c, of f32[B] each: rewards of the two sides and the margins, all 0 in
            rows of weight 0.

    Returns:
        Loss a pair, with the metrics of `pairwise`.
    """
    reward = as_float("reward", reward, (None, 2))
    margin = as_float("batch.margin", batch.margin, reward.shape[:1])
    weight = as_float("batch.weight", batch.weight, reward.shape[:1])
    counts = weight > 0
    chosen, rejected = jnp.where(counts[:, None], reward, 0.0).T
    ahead = chosen - rejected
    total, total_weight = weighted(cost(chosen, rejected, jnp.where(counts, margin, 0.0)), weight)
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


def segment_comparison(reward: Array, batch: Preference) -> Loss:
    """Bradley-Terry on the sums of the rewards of two segments, or of two ranked trajectories.

    L = −log σ(Σₜ r(sₜʷ, aₜʷ) − Σₜ r(sₜˡ, aₜˡ) − m). On segments that people compared it is the
    loss of Christiano et al.; on ranked demonstrations that of T-REX; on demonstrations ranked by
    the noise that was added to their actions that of D-REX.

    Args:
        reward: f32[B, 2, T], reward of each step; index 0 is the preferred segment. Read where
            the mask is true.
        batch: the pairs; `mask` says which steps there are, `margin` m is in units of the
            reward.

    Returns:
        Loss a pair (nats), with the metrics of `pairwise`.

    Raises:
        InputError: an array has the wrong shape or dtype.

    Reference: Christiano et al. 2017, "Deep reinforcement learning from human preferences",
    arXiv 1706.03741, eq. 1; Brown et al. 2019, "Extrapolating beyond suboptimal demonstrations
    via inverse reinforcement learning from observations" (T-REX), arXiv 1904.06387, eq. 1; Brown,
    Goo & Niekum 2019, "Better-than-demonstrator imitation learning via automatically-ranked
    demonstrations" (D-REX), arXiv 1907.03976.

    Differs: Christiano et al. take 10 % of the answers for uniformly random ones.
    """
    reward = as_float("reward", reward, (None, 2, None))
    check_mask("batch.mask", batch.mask, reward.shape)
    return pairwise(jnp.where(batch.mask, reward, 0.0).sum(-1), batch, link=logistic)


def thurstone(reward: Array, batch: Preference) -> Loss:
    """Maximum likelihood of Thurstone's model, L = −log Φ(r(yʷ) − r(yˡ) − m).

    Args:
        reward: f32[B, 2], in standard deviations of a difference of two impressions; index 0
            is the chosen response. Rows of weight 0 may be NaN.
        batch: the pairs; `margin` m is in units of the reward.

    Returns:
        Loss a pair (nats), with the metrics of `pairwise`.

    Raises:
        InputError: an array has the wrong shape or dtype.

    Reference: Thurstone 1927, "A law of comparative judgment", case V.
    """
    return pairwise(reward, batch, link=probit)


def robust_bradley_terry(reward: Array, batch: Preference, *, flip_rate: float) -> Loss:
    """Bradley-Terry whose mean over flipped labels is the loss of the clean ones.

    L = (−(1 − ε) log σ(z) + ε log σ(−z)) / (1 − 2ε), with z = r(yʷ) − r(yˡ) − m.

    Args:
        reward: f32[B, 2]; index 0 is the chosen response. Rows of weight 0 may be NaN.
        batch: the pairs; `margin` m is in units of the reward.
        flip_rate: ε in [0, 0.5), the share of labels that are wrong.

    Returns:
        Loss a pair (nats), with the metrics of `pairwise`.

    Raises:
        InputError: an array has the wrong shape or dtype, a number is out of range.

    Reference: Natarajan et al. 2013, "Learning with noisy labels"; Chowdhury et al. 2024,
    arXiv 2403.00409 (of preferences).
    """
    return pairwise(reward, batch, link=unbiased(logistic, flip_rate))


def symmetric_pairwise(reward: Array, batch: Preference) -> Loss:
    """The sigmoid loss of a pair, L = σ(−z), z = r(yʷ) − r(yˡ) − m: flips do not move its minimum.

    ℓ(z) + ℓ(−z) is constant, so that labels flipped at any rate below one half leave the
    minimiser where it is; its gradient vanishes for pairs far on the wrong side.

    Args:
        reward: f32[B, 2]; index 0 is the chosen response. Rows of weight 0 may be NaN.
        batch: the pairs; `margin` m is in units of the reward.

    Returns:
        Loss a pair in [0, 1], with the metrics of `pairwise`.

    Raises:
        InputError: an array has the wrong shape or dtype.

    Reference: Ghosh, Manwani & Sastry 2015, "Making risk minimization tolerant to label
    noise", arXiv 1403.3610.
    """
    return pairwise(reward, batch, link=smoothed_zero_one)


def order_classification(reward: Array, batch: Preference) -> Loss:
    """Each response alone is classified as one that was preferred, or not.

    L = −log σ(r(yʷ) − m) − log σ(−r(yˡ)): the responses of a pair are not compared,
    yet the sum bounds what the order costs, and its optimum keeps the order. The
    rewards have a zero of their own; any binary classifier can take the place of r.

    Args:
        reward: f32[B, 2], logits of "was preferred"; index 0 is the chosen response.
            Rows of weight 0 may be NaN.
        batch: the pairs; `margin` m is in logits, and all 0 is the paper's objective.

    Returns:
        Loss a pair (nats), with the metrics of `pairwise`.

    Raises:
        InputError: an array has the wrong shape or dtype.

    Reference: Sun, Shen & Ton 2025, "Rethinking Bradley-Terry models in
    preference-based reward modeling", arXiv 2411.04991, section 4.
    """
    return pairwise_loss(
        reward, batch, lambda chosen, rejected, m: logistic(chosen - m) + logistic(-rejected)
    )


def gaussian(mean: Array, log_variance: Array, batch: Preference) -> Loss:
    """Maximum likelihood where each response has a distribution of rewards, N(μ, σ²).

    L = −log Φ((μ(yʷ) − μ(yˡ) − m) / √(σ²(yʷ) + σ²(yˡ))): Thurstone's comparisons with
    variances of their own. Variances of ½ are the link `probit`. What is disputed
    between people, or not told by the features, can show as a large variance.

    Comparisons say nothing of a common factor of all means and standard deviations, and
    little of a response's variance as long as it meets few others: hold one of them
    down by weight decay or by the head's form.

    Args:
        mean: μ, f32[B, 2]; index 0 is the chosen response. Rows of weight 0 may be NaN.
        log_variance: log σ², f32[B, 2]; beyond ±20 it counts as ±20.
        batch: the pairs; `margin` m is in units of the mean.

    Returns:
        Loss a pair (nats), with the metrics of `pairwise` for the means.

    Raises:
        InputError: an array has the wrong shape or dtype.

    Reference: Thurstone 1927, "A law of comparative judgment", case III; Siththaranjan,
    Laidlaw & Hadfield-Menell 2023, "Distributional preference learning", arXiv
    2312.08358 (the mean-and-variance model).

    Differs: the authors' code puts σ(√(2π) z) in the place of Φ(z).
    """
    mean = as_float("mean", mean, (None, 2))
    log_variance = as_float("log_variance", log_variance, mean.shape)
    weight = as_float("batch.weight", batch.weight, mean.shape[:1])
    spread = jnp.clip(jnp.where(weight[:, None] > 0, log_variance, 0.0), -_REACH, _REACH)
    shrink = jnp.exp(-0.5 * jnp.logaddexp(*spread.T))
    return pairwise_loss(
        mean, batch, lambda chosen, rejected, m: probit((chosen - rejected - m) * shrink)
    )


_REACH = 20.0  # of a log-variance: z stays finite in f32, and so does its square


def rao_kupper(reward: Array, batch: Preference, *, tie: Array, threshold: float | Array) -> Loss:
    """Bradley-Terry with ties: a difference below a threshold may be called a draw.

    P(w ≻ l) = σ(z − η), P(w ~ l) = (exp(2η) − 1) σ(z − η) σ(−z − η), with
    z = r(yʷ) − r(yˡ) − m.

    Args:
        reward: f32[B, 2], rewards; index 0 is the chosen response, or either of a
            tie. Rows of weight 0 may be NaN.
        batch: the pairs.
        tie: bool[B], true where neither was preferred.
        threshold: η > 0, in units of the reward; may be learned.

    Returns:
        Loss a pair (nats), with the metrics of `pairwise`.

    Raises:
        InputError: an array has the wrong shape or dtype, a number is out of range.

    Reference: Rao & Kupper 1967, "Ties in paired-comparison experiments", with
    θ = exp(η).
    """
    check_range("threshold", threshold, 0.0, exclusive=True)

    def cost(chosen: Array, rejected: Array, margin: Array) -> Array:
        check_mask("tie", tie, chosen.shape)
        z = chosen - rejected - margin
        # log(exp(2η) − 1) = 2η + log(1 − exp(−2η))
        draw = logistic(-z - threshold) - 2 * threshold - jnp.log(-jnp.expm1(-2 * threshold))
        return logistic(z - threshold) + jnp.where(tie, draw, 0.0)

    return pairwise_loss(reward, batch, cost)


def davidson(reward: Array, batch: Preference, *, tie: Array, log_nu: float | Array) -> Loss:
    """Bradley-Terry with ties, whose odds are those of the two sides' geometric mean.

    P(w ≻ l) = 1 / (1 + exp(−z) + ν exp(−z/2)), P(w ~ l) = ν exp(−z/2) P(w ≻ l), with
    z = r(yʷ) − r(yˡ) − m; ν = 0 is Bradley-Terry.

    Args:
        reward: f32[B, 2], rewards; index 0 is the chosen response, or either of a
            tie. Rows of weight 0 may be NaN.
        batch: the pairs.
        tie: bool[B], true where neither was preferred.
        log_nu: log ν, how readily ties are declared; may be learned.

    Returns:
        Loss a pair (nats), with the metrics of `pairwise`.

    Raises:
        InputError: an array has the wrong shape or dtype.

    Reference: Davidson 1970, "On extending the Bradley-Terry model to accommodate
    ties in paired comparison experiments".
    """

    def cost(chosen: Array, rejected: Array, margin: Array) -> Array:
        check_mask("tie", tie, chosen.shape)
        z = chosen - rejected - margin
        draw = log_nu - 0.5 * z
        log_odds = jnp.stack([jnp.zeros_like(z), -z, draw])
        return jax.nn.logsumexp(log_odds, axis=0) - jnp.where(tie, draw, 0.0)

    return pairwise_loss(reward, batch, cost)
