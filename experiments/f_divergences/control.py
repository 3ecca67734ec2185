"""A pole on a cart that goes to one of two places, imitated by what each divergence rewards."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from experiments.f_divergences.config import Config
from experiments.f_divergences.worlds import BACKWARD, FORWARD, GAIL, Modes, modes_of
from irl_jax.envs.control import cartpole
from irl_jax.envs.environment import Environment, fixed_horizon, standardized
from irl_jax.losses.divergence import JENSEN_SHANNON, KL, PEARSON, REVERSE_KL, fairl
from irl_jax.masking import masked_mean
from irl_jax.models.actor_critic import act
from irl_jax.recipes.control import make_train
from irl_jax.recipes.imitation import adversarial_reward
from irl_jax.rollout.unroll import Act, begin, unroll
from irl_jax.types import Trajectory

REWARDS = {
    "χ²": PEARSON.reward,
    FORWARD: KL.reward,
    GAIL: JENSEN_SHANNON.reward,
    BACKWARD: REVERSE_KL.reward,
    "FAIRL": fairl,
}
LINEAR, NETWORK, ONE = "linear policy", "network", "linear policy, expert of one place"
LEARNERS = (LINEAR, NETWORK, ONE)
GAINS = (2.0, 2.6, 22.0, 4.0)  # of the expert, a m, m/s, radian and radian/s
SHARPNESS = 2.0  # of its choice, nats a unit of these
EDGES = np.linspace(-2.4, 2.4, 25)  # of the cells of positions, m
CELLS = len(EDGES)  # the last is that of who fell


class Lanes(NamedTuple):
    """Learners that run at once.

    Attributes:
        seed: i32[N], of the demonstrations and of the learner.
        rewarded: i32[N], number in `REWARDS`.
        light: f32[N], share of the episodes that go to the left.
    """

    seed: Array
    rewarded: Array
    light: Array


def task(config: Config) -> Environment:
    """CartPole whose episodes all last as long: who falls stays where nothing happens."""
    return fixed_horizon(replace(cartpole(), time_limit=config.control.horizon))


def expert(place: float, observation: Array, key: Array) -> tuple[Array, Array]:
    """Logits linear in the state: the pole is held up, and the cart goes to a place (m)."""
    state = observation[:4].at[0].add(-place)
    right = SHARPNESS * jnp.asarray(GAINS) @ state
    action = jax.random.bernoulli(key, jax.nn.sigmoid(right)).astype(jnp.int32)
    return action, jax.nn.log_sigmoid(jnp.where(action == 1, right, -right))


def episodes(env: Environment, policy: Act, key: Array, number: int) -> Trajectory:
    """Whole episodes of a policy, a row each."""
    starting, acting = jax.random.split(key)
    running = begin(env, starting, number)
    steps = int(env.time_limit or 0)
    return unroll(env, policy, running, acting, steps=steps, discount=1.0)[1]


def to_either(config: Config, key: Array, number: int) -> tuple[Trajectory, Trajectory]:
    """Episodes of the expert who goes to the right, and of the one who goes to the left."""
    place, env = config.control.place, task(config)
    right, left = jax.random.split(key)
    return (
        episodes(env, partial(expert, place), right, number),
        episodes(env, partial(expert, -place), left, number),
    )


def visits(observation: Array, action: Array) -> Array:
    """The share of steps in each cell of positions and action, f32[CELLS, 2]."""
    at = jnp.searchsorted(jnp.asarray(EDGES[1:-1], observation.dtype), observation[..., 0])
    cell = jnp.where(observation[..., 4] > 0, CELLS - 1, at)
    counts = jnp.zeros((CELLS, 2)).at[cell, action].add(1.0)
    return counts / counts.sum()


def expert_visits(config: Config) -> np.ndarray:
    """Of an expert who goes to the right, and of one who goes to the left, f64[2, CELLS, 2]."""

    def measured(key: Array) -> list[Array]:
        return [visits(x.context, x.action) for x in to_either(config, key, 16 * number)]

    number = config.control.measured
    return np.asarray(jax.jit(measured)(jax.random.key(config.seed)), np.float64)


def modes(config: Config, own: np.ndarray, name: str) -> Modes:
    """What the expert of a learner visits, and its support on either side.

    Args:
        config: the settings.
        own: of `expert_visits`.
        name: of the learner.
    """
    light = 0.0 if name == ONE else config.control.light
    return modes_of(np.array([1 - light, light])[:, None, None] * own, config.support)


def demonstrated(config: Config, key: Array, light: Array) -> Trajectory:
    """Episodes to either side; those in the mask are as many as there are demonstrations."""
    number = config.control.episodes
    both = jax.tree.map(lambda *x: jnp.concatenate(x), *to_either(config, key, number))
    rows, left = jnp.arange(number), jnp.round(light * number)
    kept = jnp.concatenate([rows < number - left, rows < left])
    return replace(both, mask=both.mask & kept[:, None])


def imitated(config: Config, lane: Lanes, *, linear: bool) -> Array:
    """What a policy visits that was taught by one reward, f32[CELLS, 2]."""
    key = jax.random.fold_in(jax.random.key(config.seed), lane.seed)
    showing, learning, acting = jax.random.split(key, 3)
    settings = config.control
    shown = demonstrated(config, showing, lane.light)
    x = shown.context
    counted = jnp.broadcast_to(shown.mask[..., None], x.shape)
    mean = masked_mean(x, counted, axis=(0, 1))
    spread = masked_mean((x - mean) ** 2, counted, axis=(0, 1))
    deviation = jnp.where(spread > 0, jnp.sqrt(spread), 1.0)  # of falls there may be none
    env = standardized(task(config), mean, deviation)
    learned = adversarial_reward(
        env,
        replace(shown, context=(x - mean) / deviation),
        settings.discriminator,
        lambda v: jnp.stack([reward(v) for reward in REWARDS.values()])[lane.rewarded],
    )
    policy = replace(settings.policy, widths=() if linear else settings.policy.widths)
    trained = make_train(env, policy, learned)(learning)
    own = episodes(env, partial(act, trained.params), acting, settings.measured)
    return visits(own.context * deviation + mean, own.action)


def drive(config: Config, advance: Any) -> dict[str, np.ndarray]:
    """Learner -> what its policies visit, f32[rewards, seeds, CELLS, 2]; `expert` f64[2, CELLS, 2].

    The learners with linear policies are one program, those with networks another.
    """
    settings = config.control
    seeds, rewarded = np.meshgrid(np.arange(settings.seeds), np.arange(len(REWARDS)))
    found = {"expert": expert_visits(config)}
    for done, group in enumerate(((LINEAR, ONE), (NETWORK,)), start=1):
        light = [0.0 if name == ONE else settings.light for name in group]
        lanes = Lanes(
            jnp.asarray(np.tile(seeds.ravel(), len(group))),
            jnp.asarray(np.tile(rewarded.ravel(), len(group))),
            jnp.asarray(np.repeat(light, seeds.size), jnp.float32),
        )
        program = jax.jit(jax.vmap(partial(imitated, config, linear=LINEAR in group)))
        own = np.asarray(program(lanes)).reshape(len(group), *seeds.shape, CELLS, 2)
        found |= dict(zip(group, own, strict=True))
        advance(done, {})
    return found
