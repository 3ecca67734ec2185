"""Grids whose rewards are known, what demonstrators do there, and what is inferred from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from experiments.gridworld_irl.config import Config
from irl_jax.dynamics.planning import infinite_horizon
from irl_jax.envs.tabular import MOVES, gridworld
from irl_jax.eval.identification import project, projector, regret
from irl_jax.eval.posterior import laplace, log_joint
from irl_jax.eval.reward_distance import epic, starc, value_adjusted
from irl_jax.types import Loss, TabularMDP

ACTIONS = len(MOVES)
CELLS, MOVED, COUNTED = "reward of cells", "reward of cells and moves", "log-probs of counts"


class World(NamedTuple):
    """A grid, the reward of its cells, and grids in which the same reward counts.

    Attributes:
        mdp: where demonstrations are made.
        reward: f[S].
        walled: the grid with walls.
        turned: the grid in which each move goes a quarter turn further than it says.
    """

    mdp: TabularMDP
    reward: Array
    walled: TabularMDP
    turned: TabularMDP


def make_world(config: Config, number: int) -> World:
    """World number 0, 1, ...; all have one shape."""
    rng = np.random.default_rng([config.seed, number, 0])
    grid = partial(
        gridworld, config.rows, config.columns, discount=config.discount, slip=config.slip
    )
    mdp, cells = grid(), config.rows * config.columns
    walled = grid(walls=rng.choice(cells, config.walls, replace=False).tolist())
    moves = {"prob": mdp.prob, "successor": mdp.successor}
    turned = replace(mdp, **jax.tree.map(partial(jnp.roll, shift=1, axis=1), moves))
    return World(mdp, jnp.asarray(config.deviation * rng.normal(size=cells)), walled, turned)


def of_moves(reward: Array) -> Array:
    """A reward of cells as one of cells and moves, f[S, A]."""
    return jnp.broadcast_to(reward[:, None], (len(reward), ACTIONS))


def demonstrate(config: Config, world: World, number: int) -> np.ndarray:
    """How often each move was made in each cell, f64[N, S, A], N the sizes; soft-optimal."""
    rng = np.random.default_rng([config.seed, number, 1])
    policy = np.exp(np.asarray(infinite_horizon(world.mdp, of_moves(world.reward)).logp))
    prob, successor = np.asarray(world.mdp.prob), np.asarray(world.mdp.successor)
    most = max(config.demonstrations)

    def pick(chance: np.ndarray) -> np.ndarray:
        within = np.cumsum(chance, -1)
        return (within < within[:, -1:] * rng.uniform(size=(len(chance), 1))).sum(-1)

    state = pick(np.broadcast_to(np.asarray(world.mdp.start), (most, len(policy))))
    counts = np.zeros((len(config.demonstrations), *policy.shape))
    for _ in range(config.steps):
        action = pick(policy[state])
        for size, count in zip(config.demonstrations, counts, strict=True):
            np.add.at(count, (state[:size], action[:size]), 1.0)
        state = successor[state, action, pick(prob[state, action])]
    return counts


def infer(config: Config, mdp: TabularMDP, shape: tuple[int, ...], counts: Array) -> Array:
    """The most probable reward, f[S, A], by maximum causal entropy IRL with a normal prior.

    Args:
        config: the prior.
        mdp: the grid.
        shape: (S,) of a reward of cells, (S, A) of one of cells and moves.
        counts: f[S, A], of `demonstrate`.
    """

    def reward(theta: Array) -> Array:
        return jnp.broadcast_to(theta.reshape((*shape, 1)[:2]), counts.shape)

    def loss(theta: Array) -> Loss:  # `causal_likelihood` with a discount of 1, by counts
        logp = infinite_horizon(mdp, reward(theta), tolerance=1e-9).logp
        return Loss(-(counts * logp).sum(), jnp.ones(()), {})

    density = log_joint(loss, deviation=config.deviation)
    return reward(laplace(density, jnp.zeros(int(np.prod(shape)))).mean)


def count(config: Config, counts: Array) -> Array:
    """Log-probs of moves by how often they were made, f[S, A], a reward with that soft policy."""
    likely = counts + config.pseudo_count
    return jnp.log(likely) - jnp.log(likely.sum(-1, keepdims=True))


def arms(config: Config) -> dict[str, Callable[[TabularMDP, Array], Array]]:
    """What makes rewards f[S, A] of counts f[S, A], by name."""
    cells = config.rows * config.columns
    return {
        CELLS: lambda mdp, counts: infer(config, mdp, (cells,), counts),
        MOVED: lambda mdp, counts: infer(config, mdp, (cells, ACTIONS), counts),
        COUNTED: lambda mdp, counts: count(config, counts),
    }


def measure(config: Config, world: World, learned: Array) -> dict[str, Array]:
    """How far a learned reward f[S, A] is from the world's, and what it is worth."""
    truth = of_moves(world.reward)
    identified = projector(partial(value_adjusted, world.mdp), truth.shape)
    share = lambda x, y: jnp.linalg.norm(x) / jnp.linalg.norm(y)
    lost = lambda mdp: regret(mdp, truth, learned, temperature=None)
    return {
        "identified": share(project(identified, learned - truth), project(identified, truth)),
        "whole": share(learned - truth, truth),
        "starc": starc(world.mdp, truth, learned),
        "epic": epic(truth, learned, discount=config.discount),
        "here": lost(world.mdp),
        "walled": lost(world.walled),
        "turned": lost(world.turned),
    }
