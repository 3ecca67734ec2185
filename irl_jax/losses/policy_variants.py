"""Policy gradients of samples that have gone stale: other weights of length, softer than a clip.

The table of `losses.policy`, continued:

| objective | ratio    | clip                | aggregation       | advantage |
| --------- | -------- | ------------------- | ----------------- | --------- |
| luspo     | sequence | of the gain         | sum of a sequence | group     |
| sapo      | token    | soft, of the gain   | sequences         | group     |
| vespo     | product  | soft, of the weight | tokens            | group     |
"""

from __future__ import annotations

from typing import Unpack

from jax import Array

from irl_jax.losses.policy import Penalties, policy_gradient
from irl_jax.losses.ratio import sequence_ratio
from irl_jax.losses.reduction import sequence_mean, sequence_sum, token_mean
from irl_jax.losses.surrogate import Clip, clipped, gamma_weighted, soft_gate
from irl_jax.types import Group, Loss


def luspo(
    logp: Array, batch: Group, *, advantage: Array, clip: Clip, **penalties: Unpack[Penalties]
) -> Loss:
    """Length-unbiased sequence policy optimisation: GSPO, a sequence weighted by its length.

    L = −1/N Σᵢ |oᵢ| min(sᵢ Aᵢ, clip(sᵢ, 1 − ε, 1 + ε) Aᵢ), sᵢ = (π(oᵢ)/μ(oᵢ))^(1/|oᵢ|). On policy
    its gradient is that of `reinforce`, where GSPO's gives a token of a long sequence less.

    Args:
        logp: f32[B, K, T], as in `policy_gradient`.
        batch: K completions of each prompt.
        advantage: f32[B, K]: see `dynamics.advantages.group_advantages`.
        clip: ε, or (ε_low, ε_high), of the order of GSPO's.
        **penalties: see `policy_gradient`; they are weighted by the length too.

    Reference: Liu et al. 2026, "Length-Unbiased Sequence Policy Optimization: Revealing and
    Controlling Response Length Variation in RLVR", arXiv 2602.05261.
    """
    surrogate = clipped(clip, sequence_ratio)
    return policy_gradient(
        logp, batch, advantage=advantage, surrogate=surrogate, aggregate=sequence_sum, **penalties
    )


def sapo(
    logp: Array, batch: Group, *, advantage: Array, positive: float, negative: float,
    **penalties: Unpack[Penalties],
) -> Loss:  # fmt: skip
    """Soft adaptive policy optimisation: a smooth gate in place of a clip.

    L = −1/N Σᵢ 1/|oᵢ| Σₜ 4/τᵢ σ(τᵢ (ρᵢₜ − 1)) Aᵢ, τᵢ = τ⁺ where Aᵢ > 0 and τ⁻ elsewhere.

    Args:
        logp: f32[B, K, T], as in `policy_gradient`.
        batch: K completions of each prompt.
        advantage: f32[B, K]: see `dynamics.advantages.group_advantages`.
        positive: τ⁺ > 0; 1 in the paper.
        negative: τ⁻ > 0; 1.05 in the paper.
        **penalties: see `policy_gradient`; the paper has none.

    Reference: Gao et al. 2025, "Soft Adaptive Policy Optimization", arXiv 2511.20347.
    """
    return policy_gradient(
        logp, batch, advantage=advantage, surrogate=soft_gate(positive, negative),
        aggregate=sequence_mean, **penalties,
    )  # fmt: skip


def vespo(
    logp: Array, batch: Group, *, advantage: Array,
    positive: tuple[float, float], negative: tuple[float, float], **penalties: Unpack[Penalties],
) -> Loss:  # fmt: skip
    """Variational sequence-level soft policy optimisation: a soft weight of whole sequences.

    L = −1/Σ|oᵢ| Σᵢ sg[φ(Wᵢ)] Aᵢ log π(oᵢ), φ(W) = Wᵏ exp(λ (1 − W)), Wᵢ = π(oᵢ)/μ(oᵢ).

    Args:
        logp: f32[B, K, T], as in `policy_gradient`.
        batch: K completions of each prompt.
        advantage: f32[B, K]: see `dynamics.advantages.group_advantages`.
        positive: (k, λ) where A ≥ 0; (2, 3) in the authors' code.
        negative: (k, λ) where A < 0; (3, 2) in the authors' code.
        **penalties: see `policy_gradient`; the paper has none.

    Reference: Shen et al. 2026, "VESPO: Variational Sequence-Level Soft Policy Optimization for
    Stable Off-Policy LLM Training", arXiv 2602.10693.

    Differs: the mean is over all tokens of the batch, as in TRL; W is not floored at 1e-8.
    """
    return policy_gradient(
        logp, batch, advantage=advantage, surrogate=gamma_weighted(positive, negative),
        aggregate=token_mean, **penalties,
    )  # fmt: skip
