"""What a policy gains from an action: advantage x ratio x clip.

A `Surrogate` is one choice of the three. It is maximised, and its gradient on policy
(π = μ) is A ∇ log π whichever is chosen; they differ in what happens to an action that
has become more or less likely since it was sampled.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from irl_jax.losses.ratio import Ratio, sequence_ratio, token_ratio
from irl_jax.masking import check_range, masked_sum

# (logp, behaviour, advantage, mask), each [..., T] and finite -> gain f32[..., T], and
# bool[..., T], where the clip binds
Surrogate = Callable[[Array, Array, Array, Array], tuple[Array, Array]]
Clip = float | tuple[float, float]


def clip_bounds(clip: Clip) -> tuple[float, float]:
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


def clip_binds(x: Array, advantage: Array, bounds: tuple[float, float]) -> Array:
    """Where x, a ratio or its log, moved out of its bounds in the direction of the advantage.

    Args:
        x: f32[...].
        advantage: f32[...], A; broadcasts with x.
        bounds: low and high, in units of x.

    Returns:
        bool[...]; a move against the advantage is free, so that it can be taken back.
    """
    low, high = bounds
    return jnp.where(advantage > 0, x > high, (advantage < 0) & (x < low))


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
    binds = clip_binds(ratio, advantage, bounds)
    return jnp.where(binds, jnp.clip(ratio, *bounds), ratio) * advantage, binds


def clipped(clip: Clip, ratio: Ratio = token_ratio, *, dual: float = math.inf) -> Surrogate:
    """`Surrogate` min(ρ A, clip(ρ, 1 − ε, 1 + ε) A): a token that moved far enough rests.

    Where A < 0, a ratio may still grow without bound against the advantage, and its loss
    with it: the dual clip is max(min(ρ A, clip(ρ, 1 − ε, 1 + ε) A), c A) there, without a
    gradient beyond c.

    Args:
        clip: ε, or (ε_low, ε_high).
        ratio: `token_ratio` (PPO, GRPO) or `sequence_ratio` (GSPO).
        dual: c > 1; infinity is no dual clip, 3 is the paper's.

    Raises:
        InputError: a number is out of range.

    Reference: Schulman et al. 2017, arXiv 1707.06347, eq. 7; Ye et al. 2020, "Mastering
    Complex Control in MOBA Games with Deep Reinforcement Learning", arXiv 1912.09729 (dual
    clip).
    """
    bounds = clip_bounds(clip)
    check_range("dual", dual, 1.0, exclusive=True)

    def surrogate(logp: Array, behaviour: Array, advantage: Array, mask: Array) -> tuple:
        each = ratio(logp, behaviour, mask)
        far = (advantage < 0) & (each > dual)
        gain, binds = clipped_surrogate(jnp.where(far, dual, each), advantage, bounds)
        return gain, binds | far

    return surrogate


def likelihood(logp: Array, behaviour: Array, advantage: Array, mask: Array) -> tuple[Array, Array]:
    """`Surrogate` A log π, without a ratio: the policy gradient as it stands, for π = μ.

    Args:
        logp: f32[..., T], log-probs under the policy (nats).
        behaviour: f32[..., T], not read.
        advantage: f32[..., T], A.
        mask: bool[..., T], not read.

    Reference: Williams 1992, "Simple statistical gradient-following algorithms for
    connectionist reinforcement learning".
    """
    del behaviour
    return advantage * logp, jnp.zeros_like(mask)


def weighted_likelihood(clip: Clip, ratio: Ratio = token_ratio) -> Surrogate:
    """`Surrogate` sg[clip(ρ, 1 − ε_low, 1 + ε_high)] A log π: the clip bounds a weight.

    Every token keeps a gradient, however far it moved; sg stops the gradient.

    Args:
        clip: ε, or (ε_low, ε_high); (1, ε_high) only truncates from above.
        ratio: `token_ratio` or `sequence_ratio`.

    Reference: MiniMax 2025, "MiniMax-M1: Scaling Test-Time Compute Efficiently with
    Lightning Attention", arXiv 2506.13585, eq. 4 and 5.
    """
    low, high = clip_bounds(clip)

    def surrogate(logp: Array, behaviour: Array, advantage: Array, mask: Array) -> tuple:
        weight = jax.lax.stop_gradient(ratio(logp, behaviour, mask))
        binds = (weight < low) | (weight > high)
        return jnp.clip(weight, low, high) * advantage * logp, binds

    return surrogate


def geometric(clip: Clip) -> Surrogate:
    """`Surrogate` A Πₜ ρ̂ₜ^(1/|o|): clipped token by token, then one ratio of all tokens.

    log ρ̂ₜ is log ρₜ, stopped at ε_high where A > 0 and at −ε_low where A < 0.

    Args:
        clip: ε, or (ε_low, ε_high), of the log-ratio (nats).

    Reference: Zhao et al. 2025, "Geometric-Mean Policy Optimization", arXiv 2507.20673.

    Differs: the authors clip sgn(A) log ρ by one symmetric range, ±ε. Two bounds are read here
    as in PPO, and as verl reads them: of log ρ. Those of sgn(A) log ρ would be others where
    A < 0; with ε for both sides the two readings are the same.
    """
    low, high = clip if isinstance(clip, tuple) else (clip, clip)
    check_range("clip (lower side)", low, 0.0, exclusive=True)
    check_range("clip (upper side)", high, 0.0, exclusive=True)
    bounds = (-low, high)

    def surrogate(logp: Array, behaviour: Array, advantage: Array, mask: Array) -> tuple:
        log_ratio = logp - behaviour
        binds = clip_binds(log_ratio, advantage, bounds)
        bounded = jnp.where(binds, jnp.clip(log_ratio, *bounds), log_ratio)
        return sequence_ratio(bounded, jnp.zeros_like(bounded), mask) * advantage, binds

    return surrogate


def soft_gate(positive: float, negative: float) -> Surrogate:
    """`Surrogate` 4/τ σ(τ (ρ − 1)) A: a token that moved far learns less and less.

    Its slope by ρ is 4 σ (1 − σ) A, which is A at ρ = 1 whatever τ is, and falls off smoothly to
    either side; τ is τ⁺ where A > 0 and τ⁻ elsewhere. Nothing is clipped.

    Args:
        positive: τ⁺ > 0.
        negative: τ⁻ > 0; greater than τ⁺ in the paper.

    Raises:
        InputError: a number is out of range.

    Reference: Gao et al. 2025, "Soft Adaptive Policy Optimization", arXiv 2511.20347.
    """
    check_range("tau (A > 0)", positive, 0.0, exclusive=True)
    check_range("tau (A < 0)", negative, 0.0, exclusive=True)

    def surrogate(logp: Array, behaviour: Array, advantage: Array, mask: Array) -> tuple:
        tau = jnp.where(advantage > 0, positive, negative)
        gate = jax.nn.sigmoid(tau * (token_ratio(logp, behaviour, mask) - 1.0))
        return 4.0 / tau * gate * advantage, jnp.zeros_like(mask)

    return surrogate


def gamma_weighted(positive: tuple[float, float], negative: tuple[float, float]) -> Surrogate:
    """`Surrogate` sg[φ(W)] A log π, φ(W) = Wᵏ exp(λ (1 − W)), W = Πₜ ρₜ of the whole sequence.

    φ(1) = 1, and φ falls to 0 on either side of its greatest value, which is at W = k/λ; sg stops
    the gradient. W is not normalised by the length.

    Args:
        positive: (k, λ) where A ≥ 0; both > 0.
        negative: (k, λ) where A < 0.

    Raises:
        InputError: a number is out of range.

    Reference: Shen et al. 2026, "VESPO: Variational Sequence-Level Soft Policy Optimization for
    Stable Off-Policy LLM Training", arXiv 2602.10693.
    """
    for sign, pair in (("A >= 0", positive), ("A < 0", negative)):
        check_range(f"k ({sign})", pair[0], 0.0, exclusive=True)
        check_range(f"lambda ({sign})", pair[1], 0.0, exclusive=True)

    def surrogate(logp: Array, behaviour: Array, advantage: Array, mask: Array) -> tuple:
        k, rate = (
            jnp.where(advantage >= 0, *pair) for pair in zip(positive, negative, strict=True)
        )
        log_weight = masked_sum(logp - behaviour, mask, axis=-1)[..., None]
        log_weight = jax.lax.stop_gradient(log_weight)
        weight = jnp.exp(k * log_weight - rate * jnp.expm1(jnp.minimum(log_weight, 80.0)))
        return weight * advantage * logp, jnp.zeros_like(mask)

    return surrogate
