"""A small decoder that reads what a player of Kuhn poker knows and writes one token, its action."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from irl_jax.models.decoder import DecoderConfig, forward, logits
from irl_jax.recipes.self_play import Logits
from irl_jax.types import PyTree

PASS, BET, CARD, BEGIN = 0, 1, 2, 5  # tokens; the cards are 2, 3, 4
DONE = ((BEGIN, BEGIN), (BEGIN, PASS), (BEGIN, BET), (PASS, BET))  # as observations number it
SETS = tuple((CARD + card, *done) for card in range(3) for done in DONE)


def decoder_config(width: int) -> DecoderConfig:
    """One layer of two heads over three tokens; the vocabulary is actions, cards and a beginning.

    Args:
        width: of the residual stream, even.
    """
    return DecoderConfig(
        vocab_size=6,
        d_model=width,
        n_layers=1,
        n_heads=2,
        n_kv_heads=2,
        head_dim=width // 2,
        d_ff=2 * width,
        max_positions=3,
    )


def decided(config: DecoderConfig, params: PyTree) -> Array:
    """Logits of passing and betting as the next token, in every information set, f32[12, 2]."""
    hidden, _ = forward(config, params, jnp.array(SETS))
    return logits(config, params, hidden[:, -1])[:, :CARD]


def as_policy(config: DecoderConfig, params: PyTree) -> Logits:
    """The decoder as a policy of `recipes.self_play`, which reads the 12 strings once an update."""
    every = decided(config, params)
    return lambda observation: every[observation]
