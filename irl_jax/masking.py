"""Masked sums and means, log-prob gathering, packing arithmetic, shape checks."""

from __future__ import annotations

import math
import numbers

import jax
import jax.numpy as jnp
from jax import Array

from irl_jax.types import InputError, safe_divide


def masked_sum(x: Array, mask: Array, axis: int | tuple[int, ...] | None = None) -> Array:
    """Σ x where mask, f32; what lies outside the mask may be NaN.

    Args:
        x: f32[...].
        mask: bool[...], same shape.
        axis: axes to reduce; all of them by default.
    """
    return jnp.where(mask, x, 0.0).sum(axis)


def masked_mean(x: Array, mask: Array, axis: int | tuple[int, ...] | None = None) -> Array:
    """Mean of x where mask, f32; 0 where the mask is empty.

    Args:
        x: f32[...].
        mask: bool[...], same shape.
        axis: axes to reduce; all of them by default.
    """
    return safe_divide(masked_sum(x, mask, axis), mask.sum(axis).astype(x.dtype))


def last_index(mask: Array) -> Array:
    """Index of the last true element on the last axis, i32[...]; -1 if none."""
    t = mask.shape[-1]
    return jnp.max(jnp.where(mask, jnp.arange(t), -1), axis=-1)


def gather_logp(logits: Array, tokens: Array) -> Array:
    """log softmax(logits)[tokens], in f32.

    The token is picked by comparing, not by indexing: the gradient is then one
    elementwise pass instead of a scatter into [..., V], and V may be cut over devices.

    Args:
        logits: f[..., V].
        tokens: i32[...].

    Returns:
        f32[...], nats.
    """
    picked, value = gather_q(logits, tokens)
    return picked - value


def gather_q(logits: Array, tokens: Array) -> tuple[Array, Array]:
    """Q(s, a) = logits[tokens] and V(s) = logsumexp(logits), in f32; see `gather_logp`.

    Args:
        logits: f[..., V].
        tokens: i32[...].

    Returns:
        Q and V, f32[...] each (nats).
    """
    logits = logits.astype(jnp.float32)
    hit = jnp.arange(logits.shape[-1]) == tokens[..., None]
    return jnp.where(hit, logits, 0.0).sum(-1), jax.nn.logsumexp(logits, axis=-1)


def segment_positions(segment: Array) -> Array:
    """Position of each token inside its segment, i32[B, T].

    Args:
        segment: i32[B, T], runs of equal numbers; 0 is padding.

    Example:
        >>> segment_positions(jnp.array([[1, 1, 2, 2, 2, 0]]))[0].tolist()
        [0, 1, 0, 1, 2, 0]
    """
    index = jnp.arange(segment.shape[-1])
    starts = jnp.concatenate(
        [jnp.ones_like(segment[:, :1], bool), segment[:, 1:] != segment[:, :-1]], axis=1
    )
    return index - jax.lax.cummax(jnp.where(starts, index, 0), axis=1)


def _check_array(name: str, x: Array) -> None:
    """Raises `InputError` unless x is an array or a number that jax knows."""
    known = hasattr(x, "dtype") or isinstance(x, numbers.Number)
    if not known or getattr(getattr(x, "dtype", None), "kind", "") in ("O", "S", "U"):
        got = f"a {type(x).__name__}" + (f" of {x.dtype}" if known else "")
        raise InputError(f"{name}: expected an array, got {got}; make it one with jnp.asarray")


def check_shape(name: str, x: Array, shape: tuple[int | None, ...]) -> None:
    """Raises `InputError` unless x has this shape (None stands for any size)."""
    _check_array(name, x)
    actual = jnp.shape(x)
    if len(actual) != len(shape) or any(
        want is not None and want != got for want, got in zip(shape, actual, strict=True)
    ):
        want = ", ".join("_" if n is None else str(n) for n in shape)
        raise InputError(f"{name}: expected shape [{want}], got {list(actual)}")


def check_float(name: str, x: Array) -> None:
    """Raises `InputError` unless x is a floating-point array."""
    _check_array(name, x)
    if not jnp.issubdtype(jnp.result_type(x), jnp.floating):
        raise InputError(f"{name}: expected a floating dtype, got {jnp.result_type(x)}")


def check_mask(name: str, mask: Array, shape: tuple[int | None, ...]) -> None:
    """Raises `InputError` unless mask is a bool array of this shape."""
    check_shape(name, mask, shape)
    if jnp.result_type(mask) != jnp.bool_:
        raise InputError(f"{name}: expected dtype bool, got {jnp.result_type(mask)}")


def as_float(name: str, x: Array, shape: tuple[int | None, ...]) -> Array:
    """The array x, checked, in at least f32: how a loss reads an argument.

    Args:
        name: what to call x in the message.
        x: f[...]; bf16 and f16 are widened to f32, f64 is kept.
        shape: expected shape (None stands for any size).

    Returns:
        f32[...] (or f64[...]).

    Raises:
        InputError: x has another shape, or no floating dtype.
    """
    check_shape(name, x, shape)
    check_float(name, x)
    return jnp.asarray(x, jnp.promote_types(jnp.result_type(x), jnp.float32))


def check_range(
    name: str, x: float | Array, low: float, high: float = math.inf, *, exclusive: bool = False
) -> None:
    """Raises `InputError` unless x is a number in [low, high].

    Args:
        name: what to call x in the message.
        x: a number; a jax array, as in a sweep under `vmap`, is not looked at.
        low: least value.
        high: greatest value.
        exclusive: low itself is refused.
    """
    if isinstance(x, jax.Array):
        return
    if not isinstance(x, numbers.Real) or not low <= x <= high or (exclusive and x == low):
        bracket = "(" if exclusive else "["
        raise InputError(f"{name}: expected a number in {bracket}{low}, {high}], got {x!r}")
