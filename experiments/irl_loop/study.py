"""The study of `experiments.irl_loop`: experts, methods, measurements, summary."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from experiments.irl_loop.config import Config, HardConfig
from experiments.irl_loop.methods import METHODS, Method, Rates, Reward, adam
from experiments.irl_loop.report import conclusion, write_report
from experiments.sandbox.expert import demonstrate
from experiments.sandbox.runs import Measuring
from experiments.sandbox.task import Task, draw_prompts, kept_task, measures, sample
from irl_jax.dynamics.advantages import leave_one_out
from irl_jax.eval.intervals import adjusted, t_interval
from irl_jax.files import as_json
from irl_jax.losses.policy import reinforce
from irl_jax.recipes.launch import Clock, kept, launch
from irl_jax.rollout.opponents import Demonstrated
from irl_jax.rollout.sampling import Sampling
from irl_jax.train.objectives import PolicyBatch, full, policy_objective
from irl_jax.train.progress import Progress
from irl_jax.train.run import RunDirectory
from irl_jax.train.state import TrainState, init_state
from irl_jax.train.step import make_train_step
from irl_jax.types import Prompt, PyTree

BASE = "SFT"
ASKED = 64  # prompts on which a recovered reward is compared with gold
RANKED = 16  # completions of a prompt whose order by the recovered reward is compared to gold's


def main(config: Config) -> None:
    """Runs the experiment, goes on with it, or reports what is there."""
    launch(config, partial(experiment, config), conclusion)


def experiment(config: Config, run: RunDirectory, progress: Progress) -> None:
    """Worlds, experts, methods, hard optimisation, report."""
    clock = Clock(run.path / "seconds.json")
    advance = progress.stage("methods", len(config.methods) + 1)
    with clock("worlds and experts"):
        worlds = [
            kept_task(run, config.sandbox, config.first_seed + seed) for seed in range(config.seeds)
        ]
        tasks: Task = jax.tree.map(lambda *x: jnp.stack(x), *worlds)
        shown, expert = demonstrate(
            tasks, keys_of(config, 1), count=max(config.demonstrations), config=config.expert
        )
        advance(1, {})
    found: dict[str, Mapping[str, np.ndarray]] = {}
    for number, name in enumerate(config.methods):
        with clock(name):
            found[name] = kept(run, name, partial(learn, config, METHODS[name], tasks, shown))
        advance(number + 2, {})
    summary = summarise(config, found, np.asarray(expert)) | {"seconds": clock.seconds}
    write_report(run, summary)
    run.finish(as_json(summary))


def keys_of(config: Config, purpose: int) -> Array:
    """A key for each world and purpose, [S]."""
    seeds = config.first_seed + jnp.arange(config.seeds)
    return jax.vmap(lambda s: jax.random.fold_in(jax.random.key(s), purpose))(seeds)


def learn(config: Config, method: Method, tasks: Task, shown: Demonstrated) -> dict[str, Any]:
    """A method in every world with every number of demonstrations.

    Returns:
        "gold", "kl", "entropy" of the policy f32[S, A, T + 1], the reference first; "fresh" and
        "own", rank correlations of the recovered reward with gold on the reference's completions
        of fresh and of demonstrated prompts, f32[S, A]; "hard_gold" and "hard_kl" f32[S, H + 1]
        of a policy that optimises the reward recovered from the most demonstrations.
    """
    learning = config.learning
    rates = Rates(
        learning.lr, learning.rewarded_lr, learning.discriminator_lr, learning.completions,
        learning.updates, learning.every, learning.beta,
    )  # fmt: skip
    counts = jnp.tile(jnp.array(config.demonstrations), (config.seeds, 1))
    starting, learning_keys, asking = (keys_of(config, purpose) for purpose in (2, 3, 4))
    arms = lambda task, key: jax.vmap(lambda _: method.start(task, key, rates))(counts[0])
    states = jax.jit(jax.vmap(arms))(tasks, starting)
    update = several(method, rates, learning.prompts)
    look = partial(measure_runs, tasks, asking, size=config.measuring)
    traces = [look(method.policy(states.params))]
    for _ in range(0, learning.updates, learning.every):
        states = update(tasks, shown, learning_keys, counts, states)
        traces.append(look(method.policy(states.params)))
    found = {name: np.stack([t[name] for t in traces], -1) for name in traces[0]}
    recovered = method.recovered(states.params)
    found |= correlations(tasks, shown.context, asking, recovered, reward=method.reward)
    most = jax.tree.map(lambda x: x[:, np.argmax(config.demonstrations)], recovered)
    return found | optimised(config, method.reward, tasks, most, asking)


def several(method: Method, rates: Rates, prompts: int) -> Any:
    """`every` updates of all runs, compiled."""
    update = method.update(rates)

    def one(task: Task, shown: Demonstrated, key: Array, count: Array, state: TrainState) -> Any:
        def body(state: TrainState, _: None) -> tuple[TrainState, None]:
            draw, act = jax.random.split(jax.random.fold_in(key, state.step))
            rows = jax.random.randint(draw, (prompts,), 0, count)
            batch = jax.tree.map(lambda x: x[rows], shown)
            return update(task, batch, act, state), None

        return jax.lax.scan(body, state, length=rates.every)[0]

    arms = jax.vmap(one, in_axes=(None, None, None, 0, 0))
    return jax.jit(jax.vmap(arms), donate_argnums=4)


@partial(jax.jit, static_argnames="size")
def measure_runs(
    tasks: Task, keys: Array, policies: PyTree, *, size: Measuring
) -> dict[str, Array]:
    """What policies [S, A, ...] are worth, f32[S, A]; the same prompts and numbers for all."""

    def one(task: Task, key: Array, policy: PyTree) -> dict[str, Array]:
        ask, act = jax.random.split(key)
        context = draw_prompts(task, ask, size.prompts)
        group = sample(task, policy, context, act, completions=size.completions)
        found = measures(task, policy, group)
        return {name: getattr(found, name).mean() for name in ("gold", "kl", "entropy")}

    found: dict[str, Array] = jax.vmap(jax.vmap(one, in_axes=(None, None, 0)))(
        tasks, keys, policies
    )
    return found


def ranks(x: Array) -> Array:
    """Ranks along the last axis, of values that are all different."""
    return jnp.argsort(jnp.argsort(x, axis=-1), axis=-1).astype(jnp.float32)


def rank_correlation(reward: Array, gold: Array) -> Array:
    """Spearman's correlation within each prompt, the mean over prompts, f32[]."""
    a, b = (ranks(x) - 0.5 * (x.shape[-1] - 1) for x in (reward, gold))
    return ((a * b).sum(-1) / jnp.sqrt((a**2).sum(-1) * (b**2).sum(-1))).mean()


