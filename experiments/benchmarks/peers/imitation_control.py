"""Times the library `imitation`; `imitation_library` starts it."""

from __future__ import annotations

import contextlib
import json
import tempfile
from typing import Any

import numpy as np
import torch
from imitation.algorithms.adversarial.airl import AIRL
from imitation.algorithms.adversarial.common import AdversarialTrainer
from imitation.algorithms.adversarial.gail import GAIL
from imitation.algorithms.mce_irl import mce_occupancy_measures
from imitation.data.types import TrajectoryWithRew
from imitation.rewards.reward_nets import BasicRewardNet, BasicShapedRewardNet
from imitation.util import logger
from imitation.util.networks import RunningNorm
from imitation.util.util import make_vec_env
from seals.base_envs import TabularModelPOMDP
from stable_baselines3 import PPO

from experiments.benchmarks.peers.imitation_task import (
    GOOD,
    SETTINGS,
    Settings,
    Task,
    read_task,
    since_launch,
    timed,
)


class Learned(Exception):
    """The return is good."""


def plan(task: Task) -> dict[str, Any]:
    """Seconds of a soft plan and the visits of its policy, all but the network's gradient."""
    with np.load(task.arrays) as file:
        prob, start, reward = file["prob"], file["start"], file["reward"]
        horizon = len(file["demonstrated"])
    process: Any = TabularModelPOMDP(
        transition_matrix=prob,
        observation_matrix=np.eye(len(start)),
        reward_matrix=reward,
        horizon=horizon,
        initial_state_dist=start,
    )
    iteration = lambda: mce_occupancy_measures(process, reward=reward)
    visits = iteration()[0][:-1].sum(0)  # of the states in which an action is taken
    return timed(iteration, task.count) | {"visits": visits.tolist()}


def trainer(task: Task, settings: Settings, directory: str) -> AdversarialTrainer:
    """GAIL or AIRL as its tutorial sets it up, without its tables in the terminal."""
    with np.load(task.arrays) as file:
        seen = np.concatenate([file["context"], file["final"][:, None]], axis=1)
        shown = [
            TrajectoryWithRew(
                obs=obs, acts=acts, infos=None, terminal=True, rews=np.ones(len(acts))
            )
            for obs, acts in zip(seen, file["action"].astype(np.int64), strict=True)
        ]
    env = make_vec_env(
        "seals:seals/CartPole-v0",
        rng=np.random.default_rng(task.seed),
        n_envs=settings.environments,
    )
    learner = PPO(
        env=env,
        policy="MlpPolicy",
        n_steps=settings.unroll,
        batch_size=settings.minibatch,
        n_epochs=settings.epochs,
        learning_rate=settings.learning_rate,
        gamma=settings.discount,
        gae_lambda=settings.gae_lambda,
        clip_range=settings.clip,
        vf_coef=settings.value_weight,
        ent_coef=0.0,
        seed=task.seed,
    )
    trainer, network = (
        (AIRL, BasicShapedRewardNet) if task.name == "airl" else (GAIL, BasicRewardNet)
    )
    return trainer(
        demonstrations=shown,
        demo_batch_size=settings.rows,
        gen_replay_buffer_capacity=512,
        n_disc_updates_per_round=settings.updates,
        venv=env,
        gen_algo=learner,
        reward_net=network(
            env.observation_space, env.action_space, normalize_input_layer=RunningNorm
        ),
        custom_logger=logger.configure(directory, format_strs=()),
    )


def rounds(task: Task) -> dict[str, Any]:
    """Seconds of rounds of GAIL or AIRL, after one that is not counted."""
    settings = SETTINGS[task.name]
    with tempfile.TemporaryDirectory() as directory:
        own = trainer(task, settings, directory)
        own.train(settings.steps)
        steps = task.count * settings.steps
        return timed(lambda: own.train(steps)) | {"steps": steps}


def learn(task: Task) -> dict[str, Any]:
    """Seconds until the episodes of a round have a good mean return, and what they had."""
    found: list[float] = []
    settings = SETTINGS["gail"]
    with tempfile.TemporaryDirectory() as directory:
        own = trainer(task, settings, directory)
        episodes = settings.steps // 500

        def look(number: int) -> None:
            last = list(own.gen_algo.ep_info_buffer)[-episodes:]
            found.append(float(np.mean([episode["r"] for episode in last])))
            if found[-1] >= GOOD:
                raise Learned

        with contextlib.suppress(Learned):
            own.train(task.count * settings.steps, callback=look)
        spent = since_launch(task)
    return spent | {"return": found[-1], "steps": len(found) * settings.steps}


def main() -> None:
    """Prints what was timed as JSON. On one thread: on two, networks this small are slower."""
    torch.set_num_threads(1)
    task = read_task()
    print(
        json.dumps({"plan": plan, "gail": rounds, "airl": rounds, "learn": learn}[task.name](task))
    )


if __name__ == "__main__":
    main()
