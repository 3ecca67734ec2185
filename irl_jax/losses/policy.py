"""Policy gradients: what an action gains x how tokens are averaged, and penalties.

`policy_gradient` is all of them. Below it a paper's objective is a choice of a surrogate
(`losses.surrogate`: which ratio, what a clip does) and an aggregation
(`losses.reduction`: what a token counts); the advantage is an input
(`dynamics.advantages`). LUSPO, SAPO and VESPO are in `losses.policy_variants`.

| objective           | ratio    | clip                 | aggregation       | advantage      |
| ------------------- | -------- | -------------------- | ----------------- | -------------- |
| reinforce           | none     |                      | sum of a sequence | RLOO, MaxRL, … |
| ppo                 | token    | of the gain          | tokens            | GAE            |
| reinforce_plus_plus | token    | of the gain          | tokens            | over the batch |
| grpo                | token    | of the gain          | sequences         | group          |
| dr_grpo             | token    | of the gain          | constant length   | group, no std  |
| dapo                | token    | of the gain, higher  | tokens            | group          |
| gspo                | sequence | of the gain          | sequences         | group          |
| gmpo                | sequence | of tokens, then mean | sequences         | group          |
| cispo               | token    | of the weight        | tokens            | group          |
| weighted_sft        | none     |                      | tokens            | weights >= 0   |
"""

from __future__ import annotations

import math
from numbers import Real
from typing import TypedDict, Unpack

import jax
import jax.numpy as jnp
from jax import Array

from irl_jax.losses.ratio import KLEstimator, k2, k3, probability_ratio, sequence_ratio
from irl_jax.losses.reduction import (
    Aggregation,
    constant_length,
    sequence_mean,
    sequence_sum,
    token_mean,
)
from irl_jax.losses.surrogate import (
    Clip,
    Surrogate,
    clipped,
    geometric,
    likelihood,
    weighted_likelihood,
)
from irl_jax.masking import as_float, check_mask, check_range
from irl_jax.types import Group, InputError, Loss, Trajectory


class Penalties(TypedDict, total=False):
    """What may be added to any objective; see `policy_gradient`."""

    beta: float
    ref_logp: Array | None
    kl: KLEstimator
    entropy: float


