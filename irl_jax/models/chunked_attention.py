"""Attention whose memory grows with the length, not with its square.

A chunk of queries meets one chunk of keys after the other, and keeps a running maximum and sum of
its softmax. The gradient computes the scores of a pair of chunks once more from the log of that
sum. Who sees whom follows from positions, so that no array of all pairs exists, not even a mask.

Reference: Rabe & Staats 2021, "Self-attention Does Not Need O(n²) Memory", arXiv 2112.05682; Dao et
al. 2022, "FlashAttention: Fast and Memory-Efficient Exact Attention with IO-Awareness", arXiv
2205.14135, algorithms 1 and 4 (of the appendix).
"""

from __future__ import annotations

import math
from functools import partial
from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
from jax import Array

from irl_jax.models.attention import MASKED, soft_cap

EVERYTHING = jnp.iinfo(jnp.int32).max


@flax.struct.dataclass
class Places:
    """Where tokens stand.

    Attributes:
        position: i32[B, K, S], or [B, 1, S] if shared by the K; from 0 in each sequence.
        segment: i32 like `position`, the sequence that a token belongs to, 1, 2, ...; 0 is padding.
    """

    position: Array
    segment: Array


@flax.struct.dataclass
class Sight:
    """Who sees whom: a query sees the tokens of its sequence up to itself.

    Attributes:
        queries: places of the queries.
        keys: places of each set of keys.
        window: i32[], how many tokens a query sees, itself among them; None for all.
    """

    queries: Places
    keys: list[Places]
    window: Array | None = None


class _Setting(NamedTuple):
    """What is known when a program is compiled.

    Attributes:
        chunk: queries, and keys, of a chunk.
        divisor: of the scores.
        cap: of `soft_cap`, applied to the scores.
    """

    chunk: int
    divisor: float
    cap: float | None


def chunked_attend(
    q: Array,
    keys: list[Array],
    values: list[Array],
    sight: Sight,
    *,
    chunk: int,
    divisor: float | None = None,
    cap: float | None = None,
) -> Array:
    """`irl_jax.models.attention.attend`, a chunk of queries and keys at a time.

    Args:
        q: f[B, G, K, R, S, H]: G key heads, R query heads for each.
        keys: each f[B, G, K, H, T], or f[B, G, H, T] if shared by the K.
        values: each f[B, G, K, T, H], or f[B, G, T, H].
        sight: who sees whom.
        chunk: queries, and keys, of a chunk.
        divisor: of the scores; √H by default.
        cap: of `soft_cap`, applied to the scores.

    Returns:
        f[B, G, K, R, S, H]; 0 of a query that sees nothing.
    """
    setting = _Setting(chunk, math.sqrt(q.shape[-1]) if divisor is None else divisor, cap)
    window = jnp.int32(EVERYTHING) if sight.window is None else sight.window
    return _attend(setting, q, keys, values, (sight.queries, sight.keys, window))


def _key(k: Array) -> str:
    """Letters of keys, which the K may share."""
    return "bght" if k.ndim == 4 else "bgkht"


def _value(v: Array) -> str:
    """Letters of values."""
    return "bgth" if v.ndim == 4 else "bgkth"


_dot = partial(jnp.einsum, preferred_element_type=jnp.float32)


def _chunks(x: Array, size: int, axis: int) -> Array:
    """An axis in chunks, the last one filled up with zeros, their number in front."""
    axis %= x.ndim
    widths = [(0, 0)] * x.ndim
    widths[axis] = (0, -x.shape[axis] % size)
    x = jnp.pad(x, widths)
    x = x.reshape(*x.shape[:axis], -1, size, *x.shape[axis + 1 :])
    return jnp.moveaxis(x, axis, 0)


def _joined(x: Array, size: int, axis: int) -> Array:
    """The chunks [n, ...] behind each other on an axis, cut to its size."""
    axis %= x.ndim - 1
    x = jnp.moveaxis(x, 0, axis)
    x = x.reshape(*x.shape[:axis], -1, *x.shape[axis + 2 :])
    return jax.lax.slice_in_dim(x, 0, size, axis=axis)


def _split(setting: _Setting, keys: list[Array], values: list[Array], places: list[Places]) -> list:
    """Chunks of every set: keys, values, positions and segments."""
    cut = partial(_chunks, size=setting.chunk)
    return [
        (cut(k, axis=-1), cut(v, axis=-2), cut(at.position, axis=-1), cut(at.segment, axis=-1))
        for k, v, at in zip(keys, values, places, strict=True)
    ]  # fmt: skip


def _queries(setting: _Setting, q: Array, at: Places) -> tuple[Array, Array, Array]:
    """Chunks of queries, their positions and segments."""
    cut = partial(_chunks, size=setting.chunk)
    return cut(q, axis=-2), cut(at.position, axis=-1), cut(at.segment, axis=-1)


def _seen(window: Array, queries: tuple[Array, Array, Array], keys: tuple) -> Array:
    """Which queries of a chunk see which keys of another, bool[B, 1, K, 1, S, T]."""
    _, q_position, q_segment = queries
    *_, k_position, k_segment = keys
    row = lambda x: x[:, None, :, None, :, None]
    column = lambda x: x[:, None, :, None, None, :]
    apart = row(q_position) - column(k_position)
    same = (row(q_segment) == column(k_segment)) & (column(k_segment) > 0)
    return same & (apart >= 0) & (apart < window)


