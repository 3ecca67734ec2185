"""The one loop of control: a policy acts for a while, then learns from what happened."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from irl_jax.envs.environment import Environment
from irl_jax.masking import masked_mean
from irl_jax.rollout.unroll import Act, Episodes, begin, unroll
from irl_jax.types import PyTree, Trajectory

Metrics = dict[str, Array]


class Trained(NamedTuple):
    """What a run ends with.

    Attributes:
        params: of the policy, see `models.actor_critic`; with its critic, if it has one.
        reward: state of the reward that was learned; None if it was given, or is none.
        metrics: name -> f32[updates].
    """

    params: PyTree
    reward: PyTree
    metrics: Metrics


Train = Callable[[Array], Trained]  # typed PRNG key -> what the run ends with


class Learner(NamedTuple):
    """What acts and learns.

    Attributes:
        act: its state -> the policy that acts until the next update.
        update: (state, unroll) -> state, metrics.
    """

    act: Callable[[PyTree], Act]
    update: Callable[[PyTree, Trajectory], tuple[PyTree, Metrics]]


def episode_metrics(episodes: Episodes) -> Metrics:
    """Means over the episodes that ended: `return`, `length`; 0 if there were none; `episodes`."""
    return {
        "return": masked_mean(episodes.total, episodes.over),
        "length": masked_mean(episodes.length.astype(jnp.float32), episodes.over),
        "episodes": episodes.over.sum().astype(jnp.float32),
    }


def interact(
    env: Environment,
    learner: Learner,
    state: PyTree,
    keys: tuple[Array, Array],
    *,
    environments: int,
    steps: int,
    updates: int,
    discount: float,
) -> tuple[PyTree, Metrics]:
    """Unrolls, each followed by an update.

    Args:
        env: the environment.
        learner: acts and learns.
        state: of the learner.
        keys: typed PRNG keys of the first states, and of all that follows.
        environments: B.
        steps: T of each environment in an unroll.
        updates: number of unrolls.
        discount: γ.

    Returns:
        The learner's state, and metrics f32[updates]: its own and `episode_metrics`.
    """

    def turn(carry: tuple, key: Array) -> tuple[tuple, Metrics]:
        state, running = carry
        running, batch, episodes = unroll(
            env, learner.act(state), running, key, steps=steps, discount=discount
        )
        state, metrics = learner.update(state, batch)
        return (state, running), episode_metrics(episodes) | metrics

    running = begin(env, keys[0], environments)
    (state, _), metrics = jax.lax.scan(turn, (state, running), jax.random.split(keys[1], updates))
    return state, metrics
