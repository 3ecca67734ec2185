"""Inverse RL and imitation against the library `imitation`, side by side.

Kinds of work. `plan`: an iteration of maximum causal entropy inverse RL, a soft plan and the
visits of its policy, in float64: the library's two functions without its network, ours the gradient
of the likelihood; a check holds their visits against each other. `gail`, `airl`: rounds at the
settings of the library's tutorials, without compilation. `learn`: from launch, imports and
compilation included, to a mean return of 475 by GAIL from the same 60 demonstrations; the library
stops after the first round whose own episodes return as much, ours after a number of steps that was
set before, and its policy is then measured in 100 episodes. `seeds`: ten of our runs over two
devices against one of them. CartPole is that of the tutorial, which goes on for 500 steps when the
pole has fallen.

Claim: the iteration is 30 times as fast on a grid of 4 x 7 and 40 steps, 15 times on 10 x 20 and
    100; GAIL and AIRL make 20 times as many steps a second; a good policy is learned in an eighth
    of the time with an empty compilation cache, in a twentieth with a full one; ten seeds take at
    most six times as long as one.
Command: taskset -c 0 python -m experiments.benchmarks.imitation_library --imitation PYTHON
    PYTHON: interpreter of an environment with imitation==1.0.1, which asks for an older gymnasium;
    without it ours alone is timed. `--work seeds` needs two cores.
Runtime: 2 min for plan and 3 for gail on one core (--repeats 3 --rounds 2), of learn some 4 a seed.
Expected: experiments/benchmarks/expected.md. In seconds of CPU an iteration is 44 and 22 times as
    fast, steps of GAIL 50 and of AIRL 29 times; 475 is reached 13 and 34 times as fast.
"""

from __future__ import annotations

import sys
import tempfile
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks.measure import spread
from experiments.benchmarks.peers.imitation_task import GOOD, Task
from experiments.benchmarks.peers.irl_jax_imitation import endless_cartpole
from experiments.benchmarks.policy_update import in_child
from irl_jax.dynamics.planning import finite_horizon, occupancy
from irl_jax.envs.control import cartpole
from irl_jax.envs.tabular import gridworld
from irl_jax.models.actor_critic import act
from irl_jax.recipes.cli import run as run_cli
from irl_jax.recipes.control import PPOConfig, make_train
from irl_jax.rollout.unroll import begin, unroll
from irl_jax.types import InputError

GRIDS = {"4 x 7, 40 steps": (4, 7, 40), "10 x 20, 100 steps": (10, 20, 100)}
WORK = ("plan", "gail", "airl", "learn", "seeds")
EMPTY, FULL = "irl_jax", "irl_jax, full cache"
MOST = 100  # rounds in which the library may learn, 1.6 million steps


@dataclass(frozen=True)
class Config:
    """What is timed."""

    work: tuple[str, ...] = ("plan", "gail", "airl", "learn")  # of these, and seeds
    imitation: str = ""  # interpreter of an environment with imitation
    repeats: int = 5  # processes of each library, in turn
    iterations: int = 100  # of plan, in each process
    rounds: int = 4  # of gail and airl, in each process
    seeds: int = 10  # that are trained at once
    seed: int = 10  # of the first process; our settings were found with smaller ones


CONFIG = Config()
Spent = dict[str, Any]  # seconds `wall` and `cpu`, and what was found


def grid(rows: int, columns: int, horizon: int) -> dict[str, Any]:
    """A grid with slips, rewards, and the visits of the soft policy of other rewards, float64."""
    states, rng = rows * columns, np.random.default_rng(0)
    with jax.enable_x64(True):
        mdp = gridworld(rows, columns, discount=1.0, slip=0.1)
        each = jnp.tile(jnp.asarray(rng.normal(size=states))[:, None], 4)
        shown = occupancy(mdp, finite_horizon(mdp, each, horizon=horizon).logp)
    prob = np.zeros((states, 4, states))
    state, action = np.ogrid[:states, :4]
    np.add.at(prob, (state[..., None], action[..., None], mdp.successor), np.asarray(mdp.prob))
    return {
        "prob": prob,
        "start": np.asarray(mdp.start),
        "reward": rng.normal(size=states),
        "demonstrated": np.asarray(shown),
    }


def demonstrations(episodes: int = 60) -> dict[str, Any]:
    """Whole episodes of a policy that PPO has learned on CartPole from its reward."""
    learning, starting, acting = jax.random.split(jax.random.key(0), 3)
    env = endless_cartpole()

    @jax.jit
    def show() -> tuple:
        policy = partial(act, make_train(cartpole(), PPOConfig())(learning).params)
        running = begin(env, starting, episodes)
        return unroll(env, policy, running, acting, steps=500, discount=1.0)[1:]

    shown, ended = jax.device_get(show())
    if (worst := ended.total[:, -1].min()) < GOOD:
        raise InputError(f"demonstrations: an episode returns {worst}; no expert was learned")
    return {"context": shown.context, "final": shown.final, "action": shown.action}


