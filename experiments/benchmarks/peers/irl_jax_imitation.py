"""Times our inverse RL and imitation; `imitation_library` starts it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from experiments.benchmarks.peers.imitation_task import (
    SETTINGS,
    Settings,
    Task,
    read_task,
    since_launch,
    timed,
)
from irl_jax.dynamics.planning import finite_horizon
from irl_jax.envs.control import cartpole
from irl_jax.envs.environment import Environment, Step
from irl_jax.models.actor_critic import act
from irl_jax.models.mesh import sharded_vmap
from irl_jax.recipes.control import PPOConfig, make_train, mean_return
from irl_jax.recipes.imitation import AIRLConfig, GAILConfig, airl_reward, gail_reward
from irl_jax.recipes.interaction import Train
from irl_jax.types import TabularMDP, Trajectory

UNITS = (2.4, 2.0, math.radians(12), 2.0)  # m, m/s, rad, rad/s; the first and third end CartPole
FAR = 3.0  # units; an observation further off counts as this
OURS = PPOConfig(
    steps=400_800, environments=16, unroll=501, epochs=5, minibatches=48, learning_rate=1e-3,
    discount=0.98, entropy=0.0, widths=(32, 32),
)  # fmt: skip
OUR_REWARD = GAILConfig(b=0.0, updates=4, penalty=0.1, widths=(32, 32))


def endless_cartpole() -> Environment:
    """CartPole as `seals` has it: a step earns 1 while the pole is up, and nothing ends."""
    env = cartpole()

    def step(state: Array, action: Array, key: Array) -> Step:
        after, reward, fallen = env.step(state, action, key)
        turned = (after[2] + jnp.pi) % (2 * jnp.pi) - jnp.pi
        reward = jnp.where(fallen, 0.0, reward)
        return Step(after.at[2].set(turned), reward, jnp.zeros_like(fallen))

    return replace(env, step=step)


def demonstrations(task: Task) -> Trajectory:
    """What the library is shown."""
    with np.load(task.arrays) as file:
        context, final, action = (jnp.asarray(file[x]) for x in ("context", "final", "action"))
    zeros, going_on = jnp.zeros(action.shape), jnp.full(action.shape, SETTINGS["airl"].discount)
    over = jnp.zeros(len(action), bool)
    return Trajectory(
        context, action, zeros == 0, zeros, zeros, over, final=final, discount=going_on
    )


def bounded(env: Environment, shown: Trajectory) -> tuple[Environment, Trajectory]:
    """Both observed in units, within bounds: a pole that has fallen turns ever faster."""
    seen = lambda x: jnp.clip(x / jnp.asarray(UNITS), -FAR, FAR)
    return (
        replace(env, observe=lambda state: seen(env.observe(state))),
        replace(shown, context=seen(shown.context)),
    )


def likelihood_gradient(mdp: TabularMDP, demonstrated: Array) -> Callable[[Array], Array]:
    """Of −Σ μ_D log π in the reward of each state, a whole iteration of inverse RL."""
    horizon, states, actions = demonstrated.shape

    def cost(reward: Array) -> Array:
        each = jnp.broadcast_to(reward[:, None], (states, actions))
        return -(demonstrated * finite_horizon(mdp, each, horizon=horizon).logp).sum()

    return jax.grad(cost)


def sparse(prob: np.ndarray, start: np.ndarray) -> TabularMDP:
    """The same process with the states alone that may follow."""
    width = int(np.count_nonzero(prob, axis=-1).max())
    to = np.argsort(-prob, axis=-1, kind="stable")[..., :width]
    return TabularMDP(
        prob=jnp.asarray(np.take_along_axis(prob, to, -1)),
        start=jnp.asarray(start),
        discount=jnp.ones(prob.shape[:2], prob.dtype),
        successor=jnp.asarray(to, jnp.int32),
    )


def plan(task: Task) -> dict[str, Any]:
    """Seconds of the gradient in float64, each call awaited, and the visits that it implies."""
    with np.load(task.arrays) as file, jax.enable_x64(True):
        reward, shown = jnp.asarray(file["reward"]), file["demonstrated"]
        mdp = sparse(file["prob"], file["start"])
        gradient = jax.jit(likelihood_gradient(mdp, jnp.asarray(shown)))
        visits = np.asarray(gradient(reward)) + shown.sum((0, 2))
        spent = timed(lambda: gradient(reward).block_until_ready(), task.count)
    return spent | {"visits": visits.tolist()}


def as_theirs(task: Task, settings: Settings) -> tuple[Train, int]:
    """A run at the library's settings, and its steps."""
    env, shown = endless_cartpole(), demonstrations(task)
    discriminator: dict[str, Any] = {
        "updates": settings.updates, "rows": settings.rows, "penalty": 0.0, "widths": (32, 32)
    }  # fmt: skip
    config = PPOConfig(
        steps=task.count * settings.steps, environments=settings.environments,
        unroll=settings.unroll, epochs=settings.epochs,
        minibatches=settings.steps // settings.minibatch, learning_rate=settings.learning_rate,
        discount=settings.discount, gae_lambda=settings.gae_lambda, clip=settings.clip,
        value_clip=math.inf, value_weight=settings.value_weight, entropy=0.0,
    )  # fmt: skip
    reward = (
        airl_reward(env, shown, AIRLConfig(actions=True, **discriminator))
        if task.name == "airl"
        else gail_reward(env, shown, GAILConfig(b=0.0, **discriminator))
    )
    return make_train(env, config, reward), config.steps


def rounds(task: Task) -> dict[str, Any]:
    """Seconds of rounds at the library's settings, in one program that is compiled before."""
    train, steps = as_theirs(task, SETTINGS[task.name])
    run, key = compiled(train), jax.random.key(task.seed)
    run(key)
    return timed(lambda: run(key)) | {"steps": steps}


def own(task: Task) -> tuple[Environment, Train]:
    """A run at our settings."""
    env, shown = bounded(endless_cartpole(), demonstrations(task))
    return env, make_train(env, OURS, gail_reward(env, shown, OUR_REWARD))


def learn(task: Task) -> dict[str, Any]:
    """Seconds until a run has ended, and the return of its policy in 100 episodes."""
    env, train = own(task)
    trained = jax.block_until_ready(jax.jit(train)(jax.random.key(task.seed)))
    spent = since_launch(task)
    policy = partial(act, trained.params)
    measured = mean_return(env, policy, jax.random.key(task.seed + 1), 100)
    return spent | {"return": float(measured), "steps": OURS.steps}


def seeds(task: Task) -> dict[str, Any]:
    """Seconds of many seeds over the devices, and of one on one."""
    _, train = own(task)
    keys = jax.random.split(jax.random.key(task.seed), task.count)
    one, many = compiled(train), compiled(sharded_vmap(train), keys)
    single = timed(lambda: one(keys[0]))
    return {"one": single, "many": timed(lambda: many(keys)), "devices": jax.device_count()}


def compiled(train: Callable, keys: Array | None = None) -> Callable:
    """A run whose results are awaited."""
    program = jax.jit(train).lower(jax.random.key(0) if keys is None else keys).compile()
    return lambda key: jax.block_until_ready(program(key))


def main() -> None:
    """Prints what was timed as JSON."""
    task = read_task()
    work = {"plan": plan, "gail": rounds, "airl": rounds, "learn": learn, "seeds": seeds}
    print(json.dumps(work[task.name](task)))


if __name__ == "__main__":
    main()
