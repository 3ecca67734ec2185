"""Runs of tabular Q-learning in DeepSea, with bonuses for what is new; all arms are one program."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from experiments.exploration.config import Config
from irl_jax.envs.exploration import deep_sea
from irl_jax.rewards.intrinsic import count_bonus, novelty

WIDTH = 8  # of the random network
RATE = 0.1  # of the gradient descent by which it is distilled


class Arm(NamedTuple):
    """How a run explores.

    Attributes:
        dithering: ε, probability of a random action.
        counts: β of bonuses of counts.
        network: β of bonuses of random network distillation.
        shuffled: whether the bonus of another state and action is read, always the same one.
    """

    dithering: float = 0.0
    counts: float = 0.0
    network: float = 0.0
    shuffled: bool = False


GREEDY, DITHERING, COUNTS, NETWORK, SHUFFLED = (
    "greedy",
    "dithering",
    "counts",
    "random network",
    "shuffled counts",
)


def arms(config: Config) -> dict[str, Arm]:
    """Name -> how it explores."""
    return {
        GREEDY: Arm(),
        DITHERING: Arm(dithering=config.dithering),
        COUNTS: Arm(counts=config.scale),
        NETWORK: Arm(network=config.scale),
        SHUFFLED: Arm(counts=config.scale, shuffled=True),
    }


@partial(jax.jit, static_argnames=("size", "episodes"))
def runs(arm: Arm, keys: Array, *, size: int, episodes: int) -> Array:
    """Whether the treasure was found, bool[N, episodes].

    An action of a state is worth Q and its bonus, and Q of an action that was taken becomes its
    reward and what the best action of the next state is worth: the bonus is a reward, of actions
    that were never taken too. Updates go back along each episode, and the process is deterministic.

    Args:
        arm: of N runs, each field an array [N].
        keys: typed PRNG keys [N].
        size: of the sea, N cells each way.
        episodes: of each run.
    """
    return jax.vmap(partial(_run, size=size, episodes=episodes))(arm, keys)


def _run(arm: Arm, key: Array, *, size: int, episodes: int) -> Array:
    placing, shuffling, drawing, running = jax.random.split(key, 4)
    process, reward = deep_sea(size, discount=1.0, key=placing)
    assert process.successor is not None
    after, pairs = process.successor[..., 0], reward.size
    order = jax.random.permutation(shuffling, pairs)
    order = jnp.where(arm.shuffled, order, jnp.arange(pairs))
    target = jax.random.normal(drawing, (pairs, WIDTH)) / jnp.sqrt(WIDTH)

    def bonus(count: Array, predicted: Array) -> Array:
        new = count_bonus(count, scale=arm.counts) + arm.network * novelty(predicted, target)
        return new[order].reshape(reward.shape)

    def episode(carry: tuple, key: Array) -> tuple[tuple, Array]:
        q, count, predicted = carry
        worth = q + bonus(count, predicted)

        def step(state: Array, key: Array) -> tuple[Array, Array]:
            tying, dithering, choosing = jax.random.split(key, 3)
            best = worth[state] == worth[state].max()
            action = jax.random.categorical(tying, jnp.where(best, 0.0, -jnp.inf))
            random = jax.random.bernoulli(dithering, arm.dithering)
            action = jnp.where(random, jax.random.randint(choosing, (), 0, 2), action)
            return after[state, action], 2 * state + action

        _, taken = jax.lax.scan(step, jnp.zeros((), after.dtype), jax.random.split(key, size))
        count = count.at[taken].add(1.0)
        predicted = predicted.at[taken].add(2 * RATE * (target - predicted)[taken])
        new = bonus(count, predicted)

        def back(carry: tuple, pair: Array) -> tuple[tuple, None]:
            q, value = carry
            state, action = pair // 2, pair % 2
            q = q.at[state, action].set(reward[state, action] + value)
            return (q, (q + new)[state].max()), None

        (q, _), _ = jax.lax.scan(back, (q, jnp.zeros(())), taken, reverse=True)
        return (q, count, predicted), reward.ravel()[taken].max() > 0.5

    first = (jnp.zeros(reward.shape), jnp.zeros(pairs), jnp.zeros((pairs, WIDTH)))
    return jax.lax.scan(episode, first, jax.random.split(running, episodes))[1]


def measure(config: Config, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Runs every arm with every seed, all at once.

    Returns:
        f64[arms, seeds] each: episodes until the treasure was found, and until it had been found
        in nine of ten of the last `window`; the number of episodes where that never happened.
    """
    ways = arms(config).values()
    seeds = config.seeds
    arm = jax.tree.map(lambda *x: jnp.repeat(jnp.array(x), seeds), *ways)
    key = jax.random.fold_in(jax.random.key(config.seed), size)
    keys = jnp.tile(jax.random.split(key, seeds), len(ways))
    found = np.asarray(runs(arm, keys, size=size, episodes=config.episodes))
    share = np.lib.stride_tricks.sliding_window_view(found, config.window, axis=1).mean(-1)
    until = lambda x, n: np.where(x.any(1), x.argmax(1) + float(n), config.episodes)
    shape = (len(ways), seeds)
    return until(found, 1).reshape(shape), until(share >= 0.9, config.window).reshape(shape)
