"""What demonstrations say of a reward: the part that their policy depends on, and no more.

Two rewards have one soft-optimal policy if and only if they differ by r(s, a) = v(s) − γ E v(S'):
if their advantages under the uniform policy are the same. Advantages are linear in the reward, so
that what cannot be identified is the null space of a matrix, and a projector removes it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from irl_jax.dynamics.planning import expected_next, infinite_horizon, occupancy
from irl_jax.eval.reward_distance import expected_reward
from irl_jax.masking import as_float, check_range
from irl_jax.types import TabularMDP


def advantages_in_time(mdp: TabularMDP, reward: Array, *, horizon: int) -> Array:
    """Advantages of the uniform policy with H steps to go, Aₜ = r + γ E Vₜ₊₁ − Vₜ, V_H = 0.

    Args:
        mdp: the process.
        reward: f[S, A, S'], f[S, A] or f[S].
        horizon: H, at least 1.

    Returns:
        f[H, S, A]; two rewards have the same if and only if `finite_horizon` finds the same soft
        policy for both. Without a horizon `value_adjusted` is what tells them apart.

    Raises:
        InputError: an array has the wrong shape or dtype, or a number is out of range.

    Reference: Cao, Cohen & Szpruch 2021, "Identifiability in inverse reinforcement learning", arXiv
    2106.03498, time-homogeneous rewards on finite horizons.
    """
    check_range("horizon", horizon, 1)
    r = expected_reward(mdp, reward)

    def back(value: Array, _: None) -> tuple[Array, Array]:
        q = r + expected_next(mdp, value)
        return q.mean(-1), q - q.mean(-1, keepdims=True)

    return jax.lax.scan(back, jnp.zeros(len(r), r.dtype), length=horizon, reverse=True)[1]


def projector(linear: Callable[[Array], Any], shape: tuple[int, ...]) -> Array:
    """The orthogonal projector on what a linear map does not lose, P = M⁺M.

    Its null space is what cannot be identified, its trace the number of directions that can be.

    Args:
        linear: parameters f[*shape] -> arrays that are the same for parameters that no
            demonstration tells apart: `value_adjusted` of the reward that the parameters give,
            `advantages_in_time`, or a tuple of several, of processes that were all seen.
        shape: of the parameters.

    Returns:
        f[N, N], N the number of parameters.

    Reference: Cao, Cohen & Szpruch 2021, "Identifiability in inverse reinforcement learning", arXiv
    2106.03498, theorem 1; Kim et al. 2021, "Reward Identification in Inverse Reinforcement
    Learning" (rewards of states alone).

    Example:
        >>> from irl_jax.envs.tabular import gridworld
        >>> from irl_jax.eval.reward_distance import value_adjusted
        >>> grid = gridworld(1, 3, discount=0.9)
        >>> of_actions = projector(lambda r: value_adjusted(grid, r), (3, 4))
        >>> of_states = projector(lambda r: value_adjusted(grid, r), (3,))
        >>> round(float(of_actions.trace())), round(float(of_states.trace()))
        (9, 2)
    """
    slopes = jax.tree.leaves(jax.jacobian(linear)(jnp.zeros(shape)))
    size = jnp.zeros(shape).size
    matrix = jnp.concatenate([slope.reshape(-1, size) for slope in slopes])
    _, values, rows = jnp.linalg.svd(matrix, full_matrices=False)
    least = values[0] * max(matrix.shape) * jnp.finfo(matrix.dtype).eps
    return (rows.T * (values > least)) @ rows


def project(projector: Array, reward: Array) -> Array:
    """A reward without what cannot be identified, P r.

    Args:
        projector: f[N, N], from `projector`.
        reward: f[...] of N elements.

    Raises:
        InputError: an array has the wrong shape or dtype.
    """
    reward = as_float("reward", reward, jnp.shape(reward))
    whole = as_float("projector", projector, (reward.size, reward.size))
    return (whole @ reward.ravel()).reshape(reward.shape)


def normalised_regret(mdp: TabularMDP, reward: Array, logp: Array) -> Array:
    """What a policy falls short of the best one, (J_max − J(π)) / (J_max − J_min), in [0, 1].

    Args:
        mdp: the process; γ < 1, or every policy comes to the end of the episode.
        reward: f[S, A, S'], f[S, A] or f[S], what J counts.
        logp: f[S, A], log-probs of the policy (nats).

    Returns:
        f[]; 0 where all policies are equally good.

    Raises:
        InputError: an array has the wrong shape or dtype.

    Reference: Skalse et al. 2024, "STARC: A General Framework For Quantifying Differences Between
    Reward Functions", arXiv 2309.15257, regret.
    """
    r = expected_reward(mdp, reward)
    most = lambda r: mdp.start @ infinite_horizon(mdp, r, temperature=None).value
    highest, lowest = most(r), -most(-r)
    lost = highest - (occupancy(mdp, logp) * r).sum()
    spread = highest - lowest
    alike = spread <= jnp.sqrt(jnp.finfo(r.dtype).eps) * (1 + jnp.abs(highest))
    return jnp.where(alike, 0.0, lost / jnp.where(alike, 1.0, spread))


def regret(mdp: TabularMDP, reward: Array, learned: Array, *, temperature: float | None) -> Array:
    """The `normalised_regret` of the policy that is optimal for another reward.

    (J_max − J(π)) / (J_max − J_min), π optimal for the learned reward in the same process. To ask
    what a reward is worth elsewhere, give a process whose dynamics it was not learned in.

    Args:
        mdp: the process in which the learned reward is planned for, and J counts.
        reward: f[S, A, S'], f[S, A] or f[S], what J counts.
        learned: f[S, A, S'], f[S, A] or f[S], what is planned for.
        temperature: τ of the soft policy, which loses something even for the reward itself; None:
            a hard maximum, ties at random.

    Raises:
        InputError: an array has the wrong shape or dtype, or a number is out of range.

    Reference: Skalse et al. 2024, "STARC: A General Framework For Quantifying Differences Between
    Reward Functions", arXiv 2309.15257, regret.
    """
    plan = infinite_horizon(mdp, expected_reward(mdp, learned), temperature=temperature)
    return normalised_regret(mdp, reward, plan.logp)
