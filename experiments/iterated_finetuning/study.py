"""The study of `experiments.iterated_finetuning`: settings, stages, summary."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from experiments.iterated_finetuning.report import TEACHERS, conclusion, summarise, write_report
from experiments.sandbox.runs import (
    Measuring,
    Signal,
    Trace,
    draw_runs,
    make_signals,
    measure_runs,
    optimizer,
    per_run,
    world_keys,
)
from experiments.sandbox.task import SandboxConfig, Task, kept_tasks
from irl_jax.dynamics.advantages import group_advantages
from irl_jax.dynamics.weights import above, best, select_completions
from irl_jax.files import as_json
from irl_jax.losses.policy import grpo, weighted_sft
from irl_jax.recipes.launch import Clock, kept, launch
from irl_jax.rewards.embedding import EnsembleConfig
from irl_jax.train.methods import SAMPLING
from irl_jax.train.objectives import PolicyBatch, PolicyLoss, full, policy_objective
from irl_jax.train.progress import Progress
from irl_jax.train.run import RunDirectory
from irl_jax.train.state import TrainState, init_state
from irl_jax.train.step import make_train_step, minibatch_epochs
from irl_jax.types import Group, InputError

# a round's samples, the reward f32[] that is right -> what one epoch learns from
Epoch = Callable[[Group, Array], PolicyBatch]


@dataclass(frozen=True)
class Recipe:
    """What a round does with its samples.

    Attributes:
        loss: of `losses.policy`.
        epochs: what each epoch learns from.
        restart: whether each round starts over from the reference policy.
    """

    loss: PolicyLoss
    epochs: tuple[Epoch, ...]
    restart: bool = False


def keep(chosen: Callable[[Array, Array], Array]) -> Epoch:
    """Imitates the samples that `chosen(reward f32[B, K], right f32[]) -> bool[B, K]` keeps."""
    return lambda group, right: PolicyBatch(
        select_completions(group, chosen(group.reward, right)), jnp.ones_like(group.reward)
    )


def top(share: float) -> Epoch:
    """Imitates a share of the round's samples, those of the highest reward."""
    return keep(lambda reward, right: above(reward, threshold=jnp.quantile(reward, 1 - share)))


RAFT = keep(lambda reward, right: best(reward))
RIGHT = keep(lambda reward, right: above(reward, threshold=right))
ADVANTAGE: Epoch = lambda group, right: PolicyBatch(group, group_advantages(group.reward))

RECIPES: dict[str, Recipe] = {
    "RAFT": Recipe(weighted_sft, (RAFT,) * 3),
    "ReST": Recipe(weighted_sft, (top(0.5), top(0.25), top(0.1))),
    "STaR": Recipe(weighted_sft, (RIGHT,) * 3, restart=True),
    "GRPO": Recipe(partial(grpo, clip=0.2), (ADVANTAGE,) * 3),
}
RIGHT_SHARE = 0.2  # of the reference policy's completions


@dataclass(frozen=True)
class Config:
    """Recipes at equal samples."""

    run_dir: Path = Path("runs/iterated_finetuning")  # directory of results; a run resumes there
    sandbox: SandboxConfig = field(default_factory=SandboxConfig)
    seeds: int = 12  # worlds, each with its comparisons, proxy and policies
    comparisons: int = 1024  # pairs that the proxy learns from
    annotator_beta: float = 2.0  # inverse noise of comparisons, per standard deviation of gold
    reward: EnsembleConfig = field(
        default_factory=lambda: EnsembleConfig(
            members=4, steps=200, batch_size=64, lr=3e-3, weight_decay=0.1
        )
    )
    rounds: int = 10  # rounds of sampling and learning
    prompts: int = 32  # prompts of a round
    completions: int = 8  # completions of each prompt
    minibatches: int = 4  # updates of an epoch; divides `prompts`
    lr: float = 2e-3  # learning rate of Adam
    measuring: Measuring = field(default_factory=Measuring)


CONFIG = Config()


