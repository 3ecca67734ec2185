"""From losses of elements to sums and weights: the one place where a mean is chosen.

Every function returns (sum, weight), f32[] each: a pair that adds over
micro-batches and devices, and that a `Loss` and its metrics are made of. The
mean it stands for is sum / weight.
"""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
from jax import Array

from irl_jax.masking import check_range, masked_mean, masked_sum
from irl_jax.types import InputError

# (x f32[..., T], mask bool[..., T]) -> (sum, weight)
Aggregation = Callable[[Array, Array], tuple[Array, Array]]


def weighted(x: Array, weight: Array) -> tuple[Array, Array]:
    """Mean over examples: Σᵢ wᵢ xᵢ and Σᵢ wᵢ; x may be NaN where the weight is 0.

    Args:
        x: f32[B].
        weight: f32[B], at least 0.
    """
    return (weight * jnp.where(weight > 0, x, 0.0)).sum(), weight.sum()


def token_mean(x: Array, mask: Array) -> tuple[Array, Array]:
    """Mean over tokens, Σᵢₜ xᵢₜ / Σᵢ |oᵢ|: a long sequence counts for more.

    Args:
        x: f32[..., T].
        mask: bool[..., T], the tokens oᵢ; elsewhere x may be NaN.

    Example:
        >>> x = jnp.array([[1.0, 0.0], [4.0, 4.0]])
        >>> mask = jnp.array([[True, False], [True, True]])
        >>> total, weight = token_mean(x, mask)
        >>> float(total / weight)
        3.0
    """
    return masked_sum(x, mask), mask.sum().astype(x.dtype)


def group_mean(x: Array, mask: Array) -> tuple[Array, Array]:
    """Mean over prompts of the means over all tokens of their completions.

    1/B Σ_b 1/Σᵢ|o_bᵢ| Σᵢₜ x_bᵢₜ: a long sequence counts for more in its group, and groups
    count the same, however long; those without a token do not count.

    Args:
        x: f32[B, K, T].
        mask: bool[B, K, T], the tokens o_bᵢ; elsewhere x may be NaN.

    Raises:
        InputError: there is no axis of groups.

    Example:
        >>> x = jnp.array([[[1.0, 0.0], [4.0, 4.0]], [[5.0, 0.0], [0.0, 0.0]]])
        >>> mask = jnp.array([[[True, False], [True, True]], [[True, False], [False, False]]])
        >>> total, weight = group_mean(x, mask)
        >>> float(total / weight)
        4.0
    """
    if x.ndim != 3:
        raise InputError(f"group_mean: expected completions in groups, [B, K, T], got {x.shape}")
    tokens = (-2, -1)
    return masked_mean(x, mask, axis=tokens).sum(), mask.any(tokens).sum().astype(x.dtype)


def sequence_mean(x: Array, mask: Array) -> tuple[Array, Array]:
    """Mean over sequences of their means over tokens, 1/N Σᵢ 1/|oᵢ| Σₜ xᵢₜ.

    All sequences count the same; those without a token do not count.

    Args:
        x: f32[..., T].
        mask: bool[..., T], the tokens oᵢ; elsewhere x may be NaN.

    Example:
        >>> x = jnp.array([[1.0, 0.0], [4.0, 4.0]])
        >>> mask = jnp.array([[True, False], [True, True]])
        >>> total, weight = sequence_mean(x, mask)
        >>> float(total / weight)
        2.5
    """
    return masked_mean(x, mask, axis=-1).sum(), mask.any(-1).sum().astype(x.dtype)


def sequence_sum(x: Array, mask: Array) -> tuple[Array, Array]:
    """Mean over sequences of their sums over tokens, 1/N Σᵢ Σₜ xᵢₜ.

    With x the KL divergence at each token, this is the KL divergence between
    distributions of whole completions.

    Args:
        x: f32[..., T].
        mask: bool[..., T], the tokens oᵢ; elsewhere x may be NaN.

    Example:
        >>> x = jnp.array([[1.0, 0.0], [4.0, 4.0]])
        >>> mask = jnp.array([[True, False], [True, True]])
        >>> total, weight = sequence_sum(x, mask)
        >>> float(total / weight)
        4.5
    """
    return masked_sum(x, mask), mask.any(-1).sum().astype(x.dtype)


def constant_length(length: float) -> Aggregation:
    """Sums over tokens by one constant, 1/N Σᵢ 1/L Σₜ xᵢₜ: every token counts the same.

    Unlike in `token_mean`, what a token counts does not depend on its neighbours in the
    batch; unlike in `sequence_mean`, not on the length of its own sequence.

    Args:
        length: L > 0, tokens; the longest completion that can be sampled, say. It scales
            the loss, nothing else.

    Example:
        >>> x = jnp.array([[1.0, 0.0], [4.0, 4.0]])
        >>> mask = jnp.array([[True, False], [True, True]])
        >>> total, weight = constant_length(2)(x, mask)
        >>> float(total / weight)
        2.25
    """
    check_range("length", length, 0.0, exclusive=True)

    def aggregate(x: Array, mask: Array) -> tuple[Array, Array]:
        total, sequences = sequence_sum(x, mask)
        return total, length * sequences

    return aggregate
