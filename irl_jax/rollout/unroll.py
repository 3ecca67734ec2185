"""Unrolls: a policy acts in many environments, and begins again where an episode is over."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
from jax import Array

from irl_jax.envs.environment import Environment
from irl_jax.masking import check_range
from irl_jax.types import PyTree, Trajectory

# (observation, typed PRNG key) -> action, its log-prob f32[] (nats)
Act = Callable[[Array, Array], tuple[Array, Array]]


@flax.struct.dataclass
class Running:
    """B environments between two unrolls.

    Attributes:
        state: of each, [B, ...].
        elapsed: i32[B], steps of the episode so far.
        earned: f32[B], their rewards.
    """

    state: PyTree
    elapsed: Array
    earned: Array


class Episodes(NamedTuple):
    """The episodes that came to an end, or to their limit.

    Attributes:
        over: bool[B, T], true at the last action of an episode.
        total: f32[B, T], sum of its rewards, read there, as is the length.
        length: i32[B, T], its steps.
    """

    over: Array
    total: Array
    length: Array


def begin(env: Environment, key: Array, environments: int) -> Running:
    """B environments, each at the beginning of an episode.

    Args:
        env: the environment.
        key: typed PRNG key.
        environments: B.
    """
    check_range("environments", environments, 1)
    state = jax.vmap(env.reset)(jax.random.split(key, environments))
    zeros = jnp.zeros(environments)
    return Running(state, zeros.astype(jnp.int32), zeros)


def unroll(
    env: Environment, act: Act, running: Running, key: Array, *, steps: int, discount: float
) -> tuple[Running, Trajectory, Episodes]:
    """Lets a policy act for T steps in each of B environments.

    An episode that terminated is followed by another one. One that comes to its limit takes one
    column more, outside the mask and of discount 0, with the observation at which it was cut: an
    unroll holds its own bootstraps, and `dynamics.returns.gae` of it is that of the episodes apart.

    Args:
        env: the environment.
        act: the policy, of one observation.
        running: as `begin` or the last unroll left it.
        key: typed PRNG key.
        steps: T.
        discount: γ in [0, 1].

    Returns:
        The environments as they are now, a trajectory of B rows with `final` and `discount`, and
        its episodes.

    Raises:
        InputError: a number is out of range.
    """
    check_range("steps", steps, 1)
    check_range("discount", discount, 0.0, 1.0)
    limit = jnp.inf if env.time_limit is None else env.time_limit

    def step(at: Running, key: Array) -> tuple[Running, tuple[PyTree, Episodes]]:
        acting, moving, resetting = jax.random.split(key, 3)
        observation, cut = env.observe(at.state), at.elapsed >= limit
        action, logp = act(observation, acting)
        to = env.step(at.state, action, moving)
        elapsed, earned = at.elapsed + 1, at.earned + to.reward
        episodes = Episodes(~cut & (to.terminated | (elapsed >= limit)), earned, elapsed)
        again = cut | to.terminated
        new = Running(env.reset(resetting), jnp.zeros_like(elapsed), jnp.zeros_like(earned))
        after = jax.tree.map(
            lambda new, old: jnp.where(again, new, old), new, Running(to.state, elapsed, earned)
        )
        reward, gamma = jnp.where(cut, 0.0, to.reward), jnp.where(again, 0.0, discount)
        return after, ((observation, action, ~cut, logp, reward, gamma), episodes)

    def row(at: Running, key: Array) -> tuple[Running, tuple[PyTree, Episodes]]:
        return jax.lax.scan(step, at, jax.random.split(key, steps))

    keys = jax.random.split(key, running.elapsed.shape[0])
    running, ((context, action, mask, logp, reward, gamma), episodes) = jax.vmap(row)(running, keys)
    terminated = mask[:, -1] & (gamma[:, -1] == 0)
    final = jax.vmap(env.observe)(running.state)
    trajectory = Trajectory(context, action, mask, logp, reward, terminated, final, gamma)
    return running, trajectory, episodes
