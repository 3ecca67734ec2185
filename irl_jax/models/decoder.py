"""A decoder: GQA, RoPE, RMSNorm, gated MLP or experts; scan over layers; shared prompts.

`DecoderConfig` has the switches in which families of models differ from Llama.

`forward` serves four uses with one code path:

- teacher forcing on whole sequences `i32[B, S]`, packed (`segment`) or padded (`mask`);
- prefill: the same call, whose second result is the keys and values of the prompts;
- scoring K completions `i32[B, K, S]` of each prompt (`prefix`): the prompt is
  encoded once, every completion attends to its keys and values, nothing is repeated;
- decoding, through `decode_step`, which writes one token into a cache in place.

Reference: Touvron et al. 2023, "LLaMA", arXiv 2302.13971; Ainslie et al. 2023,
"GQA", arXiv 2305.13245; Su et al. 2021, "RoFormer" (RoPE), arXiv 2104.09864;
Shazeer 2020, "GLU Variants", arXiv 2002.05202; Zhang & Sennrich 2019 (RMSNorm),
arXiv 1910.07467.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from irl_jax.masking import segment_positions
from irl_jax.models.attention import attend, soft_cap
from irl_jax.models.chunked_attention import Sight, chunked_attend
from irl_jax.models.decoder_config import ROPES, DecoderConfig
from irl_jax.models.linear import Linear
from irl_jax.models.mlp import MLP, ROUTING, Experts, load_balance
from irl_jax.models.rope import rope_table, rotate
from irl_jax.models.sharding import BATCH, constrain
from irl_jax.models.visibility import visible, within
from irl_jax.types import InputError, PyTree


@flax.struct.dataclass
class KV:
    """Keys and values of B prompts.

    Attributes:
        k: f[L, B, KV, H, P], rotated.
        v: f[L, B, KV, P, H].
        mask: bool[B, P], which columns hold tokens.
    """

    k: Array
    v: Array
    mask: Array


class RMSNorm(nn.Module):
    """x / √(mean x² + ε) · scale, or · (1 + scale), in f32."""

    eps: float
    offset: bool = False

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """f[..., D] -> f[..., D]."""
        init = nn.initializers.zeros if self.offset else nn.initializers.ones
        scale = self.param("scale", init, (x.shape[-1],))
        y = x.astype(jnp.float32)
        y *= jax.lax.rsqrt(jnp.mean(y * y, -1, keepdims=True) + self.eps)
        return (y * (1 + scale if self.offset else scale)).astype(x.dtype)


def write_columns(cache: Array, new: Array, index: Array, *, axis: int) -> Array:
    """The cache with S new columns from `index` on.

    Args:
        cache: f[B, KV, K, ...], T columns on `axis`.
        new: the same with S columns.
        index: i32[], or i32[B, K] where each continuation has a length of its own; at
            most T - S.
        axis: 3 or 4.
    """
    write = jax.lax.dynamic_update_slice_in_dim
    if index.ndim == 0:
        return write(cache, new, index, axis=axis)
    one = lambda cache, new, index: write(cache, new, index, axis=axis - 2)
    return jax.vmap(jax.vmap(one, (1, 1, 0), 1))(cache, new, index)


class Attention(nn.Module):
    """Grouped-query attention over a sequence's own keys and those of its prompt."""

    config: DecoderConfig

    @nn.compact
    def __call__(
        self,
        x: Array,
        rope: tuple[Array, Array],
        masks: list[Array] | Sight,
        prefix: tuple[Array, Array] | None,
        cache: tuple[Array, Array, Array] | None,
    ) -> tuple[Array, tuple[Array, Array]]:
        """f[B, K, S, D] -> f[B, K, S, D] and its own keys and values."""
        c = self.config
        b, k, s, _ = x.shape
        groups, per_group = c.n_kv_heads, c.n_heads // c.n_kv_heads
        norm = partial(RMSNorm, c.norm_eps, c.norm_offset)

        def heads(name: str, count: int, norm_of: str = "none") -> Array:
            y = Linear(count * c.head_dim, c.attention_bias, name=name)(x)
            y = norm(name=f"{name}_norm")(y) if norm_of == "width" else y
            y = y.reshape(b, k, s, count, c.head_dim)
            return norm(name=f"{name}_norm")(y) if norm_of == "head" else y

        query = rotate(heads("q", c.n_heads, c.qk_norm), *rope)
        query = query.reshape(b, k, s, groups, per_group, c.head_dim).transpose(0, 3, 1, 4, 2, 5)
        key = rotate(heads("k", groups, c.qk_norm), *rope).transpose(0, 3, 1, 4, 2)
        value = heads("v", groups).transpose(0, 3, 1, 2, 4)
        if cache is not None:
            cached_key, cached_value, index = cache
            key = write_columns(cached_key, key, index, axis=4)
            value = write_columns(cached_value, value, index, axis=3)
            # Otherwise XLA writes once more where they are read, and so copies the whole cache.
            key, value = jax.lax.optimization_barrier((key, value))
        keys, values = [key], [value]
        if prefix is not None:
            keys, values = [prefix[0], key], [prefix[1], value]
        how = {"divisor": math.sqrt(c.query_scalar or c.head_dim), "cap": c.attention_softcap}
        if isinstance(masks, Sight):
            assert c.attention_chunk is not None
            out = chunked_attend(query, keys, values, masks, chunk=c.attention_chunk, **how)
        else:
            out = attend(query, keys, values, masks, **how)
        out = out.transpose(0, 2, 4, 1, 3, 5).reshape(b, k, s, c.n_heads * c.head_dim)
        return Linear(c.d_model, c.output_bias, name="o")(out), (key, value)


