"""A few tokens at a time through the decoder, with a cache that is updated in place.

Training scans over stacked layers; here the layers are unrolled. A scan would copy
every layer's weights and cache out of their stacks at each token, which costs as
much as the layer itself when the batch is small.
"""

from __future__ import annotations

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jax import Array

from irl_jax.models.decoder import (
    KV,
    Block,
    DecoderConfig,
    embed,
    final_norm,
    forward,
    layer_kinds,
)
from irl_jax.models.rope import rope_table
from irl_jax.models.visibility import distances
from irl_jax.types import Prompt, PyTree


@flax.struct.dataclass
class Cache:
    """Keys and values of K continuations of each of B prompts, a tuple entry a layer.

    Attributes:
        k: L of f[B, KV, K, H, T], rotated; filled up to the current column.
        v: L of f[B, KV, K, T, H].
    """

    k: tuple[Array, ...]
    v: tuple[Array, ...]


def init_cache(config: DecoderConfig, batch: int, k: int, length: int) -> Cache:
    """An empty cache for `length` new tokens of `batch` * `k` continuations."""
    heads = (batch, config.n_kv_heads, k)
    zeros = lambda *shape: tuple(
        jnp.zeros(heads + shape, config.dtype) for _ in range(config.n_layers)
    )
    return Cache(zeros(config.head_dim, length), zeros(length, config.head_dim))


def unstack(tree: PyTree, n_layers: int) -> list[PyTree]:
    """[L, ...] leaves -> a list of L trees; do it once, outside the decoding loop."""
    return [jax.tree.map(lambda x, i=i: x[i], tree) for i in range(n_layers)]


def prefill(
    config: DecoderConfig, params: PyTree, context: Prompt
) -> tuple[Array, list[KV], list[PyTree]]:
    """The prompts, read once: all that decoding their continuations needs.

    Args:
        config: the shape.
        params: parameters of the decoder.
        context: `Prompt` of B rows.

    Returns:
        f[B, D], the states that predict column 0; the L layers of the prompts' `KV`, each
        without its leading axis; the L blocks.
    """
    hidden, kv = forward(config, params, context.tokens, mask=context.mask)
    prefix = [KV(kv.k[i], kv.v[i], kv.mask) for i in range(config.n_layers)]
    return hidden[:, -1], prefix, unstack(params["layers"], config.n_layers)


def decode_step(
    config: DecoderConfig,
    params: PyTree,
    layers: list[PyTree],
    tokens: Array,
    index: Array,
    prefix: list[KV],
    cache: Cache,
) -> tuple[Array, Cache]:
    """Hidden states of the tokens at column `index` of every continuation.

    Args:
        config: the shape.
        params: parameters; only the embedding and the final norm are read.
        layers: the L blocks, from `prefill`.
        tokens: i32[B, K], the tokens at column `index`.
        index: i32[], how many tokens of each continuation are in the cache; or i32[B, K].
        prefix: the prompts' keys and values, from `prefill`.
        cache: the continuations' keys and values; donated by the caller's loop.

    Returns:
        f[B, K, D] after the final norm, and the cache with column `index` filled.
    """
    hidden, cache = decode_columns(config, params, layers, tokens[..., None], index, prefix, cache)
    return hidden[..., 0, :], cache


def decode_columns(
    config: DecoderConfig,
    params: PyTree,
    layers: list[PyTree],
    tokens: Array,
    index: Array,
    prefix: list[KV],
    cache: Cache,
    *,
    siblings: bool = False,
) -> tuple[Array, Cache]:
    """Hidden states of S tokens from column `index` on, in one pass.

    They follow each other, or, as siblings, are S candidates for the same place, each of
    which sees what is before that place and itself.

    Args:
        config: the shape.
        params: parameters; only the embedding and the final norm are read.
        layers: the L blocks, from `prefill`.
        tokens: i32[B, K, S].
        index: i32[] or i32[B, K], how many tokens of each continuation are in the cache;
            at most its length - S. What lies behind is overwritten.
        prefix: the prompts' keys and values, from `prefill`.
        cache: the continuations' keys and values.
        siblings: whether the tokens are candidates for one place.

    Returns:
        f[B, K, S, D] after the final norm, and the cache with S columns filled.
    """
    prompt_mask = prefix[0].mask
    column, offset = jnp.arange(cache.v[0].shape[3]), jnp.arange(tokens.shape[-1])
    start = jnp.reshape(index, (1, 1) if index.ndim == 0 else index.shape)[..., None]
    if siblings:
        own = (column < start[..., None]) | (column == (start + offset)[..., None])
        place = start
    else:
        own = column <= (start + offset)[..., None]
        place = start + offset
    masks = [prompt_mask[:, None, None, None, None, :], own[:, None, :, None]]
    positions = prompt_mask.sum(-1)[:, None, None] + place
    rope = rope_table(config, jnp.broadcast_to(positions, tokens.shape))
    apart = None
    if config.windows:
        apart = distances(positions, prompt_mask.sum(-1)[:, None, None] + column, prompt_mask)
    kinds = layer_kinds(config)
    x = embed(config, params, tokens)
    keys, values = [], []
    for i, (layer, own_prefix, k, v) in enumerate(
        zip(layers, prefix, cache.k, cache.v, strict=True)
    ):
        kind = jax.tree.map(lambda of_all, i=i: of_all[i], kinds)
        out: Any = Block(config).apply(
            {"params": layer},
            *(x, (own_prefix.k, own_prefix.v), rope, masks, (k, v, index), apart, kind),
        )
        x, (key, value) = out
        keys.append(key)
        values.append(value)
    return final_norm(config, params, x), Cache(tuple(keys), tuple(values))
