"""Policies aligned in the sandbox by any method, from comparisons or from samples.

Runs differ in arrays alone (the world, the strength, what rewards), so that all runs of a
method are one vmapped program. What samples and what measures is compiled once, for all
methods.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from experiments.sandbox.task import Task, compare, draw_prompts, learn_proxy, pooled, sample
from irl_jax.eval.intervals import Interval, t_interval
from irl_jax.masking import masked_sum
from irl_jax.models.logprob import completion_hidden_logp
from irl_jax.rewards.embedding import EmbeddingReward, EnsembleConfig
from irl_jax.train.keys import Draw, loop_key
from irl_jax.train.methods import Beside, Method, rollout_of
from irl_jax.train.objectives import full
from irl_jax.train.state import TrainState, init_state
from irl_jax.train.step import make_train_step
from irl_jax.types import Group, Preference, PyTree


@flax.struct.dataclass
class Signal:
    """What a policy may learn from.

    Attributes:
        pairs: `Preference`, comparisons of the reference policy's completions.
        model: the proxy that was learned from them.
        gold: f32[], 0 to reward samples with the proxy, in logits of a comparison; else
            with this times the gold reward: the annotator's inverse noise gives the
            reward that the proxy is an estimate of.
    """

    pairs: Preference
    model: EmbeddingReward
    gold: Array


@flax.struct.dataclass
class Trace:
    """A policy's means over completions to fresh prompts; f32[...] each.

    Attributes:
        gold: gold reward, standard deviations of the reference's.
        proxy: reward by the proxy, logits.
        kl: KL to the reference, nats a completion.
        length: tokens, EOS included.
        entropy: −log π, nats a completion.
    """

    gold: Array
    proxy: Array
    kl: Array
    length: Array
    entropy: Array


@dataclass(frozen=True)
class Bench:
    """A task on which methods are run, in S worlds.

    Attributes:
        reference: "gold" and "proxy", rewards f32[S, P, K] of the reference policy's
            completions; gold in their standard deviations.
        run: (name of a method, the method, what teaches it) -> each field of `Trace`,
            f32[S, A, T], a run for each of A strengths.
    """

    reference: Mapping[str, np.ndarray]
    run: Callable[[str, Method, str], Mapping[str, np.ndarray]]


@dataclass(frozen=True)
class Measuring:
    """How a policy is measured."""

    prompts: int = 64  # prompts of a measurement, the same ones after any update
    completions: int = 8  # completions of each prompt


@partial(jax.jit, static_argnames=("comparisons", "config"))
def make_signals(
    tasks: Task, keys: Array, *, comparisons: int, beta: float, config: EnsembleConfig
) -> Signal:
    """Comparisons of the reference policies' completions, and proxies learned from them.

    Args:
        tasks: worlds, leaves with a leading axis S.
        keys: of the worlds, [S].
        comparisons: pairs, one a prompt.
        beta: the annotator's inverse noise, per standard deviation of gold.
        config: of the proxy.

    Returns:
        Signals with leaves [S, ...]; `gold` is 0.
    """

    def one(item: tuple[Task, Array]) -> Signal:
        task, (ask, act, judge, learn) = item[0], jax.random.split(item[1], 4)
        context = draw_prompts(task, ask, comparisons)
        group = sample(task, task.reference, context, act, completions=2)
        pairs = compare(group, judge, beta=beta)
        return Signal(pairs, learn_proxy(task, pairs, learn, config=config), jnp.float32(0))

    found: Signal = jax.lax.map(one, (tasks, keys))
    return found


def world_keys(seeds: int, purpose: int) -> Array:
    """A key for each world and purpose, [S]."""
    return jax.vmap(lambda s: jax.random.fold_in(jax.random.key(s), purpose))(jnp.arange(seeds))


def judged(task: Task, model: EmbeddingReward, group: Group) -> tuple[Array, Array]:
    """The proxy's rewards f32[B, K] of samples, and their reference log-probs f32[B, K, T]."""
    hidden, ref_logp = completion_hidden_logp(
        task.config, task.reference, group.context, group.action
    )
    return model(pooled(hidden, group.mask)).mean(0), ref_logp


