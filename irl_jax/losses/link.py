"""Links: what a pair costs, given by how much the chosen side is ahead.

A link maps the logit z f32[...] of "the preferred one wins" to a loss f32[...];
a pairwise objective is an implicit or learned reward under a link.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from irl_jax.masking import check_range
from irl_jax.types import InputError

Link = Callable[[Array], Array]


def logistic(z: Array) -> Array:
    """−log σ(z): the negative log-likelihood of the Bradley-Terry model.

    Args:
        z: f32[...], logits.

    Returns:
        f32[...], nats.
    """
    return jax.nn.softplus(-z)


def probit(z: Array) -> Array:
    """−log Φ(z): the negative log-likelihood of Thurstone's model of comparisons.

    Utilities with independent normal noise of variance ½ each: the logit is the
    difference of their means, in units of the standard deviation of the noise.

    Args:
        z: f32[...], logits.

    Returns:
        f32[...], nats. It grows as z²/2 where the label is far out, so that a wrong
        label costs more than under `logistic`.

    Reference: Thurstone 1927, "A law of comparative judgment", case V.

    Differs: below z = −10 the continued fraction of the tail, to the third term,
    stands for Φ; its relative error there is below 1e-5.
    """
    far = z < _TAIL
    near = jax.scipy.special.log_ndtr(jnp.where(far, 0.0, z))
    t = jnp.where(far, -z, -_TAIL)
    tail = -0.5 * t * t - 0.5 * math.log(2 * math.pi) - jnp.log(t + 1 / (t + 2 / t))
    return -jnp.where(far, tail, near)


_TAIL = -10.0  # below it, the gradient of `log_ndtr` loses its digits in f32


def smoothed_zero_one(z: Array) -> Array:
    """σ(−z), a smooth count of wrong orders: symmetric, ℓ(z) + ℓ(−z) = 1.

    Labels that flip with a probability ε < ½ scale its expectation by 1 − 2ε and move
    it by a constant, so that its optimum is that of clean labels without ε being
    known. Its gradient vanishes where a pair is far out, also on the wrong side.

    Args:
        z: f32[...], logits.

    Returns:
        f32[...] in [0, 1].

    Reference: Ghosh, Manwani & Sastry 2015, "Making risk minimization tolerant to
    label noise", arXiv 1403.3610, theorem 1.
    """
    return jax.nn.sigmoid(-z)


def hinge(z: Array) -> Array:
    """max(0, 1 − z): nothing is asked of a pair that is ahead by 1.

    Args:
        z: f32[...], logits.

    Returns:
        f32[...].

    Reference: Zhao et al. 2023, "SLiC-HF: Sequence Likelihood Calibration with Human
    Feedback", arXiv 2305.10425, eq. 1; Liu et al. 2023, "Statistical Rejection Sampling
    Improves Preference Optimization", arXiv 2309.06657 (on DPO's implicit reward).
    """
    return jax.nn.relu(1.0 - z)


def square(target: float) -> Link:
    """(z − c)²: a pair is to be ahead by c, no less and no more.

    Args:
        target: c, in units of z.

    Returns:
        A link.
    """
    return lambda z: (z - target) ** 2


def ahead_by(link: Link, margin: float) -> Link:
    """ℓ(z − γ): the loss of a pair that has to be ahead by γ.

    Args:
        link: ℓ.
        margin: γ, in units of z.

    Returns:
        A link.
    """
    return lambda z: link(z - margin)


def smooth(link: Link, label_smoothing: float) -> Link:
    """The expected loss when a label is wrong with probability ε, (1 − ε) ℓ(z) + ε ℓ(−z).

    With the logistic link it is least at z = log((1 − ε) / ε), not at infinity.

    Args:
        link: ℓ.
        label_smoothing: ε in [0, 0.5].

    Returns:
        A link.

    Raises:
        InputError: ε is out of range.

    Reference: Mitchell 2023, "A note on DPO with noisy preferences & relationship
    to IPO" (conservative DPO).
    """
    check_range("label_smoothing", label_smoothing, 0.0, 0.5)
    return lambda z: (1.0 - label_smoothing) * link(z) + label_smoothing * link(-z)


def unbiased(link: Link, flip_rate: float) -> Link:
    """The loss whose mean over flipped labels is the link's over clean ones.

    ((1 − ε) ℓ(z) − ε ℓ(−z)) / (1 − 2ε), where each label was flipped with probability
    ε, known. It is not bounded below in the batch, unlike `smooth`.

    Args:
        link: ℓ.
        flip_rate: ε in [0, 0.5).

    Returns:
        A link.

    Raises:
        InputError: ε is out of range.

    Reference: Natarajan et al. 2013, "Learning with noisy labels", lemma 1; Chowdhury
    et al. 2024, "Provably robust DPO", arXiv 2403.00409.
    """
    check_range("flip_rate", flip_rate, 0.0, 0.5)
    if not isinstance(flip_rate, jax.Array) and flip_rate == 0.5:
        raise InputError("flip_rate: at 0.5 the labels say nothing; give less")
    return lambda z: ((1.0 - flip_rate) * link(z) - flip_rate * link(-z)) / (1.0 - 2.0 * flip_rate)


def ropo_link(alpha: float) -> Link:
    """Logistic plus α times `smoothed_zero_one`, scaled so that its steepest slope is 1.

    ℓ(z) = 4α / (1 + α)² (−log σ(z) + α σ(−z)). The slope is greatest where
    σ(−z) = (1 + α) / (2α), a pair that is a little on the wrong side, and falls to
    4α / (1 + α)² where the label is contradicted for sure: a flipped label does not
    drag on the policy as under `logistic`, nor has it no pull at all as under `smoothed_zero_one`,
    the limit of large α (but for a factor of 4).

    Args:
        alpha: α > 1, weight of the symmetric part.

    Returns:
        A link.

    Raises:
        InputError: α is out of range.

    Reference: Liang et al. 2024, "ROPO: Robust Preference Optimization for Large Language
    Models", arXiv 2404.04102.
    """
    check_range("alpha", alpha, 1.0, exclusive=True)
    scale = 4.0 * alpha / (1.0 + alpha) ** 2
    return lambda z: scale * (logistic(z) + alpha * smoothed_zero_one(z))


def exo_link(epsilon: float) -> Link:
    """KL(q‖p) of the policy's preference q = (σ(z), σ(−z)) from the labels' p = (1 − ε, ε).

    The reverse of the direction of `smooth(logistic, ε)`, which is KL(p‖q) but for a
    constant: both are least at z = log((1 − ε) / ε); this one seeks the mode.

    Args:
        epsilon: ε in (0, 0.5].

    Returns:
        A link.

    Raises:
        InputError: ε is out of range.

    Reference: Ji et al. 2024, "Towards Efficient Exact Optimization of Language Model
    Alignment", arXiv 2402.00856, eq. 16.
    """
    check_range("epsilon", epsilon, 0.0, 0.5, exclusive=True)

    def link(z: Array) -> Array:
        won = -logistic(z) - jnp.log1p(-epsilon)
        lost = -logistic(-z) - jnp.log(epsilon)
        return jax.nn.sigmoid(z) * won + jax.nn.sigmoid(-z) * lost

    return link


def discopop_link(temperature: float) -> Link:
    """(1 − σ(z/τ)) (−log σ(z)) + σ(z/τ) exp(−z): a link that a language model discovered.

    Logistic on pairs in the wrong order, exponential on those in the right one; not convex.

    Args:
        temperature: τ > 0; 0.05 in the paper.

    Returns:
        A link. exp(−z) counts as at most exp(30), where its weight is 0.

    Raises:
        InputError: τ is out of range.

    Reference: Lu et al. 2024, "Discovering Preference Optimization Algorithms with and for
    Large Language Models", arXiv 2406.08414, eq. 5 (log-ratio modulated loss).
    """
    check_range("temperature", temperature, 0.0, exclusive=True)

    def link(z: Array) -> Array:
        right = jax.nn.sigmoid(z / temperature)
        return (1.0 - right) * logistic(z) + right * jnp.exp(jnp.minimum(-z, 30.0))

    return link
