"""Guides: what changes the scores of the next token while a policy is sampled.

A guide has a state for each completion (a cache, the tokens so far), so that looking at a
few candidates for the next token costs a few tokens, not the whole completion again.
Reward-guided decoding and controlled decoding are one rule, `rescore`, under two kinds of
critics; which of the two it is depends on what the critic was trained to say of a prefix.
`MixtureGuide` has another policy in place of a critic.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import flax.struct
import jax
import jax.numpy as jnp
from jax import Array

from irl_jax.models.decoder import KV, DecoderConfig, logits
from irl_jax.models.decoding import Cache, decode_columns, decode_step, init_cache, prefill
from irl_jax.models.heads import apply_scalar_head
from irl_jax.types import InputError, Prompt, PyTree

# context, action i32[B, K, T], mask bool[B, K, T] -> f32[B, K]
Value = Callable[[Prompt, Array, Array], Array]

Reading = tuple[list[PyTree], list[KV], Cache]  # blocks, prompts, completions so far


class LogitsProcessor(Protocol):
    """A pytree of arrays with these three functions, which `generate` calls."""

    def start(self, context: Prompt, completions: int, length: int) -> PyTree:
        """The state of K empty completions of each prompt, of at most `length` tokens."""

    def adjust(self, scores: Array, index: Array, state: PyTree) -> Array:
        """Scores f32[B, K, V] of column `index` -> new ones; -inf excludes a token."""

    def advance(self, token: Array, index: Array, state: PyTree) -> PyTree:
        """The state after `token` i32[B, K] was taken at column `index`."""


def rescore(scores: Array, look: Callable[[Array], Array], weight: Array, top_k: int) -> Array:
    """Adds w times the critic's value to the scores of the likeliest tokens, drops the others.

    s(z) = logit(z | x) + w · V(x, z) for the k likeliest z, −∞ elsewhere.

    Under `Sampling()` tokens are then drawn from π(z | x) exp(w V(x, z)) / Z, restricted to
    the candidates: with V the expected reward, tokenwise controlled decoding; with V the
    reward of the extended context, ARGS, which is greedy at temperature 0 and
    "stochastic" above it. With V(x) = β log E exp(r / β) and w = 1 / β, over all tokens,
    whole completions follow π(y | x) exp(r(x, y) / β) / Z, the optimum of reward under a KL
    penalty.

    Args:
        scores: f32[B, K, V], logits.
        look: candidates i32[B, K, M] -> their values f32[B, K, M].
        weight: f32[], w, nats a unit of value.
        top_k: M candidates; 0 takes the whole vocabulary.

    Returns:
        f32[B, K, V].

    Reference: Khanov et al. 2024, "ARGS: Alignment as Reward-Guided Search", arXiv
    2402.01694 (score of the k likeliest tokens); Mudgal et al. 2023, "Controlled Decoding
    from Language Models", arXiv 2310.17022 (tokenwise sampling); Yang & Klein 2021,
    "FUDGE", arXiv 2104.05218 (candidates of the base model, rescored by a predictor of the
    future).
    """
    vocabulary = scores.shape[-1]
    if top_k < 0:
        raise InputError(f"top_k: must be at least 0 (0 takes all tokens), got {top_k}")
    if not 0 < top_k < vocabulary:
        every = jnp.broadcast_to(jnp.arange(vocabulary), scores.shape)
        return scores + weight * look(every)
    best, tokens = jax.lax.top_k(scores, top_k)
    value = best + weight * look(tokens)
    excluded = jnp.full_like(scores, -jnp.inf)
    return jnp.put_along_axis(excluded, tokens, value, axis=-1, inplace=False)


@flax.struct.dataclass
class PrefixGuide:
    """A critic that is any function of the tokens: a table, a verifier, an ensemble.

    It is called on whole prefixes, T columns for each candidate.

    Attributes:
        value: `(context, action i32[B, N, T], mask bool[B, N, T]) -> f32[B, N]`; a
            `jax.tree_util.Partial`, so that the arrays it reads are arguments of the
            program and other ones do not compile it again.
        weight: f32[], w of `rescore`.
        top_k: candidates; 0 takes the whole vocabulary.
    """

    value: Value
    weight: Any
    top_k: int = flax.struct.field(pytree_node=False)

    def start(self, context: Prompt, completions: int, length: int) -> tuple[Prompt, Array]:
        """The prompts and the tokens so far, i32[B, K, T]."""
        return context, jnp.zeros((context.tokens.shape[0], completions, length), jnp.int32)

    def adjust(self, scores: Array, index: Array, state: tuple[Prompt, Array]) -> Array:
        """`rescore` by the values of the extended prefixes."""
        context, action = state
        b, _, t = action.shape

        def look(tokens: Array) -> Array:
            extended = jnp.repeat(action[:, :, None], tokens.shape[-1], axis=2)
            extended = extended.at[..., index].set(tokens).reshape(b, -1, t)
            mask = jnp.broadcast_to(jnp.arange(t) <= index, extended.shape)
            return self.value(context, extended, mask).reshape(tokens.shape)

        return rescore(scores, look, self.weight, self.top_k)

    def advance(
        self, token: Array, index: Array, state: tuple[Prompt, Array]
    ) -> tuple[Prompt, Array]:
        """Writes the token."""
        context, action = state
        return context, action.at[..., index].set(token)


@flax.struct.dataclass
class DecoderGuide:
    """A critic that is a head on a decoder: a prefix scorer or a reward model.

    It keeps keys and values of its own; a column costs M + 1 tokens of it, those of the M
    candidates and that of the one taken.

    Attributes:
        config: the shape of the critic's decoder; the vocabulary is the policy's.
        params: {"decoder": of the decoder, "head": of a scalar head}.
        weight: f32[], w of `rescore`.
        top_k: candidates; 0 takes the whole vocabulary.
    """

    config: DecoderConfig = flax.struct.field(pytree_node=False)
    params: PyTree
    weight: Any
    top_k: int = flax.struct.field(pytree_node=False)

    def start(self, context: Prompt, completions: int, length: int) -> Reading:
        """The prompts' keys and values, and an empty cache with room for candidates."""
        config = self.config
        _, prefix, layers = prefill(config, self.params["decoder"], context)
        room = length + (self.top_k or config.vocab_size)
        return layers, prefix, init_cache(config, context.tokens.shape[0], completions, room)

    def adjust(self, scores: Array, index: Array, state: Reading) -> Array:
        """`rescore` by the head at each candidate, all of them in one pass."""
        _check_vocabulary(self.config, scores)
        layers, prefix, cache = state

        def look(tokens: Array) -> Array:
            hidden, _ = decode_columns(
                self.config, self.params["decoder"], layers, tokens, index, prefix, cache,
                siblings=True,
            )  # fmt: skip
            return apply_scalar_head(self.params["head"], hidden)

        return rescore(scores, look, self.weight, self.top_k)

    def advance(self, token: Array, index: Array, state: Reading) -> Reading:
        """Reads the token that was taken."""
        layers, prefix, cache = state
        decoder = self.params["decoder"]
        _, cache = decode_step(self.config, decoder, layers, token, index, prefix, cache)
        return layers, prefix, cache


