"""Behaviour cloning, and DAgger, which asks the expert what to do where the learner went.

    params = clone(CloningConfig(), env, demonstrations, jax.random.key(0))

Actions are discrete.

Reference: Pomerleau 1991, "Efficient training of artificial neural networks for autonomous
navigation"; Ross, Gordon & Bagnell 2011, "A Reduction of Imitation Learning and Structured
Prediction to No-Regret Online Learning", arXiv 1011.0686.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import optax
from jax import Array

from irl_jax.envs.environment import Environment
from irl_jax.losses.demonstration import nll
from irl_jax.masking import check_range
from irl_jax.models.actor_critic import act, action_logp, init_actor_critic
from irl_jax.recipes.interaction import Learner, Metrics, Train, Trained, interact
from irl_jax.rollout.replay import Replay, draw, empty_replay, store
from irl_jax.rollout.unroll import Act
from irl_jax.train.state import TrainState, init_state
from irl_jax.train.step import make_train_step
from irl_jax.types import Demonstration, Loss, PyTree, Trajectory


@dataclass(frozen=True)
class CloningConfig:
    """Behaviour cloning: Adam, and the snapshot with the best likelihood of steps left out."""

    snapshots: int = 11  # of the policy, the first before any update
    between: int = 100  # updates from one to the next
    batch_size: int = 64  # steps, drawn with replacement
    learning_rate: float = 1e-3
    train_share: float = 0.7  # of the demonstrated steps; the others choose the snapshot
    widths: tuple[int, ...] = (32, 32)  # of the hidden layers

    def __post_init__(self) -> None:
        check_range("cloning.snapshots", self.snapshots, 1)
        check_range("cloning.between", self.between, 1)
        check_range("cloning.batch_size", self.batch_size, 1)
        check_range("cloning.train_share", self.train_share, 0.0, 1.0, exclusive=True)


@dataclass(frozen=True)
class DAggerConfig:
    """Settings of a run of DAgger."""

    rounds: int = 20  # unrolls, each labelled and followed by updates
    environments: int = 4
    unroll: int = 50  # steps of each environment in a round
    updates: int = 100  # after each unroll
    batch_size: int = 64  # steps, drawn with replacement
    learning_rate: float = 1e-3
    widths: tuple[int, ...] = (32, 32)  # of the hidden layers


def clone(config: CloningConfig, env: Environment, shown: Trajectory, key: Array) -> PyTree:
    """Params of the policy under which the demonstrated steps are likely.

    Args:
        config: settings.
        env: what observations and actions are.
        shown: demonstrations; their context, action and mask are read.
        key: typed PRNG key.
    """
    starting, parting, running = jax.random.split(key, 3)
    context, action, valid = _steps(shown)
    chance = jnp.where(valid, jax.random.uniform(parting, valid.shape), 2.0)
    trained = jnp.argsort(jnp.argsort(chance)) < jnp.floor(config.train_share * valid.sum())

    def objective(params: PyTree, mask: Array, key: Array) -> Loss:
        share = mask / mask.sum()
        rows = jax.random.choice(key, len(mask), (config.batch_size,), p=share)
        return _unlikely(params, context[rows], action[rows], jnp.ones(config.batch_size, bool))

    tx = optax.adam(config.learning_rate)
    step = make_train_step(objective, tx)

    def snapshot(carry: tuple[TrainState, PyTree, Array], _: None) -> tuple[tuple, None]:
        state, best, lowest = carry
        left = _unlikely(state.params, context, action, valid & ~trained).mean
        better = left < lowest
        best = jax.tree.map(lambda new, old: jnp.where(better, new, old), state.params, best)
        once = lambda state, _: (step(state, trained)[0], None)
        state = jax.lax.scan(once, state, length=config.between)[0]
        return (state, best, jnp.minimum(left, lowest)), None

    params = init_actor_critic(starting, env.observation, env.action, config.widths)
    start = init_state(params, tx, running), params, jnp.asarray(jnp.inf)
    return jax.lax.scan(snapshot, start, length=config.snapshots)[0][1]


def make_dagger(
    env: Environment, demonstrations: Trajectory, config: DAggerConfig, expert: Act
) -> Train:
    """A run of DAgger as one pure function.

    The policy learns from the demonstrations, then acts; the expert says what it would have done
    in each state that the policy came to, and the policy learns from all that was said so far.

    Args:
        env: where the policy acts.
        demonstrations: taken there; their context, action and mask are read.
        config: settings of the run.
        expert: the policy that is asked; what it draws is what it says.

    Returns:
        `train(key)`.

    Raises:
        InputError: a number is out of range.

    Reference: Ross, Gordon & Bagnell 2011, arXiv 1011.0686, algorithm 3.1, with β₁ = 1, its
    round being the demonstrations, and then 0.

    Differs: one network goes on learning, where each round of the paper trains one anew.
    """
    for name in ("rounds", "updates", "batch_size"):
        check_range(name, getattr(config, name), 1)
    context, action, valid = _steps(demonstrations)
    asked = config.rounds * config.environments * config.unroll
    told = empty_replay((context, action), len(action) + asked)
    told = store(told, (context, action), valid)

    def objective(params: PyTree, told: Replay, key: Array) -> Loss:
        seen, done = draw(told, key, config.batch_size)
        return _unlikely(params, seen, done, jnp.ones(config.batch_size, bool))

    tx = optax.adam(config.learning_rate)
    step = make_train_step(objective, tx)

    def learn(state: TrainState, told: Replay) -> tuple[TrainState, Metrics]:
        once = lambda state, _: step(state, told)
        state, metrics = jax.lax.scan(once, state, length=config.updates)
        return state, jax.tree.map(jnp.mean, metrics)

    def update(carry: tuple[TrainState, Replay], batch: Trajectory) -> tuple[tuple, Metrics]:
        state, told = carry
        seen, _, valid = _steps(batch)
        keys = jax.random.split(jax.random.fold_in(state.key, -1 - state.step), len(valid))
        told = store(told, (seen, jax.vmap(expert)(seen, keys)[0]), valid)
        state, metrics = learn(state, told)
        return (state, told), metrics

    learner = Learner(lambda carry: partial(act, carry[0].params), update)

    def train(key: Array) -> Trained:
        starting, resetting, running, updating = jax.random.split(key, 4)
        params = init_actor_critic(starting, env.observation, env.action, config.widths)
        state = learn(init_state(params, tx, updating), told)[0]
        (state, _), metrics = interact(
            env,
            learner,
            (state, told),
            (resetting, running),
            environments=config.environments,
            steps=config.unroll,
            updates=config.rounds,
            discount=1.0,
        )
        return Trained(state.params, None, metrics)

    return train


def _steps(batch: Trajectory) -> tuple[Array, Array, Array]:
    """Observations, actions and mask of all steps, one a row."""
    row = lambda x: x.reshape(-1, *x.shape[2:])
    return row(batch.context), row(batch.action), row(batch.mask)


def _unlikely(params: PyTree, context: Array, action: Array, mask: Array) -> Loss:
    logp, ones = action_logp(params, context, action)[:, None], jnp.ones_like(action)[:, None]
    return nll(logp, Demonstration(action[:, None], mask[:, None], ones))
