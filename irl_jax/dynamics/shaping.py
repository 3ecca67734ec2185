"""Rewards of actions: a KL penalty, and potentials that change no optimal policy."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from irl_jax.dynamics.returns import gae
from irl_jax.masking import as_float, check_mask, check_range, last_index


def kl_penalised(
    reward: Array, logp: Array, ref_logp: Array, mask: Array, *, beta: float | Array
) -> Array:
    """The reward of a completion at its last token, and a KL penalty at every token.

    rₜ = 1(t = T) r − β (log π(oₜ) − log π_ref(oₜ)). The policy gradient of this reward
    descends on KL(π‖π_ref) exactly, since the penalty is a constant in it.

    Args:
        reward: f32[...], r.
        logp: f32[..., T], log-probs under the policy that acted (nats); a constant.
        ref_logp: f32[..., T], the same under the reference policy.
        mask: bool[..., T], tokens of the completion.
        beta: β >= 0 (reward a nat).

    Returns:
        f32[..., T]; 0 outside the mask. Its sum is the reward less β times `k1` of the
        completion.

    Raises:
        InputError: an array has the wrong shape or dtype, or beta < 0.

    Reference: Ziegler et al. 2019, "Fine-Tuning Language Models from Human Preferences",
    arXiv 1909.08593, eq. 2; Ouyang et al. 2022, arXiv 2203.02155, eq. 2.

    Example:
        >>> logp, ref, mask = jnp.array([-1.0, -2.0]), jnp.array([-2.0, -2.0]), jnp.ones(2, bool)
        >>> kl_penalised(jnp.array(3.0), logp, ref, mask, beta=0.5).tolist()
        [-0.5, 3.0]
    """
    check_range("beta", beta, 0.0)
    check_mask("mask", mask, jnp.shape(mask))
    reward = as_float("reward", reward, mask.shape[:-1])
    logp = as_float("logp", logp, mask.shape)
    ref_logp = as_float("ref_logp", ref_logp, mask.shape)
    at_last = jnp.arange(mask.shape[-1]) == last_index(mask)[..., None]
    penalty = jnp.where(mask, logp, 0.0) - jnp.where(mask, ref_logp, 0.0)
    return jnp.where(at_last, reward[..., None], 0.0) - beta * penalty


def potential_shaped(
    reward: Array,
    potential: Array,
    mask: Array,
    *,
    discount: float | Array,
    final_potential: Array | None = None,
) -> Array:
    """Rewards plus a difference of potentials, r′ₜ = rₜ + γ Φ(sₜ₊₁) − Φ(sₜ).

    Every policy keeps its order: the return of an episode that ends changes by −Φ of the first
    state, whatever is done. The potential is 0 where an episode ended, and not where it was cut.

    Args:
        reward: f32[..., T].
        potential: f32[..., T], Φ of the state in which each action was taken.
        mask: bool[..., T], actions that were taken; what is not one is skipped, as in `gae`.
        discount: γ in [0, 1]; or f32[..., T], as in `gae`.
        final_potential: f32[...], Φ of the state after the last action; 0 by default.

    Returns:
        f32[..., T]; 0 outside the mask.

    Raises:
        InputError: an array has the wrong shape or dtype, or a number is out of range.

    Reference: Ng, Harada & Russell 1999, "Policy invariance under reward transformations:
    Theory and application to reward shaping", eq. 2.

    Example:
        >>> r, phi, mask = jnp.array([0.0, 1.0]), jnp.array([2.0, 3.0]), jnp.ones(2, bool)
        >>> potential_shaped(r, phi, mask, discount=1.0).tolist()
        [1.0, -2.0]
    """
    return gae(
        reward,
        potential,
        mask,
        discount=discount,
        gae_lambda=0.0,
        final_value=final_potential,
    )


def adapted_beta(
    beta: float | Array, kl: float | Array, *, target: float, gain: float, limit: float = 0.2
) -> Array:
    """A proportional controller of β, so that the KL divergence comes to a target.

    β ← β (1 + K e), e = clip(KL/target − 1, −limit, limit).

    Args:
        beta: β.
        kl: f32[...], measured with it, nats a completion.
        target: > 0, nats a completion.
        gain: K > 0: 0.1 in the paper, for a batch of 512 completions.
        limit: of the error, either side; 0.2 in the paper.

    Returns:
        f32[...], the next β.

    Raises:
        InputError: a number is out of range.

    Reference: Ziegler et al. 2019, arXiv 1909.08593, section 2.2.

    Example:
        >>> [round(float(adapted_beta(0.1, kl, target=6.0, gain=0.1)), 4) for kl in (5.4, 6, 60)]
        [0.099, 0.1, 0.102]
    """
    check_range("target", target, 0.0, exclusive=True)
    check_range("gain", gain, 0.0, exclusive=True)
    error = jnp.clip(jnp.asarray(kl, jnp.float32) / target - 1.0, -limit, limit)
    return beta * (1.0 + gain * error)
