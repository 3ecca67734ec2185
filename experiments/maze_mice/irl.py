"""Models of a mouse's turns: counted, or planned for rewards that are inferred."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from experiments.maze_mice.config import FitConfig
from experiments.maze_mice.maze import Maze
from irl_jax.dynamics.planning import Plan, infinite_horizon
from irl_jax.losses.mixture import intention_likelihood
from irl_jax.types import Trajectory

TOGETHER = 32  # fits at a time


class Policies(NamedTuple):
    """How mice turn: each bout follows one of M policies.

    Attributes:
        logp: f32[M, S, A], log-probs of the actions (nats), -inf where there is no way.
        logits: f32[M], the shares of the policies are softmax(logits).
    """

    logp: Array
    logits: Array


# visits of each bout f32[B, S, A], which bouts count bool[B] -> the policies
Model = Callable[[Array, Array], Policies]


def count(maze: Maze, pseudo_count: float, visits: Array, kept: Array) -> Policies:
    """log π(a | s) by the turns that were taken, each counted a little more often."""
    seen = jnp.where(kept[:, None, None], visits, 0.0).sum(0)
    counts = jnp.where(maze.allowed, seen + pseudo_count, 0.0)
    logp = jnp.log(counts) - jnp.log(counts.sum(-1, keepdims=True))
    return Policies(logp[None], jnp.zeros(1))


def plan(maze: Maze, reward: dict[str, Array], guess: Array | None = None) -> Plan:
    """The soft policy of rewards of `maze.places`; `guess` as `infinite_horizon` takes it."""
    total = sum(x[maze.places[name][0]] for name, x in reward.items())
    return infinite_horizon(maze.mdp, jnp.where(maze.allowed, total, -jnp.inf), guess=guess)


def log_likelihood(policies: Policies, visits: Array, kept: Array) -> Array:
    """Σ over bouts of log Σₘ ρₘ Π πₘ(a | s), nats; visits f32[B, S, A], kept bool[B]."""
    taken = (visits > 0) & kept[:, None, None]
    logp = jnp.where(taken[..., None], visits[..., None] * jnp.moveaxis(policies.logp, 0, -1), 0.0)
    absent: Any = None
    mask = taken.reshape(len(visits), -1)
    batch = Trajectory(absent, absent, mask, absent, absent, absent)
    rows = logp.reshape(*mask.shape, -1)
    return -intention_likelihood(rows, batch, logits=policies.logits).total


def fit(
    maze: Maze,
    config: FitConfig,
    places: Sequence[str],
    visits: Array,
    kept: Array,
    *,
    intentions: int = 1,
) -> tuple[dict[str, Array], Policies]:
    """The most probable rewards given a session's bouts, and their soft policies.

    Maximises Σ log Σₘ ρₘ Π πₘ(a | s) − Σₘ |θₘ|²/2σ²: maximum causal entropy IRL, normal prior,
    of M rewards of which each bout follows one. All decisions count the same; γ is the
    planner's alone. Of several starts from the prior the best is kept; a single reward starts at
    0.

    Args:
        maze: what the mouse knows of where it is.
        config: discount, prior, optimiser, starts.
        places: names in `maze.places` of what has a reward.
        visits: f32[B, S, A], of each bout.
        kept: bool[B], which bouts count.
        intentions: M, rewards among which a bout has one.

    Returns:
        name -> f32[M, N], rewards of its N places, and the policies.
    """
    sizes = {name: maze.places[name][1] for name in places}
    plans = jax.vmap(partial(plan, maze))

    def loss(params: tuple[dict[str, Array], Array], guess: Array) -> tuple[Array, Array]:
        reward, logits = params
        prior = sum((x**2).sum() for x in reward.values()) / (2 * config.deviation**2)
        found = plans(reward, guess)
        return prior - log_likelihood(Policies(found.logp, logits), visits, kept), found.value

    tx = optax.adam(optax.cosine_decay_schedule(config.lr, config.steps))

    def step(state: tuple, _: None) -> tuple[tuple, None]:
        params, opt, value = state
        slope, value = jax.grad(loss, has_aux=True)(params, value)
        change, opt = tx.update(slope, opt, params)
        return (optax.apply_updates(params, change), opt, value), None

    def start(key: Array) -> tuple[Array, tuple[dict[str, Array], Array]]:
        spread = config.deviation if intentions > 1 else 0.0
        keys = dict(zip(sizes, jax.random.split(key, len(sizes)), strict=True))
        reward = {k: spread * jax.random.normal(keys[k], (intentions, n)) for k, n in sizes.items()}
        params = reward, jnp.zeros(intentions)
        first = params, tx.init(params), jnp.zeros((intentions, len(maze.allowed)))
        params, _, value = jax.lax.scan(step, first, length=config.steps)[0]
        return loss(params, value)[0], params

    starts = config.starts if intentions > 1 else 1
    lost, found = jax.lax.map(start, jax.random.split(jax.random.key(0), starts))
    reward, logits = jax.tree.map(lambda x: x[lost.argmin()], found)
    return reward, Policies(plans(reward).logp, logits)


def fits(maze: Maze, config: FitConfig, visits: np.ndarray) -> np.ndarray:
    """Rewards of the nodes, f32[N, 128], of N samples of visits, f32[N, S, A], in one program."""

    def one(seen: Array) -> Array:
        return fit(maze, config, ["node"], seen[None], jnp.ones(1, bool))[0]["node"][0]

    each = jax.jit(lambda x: jax.lax.map(one, x, batch_size=TOGETHER))
    return jax.device_get(each(jnp.asarray(visits)))