@flax.struct.dataclass
class LayerKind:
    """What is special about a layer.

    Attributes:
        window: i32[], how many tokens a token sees; None if all layers see all.
        rope: i32[], index in `ROPES`; None if all layers have the same frequencies.
    """

    window: Any
    rope: Any


def layer_kinds(config: DecoderConfig) -> LayerKind | None:
    """The layers' kinds, i32[L] each in NumPy; None if all layers are alike."""
    if not config.windows and not config.ropes:
        return None
    everything = np.iinfo(np.int32).max
    windows = [everything if w is None else w for w in config.windows]
    ropes = [ROPES.index(rope) for rope in config.ropes]
    array = lambda values: np.array(values, np.int32) if values else None
    return LayerKind(array(windows), array(ropes))


class Block(nn.Module):
    """One layer: attention and MLP, with RMSNorm before each, after each, or both."""

    config: DecoderConfig

    @nn.compact
    def __call__(
        self,
        x: Array,
        prefix: tuple[Array, Array] | None,
        rope: tuple[Array, Array],
        masks: list[Array] | Sight,
        cache: tuple[Array, Array, Array] | None = None,
        distances: list[Array] | None = None,
        kind: LayerKind | None = None,
    ) -> tuple[Array, tuple[Array, Array]]:
        """f[B, K, S, D] -> f[B, K, S, D] and the layer's own keys and values.

        Args:
            x: the residual stream.
            prefix: keys and values of the prompts.
            rope: of `rope_table`.
            masks: of the keys of the prompts and of the tokens themselves, for `attend`, or a
                `Sight` for `chunked_attend`.
            cache: keys and values before the tokens, and how many there are.
            distances: i32 of the masks' shapes, how many tokens before a query a key is;
                needed where there are windows.
            kind: of this layer.
        """
        c = self.config
        x = constrain(x, BATCH)
        if kind is not None and kind.rope is not None:
            rope = rope[0][kind.rope], rope[1][kind.rope]
        if isinstance(masks, Sight):
            masks = masks if kind is None else replace(masks, window=kind.window)
        elif kind is not None and distances is not None:
            masks = [mask & (d < kind.window) for mask, d in zip(masks, distances, strict=True)]
        norm = partial(RMSNorm, c.norm_eps, c.norm_offset)
        before, after = c.norms != "post", c.norms != "pre"
        normed = norm(name="attn_norm")(x) if before else x
        out, kv = Attention(c, name="attn")(normed, rope, masks, prefix, cache)
        x = x + (norm(name="attn_post_norm")(out) if after else out)
        normed = norm(name="mlp_norm")(x) if before else x
        out = (Experts if c.n_experts else MLP)(c, name="mlp")(normed)
        x = x + (norm(name="mlp_post_norm")(out) if after else out)
        return x, kv


