"""The tasks, the authors' expert policies and results, and demonstrations."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from irl_jax.envs.control import acrobot, cartpole, mountain_car
from irl_jax.envs.environment import Environment
from irl_jax.files import read_arrays, read_text
from irl_jax.rollout.unroll import Act, begin, unroll
from irl_jax.types import InputError, Trajectory

RESULTS = "results.json"
CLONING, GAIL = "bclone", "ga"  # the authors' names


@dataclass(frozen=True)
class Task:
    """A task as the authors ran it.

    Attributes:
        env: its episodes are cut after 200 steps.
        expert: name of the file of the expert.
        every: of how many demonstrated steps one is kept.
        b: sign of GAIL's reward, see `losses.divergence.gail`.
    """

    env: Environment
    expert: str
    every: int
    b: float


def tasks() -> dict[str, Task]:
    """The tasks by the authors' names.

    Acrobot is observed as its state. The sign follows from what ends an episode: a fall, or
    success.
    """
    cut = lambda env: replace(env, time_limit=200)
    bare = replace(acrobot(), observe=lambda state: state, observation=(4,))
    return {
        "cartpole": Task(cut(cartpole()), "CartPole-v0.npz", every=10, b=0.0),
        "mountaincar": Task(cut(mountain_car()), "MountainCar-v0.npz", every=5, b=1.0),
        "acrobot": Task(cut(bare), "Acrobot-v0.npz", every=5, b=1.0),
    }


def read_results(data: Path) -> dict[tuple[str, str, int], np.ndarray]:
    """The authors' mean returns, (task, algorithm, demonstrations) -> f64[runs].

    Raises:
        InputError: the file cannot be read, or is none of results.
    """
    path = data / RESULTS
    found = defaultdict(list)
    try:
        for row in json.loads(read_text(path)):
            setting = row["task"], row["algorithm"], row["demonstrations"]
            found[setting].append(float(row["mean_return"]))
    except (json.JSONDecodeError, TypeError, KeyError) as error:
        raise InputError(f"{path}: no list of results ({error!r}); download it again") from None
    return {setting: np.array(values) for setting, values in found.items()}


def read_expert(data: Path, task: Task) -> dict[str, np.ndarray]:
    """The arrays of an expert policy, for `expert_logits`.

    Raises:
        InputError: the file cannot be read, or does not fit the task.
    """
    path = data / task.expert
    if not path.is_file():
        raise InputError(f"{path}: no such file; check --data")
    arrays = read_arrays(path, fix="download it again")
    wanted = {"obs_mean", "obs_meansq", "w0", "b0", "w1", "b1", "w2", "b2"}
    if missing := wanted - set(arrays):
        raise InputError(f"{path}: has no {', '.join(sorted(missing))}; download it again")
    ends = arrays["obs_mean"].shape, arrays["b2"].shape
    if ends != (task.env.observation, (task.env.action,)):
        raise InputError(f"{path}: is of another task; download it again")
    return {name: arrays[name].astype(np.float32) for name in sorted(wanted)}


def expert_logits(expert: Mapping[str, Array], observation: Array) -> Array:
    """Logits of the expert's actions: two layers of tanh on standardized observations, f32[A]."""
    mean, square = expert["obs_mean"], expert["obs_meansq"]
    x = (observation - mean) / (jnp.sqrt(square - mean**2) + 1e-6)
    for layer in "01":
        x = jnp.tanh(x @ expert["w" + layer] + expert["b" + layer])
    return x @ expert["w2"] + expert["b2"]


def expert_act(expert: Mapping[str, Array], pushes_left: Array) -> Act:
    """The expert as a policy, or one that always takes the action 0.

    Args:
        expert: of `read_expert`.
        pushes_left: bool[].
    """

    def act(observation: Array, key: Array) -> tuple[Array, Array]:
        seen = observation[: len(expert["obs_mean"])]  # without the mark of the absorbing state
        logp = jax.nn.log_softmax(expert_logits(expert, seen))
        action = jnp.where(pushes_left, 0, jax.random.categorical(key, logp))
        return action, jnp.where(pushes_left, 0.0, logp[action])

    return act


def demonstrate(
    env: Environment, act: Act, key: Array, every: int | Array, most: int
) -> Trajectory:
    """Episodes of a policy, a row each; of its steps one in a few is kept in the mask.

    Args:
        env: the environment.
        act: the policy.
        key: typed PRNG key.
        every: k; the first step that is kept is drawn among the first k.
        most: number of episodes.
    """
    starting, acting, choosing = jax.random.split(key, 3)
    running, steps = begin(env, starting, most), int(env.time_limit or 0)
    _, batch, episodes = unroll(env, act, running, acting, steps=steps, discount=1.0)
    first = jnp.cumsum(episodes.over, -1) - episodes.over == 0
    phase = (jnp.arange(steps) - jax.random.randint(choosing, (most, 1), 0, every)) % every
    return replace(batch, mask=batch.mask & first & (phase == 0))
