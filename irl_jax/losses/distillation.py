"""Distillation: a teacher's distribution at every token as a target, its log-probs as a reward.

| loss                  | at each token               | whose tokens | what comes after a token   |
| --------------------- | --------------------------- | ------------ | -------------------------- |
| gkd                   | all symbols, JS divergence  | anyone's     | held as it was sampled     |
| sdpo                  | all symbols, reverse KL     | the policy's | held as it was sampled     |
| distil, γ = 0         | the sampled one, reverse KL | the policy's | held as it was sampled     |
| distil, γ = 1         | the sampled one, reverse KL | the policy's | exact                      |
| minillm               | all symbols, reverse KL     | the policy's | exact, but for the lengths |

Where prefixes are held, the gradient is that of Σₜ KL(π(·|o₍<ₜ₎)‖π_T(·|o₍<ₜ₎)) with o₍<ₜ₎ fixed,
and not of KL(π‖π_T) of whole completions: a token is not told that it leads to where the policy is
unlike its teacher. Both are 0 where π = π_T, and agree to first order there.

A divergence of all symbols is never held for all tokens at once: the losses take one number for
each token, `models.logprob.completion_divergence`.
"""

from __future__ import annotations

from dataclasses import replace
from numbers import Real

import jax
import jax.numpy as jnp
from jax import Array

from irl_jax.dynamics.returns import returns
from irl_jax.losses.policy import policy_gradient, reinforce
from irl_jax.losses.reduction import Aggregation, sequence_mean, sequence_sum, token_mean
from irl_jax.losses.surrogate import Clip, clipped
from irl_jax.masking import as_float, check_mask, check_range
from irl_jax.types import Demonstration, Group, InputError, Loss, Trajectory


def generalised_jsd(teacher_logp: Array, logp: Array, *, beta: float) -> Array:
    """The generalised Jensen-Shannon divergence of two distributions, from one KL to the other.

    D = β KL(p‖m) + (1 − β) KL(q‖m), m = β p + (1 − β) q, p of the teacher and q of the policy.
    β = 0 stands for KL(p‖q), which D/β tends to, and β = 1 for KL(q‖p), as D/(1 − β) does.

    Args:
        teacher_logp: f32[..., V], log p, normalised (nats); −inf where p = 0.
        logp: f32[..., V], log q.
        beta: β in [0, 1].

    Returns:
        f32[...], nats.

    Raises:
        InputError: an array has the wrong shape or dtype, or β is out of range.

    Reference: Agarwal et al. 2023, "On-Policy Distillation of Language Models: Learning from
    Self-Generated Mistakes", arXiv 2306.13649.

    Differs: at β = 0 and β = 1 the paper's D is 0; these are the KL divergences, as in TRL.

    Example:
        >>> p, q = jnp.log(jnp.array([0.5, 0.5])), jnp.log(jnp.array([0.25, 0.75]))
        >>> [round(float(generalised_jsd(p, q, beta=beta)), 4) for beta in (0.0, 0.5, 1.0)]
        [0.1438, 0.0338, 0.1308]
    """
    if not isinstance(beta, Real):
        raise InputError(f"beta: expected a number in [0, 1], got a {type(beta).__name__}")
    check_range("beta", beta, 0.0, 1.0)
    logp = as_float("logp", logp, jnp.shape(logp))
    teacher_logp = as_float("teacher_logp", teacher_logp, logp.shape)
    if beta == 0:
        return _kl(teacher_logp, logp)
    if beta == 1:
        return _kl(logp, teacher_logp)
    middle = jnp.logaddexp(teacher_logp + jnp.log(beta), logp + jnp.log1p(-beta))
    return beta * _kl(teacher_logp, middle) + (1.0 - beta) * _kl(logp, middle)


def gkd(
    divergence: Array,
    batch: Group | Trajectory | Demonstration,
    *,
    aggregate: Aggregation = sequence_mean,
) -> Loss:
    """Generalised knowledge distillation: a divergence from the teacher at every token.

    L = 1/N Σᵢ 1/|oᵢ| Σₜ D(π_T(·|o₍<ₜ₎), π(·|o₍<ₜ₎)), of completions of whom you like: of people
    (supervised), of the teacher (with KL(π_T‖π) and `sequence_sum` it is then that of whole
    completions, and likelihood with soft labels), of the policy (on-policy). It is not
    differentiated by how they were sampled.

    Args:
        divergence: f32[B, K, T] or f32[B, T], as the batch's mask (nats), before each token,
            with its gradient: `models.logprob.completion_divergence`.
        batch: its mask is read.
        aggregate: see `irl_jax.losses.reduction`; of rows with several sequences `token_mean`.

    Returns:
        Loss in nats a token. Metrics: `divergence`, the mean over tokens.

    Raises:
        InputError: an array has the wrong shape or dtype.

    Reference: Agarwal et al. 2023, arXiv 2306.13649.
    """
    divergence = _of_tokens("divergence", divergence, batch)
    divergence = jnp.where(batch.mask, divergence, 0.0)
    total, weight = aggregate(divergence, batch.mask)
    return Loss(total, weight, {"divergence": token_mean(divergence, batch.mask)})