KEEPS = jax.checkpoint_policies
REMAT = {  # see `DecoderConfig.remat`
    "none": KEEPS.everything_saveable,
    "dots": KEEPS.dots_saveable,
    "dots_no_batch": KEEPS.dots_with_no_batch_dims_saveable,
    "full": KEEPS.nothing_saveable,
    "offload": KEEPS.offload_dot_with_no_batch_dims("device", "pinned_host"),
}


class Layers(nn.Module):
    """L blocks as one `lax.scan`: compile time and code size do not grow with L."""

    config: DecoderConfig

    @nn.compact
    def __call__(
        self,
        x: Array,
        prefix: tuple[Array, Array] | None,
        rope: tuple[Array, Array],
        masks: list[Array] | Sight,
        distances: list[Array] | None = None,
    ) -> tuple[Array, tuple[Array, Array]]:
        """f[B, K, S, D] -> f[B, K, S, D] and the keys and values of all layers."""
        name = self.config.remat
        if name == "auto":  # `dots` would keep the products of all pairs of chunks
            name = "dots" if self.config.attention_chunk is None else "dots_no_batch"
        block = nn.remat(Block, prevent_cse=False, policy=REMAT[name])
        everywhere = nn.broadcast
        scanned = nn.scan(
            block,
            variable_axes={"params": 0, ROUTING: 0},
            split_rngs={"params": True},
            in_axes=(0, everywhere, everywhere, everywhere, everywhere, 0),
            length=self.config.n_layers,
        )
        kinds = jax.tree.map(jnp.asarray, layer_kinds(self.config))
        return scanned(self.config, name="layers")(x, prefix, rope, masks, None, distances, kinds)


def init_params(config: DecoderConfig, key: Array) -> PyTree:
    """Random parameters, nested dict of f32; N(0, 0.02²) kernels, as GPT-2's.

    Args:
        config: the shape.
        key: typed PRNG key.
    """
    embed_key, layers_key, unembed_key = jax.random.split(key, 3)
    x = jnp.zeros((1, 1, 1, config.d_model))
    rope = rope_table(config, jnp.zeros((1, 1, 1), jnp.int32))
    layers = Layers(config).init(layers_key, x, None, rope, [jnp.ones((1, 1, 1, 1, 1, 1), bool)])
    normal = lambda k, shape: 0.02 * jax.random.normal(k, shape, jnp.float32)
    neutral = jnp.zeros if config.norm_offset else jnp.ones
    params: dict[str, Any] = {
        "embed": {"embedding": normal(embed_key, (config.vocab_size, config.d_model))},
        "layers": layers["params"]["layers"],
        "final_norm": {"scale": neutral(config.d_model)},
    }
    if not config.tie_embeddings:
        params["unembed"] = {"kernel": normal(unembed_key, (config.d_model, config.vocab_size))}
    return params


def embed(config: DecoderConfig, params: PyTree, tokens: Array) -> Array:
    """Rows of the embedding, times √D where that is asked for, f[..., D] in the compute dtype."""
    x: Array = params["embed"]["embedding"][tokens].astype(config.dtype)
    return x * jnp.asarray(math.sqrt(config.d_model), x.dtype) if config.scale_embeddings else x


def final_norm(config: DecoderConfig, params: PyTree, x: Array) -> Array:
    """RMSNorm before the unembedding, f[..., D] -> f[..., D]."""
    norm = RMSNorm(config.norm_eps, config.norm_offset)
    y: Any = norm.apply({"params": params["final_norm"]}, x)
    return y


def unembedding(config: DecoderConfig, params: PyTree) -> Array:
    """The matrix from hidden states to logits, f32[D, V]."""
    if config.tie_embeddings:
        kernel: Array = params["embed"]["embedding"].T
    else:
        kernel = params["unembed"]["kernel"]
    return kernel


def project(hidden: Array, kernel: Array) -> Array:
    """f[..., D] in the compute dtype times f32[D, V], accumulated in f32[..., V]."""
    return jnp.matmul(hidden, kernel.astype(hidden.dtype), preferred_element_type=jnp.float32)


def logits(config: DecoderConfig, params: PyTree, hidden: Array) -> Array:
    """Next-token logits, f32[..., V]; -inf for the ids that no tokenizer gives.

    Args:
        config: for `tie_embeddings` and `used_vocab`.
        params: parameters of the decoder.
        hidden: f[..., D], as `forward` returns it.
    """
    return vocabulary_logits(config, hidden, unembedding(config, params))


