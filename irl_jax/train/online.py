"""The online loop: the policy acts, a reward judges, the policy is updated.

GRPO and its relatives differ in the objective of their step only; what others sample beside,
and what they learn from it, is in `irl_jax.rollout.opponents` and `irl_jax.train.prepare`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from irl_jax.dynamics.weights import has_signal
from irl_jax.masking import check_float, check_shape
from irl_jax.rewards.composite import call_with
from irl_jax.train.checkpoint import Checkpointer
from irl_jax.train.loop import loop_record
from irl_jax.train.progress import Progress
from irl_jax.train.run import RunDirectory
from irl_jax.train.state import TrainState
from irl_jax.train.step import Step
from irl_jax.types import Group, InputError, PyTree

# folded into the run's key, so that rollouts, preparations and updates never share bits
ROLLOUT, PREPARE = 0x726F6C6C, 0x70726570


def rollout_key(key: Array, done: int, attempt: int = 0) -> Array:
    """The key of a rollout after `done` updates; the first, unless prompts are replaced."""
    return jax.random.fold_in(jax.random.fold_in(key, ROLLOUT + attempt), done)


def prepare_key(key: Array, done: int | Array) -> Array:
    """The key of what is made of a rollout after `done` updates."""
    return jax.random.fold_in(jax.random.fold_in(key, PREPARE), done)


class Judged(NamedTuple):
    """A group with its reward, and what says which of its prompts teach something.

    Attributes:
        group: of B prompts.
        deciding: f32[B, K], the part of the reward that decides, or the whole of it.
    """

    group: Group
    deciding: Array


def judge(
    group: Group,
    reward: Callable[..., Any],
    done: int,
    stage: str,
    progress: float = 0.0,
    decides: str | None = None,
) -> tuple[Judged, dict[str, Array]]:
    """The group with its reward, and the mean of each part of the reward.

    Raises:
        InputError: if the reward is no array, has another shape, is not floating, is not
            finite, or has no part that is called as `decides` says.
    """
    judged = call_with(reward, group, progress=progress)
    value, parts = judged if isinstance(judged, tuple) and len(judged) == 2 else (judged, {})
    if not isinstance(parts, Mapping):
        raise InputError(f"{stage}: the reward's parts are a {type(parts).__name__}, not a dict")
    if decides is not None and decides not in parts:
        have = f"has {', '.join(parts)}" if parts else "has none"
        raise InputError(f"decides: no part of the reward is called {decides!r}; it {have}")
    for name, part in parts.items():
        _check_finite(f"reward {name!r}", part, group, done, stage)
    _check_finite("reward", value, group, done, stage)
    means = {f"reward_{name}": jnp.mean(part) for name, part in parts.items()}
    value = jnp.asarray(value, jnp.float32)
    deciding = value if decides is None else jnp.asarray(parts[decides], jnp.float32)
    return Judged(replace(group, reward=value), deciding), means


def _check_finite(name: str, value: Array, group: Group, done: int, stage: str) -> None:
    """Raises `InputError` unless the value is f32[B, K] and finite."""
    check_shape(name, value, group.mask.shape[:2])
    check_float(name, value)
    value = jnp.asarray(value, jnp.float32)
    bad = int((~jnp.isfinite(value)).sum())
    if bad:
        where = ""
        if value.is_fully_addressable:
            row, k = np.argwhere(~np.isfinite(np.asarray(value)))[0]
            where = f", first for completion {k} of prompt {row}"
        raise InputError(
            f"{stage}: {name} is not finite for {bad} of {value.size} completions in update"
            f" {done}{where}; fix the reward function; earlier checkpoints are kept"
        )


@jax.jit
def fill_groups(judged: Judged, more: Judged) -> Judged:
    """The prompts that teach nothing replaced by others that do.

    Args:
        judged: of B prompts; where all completions of one are worth the same to what
            decides, it is replaced by the next prompt of `more` whose completions differ,
            while there are.
        more: of B prompts, in the same shapes.

    Reference: Yu et al. 2025, arXiv 2503.14476, eq. 11 (dynamic sampling), where correctness
    decides: 0 < |{oᵢ is right}| < K.
    """
    empty, full = ~has_signal(judged.deciding), has_signal(more.deciding)
    rank = jnp.cumsum(empty) - 1
    source = jnp.argsort(~full, stable=True)[jnp.maximum(rank, 0)]
    taken = empty & (rank < full.sum())

    def pick(x: Array, y: Array) -> Array:
        return jnp.where(taken.reshape(-1, *[1] * (x.ndim - 1)), jnp.take(y, source, axis=0), x)

    return jax.tree.map(pick, judged, more)


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


def train_online(
    step: Step,
    state: TrainState,
    prompts: Iterator[PyTree],
    *,
    rollout: Callable[[PyTree, PyTree, Array], Group],
    reward: Callable[..., Any],
    steps: int,
    resample: int = 0,
    decides: str | None = None,
    prepare: Callable[..., PyTree] | None = None,
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
    the same bits, as in `irl_jax.train.offline.train_offline`.

    Args:
        step: `(state, batch, *frozen) -> (state, metrics)`; donates its state.
        state: where to start if there is no checkpoint.
        prompts: iterator of batches of prompts; with `checkpoints`, one with
            `get_state` and `set_state`.
        rollout: `(params, prompts, key) -> Group`; the group's reward is not read.
        reward: `(group) -> f32[B, K]`, or f32[B, K] and {name: f32[B, K]}, parts of it to
            be logged: see `rewards.composite.CompositeReward`. If it names a keyword `progress`, it
            is told the share of updates done.
        steps: number of updates in all. One update may be several on the same batch: see
            `irl_jax.train.step.minibatch_epochs`.
        resample: batches of prompts that may be drawn in addition, to replace prompts
            whose completions are all worth the same, as DAPO does; what cannot be replaced
            stays.
        decides: part of the reward by which completions are worth the same or not: DAPO's is
            the correctness, whatever else the reward has. The whole reward by default.
        prepare: `(group) -> batch` of the step: adds advantages and reference log-probs,
            say. If it names an argument `params`, it is given those of the state, a critic
            among them, say; if it names a `key`, one of the update. The batch is the group
            itself by default.
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
        InputError: if a reward, the loss or the gradient is not finite, no part of the
            reward is called as `decides` says, the prompts end early, the checkpoint belongs
            to another configuration, or prompts are to be replaced in a run of several
            processes.
        SystemExit: after SIGTERM (143) or Ctrl-C (130), with the state saved.
    """
    if resample and jax.process_count() > 1:
        raise InputError("resample: every process would draw for itself; set it to 0")
    with loop_record(
        state,
        prompts,
        steps=steps,
        run=run,
        checkpoints=checkpoints,
        save_every=save_every,
        progress=progress,
        stage=stage,
    ) as record:
        state = record.state
        for done in range(record.start, steps):

            def attempt(number: int, state: TrainState = state, done: int = done) -> tuple:
                batch = record.next_batch(done)
                group = rollout(state.params, batch, rollout_key(state.key, done, number))
                record.stop_before_update(done, state)
                judged = judge(group, reward, done + 1, stage, done / steps, decides)
                record.stop_before_update(done, state)
                return judged

            group, extra = dynamic_sampling(attempt, resample)
            if observe is not None:
                extra.update(observe(done + 1, group))
            offered = {"params": state.params, "key": prepare_key(state.key, done)}
            batch = group if prepare is None else call_with(prepare, group, **offered)
            state, metrics = step(state, batch, *frozen)
            record.updated(done + 1, state, {**extra, **metrics})
    return state


def dynamic_sampling(
    attempt: Callable[[int], tuple[Judged, dict[str, Array]]], resample: int
) -> tuple[Group, dict[str, Any]]:
    """A judged group, filled from further attempts while prompts in it teach nothing.

    Args:
        attempt: (number 0, 1, ...) -> a judged group and metrics of its rewards.
        resample: attempts after the first, at most.

    Returns:
        The group, and metrics: means over its completions, and, of what was sampled first,
        the parts of the reward; with `resample`, `rollouts` and `has_signal`, the share of
        prompts that teach something in the end.
    """
    judged, parts = attempt(0)
    rollouts = 1
    while rollouts <= resample and not bool(has_signal(judged.deciding).all()):
        judged, rollouts = fill_groups(judged, attempt(rollouts)[0]), rollouts + 1
    metrics: dict[str, Any] = {**group_metrics(judged.group), **parts}
    if resample:
        share = has_signal(judged.deciding).mean(dtype=jnp.float32)
        metrics |= {"rollouts": rollouts, "has_signal": share}
    return judged.group, metrics