def policy_gradient(
    logp: Array,
    batch: Group | Trajectory,
    *,
    advantage: Array,
    surrogate: Surrogate,
    aggregate: Aggregation,
    beta: float = 0.0,
    ref_logp: Array | None = None,
    kl: KLEstimator = k3,
    entropy: float = 0.0,
) -> Loss:
    """The policy gradient: a surrogate of the advantage, averaged, less penalties.

    L = mean over tokens of −J(π, μ, A) + β KL(π‖π_ref) − c H(π), where `surrogate` is J
    and `aggregate` the mean.

    The entropy is a KL divergence, from the uniform policy: c ½ (log π)² of a token has the
    gradient −c ∇H of its distribution in expectation on policy, as `k2` has that of the KL.
    Neither is that of whole completions, since a token also changes which prefixes come after
    it (see `k2`); a penalty in the reward is: `dynamics.shaping.kl_penalised`.

    Args:
        logp: f32[B, K, T] (`Group`) or f32[B, T] (`Trajectory`), log-probs of the actions
            under the policy (nats). Read where `batch.mask` is true.
        batch: the actions' mask, and their behaviour log-probs μ.
        advantage: f32[B, K] of whole completions (f32[B] of trajectories), or of tokens,
            in the shape of `logp`; a constant. Importance weights and masks of stale
            samples multiply it.
        surrogate: J; see `irl_jax.losses.surrogate`.
        aggregate: see `irl_jax.losses.reduction`.
        beta: β >= 0, weight of the KL penalty (units of the advantage, a nat).
        ref_logp: like `logp`, under the reference policy; a constant. May be left out only
            if beta is 0; then no KL is reported either.
        kl: estimator of KL(π‖π_ref). `k2` descends on that of each token; `k3`, the choice
            of GRPO, on the KL of the other direction; `k1` is for the reward and not for
            here: see `irl_jax.losses.ratio`.
        entropy: c >= 0, weight of the entropy bonus (units of the advantage, a nat).

    Returns:
        Loss, in units of the advantage. Metrics, token means unless said otherwise:
        `ratio`, `clip_fraction` (tokens where the clip binds), `entropy` (−log π of the
        sampled tokens, nats; unbiased when on policy), `kl_behaviour` (k3 estimate of
        KL(μ‖π), nats); with a reference `kl_token` (nats) and `kl` (nats a completion).

    Raises:
        InputError: an array has the wrong shape or dtype, a number is out of range, or
            beta is not 0 and there is no reference.

    Reference: Sutton et al. 1999, "Policy gradient methods for reinforcement learning with
    function approximation".
    """
    check_range("beta", beta, 0.0)
    check_range("entropy", entropy, 0.0)
    logp = as_float("logp", logp, (None,) * (3 if isinstance(batch, Group) else 2))
    check_mask("batch.mask", batch.mask, logp.shape)
    behaviour = as_float("batch.logp", batch.logp, logp.shape)
    of_tokens = jnp.ndim(advantage) == logp.ndim
    advantage = as_float("advantage", advantage, logp.shape if of_tokens else logp.shape[:-1])
    if ref_logp is None and not (isinstance(beta, Real) and beta == 0):
        raise InputError(f"ref_logp: missing; beta = {beta} needs it (or set beta to 0)")

    mask = batch.mask
    constant = lambda x, where: jax.lax.stop_gradient(jnp.where(where, x, 0.0))
    logp, behaviour = jnp.where(mask, logp, 0.0), constant(behaviour, mask)
    advantage = constant(advantage, mask if of_tokens else mask.any(-1))
    advantage = jnp.broadcast_to(advantage if of_tokens else advantage[..., None], logp.shape)
    gain, clips = surrogate(logp, behaviour, advantage, mask)
    loss = -gain + entropy * k2(logp, jnp.zeros_like(logp))
    metrics = {
        "ratio": token_mean(probability_ratio(logp, behaviour), mask),
        "clip_fraction": token_mean(clips.astype(logp.dtype), mask),
        "entropy": token_mean(-logp, mask),
        "kl_behaviour": token_mean(k3(behaviour, logp), mask),
    }
    if ref_logp is not None:
        divergence = kl(logp, constant(as_float("ref_logp", ref_logp, logp.shape), mask))
        loss = loss + beta * divergence
        metrics |= {"kl_token": token_mean(divergence, mask), "kl": sequence_sum(divergence, mask)}
    total, weight = aggregate(loss, mask)
    return Loss(total, weight, metrics)


def reinforce(
    logp: Array, batch: Group | Trajectory, *, advantage: Array, **penalties: Unpack[Penalties]
) -> Loss:
    """REINFORCE, and RLOO, MaxRL, PKPO, ReMax and Nash-MD by the choice of the advantage.

    L = −1/N Σᵢ Σₜ Aᵢₜ log π(oᵢₜ): the gradient of the expected reward of whole completions, or of
    what `dynamics.advantages` make of it. What ReMax and Nash-MD sample is in `train.prepare`.

    Args:
        logp: f32[B, K, T] or f32[B, T], as in `policy_gradient`.
        batch: its behaviour log-probs are read for metrics only.
        advantage: f32[B, K], or of tokens; see `dynamics.advantages`.
        **penalties: see `policy_gradient`.

    Reference: Williams 1992, "Simple statistical gradient-following algorithms for
    connectionist reinforcement learning"; Ahmadian et al. 2024, "Back to Basics: Revisiting
    REINFORCE Style Optimization for Learning from Human Feedback in LLMs", arXiv
    2402.14740; Li et al. 2023, "ReMax", arXiv 2310.10505.
    """
    return policy_gradient(
        logp, batch, advantage=advantage, surrogate=likelihood, aggregate=sequence_sum, **penalties
    )