def _scores(setting: _Setting, q: Array, k: Array, seen: Array) -> Array:
    """Scores of a chunk of queries and a chunk of keys, f32[B, G, K, R, S, T]."""
    score = _dot(f"bgkrsh,{_key(k)}->bgkrst", q, k)
    return jnp.where(seen, soft_cap(score / setting.divisor, setting.cap), MASKED)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attend(setting: _Setting, q: Array, keys: list, values: list, places: tuple) -> Array:
    return _forward(setting, q, keys, values, places)[0]


def _forward(
    setting: _Setting, q: Array, keys: list, values: list, places: tuple
) -> tuple[Array, tuple]:
    # or a scan over layers, to which places are constants, lays out masks of all pairs before it
    q, (at, key_places, window) = jax.lax.optimization_barrier((q, places))
    sets = _split(setting, keys, values, key_places)

    def meet(state: tuple, key_chunk: tuple, queries: tuple) -> tuple[tuple, None]:
        seen = _seen(window, queries, key_chunk)

        def add(state: tuple) -> tuple:
            (top, total, out), (k, v, *_) = state, key_chunk
            score = _scores(setting, queries[0], k, seen)
            new = jnp.maximum(top, score.max(-1))
            prob = jnp.where(seen, jnp.exp(score - new[..., None]), 0.0)
            shrink = jnp.exp(top - new)
            part = _dot(f"bgkrst,{_value(v)}->bgkrsh", prob.astype(q.dtype), v)
            return new, total * shrink + prob.sum(-1), out * shrink[..., None] + part

        return jax.lax.cond(seen.any(), add, lambda state: state, state), None

    def one(queries: tuple) -> tuple[Array, Array]:
        shape = queries[0].shape
        state = jnp.full(shape[:-1], MASKED), jnp.zeros(shape[:-1]), jnp.zeros(shape)
        for chunks in sets:
            state, _ = jax.lax.scan(partial(meet, queries=queries), state, chunks)
        top, total, out = state
        total = jnp.maximum(total, jnp.finfo(jnp.float32).tiny)  # of what sees nothing
        return (out / total[..., None]).astype(q.dtype), top + jnp.log(total)

    out, log_total = jax.lax.map(one, _queries(setting, q, at))
    out, log_total = _joined(out, q.shape[-2], -2), _joined(log_total, q.shape[-2], -1)
    return out, (q, keys, values, places, out, log_total)


def _backward(setting: _Setting, kept: tuple, slope: Array) -> tuple:
    q, keys, values, places, out, log_total = kept
    slope, (at, key_places, window) = jax.lax.optimization_barrier((slope, places))
    sets = _split(setting, keys, values, key_places)
    own = (slope.astype(jnp.float32) * out.astype(jnp.float32)).sum(-1)
    cut = partial(_chunks, size=setting.chunk)

    def meet(d_query: Array, key_chunk: tuple, row: tuple) -> tuple[Array, tuple[Array, Array]]:
        queries, slope, own, log_total = row
        k, v, *_ = key_chunk
        key, value = _key(k), _value(v)
        seen = _seen(window, queries, key_chunk)

        def add(d_query: Array) -> tuple[Array, tuple[Array, Array]]:
            score = _scores(setting, queries[0], k, seen)
            prob = jnp.where(seen, jnp.exp(score - log_total[..., None]), 0.0)
            d_value = _dot(f"bgkrst,bgkrsh->{value}", prob.astype(q.dtype), slope)
            d_score = prob * (_dot(f"bgkrsh,{value}->bgkrst", slope, v) - own[..., None])
            if setting.cap is not None:
                d_score *= 1 - jnp.square(jnp.where(seen, score, 0.0) / setting.cap)
            d_score = (d_score / setting.divisor).astype(q.dtype)
            d_key = _dot(f"bgkrsh,bgkrst->{key}", queries[0], d_score)
            return d_query + _dot(f"bgkrst,{key}->bgkrsh", d_score, k), (d_key, d_value)

        nothing = jnp.zeros(k.shape), jnp.zeros(v.shape)
        return jax.lax.cond(seen.any(), add, lambda d_query: (d_query, nothing), d_query)

    def one(sums: list, row: tuple) -> tuple[list, Array]:
        d_query, more = jnp.zeros(row[0][0].shape), []
        for chunks, (d_keys, d_values) in zip(sets, sums, strict=True):
            d_query, (d_key, d_value) = jax.lax.scan(partial(meet, row=row), d_query, chunks)
            more.append((d_keys + d_key, d_values + d_value))
        return more, d_query.astype(q.dtype)

    zero = [(jnp.zeros(k.shape), jnp.zeros(v.shape)) for k, v, *_ in sets]
    rows = (
        _queries(setting, q, at), cut(slope, axis=-2), cut(own, axis=-1), cut(log_total, axis=-1),
    )  # fmt: skip
    sums, d_query = jax.lax.scan(one, zero, rows)
    d_keys = [
        _joined(d, k.shape[-1], -1).astype(k.dtype) for (d, _), k in zip(sums, keys, strict=True)
    ]
    d_values = [
        _joined(d, v.shape[-2], -2).astype(v.dtype) for (_, d), v in zip(sums, values, strict=True)
    ]
    return _joined(d_query, q.shape[-2], -2), d_keys, d_values, None


_attend.defvjp(_forward, _backward)
