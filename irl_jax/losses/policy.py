"""Policy gradients: advantage x ratio x clip x aggregation, and a KL penalty.

The parts are functions of arrays with any leading axes; a paper's objective is a
choice of them.
"""

from __future__ import annotations

from collections.abc import Callable
from numbers import Real

import jax
import jax.numpy as jnp
from jax import Array

from irl_jax.losses.reduction import Aggregation, sequence_mean, sequence_sum, token_mean
from irl_jax.masking import as_float, check_mask, check_range
from irl_jax.types import Group, InputError, Loss

# (logp f32[...], ref_logp f32[...]) -> f32[...], nats
KLEstimator = Callable[[Array, Array], Array]

_LINEAR_FROM = 20.0  # nats; exp(20) is about 5e8


def _expm1(x: Array) -> Array:
    """exp(x) − 1, continued by its tangent beyond x = 20, so that nothing overflows."""
    beyond = jnp.maximum(x - _LINEAR_FROM, 0.0)
    return jnp.expm1(jnp.minimum(x, _LINEAR_FROM)) + jnp.exp(_LINEAR_FROM) * beyond


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

    Biased as a value (by third order in the log-ratio), never negative. The one to
    put into a loss for the gradient of the reverse KL:
    E_π[∇k2] = E_π[(log π − log π_ref) ∇ log π] = ∇KL(π‖π_ref) exactly.

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
    which agrees with the reverse one to first order around π = π_ref.

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
    return _expm1(x) - x


def probability_ratio(logp: Array, behaviour_logp: Array) -> Array:
    """ρ = π(a|s) / μ(a|s), the importance ratio of actions sampled from μ.

    Args:
        logp: f32[...], log-probs under the policy π (nats).
        behaviour_logp: f32[...], log-probs under the behaviour policy μ; a constant.

    Returns:
        f32[...]; beyond exp(20) it continues linearly, so that it cannot overflow.
    """
    return 1.0 + _expm1(logp - jax.lax.stop_gradient(behaviour_logp))


def clip_bounds(clip: float | tuple[float, float]) -> tuple[float, float]:
    """(1 − ε_low, 1 + ε_high), the ratios between which a policy moves freely.

    Args:
        clip: ε > 0 for both sides, or (ε_low, ε_high); (1, inf) does not clip.

    Raises:
        InputError: ε_low is not in (0, 1], or ε_high is not positive.
    """
    low, high = clip if isinstance(clip, tuple) else (clip, clip)
    check_range("clip (lower side)", low, 0.0, 1.0, exclusive=True)
    check_range("clip (upper side)", high, 0.0, exclusive=True)
    return 1.0 - low, 1.0 + high


def clipped_surrogate(
    ratio: Array, advantage: Array, bounds: tuple[float, float]
) -> tuple[Array, Array]:
    """min(ρ A, clip(ρ, low, high) A), to be maximised, and where the clip binds.

    Args:
        ratio: f32[...], ρ.
        advantage: f32[...], A; same shape, or one of all tokens, f32[..., 1].
        bounds: low and high.

    Returns:
        f32[...], and bool[...], true where the clip took the gradient away.

    Reference: Schulman et al. 2017, arXiv 1707.06347, eq. 7.
    """
    low, high = bounds
    binds = jnp.where(advantage > 0, ratio > high, (advantage < 0) & (ratio < low))
    return jnp.where(binds, jnp.clip(ratio, low, high), ratio) * advantage, binds


def grpo(
    logp: Array,
    batch: Group,
    *,
    advantage: Array,
    clip: float | tuple[float, float],
    beta: float,
    ref_logp: Array | None = None,
    kl: KLEstimator = k3,
    aggregate: Aggregation = sequence_mean,
) -> Loss:
    """Group relative policy optimisation.

    L = −1/N Σᵢ 1/|oᵢ| Σₜ { min(ρᵢₜ Aᵢ, clip(ρᵢₜ, 1 − ε, 1 + ε) Aᵢ) − β kᵢₜ }, with
    ρ = π/μ, the mean over all completions of the batch.

    Args:
        logp: f32[B, K, T], log-probs of the completions under the policy (nats).
            Read where `batch.mask` is true.
        batch: K completions of each prompt and their behaviour log-probs μ.
        advantage: f32[B, K], of whole completions; a constant. See
            `irl_jax.dynamics.advantages.group_advantages`.
        clip: ε, or (ε_low, ε_high).
        beta: β >= 0, weight of the KL penalty (reward a nat).
        ref_logp: f32[B, K, T], log-probs under the reference policy; a constant.
            May be left out only if beta is 0; then no KL is reported either.
        kl: estimator of KL(π‖π_ref); `k3` is the paper's. Their gradients differ:
            see `k1`, `k2`, `k3`.
        aggregate: `sequence_mean` is the paper's; `token_mean` weighs tokens alike.

    Returns:
        Loss, in units of the advantage. Metrics, token means unless said
        otherwise: `ratio`, `clip_fraction` (tokens whose gradient the clip took
        away), `entropy` (−log π of the sampled tokens, nats; unbiased when on
        policy), `kl_behaviour` (k3 estimate of KL(μ‖π), nats); with a reference
        `kl_token` (nats) and `kl` (nats a completion).

    Raises:
        InputError: an array has the wrong shape or dtype, a number is out of
            range, or beta is not 0 and there is no reference.

    Reference: Shao et al. 2024, "DeepSeekMath", arXiv 2402.03300, eq. 3 and 4;
    Yu et al. 2025, arXiv 2503.14476 (`token_mean`, two clip bounds).

    Differs: the mean is over the completions of the whole batch, which for full
    groups is the paper's mean over groups; ratios beyond exp(20) continue linearly.
    """
    bounds = clip_bounds(clip)
    check_range("beta", beta, 0.0)
    logp = as_float("logp", logp, (None, None, None))
    check_mask("batch.mask", batch.mask, logp.shape)
    behaviour = as_float("batch.logp", batch.logp, logp.shape)
    advantage = as_float("advantage", advantage, logp.shape[:2])
    if ref_logp is None and not (isinstance(beta, Real) and beta == 0):
        raise InputError(f"ref_logp: missing; beta = {beta} needs it (or set beta to 0)")

    mask = batch.mask
    logp, behaviour = (jnp.where(mask, x, 0.0) for x in (logp, behaviour))
    gain = jnp.where(mask.any(-1), jax.lax.stop_gradient(advantage), 0.0)[..., None]
    ratio = probability_ratio(logp, behaviour)
    surrogate, clipped = clipped_surrogate(ratio, gain, bounds)
    loss = -surrogate
    metrics = {
        "ratio": token_mean(ratio, mask),
        "clip_fraction": token_mean(clipped.astype(logp.dtype), mask),
        "entropy": token_mean(-logp, mask),
        "kl_behaviour": token_mean(k3(behaviour, logp), mask),
    }
    if ref_logp is not None:
        ref_logp = as_float("ref_logp", ref_logp, logp.shape)
        divergence = kl(logp, jax.lax.stop_gradient(jnp.where(mask, ref_logp, 0.0)))
        loss = loss + beta * divergence
        metrics |= {"kl_token": token_mean(divergence, mask), "kl": sequence_sum(divergence, mask)}
    total, weight = aggregate(loss, mask)
    return Loss(total, weight, metrics)
