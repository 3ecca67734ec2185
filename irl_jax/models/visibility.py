"""Who sees whom in a decoder: masks of all pairs, or places from which they follow."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from irl_jax.models.chunked_attention import Places, Sight
from irl_jax.models.decoder_config import DecoderConfig


def places_of(prompt: Array) -> Array:
    """Positions of the columns of prompts, bool[B, P] -> i32[B, 1, P]."""
    return jnp.cumsum(prompt, -1)[:, None] - 1


def distances(positions: Array, keys: Array, prompt: Array | None) -> list[Array]:
    """How many tokens before a query each key is, for every set of keys.

    Args:
        positions: i32[B, K, S], of the queries.
        keys: i32[B, K or 1, T], positions of the keys that are not the prompts'.
        prompt: bool[B, P], which columns of the prompts hold tokens, if there are any.

    Returns:
        i32[B, 1, K, 1, S, P] with prompts, and i32[B, 1, K, 1, S, T].
    """
    places = [keys] if prompt is None else [places_of(prompt), keys]
    return [(positions[..., None] - place[:, :, None])[:, None, :, None] for place in places]


def within(segment: Array, branch: Array | None) -> Array:
    """Which columns of packed rows see which, bool[B, S, S]: of their sequence, none that follows.

    Args:
        segment: i32[B, S], the sequence of each column.
        branch: i32[B, S], of sequences that begin alike, the continuation of each column; one
            sees the beginning, which is 0, and itself. None: there are none.
    """
    seen = jnp.tri(segment.shape[-1], dtype=bool) & (segment[:, :, None] == segment[:, None, :])
    if branch is None:
        return seen
    return seen & ((branch[:, None, :] == 0) | (branch[:, :, None] == branch[:, None, :]))


def visible(
    config: DecoderConfig,
    positions: Array,
    valid: Array,
    segment: Array | None,
    prompt: Array | None,
    branch: Array | None = None,
) -> tuple[list[Array] | Sight, list[Array] | None]:
    """Who sees whom, and where there are windows the distances, as `Block` takes them.

    Args:
        config: the shape.
        positions: i32[B, K, S].
        valid: bool[B, K, S], which columns hold tokens.
        segment: i32[B, S], sequences packed into a row, if they are.
        prompt: bool[B, P], which columns of the prompts hold tokens, if there are any.
        branch: i32[B, S], continuations of the packed sequences, see `within`, if there are any.
    """
    b, k, s = positions.shape
    if config.attention_chunk is not None:
        own = Places(positions, (valid if segment is None else segment[:, None]).astype(jnp.int32))
        before = (
            [] if prompt is None else [Places(places_of(prompt), prompt[:, None].astype(jnp.int32))]
        )
        return Sight(own, [*before, own]), None
    seen = jnp.tri(s, dtype=bool) if segment is None else within(segment, branch)[:, None]
    mask = (seen & valid.reshape(b, k, 1, s))[:, None, :, None]
    masks = [mask] if prompt is None else [prompt[:, None, None, None, None, :], mask]
    return masks, distances(positions, positions, prompt) if config.windows else None
