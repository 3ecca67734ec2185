"""Self-play: one policy plays both sides of a game of two and learns from both, in one program.

    learn = sampled(kuhn_poker(), table, config)
    tables = jax.jit(lambda key: self_play(learn, jnp.zeros((12, 2)), key, config))(key)

Plain self-play (β = 0) follows the gradients of both players at once, which turn about an
equilibrium of a game whose rewards sum to zero. With β > 0 it is held to a reference, which is
set to the policy every so many updates: each time the regularised game has one rest, to which both
are drawn, and the rests come to an equilibrium of the game itself.

Reference: Liu et al. 2025, "SPIRAL: Self-Play on Zero-Sum Games Incentivizes Reasoning via
Multi-Agent Multi-Turn Reinforcement Learning", arXiv 2506.24119; Yu et al. 2025, "Nash Policy
Gradient: A Policy Gradient Method with Iteratively Refined Regularization for Finding Nash
Equilibria", arXiv 2510.18183; Perolat et al. 2022, arXiv 2206.15378 (R-NaD); Sokota et al. 2022,
arXiv 2206.05825 (magnetic mirror descent).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from irl_jax.dynamics.advantages import role_advantages
from irl_jax.envs.games import Game
from irl_jax.eval.games import Level
from irl_jax.losses.policy import reinforce
from irl_jax.losses.ratio import k2
from irl_jax.masking import check_range
from irl_jax.rollout.games import play
from irl_jax.types import Group, InputError, PyTree

# observations [...] -> logits f32[..., A]
Logits = Callable[[Array], Array]
# params -> what does not depend on an observation is computed once
Policy = Callable[[PyTree], Logits]
# (params, reference, baseline f32[R], typed PRNG key) -> gradient, baseline
Gradient = Callable[[PyTree, PyTree, Array, Array], tuple[PyTree, Array]]

NONE, SHARED, ROLE = "none", "shared", "role"
BASELINES = (NONE, SHARED, ROLE)


@dataclass(frozen=True)
class SelfPlayConfig:
    """Settings of a run."""

    updates: int = 4_000
    games: int = 64  # of an update
    moves: int = 3  # of a game
    learning_rate: float = 1.0  # falls linearly to 0
    baseline: str = ROLE  # one for each role, one shared by both, or none
    decay: float = 0.95  # of the baseline, a game
    beta: float = 0.0  # weight of the KL to the reference; 0: plain self-play
    refresh: int = 100  # updates after which the reference is set to the policy
    snapshots: int = 20  # kept of the policy, evenly over the run

    def __post_init__(self) -> None:
        for name in ("games", "moves", "refresh", "snapshots"):
            check_range(name, getattr(self, name), 1)
        check_range("decay", self.decay, 0.0, 1.0)
        check_range("beta", self.beta, 0.0)
        if self.baseline not in BASELINES:
            raise InputError(f"baseline: expected one of {', '.join(BASELINES)}")
        if self.updates < 1 or self.updates % self.snapshots:
            raise InputError(
                f"updates: expected a multiple of snapshots, {self.snapshots}, got {self.updates}"
            )


def table(params: Array) -> Logits:
    """A policy of logits for each information set, f32[N, A]."""
    return lambda observation: params[observation]


def log_probs(logits: Logits, observation: Array, legal: Array) -> Array:
    """Log-probs of the actions, f32[..., A] (nats); of one that is not legal, very small."""
    return jax.nn.log_softmax(jnp.where(legal, logits(observation), -1e9))


def sampled(game: Game, policy: Policy, config: SelfPlayConfig) -> Gradient:
    """The policy gradient of games that the policy plays against itself.

    ∇ 1/(2N) Σ_{games, players} Σ_{own moves} −A log π + β ½ (log π − log π_ref)², with
    A = R − b of the player: `dynamics.advantages.role_advantages`.

    Args:
        game: the game.
        policy: of any shape of observations.
        config: settings of the run.
    """

    def logp(params: PyTree, group: Group) -> Array:
        observation, legal = group.context
        every = log_probs(policy(params), observation, legal)
        taken = jnp.take_along_axis(every, group.action[:, 0, :, None], -1)[..., 0]
        return jnp.broadcast_to(taken[:, None], group.action.shape)

    def loss(params: PyTree, reference: PyTree, group: Group, advantage: Array) -> Array:
        return reinforce(
            logp(params, group),
            group,
            advantage=advantage,
            beta=config.beta,
            ref_logp=logp(reference, group),
            kl=k2,
        ).mean

    def gradient(
        params: PyTree, reference: PyTree, baseline: Array, key: Array
    ) -> tuple[PyTree, Array]:
        logits = policy(params)

        def move(observation: Array, legal: Array, key: Array) -> tuple[Array, Array]:
            every = log_probs(logits, observation, legal)
            action = jax.random.categorical(key, every)
            return action, every[action]

        group = play(game, move, key, games=config.games, moves=config.moves)
        reward = group.reward
        if config.baseline != NONE:
            role = jnp.broadcast_to(jnp.arange(2) * (config.baseline == ROLE), reward.shape)
            advantage, baseline = role_advantages(
                reward.ravel(), role.ravel(), baseline, decay=config.decay
            )
            reward = advantage.reshape(reward.shape)
        return jax.grad(loss)(params, reference, group, reward), baseline

    return gradient


def exact(tree: Sequence[Level], config: SelfPlayConfig) -> Gradient:
    """What `sampled` is the mean of, for a `table`, without playing.

    −½ ∇ᵢ E[Rᵢ] in the rows of player i, and ½ β Σ_x P(x) ∇ KL(π(·|x)‖π_ref(·|x)) over the
    positions x of the game, how likely they are held fixed.

    Args:
        tree: `eval.games.levels` of a game whose observations are indices of information sets.
        config: of which β is read.
    """
    owner = np.zeros(1 + max(level.observation.max() for level in tree), int)
    for level in tree:
        owner[level.observation] = level.player
    at = lambda params, level: log_probs(table(params), level.observation, level.legal)

    def rewards(params: Array) -> Array:
        value = jnp.zeros((1, 2))  # the last row: the game is over
        for level in reversed(tree):
            after = level.reward + value[level.child]
            value = (jnp.exp(at(params, level))[..., None] * after).sum(1)
            value = jnp.concatenate([value, jnp.zeros((1, 2))])
        return jnp.asarray(tree[0].chance) @ value[:-1]

    def divergence(params: Array, reference: Array) -> Array:
        reach, total = jnp.asarray(tree[0].chance), jnp.zeros(())
        for level in tree:
            logp = at(params, level)
            kl = (jnp.exp(logp) * (logp - at(reference, level))).sum(1)
            total = total + jax.lax.stop_gradient(reach) @ kl
            reach = (reach[:, None] * jnp.exp(logp))[level.child >= 0]
        return total

    def gradient(
        params: Array, reference: Array, baseline: Array, key: Array
    ) -> tuple[Array, Array]:
        of_both = jax.jacrev(rewards)(params)
        own = jnp.where(owner[:, None] == 0, of_both[0], of_both[1])
        return (config.beta * jax.grad(divergence)(params, reference) - own) / 2, baseline

    return gradient


def self_play(
    gradient: Gradient,
    params: PyTree,
    key: Array,
    config: SelfPlayConfig,
    optimizer: Callable[[optax.Schedule], optax.GradientTransformation] = optax.sgd,
) -> PyTree:
    """A whole run as one pure function.

    Args:
        gradient: `sampled`, or another.
        params: of the policy at the start.
        key: typed PRNG key.
        config: settings of the run.
        optimizer: of a rate that falls over the run.

    Returns:
        The parameters at the start and after each part of the run, leaves [snapshots + 1, ...].
    """
    tx = optimizer(optax.linear_schedule(config.learning_rate, 0.0, config.updates))

    def update(carry: tuple, step: Array) -> tuple[tuple, None]:
        params, reference, state, baseline = carry
        renew = step % config.refresh == 0
        reference = jax.tree.map(lambda x, y: jnp.where(renew, x, y), params, reference)
        grads, baseline = gradient(params, reference, baseline, jax.random.fold_in(key, step))
        updates, state = tx.update(grads, state, params)
        return (optax.apply_updates(params, updates), reference, state, baseline), None

    def part(carry: tuple, steps: Array) -> tuple[tuple, PyTree]:
        carry, _ = jax.lax.scan(update, carry, steps)
        return carry, carry[0]

    start = (params, params, tx.init(params), jnp.zeros(2))
    _, later = jax.lax.scan(part, start, jnp.arange(config.updates).reshape(config.snapshots, -1))
    return jax.tree.map(lambda x, y: jnp.concatenate([x[None], y]), params, later)
