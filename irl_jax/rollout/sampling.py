"""Drawing tokens: temperature, top-k, top-p, and the log-prob of what was drawn.

Both truncations are thresholds on the logits, found by bisecting the 32 bits of a
float instead of sorting the vocabulary; a token is drawn by inverting the CDF in two
levels (block, then token) with one uniform number, instead of one Gumbel number for
every entry of the vocabulary. Both are several times cheaper at V = 49,152.
"""

from __future__ import annotations

import numbers
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import Array

from irl_jax.masking import last_index
from irl_jax.models.logprob import TEMPERATURES
from irl_jax.types import InputError

BLOCK = 256  # tokens in a block of the two-level CDF
LARGEST = 1e30  # a logit; divided by the lowest temperature it is within f32


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn.

    Attributes:
        temperature: divides the logits, in `TEMPERATURES`; 0 takes the likeliest token.
        top_k: keep the k likeliest tokens; 0 keeps all.
        top_p: then keep the likeliest tokens that together reach this probability
            (Holtzman et al. 2019, arXiv 1904.09751); 1 keeps all. Tokens tied with
            the last one kept are kept too.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        """Checks the ranges.

        Raises:
            InputError: naming the field that is out of range.
        """
        low, high = TEMPERATURES
        if not _is_real(self.temperature) or not (
            self.temperature == 0 or low <= self.temperature <= high
        ):
            raise InputError(
                f"temperature: must be 0 or from {low:g} to {high:g}, got {self.temperature!r}"
            )
        if isinstance(self.top_k, bool) or not isinstance(self.top_k, numbers.Integral):
            raise InputError(f"top_k: must be an integer, got {self.top_k!r}")
        if self.top_k < 0:
            raise InputError(f"top_k: must be at least 0 (0 keeps all), got {self.top_k}")
        if not _is_real(self.top_p) or not 0 < self.top_p <= 1:
            raise InputError(f"top_p: must be in (0, 1], got {self.top_p!r}")


def _is_real(x: object) -> bool:
    return isinstance(x, numbers.Real) and not isinstance(x, bool)


def _bisect(x: Array, enough: Callable[[Array], Array]) -> Array:
    """Largest float t per row such that enough(x >= t); enough holds at t = -inf.

    Floats are compared through the integers that have the same order.
    """
    to_float = lambda i: jax.lax.bitcast_convert_type(
        jnp.where(i < 0, i ^ jnp.int32(0x7FFFFFFF), i), jnp.float32
    )
    lowest = jnp.full(x.shape[:-1], -0x7F800001, jnp.int32)  # -inf
    highest = jnp.full(x.shape[:-1], 0x7F800000, jnp.int32)  # +inf

    def halve(_: Array, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bounds
        middle = (low >> 1) + (high >> 1) + (low & high & 1)
        good = enough(x >= to_float(middle)[..., None])
        return jnp.where(good, middle, low), jnp.where(good, high, middle)

    low, _ = jax.lax.fori_loop(0, 32, halve, (lowest, highest))
    return to_float(low)


def truncate(logits: Array, sampling: Sampling) -> Array:
    """Log-weights of the sampling distribution: (z − max z) / T, truncated to -inf.

    The difference comes first: a quotient by a low temperature rounds too much to be
    subtracted from another.

    Args:
        logits: f32[..., V]; -inf excludes a token, +inf (as all above `LARGEST`) takes all.
        sampling: with temperature > 0.

    Returns:
        f32[..., V], 0 for the likeliest; -inf on tokens that cannot be drawn.
    """
    z = jnp.minimum(logits, LARGEST)
    if 0 < sampling.top_k < z.shape[-1]:
        t = _bisect(z, lambda keep: keep.sum(-1) >= sampling.top_k)
        z = jnp.where(z >= t[..., None], z, -jnp.inf)
    x = (z - z.max(-1, keepdims=True)) / sampling.temperature
    if sampling.top_p < 1:
        p = jax.nn.softmax(x, axis=-1)
        t = _bisect(z, lambda keep: jnp.where(keep, p, 0.0).sum(-1) >= sampling.top_p)
        x = jnp.where(z >= t[..., None], x, -jnp.inf)
    return x


def log_probs(logits: Array, sampling: Sampling) -> Array:
    """The distribution that `draw` draws from.

    Args:
        logits: f32[..., V]; -inf excludes a token.
        sampling: temperature, top-k, top-p; temperature 0 gives all to the likeliest token.

    Returns:
        f32[..., V], nats; -inf on tokens that cannot be drawn.
    """
    if sampling.temperature == 0:
        best = jnp.argmax(logits, -1, keepdims=True)
        return jnp.where(jnp.arange(logits.shape[-1]) == best, 0.0, -jnp.inf)
    return jax.nn.log_softmax(truncate(logits, sampling), axis=-1)


def draw(key: Array, logits: Array, sampling: Sampling) -> tuple[Array, Array]:
    """One token for each row, and its log-prob under the distribution it was drawn from.

    Args:
        key: typed PRNG key, or one for each row, keys[B] of logits f32[B, ..., V].
        logits: f32[..., V]; -inf excludes a token, all but one at most.
        sampling: temperature, top-k, top-p.

    Returns:
        i32[...] tokens and f32[...] log-probs (nats; 0 at temperature 0). A token
        whose probability is below about 1e-7 is drawn only by rounding.
    """
    if sampling.temperature == 0:
        tokens = jnp.argmax(logits, -1).astype(jnp.int32)
        return tokens, jnp.zeros(tokens.shape, jnp.float32)
    x = truncate(logits, sampling)
    weight = jnp.exp(x)
    v = weight.shape[-1]
    weight = jnp.pad(weight, [(0, 0)] * (weight.ndim - 1) + [(0, -v % BLOCK)])
    blocks = weight.reshape(*weight.shape[:-1], -1, BLOCK)
    mass = blocks.sum(-1)
    cdf = jnp.cumsum(mass, -1)
    target = _uniform(key, cdf.shape[:-1]) * cdf[..., -1]
    block = _invert(mass, cdf, target)
    before = jnp.where(block > 0, _take(cdf, jnp.maximum(block - 1, 0)), 0.0)
    inside = jnp.take_along_axis(blocks, block[..., None, None], axis=-2)[..., 0, :]
    token = block * BLOCK + _invert(inside, jnp.cumsum(inside, -1), target - before)
    logp = _take(x, token) - jnp.log(cdf[..., -1])
    return token.astype(jnp.int32), logp


def _uniform(key: Array, shape: tuple[int, ...]) -> Array:
    """Numbers in [0, 1) from one key, or each row's from its own."""
    if key.ndim == 0:
        return jax.random.uniform(key, shape)
    return jax.vmap(lambda own: jax.random.uniform(own, shape[1:]))(key)


def _take(x: Array, index: Array) -> Array:
    return jnp.take_along_axis(x, index[..., None], axis=-1)[..., 0]


def _invert(mass: Array, cdf: Array, target: Array) -> Array:
    """First index that has mass and whose cdf exceeds target; the last with mass if none does.

    A parallel sum is not monotone in floating point: it may rise by a rounding error
    where there is no mass, so that the mass itself is asked for.
    """
    has_mass = mass > 0
    exceeds = has_mass & (cdf > target[..., None])
    first = jnp.argmax(exceeds, -1)
    return jnp.where(exceeds.any(-1), first, last_index(has_mass))