@flax.struct.dataclass
class MixtureGuide:
    """Another policy, mixed in geometrically: π_α(z | x) ∝ π(z | x)^(1−α) ρ(z | x)^α.

    With ρ the reference policy it is the opponent of Nash-MD: α = 0 is self-play, α = 1 the
    reference itself. The other policy keeps keys and values of its own, and reads every
    token once.

    Attributes:
        config: the shape of the other decoder; the vocabulary is the policy's.
        params: of the other decoder, ρ.
        share: f32[], α in [0, 1].

    Reference: Munos et al. 2023, "Nash Learning from Human Feedback", arXiv 2312.00886
    (Nash-MD, and Nash-MD-PG, which mixes token by token as here).

    Differs: the mixture of distributions of whole completions has a normaliser that depends
    on the whole; it is not that of tokens but for completions of one token.
    """

    config: DecoderConfig = flax.struct.field(pytree_node=False)
    params: PyTree
    share: Any

    def start(self, context: Prompt, completions: int, length: int) -> tuple[Array, Reading]:
        """The states that predict the first token, and the reading."""
        hidden, prefix, layers = prefill(self.config, self.params, context)
        hidden = jnp.repeat(hidden[:, None], completions, axis=1)
        cache = init_cache(self.config, context.tokens.shape[0], completions, length)
        return hidden, (layers, prefix, cache)

    def adjust(self, scores: Array, index: Array, state: tuple[Array, Reading]) -> Array:
        """(1 − α) of the policy's logits and α of the other's; what either excludes stays so."""
        _check_vocabulary(self.config, scores)
        other = logits(self.config, self.params, state[0])
        mixed = (1.0 - self.share) * scores + self.share * other
        return jnp.where(jnp.isneginf(scores) | jnp.isneginf(other), -jnp.inf, mixed)

    def advance(
        self, token: Array, index: Array, state: tuple[Array, Reading]
    ) -> tuple[Array, Reading]:
        """Reads the token that was taken."""
        layers, prefix, cache = state[1]
        hidden, cache = decode_step(self.config, self.params, layers, token, index, prefix, cache)
        return hidden, (layers, prefix, cache)


def _check_vocabulary(config: DecoderConfig, scores: Array) -> None:
    """Raises `InputError` unless a guide's decoder has as many tokens as there are scores."""
    if scores.shape[-1] != config.vocab_size:
        raise InputError(
            f"guide: its vocabulary has {config.vocab_size} tokens, the policy's "
            f"{scores.shape[-1]}; both must be the same"
        )
