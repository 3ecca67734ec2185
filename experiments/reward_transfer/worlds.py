"""Random processes, rewards of experts there, and what imitators take for those rewards."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize
from jax import Array

from experiments.reward_transfer.config import Config
from irl_jax.dynamics.planning import infinite_horizon, occupancy
from irl_jax.eval.identification import regret
from irl_jax.types import TabularMDP

LINKED, COLOURED, CHANCE, MOVES = (
    "linked states",
    "states of two colours",
    "chance decides",
    "rewards of moves",
)
KINDS = (LINKED, COLOURED, CHANCE, MOVES)
STATES, AGAIN, ADVANTAGE, RATIO, CONSTANT, ENTROPY = (
    "AIRL, reward of states",
    "the same from another start",
    "AIRL, reward of states and actions",
    "GAIL, first discriminator",
    "GAIL, last discriminator",
    "causal entropy, reward of states",
)
METHODS = (STATES, AGAIN, ADVANTAGE, RATIO, CONSTANT, ENTROPY)
HOME, RENAMED = "home", "actions renamed"
ERROR, IMITATION = "error of the reward", "distance of its policy"


class World(NamedTuple):
    """A process, a reward, and processes in which the same reward counts.

    Attributes:
        places: name, of `places_of` -> process, all of one shape.
        reward: f[S, A].
        start: f[2, S], g and h where a second search of AIRL begins.
    """

    places: dict[str, TabularMDP]
    reward: Array
    start: Array


def places_of(config: Config) -> dict[str, float]:
    """Where learned rewards are planned for -> share of the moves that lead elsewhere there."""
    return {HOME: 0.0, RENAMED: 0.0} | {
        f"{100 * share:g} % moved": share for share in config.shares
    }


def linked(successor: np.ndarray) -> np.ndarray:
    """The sets of linked states, as the least state of the set of each, i[S].

    Two states are linked where moves from one state lead to both, or each is linked to a third.
    A process is decomposable where all are.

    Args:
        successor: i[S, A, K], states that may follow.

    Reference: Gleave & Toyer 2022, "A Primer on Maximum Causal Entropy Inverse Reinforcement
    Learning", arXiv 2203.11409, definition 4.3.

    Example:
        >>> linked(np.array([[[0], [1]], [[2], [2]], [[2], [0]]])).tolist()
        [0, 0, 0]
        >>> linked(np.array([[[1], [1]], [[0], [0]]])).tolist()  # to and fro
        [0, 1]
    """
    found = np.arange(len(successor))
    for following in successor.reshape(len(successor), -1):
        sets = found[following]
        found[np.isin(found, sets)] = sets.min()
    return found


def make_world(config: Config, kind: str, number: int) -> World:
    """World number 0, 1, ... of a kind; all worlds of a kind have one shape."""
    rng = np.random.default_rng([config.seed, number, KINDS.index(kind)])
    shape = config.states, config.actions, config.successors if kind == CHANCE else 1
    start = rng.dirichlet(np.ones(config.states))
    prob = rng.dirichlet(np.ones(shape[2]), shape[:2])
    sets = 2 if kind == COLOURED else 1
    while True:
        home = rng.integers(0, config.states, shape)
        if kind == COLOURED:  # even states lead to odd ones, and odd to even
            colour = np.arange(config.states)[:, None, None] % 2
            home = home - home % 2 + 1 - colour
        if len(set(linked(home).tolist())) == sets:
            break
    elsewhere = rng.integers(0, config.states, shape)
    moved = rng.uniform(size=shape[:2])[..., None]
    reward = config.deviation * rng.normal(size=shape[:2])
    if kind != MOVES:
        reward = np.broadcast_to(reward[:, :1], shape[:2])

    def place(share: float, turn: int) -> TabularMDP:
        return TabularMDP(
            prob=jnp.asarray(np.roll(prob, turn, axis=1)),
            start=jnp.asarray(start),
            discount=jnp.full(shape[:2], config.discount),
            successor=jnp.asarray(
                np.roll(np.where(moved < share, elsewhere, home), turn, axis=1), jnp.int32
            ),
        )

    places = {name: place(part, int(name == RENAMED)) for name, part in places_of(config).items()}
    first = config.start * rng.normal(size=(2, config.states))
    return World(places, jnp.asarray(reward), jnp.asarray(first))


@jax.jit
def airl(mdp: TabularMDP, logp: Array, start: Array) -> Array:
    """The reward of states g that AIRL's discriminator has learned when the policy is the expert.

    The discriminator that tells the expert's steps from the policy's, f = g(s) + γ h(s′) − h(s)
    beside log π, by minimising −½ E_E log D − ½ E_π log(1 − D), D = σ(f − log π), π = π_E. In a
    deterministic process with a reward of states the least is log 2, at f = log π_E; else no f is.
    Where several g and h do, the ones nearest to `start`, to which gradient descent leads.

    Args:
        mdp: the process.
        logp: f[S, A], log-probs of the expert (nats).
        start: f[2, S], g and h.

    Returns:
        f[S].

    Reference: Fu, Luo & Levine 2017, "Learning Robust Rewards with Adversarial Inverse
    Reinforcement Learning", arXiv 1710.11248; Gleave & Toyer 2022, arXiv 2203.11409, theorem 4.5.
    """
    states = logp.shape[0]
    weight = occupancy(mdp, logp)[..., None] * mdp.prob
    weight = (weight / weight.sum()).ravel()
    each = jnp.eye(states)
    value = jnp.broadcast_to(each[:, None, None], (*mdp.prob.shape, states))
    following = mdp.discount[..., None, None] * each[mdp.successor]
    design = jnp.concatenate([value, following - value], -1).reshape(-1, 2 * states)
    wanted = jnp.broadcast_to(logp[..., None], mdp.prob.shape).ravel()

    def step(theta: Array, _: None) -> tuple[Array, None]:
        # log cosh(v/2) lies below its tangent in v², so that each least squares lowers the loss
        logit = design @ theta - wanted
        half = jnp.where(logit == 0, 1.0, 0.5 * logit)
        flat = weight * jnp.where(logit == 0, 1.0, jnp.tanh(half) / half)
        curvature = design.T @ (flat[:, None] * design)
        inverse = jnp.linalg.pinv(curvature, hermitian=True, rtol=1e-10)
        return theta - inverse @ (design.T @ (flat * logit)), None

    return jax.lax.scan(step, start.ravel(), length=100)[0][:states]


@jax.jit
@jax.value_and_grad
def unlikelihood(reward: Array, mdp: TabularMDP, visits: Array) -> Array:
    """−Σ ρ_E log π of the soft policy of a reward of states f[S], visits ρ_E f[S, A]."""
    of_moves = jnp.broadcast_to(reward[:, None], visits.shape)
    return -(visits * infinite_horizon(mdp, of_moves, tolerance=1e-10).logp).sum()


def causal_entropy(mdp: TabularMDP, visits: Array) -> Array:
    """The reward of states f[S] under which visits f[S, A] are likeliest, by BFGS from 0.

    Reference: Ziebart 2010, "Modeling Purposeful Adaptive Behavior with the Principle of Maximum
    Causal Entropy".
    """

    def at(reward: np.ndarray) -> tuple[float, np.ndarray]:
        value, slope = unlikelihood(reward, mdp, visits)
        return float(value), np.asarray(slope)

    first = np.zeros(len(visits))
    found: Any = scipy.optimize.minimize(at, first, jac=True, method="BFGS", options={"gtol": 1e-9})
    return jnp.asarray(found.x)


@jax.jit
def expert(mdp: TabularMDP, reward: Array) -> tuple[Array, Array]:
    """The soft-optimal policy's log-probs and its share of visits, both f[S, A]."""
    logp = infinite_horizon(mdp, reward, tolerance=1e-10).logp
    visits = occupancy(mdp, logp)
    return logp, visits / visits.sum()


