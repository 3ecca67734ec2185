"""Losses of demonstrations: imitate what was written."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from irl_jax.losses.reduction import sequence_sum, token_mean
from irl_jax.masking import as_float, check_mask
from irl_jax.types import Demonstration, Loss


def nll(logp: Array, batch: Demonstration) -> Loss:
    """Negative log-likelihood of the demonstrated tokens: supervised fine-tuning.

    L = −Σᵢₜ log π(aᵢₜ | sᵢₜ) / Σᵢ |aᵢ|, the mean over all tokens of the batch. In
    an MDP without a reward this is behaviour cloning.

    Args:
        logp: f32[B, T], log-probs of `batch.tokens` (nats); read where
            `batch.mask` is true.
        batch: demonstrations, B rows of T tokens.

    Returns:
        Loss in nats a token. Metrics: `nll` (its exponential is the perplexity),
        `tokens` (tokens to be predicted, a row).

    Raises:
        InputError: an array has the wrong shape or dtype.

    Reference: Pomerleau 1991, "Efficient training of artificial neural networks for
    autonomous navigation" (behaviour cloning); Sun & van der Schaar 2025, arXiv
    2507.13158.

    Example:
        >>> ones = jnp.ones([1, 3], jnp.int32)
        >>> mask = jnp.array([[False, True, True]])
        >>> logp = jnp.log(jnp.array([[1.0, 0.5, 0.5]]))
        >>> loss = nll(logp, Demonstration(tokens=ones, mask=mask, segment=ones))
        >>> round(float(jnp.exp(loss.mean)), 4)  # perplexity
        2.0
    """
    logp = as_float("logp", logp, (None, None))
    check_mask("batch.mask", batch.mask, logp.shape)
    total, weight = token_mean(-jnp.where(batch.mask, logp, 0.0), batch.mask)
    tokens = sequence_sum(batch.mask.astype(logp.dtype), batch.mask)
    return Loss(total, weight, {"nll": (total, weight), "tokens": tokens})
