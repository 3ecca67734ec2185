"""Which tasks next: neither solved nor hopeless, of a level that teaches, begun near the end."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from irl_jax.masking import as_float, check_mask, check_range, check_shape


def learnable(right: Array, *, low: float, high: float) -> tuple[Array, Array]:
    """Prompts that are solved sometimes, and how much there is to learn of each, p (1 − p).

    p is the share of the K completions that are right. The variance of a reward of 0 or 1 is
    p (1 − p), and with it the expected square of the policy's step goes to 0 at both ends.

    Args:
        right: bool[B, K], K completions of each prompt.
        low: least p that is kept, in [0, 1].
        high: largest p that is kept.

    Returns:
        bool[B], which prompts are kept; f32[B], p (1 − p).

    Raises:
        InputError: the array has the wrong shape or dtype, or a number is out of range.

    Reference: Bae et al. 2025, "Online Difficulty Filtering for Reasoning Oriented Reinforcement
    Learning", arXiv 2504.03380.

    Example:
        >>> right = jnp.array([[True, True], [True, False], [False, False]])
        >>> [x.tolist() for x in learnable(right, low=0.25, high=0.75)]
        [[False, True, False], [0.0, 0.25, 0.0]]
    """
    check_range("low", low, 0.0, 1.0)
    check_range("high", high, low, 1.0)
    check_mask("right", right, (None, None))
    p = right.mean(-1)
    return (p >= low) & (p <= high), p * (1 - p)


def level_values(value: Array, level: Array, advantage: Array, *, rate: float | Array) -> Array:
    """What levels of difficulty teach: a moving mean of the size of advantages (SEC).

    Q(c) ← α mean |A| over the batch's prompts of level c + (1 − α) Q(c); levels that the batch
    has none of stay. The next prompts are drawn of levels with `level_logp`.

    Args:
        value: f32[C], Q.
        level: i32[B], of each prompt.
        advantage: f32[B, K], of its completions.
        rate: α in (0, 1].

    Returns:
        f32[C].

    Raises:
        InputError: an array has the wrong shape or dtype, or a number is out of range.

    Reference: Chen et al. 2025, "Self-Evolving Curriculum for LLM Reasoning", arXiv 2505.14970.

    Example:
        >>> level, advantage = jnp.array([0, 0]), jnp.array([[1.0, -1.0], [0.0, 0.0]])
        >>> level_values(jnp.array([0.25, 0.75]), level, advantage, rate=0.5).tolist()
        [0.375, 0.75]
    """
    check_range("rate", rate, 0.0, 1.0, exclusive=True)
    value = as_float("value", value, (None,))
    advantage = as_float("advantage", advantage, (None, None))
    check_shape("level", level, advantage.shape[:1])
    size = jnp.abs(advantage).mean(-1)
    count = jnp.zeros_like(value).at[level].add(1.0)
    mean = jnp.zeros_like(value).at[level].add(size) / jnp.maximum(count, 1.0)
    return jnp.where(count > 0, rate * mean + (1 - rate) * value, value)


def level_logp(value: Array, *, temperature: float | Array) -> Array:
    """Log-probs by which levels are drawn, log softmax(Q/τ), for `jax.random.categorical`.

    Args:
        value: f32[C], Q of `level_values`.
        temperature: τ > 0 (reward).

    Returns:
        f32[C], nats.

    Raises:
        InputError: the array has the wrong shape or dtype, or τ is not positive.

    Reference: Chen et al. 2025, arXiv 2505.14970.
    """
    check_range("temperature", temperature, 0.0, exclusive=True)
    return jax.nn.log_softmax(as_float("value", value, (None,)) / temperature)


def reverse_start(mask: Array, *, stage: int | Array, stages: int) -> Array:
    """The demonstrated action from which a policy goes on alone, earlier in each stage.

    In stage k = 1, 2, ..., M it is action ⌊n (1 − k/M)⌋ of a demonstration of n actions: first
    near the end, where a reward is near, and in the last stage at the beginning. What stands
    before it is given.

    Args:
        mask: bool[..., T], actions of the demonstrations.
        stage: k, from 1.
        stages: M.

    Returns:
        i32[...], the column of the first action that is the policy's own.

    Raises:
        InputError: the mask has the wrong dtype, or a number is out of range.

    Reference: Florensa et al. 2017, "Reverse Curriculum Generation for Reinforcement Learning",
    arXiv 1707.05300; Xi et al. 2024, "Training Large Language Models for Reasoning through Reverse
    Curriculum Reinforcement Learning", arXiv 2402.05808 (R3).

    Differs: stages are of equal length, where the first grows starts from states of some success,
    and the second mixes all stages.

    Example:
        >>> mask = jnp.arange(6) < 4
        >>> [int(reverse_start(mask, stage=k, stages=4)) for k in (1, 2, 3, 4)]
        [3, 2, 1, 0]
    """
    check_range("stages", stages, 1)
    check_range("stage", stage, 1, stages)
    check_mask("mask", mask, jnp.shape(mask))
    given = mask.sum(-1) * (stages - stage) // stages
    return (jnp.cumsum(mask, -1) <= given[..., None]).sum(-1).astype(jnp.int32)