def ppo(
    logp: Array,
    batch: Group | Trajectory,
    *,
    advantage: Array,
    clip: Clip,
    dual: float = math.inf,
    **penalties: Unpack[Penalties],
) -> Loss:
    """The clipped surrogate of proximal policy optimisation, the mean over tokens.

    L = −mean of min(ρₜ Aₜ, clip(ρₜ, 1 − ε, 1 + ε) Aₜ), with ρ = π/μ. Its other half is
    `losses.value.clipped_value`.

    Args:
        logp: f32[B, K, T] or f32[B, T], as in `policy_gradient`.
        batch: the actions' mask and behaviour log-probs.
        advantage: in the shape of `logp`: see `dynamics.returns.gae`; or f32[B, K].
        clip: ε, or (ε_low, ε_high).
        dual: c > 1 of the dual clip, see `surrogate.clipped`; infinity in the paper.
        **penalties: see `policy_gradient`.

    Reference: Schulman et al. 2017, arXiv 1707.06347, eq. 7; Ye et al. 2020, arXiv
    1912.09729 (dual clip).
    """
    surrogate = clipped(clip, dual=dual)
    return policy_gradient(
        logp, batch, advantage=advantage, surrogate=surrogate, aggregate=token_mean, **penalties
    )


def reinforce_plus_plus(
    logp: Array,
    batch: Group | Trajectory,
    *,
    advantage: Array,
    clip: Clip,
    **penalties: Unpack[Penalties],
) -> Loss:
    """REINFORCE++: PPO without a critic, its advantages whitened over the tokens of a batch.

    L = −mean of min(ρₜ Aₜ, clip(ρₜ, 1 − ε, 1 + ε) Aₜ).

    Args:
        logp: f32[B, K, T] or f32[B, T], as in `policy_gradient`.
        batch: the actions' mask and behaviour log-probs.
        advantage: in the shape of `logp`, `dynamics.advantages.whiten` with the mask of
            tokens: of `dynamics.returns.returns` of `dynamics.shaping.kl_penalised`
            rewards, or, with a baseline, of `group_advantages(r, scale=False)`.
        clip: ε, or (ε_low, ε_high).
        **penalties: see `policy_gradient`.

    Reference: Hu et al. 2025, arXiv 2501.03262.

    Differs: the mean is over all tokens of the batch.
    """
    return ppo(logp, batch, advantage=advantage, clip=clip, **penalties)


def grpo(
    logp: Array, batch: Group, *, advantage: Array, clip: Clip, **penalties: Unpack[Penalties]
) -> Loss:
    """Group relative policy optimisation.

    L = −1/N Σᵢ 1/|oᵢ| Σₜ { min(ρᵢₜ Aᵢ, clip(ρᵢₜ, 1 − ε, 1 + ε) Aᵢ) − β kᵢₜ }, with
    ρ = π/μ, the mean over all completions of the batch.

    Args:
        logp: f32[B, K, T], log-probs of the completions under the policy (nats).
        batch: K completions of each prompt and their behaviour log-probs μ.
        advantage: f32[B, K]: see `dynamics.advantages.group_advantages`.
        clip: ε, or (ε_low, ε_high).
        **penalties: see `policy_gradient`; the paper's are `beta` and `kl=k3`, the default.

    Reference: Shao et al. 2024, "DeepSeekMath", arXiv 2402.03300, eq. 3 and 4.

    Differs: the mean is over the completions of the whole batch, which for full
    groups is the paper's mean over groups; ratios beyond exp(20) continue linearly.
    """
    surrogate = clipped(clip)
    return policy_gradient(
        logp, batch, advantage=advantage, surrogate=surrogate, aggregate=sequence_mean, **penalties
    )


