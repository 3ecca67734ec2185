"""A Llama-family decoder: GQA, RoPE, RMSNorm, SwiGLU; scan over layers; shared prompts.

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
from dataclasses import dataclass
from functools import partial
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
from jax import Array

from irl_jax.masking import segment_positions
from irl_jax.models.attention import attend
from irl_jax.models.linear import Linear
from irl_jax.models.sharding import BATCH, constrain
from irl_jax.types import InputError, PyTree

DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class RopeScaling:
    """Frequency scaling of Llama 3.1 (Grattafiori et al. 2024, arXiv 2407.21783)."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_max_positions: int


@dataclass(frozen=True)
class DecoderConfig:
    """The shape of a decoder.

    Attributes:
        vocab_size: V.
        d_model: D, width of the residual stream.
        n_layers: L.
        n_heads: query heads.
        n_kv_heads: key and value heads; divides `n_heads`.
        head_dim: H, even.
        d_ff: F, width of the gated MLP.
        max_positions: context length in tokens.
        rope_theta: base of the rotary frequencies.
        rope_scaling: Llama 3.1 frequency scaling, if any.
        norm_eps: epsilon of RMSNorm.
        tie_embeddings: whether the unembedding is the embedding.
        attention_bias: whether q, k and v have a bias (Qwen2).
        used_vocab: the ids below it are those that a tokenizer gives; rows of the
            embedding from there on are padding, and never predicted. All by default.
        remat: keep only the input of each block for the backward pass and recompute
            the rest; otherwise the results of matmuls are kept and only what lies
            between them is recomputed, which is as fast as keeping everything.
        dtype: compute dtype of the blocks; parameters and log-probs stay f32.
    """

    vocab_size: int
    d_model: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    d_ff: int
    max_positions: int
    rope_theta: float = 10_000.0
    rope_scaling: RopeScaling | None = None
    norm_eps: float = 1e-5
    tie_embeddings: bool = True
    attention_bias: bool = False
    used_vocab: int | None = None
    remat: bool = False
    dtype: str = "float32"

    def __post_init__(self) -> None:
        """Checks that the heads fit and the dtype is known.

        Raises:
            InputError: if `n_kv_heads` does not divide `n_heads`, `head_dim` is odd,
                `used_vocab` is no part of the vocabulary, or `dtype` is not one of
                `DTYPES`.
        """
        if self.used_vocab is not None and not 1 <= self.used_vocab <= self.vocab_size:
            raise InputError(
                f"used_vocab: expected 1 to {self.vocab_size} (vocab_size), got {self.used_vocab}"
            )
        if self.dtype not in DTYPES:
            raise InputError(f"dtype: expected one of {', '.join(DTYPES)}, got {self.dtype!r}")
        if self.n_heads % self.n_kv_heads:
            raise InputError(
                f"n_kv_heads: {self.n_kv_heads} does not divide n_heads {self.n_heads}"
            )
        if self.head_dim % 2:
            raise InputError(f"head_dim: RoPE needs an even size, got {self.head_dim}")


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


def rope_table(config: DecoderConfig, positions: Array) -> tuple[Array, Array]:
    """cos and sin of the rotary angles, f32[..., H / 2].

    Args:
        config: for theta, H and the scaling.
        positions: i32[...].
    """
    half = config.head_dim // 2
    freq = config.rope_theta ** (-jnp.arange(half, dtype=jnp.float32) / half)
    if config.rope_scaling is not None:
        s = config.rope_scaling
        rotations = s.original_max_positions * freq / (2 * math.pi)
        smooth = (rotations - s.low_freq_factor) / (s.high_freq_factor - s.low_freq_factor)
        smooth = jnp.clip(smooth, 0.0, 1.0)
        freq = (1 - smooth) * freq / s.factor + smooth * freq
    angle = positions[..., None].astype(jnp.float32) * freq
    return jnp.cos(angle), jnp.sin(angle)


def rotate(x: Array, cos: Array, sin: Array) -> Array:
    """Rotates (x[i], x[i + H/2]) by the angle of frequency i; x is f[..., heads, H]."""
    x1, x2 = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    cos, sin = cos[..., None, :], sin[..., None, :]
    return jnp.concatenate([x1 * cos - x2 * sin, x2 * cos + x1 * sin], -1).astype(x.dtype)


class RMSNorm(nn.Module):
    """x / √(mean x² + ε) · scale, in f32."""

    eps: float

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """f[..., D] -> f[..., D]."""
        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],))
        y = x.astype(jnp.float32)
        y *= jax.lax.rsqrt(jnp.mean(y * y, -1, keepdims=True) + self.eps)
        return (y * scale).astype(x.dtype)


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
        masks: list[Array],
        prefix: tuple[Array, Array] | None,
        cache: tuple[Array, Array, Array] | None,
    ) -> tuple[Array, tuple[Array, Array]]:
        """f[B, K, S, D] -> f[B, K, S, D] and its own keys and values."""
        c = self.config
        b, k, s, _ = x.shape
        groups, per_group = c.n_kv_heads, c.n_heads // c.n_kv_heads
        project = lambda name, heads: Linear(heads * c.head_dim, c.attention_bias, name=name)(
            x
        ).reshape(b, k, s, heads, c.head_dim)
        query = rotate(project("q", c.n_heads), *rope)
        query = query.reshape(b, k, s, groups, per_group, c.head_dim).transpose(0, 3, 1, 4, 2, 5)
        key = rotate(project("k", groups), *rope).transpose(0, 3, 1, 4, 2)
        value = project("v", groups).transpose(0, 3, 1, 2, 4)
        if cache is not None:
            cached_key, cached_value, index = cache
            key = write_columns(cached_key, key, index, axis=4)
            value = write_columns(cached_value, value, index, axis=3)
            # Otherwise XLA writes once more where they are read, and so copies the whole cache.
            key, value = jax.lax.optimization_barrier((key, value))
        keys, values = [key], [value]
        if prefix is not None:
            keys, values = [prefix[0], key], [prefix[1], value]
        out = attend(query, keys, values, masks)
        out = out.transpose(0, 2, 4, 1, 3, 5).reshape(b, k, s, c.n_heads * c.head_dim)
        return Linear(c.d_model, name="o")(out), (key, value)