@partial(jax.jit, static_argnames="reward")
def correlations(
    tasks: Task, shown: Prompt, keys: Array, params: PyTree, *, reward: Reward
) -> dict[str, Array]:
    """How the recovered rewards order the reference's completions, f32[S, A]."""

    def one(task: Task, shown: Prompt, key: Array, params: PyTree) -> dict[str, Array]:
        ask, *acts = jax.random.split(key, 3)
        own = jax.tree.map(lambda x: x[:ASKED], shown)
        asked = {"fresh": draw_prompts(task, ask, ASKED), "own": own}
        found = {}
        for (name, context), act in zip(asked.items(), acts, strict=True):
            group = sample(task, task.reference, context, act, completions=RANKED)
            said = reward(task, params, context, group.action, group.mask)
            found[name] = rank_correlation(said, group.reward)
        return found

    found: dict[str, Array] = jax.vmap(jax.vmap(one, in_axes=(None, None, None, 0)))(
        tasks, shown, keys, params
    )
    return found


@partial(jax.jit, static_argnames=("reward", "config"), donate_argnames="states")
def optimise(
    tasks: Task, params: PyTree, keys: Array, states: TrainState, *, reward: Reward,
    config: HardConfig,
) -> TrainState:  # fmt: skip
    """`every` updates of policies [S, ...] by RLOO on recovered rewards."""
    objective = lambda task: policy_objective(task.config, full, reinforce, sampling=Sampling())

    def one(task: Task, params: PyTree, key: Array, state: TrainState) -> TrainState:
        step = make_train_step(objective(task), adam(config.lr))

        def body(state: TrainState, _: None) -> tuple[TrainState, None]:
            ask, act = jax.random.split(jax.random.fold_in(key, state.step))
            context = draw_prompts(task, ask, config.prompts)
            group = sample(task, state.params, context, act, completions=config.completions)
            said = reward(task, params, context, group.action, group.mask)
            advantage = leave_one_out(said / (1e-6 + said.std()))  # units differ by method
            return step(state, PolicyBatch(group, advantage), task.reference)[0], None

        return jax.lax.scan(body, state, length=config.every)[0]

    found: TrainState = jax.vmap(one)(tasks, params, keys, states)
    return found


