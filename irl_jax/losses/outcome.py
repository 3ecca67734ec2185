"""Losses of outcome reward models (verifiers): was the response right in the end?

A solution-level verifier judges a whole response: it is
`losses.rating.binary_cross_entropy` on the logit at its last token. A token-level one
predicts the outcome after every token.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from irl_jax.losses.link import logistic
from irl_jax.losses.reduction import weighted
from irl_jax.masking import as_float, check_mask, last_index, masked_mean
from irl_jax.types import Loss, Rating


def token_verifier(logits: Array, batch: Rating) -> Loss:
    """After every token, how likely the whole response is to be right: a value function.

    L = Σᵢ wᵢ/|oᵢ| Σₜ [−sᵢ log σ(zᵢₜ) − (1 − sᵢ) log σ(−zᵢₜ)] / Σᵢ wᵢ. The best zᵢₜ is the
    log-odds of a right outcome given what is written up to t, under the policy that wrote
    the responses: a value without discount, of the reward s at the end. It is so where the
    responses to a prefix are of one length, or wᵢ ∝ |oᵢ|; otherwise each of them counts by
    wᵢ/|oᵢ| in these odds, a short one more than a long one.

    Args:
        logits: f32[B, T], z, logits of "right in the end" after each token, read where
            `batch.mask` is true.
        batch: the responses; `score` s is 1 for right, 0 for wrong, or a probability
            between. Those without a token do not count. Weights in proportion to |oᵢ| give
            the mean over all tokens, whose best logits are those of the value.

    Returns:
        Loss a response (nats). Metrics: `accuracy` (of s > ½, mean over a response's
        tokens), `accuracy_last` (at its last token, which is what ranks responses; a logit
        of 0 counts one half), `score`.

    Raises:
        InputError: an array has the wrong shape or dtype.

    Reference: Cobbe et al. 2021, "Training verifiers to solve math word problems", arXiv
    2110.14168, section 4.3 and appendix E (prediction at every token of the solution).

    Differs: the paper gives neither the loss of a prediction nor the mean that is taken;
    here cross-entropy, every response counting the same. Its language-modelling term is
    `losses.demonstration.nll` on a batch of its own.

    Example:
        >>> solutions = Rating(
        ...     None,
        ...     action=None,
        ...     mask=jnp.array([[True, True]]),
        ...     score=jnp.ones(1),
        ...     weight=jnp.ones(1),
        ... )
        >>> round(float(token_verifier(jnp.zeros([1, 2]), solutions).mean), 4)  # log 2
        0.6931
    """
    logits = as_float("logits", logits, (None, None))
    check_mask("batch.mask", batch.mask, logits.shape)
    score = as_float("batch.score", batch.score, logits.shape[:1])
    weight = as_float("batch.weight", batch.weight, logits.shape[:1])
    weight = jnp.where(batch.mask.any(-1), weight, 0.0)
    mask = batch.mask & (weight > 0)[:, None]
    z = jnp.where(mask, logits, 0.0)
    s = jnp.where(weight > 0, score, 0.0)
    cost = s[:, None] * logistic(z) + (1.0 - s)[:, None] * logistic(-z)
    right = 0.5 * (1.0 + jnp.sign(z) * jnp.where(s > 0.5, 1.0, -1.0)[:, None])
    last = jnp.arange(z.shape[1]) == last_index(mask)[:, None]
    metrics = {
        "accuracy": weighted(masked_mean(right, mask, axis=-1), weight),
        "accuracy_last": weighted(jnp.where(last, right, 0.0).sum(-1), weight),
        "score": weighted(s, weight),
    }
    return Loss(*weighted(masked_mean(cost, mask, axis=-1), weight), metrics)
