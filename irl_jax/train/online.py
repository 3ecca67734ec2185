"""The online loop: the policy acts, a reward judges, the policy is updated.

GRPO and its relatives differ in the objective of their step only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from irl_jax.masking import check_float, check_shape
from irl_jax.train.checkpoint import Checkpointer
from irl_jax.train.loop import keep_books
from irl_jax.train.progress import Progress
from irl_jax.train.run import RunDirectory
from irl_jax.train.state import TrainState
from irl_jax.train.step import Step
from irl_jax.types import Group, InputError, PyTree

ROLLOUT = 0x726F6C6C  # folded into the run's key, so that rollouts and updates never share bits


def rollout_key(key: Array, done: int) -> Array:
    """The key of the rollout after `done` updates."""
    return jax.random.fold_in(jax.random.fold_in(key, ROLLOUT), done)


def judge(group: Group, reward: Callable[[Group], Array], done: int, stage: str) -> Group:
    """The group with its reward, f32[B, K].

    Raises:
        InputError: if the reward has another shape, is not floating, or is not finite.
    """
    value = reward(group)
    check_shape("reward", value, group.mask.shape[:2])
    check_float("reward", value)
    value = jnp.asarray(value, jnp.float32)
    bad = int((~jnp.isfinite(value)).sum())
    if bad:
        where = ""
        if value.is_fully_addressable:
            row, k = np.argwhere(~np.isfinite(np.asarray(value)))[0]
            where = f", first for completion {k} of prompt {row}"
        raise InputError(
            f"{stage}: reward is not finite for {bad} of {value.size} completions in update"
            f" {done}{where}; mend the reward function; earlier checkpoints are kept"
        )
    return group.replace(reward=value)  # type: ignore[attr-defined]


def group_metrics(group: Group) -> dict[str, Array]:
    """Means over a group's completions.

    Returns:
        `reward`, `length` (tokens) and `terminated` (the share that ended by itself).
    """
    return {
        "reward": group.reward.mean(),
        "length": group.mask.sum(-1).mean(dtype=jnp.float32),
        "terminated": group.terminated.mean(dtype=jnp.float32),
    }


def improve(
    step: Step,
    state: TrainState,
    prompts: Iterator[PyTree],
    *,
    rollout: Callable[[PyTree, PyTree, Array], Group],
    reward: Callable[[Group], Array],
    steps: int,
    prepare: Callable[[Group], PyTree] | None = None,
    observe: Callable[[int, Group], Mapping[str, float]] | None = None,
    frozen: tuple[PyTree, ...] = (),
    run: RunDirectory | None = None,
    checkpoints: Checkpointer | None = None,
    save_every: int = 100,
    progress: Progress | None = None,
    stage: str = "policy",
) -> TrainState:
    """Updates a policy on its own completions, `steps` times, from the latest checkpoint on.

    Each update: prompts -> `rollout` -> `reward` -> `prepare` -> `step`. Resuming gives
    the same bits, as in `irl_jax.train.offline.fit`.

    Args:
        step: `(state, batch, *frozen) -> (state, metrics)`; donates its state.
        state: where to start if there is no checkpoint.
        prompts: iterator of batches of prompts; with `checkpoints`, one with
            `get_state` and `set_state`.
        rollout: `(params, prompts, key) -> Group`; the group's reward is not read.
        reward: `(group) -> f32[B, K]`.
        steps: number of updates in all.
        prepare: `(group) -> batch` of the step: adds reference log-probs, say. The
            batch is the group itself by default.
        observe: `(update, group) -> {name: number}` to be written with the metrics of
            the update: a gold reward, say; it may write samples, too.
        frozen: the step's further arguments.
        run: takes the metrics of every update; `reward`, `length` and `terminated` are
            added to the step's.
        checkpoints: takes the state every `save_every` updates, at the end and when
            stopped.
        save_every: updates between checkpoints.
        progress: shared by the stages of a run; its own by default.
        stage: name in the metrics and beside the bar.

    Returns:
        The state after `steps` updates.

    Raises:
        InputError: if a reward, the loss or the gradient is not finite, the prompts end
            early, or the checkpoint belongs to another configuration.
        SystemExit: after SIGTERM (143) or Ctrl-C (130), with the state saved.
    """
    with keep_books(
        state,
        prompts,
        steps=steps,
        run=run,
        checkpoints=checkpoints,
        save_every=save_every,
        progress=progress,
        stage=stage,
    ) as books:
        state = books.state
        for done in range(books.start, steps):
            batch = books.next_batch(done)
            group = rollout(state.params, batch, rollout_key(state.key, done))
            books.stop_before_update(done, state)
            group = judge(group, reward, done + 1, stage)
            books.stop_before_update(done, state)
            extra: dict[str, Any] = dict(group_metrics(group))
            if observe is not None:
                extra.update(observe(done + 1, group))
            state, metrics = step(state, group if prepare is None else prepare(group), *frozen)
            books.updated(done + 1, state, {**extra, **metrics})
    return state
