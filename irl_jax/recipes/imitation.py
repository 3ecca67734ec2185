"""GAIL: PPO by a reward that tells demonstrated steps from the policy's own.

    reward = gail_reward(env, demonstrations, GAILConfig(b=0.0))
    trained = jax.jit(make_train(env, PPOConfig(), reward))(jax.random.key(0))

Reference: Ho & Ermon 2016, "Generative Adversarial Imitation Learning", arXiv 1606.03476.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax import Array

from irl_jax.envs.environment import Environment
from irl_jax.losses.adversarial import gradient_penalty
from irl_jax.losses.divergence import discriminator_batch, gail
from irl_jax.losses.rating import binary_cross_entropy
from irl_jax.masking import check_mask, check_range
from irl_jax.models.actor_critic import step_features
from irl_jax.models.heads import apply_mlp, init_mlp
from irl_jax.recipes.control import LearnedReward, Metrics
from irl_jax.train.state import TrainState, init_state
from irl_jax.train.step import make_train_step
from irl_jax.types import InputError, Loss, Objective, PyTree, Trajectory


@dataclass(frozen=True)
class GAILConfig:
    """Settings of the discriminator."""

    b: float | Array  # of b log D − (1 − b) log(1 − D): 0 rewards survival, 1 an end
    updates: int = 8  # after each unroll
    learning_rate: float = 1e-3
    penalty: float = 1.0  # weight of the gradient penalty
    widths: tuple[int, ...] = (64, 64)  # of the hidden layers


@flax.struct.dataclass
class Steps:
    """Steps as a discriminator reads them.

    Attributes:
        features: f32[N, D].
        weight: f32[N]; 0 where no action was taken.
    """

    features: Array
    weight: Array


def steps_of(env: Environment, batch: Trajectory) -> Steps:
    """The steps of trajectories, of whatever episode.

    Args:
        env: where they were taken.
        batch: its context, action and mask are read.
    """
    x = step_features(batch.context, batch.action, (env.observation, env.action))
    return Steps(x.reshape(-1, x.shape[-1]), batch.mask.reshape(-1).astype(x.dtype))


def discriminator_objective(*, penalty: float) -> Objective:
    """The cross-entropy of demonstrated and sampled steps, and a gradient penalty between them.

    L = −½ E_E log D − ½ E_π log(1 − D) + λ E (‖∇v‖ − 1)², D = σ(v); as many demonstrated steps
    are drawn as there are sampled ones.

    Args:
        penalty: λ >= 0.

    Returns:
        `(params, sampled: Steps, key, demonstrated: Steps) -> Loss`, with the metrics `accuracy`
        and `slope`.

    Raises:
        InputError: λ < 0.

    Reference: Ho & Ermon 2016, arXiv 1606.03476, algorithm 1; Kostrikov et al. 2018, arXiv
    1809.02925 (gradient penalty).
    """
    check_range("penalty", penalty, 0.0)

    def objective(params: PyTree, sampled: Steps, key: Array, demonstrated: Steps) -> Loss:
        picking, mixing = jax.random.split(key)
        rows, choices = len(sampled.weight), len(demonstrated.weight)
        chance = demonstrated.weight / demonstrated.weight.sum()
        shown = demonstrated.features[jax.random.choice(picking, choices, (rows,), p=chance)]
        batch = discriminator_batch(jnp.arange(2 * rows) < rows)
        valid = jnp.concatenate([jnp.ones(rows), sampled.weight])
        batch = replace(batch, weight=batch.weight * valid)
        logit = apply_mlp(params, jnp.concatenate([shown, sampled.features]))
        loss = binary_cross_entropy(logit, batch)
        share = jax.random.uniform(mixing, (rows, 1))
        between = share * shown + (1.0 - share) * sampled.features
        slope = jax.vmap(jax.grad(partial(apply_mlp, params)))(between)
        rough = gradient_penalty(slope, replace(batch, weight=sampled.weight), target=1.0)
        total = loss.total + penalty * loss.weight * rough.mean
        metrics = {"accuracy": loss.metrics["accuracy"], "slope": rough.metrics["slope"]}
        return Loss(total, loss.weight, metrics)

    return objective


def gail_reward(env: Environment, demonstrations: Trajectory, config: GAILConfig) -> LearnedReward:
    """The reward of GAIL, for `recipes.control.make_train`.

    Args:
        env: where the policy acts.
        demonstrations: taken there; their context, action and mask are read.
        config: settings of the discriminator.

    Raises:
        InputError: a number is out of range, or the demonstrations do not fit the environment.
    """
    check_range("b", config.b, 0.0, 1.0)
    check_range("updates", config.updates, 1)
    check_mask("demonstrations.mask", demonstrations.mask, (None, None))
    wanted = () if isinstance(env.observation, int) else env.observation
    if (seen := demonstrations.context.shape[2:]) != wanted:
        raise InputError(
            f"demonstrations.context: expected observations of shape {list(wanted)}, "
            f"got {list(seen)}"
        )
    tx = optax.adam(config.learning_rate)
    step = make_train_step(discriminator_objective(penalty=config.penalty), tx)
    demonstrated = steps_of(env, demonstrations)

    def init(key: Array) -> TrainState:
        params, running = jax.random.split(key)
        dim = demonstrated.features.shape[-1]
        return init_state(init_mlp(params, dim, config.widths), tx, running)

    def update(state: TrainState, batch: Trajectory) -> tuple[TrainState, Array, Metrics]:
        sampled = steps_of(env, batch)
        once = lambda state, _: step(state, sampled, demonstrated)
        state, metrics = jax.lax.scan(once, state, length=config.updates)
        logit = apply_mlp(state.params, sampled.features).reshape(batch.mask.shape)
        means = {f"discriminator_{name}": value.mean() for name, value in metrics.items()}
        return state, gail(logit, b=config.b), means

    return LearnedReward(init, update)
