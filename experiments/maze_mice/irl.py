"""Models of a mouse's turns: counted, or planned for a reward that is inferred."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from experiments.maze_mice.config import FitConfig
from experiments.maze_mice.maze import MANNERS, NODES, Maze
from irl_jax.dynamics.planning import Plan, infinite_horizon

TOGETHER = 32  # fits at a time

# visits f32[S, A] -> log-probs of the actions f32[S, A], -inf where there is no way
Model = Callable[[Array], Array]


def count(maze: Maze, pseudo_count: float, visits: Array) -> Array:
    """log π(a | s) by the turns that were taken, each counted a little more often."""
    counts = jnp.where(maze.allowed, visits + pseudo_count, 0.0)
    return jnp.log(counts) - jnp.log(counts.sum(-1, keepdims=True))


def plan(maze: Maze, params: dict[str, Array], guess: Array | None = None) -> Plan:
    """The soft policy of a reward, and its values; `guess` as `infinite_horizon` takes it."""
    reward = params["node"][maze.enters] + params["manner"][maze.manner]
    reward = jnp.where(maze.allowed, reward, -jnp.inf)
    return infinite_horizon(maze.mdp, reward, guess=guess)


def likelihood(logp: Array, visits: Array) -> Array:
    """Σ log π of the actions that were taken, nats."""
    return (visits * jnp.where(visits > 0, logp, 0.0)).sum()


def fit(maze: Maze, config: FitConfig, visits: Array) -> dict[str, Array]:
    """The most probable reward given a session's turns.

    Maximises Σ log π(a | s) − |θ|²/2σ², maximum causal entropy IRL with a normal prior. All
    decisions count the same; γ is the planner's alone.

    Args:
        maze: with memory, the manner of a step has a reward of its own.
        config: discount, prior, optimiser.
        visits: f32[S, A].

    Returns:
        `node` f32[128], the reward of entering each node and of leaving the maze, and `manner`
        f32[4], that of each of `MANNERS`; without memory they are 0.
    """

    def loss(params: dict[str, Array], guess: Array) -> tuple[Array, Array]:
        prior = sum((x**2).sum() for x in params.values()) / (2 * config.deviation**2)
        found = plan(maze, params, guess)
        return prior - likelihood(found.logp, visits), found.value

    tx = optax.adam(optax.cosine_decay_schedule(config.lr, config.steps))
    params = {"node": jnp.zeros(NODES + 1), "manner": jnp.zeros(len(MANNERS))}

    def step(state: tuple, _: None) -> tuple[tuple, None]:
        params, opt, value = state
        slope, value = jax.grad(loss, has_aux=True)(params, value)
        change, opt = tx.update(slope, opt, params)
        return (optax.apply_updates(params, change), opt, value), None

    first = params, tx.init(params), jnp.zeros(len(maze.allowed))
    return jax.lax.scan(step, first, length=config.steps)[0][0]


def fits(maze: Maze, config: FitConfig, visits: np.ndarray) -> dict[str, np.ndarray]:
    """`fit` of many samples of visits, f32[N, S, A], in one program; leaves with an axis N."""
    each = jax.jit(lambda x: jax.lax.map(partial(fit, maze, config), x, batch_size=TOGETHER))
    return jax.device_get(each(jnp.asarray(visits)))