def spent(config: Config, task: Task) -> dict[str, list[Spent]]:
    """What the processes of each library report, in turn; a full cache is of the one before."""
    mine = [(EMPTY, sys.executable, "irl_jax_imitation")]
    if task.name == "learn":
        mine.append((FULL, *mine[0][1:]))
    theirs = [("imitation", config.imitation, "imitation_control")] if config.imitation else []
    arms = mine if task.name == "seeds" else theirs + mine
    found: dict[str, list[Spent]] = {name: [] for name, _, _ in arms}
    for repeat in range(config.repeats):
        with tempfile.TemporaryDirectory() as cache:
            variables = {
                "JAX_COMPILATION_CACHE_DIR": cache,
                "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            }
            if task.name == "seeds":
                variables["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"
            for name, interpreter, module in arms:
                given = replace(task, seed=config.seed + repeat, launched=time.time())
                module = f"experiments.benchmarks.peers.{module}"
                found[name].append(in_child(interpreter, module, given, variables))
                numbers = {k: v for k, v in found[name][-1].items() if k != "visits"}
                print(f"{task.name}, {name}, {repeat}: {numbers}", file=sys.stderr, flush=True)
    return found


def same_visits(found: dict[str, list[Spent]]) -> None:
    """Both libraries did the same work.

    Raises:
        InputError: they found different visits.
    """
    visits = [np.array(result["visits"]) for results in found.values() for result in results]
    if any(np.abs(x - visits[0]).max() > 1e-8 for x in visits):
        raise InputError("plan: the libraries do not find the same visits")


def report(title: str, found: dict[str, list[Spent]], unit: str, scale: float) -> None:
    """Prints seconds of each library and the ratios of processes that ran one after the other."""
    print(title)
    for name, results in found.items():
        for clock in ("cpu", "wall"):
            values = [scale * result[clock] for result in results]
            print(f"  {name:22}{clock:6}{spread(values, unit)}")
            if name != "imitation" and "imitation" in found:
                ratios = [
                    theirs[clock] / ours[clock]
                    for theirs, ours in zip(found["imitation"], results, strict=True)
                ]
                print(f"  {'':22}{'':6}{spread(ratios, 'times')}")
        if "return" in results[0]:
            print(f"  {'':22}{spread([result['return'] for result in results], 'return')}")
            print(f"  {'':22}{spread([result['steps'] for result in results], 'steps')}")


def report_seeds(config: Config, results: list[Spent]) -> None:
    """Prints what many seeds take, in times of one."""
    for clock in ("cpu", "wall"):
        one, many = ([result[part][clock] for result in results] for part in ("one", "many"))
        print(f"seeds {clock:6}{spread(one, 's for one')}")
        print(f"      {'':6}{spread(many, f's for {config.seeds}')}")
        times = [b / a for a, b in zip(one, many, strict=True)]
        print(f"      {'':6}{spread(times, 'times one')}")


def main(config: Config) -> None:
    """Times the libraries in turn and prints the ratios.

    Raises:
        InputError: a kind of work is none, or the libraries did not do the same.
    """
    if unknown := set(config.work) - set(WORK):
        raise InputError(f"work: no {', '.join(sorted(unknown))}; there are {', '.join(WORK)}")
    with tempfile.TemporaryDirectory() as scratch:
        path = str(Path(scratch) / "arrays.npz")
        if "plan" in config.work:
            for title, sizes in GRIDS.items():
                np.savez(path, **grid(*sizes))
                found = spent(config, Task("plan", path, config.iterations))
                same_visits(found)
                report(f"plan, {title}", found, "ms an iteration", 1e3)
        if set(config.work) - {"plan"}:
            np.savez(path, **demonstrations())
        for name in sorted({"airl", "gail"} & set(config.work)):
            found = spent(config, Task(name, path, config.rounds))
            steps = found[EMPTY][0]["steps"]
            report(f"{name}, at the library's settings", found, "ms a thousand steps", 1e6 / steps)
        if "learn" in config.work:
            report(f"learn, to {GOOD}", spent(config, Task("learn", path, MOST)), "s", 1.0)
        if "seeds" in config.work:
            report_seeds(config, spent(config, Task("seeds", path, config.seeds))[EMPTY])


if __name__ == "__main__":
    run_cli(main, CONFIG, description=__doc__)
