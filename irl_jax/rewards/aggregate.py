"""One reward from the rewards of an ensemble's members, f32[M, ...] -> f32[...].

The plain aggregate is `reward.mean(0)` (Coste et al., eq. 3): one member that is far too high
raises it. The others hold back where members disagree, which is where comparisons were
few. Members must be in the same units.

Reference: Coste et al. 2023, "Reward Model Ensembles Help Mitigate Overoptimization",
arXiv 2310.02743, eqs. 3 to 5.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from irl_jax.masking import check_range


def worst_case(reward: Array) -> Array:
    """The least reward of any member, min_m r_m: all members must like it.

    Args:
        reward: f32[M, ...].

    Returns:
        f32[...].

    Reference: Coste et al. 2023, arXiv 2310.02743, eq. 4.
    """
    return reward.min(0)


def uncertainty_weighted(reward: Array, *, penalty: float) -> Array:
    """The mean less the variance over members, r̄ − λ · 1/M Σ_m (r_m − r̄)².

    Args:
        reward: f32[M, ...].
        penalty: λ >= 0, a unit of reward; it changes with the units of the reward.

    Returns:
        f32[...].

    Raises:
        InputError: λ is negative.

    Reference: Coste et al. 2023, arXiv 2310.02743, eq. 5.

    Example:
        >>> reward = jnp.array([[1.0, 1.0], [1.0, 3.0]])  # two members, two responses
        >>> uncertainty_weighted(reward, penalty=0.5).tolist(), worst_case(reward).tolist()
        ([1.0, 1.5], [1.0, 1.0])
    """
    check_range("penalty", penalty, 0.0)
    return reward.mean(0) - penalty * reward.var(0)


def disagreement(reward: Array) -> Array:
    """Standard deviation over members, √(1/M Σ_m (r_m − r̄)²); its gradient is 0 where it is.

    Args:
        reward: f32[M, ...].

    Returns:
        f32[...], in units of the reward.
    """
    variance = reward.var(0)
    return jnp.where(variance > 0, jnp.sqrt(jnp.where(variance > 0, variance, 1.0)), 0.0)


def lower_confidence_bound(reward: Array, *, deviations: float) -> Array:
    """The mean less k standard deviations over members, r̄ − k · `disagreement`.

    Unlike `uncertainty_weighted` it keeps its order when the units of the reward change.

    Args:
        reward: f32[M, ...].
        deviations: k >= 0.

    Returns:
        f32[...].

    Raises:
        InputError: k is negative.
    """
    check_range("deviations", deviations, 0.0)
    return reward.mean(0) - deviations * disagreement(reward)