def other_success(reward: Array, *, threshold: float) -> tuple[Array, Array]:
    """For each completion another one of its prompt that is right: what a teacher is shown.

    Args:
        reward: f32[B, K].
        threshold: least reward of what is right.

    Returns:
        i32[B, K], the first completion but itself with a reward of at least the threshold, and
        bool[B, K], whether there is one.

    Reference: Hübotter et al. 2026, "Reinforcement Learning via Self-Distillation", arXiv
    2601.20802.

    Example:
        >>> reward = jnp.array([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
        >>> which, known = other_success(reward, threshold=1.0)
        >>> which.tolist(), known.tolist()
        ([[2, 0, 0], [1, 0, 1]], [[True, True, True], [True, False, True]])
    """
    reward = as_float("reward", reward, (None, None))
    right = (reward >= threshold)[:, None, :] & ~jnp.eye(reward.shape[1], dtype=bool)
    return jnp.argmax(right, axis=-1), right.any(-1)


def sdpo(divergence: Array, batch: Group, *, shown: Array) -> Loss:
    """Self-distillation: the policy, shown an answer that is right, teaches itself.

    L = mean over tokens of KL(π(·|x, o₍<ₜ₎)‖sg π(·|x, f, o₍<ₜ₎)), f a successful attempt of the
    same group (`other_success`) or what the environment said. Completions for which there is no
    f do not count.

    Args:
        divergence: f32[B, K, T] (nats), with its gradient by the policy that sees x alone:
            `models.logprob.completion_divergence(…, beta=1.0, teacher_context=…)`.
        batch: completions of the policy.
        shown: bool[B, K], whether there was an f.

    Returns:
        Loss in nats a token. Metrics: `divergence`, and `shown`, the share of completions that
        count.

    Raises:
        InputError: an array has the wrong shape or dtype.

    Reference: Hübotter et al. 2026, arXiv 2601.20802.

    Differs: the paper adds up tokens; this is their mean.
    """
    divergence = _of_tokens("divergence", divergence, batch)
    check_mask("shown", shown, batch.mask.shape[:2])
    mask = batch.mask & shown[..., None]
    loss = gkd(divergence, replace(batch, mask=mask), aggregate=token_mean)
    there = batch.mask.any(-1)
    kept = (shown & there).sum().astype(loss.weight.dtype)
    metrics = {"shown": (kept, there.sum().astype(loss.weight.dtype))}
    return Loss(loss.total, loss.weight, loss.metrics | metrics)


def teacher_advantages(
    logp: Array, teacher_logp: Array, mask: Array, *, discount: float, mean: bool = False
) -> Array:
    """What a token gains by the teacher's log-probs: Aₜ = Σ_{s≥t} γ^(s−t) log π_T(oₛ)/π(oₛ).

    At γ = 1 the policy gradient of these descends on KL(π‖π_T) of whole completions, without bias;
    at γ = 0 only on that of each token, with the prefixes held where they were sampled.

    Args:
        logp: f32[..., T], log-probs under the policy that sampled (nats).
        teacher_logp: f32[..., T], the same under the teacher.
        mask: bool[..., T].
        discount: γ in [0, 1].
        mean: divide by Σ_{s≥t} γ^(s−t), so that an early token has no more at stake.

    Returns:
        f32[..., T], nats, a constant; 0 outside the mask.

    Raises:
        InputError: an array has the wrong shape or dtype, or γ is out of range.

    Reference: Gu et al. 2023, "MiniLLM: On-Policy Distillation of Large Language Models", arXiv
    2306.08543 (length normalisation); Lu 2025, "On-Policy Distillation", Thinking Machines Lab
    (γ = 0).
    """
    check_mask("mask", mask, jnp.shape(mask))
    logp, teacher_logp = (
        jnp.where(mask, as_float(name, x, mask.shape), 0.0)
        for name, x in (("logp", logp), ("teacher_logp", teacher_logp))
    )
    to_go = returns(teacher_logp - logp, mask, discount=discount)
    if mean:
        count = returns(mask.astype(to_go.dtype), mask, discount=discount)
        to_go = to_go / jnp.where(mask, count, 1.0)
    return jax.lax.stop_gradient(to_go)


