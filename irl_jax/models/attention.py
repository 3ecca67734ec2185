"""Softmax attention over several sets of keys.

Arrays are laid out as [B, KV heads, K, query heads per KV head, S, H], so that the
keys of a completion and those of the prompt it shares with K - 1 others are both
plain batched matmuls.

Reference: Vaswani et al. 2017, "Attention Is All You Need", arXiv 1706.03762, eq. 1;
Ainslie et al. 2023, "GQA", arXiv 2305.13245.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax import Array

MASKED = -1e30  # score of what is not attended; finite, so that an empty row stays finite


def soft_cap(x: Array, cap: float | None) -> Array:
    """c · tanh(x / c), which stays between -c and c; x itself without a cap."""
    return x if cap is None else cap * jnp.tanh(x / cap)


def attend(
    q: Array,
    keys: list[Array],
    values: list[Array],
    masks: list[Array],
    *,
    divisor: float | None = None,
    cap: float | None = None,
) -> Array:
    """softmax(q·kᵀ / √H)·v over the union of several sets of keys.

    Args:
        q: f[B, G, K, R, S, H]: G key heads, R query heads for each.
        keys: each f[B, G, K, H, T], or f[B, G, H, T] if shared by the K: transposed,
            so that both products contract over rows and no cache is ever transposed.
        values: each f[B, G, K, T, H], or f[B, G, T, H].
        masks: bool, broadcastable to [B, 1, K, 1, S, T]; true where attended.
        divisor: of the scores; √H by default.
        cap: of `soft_cap`, applied to the scores.

    Returns:
        f[B, G, K, R, S, H].
    """
    divisor = math.sqrt(q.shape[-1]) if divisor is None else divisor
    scores = []
    for k, mask in zip(keys, masks, strict=True):
        shape = "bght" if k.ndim == 4 else "bgkht"
        score = jnp.einsum(f"bgkrsh,{shape}->bgkrst", q, k, preferred_element_type=jnp.float32)
        scores.append(jnp.where(mask, soft_cap(score / divisor, cap), MASKED))
    prob = jax.nn.softmax(jnp.concatenate(scores, -1), axis=-1).astype(q.dtype)
    out, start = jnp.zeros_like(q), 0
    for v in values:
        part = jax.lax.slice_in_dim(prob, start, start + v.shape[-2], axis=-1)
        shape = "bgth" if v.ndim == 4 else "bgkth"
        out += jnp.einsum(f"bgkrst,{shape}->bgkrsh", part, v)
        start += v.shape[-2]
    return out