def optimised(
    config: Config, reward: Reward, tasks: Task, params: PyTree, keys: Array
) -> dict[str, np.ndarray]:
    """Gold and KL of policies that optimise a recovered reward, f32[S, H + 1]."""
    hard = config.hard
    begin = lambda task, key: init_state(task.reference, adam(hard.lr), key)
    states = jax.jit(jax.vmap(begin))(tasks, keys)
    one = lambda state: jax.tree.map(lambda x: x[:, None], state.params)
    look = partial(measure_runs, tasks, keys, size=config.measuring)
    traces = [look(one(states))]
    for _ in range(0, hard.updates, hard.every):
        states = optimise(tasks, params, keys, states, reward=reward, config=hard)
        traces.append(look(one(states)))
    return {
        f"hard_{name}": np.stack([t[name][:, 0] for t in traces], -1) for name in ("gold", "kl")
    }


def summarise(
    config: Config, found: Mapping[str, Mapping[str, np.ndarray]], expert: np.ndarray
) -> dict[str, Any]:
    """The results as JSON values; intervals over worlds.

    Returns:
        `rows`: of each method and number of demonstrations; `corrected`: p of gold less that of
        SFT by Holm's procedure, at each number; `hard`: gold and KL of policies that optimise the
        recovered reward; `expert`: gold of the demonstrations.
    """
    rows, hard = [], []
    differences: list[dict[str, np.ndarray]] = [{} for _ in config.demonstrations]
    for name, values in found.items():
        for a, count in enumerate(config.demonstrations):
            last = {key: values[key][:, a, -1] for key in ("gold", "kl", "entropy")}
            row: dict[str, Any] = {"method": name, "demonstrations": count}
            row |= {key: t_interval(x) for key, x in last.items()}
            row["entropy_before"] = float(values["entropy"][:, a, 0].mean())
            row |= {key: t_interval(values[key][:, a]) for key in ("fresh", "own")}
            if BASE in found and name != BASE:
                differences[a][name] = last["gold"] - found[BASE]["gold"][:, a, -1]
                row["less_base"] = t_interval(differences[a][name])
            rows.append(row)
        gold, kl = values["hard_gold"], values["hard_kl"]
        hard.append(
            {
                "method": name,
                "gold": [t_interval(gold[:, h]) for h in range(1, gold.shape[1])],
                "kl": kl.mean(0)[1:].tolist(),
                "best_less_last": t_interval(gold.max(1) - gold[:, -1]),
            }
        )
    every = config.hard.every
    return {
        "worlds": config.seeds,
        "expert": t_interval(expert),
        "demonstrations": list(config.demonstrations),
        "base": BASE,
        "rows": rows,
        "corrected": [adjusted(each) if each else {} for each in differences],
        "hard": hard,
        "hard_updates": [every * (h + 1) for h in range(config.hard.updates // every)],
    }
