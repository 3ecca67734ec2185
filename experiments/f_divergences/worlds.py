"""Grids, experts who go to one of two corners, and learners that can or cannot do both."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize
from jax import Array
from jax.typing import ArrayLike

from experiments.f_divergences.config import Config
from irl_jax.dynamics.planning import infinite_horizon, occupancy
from irl_jax.envs.tabular import MOVES, gridworld
from irl_jax.losses.divergence import (
    JENSEN_SHANNON,
    KL,
    PEARSON,
    REVERSE_KL,
    SQUARED_HELLINGER,
    FDivergence,
    alpha_divergence,
)
from irl_jax.losses.matching import state_matching
from irl_jax.types import TabularMDP

ACTIONS = len(MOVES)
FORWARD, BACKWARD, GAIL = "forward KL", "reverse KL", "Jensen-Shannon"
DIVERGENCES: dict[str, FDivergence] = {
    "χ²": PEARSON,
    FORWARD: KL,
    "squared Hellinger": SQUARED_HELLINGER,
    GAIL: JENSEN_SHANNON,
    BACKWARD: REVERSE_KL,
    "reverse χ²": alpha_divergence(-1.0),
}
ALPHAS = {"χ²": 2.0, FORWARD: 1.0, "squared Hellinger": 0.5, BACKWARD: 0.0, "reverse χ²": -1.0}
MOVED, PLANNED, CELLS, ANY = (
    "same moves everywhere",
    "reward of coordinates",
    "reward of cells",
    "any policy",
)


FEWEST = 3  # searches of a learner, however many parameters it has
SEARCH = {"gtol": 1e-9, "ftol": 1e-15, "maxcor": 40, "maxiter": 3000, "maxfun": 6000}
NOTHING = 1e-11  # of log(1 + D): no minimum is lower than 0


class Modes(NamedTuple):
    """An expert of two minds, and where it is.

    Attributes:
        expert: f64[S, A], share of the visits.
        modes: bool[2, S], the expert's support: cells that its more frequent mode brings more
            visits, and those of the other.
    """

    expert: np.ndarray
    modes: np.ndarray


def modes_of(parts: np.ndarray, least: float) -> Modes:
    """What an expert visits in two modes f64[2, S, A], and the cells that hold a share of it."""
    of_cells = parts.sum(-1)
    kept = support(of_cells.sum(0), least)
    more = of_cells[0] >= of_cells[1]
    return Modes(parts.sum(0), np.stack([kept & more, kept & ~more]))


class World(NamedTuple):
    """A grid and an expert who draws one of two corners, and goes there.

    Attributes:
        mdp: the grid.
        expert: of `Modes`, discounted; a corner is a mode.
        modes: likewise.
        walls: bool[S].
    """

    mdp: TabularMDP
    expert: np.ndarray
    modes: np.ndarray
    walls: np.ndarray


def make_world(config: Config, number: int) -> World:
    """World number 0, 1, ...; all have one shape."""
    rng = np.random.default_rng([config.seed, number])
    cells = np.arange(config.rows * config.columns).reshape(config.rows, config.columns)
    corners = rng.choice(cells[np.ix_([0, -1], [0, -1])].ravel(), 2, replace=False)
    walls = rng.choice(cells[1:-1, 1:-1].ravel(), config.walls, replace=False)
    light = rng.uniform(config.lightest, config.heaviest)
    mdp = gridworld(
        config.rows, config.columns, discount=config.discount, slip=config.slip, walls=walls
    )

    visits = [pursue(mdp, corner, config.temperature) for corner in corners]
    parts = np.array([1 - light, light])[:, None, None] * np.stack(visits)
    return World(mdp, *modes_of(parts, config.support), np.isin(cells.ravel(), walls))


@jax.jit
def pursue(mdp: TabularMDP, corner: Array, temperature: Array) -> Array:
    """Visits of who gets 1 for each step in a corner and plans for it softly, f[S, A]."""
    reward = jnp.zeros(mdp.discount.shape).at[corner].set(1.0)
    return share(mdp, infinite_horizon(mdp, reward, temperature=temperature, tolerance=1e-9).logp)


def share(mdp: TabularMDP, logp: Array) -> Array:
    """The share of discounted visits to each state and action, f[S, A]."""
    visits = occupancy(mdp, logp)
    return visits / visits.sum()


def support(visits: np.ndarray, least: float) -> np.ndarray:
    """The fewest cells that hold at least a share of the visits, bool[S]."""
    order = np.argsort(-visits, kind="stable")
    before = np.cumsum(visits[order]) - visits[order]
    found = np.zeros(len(visits), bool)
    found[order[before < least * visits.sum()]] = True
    return found


class Learner(NamedTuple):
    """Policies to choose from.

    Attributes:
        size: number of parameters.
        policy: grid, f[size] -> log-probs f[S, A]; all 0 is the uniform policy.
    """

    size: int
    policy: Callable[[TabularMDP, Array], Array]


def learners(config: Config) -> dict[str, Learner]:
    """The learners, from the narrowest to one that can do what any expert does."""
    return _learners(config.rows, config.columns)


@cache
def _learners(rows: int, columns: int) -> dict[str, Learner]:
    cells = rows * columns
    places = np.indices((rows, columns)).reshape(2, -1).T
    at = places - places.mean(0)

    def moved(mdp: TabularMDP, theta: Array) -> Array:
        logp = jax.nn.log_softmax(jnp.append(theta, 0.0))
        return jnp.broadcast_to(logp, (cells, ACTIONS))

    def planned(mdp: TabularMDP, reward: Array) -> Array:
        of_moves = jnp.broadcast_to(reward[:, None], (cells, ACTIONS))
        return infinite_horizon(mdp, of_moves, tolerance=1e-10).logp

    return {
        MOVED: Learner(ACTIONS - 1, moved),
        PLANNED: Learner(2, lambda mdp, theta: planned(mdp, jnp.asarray(at) @ theta)),
        CELLS: Learner(cells, planned),
        ANY: Learner(
            cells * ACTIONS,
            lambda mdp, theta: jax.nn.log_softmax(theta.reshape(cells, ACTIONS)),
        ),
    }


Objective = Callable[[ArrayLike, int, TabularMDP, ArrayLike], tuple[Array, Array]]


@cache
def make_objective(learner: Learner) -> Objective:
    """log(1 + D_f(ρ_E‖ρ_π)) and its gradient, by parameters, number of f, grid and expert.

    The logarithm has the same minimiser, and does not overflow where a search begins.
    """
    terms = [partial(divergence, f) for f in DIVERGENCES.values()]

    def value(theta: Array, number: int, mdp: TabularMDP, expert: Array) -> Array:
        visits = share(mdp, learner.policy(mdp, theta))
        return jnp.log1p(jax.lax.switch(number, terms, visits, expert))

    return jax.jit(jax.value_and_grad(value))


def divergence(f: FDivergence, visits: Array, expert: Array) -> Array:
    """D_f(ρ_E‖ρ_π), f[]."""
    return state_matching(visits, expert, divergence=f).mean


class Found(NamedTuple):
    """Where a learner comes nearest to an expert.

    Attributes:
        theta: f64[size], the parameters.
        value: of the objective there.
        alike: share of the searches that ended as low, to 1e-4 of 1 + D.
    """

    theta: np.ndarray
    value: float
    alike: float


def nearest(
    config: Config, learner: Learner, objective: Objective, number: int, world: World
) -> Found:
    """The least of the minima that L-BFGS-B finds from several starting points, or one near 0."""
    starts = max(FEWEST, config.searches // learner.size)
    rng = np.random.default_rng([config.seed, learner.size])
    theta = config.deviation * rng.normal(size=(starts, learner.size))
    theta[0] = 0.0
    theta = np.clip(theta, -config.limit, config.limit)
    bounds = [(-config.limit, config.limit)] * learner.size

    def at(theta: np.ndarray) -> tuple[float, np.ndarray]:
        value, slope = objective(theta, number, world.mdp, world.expert)
        return float(value), np.asarray(slope)

    ends: list[Any] = []
    for start in theta:
        end = scipy.optimize.minimize(
            at, start, jac=True, method="L-BFGS-B", bounds=bounds, options=SEARCH
        )
        ends.append(end)
        if end.fun < NOTHING:
            break
    values = np.array([end.fun for end in ends])
    best = int(np.argmin(values))
    return Found(ends[best].x, values[best], float(np.mean(values < values[best] + 1e-4)))
