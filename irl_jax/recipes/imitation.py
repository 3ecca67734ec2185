"""Adversarial imitation: PPO by a reward that tells demonstrated steps from the policy's own.

    reward = gail_reward(env, demonstrations, GAILConfig(b=0.0))
    trained = jax.jit(make_train(env, PPOConfig(), reward))(jax.random.key(0))

GAIL, FAIRL and AIRL are a discriminator of steps, whose logit v is learned in the same way, and a
reward that is made of v. Others are put together with `adversarial_reward`.

Reference: Ho & Ermon 2016, "Generative Adversarial Imitation Learning", arXiv 1606.03476.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax import Array

from irl_jax.envs.environment import Environment
from irl_jax.losses.adversarial import airl_logit, gradient_penalty
from irl_jax.losses.divergence import discriminator_batch, fairl, gail
from irl_jax.losses.rating import binary_cross_entropy
from irl_jax.masking import check_mask, check_range
from irl_jax.models.actor_critic import action_logp, features, step_features
from irl_jax.models.heads import apply_mlp, init_mlp
from irl_jax.recipes.control import LearnedReward
from irl_jax.recipes.interaction import Metrics
from irl_jax.rollout.replay import transitions
from irl_jax.train.state import TrainState, init_state
from irl_jax.train.step import make_train_step
from irl_jax.types import InputError, Loss, Objective, PyTree, Trajectory


@dataclass(frozen=True)
class DiscriminatorConfig:
    """Settings of a discriminator."""

    updates: int = 8  # after each unroll
    rows: int | None = None  # of either side in an update, drawn anew; None: as many as were taken
    learning_rate: float = 1e-3
    penalty: float = 1.0  # weight of the gradient penalty
    widths: tuple[int, ...] = (64, 64)  # of the hidden layers


@dataclass(frozen=True, kw_only=True)
class GAILConfig(DiscriminatorConfig):
    """Settings of GAIL."""

    b: float | Array  # of b log D − (1 − b) log(1 − D): 0 rewards survival, 1 an end


@dataclass(frozen=True, kw_only=True)
class AIRLConfig(DiscriminatorConfig):
    """Settings of AIRL."""

    actions: bool  # whether g is a reward of actions too, g(s, a); of states alone it may transfer


@flax.struct.dataclass
class Steps:
    """Steps as a discriminator reads them.

    Attributes:
        features: f32[N, D].
        weight: f32[N]; 0 where no action was taken.
        logp: f32[N], log-probs of the actions under the policy (nats), where they are read.
        discount: f32[N], γ (1 − terminated), where it is read.
    """

    features: Array
    weight: Array
    logp: Array | None = None
    discount: Array | None = None


class Discriminator(NamedTuple):
    """What tells demonstrated steps from others.

    Attributes:
        read: (trajectories, params of the policy) -> their `Steps`, in order.
        init: typed PRNG key -> its parameters.
        logit: (parameters, steps) -> v, f32[N].
    """

    read: Callable[[Trajectory, PyTree], Steps]
    init: Callable[[Array], PyTree]
    logit: Callable[[PyTree, Steps], Array]


def steps_of(env: Environment, batch: Trajectory) -> Steps:
    """The steps of trajectories, of whatever episode.

    Args:
        env: where they were taken.
        batch: its context, action and mask are read.
    """
    x = step_features(batch.context, batch.action, (env.observation, env.action))
    return Steps(x.reshape(-1, x.shape[-1]), batch.mask.reshape(-1).astype(x.dtype))


def drawn(steps: Steps, key: Array, rows: int) -> Steps:
    """Steps that were taken, drawn with replacement in proportion to their weights.

    Args:
        steps: N of them.
        key: typed PRNG key.
        rows: number of steps to draw; each has a weight of 1.
    """
    chance = steps.weight / steps.weight.sum()
    chosen = jax.random.choice(key, len(steps.weight), (rows,), p=chance)
    return replace(jax.tree.map(lambda x: x[chosen], steps), weight=jnp.ones(rows))


def discriminator_objective(
    *,
    penalty: float,
    rows: int | None = None,
    logit: Callable[[PyTree, Steps], Array] | None = None,
) -> Objective:
    """The cross-entropy of demonstrated and sampled steps, and a gradient penalty between them.

    L = −½ E_E log D − ½ E_π log(1 − D) + λ E (‖∇v‖ − 1)², D = σ(v); as many demonstrated steps
    are drawn as there are sampled ones. ∇v is the slope in the features.

    Args:
        penalty: λ >= 0.
        rows: sampled steps that are drawn; None: all of them, as they are.
        logit: v of steps; by default `models.heads.apply_mlp` of their features.

    Returns:
        `(params, sampled: Steps, key, demonstrated: Steps) -> Loss`, with the metrics `accuracy`
        and `slope`.

    Raises:
        InputError: λ < 0, or fewer than 1 row.

    Reference: Ho & Ermon 2016, arXiv 1606.03476, algorithm 1; Kostrikov et al. 2018, arXiv
    1809.02925 (gradient penalty).
    """
    check_range("penalty", penalty, 0.0)
    check_range("rows", 1 if rows is None else rows, 1)
    value = _network if logit is None else logit

    def objective(params: PyTree, sampled: Steps, key: Array, demonstrated: Steps) -> Loss:
        picking, mixing, sampling = jax.random.split(key, 3)
        if rows is not None:
            sampled = drawn(sampled, sampling, rows)
        count = len(sampled.weight)
        shown = drawn(demonstrated, picking, count)
        batch = discriminator_batch(jnp.arange(2 * count) < count)
        valid = jnp.concatenate([jnp.ones(count), sampled.weight])
        batch = replace(batch, weight=batch.weight * valid)
        both = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), shown, sampled)
        loss = binary_cross_entropy(value(params, both), batch)
        share = jax.random.uniform(mixing, (count, 1))
        between = share * shown.features + (1.0 - share) * sampled.features
        total = lambda x: value(params, replace(sampled, features=x)).sum()
        rough = gradient_penalty(
            jax.grad(total)(between), replace(batch, weight=sampled.weight), target=1.0
        )
        metrics = {"accuracy": loss.metrics["accuracy"], "slope": rough.metrics["slope"]}
        return Loss(loss.total + penalty * loss.weight * rough.mean, loss.weight, metrics)

    return objective


def adversarial_reward(
    env: Environment,
    demonstrations: Trajectory,
    config: DiscriminatorConfig,
    reward: Callable[[Array], Array],
    discriminator: Discriminator | None = None,
) -> LearnedReward:
    """A reward that is made of a discriminator's logits, for `recipes.control.make_train`.

    Args:
        env: where the policy acts.
        demonstrations: taken there; their context, action and mask are read, and what else the
            discriminator reads.
        config: settings of the discriminator.
        reward: v f32[B, T] -> f32[B, T], such as `losses.divergence.gail`; for f-MAX the
            `reward` of a divergence, `losses.divergence.KL.reward`.
        discriminator: None: a network of observation and action.

    Raises:
        InputError: a number is out of range, or the demonstrations do not fit the environment.
    """
    check_range("updates", config.updates, 1)
    check_mask("demonstrations.mask", demonstrations.mask, (None, None))
    wanted = () if isinstance(env.observation, int) else env.observation
    if (seen := demonstrations.context.shape[2:]) != wanted:
        raise InputError(
            f"demonstrations.context: expected observations of shape {list(wanted)}, "
            f"got {list(seen)}"
        )
    read, init_params, logit = discriminator or of_steps(env, config)
    tx = optax.adam(config.learning_rate)
    objective = discriminator_objective(penalty=config.penalty, rows=config.rows, logit=logit)
    step = make_train_step(objective, tx)

    def init(key: Array) -> TrainState:
        params, running = jax.random.split(key)
        return init_state(init_params(params), tx, running)

    def update(
        state: TrainState, batch: Trajectory, policy: PyTree
    ) -> tuple[TrainState, Array, Metrics]:
        sampled, demonstrated = read(batch, policy), read(demonstrations, policy)
        once = lambda state, _: step(state, sampled, demonstrated)
        state, metrics = jax.lax.scan(once, state, length=config.updates)
        v = logit(state.params, sampled).reshape(batch.mask.shape)
        means = {f"discriminator_{name}": value.mean() for name, value in metrics.items()}
        return state, reward(v), means

    return LearnedReward(init, update)


def of_steps(env: Environment, config: DiscriminatorConfig) -> Discriminator:
    """A network of observation and action: v tends to log ρ_E/ρ_π."""
    return Discriminator(
        read=lambda batch, policy: steps_of(env, batch),
        init=lambda key: init_mlp(key, _dim(env.observation) + _dim(env.action), config.widths),
        logit=_network,
    )


def shaped(env: Environment, config: AIRLConfig) -> Discriminator:
    """The discriminator of AIRL, `losses.adversarial.airl_logit` of two networks.

    Its parameters are {"reward": g, "potential": h}; the features of a step are those of s, a and
    s′. Demonstrations need `final` and `discount`, as the unrolls of the policy have them.
    """
    seen, done = _dim(env.observation), _dim(env.action)
    given = seen + done if config.actions else seen

    def read(batch: Trajectory, policy: PyTree) -> Steps:
        rows = transitions(batch)
        assert rows.discount is not None
        spaces = (env.observation, env.action)
        here = step_features(rows.context, rows.action, spaces)[:, 0]
        return Steps(
            features=jnp.concatenate([here, features(rows.final, seen)], -1),
            weight=rows.mask[:, 0].astype(here.dtype),
            logp=action_logp(policy, rows.context, rows.action)[:, 0],
            discount=rows.discount[:, 0],
        )

    def init(key: Array) -> PyTree:
        reward, potential = jax.random.split(key)
        return {
            "reward": init_mlp(reward, given, config.widths),
            "potential": init_mlp(potential, seen, config.widths),
        }

    def logit(params: PyTree, steps: Steps) -> Array:
        x, (reward, potential) = steps.features, (params["reward"], params["potential"])
        assert steps.logp is not None and steps.discount is not None
        absent: Any = None
        taken = jnp.ones((len(x), 1), bool)
        batch = Trajectory(
            absent, absent, taken, absent, absent, absent, discount=steps.discount[:, None]
        )
        return airl_logit(
            apply_mlp(reward, x[:, None, :given]),
            apply_mlp(potential, x[:, None, :seen]),
            steps.logp[:, None],
            batch,
            final_potential=apply_mlp(potential, x[:, seen + done :]),
        )[:, 0]

    return Discriminator(read, init, logit)


def gail_reward(env: Environment, demonstrations: Trajectory, config: GAILConfig) -> LearnedReward:
    """The reward of GAIL, b log D − (1 − b) log(1 − D), for `recipes.control.make_train`.

    Args:
        env: where the policy acts.
        demonstrations: taken there; their context, action and mask are read.
        config: settings of the discriminator, and the sign of the reward.

    Raises:
        InputError: a number is out of range, or the demonstrations do not fit the environment.
    """
    check_range("b", config.b, 0.0, 1.0)
    return adversarial_reward(env, demonstrations, config, lambda v: gail(v, b=config.b))


def fairl_reward(
    env: Environment, demonstrations: Trajectory, config: DiscriminatorConfig
) -> LearnedReward:
    """The reward of FAIRL, −v exp v, for `recipes.control.make_train`: KL(ρ_E‖ρ_π).

    Args:
        env: where the policy acts.
        demonstrations: taken there; their context, action and mask are read.
        config: settings of the discriminator.

    Raises:
        InputError: a number is out of range, or the demonstrations do not fit the environment.

    Reference: Ghasemipour, Zemel & Gu 2019, "A Divergence Minimization Perspective on Imitation
    Learning Methods", arXiv 1911.02256.
    """
    return adversarial_reward(env, demonstrations, config, fairl)


def airl_reward(env: Environment, demonstrations: Trajectory, config: AIRLConfig) -> LearnedReward:
    """The reward of AIRL, v = f − log π, for `recipes.control.make_train`.

    f = g + γ h(s′) − h(s); v has the policy's entropy in it, so that PPO needs none of its own.

    Args:
        env: where the policy acts.
        demonstrations: taken there, with `final`, and the discounts by which the policy learns.
        config: settings of the discriminator.

    Raises:
        InputError: a number is out of range, or the demonstrations do not fit the environment.

    Reference: Fu, Luo & Levine 2017, "Learning Robust Rewards with Adversarial Inverse
    Reinforcement Learning", arXiv 1710.11248.
    """
    return adversarial_reward(env, demonstrations, config, lambda v: v, shaped(env, config))


def _network(params: PyTree, steps: Steps) -> Array:
    return apply_mlp(params, steps.features)


def _dim(space: int | tuple[int, ...]) -> int:
    return space if isinstance(space, int) else math.prod(space)
