"""Speculative decoding: a small model writes ahead, the policy checks, the samples are its own.

A pass of the policy over γ + 1 tokens costs little more than one over a single token, as long
as reading its weights is what takes the time. Drafts are accepted such that what comes out is
distributed as if the policy had written it alone.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jax import Array

from irl_jax.models.decoder import DecoderConfig, logits
from irl_jax.models.decoding import decode_columns, decode_step, init_cache, prefill
from irl_jax.rollout.generate import blank, check_request
from irl_jax.rollout.sampling import Sampling, draw, log_probs
from irl_jax.types import Group, InputError, Prompt, PyTree


@flax.struct.dataclass
class Speculation:
    """What was written, and what it took.

    Attributes:
        group: the completions.
        calls: i32[B, K], passes of the policy over drafts; the first token comes without
            one. Tokens a call: `(group.mask.sum() - B K) / calls.sum()`.
        accepted: i32[B, K], drafted tokens that the policy accepted, those behind an EOS
            included.
    """

    group: Group
    calls: Array
    accepted: Array


@partial(
    jax.jit,
    static_argnames=(
        "config", "draft_config", "completions", "draft_tokens", "max_new_tokens", "sampling",
        "eos_ids",
    ),
)  # fmt: skip
def speculate(
    config: DecoderConfig,
    params: PyTree,
    draft_config: DecoderConfig,
    draft_params: PyTree,
    context: Prompt,
    key: Array,
    *,
    completions: int,
    draft_tokens: int,
    max_new_tokens: int,
    sampling: Sampling,
    eos_ids: tuple[int, ...],
) -> Speculation:
    """Samples like `generate`, with fewer passes of the policy.

    The draft model writes γ tokens zᵢ ~ q; the policy gives p for all of them in one pass.
    zᵢ is accepted with probability min(1, p(zᵢ) / q(zᵢ)); the first that is refused is drawn
    anew from max(0, p − q) / Z, and if none is, one more from p. Every pass adds between 1
    and γ + 1 tokens. Completions go ahead each at its own pace.

    Args:
        config: the shape of the policy.
        params: its parameters.
        draft_config: the shape of the draft model; the same vocabulary.
        draft_params: its parameters.
        context: `Prompt` of B rows.
        key: typed PRNG key.
        completions: K.
        draft_tokens: γ.
        max_new_tokens: T.
        sampling: temperature, top-k, top-p, of both models: p and q are what is drawn from.
        eos_ids: tokens that end a completion.

    Returns:
        `Speculation`, whose group is distributed as that of `generate`, `logp` included.

    Raises:
        InputError: a number is below 1, there is no EOS, the vocabularies differ, or prompt
            and completion exceed the context of a model.

    Reference: Leviathan et al. 2022, "Fast Inference from Transformers via Speculative
    Decoding", arXiv 2211.17192, algorithm 1.
    """
    check(config, draft_config, context, completions, draft_tokens, max_new_tokens, eos_ids)
    b, room = context.tokens.shape[0], max_new_tokens + draft_tokens
    first, prefix, layers = prefill(config, params, context)
    _, draft_prefix, draft_layers = prefill(draft_config, draft_params, context)

    write = partial(
        draft, draft_config, draft_params, draft_layers, draft_prefix, sampling, draft_tokens
    )

    def unfinished(carry: tuple) -> Array:
        _, out, length, *_ = carry
        return (~out.group.terminated & (length < max_new_tokens)).any()

    def extend(carry: tuple) -> tuple:
        count, out, length, cache, draft_cache = carry
        draft_key, check_key = jax.random.split(jax.random.fold_in(key, count))
        last = jnp.take_along_axis(out.group.action, length[..., None] - 1, axis=-1)
        tokens, logq, draft_cache = write(draft_key, last[..., 0], length - 1, draft_cache)
        hidden, cache = decode_columns(
            config, params, layers, jnp.concatenate([last, tokens], -1), length - 1, prefix,
            cache,
        )  # fmt: skip
        logp = log_probs(logits(config, params, hidden), sampling)
        accepted, tokens = verify(check_key, tokens, logq, logp)
        going = ~out.group.terminated & (length < max_new_tokens)
        group, length = append(out.group, length, tokens, logp, accepted, going, eos_ids)
        return count + 1, Speculation(
            group=group,
            calls=out.calls + going,
            accepted=out.accepted + jnp.where(going, accepted, 0),
        ), length, cache, draft_cache  # fmt: skip

    group = blank(context, completions, max_new_tokens, eos_ids)
    zero = jnp.zeros((b, completions), jnp.int32)
    logp = log_probs(logits(config, params, first), sampling)[:, None]
    logp = jnp.broadcast_to(logp, (b, completions, logp.shape[-1]))
    token, _ = draw(jax.random.fold_in(key, 0), logp, Sampling())
    group, length = append(
        group, zero, token[..., None], logp[..., None, :], zero, zero == 0, eos_ids
    )
    carry = (
        jnp.int32(1), Speculation(group, zero, zero), length,
        init_cache(config, b, completions, room),
        init_cache(draft_config, b, completions, room),
    )  # fmt: skip
    return jax.lax.while_loop(unfinished, extend, carry)[1]


def check(
    config: DecoderConfig,
    draft_config: DecoderConfig,
    context: Prompt,
    completions: int,
    draft_tokens: int,
    max_new_tokens: int,
    eos_ids: tuple[int, ...],
) -> None:
    """Refuses what `speculate` cannot do; its arguments.

    Raises:
        InputError: as `speculate`.
    """
    for shape in (config, draft_config):
        check_request(shape, context, completions, max_new_tokens, eos_ids)
    if draft_tokens < 1:
        raise InputError(f"draft_tokens: must be at least 1, got {draft_tokens}")
    if config.vocab_size != draft_config.vocab_size:
        raise InputError(
            f"draft_config: its vocabulary has {draft_config.vocab_size} tokens, the policy's "
            f"{config.vocab_size}; both must be the same"
        )


def draft(
    config: DecoderConfig,
    params: PyTree,
    layers: PyTree,
    prefix: PyTree,
    sampling: Sampling,
    count: int,
    key: Array,
    token: Array,
    start: Array,
    cache: PyTree,
) -> tuple[Array, Array, PyTree]:
    """Writes γ tokens ahead; reads the last one, too.

    Args:
        config: the shape of the draft model.
        params: its parameters.
        layers: of `prefill`.
        prefix: of `prefill`.
        sampling: what the draft model is drawn from.
        count: γ.
        key: typed PRNG key.
        token: i32[B, K], the last that was written.
        start: i32[B, K], its place in the completion.
        cache: of the draft model.

    Returns:
        The tokens i32[B, K, γ], log q f32[B, K, γ, V], and the cache.
    """

    def one(carry: tuple, i: Array) -> tuple:
        token, cache = carry
        hidden, cache = decode_step(config, params, layers, token, start + i, prefix, cache)
        logq = log_probs(logits(config, params, hidden), sampling)
        token, _ = draw(jax.random.fold_in(key, i), logq, Sampling())
        return (token, cache), (token, logq)

    out: Any = jax.lax.scan(one, (token, cache), jnp.arange(count + 1))
    (_, cache), drafted = out
    tokens, logq = jax.tree.map(lambda x: jnp.moveaxis(x, 0, 2)[:, :, :-1], drafted)
    return tokens, logq, cache


def verify(key: Array, tokens: Array, logq: Array, logp: Array) -> tuple[Array, Array]:
    """How many drafted tokens are accepted, and the tokens with the one that follows them.

    Args:
        key: typed PRNG key.
        tokens: i32[..., γ], drawn from q.
        logq: f32[..., γ, V], the distributions they were drawn from.
        logp: f32[..., γ + 1, V], those of the policy at the same places and the next.

    Returns:
        i32[...], a in 0..γ; and i32[..., γ + 1], of which the first a are the drafted ones,
        number a the one that follows, the others without meaning.
    """
    accept_key, key = jax.random.split(key)
    at = lambda x, i: jnp.take_along_axis(x, i[..., None], axis=-1)[..., 0]
    ratio = at(logp[..., :-1, :], tokens) - at(logq, tokens)
    uniform = jax.random.uniform(accept_key, tokens.shape)
    accepted = jnp.cumprod(jnp.log(uniform) < ratio, axis=-1).sum(-1)
    place = accepted[..., None, None]
    p = jnp.exp(jnp.take_along_axis(logp, place, axis=-2)[..., 0, :])
    nothing = jnp.full_like(logp[..., :1, :], -jnp.inf)
    q = jnp.take_along_axis(jnp.concatenate([logq, nothing], -2), place, axis=-2)
    rest = jnp.maximum(p - jnp.exp(q[..., 0, :]), 0.0)
    rest = jnp.where(rest.sum(-1, keepdims=True) > 0, rest, p)  # p = q up to rounding
    extra, _ = draw(key, jnp.log(rest), Sampling())
    padded = jnp.concatenate([tokens, extra[..., None]], axis=-1)
    before = jnp.arange(padded.shape[-1]) < accepted[..., None]
    return accepted, jnp.where(before, padded, extra[..., None])


def append(
    group: Group,
    length: Array,
    tokens: Array,
    logp: Array,
    accepted: Array,
    going: Array,
    eos_ids: tuple[int, ...],
) -> tuple[Group, Array]:
    """Writes a + 1 tokens at the end of each completion, up to an EOS or its last column.

    Args:
        group: B x K completions.
        length: i32[B, K], tokens written.
        tokens: i32[B, K, S].
        logp: f32[B, K, S, V], the distributions they follow.
        accepted: i32[B, K], a.
        going: bool[B, K], completions that have not ended.
        eos_ids: tokens that end a completion.

    Returns:
        The group, and the new lengths.
    """
    t, s = group.action.shape[-1], tokens.shape[-1]
    offset = jnp.arange(s)
    is_eos = jnp.isin(tokens, jnp.asarray(eos_ids, jnp.int32))
    ended = jnp.cumsum(is_eos, axis=-1) - is_eos > 0
    new = (offset <= accepted[..., None]) & (length[..., None] + offset < t) & ~ended
    new = new & going[..., None]
    from_column = jnp.arange(t) - length[..., None]  # which of the new tokens a column takes
    source = jnp.clip(from_column, 0, s - 1)
    pick = lambda x: jnp.take_along_axis(x, source, axis=-1)
    here = pick(new) & (from_column >= 0) & (from_column < s)
    chosen = jnp.take_along_axis(logp, tokens[..., None], axis=-1)[..., 0]
    group = dataclasses.replace(
        group,
        action=jnp.where(here, pick(tokens), group.action),
        mask=group.mask | here,
        logp=jnp.where(here, pick(chosen), group.logp),
        terminated=group.terminated | (new & is_eos).any(-1),
    )
    return group, length + new.sum(-1)