class MLP(nn.Module):
    """(silu(x W_gate) · x W_up) W_down."""

    config: DecoderConfig

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """f[..., D] -> f[..., D]."""
        gate = Linear(self.config.d_ff, name="gate")(x)
        up = Linear(self.config.d_ff, name="up")(x)
        return Linear(self.config.d_model, name="down")(nn.silu(gate) * up)


class Block(nn.Module):
    """One layer: pre-norm attention and pre-norm MLP."""

    config: DecoderConfig

    @nn.compact
    def __call__(
        self,
        x: Array,
        prefix: tuple[Array, Array] | None,
        rope: tuple[Array, Array],
        masks: list[Array],
        cache: tuple[Array, Array, Array] | None = None,
    ) -> tuple[Array, tuple[Array, Array]]:
        """f[B, K, S, D] -> f[B, K, S, D] and the layer's own keys and values."""
        c = self.config
        x = constrain(x, BATCH)
        normed = RMSNorm(c.norm_eps, name="attn_norm")(x)
        out, kv = Attention(c, name="attn")(normed, rope, masks, prefix, cache)
        x = x + out
        x = x + MLP(c, name="mlp")(RMSNorm(c.norm_eps, name="mlp_norm")(x))
        return x, kv


class Layers(nn.Module):
    """L blocks as one `lax.scan`: compile time and code size do not grow with L."""

    config: DecoderConfig

    @nn.compact
    def __call__(
        self,
        x: Array,
        prefix: tuple[Array, Array] | None,
        rope: tuple[Array, Array],
        masks: list[Array],
    ) -> tuple[Array, tuple[Array, Array]]:
        """f[B, K, S, D] -> f[B, K, S, D] and the keys and values of all layers."""
        policy = None if self.config.remat else jax.checkpoint_policies.dots_saveable
        block = nn.remat(Block, prevent_cse=False, policy=policy)
        scanned = nn.scan(
            block,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=(0, nn.broadcast, nn.broadcast),
            length=self.config.n_layers,
        )
        return scanned(self.config, name="layers")(x, prefix, rope, masks)


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
    params: dict[str, Any] = {
        "embed": {"embedding": normal(embed_key, (config.vocab_size, config.d_model))},
        "layers": layers["params"]["layers"],
        "final_norm": {"scale": jnp.ones(config.d_model)},
    }
    if not config.tie_embeddings:
        params["unembed"] = {"kernel": normal(unembed_key, (config.d_model, config.vocab_size))}
    return params


def embed(config: DecoderConfig, params: PyTree, tokens: Array) -> Array:
    """Rows of the embedding, f[..., D] in the compute dtype."""
    return params["embed"]["embedding"][tokens].astype(config.dtype)


def final_norm(config: DecoderConfig, params: PyTree, x: Array) -> Array:
    """RMSNorm before the unembedding, f[..., D] -> f[..., D]."""
    y: Any = RMSNorm(config.norm_eps).apply({"params": params["final_norm"]}, x)
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
    scores = project(hidden, kernel)
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
        prefix: keys and values of B prompts.

    Returns:
        f[B, (K,) S, D], and the keys and values of the tokens themselves (only
        without `prefix`; with it, of the first continuation).

    Raises:
        InputError: if S, and the columns of the prompts, exceed the context of the
            model, or `segment` comes with `mask` or `prefix`.
    """
    if segment is not None and (mask is not None or prefix is not None):
        raise InputError("segment: packed rows take neither a mask nor a prefix; leave them out")
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
        same = (segment[:, :, None] == segment[:, None, :])[:, None]
    else:
        valid = jnp.ones(tokens.shape, bool) if mask is None else mask
        positions = jnp.maximum(jnp.cumsum(valid, -1) - 1, 0).reshape(b, k, s)
        same = jnp.ones((1, 1, 1, 1), bool)
    key_valid = valid.reshape(b, k, 1, s)
    own = (jnp.tri(s, dtype=bool) & key_valid & same)[:, None, :, None]
    masks, prefix_kv = [own], None
    if prefix is not None:
        positions = positions + prefix.mask.sum(-1)[:, None, None]
        masks = [prefix.mask[:, None, None, None, None, :], own]
        prefix_kv = (prefix.k, prefix.v)
    x = embed(config, params, tokens_3d)
    rope = rope_table(config, positions)
    out: Any = Layers(config).apply(
        {"params": {"layers": params["layers"]}}, x, prefix_kv, rope, masks
    )
    x, (keys, values) = out
    hidden = final_norm(config, params, x).reshape(*tokens.shape, config.d_model)
    return hidden, KV(keys[:, :, :, 0], values[:, :, :, 0], valid.reshape(b, k, s)[:, 0])
