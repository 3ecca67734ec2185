"""Values of prefixes: what a completion will be worth, told after each of its tokens.

A cost of the residual says which value is learned (the mean of what follows, or its
log-mean-exp), a target says from what: the reward at the end, or the value one token on.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from irl_jax.losses.ratio import tangent_expm1
from irl_jax.losses.reduction import weighted
from irl_jax.masking import as_float, check_mask, check_range, last_index, masked_mean
from irl_jax.types import Loss, Rating

# residual, target - value, f32[...] -> f32[...]
Cost = Callable[[Array], Array]


def squared(residual: Array) -> Array:
    """½ d²: least at the mean of the targets."""
    return 0.5 * residual**2


def linex(beta: float) -> Cost:
    """exp(d / β) − d / β − 1: least at the soft value β log E exp(target / β).

    With the soft value of the policy's own completions, π(z | x) exp(V(x, z) / β) / Z is the
    policy that is best in reward less β times KL. Above d = 15 β the cost goes on
    along its tangent, so that a first guess far off does not overflow.

    Args:
        beta: β > 0, in units of the reward.

    Reference: Garg et al. 2023, "Extreme Q-Learning: MaxEnt RL without Entropy", arXiv
    2301.02328 (Gumbel regression).

    Differs: the tangent; they clip the exponent.
    """
    check_range("beta", beta, 0.0, exclusive=True)

    def cost(residual: Array) -> Array:
        z = residual / beta
        return tangent_expm1(z, _STEEP) - z

    return cost


_STEEP = 15.0  # of d / β, where the exponential is continued by its tangent


def prefix_regression(value: Array, batch: Rating, *, cost: Cost) -> Loss:
    """After every token, the reward that the whole completion got (CD-FUDGE).

    L = Σᵢ wᵢ/|oᵢ| Σₜ c(sᵢ − Vᵢₜ) / Σᵢ wᵢ. With completions of the policy and the squared cost,
    V is the mean reward of what it writes from there, if wᵢ ∝ |oᵢ| or the completions of a
    prefix are of one length; otherwise each counts by wᵢ/|oᵢ| in that mean, a short one more.

    Args:
        value: f32[B, T], V after each token. Read where `batch.mask` is true.
        batch: completions of the policy; `score` s is the reward.
        cost: c, such as `squared` or `linex(beta)`.

    Returns:
        Loss a completion. Metrics: `value`, mean over tokens; `value_last`, at the last
        token; `score`.

    Raises:
        InputError: an array has the wrong shape or dtype.

    Reference: Mudgal et al. 2023, "Controlled Decoding from Language Models", arXiv
    2310.17022 (CD-FUDGE); Yang & Klein 2021, "FUDGE", arXiv 2104.05218.

    Differs: the mean over a completion's tokens stands in place of the sum.

    Example:
        >>> done = Rating(
        ...     None,
        ...     action=None,
        ...     mask=jnp.array([[True, True]]),
        ...     score=jnp.ones(1),
        ...     weight=jnp.ones(1),
        ... )
        >>> float(prefix_regression(jnp.array([[0.0, 1.0]]), done, cost=squared).mean)
        0.25
    """
    return _regress(as_float("value", value, (None, None)), None, batch, cost)


def prefix_bellman(value: Array, following: Array, batch: Rating, *, cost: Cost) -> Loss:
    """After every token, the value one token on; after the last, the reward (CD-Q).

    L = Σᵢ wᵢ/|oᵢ| Σₜ c(vᵢₜ − Vᵢₜ) / Σᵢ wᵢ with vₜ = Σ_z π(z | x, y₍≤ₜ₎) V(x, y₍≤ₜ₎, z), and the
    reward s at the end. With the squared cost and wᵢ ∝ |oᵢ|, V at the token that was drawn, in
    place of that mean, has the same minimum.

    Args:
        value: f32[B, T], V after each token. Read where `batch.mask` is true.
        following: f32[B, T], v, a constant. Read where `batch.mask` is true but at the
            last token.
        batch: completions; `score` s is the reward.
        cost: c, such as `squared`.

    Returns:
        Loss a completion. Metrics: those of `prefix_regression`.

    Raises:
        InputError: an array has the wrong shape or dtype.

    Reference: Mudgal et al. 2023, "Controlled Decoding from Language Models", arXiv
    2310.17022 (CD-Q).

    Differs: the mean over a completion's tokens stands in place of the sum; there is no
    target network, the caller gives v.
    """
    value = as_float("value", value, (None, None))
    following = jax.lax.stop_gradient(as_float("following", following, value.shape))
    return _regress(value, following, batch, cost)


def _regress(value: Array, following: Array | None, batch: Rating, cost: Cost) -> Loss:
    """Mean over completions of the mean over tokens of c(target − value).

    The target is the score: at every token, or at the last one and elsewhere what follows.
    """
    check_mask("batch.mask", batch.mask, value.shape)
    score = as_float("batch.score", batch.score, value.shape[:1])
    weight = as_float("batch.weight", batch.weight, value.shape[:1])
    weight = jnp.where(batch.mask.any(-1), weight, 0.0)
    mask = batch.mask & (weight > 0)[:, None]
    last = jnp.arange(value.shape[1]) == last_index(mask)[:, None]
    v, score = jnp.where(mask, value, 0.0), jnp.where(weight > 0, score, 0.0)
    target = jnp.where(mask, score[:, None], 0.0)
    if following is not None:
        target = jnp.where(mask & ~last, following, target)
    metrics = {
        "value": weighted(masked_mean(v, mask, axis=-1), weight),
        "value_last": weighted(jnp.where(last, v, 0.0).sum(-1), weight),
        "score": weighted(score, weight),
    }
    return Loss(*weighted(masked_mean(cost(target - v), mask, axis=-1), weight), metrics)
