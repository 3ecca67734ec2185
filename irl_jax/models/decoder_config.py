"""The shape of a decoder, and the switches in which families of models differ."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

from irl_jax.types import InputError

DTYPES = ("float32", "bfloat16", "float16")

Remat = Literal["auto", "none", "dots", "dots_no_batch", "full", "offload"]

CHOICES = {
    "dtype": DTYPES,
    "remat": get_args(Remat),
    "qk_norm": ("none", "head", "width"),
    "norms": ("pre", "post", "both"),
    "activation": ("silu", "gelu_tanh"),
}
"""Field -> the values it may have."""

ROPES = ("global", "local", "none")
"""Rotary frequencies that a layer may have."""


@dataclass(frozen=True)
class RopeScaling:
    """Frequency scaling of Llama 3.1 (Grattafiori et al. 2024, arXiv 2407.21783)."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_max_positions: int


@dataclass(frozen=True)
class LinearScaling:
    """Every frequency divided by a factor (Chen et al. 2023, arXiv 2306.15595)."""

    factor: float


@dataclass(frozen=True)
class YarnScaling:
    """Frequency scaling of YaRN (Peng et al. 2023, arXiv 2309.00071).

    Attributes:
        factor: s, the context length over the original one.
        original_max_positions: the original context length in tokens.
        beta_fast: frequencies that turn more often in the original context are kept.
        beta_slow: those that turn less often are divided by the factor.
        attention_factor: √(1/t), by which cos and sin are multiplied.
        truncate: whether the limits of the ramp are rounded outwards to whole indices.
    """

    factor: float
    original_max_positions: int
    beta_fast: float
    beta_slow: float
    attention_factor: float
    truncate: bool


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
        rope_scaling: of the frequencies, if any.
        norm_eps: epsilon of RMSNorm.
        tie_embeddings: whether the unembedding is the embedding.
        attention_bias: whether q, k and v have a bias (Qwen2).
        used_vocab: the ids below it are those that a tokenizer gives; rows of the
            embedding from there on are padding, and never predicted. All by default.
        remat: what of a block is kept for the backward pass, the rest is computed again:
            `none` computes nothing again; `dots` keeps the results of matmuls, which is as
            fast; `dots_no_batch` those of matmuls with weights, not attention's scores;
            `offload` keeps these in the host's memory; `full` keeps the block's input alone.
            `auto` is `dots`, and `dots_no_batch` with `attention_chunk`.
        attention_chunk: queries, and keys, that attention holds the scores of at a time, so
            that its memory grows with the length; None: of all. Decoding holds all.
        dtype: compute dtype of the blocks; parameters and log-probs stay f32.
        family: the layout in which checkpoints of it are written, a `model_type` of
            `irl_jax.models.families`; "llama" is Llama, Mistral or Qwen2, as the other
            fields have it.
        output_bias: whether the projection after attention has a bias.
        mlp_bias: whether the three projections of the MLP have biases.
        qk_norm: RMSNorm of queries and keys: of each head (Qwen3), of their whole width
            (OLMo 2), or none.
        norms: RMSNorm before attention and MLP, after them (OLMo 2), or both (Gemma).
        norm_offset: whether RMSNorm multiplies by 1 + scale (Gemma).
        scale_embeddings: whether embeddings are multiplied by √D (Gemma).
        activation: of the gated MLP.
        query_scalar: attention scores are divided by its root; H by default.
        attention_softcap: c of c · tanh(score / c), of attention scores (Gemma 2).
        logit_softcap: c of c · tanh(logit / c).
        windows: for each layer, how many tokens a token sees, itself among them, None for
            all; empty if every layer sees all.
        ropes: for each layer, one of `ROPES`: frequencies of `rope_theta` and its scaling,
            of `local_rope_theta`, or no rotation; empty if all are global.
        local_rope_theta: base of the local frequencies.
        rotary_dim: how many elements of a head are rotated, even; H by default.
        n_experts: E, gated MLPs of width F in each layer; one MLP without a router if 0.
        experts_per_token: how many of them a token passes through.
        normalize_experts: whether the weights of a token's experts are made to sum to 1.
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
    rope_scaling: RopeScaling | LinearScaling | YarnScaling | None = None
    norm_eps: float = 1e-5
    tie_embeddings: bool = True
    attention_bias: bool = False
    used_vocab: int | None = None
    remat: str = "auto"
    attention_chunk: int | None = None
    dtype: str = "float32"
    family: str = "llama"
    output_bias: bool = False
    mlp_bias: bool = False
    qk_norm: str = "none"
    norms: str = "pre"
    norm_offset: bool = False
    scale_embeddings: bool = False
    activation: str = "silu"
    query_scalar: float | None = None
    attention_softcap: float | None = None
    logit_softcap: float | None = None
    windows: tuple[int | None, ...] = ()
    ropes: tuple[str, ...] = ()
    local_rope_theta: float = 10_000.0
    rotary_dim: int | None = None
    n_experts: int = 0
    experts_per_token: int = 0
    normalize_experts: bool = False

    def __post_init__(self) -> None:
        """Checks that the heads fit and every choice is known.

        Raises:
            InputError: if `n_kv_heads` does not divide `n_heads`, `head_dim` or
                `rotary_dim` does not fit RoPE, `used_vocab` is no part of the vocabulary,
                `attention_chunk` is below 1, a field is none of its `CHOICES`, `windows` or
                `ropes` are not one a layer, or a token has more experts than there are.
        """
        if self.used_vocab is not None and not 1 <= self.used_vocab <= self.vocab_size:
            raise InputError(
                f"used_vocab: expected 1 to {self.vocab_size} (vocab_size), got {self.used_vocab}"
            )
        if self.attention_chunk is not None and self.attention_chunk < 1:
            raise InputError(
                f"attention_chunk: expected at least 1 token, got {self.attention_chunk}"
            )
        for name, known in CHOICES.items():
            if (value := getattr(self, name)) not in known:
                raise InputError(f"{name}: expected one of {', '.join(known)}, got {value!r}")
        if self.n_heads % self.n_kv_heads:
            raise InputError(
                f"n_kv_heads: {self.n_kv_heads} does not divide n_heads {self.n_heads}"
            )
        if self.head_dim % 2:
            raise InputError(f"head_dim: RoPE needs an even size, got {self.head_dim}")
        turned = self.rotary_dim
        if turned is not None and (turned % 2 or not 0 < turned <= self.head_dim):
            raise InputError(
                f"rotary_dim: expected an even number up to head_dim {self.head_dim}, got {turned}"
            )
        if self.n_experts and not 1 <= self.experts_per_token <= self.n_experts:
            raise InputError(
                f"experts_per_token: expected 1 to n_experts {self.n_experts}, "
                f"got {self.experts_per_token}"
            )
        for name in ("windows", "ropes"):
            if (given := len(getattr(self, name))) not in (0, self.n_layers):
                raise InputError(f"{name}: expected one a layer ({self.n_layers}), got {given}")
        for rope in self.ropes:
            if rope not in ROPES:
                raise InputError(f"ropes: expected each of {', '.join(ROPES)}, got {rope!r}")
        for window in self.windows:
            if window is not None and window < 1:
                raise InputError(f"windows: expected at least 1 token, got {window}")

    def shallow(self, layers: int) -> DecoderConfig:
        """The shape of its first layers alone."""
        return replace(
            self, n_layers=layers, windows=self.windows[:layers], ropes=self.ropes[:layers]
        )