def dr_grpo(
    logp: Array,
    batch: Group,
    *,
    advantage: Array,
    clip: Clip,
    length: float,
    **penalties: Unpack[Penalties],
) -> Loss:
    """GRPO done right: no mean over a completion's own length, no standard deviation.

    L = −1/N Σᵢ 1/L Σₜ min(ρᵢₜ Aᵢ, clip(ρᵢₜ, 1 − ε, 1 + ε) Aᵢ), Aᵢ = rᵢ − mean(r).

    Args:
        logp: f32[B, K, T], as in `policy_gradient`.
        batch: K completions of each prompt.
        advantage: f32[B, K], `dynamics.advantages.group_advantages(r, scale=False)`.
        clip: ε, or (ε_low, ε_high).
        length: L, tokens, of the longest completion allowed.
        **penalties: see `policy_gradient`.

    Reference: Liu et al. 2025, "Understanding R1-Zero-Like Training: A Critical
    Perspective", arXiv 2503.20783.

    Differs: by the constant 1/L, as in the authors' code; the paper's equation has L = 1.
    """
    surrogate = clipped(clip)
    aggregate = constant_length(length)
    return policy_gradient(
        logp, batch, advantage=advantage, surrogate=surrogate, aggregate=aggregate, **penalties
    )


def dapo(
    logp: Array,
    batch: Group,
    *,
    advantage: Array,
    clip: Clip,
    aggregate: Aggregation = token_mean,
    **penalties: Unpack[Penalties],
) -> Loss:
    """The loss of DAPO: clip-higher, and the mean over tokens.

    L = −1/Σ|oᵢ| Σᵢ Σₜ min(ρᵢₜ Aᵢ, clip(ρᵢₜ, 1 − ε_low, 1 + ε_high) Aᵢ). The other two parts
    are `train.online.train_online(resample=…, decides=…)` (groups of all right and of all wrong
    answers are replaced) and `rewards.shaping.overlong_penalty`.

    Args:
        logp: f32[B, K, T], as in `policy_gradient`.
        batch: K completions of each prompt.
        advantage: f32[B, K]: see `dynamics.advantages.group_advantages`.
        clip: (ε_low, ε_high); 0.2 and 0.28 in the paper.
        aggregate: `token_mean` of the whole batch, or `reduction.group_mean`: of the
            completions of a prompt, then the mean over prompts.
        **penalties: see `policy_gradient`; the paper has none.

    Reference: Yu et al. 2025, "DAPO: An Open-Source LLM Reinforcement Learning System at
    Scale", arXiv 2503.14476, eq. 8.

    Differs: in eq. 8 Σ|oᵢ| is of a group: `group_mean`. The default is of the whole batch.
    """
    surrogate = clipped(clip)
    return policy_gradient(
        logp, batch, advantage=advantage, surrogate=surrogate, aggregate=aggregate, **penalties
    )


def gspo(
    logp: Array, batch: Group, *, advantage: Array, clip: Clip, **penalties: Unpack[Penalties]
) -> Loss:
    """Group sequence policy optimisation: one ratio of all tokens, clipped as one.

    L = −1/N Σᵢ min(sᵢ Aᵢ, clip(sᵢ, 1 − ε, 1 + ε) Aᵢ), sᵢ = (π(oᵢ)/μ(oᵢ))^(1/|oᵢ|).

    Args:
        logp: f32[B, K, T], as in `policy_gradient`.
        batch: K completions of each prompt.
        advantage: f32[B, K]: see `dynamics.advantages.group_advantages`.
        clip: ε, or (ε_low, ε_high); far smaller than GRPO's: 3e-4 and 4e-4 in the paper.
        **penalties: see `policy_gradient`; the paper has none.

    Reference: Zheng et al. 2025, "Group Sequence Policy Optimization", arXiv 2507.18071,
    eq. 5 to 7.
    """
    surrogate = clipped(clip, sequence_ratio)
    return policy_gradient(
        logp, batch, advantage=advantage, surrogate=surrogate, aggregate=sequence_mean, **penalties
    )


