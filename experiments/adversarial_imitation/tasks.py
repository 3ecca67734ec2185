"""The tasks, the recorded episodes of their experts, and what is shown of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from irl_jax.envs.control import cartpole, pendulum
from irl_jax.envs.environment import Environment, discrete_actions, fixed_horizon, standardized
from irl_jax.files import read_arrays
from irl_jax.masking import masked_mean
from irl_jax.rollout.unroll import begin, unroll
from irl_jax.types import InputError, Trajectory

FIX = "download it again"
HORIZON = 200  # steps of every episode
TORQUES = (-2.0, -1.0, 0.0, 1.0, 2.0)  # Nm, of the pendulum


@dataclass(frozen=True)
class Task:
    """A task and how much of its expert is shown.

    Attributes:
        env: its episodes are cut after `HORIZON` steps.
        file: of the expert's episodes.
        demonstrations: number of episodes that a learner is shown.
        every: of how many of their steps one is kept.
        actions: f[A, N], what the discrete actions stand for; None: the file has discrete ones.
    """

    env: Environment
    file: str
    demonstrations: int
    every: int
    actions: tuple[tuple[float, ...], ...] | None = None


@dataclass(frozen=True)
class Episodes:
    """The first `HORIZON` steps of recorded episodes.

    Attributes:
        observation: f32[N, T + 1, D].
        action: i32[N, T].
        returns: f64[N].
    """

    observation: np.ndarray
    action: np.ndarray
    returns: np.ndarray


def tasks() -> dict[str, Task]:
    """The tasks by name; so little is shown that a clone of it falls short."""
    torques = tuple((torque,) for torque in TORQUES)
    swing = replace(discrete_actions(pendulum(), torques), time_limit=HORIZON)
    pole = replace(cartpole(), time_limit=HORIZON)
    return {
        "cartpole": Task(pole, "cartpole.npz", demonstrations=1, every=10),
        "pendulum": Task(swing, "pendulum.npz", demonstrations=8, every=5, actions=torques),
    }


def read_episodes(data: Path, task: Task) -> Episodes:
    """The recorded episodes of the expert of a task.

    A torque is taken for the nearest of `TORQUES`; what it led to stays as it was recorded.

    Raises:
        InputError: the file cannot be read, is of another task, or an episode is too short.
    """
    path = data / task.file
    if not path.is_file():
        raise InputError(f"{path}: no such file; check --data")
    arrays = read_arrays(path, fix=FIX)
    if missing := {"obs", "acts", "rews", "indices"} - set(arrays):
        raise InputError(f"{path}: has no {', '.join(sorted(missing))}; {FIX}")
    assert isinstance(task.env.observation, tuple)
    if arrays["obs"].shape[1:] != task.env.observation:
        raise InputError(f"{path}: is of another task; {FIX}")
    ends = arrays["indices"]
    acts, rewards = (np.split(arrays[name], ends) for name in ("acts", "rews"))
    length = [len(part) for part in acts]
    seen = np.split(arrays["obs"], np.cumsum(np.array(length) + 1)[:-1])
    if min(length) < HORIZON:
        raise InputError(f"{path}: an episode has fewer than {HORIZON} steps; {FIX}")
    action = np.stack([part[:HORIZON] for part in acts])
    if task.actions is not None:
        action = np.abs(np.clip(action, -2, 2) - np.array(task.actions)[:, 0]).argmin(-1)
    return Episodes(
        np.stack([part[: HORIZON + 1] for part in seen]).astype(np.float32),
        action.astype(np.int32),
        np.array([part[:HORIZON].sum() for part in rewards]),
    )


@dataclass(frozen=True)
class Shown:
    """What a learner is given.

    Attributes:
        env: in a fixed horizon, observed in the units of what is shown.
        demonstrations: in those units, with `final` and discounts.
        mean: f32[D], of what is shown.
        deviation: f32[D].
    """

    env: Environment
    demonstrations: Trajectory
    mean: Array
    deviation: Array

    def raw(self, observation: Array) -> Array:
        """What the learner's observations are in the units of the task, f32[..., D]."""
        return observation[..., :-1] * self.deviation + self.mean


def show(
    task: Task, episodes: Episodes, key: Array, pushes_left: Array, discount: float | Array
) -> Shown:
    """Some episodes of the expert, of whose steps one in a few is kept.

    Args:
        task: the task.
        episodes: of its expert.
        key: typed PRNG key.
        pushes_left: bool[], whether as many episodes of a policy that always takes the action 0
            are shown instead, in the same units.
        discount: γ.
    """
    choosing, starting, resetting, moving = jax.random.split(key, 4)
    number, every = task.demonstrations, task.every
    chosen = jax.random.permutation(choosing, len(episodes.action))[:number]
    observation = jnp.asarray(episodes.observation)[chosen]
    phase = jax.random.randint(starting, (number, 1), 0, every)
    kept = (jnp.arange(HORIZON) - phase) % every == 0
    seen = observation[:, :-1]
    inside = jnp.broadcast_to(kept[..., None], seen.shape)
    mean = masked_mean(seen, inside, axis=(0, 1))
    deviation = jnp.sqrt(masked_mean((seen - mean) ** 2, inside, axis=(0, 1))) + 1e-6
    env = fixed_horizon(standardized(task.env, mean, deviation))
    scaled = (observation - mean) / deviation
    scaled = jnp.concatenate([scaled, jnp.zeros_like(scaled[..., :1])], -1)  # none is absorbed
    zeros = jnp.zeros(kept.shape)
    real = Trajectory(
        context=scaled[:, :-1],
        action=jnp.asarray(episodes.action)[chosen],
        mask=kept,
        logp=zeros,
        reward=zeros,
        terminated=jnp.zeros(number, bool),
        final=scaled[:, -1],
        discount=zeros + discount,
    )
    left = lambda observation, key: (jnp.zeros((), jnp.int32), jnp.zeros(()))
    running = begin(env, resetting, number)
    pushed = unroll(env, left, running, moving, steps=HORIZON, discount=1.0)[1]
    pushed = replace(pushed, mask=kept, reward=zeros, discount=real.discount)
    pick = lambda a, b: jnp.where(pushes_left, a, b)
    return Shown(env, jax.tree.map(pick, pushed, real), mean, deviation)
