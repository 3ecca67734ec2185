"""What the sandbox has before any model: who writes in it, and whose taste judges.

See `experiments.sandbox`, which is what other modules import.
"""

from __future__ import annotations

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jax import Array

from irl_jax.types import Demonstration, Prompt

EOS = 0  # ends a completion; the symbols are 1, 2, ...
ENOUGH = 2  # times that a symbol may be written before it is a repetition


@flax.struct.dataclass
class Source:
    """Who writes the prompts and the demonstrations.

    The next symbol is, with probability `echo`, one of the prompt's, else drawn by the
    last one; from the third token on, the sentence ends with probability `stop`.

    Attributes:
        next: f32[V, V], log-probs of the next symbol given the last; -inf for EOS.
        echo: f32[].
        stop: f32[].
    """

    next: Array
    echo: Array
    stop: Array


@flax.struct.dataclass
class Taste:
    """The gold reward, see the module.

    Attributes:
        liking: f32[V], u; 0 for EOS.
        suits: f32[V, V], U: how much more a symbol (second) is liked after a prompt's (first).
        order: f32[V, V], b, of the symbol before and the symbol; 0 at EOS.
        repetition: f32[], ρ.
        mean: f32[], of raw over the reference's completions.
        scale: f32[], its standard deviation.
    """

    liking: Array
    suits: Array
    order: Array
    repetition: Array
    mean: Array
    scale: Array


def init_source(key: Array, vocabulary: int) -> Source:
    """A source whose symbols have a few likely successors each."""
    logits = 1.5 * jax.random.normal(key, (vocabulary, vocabulary))
    following = jax.nn.log_softmax(logits.at[:, EOS].set(-jnp.inf), axis=-1)
    return Source(next=following, echo=jnp.float32(0.2), stop=jnp.float32(0.1))


def init_taste(key: Array, vocabulary: int) -> Taste:
    """A random taste, not yet standardised."""
    u, s, b = jax.random.split(key, 3)
    symbol = jnp.arange(vocabulary) != EOS
    both = symbol[:, None] & symbol
    normal = lambda k, shape: jax.random.normal(k, shape)
    return Taste(
        liking=jnp.where(symbol, normal(u, symbol.shape), 0.0),
        suits=jnp.where(both, normal(s, both.shape), 0.0),
        order=jnp.where(both, 0.7 * normal(b, both.shape), 0.0),
        repetition=jnp.float32(1.5),
        mean=jnp.float32(0.0),
        scale=jnp.float32(1.0),
    )


def raw_gold(taste: Taste, context: Prompt, action: Array, mask: Array) -> Array:
    """What the taste gives completions, not standardised.

    Args:
        taste: of the world.
        context: `Prompt` of B rows.
        action: i32[B, K, T].
        mask: bool[B, K, T].

    Returns:
        f32[B, K].
    """
    symbols = jnp.where(mask, action, EOS)
    vocabulary = jnp.arange(taste.liking.shape[0])
    count = (symbols[..., None] == vocabulary).sum(-2) * (vocabulary != EOS)
    last = context.tokens[:, None, -1:]
    before = jnp.concatenate(
        [jnp.broadcast_to(last, (*symbols.shape[:2], 1)), symbols[..., :-1]], axis=-1
    )
    like = taste.liking + taste.suits[context.tokens].mean(1)
    return (
        (like[:, None] * jnp.sqrt(count)).sum(-1)
        + taste.order[before, symbols].sum(-1)
        - taste.repetition * jnp.maximum(count - ENOUGH, 0).sum(-1)
    )


def prompts(source: Source, key: Array, count: int, tokens: int) -> Prompt:
    """Prompts without padding, i32[count, tokens]."""
    first, rest = jax.random.split(key)

    def extend(last: Array, key: Array) -> tuple[Array, Array]:
        return (symbol := jax.random.categorical(key, source.next[last])), symbol

    start = jax.random.randint(first, (count,), 1, source.next.shape[0])
    _, following = jax.lax.scan(extend, start, jax.random.split(rest, tokens - 1))
    return Prompt(
        tokens=jnp.concatenate([start[None], following]).T.astype(jnp.int32),
        mask=jnp.ones((count, tokens), bool),
    )


def demonstrations(
    source: Source, key: Array, count: int, prompt_tokens: int, max_new_tokens: int
) -> Demonstration:
    """Prompts and how the source goes on."""
    prompt_key, key = jax.random.split(key)
    prompt = prompts(source, prompt_key, count, prompt_tokens).tokens

    def extend(carry: tuple[Array, Array], item: tuple[Array, Array]) -> tuple[Any, Any]:
        last, ended = carry
        index, key = item
        choose, draw, pick, stop = jax.random.split(key, 4)
        place = jax.random.randint(pick, (count, 1), 0, prompt_tokens)
        symbol = jnp.where(
            jax.random.bernoulli(choose, source.echo, (count,)),
            jnp.take_along_axis(prompt, place, axis=1)[:, 0],
            jax.random.categorical(draw, source.next[last]),
        )
        stops = jax.random.bernoulli(stop, source.stop, (count,)) & (index >= 2)
        token = jnp.where(ended | stops, EOS, symbol)
        return (token, ended | stops), (token, ~ended)

    items = (jnp.arange(max_new_tokens), jax.random.split(key, max_new_tokens))
    _, (token, mask) = jax.lax.scan(extend, (prompt[:, -1], jnp.zeros(count, bool)), items)
    tokens = jnp.concatenate([prompt, token.T], axis=1).astype(jnp.int32)
    mask = jnp.concatenate([jnp.zeros(prompt.shape, bool), mask.T], axis=1)
    inside = mask.at[:, :prompt_tokens].set(True)
    return Demonstration(tokens=tokens, mask=mask, segment=inside.astype(jnp.int32))
