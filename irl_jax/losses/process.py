"""Process rewards: what each step of a solution is worth, from labels or from outcomes.

With labels of steps, a reward model is logistic regression on the last token of each
step. Without them, a policy that was trained to tell good outcomes from bad ones by its
log-ratio to a reference gives every token a reward, and a step the sum over its tokens.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from irl_jax.losses.rating import binary_cross_entropy
from irl_jax.losses.scores import log_ratio
from irl_jax.masking import as_float, check_mask, check_range
from irl_jax.types import Loss, Rating, StepLabels


def process_cross_entropy(reward: Array, batch: StepLabels) -> Loss:
    """Logistic regression on labels of steps: a process reward model.

    L = −yₛ log σ(rₛ) − (1 − yₛ) log σ(−rₛ), the mean over the steps s of the batch; rₛ is
    the reward at the last token of step s. With one step, the whole solution, and its
    outcome as the label, it is an outcome reward model.

    Args:
        reward: f32[B, T], logits of "the solution is good so far". Read where
            `batch.mask` and `batch.end` are true; elsewhere it may be NaN.
        batch: the labelled steps.

    Returns:
        Loss a step (nats). Metrics: those of `binary_cross_entropy`, over steps.

    Raises:
        InputError: an array has the wrong shape or dtype.

    Reference: Wang et al. 2023, "Math-Shepherd: Verify and Reinforce LLMs Step-by-step
    without Human Annotations", arXiv 2312.08935 (cross-entropy of a PRM); Lightman et
    al. 2023, "Let's Verify Step by Step", arXiv 2305.20050 (labels up to the first
    wrong step).

    Differs: the mean over steps stands in place of the sum over the steps of a solution,
    so that the learning rate does not depend on how long solutions are.
    """
    reward = as_float("reward", reward, (None, None))
    check_mask("batch.mask", batch.mask, reward.shape)
    check_mask("batch.end", batch.end, reward.shape)
    label = as_float("batch.label", batch.label, reward.shape)
    weight = as_float("batch.weight", batch.weight, reward.shape[:1])
    judged = batch.mask & batch.end
    flat = lambda x: jnp.where(judged, x, 0.0).reshape(-1)
    absent: Any = None
    steps = Rating(absent, absent, absent, score=flat(label), weight=flat(weight[:, None]))
    return binary_cross_entropy(flat(reward), steps)


def implicit_process(logp: Array, ref_logp: Array, batch: Rating, *, beta: float) -> Loss:
    """An implicit process reward model from outcomes alone.

    L = −s log σ(r(y)) − (1 − s) log σ(−r(y)) with r(y) = β log π(y|x)/π_ref(y|x): an
    outcome reward model whose reward is a sum over tokens. `implicit_step_rewards` says
    what of it falls on each step.

    Args:
        logp: f32[B, T], log-probs of the completions under π, which is trained (nats).
            Read where `batch.mask` is true.
        ref_logp: f32[B, T], the same under π_ref; a constant.
        batch: the outcomes; `score` s is 1 for right and 0 for wrong.
        beta: β > 0, reward a nat.

    Returns:
        Loss a completion (nats). Metrics: those of `binary_cross_entropy`.

    Raises:
        InputError: an array has the wrong shape or dtype, or β is not positive.

    Reference: Yuan et al. 2024, "Free Process Rewards without Process Labels", arXiv
    2412.01981 (cross-entropy); Cui et al. 2025, "Process Reinforcement through Implicit
    Rewards", arXiv 2502.01456 (PRIME, which trains it on the policy's own rollouts).
    """
    check_range("beta", beta, 0.0, exclusive=True)
    logp = as_float("logp", logp, (None, None))
    ref_logp = as_float("ref_logp", ref_logp, logp.shape)
    check_mask("batch.mask", batch.mask, logp.shape)
    return binary_cross_entropy(beta * log_ratio(logp, ref_logp, batch.mask), batch)


def implicit_step_rewards(
    logp: Array, ref_logp: Array, mask: Array, end: Array, *, beta: float
) -> Array:
    """What each step adds to the implicit reward, at the last token of the step.

    rₛ = q(end of s) − q(end of s − 1), where q(t) = β Σᵢ≤ₜ log π(yᵢ|x, y₍<ᵢ₎) − log
    π_ref(yᵢ|x, y₍<ᵢ₎). With every token a step, these are the rewards of tokens; where
    the last token ends a step, they sum to β log π(y|x)/π_ref(y|x).

    Args:
        logp: f32[..., T], log-probs under the implicit reward model π (nats).
        ref_logp: f32[..., T], log-probs under π_ref (nats); a constant.
        mask: bool[..., T], tokens of the completion; elsewhere both may be NaN.
        end: bool[..., T], true on the last token of each step; where the mask is false, the
            step goes on to the next end.
        beta: β > 0, reward a nat.

    Returns:
        f32[..., T]; 0 but at the ends of steps.

    Raises:
        InputError: an array has the wrong shape or dtype, or β is not positive.

    Reference: Yuan et al. 2024, "Free Process Rewards without Process Labels", arXiv
    2412.01981 (process reward as a difference of q).

    Example:
        >>> logp = jnp.log(jnp.array([0.5, 0.5, 0.25]))
        >>> end = jnp.array([False, True, True])
        >>> rewards = implicit_step_rewards(
        ...     logp, jnp.zeros(3), jnp.ones(3, bool), end, beta=1 / jnp.log(2.0)
        ... )
        >>> rewards.tolist()
        [0.0, -2.0, -2.0]
    """
    check_range("beta", beta, 0.0, exclusive=True)
    shape = jnp.shape(logp)
    logp, ref_logp = as_float("logp", logp, shape), as_float("ref_logp", ref_logp, shape)
    check_mask("mask", mask, shape)
    check_mask("end", end, shape)
    end = end & mask
    reference = jax.lax.stop_gradient(ref_logp)
    q = beta * jnp.cumsum(jnp.where(mask, logp, 0.0) - jnp.where(mask, reference, 0.0), axis=-1)
    index = jnp.where(end, jnp.arange(shape[-1]), -1)
    latest = jax.lax.cummax(index, axis=end.ndim - 1)
    previous = jnp.concatenate([jnp.full_like(latest[..., :1], -1), latest[..., :-1]], axis=-1)
    before = jnp.take_along_axis(q, jnp.maximum(previous, 0), axis=-1)
    return jnp.where(end, q - jnp.where(previous >= 0, before, 0.0), 0.0)
