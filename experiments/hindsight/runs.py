"""Runs of a soft Q on flipped bits, each one program; what they store beside what was done."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from experiments.hindsight.config import Config
from irl_jax.envs.environment import Environment
from irl_jax.envs.exploration import bit_flip, bit_goals
from irl_jax.models.actor_critic import greedy
from irl_jax.recipes.interaction import Learner, Metrics, interact
from irl_jax.recipes.soft_q import as_policy, soft_q_learner, sqil_loss
from irl_jax.rollout.hindsight import hindsight
from irl_jax.rollout.replay import Replay, draw, store
from irl_jax.rollout.unroll import Act, begin, unroll
from irl_jax.types import PyTree, Rating, Trajectory

# (what was done, typed PRNG key) -> transitions to store beside it
Relabel = Callable[[Trajectory, Array], Trajectory]

NONE, FINAL, FUTURE, RANDOM = (
    "no hindsight",
    "last state",
    "later states",
    "random goals",
)
ARMS = (NONE, FINAL, FUTURE, RANDOM)
CHANCE = "random flips"


def relabels(bits: int, copies: int) -> dict[str, Relabel | None]:
    """Arm -> what it stores beside what was done.

    Args:
        bits: of the goal.
        copies: relabelled transitions of each one, where goals are drawn.
    """
    goals = bit_goals(bits)

    def many(one: Relabel) -> Relabel:
        def rows(batch: Trajectory, key: Array) -> Trajectory:
            made = jax.vmap(partial(one, batch))(jax.random.split(key, copies))
            return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), made)

        return rows

    def random(batch: Trajectory, key: Array) -> Trajectory:
        relabelling, drawing = jax.random.split(key)
        rows = hindsight(batch, relabelling, goals, future=True)
        assert rows.discount is not None
        goal = jax.random.bernoulli(drawing, shape=(len(rows.final), bits)).astype(float)
        given = jax.vmap(goals.given)
        context, final = given(rows.context[:, 0], goal)[:, None], given(rows.final, goal)
        reached = (jax.vmap(goals.achieved)(final) == goal).all(-1)
        rate = jnp.where(reached, 0.0, rows.discount.max())
        reward = jax.vmap(goals.reward)(reached)[:, None]
        return replace(rows, context=context, final=final, reward=reward, terminated=reached,
                       discount=rate[:, None])  # fmt: skip

    return {
        NONE: None,
        FINAL: lambda batch, key: hindsight(batch, key, goals, future=False),
        FUTURE: many(partial(hindsight, goals=goals, future=True)),
        RANDOM: many(random),
    }


def beside(learner: Learner, relabel: Relabel) -> Learner:
    """A learner of a soft Q that stores relabelled transitions as well."""

    def update(carry: tuple, batch: Trajectory) -> tuple[PyTree, Metrics]:
        state, target, replay = carry
        rows = relabel(batch, jax.random.fold_in(state.key, state.step))
        replay = store(replay, rows, rows.mask[:, 0])
        return learner.update((state, target, replay), batch)

    return Learner(learner.act, update)


def success(env: Environment, policy: Act, key: Array, episodes: int) -> Array:
    """The share of episodes that end at their goal, f32[]."""
    assert env.time_limit is not None
    starting, acting = jax.random.split(key)
    running = begin(env, starting, episodes)
    steps = env.time_limit
    ended = unroll(env, policy, running, acting, steps=steps, discount=1.0)[2]
    first = ended.over & (jnp.cumsum(ended.over, -1) == 1)
    return (first & (ended.total > 0.5 - steps)).sum() / episodes


def make_run(config: Config, bits: int, arm: str) -> Callable[[Array], tuple[Array, Array]]:
    """A run as one pure function of a key.

    Returns:
        Typed PRNG key -> the share of episodes that end at their goal, of the greedy policy at the
        end and of random flips.
    """
    env, learning = bit_flip(bits), config.learning
    relabel = relabels(bits, config.copies)[arm]

    def own(replay: Replay, key: Array) -> tuple[Trajectory, Rating]:
        rows = draw(replay, key, learning.batch_size)
        absent: Any = None
        ones = jnp.ones(learning.batch_size)
        return rows, Rating(absent, absent, absent, score=rows.reward[:, 0], weight=ones)

    init, learner = soft_q_learner(env, learning, sqil_loss, own)
    learner = learner if relabel is None else beside(learner, relabel)

    def flip(observation: Array, key: Array) -> tuple[Array, Array]:
        return jax.random.randint(key, (), 0, bits), jnp.zeros(())

    def run(key: Array) -> tuple[Array, Array]:
        starting, resetting, running, judging = jax.random.split(key, 4)
        (state, *_), _ = interact(
            env,
            learner,
            init(starting),
            (resetting, running),
            environments=learning.environments,
            steps=learning.unroll,
            updates=learning.rounds,
            discount=learning.discount,
        )
        policy = partial(greedy, as_policy(state.params, learning.temperature))
        judge = lambda policy: success(env, policy, judging, config.episodes)
        return judge(policy), judge(flip)

    return run


def measure(config: Config, bits: int, arm: str) -> tuple[np.ndarray, np.ndarray]:
    """Runs an arm with every seed, all at once.

    Returns:
        f32[seeds] each: shares of episodes that end at their goal, at the end and by chance.
    """
    key = jax.random.fold_in(jax.random.key(config.seed), bits * len(ARMS) + ARMS.index(arm))
    keys = jax.random.split(key, config.seeds)
    learned, chance = jax.jit(jax.vmap(make_run(config, bits, arm)))(keys)
    return np.asarray(learned), np.asarray(chance)
