"""A policy and a critic of observations: two small networks that share nothing.

    params = {"policy": network, "critic": network, "log_std": f32[N]}

Actions are drawn from a softmax, or, where params have a `log_std`, from independent normal
distributions. An observation that is an index is read as an indicator.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import Array

from irl_jax.models.heads import apply_mlp, apply_outputs, init_mlp
from irl_jax.types import PyTree, Space

INITIAL_SCALE = 0.01  # of the policy's last layer: it begins close to uniform, or to mean 0


def init_actor_critic(
    key: Array,
    observation: Space,
    action: Space,
    widths: Sequence[int],
    critic_widths: Sequence[int] | None = None,
) -> PyTree:
    """Parameters of a policy that begins close to uniform, or to N(0, 1), and of a critic.

    Args:
        key: typed PRNG key.
        observation: n, or (D,).
        action: A, or (N,).
        widths: of the hidden layers of either network; none makes both linear, and of
            observations that are indices a table.
        critic_widths: of the critic's, where they are others.
    """
    acting, judging = jax.random.split(key)
    dim, outputs = (x if isinstance(x, int) else math.prod(x) for x in (observation, action))
    policy = init_mlp(acting, dim, widths, outputs)
    judges = widths if critic_widths is None else critic_widths
    last = f"layer_{len(widths)}"
    policy[last]["kernel"] *= INITIAL_SCALE
    params = {"policy": policy, "critic": init_mlp(judging, dim, judges)}
    return params if isinstance(action, int) else params | {"log_std": jnp.zeros(outputs)}


def features(observation: Array, dim: int) -> Array:
    """What a network reads: a vector as it is, an index as an indicator, f32[..., D].

    Args:
        observation: f32[..., D], or i32[...] below D.
        dim: D.
    """
    if jnp.issubdtype(observation.dtype, jnp.integer):
        return jax.nn.one_hot(observation, dim)
    return observation


def step_features(observation: Array, action: Array, spaces: tuple[Space, Space]) -> Array:
    """What a reward of a state and an action reads, f32[..., D + N].

    Args:
        observation: f32[..., D], or i32[...].
        action: f32[..., N], or i32[...].
        spaces: of the two.
    """
    parts = (
        features(x, space if isinstance(space, int) else math.prod(space))
        for x, space in zip((observation, action), spaces, strict=True)
    )
    return jnp.concatenate(list(parts), -1)


def _read(network: PyTree, observation: Array) -> Array:
    return features(observation, network["layer_0"]["kernel"].shape[0])


def state_value(params: PyTree, observation: Array) -> Array:
    """The critic's value of each observation, f32[...], in units of the return."""
    critic = params["critic"]
    return apply_mlp(critic, _read(critic, observation))


def action_logp(params: PyTree, observation: Array, action: Array) -> Array:
    """Log-probs, or log-densities, of actions (nats).

    Args:
        params: as `init_actor_critic` gives them.
        observation: f32[..., D] or i32[...].
        action: i32[...], or f32[..., N].

    Returns:
        f32[...].
    """
    outputs = apply_outputs(params["policy"], _read(params["policy"], observation))
    if "log_std" not in params:
        return jnp.take_along_axis(jax.nn.log_softmax(outputs), action[..., None], -1)[..., 0]
    distance = (action - outputs) * jnp.exp(-params["log_std"])
    each = -0.5 * distance**2 - params["log_std"] - 0.5 * math.log(2 * math.pi)
    return each.sum(-1)


def act(params: PyTree, observation: Array, key: Array) -> tuple[Array, Array]:
    """An action for each observation, and its log-prob (nats).

    Args:
        params: as `init_actor_critic` gives them.
        observation: f32[..., D] or i32[...].
        key: typed PRNG key.

    Returns:
        i32[...] or f32[..., N], and f32[...].
    """
    outputs = apply_outputs(params["policy"], _read(params["policy"], observation))
    if "log_std" in params:
        noise = jax.random.normal(key, outputs.shape)
        action = outputs + jnp.exp(params["log_std"]) * noise
    else:
        action = jax.random.categorical(key, outputs)
    return action, action_logp(params, observation, action)


def greedy(params: PyTree, observation: Array, key: Array) -> tuple[Array, Array]:
    """The most probable action for each observation, and its log-prob (nats).

    Args:
        params: as `init_actor_critic` gives them.
        observation: f32[..., D] or i32[...].
        key: not looked at; a policy of `rollout.unroll` is given one.

    Returns:
        i32[...] or f32[..., N], and f32[...].
    """
    outputs = apply_outputs(params["policy"], _read(params["policy"], observation))
    action = outputs if "log_std" in params else outputs.argmax(-1)
    return action, action_logp(params, observation, action)
