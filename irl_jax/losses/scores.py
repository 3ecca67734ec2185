"""Scores of completions, read off a policy and a reference: implicit rewards without β.

All have the same form, so that `irl_jax.losses.direct` takes any of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from irl_jax.losses.ratio import tangent_expm1
from irl_jax.masking import check_range
from irl_jax.types import safe_divide

# logp f32[..., T], ref_logp f32[..., T], mask bool[..., T] -> f32[...]
Score = Callable[[Array, Array, Array], Array]
# log u -> f'(u), f32[...]
Tilt = Callable[[Array], Array]

LIMIT = 30.0  # nats; beyond it an exponential goes on as its tangent


def log_ratio(logp: Array, ref_logp: Array, mask: Array) -> Array:
    """log π(y|x) / π_ref(y|x) = Σₜ log π(yₜ|x, y₍<ₜ₎) − log π_ref(yₜ|x, y₍<ₜ₎).

    Args:
        logp: f32[..., T], log-probs under π (nats).
        ref_logp: f32[..., T], log-probs under π_ref (nats); a constant.
        mask: bool[..., T], tokens of the completion; elsewhere both may be NaN.

    Returns:
        f32[...], nats a completion.
    """
    difference = jnp.where(mask, logp, 0.0) - jnp.where(mask, jax.lax.stop_gradient(ref_logp), 0.0)
    return difference.sum(-1)


def mean_log_ratio(logp: Array, ref_logp: Array, mask: Array) -> Array:
    """`log_ratio` / |y|, nats a token; 0 for an empty completion."""
    length = mask.sum(-1).astype(logp.dtype)
    return safe_divide(log_ratio(logp, ref_logp, mask), length)


def ld_dpo_score(alpha: float) -> Score:
    """Length-desensitised: what a response says beyond the other's length counts α.

    Σ over t ≤ l of the log-ratios of tokens, plus α times the rest, l the length of the
    shorter response of the pair. α = 1 is `log_ratio`.

    Args:
        alpha: α in [0, 1].

    Returns:
        A score of pairs, [..., 2, T] -> [..., 2].

    Raises:
        InputError: α is out of range.

    Reference: Liu et al. 2024, "Length Desensitization in Direct Preference
    Optimization", arXiv 2409.06411.
    """
    check_range("alpha", alpha, 0.0, 1.0)

    def score(logp: Array, ref_logp: Array, mask: Array) -> Array:
        shorter = mask.sum(-1, keepdims=True).min(-2, keepdims=True)
        common = mask & (jnp.cumsum(mask, axis=-1) <= shorter)
        shared = log_ratio(logp, ref_logp, common)
        return shared + alpha * log_ratio(logp, ref_logp, mask & ~common)

    return score


def f_divergence_score(tilt: Tilt, score: Score) -> Score:
    """f'(exp score): what is regularised is the divergence D_f(π‖π_ref), f its generator.

    The optimal policy of max E[r] − β Σ π_ref f(π/π_ref) satisfies
    r = β f'(π/π_ref) + const wherever π > 0, so f' takes the place of the logarithm.

    Args:
        tilt: log u -> f'(u), such as `alpha_tilt(0.5)` or `jensen_shannon_tilt`.
        score: of which log u is made, such as `log_ratio`.

    Returns:
        A score.

    Reference: Wang et al. 2023, "Beyond Reverse KL: Generalizing Direct Preference
    Optimization with Diverse Divergence Constraints", arXiv 2309.16240.
    """
    return lambda *arrays: tilt(score(*arrays))


def alpha_tilt(alpha: float) -> Tilt:
    """f'(u) = (1 − u^−α) / α of the α-divergence; log u at α = 0.

    α = 0 is KL(π‖π_ref), the "reverse KL" of DPO; α = 1 is KL(π_ref‖π) but for a
    constant; α = ½ is 2 Σ (√π − √π_ref)², twice `divergence.SQUARED_HELLINGER`; α = −1 is
    half of Pearson's chi-squared.

    Args:
        alpha: α.

    Returns:
        A tilt. Where −α log u exceeds `LIMIT` nats it goes on as its tangent.

    Reference: Wang et al. 2023, arXiv 2309.16240, table 1.
    """

    def tilt(log_u: Array) -> Array:
        flat = jnp.asarray(alpha == 0)
        a = jnp.where(flat, 1.0, alpha)
        return jnp.where(flat, log_u, -tangent_expm1(-a * log_u, LIMIT) / a)

    return tilt


def jensen_shannon_tilt(log_u: Array) -> Array:
    """f'(u) = log(2u / (1 + u)) of KL(π‖m) + KL(π_ref‖m), m the mean of both.

    At most log 2, and 0 at u = 1: no reward is more than β log 2 above that of a response
    which is as likely as under the reference; below, there is no bound.

    Reference: Wang et al. 2023, arXiv 2309.16240, table 1.
    """
    return math.log(2.0) - jax.nn.softplus(-log_u)
