"""Apprenticeship: a mixture of policies that does as well as an expert under any linear reward.

The reward is wᵀφ(s, a), with w unknown. What an algorithm needs of the process is the best response
to a w: the feature expectations μ = E Σ γᵗ φ(sₜ, aₜ) of a policy that is optimal for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from irl_jax.dynamics.planning import infinite_horizon, occupancy
from irl_jax.masking import as_float, check_range
from irl_jax.types import TabularMDP

BestResponse = Callable[[Array], Array]


@struct.dataclass
class Apprentice:
    """N policies, each optimal for a reward of its own, and how often each is played.

    Attributes:
        weight: f[N, K], w, the rewards that they are optimal for.
        expectation: f[N, K], μ, their feature expectations.
        share: f[N], the probability that an episode is played by each; sums to 1.
    """

    weight: Array
    expectation: Array
    share: Array


def best_response(mdp: TabularMDP, feature: Array) -> BestResponse:
    """w -> μ = E Σ γᵗ φ(sₜ, aₜ) of a policy that is optimal for wᵀφ, without a horizon.

    Args:
        mdp: the process; γ < 1, or every policy comes to an end.
        feature: φ, f[S, A, K].

    Raises:
        InputError: an array has the wrong shape or dtype.

    Reference: Abbeel & Ng 2004, "Apprenticeship learning via inverse reinforcement learning", ICML,
    section 2 (feature expectations).
    """
    feature = as_float("feature", feature, (*jnp.shape(mdp.discount), None))

    def respond(weight: Array) -> Array:
        plan = infinite_horizon(mdp, feature @ weight, temperature=None)
        return jnp.einsum("sa,sak->k", occupancy(mdp, plan.logp), feature)

    return respond


def projection(respond: BestResponse, target: Array, *, steps: int) -> Apprentice:
    """Finds the mixture of policies whose feature expectations are nearest to the expert's.

    w = μ_E − μ̄, μ = the best response to w, μ̄ ← the point of the line from μ̄ to μ that is nearest
    to μ_E. |w| bounds how much worse than the expert μ̄ is under any reward with |w| ≤ 1.

    Args:
        respond: f[K] -> f[K], as `best_response` makes it.
        target: μ_E, f[K], the expert's feature expectations.
        steps: policies after the first, which is a best response to μ_E itself; at least 1.

    Returns:
        The mixture of steps + 1 policies.

    Raises:
        InputError: an array has the wrong shape or dtype, or a number is out of range.

    Reference: Abbeel & Ng 2004, "Apprenticeship learning via inverse reinforcement learning", ICML,
    section 3.1 (the projection method).

    Differs: the first policy is a best response to μ_E, theirs is random; and μ̄ stays between both
    ends of the line, so that the mixture is one.
    """
    target = as_float("target", target, (None,))
    check_range("steps", steps, 1)
    first = respond(target)

    def step(mean: Array, _: None) -> tuple[Array, tuple[Array, Array, Array]]:
        weight = target - mean
        found = respond(weight)
        ahead = found - mean
        far = ahead @ ahead
        move = jnp.where(far > 0, jnp.clip(ahead @ weight / jnp.where(far > 0, far, 1.0), 0, 1), 0)
        return mean + move * ahead, (weight, found, move)

    _, (weight, found, move) = jax.lax.scan(step, first, length=steps)
    moves = jnp.concatenate([jnp.ones_like(move[:1]), move])
    kept = jnp.cumprod(jnp.concatenate([1.0 - move, jnp.ones_like(move[:1])])[::-1])[::-1]
    return Apprentice(
        jnp.concatenate([target[None], weight]),
        jnp.concatenate([first[None], found]),
        moves * kept,
    )


def multiplicative_weights(
    respond: BestResponse, target: Array, *, steps: int, scale: float
) -> Apprentice:
    """Plays the game max_ψ min_w wᵀ(μ(ψ) − μ_E), w ≥ 0, Σ w = 1, by multiplicative weights.

    wᵢ ← wᵢ β^gᵢ / Σ, with g = ((μ − μ_E)/scale + 1)/2 of the best response μ and
    β = 1/(1 + √(2 ln K / N)). The average of the policies does better than the expert by the value
    of the game, or falls short of that by at most 2 scale (√(2 ln K / N) + ln K / N). A feature
    that may be good or bad is given twice, with either sign.

    Args:
        respond: f[K] -> f[K], as `best_response` makes it.
        target: μ_E, f[K], the expert's feature expectations.
        steps: N, policies, at least 1; each has a share of 1/N.
        scale: bound of |μᵢ − μ_Eᵢ|, such as 1/(1 − γ) for features in [0, 1].

    Returns:
        The mixture.

    Raises:
        InputError: an array has the wrong shape or dtype, or a number is out of range.

    Reference: Syed & Schapire 2007, "A game-theoretic approach to apprenticeship learning",
    algorithm MWAL, theorem 1; Freund & Schapire 1999, "Adaptive game playing using multiplicative
    weights".
    """
    target = as_float("target", target, (None,))
    check_range("steps", steps, 1)
    check_range("scale", scale, 0.0, exclusive=True)
    log_beta = -math.log1p(math.sqrt(2.0 * math.log(len(target)) / steps))

    def step(logit: Array, _: None) -> tuple[Array, tuple[Array, Array]]:
        weight = jax.nn.softmax(logit)
        found = respond(weight)
        gain = 0.5 * ((found - target) / scale + 1.0)
        return logit + gain * log_beta, (weight, found)

    _, (weight, found) = jax.lax.scan(step, jnp.zeros_like(target), length=steps)
    return Apprentice(weight, found, jnp.full(steps, 1.0 / steps, target.dtype))