def vocabulary_logits(config: DecoderConfig, hidden: Array, kernel: Array) -> Array:
    """`logits` by a matrix f32[D, V] that `unembedding` gave."""
    scores = soft_cap(project(hidden, kernel), config.logit_softcap)
    if config.used_vocab is None:
        return scores
    return jnp.where(jnp.arange(config.vocab_size) < config.used_vocab, scores, -jnp.inf)


@partial(jax.jit, static_argnums=0)  # a step that runs the model several times traces it once
def forward(
    config: DecoderConfig,
    params: PyTree,
    tokens: Array,
    *,
    mask: Array | None = None,
    segment: Array | None = None,
    branch: Array | None = None,
    prefix: KV | None = None,
) -> tuple[Array, KV]:
    """Hidden states of every token, after the final norm.

    Args:
        config: the shape.
        params: nested dict of f32, layers stacked on a leading axis.
        tokens: i32[B, S]; with `prefix`, i32[B, K, S]: K continuations of each prompt.
        mask: bool, like `tokens`: which are tokens; left- or right-padding. All by default.
        segment: i32[B, S]: sequences packed into a row; 0 is padding. Not with
            `mask` or `prefix`.
        branch: i32[B, S], with `segment`: 0 in the beginning of a sequence, 1, 2, ... in what
            continues it; a continuation sees the beginning and itself.
        prefix: keys and values of B prompts.

    Returns:
        f[B, (K,) S, D], and the keys and values of the tokens themselves (only
        without `prefix`; with it, of the first continuation).

    Raises:
        InputError: if S, and the columns of the prompts, exceed the context of the
            model, or `segment` comes with `mask` or `prefix`, or `branch` without it or with
            attention in chunks.
    """
    hidden, kv, _ = forward_balanced(
        config, params, tokens, mask=mask, segment=segment, branch=branch, prefix=prefix
    )
    return hidden, kv


def forward_balanced(
    config: DecoderConfig,
    params: PyTree,
    tokens: Array,
    *,
    mask: Array | None = None,
    segment: Array | None = None,
    branch: Array | None = None,
    prefix: KV | None = None,
) -> tuple[Array, KV, Array | None]:
    """`forward`, and how evenly the experts are used: `load_balance`, None without experts."""
    if segment is not None and (mask is not None or prefix is not None):
        raise InputError("segment: packed rows take neither a mask nor a prefix; leave them out")
    if branch is not None and (segment is None or config.attention_chunk is not None):
        raise InputError("branch: needs packed rows and whole attention; set attention_chunk None")
    tokens_3d = tokens if prefix is not None else tokens[:, None]
    b, k, s = tokens_3d.shape
    columns = s if prefix is None else s + prefix.mask.shape[-1]
    if columns > config.max_positions:
        raise InputError(
            f"tokens: {columns} columns exceed the model's context of {config.max_positions};"
            " truncate them"
        )
    if segment is not None:
        valid = segment != 0
        positions = segment_positions(segment)[:, None]
        if branch is not None:
            positions = within(segment, branch).sum(-1)[:, None] - 1
    else:
        valid = jnp.ones(tokens.shape, bool) if mask is None else mask
        positions = jnp.maximum(jnp.cumsum(valid, -1) - 1, 0).reshape(b, k, s)
    prefix_kv = None
    if prefix is not None:
        positions = positions + prefix.mask.sum(-1)[:, None, None]
        prefix_kv = (prefix.k, prefix.v)
    prompt = None if prefix is None else prefix.mask
    masks, apart = visible(config, positions, valid.reshape(b, k, s), segment, prompt, branch)
    x = embed(config, params, tokens_3d)
    rope = rope_table(config, positions)
    out: Any = Layers(config).apply(
        {"params": {"layers": params["layers"]}},
        *(x, prefix_kv, rope, masks, apart),
        mutable=[ROUTING],
    )
    (x, (keys, values)), routing = out
    hidden = final_norm(config, params, x).reshape(*tokens.shape, config.d_model)
    kv = KV(keys[:, :, :, 0], values[:, :, :, 0], valid.reshape(b, k, s)[:, 0])
    return hidden, kv, load_balance(routing, valid) if config.n_experts else None
