"""Corridors with forks: what is right is known, and so is what each action is worth."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

ACTIONS = 4
FORKS = 5  # at most


class Task(NamedTuple):
    """A corridor of H steps, in some of which, the forks, one action is right and others are wrong.

    Attributes:
        fork: bool[H], steps at which the action matters.
        right: i32[H], the action that is right there.
        first: f32[H, A], log-probs of the policy at the beginning.
        worth: f32[FORKS + 1], probability of the reward 1 after 0, 1, ... wrong actions.
    """

    fork: Array
    right: Array
    first: Array
    worth: Array


class Episodes(NamedTuple):
    """Episodes, or what is left of them from where they begin.

    Attributes:
        action: i32[..., H].
        wrong: i32[..., H], wrong actions before each one: with the step, the state it was taken in.
        after: i32[..., H], the same with it.
        reward: f32[...], at the end.
    """

    action: Array
    wrong: Array
    after: Array
    reward: Array


def make_tasks(
    seeds: list[list[int]],
    *,
    steps: int,
    forks: int,
    doubtful: int,
    sure: float,
    worth: list[float],
) -> Task:
    """A task for each seed, stacked.

    Args:
        seeds: of each task.
        steps: H.
        forks: steps at which the action matters.
        doubtful: steps at which it does not, but at which the policy begins as uncertain.
        sure: probability of one action at all other steps, at the beginning.
        worth: probability of the reward after 0, 1, ... wrong actions, and after more.
    """
    made = []
    ends = np.array(worth + worth[-1:] * (FORKS + 1 - len(worth)), np.float32)
    for seed in seeds:
        rng = np.random.default_rng(seed)
        at = rng.permutation(steps)
        fork = np.isin(np.arange(steps), at[:forks])
        usual = rng.integers(0, ACTIONS, steps)
        prob = np.full((steps, ACTIONS), (1 - sure) / (ACTIONS - 1))
        prob[np.arange(steps), usual] = sure
        prob[at[: forks + doubtful]] = 1 / ACTIONS
        right = rng.integers(0, ACTIONS, steps)
        numbers = (right.astype(np.int32), np.log(prob).astype(np.float32), ends)
        made.append(Task(*map(jnp.asarray, (fork, *numbers))))
    return jax.tree.map(lambda *x: jnp.stack(x), *made)


def roll(task: Task, logits: Array, start: Array, wrong: Array, key: Array) -> Episodes:
    """Lets a policy act from some step to the end.

    Args:
        task: the corridor.
        logits: f32[H, A], of the policy.
        start: i32[...], step at which to begin; what stands before it is arbitrary.
        wrong: i32[...], wrong actions by then.
        key: typed PRNG key.
    """
    acting, ending = jax.random.split(key)
    count = len(task.fork)
    action = jax.random.categorical(acting, logits, shape=(*start.shape, count))
    missed = task.fork & (action != task.right) & (jnp.arange(count) >= start[..., None])
    after = wrong[..., None] + jnp.cumsum(missed, -1, dtype=jnp.int32)
    reward = jax.random.bernoulli(ending, task.worth[after[..., -1]]).astype(jnp.float32)
    return Episodes(action.astype(jnp.int32), after - missed, after, reward)


def exact(task: Task, logits: Array) -> tuple[Array, Array]:
    """V f32[H + 1, FORKS + 1] and Q f32[H, FORKS + 1, A] of a policy."""
    policy = jax.nn.softmax(logits)

    def back(value: Array, at: tuple[Array, ...]) -> tuple[Array, tuple[Array, Array]]:
        fork, right, policy = at
        missed = jnp.concatenate([value[1:], value[-1:]])
        q = jnp.where(fork & (jnp.arange(ACTIONS) != right), missed[:, None], value[:, None])
        value = q @ policy
        return value, (value, q)

    each = (task.fork, task.right, policy)
    _, (value, q) = jax.lax.scan(back, task.worth, each, reverse=True)
    return jnp.concatenate([value, task.worth[None]]), q


def success(task: Task, logits: Array) -> Array:
    """The expected reward between that of wrong actions everywhere, 0, and of none, 1; f32[]."""
    value = exact(task, logits)[0][0, 0]
    return (value - task.worth[-1]) / (task.worth[0] - task.worth[-1])


def of_actions(table: Array, episodes: Episodes) -> Array:
    """The entries of a table f32[H, FORKS + 1, A] for the actions of episodes, f32[N, H]."""
    return table[jnp.arange(table.shape[0]), episodes.wrong, episodes.action]