def check(config: Config) -> None:
    """Raises `InputError` for what a run would only stumble over later."""
    if config.seeds < 2:
        raise InputError(f"seeds: intervals need 2 or more, got {config.seeds}")
    if config.prompts % config.minibatches:
        raise InputError("minibatches: must divide prompts")
    if config.completions < 2:
        raise InputError("completions: the best of a group needs at least 2")


def main(config: Config) -> None:
    """Runs the experiment, goes on with it, or reports what is there."""
    check(config)
    launch(config, partial(experiment, config), conclusion)


def experiment(config: Config, run: RunDirectory, progress: Progress) -> None:
    """Worlds, proxies, rounds, report."""
    clock = Clock(run.path / "seconds.json")
    advance = progress.stage("rounds", len(RECIPES) + 1)
    with clock("worlds"):
        tasks = kept_tasks(run, config.sandbox, config.seeds)
        signals = make_signals(
            tasks,
            world_keys(config.seeds, 1),
            comparisons=config.comparisons,
            beta=config.annotator_beta,
            config=config.reward,
        )
        advance(1, {})
    traces = {}
    for number, (name, recipe) in enumerate(RECIPES.items()):
        with clock(name):
            traces[name] = kept(run, name, partial(rounds, config, tasks, signals, recipe))
        advance(number + 2, {})
    samples = config.prompts * config.completions
    summary = summarise(traces, samples) | {"seconds": clock.seconds}
    write_report(run, summary)
    run.finish(as_json(summary))


@partial(jax.jit, static_argnames=("recipe", "minibatches", "lr"), donate_argnames="states")
def learn_runs(
    tasks: Task,
    groups: Group,
    right: Array,
    states: TrainState,
    *,
    recipe: Recipe,
    minibatches: int,
    lr: float,
) -> TrainState:
    """A round's updates of S worlds with A runs each, leaves [S, A, ...]."""

    def function(task: Task, group: Group, right: Array, state: TrainState) -> TrainState:
        objective = policy_objective(task.config, full, recipe.loss, sampling=SAMPLING)
        step = minibatch_epochs(
            make_train_step(objective, optimizer(lr)), epochs=1, minibatches=minibatches
        )
        # epochs differ in arrays alone: one of them is compiled
        batches = jax.tree.map(lambda *x: jnp.stack(x), *(e(group, right) for e in recipe.epochs))
        return jax.lax.scan(
            lambda state, batch: step(state, batch, task.reference), state, batches
        )[0]

    found: TrainState = per_run(function, True, False, False, False)(tasks, groups, right, states)
    return found


def rounds(config: Config, tasks: Task, signals: Signal, recipe: Recipe) -> dict[str, np.ndarray]:
    """Each field of `Trace`, f32[S, teachers, rounds], measured after each round."""
    keys = world_keys(config.seeds, 2)
    teachers = jnp.array([config.annotator_beta if t == "gold" else 0.0 for t in TEACHERS])
    golds = jnp.tile(teachers.astype(jnp.float32), (config.seeds, 1))

    def start(task: Task, key: Array) -> TrainState:
        state = init_state(task.reference, optimizer(config.lr), key)
        return jax.tree.map(lambda x: jnp.stack([x] * len(TEACHERS)), state)

    states, right, traces = jax.vmap(start)(tasks, keys), None, []
    for number in range(config.rounds):
        groups, _ = draw_runs(
            tasks, signals, keys, jnp.int32(number), golds, states.params,
            prompts=config.prompts, completions=config.completions,
        )  # fmt: skip
        if right is None:
            right = jnp.quantile(groups.reward, 1 - RIGHT_SHARE, axis=(-2, -1))
        if recipe.restart:
            states = jax.vmap(start)(tasks, keys)
        states = learn_runs(
            tasks, groups, right, states,
            recipe=recipe, minibatches=config.minibatches, lr=config.lr,
        )  # fmt: skip
        traces.append(
            measure_runs(
                tasks, signals.model, world_keys(config.seeds, 3), states.params,
                size=config.measuring,
            )
        )  # fmt: skip
    found: Trace = jax.tree.map(lambda *x: np.stack(x, axis=-1), *traces)
    return vars(found)
