"""ValueDICE: a policy whose occupancy is that of demonstrations, from demonstrations alone.

    train = make_value_dice(env, demonstrations, ValueDICEConfig())
    params = jax.jit(train)(jax.random.key(0)).params

Actions are discrete, so that what the policy does next is summed over, not drawn.

Reference: Kostrikov, Nachum & Tompson 2019, "Imitation Learning via Off-Policy Distribution
Matching", arXiv 1912.05032.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from irl_jax.envs.environment import Environment
from irl_jax.losses.adversarial import gradient_penalty
from irl_jax.losses.matching import value_dice
from irl_jax.masking import check_range
from irl_jax.models.actor_critic import features, init_actor_critic
from irl_jax.models.heads import apply_mlp, apply_outputs, init_mlp
from irl_jax.recipes.interaction import Train, Trained
from irl_jax.recipes.soft_q import demonstrated, spaces
from irl_jax.train.state import init_state
from irl_jax.train.step import make_train_step
from irl_jax.types import Loss, PyTree, Rating, Trajectory


@dataclass(frozen=True)
class ValueDICEConfig:
    """Settings of a run."""

    updates: int = 5_000
    batch_size: int = 64  # transitions
    learning_rate: float = 1e-3  # of ν
    policy_learning_rate: float = 1e-4
    discount: float = 0.99
    penalty: float = 10.0  # weight of the gradient penalty
    widths: tuple[int, ...] = (64, 64)  # of the hidden layers


def make_value_dice(env: Environment, demonstrations: Trajectory, config: ValueDICEConfig) -> Train:
    """A run of ValueDICE without replay, `losses.matching.value_dice`.

    ν descends on L + λ E (‖∇ν‖ − 1)², between demonstrated steps and what the policy does after
    them, and the policy ascends on L. Episodes begin in every demonstrated state, as the authors
    have it.

    Args:
        env: what observations and actions are; episodes that end have no place in L, see
            `envs.environment.fixed_horizon`.
        demonstrations: taken there, with `final` and `discount`, which is read for nothing else.
        config: settings of the run.

    Returns:
        `train(key)`; its metrics are of each update, `bound` among them, L.

    Raises:
        InputError: a number is out of range, or actions are not discrete.
    """
    dim, actions = spaces(env)
    check_range("updates", config.updates, 1)
    check_range("penalty", config.penalty, 0.0)
    pick, ones = demonstrated(demonstrations, config.batch_size), jnp.ones(config.batch_size)
    absent: Any = None
    batch = Rating(absent, absent, absent, score=ones, weight=ones)

    def bound(nu: PyTree, policy: PyTree, rows: Trajectory) -> Loss:
        here, after = features(rows.context[:, 0], dim), features(rows.final, dim)
        every = jnp.eye(actions)

        def expected(x: Array) -> Array:
            each = jax.vmap(lambda a: apply_mlp(nu, _pair(x, a)), out_axes=-1)(every)
            return (jax.nn.softmax(apply_outputs(policy, x)) * each).sum(-1)

        taken = apply_mlp(nu, _pair(here, every[rows.action[:, 0]]))
        following = config.discount * expected(after)
        return value_dice(taken, following, expected(here), batch, discount=config.discount)

    def objective(params: PyTree, _: None, key: Array) -> Loss:
        picking, mixing = jax.random.split(key)
        rows, still = pick(picking), jax.tree.map(jax.lax.stop_gradient, params)
        down = bound(params["nu"], still["policy"], rows)
        up = bound(still["nu"], params["policy"], rows)
        here, after = features(rows.context[:, 0], dim), features(rows.final, dim)
        shown = _pair(here, jax.nn.one_hot(rows.action[:, 0], actions))
        own = _pair(after, jax.nn.softmax(apply_outputs(still["policy"], after)))
        share = jax.random.uniform(mixing, (config.batch_size, 1))
        slope = jax.grad(lambda x: apply_mlp(params["nu"], x).sum())(
            share * shown + (1.0 - share) * own
        )
        rough = gradient_penalty(slope, batch, target=1.0)
        total = down.total - up.total + config.penalty * rough.mean
        return replace(down, total=total, metrics=down.metrics | {"bound": (down.total, ones[0])})

    rates = {"nu": config.learning_rate, "policy": config.policy_learning_rate}
    tx = optax.multi_transform(
        {name: optax.adam(rate) for name, rate in rates.items()}, {name: name for name in rates}
    )
    step = make_train_step(objective, tx)

    def train(key: Array) -> Trained:
        judging, acting, running = jax.random.split(key, 3)
        actor = init_actor_critic(acting, env.observation, env.action, config.widths)
        nu = init_mlp(judging, dim + actions, config.widths)
        state = init_state({"nu": nu, "policy": actor["policy"]}, tx, running)
        once = lambda state, _: step(state, None)
        state, metrics = jax.lax.scan(once, state, length=config.updates)
        return Trained({"policy": state.params["policy"]}, None, metrics)

    return train


def _pair(x: Array, action: Array) -> Array:
    """What ν reads of observations f32[N, D] and actions f32[(N,) A]."""
    return jnp.concatenate([x, jnp.broadcast_to(action, (*x.shape[:-1], action.shape[-1]))], -1)