def rewarded(
    task: Task, signal: Signal, params: PyTree, key: Array, *, prompts: int, completions: int,
    beside: Beside | None,
) -> tuple[Group, Array]:  # fmt: skip
    """Samples of a policy with the signal's reward, and their reference log-probs."""
    ask, act = jax.random.split(key)
    context = draw_prompts(task, ask, prompts)
    own = partial(sample, task)
    group = rollout_of(own, beside, completions, task.config, task.reference)(params, context, act)
    proxy, ref_logp = judged(task, signal.model, group)
    reward = jnp.where(signal.gold > 0, signal.gold * group.reward, proxy)
    return replace(group, reward=reward), ref_logp


def measured(
    task: Task, model: EmbeddingReward, params: PyTree, key: Array, size: Measuring
) -> Trace:
    """What a policy is worth; the same key asks the same prompts."""
    ask, act = jax.random.split(key)
    context = draw_prompts(task, ask, size.prompts)
    group = sample(task, params, context, act, completions=size.completions)
    proxy, ref_logp = judged(task, model, group)
    found = Trace(
        gold=group.reward,
        proxy=proxy,
        kl=masked_sum(group.logp - ref_logp, group.mask, axis=-1),
        length=group.mask.sum(-1).astype(jnp.float32),
        entropy=-masked_sum(group.logp, group.mask, axis=-1),
    )
    return jax.tree.map(jnp.mean, found)


def optimizer(lr: float) -> optax.GradientTransformation:
    """Adam behind a clip of the gradient's norm."""
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adam(lr))


@dataclass(frozen=True)
class Training:
    """The updates of a run."""

    updates: int = 60  # updates of a policy
    every: int = 10  # updates between measurements; divides `updates`
    pairs: int = 32  # comparisons of an update
    prompts: int = 8  # prompts of an update from samples; 8 x 8 are as many texts as in 32 pairs
    completions: int = 8  # completions of each prompt
    lr: float = 2e-3  # learning rate of Adam


def per_run(function: Callable, *shared: bool) -> Callable:
    """A function of one run as one of S worlds with A runs each, leaves [S, A, ...].

    Args:
        function: of arrays.
        *shared: for each argument, whether the runs of a world share it: leaves [S, ...].
    """
    arms = jax.vmap(function, in_axes=tuple(None if own else 0 for own in shared))
    return jax.vmap(arms)


@partial(jax.jit, static_argnames="size")
def measure_runs(
    tasks: Task, models: EmbeddingReward, keys: Array, policies: PyTree, *, size: Measuring
) -> Trace:
    """`measured` of policies [S, A, ...], f32[S, A]; the same for all methods."""
    function = lambda task, model, key, params: measured(task, model, params, key, size)
    found: Trace = per_run(function, True, True, True, False)(tasks, models, keys, policies)
    return found


@partial(jax.jit, static_argnames=("prompts", "completions", "beside"))
def draw_runs(
    tasks: Task,
    signals: Signal,
    keys: Array,
    number: Array,
    golds: Array,
    policies: PyTree,
    *,
    prompts: int,
    completions: int,
    beside: Beside | None = None,
) -> tuple[Group, Array]:
    """`rewarded` samples of policies [S, A, ...] in update `number`; one for all methods alike."""

    def function(
        task: Task, signal: Signal, key: Array, gold: Array, params: PyTree
    ) -> tuple[Group, Array]:
        signal = replace(signal, gold=gold)
        key = jax.random.fold_in(key, number)
        return rewarded(
            task, signal, params, key, prompts=prompts, completions=completions, beside=beside
        )

    each = per_run(function, True, True, True, False, False)
    found: tuple[Group, Array] = each(tasks, signals, keys, golds, policies)
    return found