def distil(logp: Array, batch: Group | Trajectory, *, teacher_logp: Array, discount: float) -> Loss:
    """On-policy distillation by sampled tokens: REINFORCE with the teacher's log-probs as reward.

    L = −1/N Σᵢ Σₜ Aₜ log π(oₜ), A = `teacher_advantages`. One pass of the teacher, which need not
    say what it thinks of other tokens.

    Args:
        logp: f32[B, K, T] or f32[B, T], as in `losses.policy.policy_gradient`.
        batch: completions of the policy, and their log-probs then.
        teacher_logp: like `logp`, under the teacher; a constant.
        discount: γ: 0 in the source, 1 without bias for KL(π‖π_T).

    Returns:
        Loss, as of `losses.policy.reinforce`. Metrics: `divergence` too, log π/π_T of the sampled
        tokens, nats a token.

    Reference: Lu 2025, "On-Policy Distillation", Thinking Machines Lab; Gu et al. 2023, arXiv
    2306.08543.
    """
    logp = _of_tokens("logp", logp, batch)
    as_float("batch.logp", batch.logp, logp.shape)
    advantage = teacher_advantages(batch.logp, teacher_logp, batch.mask, discount=discount)
    loss = reinforce(logp, batch, advantage=advantage)
    gap = teacher_advantages(batch.logp, teacher_logp, batch.mask, discount=0.0)
    metrics = {"divergence": token_mean(-gap, batch.mask)}
    return Loss(loss.total, loss.weight, loss.metrics | metrics)


def minillm(
    logp: Array,
    divergence: Array,
    batch: Group | Trajectory,
    *,
    teacher_logp: Array,
    clip: Clip,
    mean: bool = True,
) -> Loss:
    """Reverse KL of whole completions: each step exactly, what comes after it by policy gradient.

    L = 1/N Σᵢ Σₜ { KL(π(·|o₍<ₜ₎)‖π_T(·|o₍<ₜ₎)) − min(ρₜ Aₜ, clip(ρₜ) Aₜ) }, Aₜ the log-ratios
    log π_T/π of the tokens after t, their sum or, for MiniLLM, their mean. With the sum its
    expected gradient on policy is that of KL(π‖π_T) exactly; the step's own part has no sampling
    noise.

    Args:
        logp: f32[B, K, T] or f32[B, T], as in `losses.policy.policy_gradient`.
        divergence: like `logp`, KL(π‖π_T) before each token, with its gradient:
            `models.logprob.completion_divergence(…, beta=1.0)`.
        batch: completions of the policy, and their log-probs then.
        teacher_logp: like `logp`, under the teacher; a constant.
        clip: ε, or (ε_low, ε_high).
        mean: length normalisation.

    Returns:
        Loss in nats a completion. Metrics: those of `policy_gradient`, and `divergence`, nats a
        token.

    Reference: Gu et al. 2023, arXiv 2306.08543.

    Differs: without the mixture with the teacher in sampling, and without the loss of a corpus.
    """
    logp, mask = _of_tokens("logp", logp, batch), batch.mask
    as_float("batch.logp", batch.logp, logp.shape)
    as_float("divergence", divergence, logp.shape)
    inclusive = teacher_advantages(batch.logp, teacher_logp, mask, discount=1.0)
    own = teacher_advantages(batch.logp, teacher_logp, mask, discount=0.0)
    later = inclusive - own
    if mean:
        after = returns(mask.astype(later.dtype), mask, discount=1.0) - 1.0
        later = later / jnp.maximum(after, 1.0)
    loss = policy_gradient(
        logp, batch, advantage=later, surrogate=clipped(clip), aggregate=sequence_sum
    )
    step = gkd(divergence, batch, aggregate=sequence_sum)
    return Loss(loss.total + step.total, loss.weight, loss.metrics | step.metrics)


def _of_tokens(name: str, x: Array, batch: Group | Trajectory | Demonstration) -> Array:
    """An array of the batch's tokens, and the batch's mask, checked."""
    x = as_float(name, x, (None,) * (3 if isinstance(batch, Group) else 2))
    check_mask("batch.mask", batch.mask, x.shape)
    return x


def _kl(log_p: Array, log_q: Array) -> Array:
    """Σ p log p/q on the last axis; 0 log 0 = 0."""
    apart = jnp.where(jnp.isneginf(log_p), 0.0, log_p - log_q)
    return (jnp.exp(log_p) * apart).sum(-1)
