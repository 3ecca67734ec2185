"""The online loop: the policy acts, a reward judges, the policy is updated.

GRPO and its relatives differ in the objective of their step only; what others sample beside,
and what they learn from it, is in `irl_jax.rollout.opponents` and `irl_jax.train.prepare`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from irl_jax.dynamics.weights import has_signal
from irl_jax.rewards.contract import CALLED, ask, check_takes
from irl_jax.train.checkpoint import Checkpointer
from irl_jax.train.keys import Draw, loop_key
from irl_jax.train.loop import Evaluation, context_of, loop_record
from irl_jax.train.progress import Progress
from irl_jax.train.run import RunDirectory
from irl_jax.train.state import TrainState
from irl_jax.train.step import Step
from irl_jax.types import Group, InputError, LoopContext, PyTree, Reward


class Judged(NamedTuple):
    """A group with its reward, and what says which of its prompts teach something.

    Attributes:
        group: of B prompts.
        parts: name -> f32[B, K], parts of the reward.
        deciding: f32[B, K], the part of the reward that decides, or the whole of it.
    """

    group: Group
    parts: Mapping[str, Array]
    deciding: Array


def judge(
    group: Group,
    reward: Reward,
    context: LoopContext,
    stage: str,
    decides: str | None = None,
) -> tuple[Judged, dict[str, Any]]:
    """The group with its reward, and the metrics that the reward itself gives.

    Raises:
        InputError: if the reward is no array, has another shape, is not floating, is not
            finite, or has no part that is called as `decides` says.
    """
    value, parts, own = ask(reward, group, context)
    if decides is not None and decides not in parts:
        have = f"has {', '.join(parts)}" if parts else "has none"
        raise InputError(f"decides: no part of the reward is called {decides!r}; it {have}")
    for name, part in parts.items():
        _check_finite(f"reward {name!r}", part, context.update, stage)
    _check_finite("reward", value, context.update, stage)
    deciding = value if decides is None else parts[decides]
    return Judged(replace(group, reward=value), parts, deciding), dict(own)


def _check_finite(name: str, value: Array, update: int, stage: str) -> None:
    """Raises `InputError` unless the value f32[B, K] is finite."""
    bad = int((~jnp.isfinite(value)).sum())
    if bad:
        where = ""
        if value.is_fully_addressable:
            row, k = np.argwhere(~np.isfinite(np.asarray(value)))[0]
            where = f", first for completion {k} of prompt {row}"
        raise InputError(
            f"{stage}: {name} is not finite for {bad} of {value.size} completions in update"
            f" {update}{where}; fix the reward function; earlier checkpoints are kept"
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
    reward: Reward,
    steps: int,
    resample: int = 0,
    decides: str | None = None,
    prepare: Callable[[Group, LoopContext], PyTree] | None = None,
    observe: Callable[[Group, LoopContext], Mapping[str, Any]] | None = None,
    evaluate: Evaluation | None = None,
    evaluate_every: int = 0,
    frozen: tuple[PyTree, ...] = (),
    run: RunDirectory | None = None,
    checkpoints: Checkpointer | None = None,
    save_every: int = 100,
    progress: Progress | None = None,
    stage: str = "policy",
) -> TrainState:
    """Updates a policy on its own completions, `steps` times, from the latest checkpoint on.

    Each update: prompts -> `rollout` -> `reward` -> `observe` -> `prepare` -> `evaluate`, if it
    is due -> `step`. Resuming gives the same bits, as in `irl_jax.train.offline.train_offline`.

    `reward`, `prepare` and `observe` are called as `(group, context)`, see
    `irl_jax.rewards.contract`; what needs the group alone is wrapped, `of_group(f)`. In the
    `LoopContext` are the updates done, the parameters and a key of this call; for `prepare` and
    `observe` also what the reward said.

    Args:
        step: `(state, batch, *frozen) -> (state, metrics)`; donates its state.
        state: where to start if there is no checkpoint.
        prompts: iterator of batches of prompts; with `checkpoints`, one with
            `get_state` and `set_state`.
        rollout: `(params, prompts, key) -> Group`; the group's reward is not read.
        reward: `(group, context) -> f32[B, K]`, or a `Rewarded`, which has parts and metrics
            to be logged: see `rewards.composite.CompositeReward`.
        steps: number of updates in all. One update may be several on the same batch: see
            `irl_jax.train.step.minibatch_epochs`.
        resample: batches of prompts that may be drawn in addition, to replace prompts
            whose completions are all worth the same, as DAPO does; what cannot be replaced
            stays.
        decides: part of the reward by which completions are worth the same or not: DAPO's is
            the correctness, whatever else the reward has. The whole reward by default.
        prepare: `(group, context) -> batch` of the step: adds advantages and reference
            log-probs, say. The batch is the group itself by default.
        observe: `(group, context) -> {name: number}` to be written with the metrics of
            update `context.update`: a gold reward, say; it may write samples, too.
        evaluate: `(context) -> {name: number}` or None, called before the first update, before
            the updates that follow every `evaluate_every`, and after the last. Numbers are
            logged as stage `STAGE evaluation`, at step `context.done`.
        evaluate_every: updates between evaluations; 0: none but the first and the last.
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
        InputError: if a function takes other arguments, a reward, the loss or the gradient is
            not finite, no part of the reward is called as `decides` says, the prompts end
            early, the checkpoint belongs to another configuration, or prompts are to be
            replaced in a run of several processes.
        SystemExit: after SIGTERM (143) or Ctrl-C (130), with the state saved.
    """
    if resample and jax.process_count() > 1:
        raise InputError("resample: every process would draw for itself; set it to 0")
    check_takes("rollout", rollout, "params", "prompts", "key")
    check_takes("reward", reward, *CALLED)
    for name, function in (("prepare", prepare), ("observe", observe)):
        if function is not None:
            check_takes(name, function, *CALLED)
    with loop_record(
        state,
        prompts,
        steps=steps,
        evaluate=evaluate,
        evaluate_every=evaluate_every,
        run=run,
        checkpoints=checkpoints,
        save_every=save_every,
        progress=progress,
        stage=stage,
    ) as record:
        state = record.state
        for done in range(record.start, steps):
            context = partial(context_of, state, done, steps)

            def attempt(number: int, state: TrainState = state, done: int = done) -> tuple:
                batch = record.next_batch(done)
                key = loop_key(state.key, Draw.ROLLOUT, done, number)
                group = rollout(state.params, batch, key)
                record.stop_before_update(done, state)
                asked = context_of(state, done, steps, Draw.REWARD, number)
                judged = judge(group, reward, asked, stage, decides)
                record.stop_before_update(done, state)
                return judged

            batch, said, extra = dynamic_sampling(attempt, resample)
            if observe is not None:
                extra |= observe(batch, context(Draw.OBSERVE, **said))
            if prepare is not None:
                batch = prepare(batch, context(Draw.PREPARE, **said))
            record.evaluate(done, state)
            state, metrics = step(state, batch, *frozen)
            record.updated(done + 1, state, {**extra, **metrics})
    record.evaluate(max(record.start, steps), state)
    return state


def dynamic_sampling(
    attempt: Callable[[int], tuple[Judged, dict[str, Any]]], resample: int
) -> tuple[Group, dict[str, Any], dict[str, Any]]:
    """A judged group, filled from further attempts while prompts in it teach nothing.

    Args:
        attempt: (number 0, 1, ...) -> a judged group and its reward's own metrics.
        resample: attempts after the first, at most.

    Returns:
        The group; `parts` of its reward and, of what was sampled first, its `metrics`; and what
        is logged: means over the group's completions; of what was sampled first, means of the
        parts, and the metrics; with `resample`, `rollouts` and `has_signal`, the share of prompts
        that teach something in the end.
    """
    judged, own = attempt(0)
    means = {f"reward_{name}": jnp.mean(part) for name, part in judged.parts.items()}
    rollouts = 1
    while rollouts <= resample and not bool(has_signal(judged.deciding).all()):
        judged, rollouts = fill_groups(judged, attempt(rollouts)[0]), rollouts + 1
    metrics: dict[str, Any] = {**group_metrics(judged.group), **means, **own}
    if resample:
        share = has_signal(judged.deciding).mean(dtype=jnp.float32)
        metrics |= {"rollouts": rollouts, "has_signal": share}
    return judged.group, {"parts": judged.parts, "metrics": own}, metrics