def gmpo(
    logp: Array, batch: Group, *, advantage: Array, clip: Clip, **penalties: Unpack[Penalties]
) -> Loss:
    """Geometric-mean policy optimisation: GSPO's ratio of tokens that are clipped first.

    L = −1/N Σᵢ Aᵢ Πₜ ρ̂ᵢₜ^(1/|oᵢ|), log ρ̂ stopped at ε_high if A > 0, at −ε_low if A < 0.

    Args:
        logp: f32[B, K, T], as in `policy_gradient`.
        batch: K completions of each prompt.
        advantage: f32[B, K]: see `dynamics.advantages.group_advantages`.
        clip: ε, or (ε_low, ε_high), of log-ratios (nats); 0.4 in the paper.
        **penalties: see `policy_gradient`; the paper has none.

    Reference: Zhao et al. 2025, "Geometric-Mean Policy Optimization", arXiv 2507.20673.

    Differs: the authors' range is symmetric; see `surrogate.geometric`.
    """
    surrogate = geometric(clip)
    return policy_gradient(
        logp, batch, advantage=advantage, surrogate=surrogate, aggregate=sequence_mean, **penalties
    )


def cispo(
    logp: Array,
    batch: Group,
    *,
    advantage: Array,
    clip: Clip,
    aggregate: Aggregation = token_mean,
    **penalties: Unpack[Penalties],
) -> Loss:
    """Clipped importance sampling: the clip bounds a weight, every token keeps a gradient.

    L = −1/Σ|oᵢ| Σᵢ Σₜ sg[clip(ρᵢₜ, 1 − ε_low, 1 + ε_high)] Aᵢ log π(oᵢₜ).

    Args:
        logp: f32[B, K, T], as in `policy_gradient`.
        batch: K completions of each prompt.
        advantage: f32[B, K]: see `dynamics.advantages.group_advantages`.
        clip: (ε_low, ε_high); ε_low = 1 leaves small weights as they are, as the paper does.
        aggregate: as in `dapo`.
        **penalties: see `policy_gradient`; the paper has none.

    Reference: MiniMax 2025, arXiv 2506.13585, eq. 4 and 5.

    Differs: as `dapo` does, Σ|oᵢ| is that of the batch by default and of a group in eq. 4.
    """
    surrogate = weighted_likelihood(clip)
    return policy_gradient(
        logp, batch, advantage=advantage, surrogate=surrogate, aggregate=aggregate, **penalties
    )


def weighted_sft(
    logp: Array, batch: Group | Trajectory, *, advantage: Array, **penalties: Unpack[Penalties]
) -> Loss:
    """Fine-tuning on weighted samples, L = −1/Σ|oᵢ| Σᵢ Σₜ Aᵢ log π(oᵢₜ).

    With A = 1 on what `dynamics.weights` keeps, it is a round of RAFT, ReST, STaR or expert
    iteration; with `exponential_weight` of an advantage, AWR and AWAC; with
    `rescale_by_signal(group_advantages(r, scale=False))`, group policy gradient (GPG).

    Args:
        logp: f32[B, K, T] or f32[B, T], as in `policy_gradient`.
        batch: what is imitated; its behaviour log-probs are read for metrics only.
        advantage: f32[B, K], or of tokens: the weights.
        **penalties: see `policy_gradient`.

    Reference: Dong et al. 2023, arXiv 2304.06767; Peng et al. 2019, arXiv 1910.00177,
    algorithm 1; Chu et al. 2025, "GPG: A Simple and Strong Reinforcement Learning Baseline
    for Model Reasoning", arXiv 2504.02546.
    """
    return policy_gradient(
        logp, batch, advantage=advantage, surrogate=likelihood, aggregate=token_mean, **penalties
    )
