"""Batched sampling of K completions of each prompt, with a KV cache, in one jit."""

from __future__ import annotations

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array

from irl_jax.models.decoder import DecoderConfig, logits
from irl_jax.models.decoding import decode_step, init_cache, prefill
from irl_jax.rollout.guide import LogitsProcessor
from irl_jax.rollout.sampling import Sampling, draw
from irl_jax.types import Group, InputError, Prompt, PyTree


@partial(
    jax.jit, static_argnames=("config", "completions", "max_new_tokens", "sampling", "eos_ids")
)
def generate(
    config: DecoderConfig,
    params: PyTree,
    context: Prompt,
    key: Array,
    *,
    completions: int,
    max_new_tokens: int,
    sampling: Sampling,
    eos_ids: tuple[int, ...],
    guides: tuple[LogitsProcessor, ...] = (),
    numbers: Array | None = None,
) -> Group:
    """Samples completions until each has ended with EOS or has `max_new_tokens` tokens.

    A prompt is encoded once; its completions attend to the same keys and values.
    The loop stops as soon as every completion has ended.

    Args:
        config: the shape.
        params: parameters of the decoder (LoRA merged).
        context: `Prompt` of B rows.
        key: typed PRNG key.
        completions: K, completions of each prompt.
        max_new_tokens: T.
        sampling: temperature, top-k, top-p.
        eos_ids: tokens that end a completion; the EOS belongs to it.
        guides: change the scores of the next token, one after the other, before
            temperature and truncation.
        numbers: i32[B], of the prompts; each then draws by a key of its own, whatever
            batch it is in.

    Returns:
        `Group` of B x K, T: after the end of a completion its tokens are
        `eos_ids[0]` with the mask false. `logp` is the log-prob under the distribution
        drawn from, guides, temperature and truncation included. `reward` is zero.

    Raises:
        InputError: if prompt and completion exceed the context of the model, a number
            is below 1, or there is no EOS.
    """
    check_request(config, context, completions, max_new_tokens, eos_ids)
    b = context.tokens.shape[0]
    first, prefix, layers = prefill(config, params, context)
    first = jnp.broadcast_to(first[:, None], (b, completions, first.shape[-1]))
    eos = jnp.asarray(eos_ids, jnp.int32)
    fold_in = jax.random.fold_in
    if numbers is not None:
        key = jax.vmap(fold_in, (None, 0))(key, numbers)
        fold_in = jax.vmap(fold_in, (0, None))

    def sample(index: Array, hidden: Array, group: Group, states: tuple) -> Group:
        """Draws column `index` of the completions that have not ended."""
        scores = logits(config, params, hidden)
        for guide, state in zip(guides, states, strict=True):
            scores = guide.adjust(scores, index, state)
        token, logp = draw(fold_in(key, index), scores, sampling)
        alive = ~group.terminated
        token = jnp.where(alive, token, eos[0])
        return dataclasses.replace(
            group,
            action=group.action.at[..., index].set(token),
            mask=group.mask.at[..., index].set(alive),
            logp=group.logp.at[..., index].set(jnp.where(alive, logp, 0.0)),
            terminated=group.terminated | (alive & jnp.isin(token, eos)),
        )

    def unfinished(carry: tuple) -> Array:
        index, group, _, _ = carry
        return (index < max_new_tokens) & ~group.terminated.all()

    def extend(carry: tuple) -> tuple:
        index, group, cache, states = carry
        token = jax.lax.dynamic_index_in_dim(group.action, index - 1, axis=-1, keepdims=False)
        hidden, cache = decode_step(config, params, layers, token, index - 1, prefix, cache)
        states = tuple(
            guide.advance(token, index - 1, state)
            for guide, state in zip(guides, states, strict=True)
        )
        return index + 1, sample(index, hidden, group, states), cache, states

    states = tuple(guide.start(context, completions, max_new_tokens) for guide in guides)
    group = blank(context, completions, max_new_tokens, eos_ids)
    group = sample(jnp.int32(0), first, group, states)
    cache = init_cache(config, b, completions, max_new_tokens)
    carry = (jnp.int32(1), group, cache, states)
    return jax.lax.while_loop(unfinished, extend, carry)[1]


def check_request(
    config: DecoderConfig,
    context: Prompt,
    completions: int,
    max_new_tokens: int,
    eos_ids: tuple[int, ...],
) -> None:
    """Checks what `generate` and its kin are asked for.

    Raises:
        InputError: if prompt and completion exceed the context of the model, a number
            is below 1, or there is no EOS.
    """
    for name, value in (("completions", completions), ("max_new_tokens", max_new_tokens)):
        if value < 1:
            raise InputError(f"{name}: must be at least 1, got {value}")
    if not eos_ids:
        raise InputError("eos_ids: name at least one token that ends a completion")
    p = context.tokens.shape[1]
    if p + max_new_tokens > config.max_positions:
        raise InputError(
            f"max_new_tokens: {p} prompt columns + {max_new_tokens} exceed the model's context "
            f"of {config.max_positions}; shorten one of them"
        )


def blank(
    context: Prompt, completions: int, max_new_tokens: int, eos_ids: tuple[int, ...]
) -> Group:
    """A `Group` of completions without tokens."""
    b = context.tokens.shape[0]
    shape = (b, completions, max_new_tokens)
    return Group(
        context=context,
        action=jnp.full(shape, jnp.int32(eos_ids[0])),
        mask=jnp.zeros(shape, bool),
        logp=jnp.zeros(shape, jnp.float32),
        reward=jnp.zeros(shape[:2], jnp.float32),
        terminated=jnp.zeros(shape[:2], bool),
    )
