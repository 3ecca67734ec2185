"""PPO in an environment, from the first episode to the last update in one program.

    train = make_train(cartpole(), PPOConfig())
    trained = jax.jit(train)(jax.random.key(0))
    seeds = jax.jit(sharded_vmap(train))(jax.random.split(jax.random.key(0), 10))

Reference: Schulman et al. 2017, "Proximal Policy Optimization Algorithms", arXiv 1707.06347.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax import Array

from irl_jax.dynamics.advantages import whiten
from irl_jax.dynamics.returns import gae
from irl_jax.envs.environment import Environment
from irl_jax.losses.policy import ppo
from irl_jax.losses.value import clipped_value
from irl_jax.masking import check_range, masked_mean
from irl_jax.models.actor_critic import act, action_logp, init_actor_critic, state_value
from irl_jax.recipes.interaction import Learner, Metrics, Train, Trained, interact
from irl_jax.rollout.unroll import Act, begin, unroll
from irl_jax.train.state import TrainState, init_state
from irl_jax.train.step import make_train_step, minibatch_epochs
from irl_jax.types import InputError, Loss, PyTree, Trajectory


class LearnedReward(NamedTuple):
    """A reward that is learned beside the policy.

    Attributes:
        init: typed PRNG key -> its state.
        update: (state, unroll, params of the policy that acted) -> state, the rewards of the
            unroll f32[B, T], metrics.
    """

    init: Callable[[Array], PyTree]
    update: Callable[[PyTree, Trajectory, PyTree], tuple[PyTree, Array, Metrics]]


@dataclass(frozen=True)
class PPOConfig:
    """Settings of a run."""

    steps: int = 200_000  # of all environments together
    environments: int = 16
    unroll: int = 64  # steps of each environment between two updates
    epochs: int = 4  # times that an update goes over them
    minibatches: int = 4
    learning_rate: float = 2.5e-3  # falls linearly to 0
    discount: float = 0.99
    gae_lambda: float = 0.95
    clip: float = 0.2  # of ratios
    value_clip: float = 10.0  # units of the return
    value_weight: float = 0.5
    entropy: float = 0.01
    max_grad_norm: float = 0.5
    widths: tuple[int, ...] = (64, 64)  # of the hidden layers
    critic_widths: tuple[int, ...] | None = None  # of the critic's, where they are others

    @property
    def updates(self) -> int:
        """Number of unrolls, each followed by an update; the rest of `steps` is not taken."""
        return self.steps // (self.environments * self.unroll)


@flax.struct.dataclass
class JudgedSteps:
    """Actions and what the critic made of them, one a row, so that any rows are a minibatch.

    Attributes:
        batch: N trajectories of one action.
        advantage: f32[N, 1].
        target: f32[N, 1], what the critic should say.
        old_value: f32[N, 1], what it said.
    """

    batch: Trajectory
    advantage: Array
    target: Array
    old_value: Array


def judged(params: PyTree, batch: Trajectory, *, gae_lambda: float) -> JudgedSteps:
    """Advantages, whitened over the batch, and targets of the critic.

    Args:
        params: of `models.actor_critic`.
        batch: an unroll.
        gae_lambda: λ.

    Raises:
        InputError: the batch has no discount of each action.
    """
    if batch.discount is None:
        raise InputError("batch.discount: missing; `rollout.unroll` gives one")
    value, final_value = state_value(params, batch.context), state_value(params, batch.final)
    advantage = gae(
        batch.reward,
        value,
        batch.mask,
        discount=batch.discount,
        gae_lambda=gae_lambda,
        final_value=final_value,
    )
    row = lambda x: x.reshape(-1, 1, *x.shape[2:])
    rows = Trajectory(
        context=row(batch.context),
        action=row(batch.action),
        mask=row(batch.mask),
        logp=row(batch.logp),
        reward=row(batch.reward),
        terminated=(batch.discount == 0).reshape(-1),
    )
    advantage, target = whiten(advantage, batch.mask), advantage + value
    return JudgedSteps(rows, row(advantage), row(target), row(value))


def ppo_update(
    config: PPOConfig, tx: optax.GradientTransformation
) -> Callable[[TrainState, Trajectory], tuple[TrainState, Metrics]]:
    """One update of PPO: epochs over the minibatches of an unroll.

    L = L_policy + c_V L_value.

    Returns:
        `update(state, batch) -> state, metrics`, whatever rewards the batch has.
    """

    def objective(params: PyTree, steps: JudgedSteps, key: Array) -> Loss:
        batch = steps.batch
        policy = ppo(
            action_logp(params, batch.context, batch.action),
            batch,
            advantage=steps.advantage,
            clip=config.clip,
            entropy=config.entropy,
        )
        critic = clipped_value(
            state_value(params, batch.context),
            batch,
            target=steps.target,
            old_value=steps.old_value,
            clip=config.value_clip,
        )
        total = policy.total + config.value_weight * critic.total
        return Loss(total, policy.weight, policy.metrics | critic.metrics)

    step = minibatch_epochs(
        make_train_step(objective, tx), epochs=config.epochs, minibatches=config.minibatches
    )

    def update(state: TrainState, batch: Trajectory) -> tuple[TrainState, Metrics]:
        return step(state, judged(state.params, batch, gae_lambda=config.gae_lambda))

    return update


def ppo_optimizer(config: PPOConfig) -> optax.GradientTransformation:
    """Adam, its rate falling to 0 over the run.

    Raises:
        InputError: the run has no update, or the minibatches do not divide it.
    """
    check_range("updates of steps / (environments · unroll)", config.updates, 1)
    if config.environments * config.unroll % config.minibatches:
        raise InputError(
            f"minibatches: {config.minibatches} do not divide environments x unroll = "
            f"{config.environments * config.unroll}"
        )
    count = config.updates * config.epochs * config.minibatches
    rate = optax.linear_schedule(config.learning_rate, 0.0, count)
    return optax.chain(optax.clip_by_global_norm(config.max_grad_norm), optax.adam(rate, eps=1e-5))


def make_train(env: Environment, config: PPOConfig, learned: LearnedReward | None = None) -> Train:
    """A whole run of PPO as one pure function.

    Args:
        env: the environment.
        config: settings of the run.
        learned: learns a reward from each unroll, before the policy learns from the unroll by
            that reward; None: the environment's.

    Returns:
        `train(key)`; its metrics are of each update, the environment's return among them.

    Raises:
        InputError: the settings do not fit each other.
    """
    tx = ppo_optimizer(config)
    improve = ppo_update(config, tx)

    def update(carry: tuple, batch: Trajectory) -> tuple[tuple, Metrics]:
        state, reward = carry
        of_reward: Metrics = {}
        if learned is not None:
            reward, rewards, of_reward = learned.update(reward, batch, state.params)
            batch = replace(batch, reward=rewards)
        state, of_policy = improve(state, batch)
        return (state, reward), of_reward | of_policy

    learner = Learner(lambda carry: partial(act, carry[0].params), update)

    def train(key: Array) -> Trained:
        policy, starting, rewarding, running = jax.random.split(key, 4)
        params = init_actor_critic(
            policy, env.observation, env.action, config.widths, config.critic_widths
        )
        reward = None if learned is None else learned.init(rewarding)
        (state, reward), metrics = interact(
            env,
            learner,
            (init_state(params, tx, key), reward),
            (starting, running),
            environments=config.environments,
            steps=config.unroll,
            updates=config.updates,
            discount=config.discount,
        )
        return Trained(state.params, reward, metrics)

    return train


def mean_return(env: Environment, policy: Act, key: Array, episodes: int) -> Array:
    """The mean return of whole episodes of a policy, f32[], not discounted.

    Args:
        env: an environment with a time limit.
        policy: of one observation; `partial(act, params)`, or `greedy`, of a learned one.
        key: typed PRNG key.
        episodes: number of them, all at once.

    Raises:
        InputError: there is no time limit.
    """
    if env.time_limit is None:
        raise InputError("time_limit: an episode that may go on for ever has no return to measure")
    starting, acting = jax.random.split(key)
    running = begin(env, starting, episodes)
    ended = unroll(env, policy, running, acting, steps=env.time_limit, discount=1.0)[2]
    first = ended.over & (jnp.cumsum(ended.over, -1) == 1)
    return masked_mean(ended.total, first)
