"""Rotary position embeddings, and the scalings that stretch them to longer contexts.

Reference: Su et al. 2021, "RoFormer" (RoPE), arXiv 2104.09864; Grattafiori et al. 2024, "The
Llama 3 Herd of Models", arXiv 2407.21783; Chen et al. 2023, "Extending Context Window of Large
Language Models via Positional Interpolation", arXiv 2306.15595; Peng et al. 2023, "YaRN:
Efficient Context Window Extension of Large Language Models", arXiv 2309.00071.

Differs: YaRN goes over from one frequency to the other linearly in the frequency's index, as
its authors' code does and every model that uses it; equation 18 of the paper has it linear in
the number of rotations.
"""

from __future__ import annotations

import math

import jax.numpy as jnp
from jax import Array

from irl_jax.models.decoder_config import (
    DecoderConfig,
    LinearScaling,
    RopeScaling,
    YarnScaling,
)


def rope_table(config: DecoderConfig, positions: Array) -> tuple[Array, Array]:
    """cos and sin of the rotary angles, f32[..., rotary_dim / 2].

    Where layers differ (`config.ropes`) they are f32[3, ..., rotary_dim / 2]: of the global
    and the local frequencies, and of no rotation, in the order of `decoder_config.ROPES`.

    Args:
        config: for the bases, the rotated size and the scaling.
        positions: i32[...].
    """
    half = (config.rotary_dim or config.head_dim) // 2
    freq = _frequencies(config.rope_theta, half)
    freq, factor = _scaled(freq, config)
    angle = positions[..., None].astype(jnp.float32) * freq
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    if factor != 1.0:
        cos, sin = factor * cos, factor * sin
    if not config.ropes:
        return cos, sin
    local = positions[..., None].astype(jnp.float32) * _frequencies(config.local_rope_theta, half)
    return (
        jnp.stack([cos, jnp.cos(local), jnp.ones_like(cos)]),
        jnp.stack([sin, jnp.sin(local), jnp.zeros_like(sin)]),
    )


def rotate(x: Array, cos: Array, sin: Array) -> Array:
    """Rotates (x[i], x[i + R/2]) by the angle of frequency i; elements from R on are kept.

    Args:
        x: f[..., heads, H].
        cos: f32[..., R / 2].
        sin: f32[..., R / 2].
    """
    turned = 2 * cos.shape[-1]
    if turned < x.shape[-1]:
        return jnp.concatenate([rotate(x[..., :turned], cos, sin), x[..., turned:]], -1)
    x1, x2 = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    cos, sin = cos[..., None, :], sin[..., None, :]
    return jnp.concatenate([x1 * cos - x2 * sin, x2 * cos + x1 * sin], -1).astype(x.dtype)


def _frequencies(theta: float, half: int) -> Array:
    """theta^(-i / half), f32[half], in radians a token."""
    return theta ** (-jnp.arange(half, dtype=jnp.float32) / half)


def _scaled(freq: Array, config: DecoderConfig) -> tuple[Array, float]:
    """Frequencies after the scaling of a model, and the factor of cos and sin."""
    scaling = config.rope_scaling
    if isinstance(scaling, RopeScaling):
        rotations = scaling.original_max_positions * freq / (2 * math.pi)
        smooth = (rotations - scaling.low_freq_factor) / (
            scaling.high_freq_factor - scaling.low_freq_factor
        )
        smooth = jnp.clip(smooth, 0.0, 1.0)
        return (1 - smooth) * freq / scaling.factor + smooth * freq, 1.0
    if isinstance(scaling, LinearScaling):
        return freq / scaling.factor, 1.0
    if isinstance(scaling, YarnScaling):
        low, high = _yarn_limits(scaling, config.rope_theta, 2 * freq.shape[0])
        ramp = (jnp.arange(freq.shape[0], dtype=jnp.float32) - low) / (high - low)
        ramp = jnp.clip(ramp, 0.0, 1.0)
        return ramp * freq / scaling.factor + (1 - ramp) * freq, scaling.attention_factor
    return freq, 1.0


def _yarn_limits(scaling: YarnScaling, theta: float, size: int) -> tuple[float, float]:
    """Indices between which YaRN's frequencies go over from kept to divided.

    A frequency of index i turns `original_max_positions` · theta^(-2i / size) / 2π times.
    """
    index = lambda turns: (
        size
        * math.log(scaling.original_max_positions / (2 * math.pi * turns))
        / (2 * math.log(theta))
    )
    low, high = index(scaling.beta_fast), index(scaling.beta_slow)
    if scaling.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, size - 1)
    return low, high if high != low else high + 0.001