@partial(jax.jit, static_argnames=("method", "training"), donate_argnames="states")
def compared_runs(
    tasks: Task,
    signals: Signal,
    keys: Array,
    strengths: Array,
    states: TrainState,
    *,
    method: Method,
    training: Training,
) -> TrainState:
    """`every` updates from comparisons."""

    def function(
        task: Task, signal: Signal, key: Array, strength: Array, state: TrainState
    ) -> TrainState:
        step = make_train_step(
            method.objective(task.config, full, strength), optimizer(training.lr)
        )

        def update(state: TrainState, _: Any) -> tuple[TrainState, None]:
            draw = jax.random.fold_in(key, state.step)
            rows = jax.random.randint(draw, (training.pairs,), 0, len(signal.pairs.weight))
            batch = jax.tree.map(lambda x: x[rows], signal.pairs)
            return step(state, batch, task.reference)[0], None

        return jax.lax.scan(update, state, length=training.every)[0]

    each = per_run(function, True, True, True, False, False)
    found: TrainState = each(tasks, signals, keys, strengths, states)
    return found


@partial(jax.jit, static_argnames=("method", "training"), donate_argnames="states")
def sampled_runs(
    tasks: Task,
    groups: Group,
    ref_logp: Array,
    strengths: Array,
    states: TrainState,
    *,
    method: Method,
    training: Training,
) -> TrainState:
    """One update from samples."""

    def function(
        task: Task, group: Group, ref_logp: Array, strength: Array, state: TrainState
    ) -> TrainState:
        step = make_train_step(
            method.objective(task.config, full, strength), optimizer(training.lr)
        )
        batch = method.batch(
            task.config, full, state.params, task.reference, group, ref_logp, strength,
            loop_key(state.key, Draw.PREPARE, state.step),
        )  # fmt: skip
        return step(state, batch, task.reference)[0]

    each = per_run(function, True, False, False, False, False)
    found: TrainState = each(tasks, groups, ref_logp, strengths, states)
    return found


def start_runs(method: Method, tasks: Task, keys: Array, lr: float, runs: int) -> TrainState:
    """States of `runs` runs in each world that have not begun, leaves [S, A, ...]."""

    def start(task: Task, key: Array) -> TrainState:
        state = init_state(method.start(task.config, task.reference, key), optimizer(lr), key)
        return jax.tree.map(lambda x: jnp.stack([x] * runs), state)

    return jax.vmap(start)(tasks, keys)


def align(
    tasks: Task,
    signals: Signal,
    keys: Array,
    strengths: Array,
    gold: float,
    *,
    method: Method,
    training: Training,
    measuring: Measuring,
) -> Trace:
    """Runs of a method in S worlds, one a strength in each, all at once.

    What samples and measures is compiled once for all methods, and only the update anew.
    Runs of a world share their random numbers, and so do measurements of all methods:
    what prompts are easy is no difference between them.

    Args:
        tasks: worlds, leaves with a leading axis S.
        signals: leaves with a leading axis S; `gold` is not read.
        keys: of the worlds, [S].
        strengths: f32[A].
        gold: see `Signal.gold`.
        method: the method.
        training: updates.
        measuring: measurements.

    Returns:
        Traces f32[S, A, updates / every], the first after `every` updates.
    """
    worlds, runs = len(keys), len(strengths)
    each = jnp.tile(strengths, (worlds, 1))
    golds = jnp.full((worlds, runs), gold, jnp.float32)
    learning, asking = jax.vmap(lambda key: jax.random.split(key))(keys).T
    states = start_runs(method, tasks, keys, training.lr, runs)
    traces = []
    for done in range(0, training.updates, training.every):
        if method.prepare is None:
            states = compared_runs(
                tasks, signals, learning, each, states, method=method, training=training
            )
        else:
            for number in range(done, done + training.every):
                groups, ref_logp = draw_runs(
                    tasks, signals, learning, jnp.int32(number), golds,
                    method.policy(states.params),
                    prompts=training.prompts, completions=training.completions,
                    beside=method.beside,
                )  # fmt: skip
                states = sampled_runs(
                    tasks, groups, ref_logp, each, states, method=method, training=training
                )
        policies = method.policy(states.params)
        traces.append(measure_runs(tasks, signals.model, asking, policies, size=measuring))
    return jax.tree.map(lambda *x: jnp.stack(x, axis=-1), *traces)


def interval(values: np.ndarray) -> Interval | None:
    """Of the mean over worlds; None where a value is NaN."""
    return t_interval(values) if np.isfinite(values).all() else None
