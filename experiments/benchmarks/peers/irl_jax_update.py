"""Times our DPO and GRPO updates; `policy_update` starts it."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import optax
from jax import Array

from experiments.benchmarks.peers.task import Task, read_task, report
from irl_jax.dynamics.advantages import group_advantages
from irl_jax.losses.direct import dpo as dpo_loss
from irl_jax.losses.policy import grpo as grpo_loss
from irl_jax.models.decoder import DecoderConfig
from irl_jax.models.huggingface import load_huggingface
from irl_jax.models.logprob import completion_logp
from irl_jax.models.mesh import make_mesh
from irl_jax.models.sharding import RULES
from irl_jax.rollout.generate import generate
from irl_jax.rollout.sampling import Sampling
from irl_jax.train.objectives import PolicyBatch, direct_objective, full, policy_objective
from irl_jax.train.shard import jit_step, place
from irl_jax.train.state import TrainState, init_state
from irl_jax.train.step import make_train_step
from irl_jax.types import Objective, Preference, Prompt, PyTree

Update = Callable[[TrainState, Array], tuple[TrainState, dict[str, Array]]]


def begin(
    objective: Objective, params: PyTree, frozen: tuple[PyTree, ...]
) -> tuple[Callable, TrainState, tuple[PyTree, ...]]:
    """The compiled step, the first state and the placed frozen parameters."""
    mesh = make_mesh(1)
    tx = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-6))
    state = place(mesh, init_state(params, tx, jax.random.key(0)), RULES)
    frozen = place(mesh, frozen, RULES)
    step = jit_step(make_train_step(objective, tx), mesh, state, RULES, frozen=frozen)
    return step, state, frozen


def tokens(task: Task, key: Array, *shape: int) -> Array:
    """Random tokens."""
    return jax.random.randint(key, shape, 3, task.vocab_size - 1)


def prompts(task: Task, key: Array) -> Prompt:
    """Random prompts without padding."""
    size = (task.prompts, task.prompt_tokens)
    return Prompt(tokens(task, key, *size), jnp.ones(size, bool))


def dpo(task: Task, shape: DecoderConfig, params: PyTree) -> tuple[Update, TrainState]:
    """An update by DPO; the reference's log-probs are computed in it."""
    objective = direct_objective(shape, full, partial(dpo_loss, beta=task.beta))
    step, state, frozen = begin(objective, params, (params,))
    size = (task.prompts, 2, task.completion_tokens)

    def update(state: TrainState, key: Array) -> tuple[TrainState, dict[str, Array]]:
        batch = Preference(
            context=prompts(task, key),
            action=tokens(task, jax.random.fold_in(key, 1), *size),
            mask=jnp.ones(size, bool),
            margin=jnp.zeros(task.prompts),
            weight=jnp.ones(task.prompts),
        )
        return step(state, batch, *frozen)

    return update, state


def grpo(task: Task, shape: DecoderConfig, params: PyTree) -> tuple[Update, TrainState]:
    """Samples, rewards and an update by GRPO."""
    loss = partial(grpo_loss, beta=task.beta, clip=0.2)
    objective = policy_objective(shape, full, loss, sampling=Sampling())
    step, state, frozen = begin(objective, params, (params,))
    reference = jax.jit(partial(completion_logp, shape))

    def update(state: TrainState, key: Array) -> tuple[TrainState, dict[str, Array]]:
        group = generate(
            shape,
            state.params,
            prompts(task, key),
            key,
            completions=task.completions,
            max_new_tokens=task.completion_tokens,
            sampling=Sampling(),
            eos_ids=(shape.vocab_size,),  # never drawn
        )
        group = group.replace(reward=(group.action % 2 == 0).mean(-1))
        ref_logp = reference(*frozen, group.context, group.action) if task.beta else None
        return step(state, PolicyBatch(group, group_advantages(group.reward), ref_logp), *frozen)

    return update, state


def main() -> None:
    """Trains, and prints the seconds of each update but the first."""
    task = read_task()
    shape, params = load_huggingface(task.directory)
    shape = dataclasses.replace(shape, dtype=task.dtype)
    update, state = {"dpo": dpo, "grpo": grpo}[task.name](task, shape, params)
    del params
    seconds = []
    for i in range(task.updates + 1):
        start = time.perf_counter()
        state, metrics = update(state, jax.random.key(i))
        jax.block_until_ready((state, metrics))
        seconds.append(time.perf_counter() - start)
    report(seconds[1:])


if __name__ == "__main__":
    main()
