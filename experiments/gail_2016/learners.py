"""Behaviour cloning and GAIL of one seed, as pure functions, and what their policies return."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import partial

import flax.struct
import jax
import jax.numpy as jnp
from jax import Array

from experiments.gail_2016.config import Config
from experiments.gail_2016.tasks import demonstrate, expert_act
from irl_jax.envs.environment import Environment, standardized
from irl_jax.masking import masked_mean
from irl_jax.models.actor_critic import greedy
from irl_jax.recipes.cloning import clone
from irl_jax.recipes.control import make_train, mean_return
from irl_jax.recipes.imitation import GAILConfig, gail_reward
from irl_jax.types import Trajectory


@flax.struct.dataclass
class Setting:
    """What one learner is given; an axis in front makes them many.

    Attributes:
        seed: i32[], number of its demonstrations and of its randomness.
        demonstrations: i32[].
        every: i32[], of how many demonstrated steps one is kept.
        b: f32[], sign of GAIL's reward.
        pushes_left: bool[], whether the expert takes no heed and pushes left.
    """

    seed: Array
    demonstrations: Array
    every: Array
    b: Array
    pushes_left: Array


def prepare(
    config: Config, env: Environment, expert: Mapping[str, Array], setting: Setting
) -> tuple[Environment, Trajectory, Array]:
    """Demonstrations, the environment observed in their units, and the learner's key."""
    key = jax.random.fold_in(jax.random.key(config.seed), setting.seed)
    showing, learning = jax.random.split(key)
    act = expert_act(expert, setting.pushes_left)
    shown = demonstrate(env, act, showing, setting.every, max(config.demonstrations))
    given = jnp.arange(len(shown.mask))[:, None] < setting.demonstrations
    kept = (shown.mask & given)[..., None]
    x = shown.context
    mean = masked_mean(x, jnp.broadcast_to(kept, x.shape), axis=(0, 1))
    spread = masked_mean((x - mean) ** 2, jnp.broadcast_to(kept, x.shape), axis=(0, 1))
    # what does not vary, such as the flag of an absorbing state that is not shown, keeps its unit
    deviation = jnp.where(spread > 0, jnp.sqrt(spread) + 1e-6, 1.0)
    shown = replace(shown, context=(x - mean) / deviation, mask=kept[..., 0])
    return standardized(env, mean, deviation), shown, learning


def cloned(
    config: Config, env: Environment, expert: Mapping[str, Array], setting: Setting
) -> Array:
    """The return of behaviour cloning, f32[]."""
    env, shown, key = prepare(config, env, expert, setting)
    cloning, measuring = jax.random.split(key)
    policy = partial(greedy, clone(config.cloning, env, shown, cloning))
    return mean_return(env, policy, measuring, config.episodes)


def imitated(
    config: Config, env: Environment, expert: Mapping[str, Array], setting: Setting
) -> Array:
    """The return of GAIL, f32[]."""
    env, shown, key = prepare(config, env, expert, setting)
    training, measuring = jax.random.split(key)
    reward = gail_reward(env, shown, GAILConfig(b=setting.b, **asdict(config.discriminator)))
    trained = make_train(env, config.policy, reward)(training)
    return mean_return(env, partial(greedy, trained.params), measuring, config.episodes)