def learn(world: World) -> dict[str, Array]:
    """Method -> the reward that it learns of the expert's exact visits at home, f[S, A]."""
    home = world.places[HOME]
    logp, visits = expert(home, world.reward)
    _, first = expert(home, jnp.zeros_like(world.reward))
    of_moves = lambda reward: jnp.broadcast_to(reward[:, None], logp.shape)
    return {
        STATES: of_moves(airl(home, logp, jnp.zeros_like(world.start))),
        AGAIN: of_moves(airl(home, logp, world.start)),
        ADVANTAGE: logp,
        RATIO: jnp.log(visits / first),
        CONSTANT: jnp.zeros_like(logp),
        ENTROPY: of_moves(causal_entropy(home, visits)),
    }


@jax.jit
def lost(mdp: TabularMDP, reward: Array, learned: Array) -> Array:
    """The regret of the best policy of a learned reward f[S, A], f[]."""
    return regret(mdp, reward, learned, temperature=None)


def measure(world: World, learned: Array) -> dict[str, float]:
    """How far a learned reward f[S, A] is from the world's, and what it loses in each place."""
    spread = lambda x: float(jnp.linalg.norm(x - x.mean()))
    _, visits = expert(world.places[HOME], world.reward)
    _, own = expert(world.places[HOME], learned)
    return {
        ERROR: spread(learned - world.reward) / spread(world.reward),
        IMITATION: float(0.5 * jnp.abs(own - visits).sum()),
        **{name: float(lost(mdp, world.reward, learned)) for name, mdp in world.places.items()},
    }
