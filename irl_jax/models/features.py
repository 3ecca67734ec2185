"""A decoder's hidden states as features of completions."""

from __future__ import annotations

from functools import partial

import jax
from jax import Array

from irl_jax.models.decoder import DecoderConfig
from irl_jax.models.heads import pool
from irl_jax.models.logprob import completion_hidden
from irl_jax.types import Prompt, PyTree


def completion_states(
    config: DecoderConfig, params: PyTree, context: Prompt, action: Array, *, layers: int
) -> Array:
    """Hidden states of completions after the first layers, f[B, K, T, D].

    Args:
        config: the shape.
        params: parameters of the decoder.
        context: `Prompt` of B rows.
        action: i32[B, K, T], right-padded.
        layers: how many layers are computed; all of them if there are fewer.
    """
    layers = min(layers, config.n_layers)
    first = jax.tree.map(lambda x: x[:layers], params["layers"])
    shallow = config.shallow(layers)
    return completion_hidden(shallow, {**params, "layers": first}, context, action)


@partial(jax.jit, static_argnames=("config", "layers"))
def completion_features(
    config: DecoderConfig,
    params: PyTree,
    context: Prompt,
    action: Array,
    mask: Array,
    *,
    layers: int,
) -> Array:
    """The mean of `completion_states` over a completion's tokens, f32[B, K, D].

    Args:
        config: the shape.
        params: parameters of the decoder.
        context: `Prompt` of B rows.
        action: i32[B, K, T], right-padded.
        mask: bool[B, K, T].
        layers: see `completion_states`.
    """
    return pool(completion_states(config, params, context, action, layers=layers), mask)
