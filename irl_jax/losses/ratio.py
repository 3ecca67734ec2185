"""Two policies on the same tokens: importance ratios, and estimates of their KL divergence."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from irl_jax.masking import masked_mean

# (logp f32[...], ref_logp f32[...]) -> f32[...], nats
KLEstimator = Callable[[Array, Array], Array]
# (logp f32[..., T], behaviour f32[..., T], mask bool[..., T]) -> f32[..., T] or f32[..., 1]
Ratio = Callable[[Array, Array, Array], Array]

_LINEAR_FROM = 20.0  # nats; exp(20) is about 5e8


def tangent_expm1(x: Array, limit: float = _LINEAR_FROM) -> Array:
    """exp(x) − 1, continued by its tangent beyond `limit`, so that nothing overflows.

    Args:
        x: f32[...].
        limit: where the tangent takes over.

    Returns:
        f32[...], convex and increasing, with a gradient everywhere.
    """
    return jnp.expm1(jnp.minimum(x, limit)) + jnp.exp(limit) * jnp.maximum(x - limit, 0.0)


def k1(logp: Array, ref_logp: Array) -> Array:
    """The log-ratio as an estimate of KL(π‖π_ref), k1 = log π − log π_ref.

    Unbiased for actions sampled from π, of either sign, of high variance. For the
    reward, not for the loss: E_π[∇k1] = E_π[∇ log π] = 0, so as a loss it only
    adds noise, while subtracting β·k1 from the reward (a constant in the policy
    gradient) gives ∇KL(π‖π_ref).

    Args:
        logp: f32[...], log-probs of sampled actions under π (nats).
        ref_logp: f32[...], the same under π_ref.

    Returns:
        f32[...], nats.

    Reference: Schulman 2020, "Approximating KL divergence".
    """
    return logp - ref_logp


def k2(logp: Array, ref_logp: Array) -> Array:
    """Half the squared log-ratio, k2 = ½ (log π − log π_ref)².

    Biased as a value (by third order in the log-ratio), never negative. Of one action it is
    the one to put into a loss for the gradient of the reverse KL:
    E_π[∇k2] = E_π[(log π − log π_ref) ∇ log π] = ∇KL(π‖π_ref) exactly.

    The sum of k2 over the tokens of a completion is not: its expected gradient is that of
    Σₜ KL(π(·|o₍<ₜ₎)‖π_ref(·|o₍<ₜ₎)) with the prefixes o₍<ₜ₎ held where they were sampled.
    What is missing is that an earlier token leads to prefixes of a larger or a smaller
    divergence, which may even turn the sign: of two tokens and two symbols, +0.157 against
    −0.050 in a test. Exact for completions are k1 in the reward
    (`dynamics.shaping.kl_penalised`), to be counted to the end of the completion, and k2 of
    whole completions, ½ (Σₜ log π − log π_ref)².

    Args:
        logp: f32[...], log-probs of sampled actions under π (nats).
        ref_logp: f32[...], the same under π_ref.

    Returns:
        f32[...], nats.

    Reference: Schulman 2020, "Approximating KL divergence".
    """
    return 0.5 * (logp - ref_logp) ** 2


def k3(logp: Array, ref_logp: Array) -> Array:
    """An unbiased estimate that is never negative, k3 = π_ref/π − 1 − log π_ref/π.

    Unbiased as a value for actions sampled from π. As a loss it does not descend
    on KL(π‖π_ref): E_π[∇k3] = −E_ref[∇ log π] = ∇KL(π_ref‖π), the other direction,
    which agrees with the reverse one to first order around π = π_ref. That holds for one
    action; summed over tokens the prefixes are held fixed, as with `k2`.

    Args:
        logp: f32[...], log-probs of sampled actions under π (nats).
        ref_logp: f32[...], the same under π_ref.

    Returns:
        f32[...], nats.

    Reference: Schulman 2020, "Approximating KL divergence"; Shao et al. 2024,
    arXiv 2402.03300, eq. 4.

    Differs: π_ref/π beyond exp(20) continues linearly, so that it cannot overflow.
    """
    x = ref_logp - logp
    return tangent_expm1(x) - x


def probability_ratio(logp: Array, behaviour_logp: Array) -> Array:
    """ρ = π(a|s) / μ(a|s), the importance ratio of actions sampled from μ.

    Args:
        logp: f32[...], log-probs under the policy π (nats).
        behaviour_logp: f32[...], log-probs under the behaviour policy μ; a constant.

    Returns:
        f32[...]; beyond exp(20) it continues linearly, so that it cannot overflow.
    """
    return 1.0 + tangent_expm1(logp - jax.lax.stop_gradient(behaviour_logp))


def token_ratio(logp: Array, behaviour_logp: Array, mask: Array) -> Array:
    """`Ratio`: of each token, ρₜ = π(oₜ)/μ(oₜ); see `probability_ratio`.

    Args:
        logp: f32[..., T], log-probs under the policy π (nats).
        behaviour_logp: f32[..., T], log-probs under the behaviour policy μ; a constant.
        mask: bool[..., T], not read.

    Returns:
        f32[..., T].
    """
    del mask
    return probability_ratio(logp, behaviour_logp)


def sequence_ratio(logp: Array, behaviour_logp: Array, mask: Array) -> Array:
    """`Ratio`: one of all tokens, s = (π(o)/μ(o))^(1/|o|) = exp(1/|o| Σₜ log π(oₜ)/μ(oₜ)).

    Args:
        logp: f32[..., T], log-probs under the policy π (nats); finite.
        behaviour_logp: f32[..., T], log-probs under the behaviour policy μ; a constant.
        mask: bool[..., T], the tokens of o.

    Returns:
        f32[..., 1]; 1 for a sequence without a token.

    Reference: Zheng et al. 2025, "Group Sequence Policy Optimization", arXiv 2507.18071,
    eq. 7.
    """
    mean = lambda x: masked_mean(x, mask, axis=-1)[..., None]
    return probability_ratio(mean(logp), mean(behaviour_logp))
