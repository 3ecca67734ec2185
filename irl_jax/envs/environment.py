"""Environments as pure functions, and what turns one environment into another.

    state = env.reset(key)
    state, reward, terminated = env.step(state, action, key)
    observation = env.observe(state)

All three take one environment; `jax.vmap` makes them many, `jax.lax.scan` a run of steps. Nothing
counts time: an episode that reaches `time_limit` is cut by whoever steps
(`irl_jax.rollout.unroll`), so that it is told apart from one that terminated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from irl_jax.types import InputError, PyTree, Space


class Step(NamedTuple):
    """What one action leads to.

    Attributes:
        state: the next state; `observe` says what is seen of it.
        reward: f32[].
        terminated: bool[], true where the episode ended: nothing is earned afterwards.
    """

    state: PyTree
    reward: Array
    terminated: Array


@dataclass(frozen=True)
class Environment:
    """A Markov decision process to act in.

    Attributes:
        reset: typed PRNG key -> state in which an episode begins.
        step: (state, action, typed PRNG key) -> `Step`.
        observe: state -> observation.
        observation: what observations are.
        action: what actions are.
        time_limit: steps after which an episode is cut; None: never.
    """

    reset: Callable[[Array], PyTree]
    step: Callable[[PyTree, Array, Array], Step]
    observe: Callable[[PyTree], Array]
    observation: Space
    action: Space
    time_limit: int | None = None


class Absorbing(NamedTuple):
    """A state of `fixed_horizon`.

    Attributes:
        state: of the environment, the last one once it has terminated.
        absorbed: bool[], whether it has.
    """

    state: PyTree
    absorbed: Array


def fixed_horizon(env: Environment) -> Environment:
    """The environment whose episodes all last `time_limit` steps: none terminates.

    Where an episode would have terminated, it goes on in an absorbing state that no action leaves
    and that earns nothing. Its length then tells nothing of the reward, and a reward that is
    learned has a say in what comes after the end. A vector of observations gets one more number,
    1 in the absorbing state, where the others are 0; of n observations n is the absorbing one.

    Raises:
        InputError: there is no time limit, or the observation is no vector and no index.

    Reference: Kostrikov et al. 2018, "Discriminator-Actor-Critic: Addressing Sample Inefficiency
    and Reward Bias in Adversarial Imitation Learning", arXiv 1809.02925 (absorbing states).
    """
    if env.time_limit is None:
        raise InputError("time_limit: a fixed horizon needs one")
    if isinstance(env.observation, tuple) and len(env.observation) != 1:
        raise InputError(
            f"observation: expected a vector or an index, got shape {list(env.observation)}"
        )

    def step(at: Absorbing, action: Array, key: Array) -> Step:
        to = env.step(at.state, action, key)
        stay = lambda old, new: jnp.where(at.absorbed, old, new)
        state = jax.tree.map(stay, at.state, to.state)
        reward = jnp.where(at.absorbed, 0.0, to.reward)
        return Step(Absorbing(state, at.absorbed | to.terminated), reward, jnp.asarray(False))

    def observe(at: Absorbing) -> Array:
        seen = env.observe(at.state)
        if isinstance(env.observation, int):
            return jnp.where(at.absorbed, env.observation, seen)
        flag = at.absorbed.astype(seen.dtype)
        return jnp.append(jnp.where(at.absorbed, 0.0, seen), flag)

    one_more = (
        env.observation + 1 if isinstance(env.observation, int) else (env.observation[0] + 1,)
    )
    reset = lambda key: Absorbing(env.reset(key), jnp.asarray(False))
    return replace(env, reset=reset, step=step, observe=observe, observation=one_more)


def discrete_actions(env: Environment, actions: Sequence[Sequence[float]] | Array) -> Environment:
    """The environment with a choice among a few of its continuous actions.

    Args:
        env: its actions are vectors.
        actions: f32[A, N], the actions that stand for 0, 1, ..., A - 1.

    Raises:
        InputError: the actions have another shape.
    """
    shape = np.shape(actions)
    if isinstance(env.action, int) or shape[1:] != env.action:
        raise InputError(f"actions: expected [A, *{env.action}] of the environment, got {shape}")
    step = lambda state, action, key: env.step(state, jnp.asarray(actions, float)[action], key)
    return replace(env, step=step, action=shape[0])


def standardized(env: Environment, mean: Array, deviation: Array) -> Environment:
    """The environment that is observed as (x − mean) / deviation.

    Args:
        env: its observations are numbers.
        mean: of the shape of an observation, or of a part of its axes.
        deviation: likewise, > 0.

    Raises:
        InputError: an observation is an index.
    """
    if isinstance(env.observation, int):
        raise InputError("observation: an index is not standardized")
    return replace(env, observe=lambda state: (env.observe(state) - mean) / deviation)
