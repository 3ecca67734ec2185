"""How surely a reward was recovered: covariances of the most likely one, where it is identified.

The likelihood of demonstrations is flat along what they cannot tell, so that its curvature has no
inverse. It has one on what is identified, which `irl_jax.eval.identification.projector` gives.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array


def information_covariance(
    loss: Callable[[Array], Array], estimate: Array, identified: Array
) -> Array:
    """Covariance of the most likely reward by the observed information, Σ = (P H P)⁺.

    H is the curvature of the negative log-likelihood of all demonstrations at the estimate. Its
    square roots on the diagonal are the standard errors of P r.

    Args:
        loss: reward f[...] -> f[], −Σ log π(a | s), nats: `total` of `causal_likelihood` with a
            discount of 1, whatever the discount that is planned with. With another it is no
            likelihood, see `sandwich_covariance`.
        estimate: f[...], N elements, where the loss is least.
        identified: f[N, N], P.

    Returns:
        f[N, N], of P r.

    Reference: Efron & Hinkley 1978, "Assessing the accuracy of the maximum likelihood estimator:
    Observed versus expected Fisher information".
    """
    return _inverse_within(_curvature(loss, estimate), identified)


def sandwich_covariance(
    losses: Callable[[Array], Array], estimate: Array, identified: Array
) -> Array:
    """Covariance of the reward of the least loss, likelihood or not, Σ = (P H P)⁺ J (P H P)⁺.

    J = Σᵢ gᵢ gᵢᵀ, gᵢ the gradient of demonstration i. It holds for the discounted likelihood, and
    where the demonstrator does not plan as the model says.

    Args:
        losses: reward f[...] -> f[B], the loss of each demonstration, which are independent.
        estimate: f[...], N elements, where the sum is least.
        identified: f[N, N], P.

    Returns:
        f[N, N], of P r.

    Reference: White 1982, "Maximum Likelihood Estimation of Misspecified Models".
    """
    bread = _inverse_within(_curvature(lambda r: losses(r).sum(), estimate), identified)
    slopes = jax.jacfwd(losses)(estimate)
    slopes = slopes.reshape(len(slopes), -1)
    return bread @ slopes.T @ slopes @ bread


def _curvature(loss: Callable[[Array], Array], at: Array) -> Array:
    """The matrix of second derivatives, f[N, N]."""
    return jax.hessian(loss)(at).reshape(at.size, at.size)


def _inverse_within(matrix: Array, subspace: Array) -> Array:
    """(P M P)⁺, which is as large as the subspace, on whose complement M is replaced by 1."""
    rest = jnp.eye(len(matrix)) - subspace
    return jnp.linalg.inv(subspace @ matrix @ subspace + rest) - rest
