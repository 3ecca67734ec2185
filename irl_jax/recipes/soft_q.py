"""Soft Q-learning in an environment: by its reward, or by demonstrations (SQIL, IQ-Learn).

    train = make_soft_imitation(env, demonstrations, SoftQConfig(), sqil_loss)
    trained = jax.jit(train)(jax.random.key(0))

A network says Q of every action of an observation. The policy that acts is the soft one,
π = exp((Q − V)/τ), V = τ log Σ_a exp(Q/τ); it is what a run returns, as `models.actor_critic` reads
it: Q is τ times its logits. Where episodes end, the worth of an end is 0; in a fixed horizon
(`envs.environment.fixed_horizon`) there is none, and it is learned.

Reference: Haarnoja et al. 2017, "Reinforcement Learning with Deep Energy-Based Policies", arXiv
1702.08165.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from irl_jax.envs.environment import Environment
from irl_jax.losses.divergence import discriminator_batch
from irl_jax.losses.soft_q import iq_learn, iq_learn_online, phi_chi_square, sqil
from irl_jax.masking import check_mask, check_range
from irl_jax.models.actor_critic import act, features
from irl_jax.models.heads import apply_outputs, init_mlp
from irl_jax.recipes.interaction import Learner, Metrics, Train, Trained, interact
from irl_jax.rollout.replay import Replay, draw, empty_replay, store, transitions
from irl_jax.train.state import init_state
from irl_jax.train.step import make_train_step
from irl_jax.types import InputError, Loss, PyTree, Rating, Trajectory

# (Q of the actions, V of their states, γ V of the states after them, f32[N] each; the rows, whose
# score is 1 for a demonstration and 0 for a sample, or the environment's reward) -> loss
SoftLoss = Callable[[Array, Array, Array, Rating], Loss]
# (what was done, typed PRNG key) -> transitions and what they are rated
BatchOf = Callable[[Replay, Array], tuple[Trajectory, Rating]]


@dataclass(frozen=True)
class SoftQConfig:
    """Settings of a run."""

    steps: int = 50_000  # of all environments together
    environments: int = 8
    unroll: int = 8  # steps of each environment between two rounds of updates
    updates: int = 16  # after each unroll
    batch_size: int = 64  # transitions of either side
    capacity: int = 50_000  # transitions that are kept
    learning_rate: float = 1e-3
    discount: float = 0.99
    temperature: float = 0.1  # τ, units of the reward
    target_rate: float | None = 0.01  # share of the network that its target takes over after an
    # update; None: no target, and V(s′) is differentiated like the rest
    widths: tuple[int, ...] = (64, 64)  # of the hidden layers

    @property
    def rounds(self) -> int:
        """Number of unrolls, each followed by updates; the rest of `steps` is not taken."""
        return self.steps // (self.environments * self.unroll)


def sqil_loss(q: Array, value: Array, following: Array, rows: Rating) -> Loss:
    """SQIL, and soft Q-learning where the score is the reward: `losses.soft_q.sqil`."""
    return sqil(q, following, rows)


def iq_loss(*, alpha: float | Array) -> SoftLoss:
    """IQ-Learn with χ² on demonstrations and samples: `losses.soft_q.iq_learn_online`.

    Args:
        alpha: α > 0, units of the reward.
    """
    return partial(iq_learn_online, alpha=alpha)


def as_policy(network: PyTree, temperature: float | Array) -> PyTree:
    """The soft policy of a network of Q, as params of `models.actor_critic`.

    Args:
        network: as `models.heads.init_mlp` gives it, an output for each action.
        temperature: τ.
    """
    last = f"layer_{len(network) - 1}"
    scaled = jax.tree.map(lambda x: x / temperature, network[last])
    return {"policy": network | {last: scaled}}


def action_values(network: PyTree, observation: Array) -> Array:
    """Q of every action, f32[..., A].

    Args:
        network: as `as_policy` takes it.
        observation: f32[..., D] or i32[...].
    """
    return apply_outputs(network, features(observation, network["layer_0"]["kernel"].shape[0]))


def read_transitions(
    network: PyTree, target: PyTree, rows: Trajectory, temperature: float | Array
) -> tuple[Array, Array, Array]:
    """What losses of a soft Q read of N transitions: Q, V and γ V(s′), f32[N] each.

    Args:
        network: of Q.
        target: the network of V(s′); a constant unless it is the first.
        rows: of `rollout.replay.transitions`.
        temperature: τ.
    """
    assert rows.discount is not None
    soft = lambda q: temperature * jax.nn.logsumexp(q / temperature, axis=-1)
    every = action_values(network, rows.context[:, 0])
    q = jnp.take_along_axis(every, rows.action, -1)[:, 0]
    return q, soft(every), rows.discount[:, 0] * soft(action_values(target, rows.final))


def make_soft_q(env: Environment, config: SoftQConfig) -> Train:
    """A whole run of soft Q-learning as one pure function, by the environment's reward.

    Args:
        env: where the policy acts.
        config: settings of the run.

    Returns:
        `train(key)`.

    Raises:
        InputError: a number is out of range, or actions are not discrete.
    """

    def own(replay: Replay, key: Array) -> tuple[Trajectory, Rating]:
        rows = draw(replay, key, config.batch_size)
        absent: Any = None
        ones = jnp.ones(config.batch_size)
        return rows, Rating(absent, absent, absent, score=rows.reward[:, 0], weight=ones)

    return _train(env, config, *soft_q_learner(env, config, sqil_loss, own))


def make_soft_imitation(
    env: Environment, demonstrations: Trajectory, config: SoftQConfig, loss: SoftLoss
) -> Train:
    """A whole run of imitation by a soft Q as one pure function; no reward is looked at.

    Args:
        env: where the policy acts.
        demonstrations: taken there, with `final` and the discounts by which the policy learns.
        config: settings of the run.
        loss: `sqil_loss`, or `iq_loss` with an α.

    Returns:
        `train(key)`.

    Raises:
        InputError: a number is out of range, or actions are not discrete.
    """
    mixed = half_demonstrated(demonstrations, config.batch_size)
    return _train(env, config, *soft_q_learner(env, config, loss, mixed))


def half_demonstrated(demonstrations: Trajectory, count: int) -> BatchOf:
    """Batches of as many demonstrated transitions as replayed ones.

    Args:
        demonstrations: with `final` and `discount`.
        count: N of either.
    """
    pick = demonstrated(demonstrations, count)

    def mixed(replay: Replay, key: Array) -> tuple[Trajectory, Rating]:
        showing, sampling = jax.random.split(key)
        shown, own = pick(showing), draw(replay, sampling, count)
        rows = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), shown, own)
        return rows, discriminator_batch(jnp.arange(2 * count) < count)

    return mixed


def soft_q_learner(
    env: Environment, config: SoftQConfig, loss: SoftLoss, batch_of: BatchOf
) -> tuple[Callable[[Array], PyTree], Learner]:
    """What `recipes.interaction.interact` takes to learn a soft Q.

    Its state is that of the network's training, the target network, and a `Replay` of transitions.

    Args:
        env: where the policy acts.
        config: settings of the run.
        loss: of what a batch says.
        batch_of: makes batches of what is in the replay.

    Returns:
        Typed PRNG key -> the state that a run begins with, and the learner.

    Raises:
        InputError: a number is out of range, or actions are not discrete.
    """
    dim, actions = spaces(env)
    check_range("updates", config.updates, 1)
    check_range("temperature", config.temperature, 0.0, exclusive=True)
    if config.target_rate is not None:
        check_range("target_rate", config.target_rate, 0.0, 1.0, exclusive=True)

    def objective(params: PyTree, replay: Replay, key: Array, target: PyTree) -> Loss:
        rows, rating = batch_of(replay, key)
        after = params if config.target_rate is None else target
        return loss(*read_transitions(params, after, rows, config.temperature), rating)

    tx = optax.adam(config.learning_rate)
    step = make_train_step(objective, tx)
    rate = 1.0 if config.target_rate is None else config.target_rate

    def once(carry: tuple, replay: Replay) -> tuple[tuple, Metrics]:
        state, target = carry
        state, metrics = step(state, replay, target)
        return (state, optax.incremental_update(state.params, target, rate)), metrics

    def update(carry: tuple, batch: Trajectory) -> tuple[tuple, Metrics]:
        state, target, replay = carry
        rows = transitions(batch)
        replay = store(replay, rows, rows.mask[:, 0])
        again = lambda trained, _: once(trained, replay)
        trained, metrics = jax.lax.scan(again, (state, target), length=config.updates)
        return (*trained, replay), jax.tree.map(jnp.mean, metrics)

    def init(key: Array) -> tuple:
        starting, running = jax.random.split(key)
        network = init_mlp(starting, dim, config.widths, actions)
        replay = empty_replay(_one_row(env), config.capacity)
        return init_state(network, tx, running), network, replay

    policy = lambda carry: partial(act, as_policy(carry[0].params, config.temperature))
    return init, Learner(policy, update)


@dataclass(frozen=True)
class OfflineConfig:
    """Settings of a run that no environment takes part in."""

    updates: int = 5_000
    batch_size: int = 64  # transitions
    learning_rate: float = 1e-3
    temperature: float = 1.0  # τ, units of the reward
    widths: tuple[int, ...] = (64, 64)  # of the hidden layers


def make_iq_offline(
    env: Environment, demonstrations: Trajectory, config: OfflineConfig, *, alpha: float | Array
) -> Train:
    """A run of IQ-Learn with χ² from demonstrations alone, `losses.soft_q.iq_learn`.

    Args:
        env: what observations and actions are.
        demonstrations: taken there, with `final` and discounts.
        config: settings of the run.
        alpha: α > 0, units of the reward.

    Returns:
        `train(key)`; its metrics are of each update.

    Raises:
        InputError: a number is out of range, or actions are not discrete.
    """
    dim, actions = spaces(env)
    check_range("updates", config.updates, 1)
    pick, phi = demonstrated(demonstrations, config.batch_size), phi_chi_square(alpha)

    def objective(params: PyTree, batch: None, key: Array) -> Loss:
        rows = pick(key)
        read = read_transitions(params, params, rows, config.temperature)
        q, value, following = (x[:, None] for x in read)
        return iq_learn(q, value, following, rows, phi=phi)

    tx = optax.adam(config.learning_rate)
    step = make_train_step(objective, tx)

    def train(key: Array) -> Trained:
        params, running = jax.random.split(key)
        state = init_state(init_mlp(params, dim, config.widths, actions), tx, running)
        once = lambda state, _: step(state, None)
        state, metrics = jax.lax.scan(once, state, length=config.updates)
        return Trained(as_policy(state.params, config.temperature), None, metrics)

    return train


def demonstrated(demonstrations: Trajectory, count: int) -> Callable[[Array], Trajectory]:
    """Draws demonstrated transitions, with replacement.

    Args:
        demonstrations: with `final` and `discount`; what is not in the mask is not drawn.
        count: N, rows of a draw.

    Returns:
        Typed PRNG key -> N transitions.

    Raises:
        InputError: `final` or `discount` is missing.
    """
    check_mask("demonstrations.mask", demonstrations.mask, (None, None))
    rows = transitions(demonstrations)
    share = rows.mask[:, 0] / rows.mask.sum()

    def pick(key: Array) -> Trajectory:
        at = jax.random.choice(key, len(share), (count,), p=share)
        return jax.tree.map(lambda x: x[at], rows)

    return pick


def _train(
    env: Environment, config: SoftQConfig, init: Callable[[Array], PyTree], learner: Learner
) -> Train:
    check_range("rounds of steps / (environments · unroll)", config.rounds, 1)

    def train(key: Array) -> Trained:
        starting, resetting, running = jax.random.split(key, 3)
        (state, *_), metrics = interact(
            env,
            learner,
            init(starting),
            (resetting, running),
            environments=config.environments,
            steps=config.unroll,
            updates=config.rounds,
            discount=config.discount,
        )
        return Trained(as_policy(state.params, config.temperature), None, metrics)

    return train


def _one_row(env: Environment) -> Trajectory:
    """A transition of an environment, of zeros."""
    seen = (
        jnp.zeros((1, 1), jnp.int32)
        if isinstance(env.observation, int)
        else jnp.zeros((1, 1, *env.observation))
    )
    number, no = jnp.zeros((1, 1)), jnp.zeros((1, 1), bool)
    action = jnp.zeros((1, 1), jnp.int32)
    return Trajectory(seen, action, no, number, number, no[0], seen[:, 0], number)


def spaces(env: Environment) -> tuple[int, int]:
    """The widths of what a network of Q reads and says.

    Raises:
        InputError: actions are not discrete.
    """
    if not isinstance(env.action, int):
        raise InputError(
            "action: a soft Q of every action needs discrete ones; see "
            "envs.environment.discrete_actions"
        )
    seen = env.observation
    return (seen if isinstance(seen, int) else math.prod(seen)), env.action
