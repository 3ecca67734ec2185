"""Policies optimised against proxies in the sandbox: a run is one scan, many runs one program.

Runs differ in arrays alone (the proxy's parameters, which aggregate, the penalty), so that all
of them share one compiled program: `jax.lax.map` over them.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax import Array

from experiments.sandbox.task import Task, draw_prompts, pooled, sample
from irl_jax.dynamics.advantages import group_advantages
from irl_jax.losses.direct import dpo
from irl_jax.losses.policy import grpo
from irl_jax.masking import masked_sum
from irl_jax.models.logprob import completion_hidden_logp
from irl_jax.rewards.aggregate import disagreement, lower_confidence_bound, worst_case
from irl_jax.rewards.embedding import EmbeddingReward
from irl_jax.rollout.sampling import Sampling
from irl_jax.train.objectives import PolicyBatch, direct_objective, full, policy_objective
from irl_jax.train.state import TrainState, init_state
from irl_jax.train.step import make_train_step
from irl_jax.types import Group, Preference, PyTree

AGGREGATES = ("one", "mean", "bound", "worst", "bounded")  # see `aggregates`
CLIP = 0.2  # range of the importance ratio; on policy it never binds


def aggregates(reward: Array, deviations: float) -> dict[str, Array]:
    """One reward from the members' f32[M, ...] in each of the ways `AGGREGATES`, f32[...].

    "bounded" is the sigmoid of the first member's reward, which is centred at the reference
    policy's mean reward.

    Reference: Fu et al. 2025, "Reward Shaping to Mitigate Reward Hacking in RLHF", arXiv
    2502.18770 ("bounded").

    Differs: they centre at rewards of the reference's responses to the same prompt.
    """
    found = (
        reward[0],
        reward.mean(0),
        lower_confidence_bound(reward, deviations=deviations),
        worst_case(reward),
        jax.nn.sigmoid(reward[0]),
    )
    return dict(zip(AGGREGATES, found, strict=True))


@flax.struct.dataclass
class Arm:
    """What a run is optimised against.

    Attributes:
        model: the proxy; rewards are centred at the reference policy's.
        check: another proxy, learned from other comparisons; never optimised.
        aggregate: i32[], place in `AGGREGATES`.
        penalty: f32[], proxy reward a nat of log π/π_ref, taken from each completion's.
    """

    model: EmbeddingReward
    check: EmbeddingReward
    aggregate: Array
    penalty: Array


@flax.struct.dataclass
class Trace:
    """Means over the completions of an update, drawn before it; f32[...] each.

    Attributes:
        gold: gold reward, standard deviations of the reference's.
        proxy: reward that was optimised, without the penalty.
        check: reward of the proxy that was not.
        kl: KL to the reference, nats a completion.
        disagreement: standard deviation over the proxy's members.
        length: tokens.
        entropy: −log π, nats a completion.
    """

    gold: Array
    proxy: Array
    check: Array
    kl: Array
    disagreement: Array
    length: Array
    entropy: Array


def widened(model: EmbeddingReward, width: int) -> EmbeddingReward:
    """The same rewards from perceptrons of one hidden layer with `width` units, of which some idle.

    Args:
        model: its members have one hidden layer of at most `width` units.
        width: of the result.
    """
    first, last = model.members["layer_0"], model.members["layer_1"]
    idle = width - last["kernel"].shape[-2]

    def pad(x: Array, axis: int) -> Array:
        return jnp.pad(x, [(0, idle * (i == axis % x.ndim)) for i in range(x.ndim)])

    members = {
        "layer_0": {"kernel": pad(first["kernel"], -1), "bias": pad(first["bias"], -1)},
        "layer_1": {"kernel": pad(last["kernel"], -2), "bias": last["bias"]},
    }
    return dataclasses.replace(model, members=members)


def trace(task: Task, arm: Arm, group: Group, deviations: float) -> tuple[Array, Array, Trace]:
    """What to optimise, and what to write down of a group rewarded with gold.

    Args:
        task: the world.
        arm: the proxies.
        group: of B prompts with K completions, drawn from the policy.
        deviations: of the lower confidence bound.

    Returns:
        The reward to optimise f32[B, K], the reference policy's log-probs f32[B, K, T] (nats),
        and the measurements.
    """
    hidden, ref_logp = completion_hidden_logp(
        task.config, task.reference, group.context, group.action
    )
    x = pooled(hidden, group.mask)
    members = arm.model(x)
    ratio = masked_sum(group.logp - ref_logp, group.mask, axis=-1)
    judged = jnp.stack(list(aggregates(members, deviations).values()))[arm.aggregate]
    found = Trace(
        gold=group.reward,
        proxy=judged,
        check=arm.check(x).mean(0),
        kl=ratio,
        disagreement=disagreement(members),
        length=group.mask.sum(-1).astype(jnp.float32),
        entropy=-masked_sum(group.logp, group.mask, axis=-1),
    )
    return judged - arm.penalty * ratio, ref_logp, jax.tree.map(jnp.mean, found)


def optimizer(lr: float) -> optax.GradientTransformation:
    """Adam behind a clip of the gradient's norm."""
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adam(lr))


def start(task: Task, lr: float, key: Array) -> TrainState:
    """The state of a run that has not begun: the reference policy."""
    return init_state(task.reference, optimizer(lr), key)


@partial(jax.jit, static_argnames=("updates", "prompts", "completions", "lr", "deviations"))
def reinforce(
    task: Task,
    arms: Arm,
    states: TrainState,
    *,
    updates: int,
    prompts: int,
    completions: int,
    lr: float,
    deviations: float,
) -> tuple[TrainState, Trace]:
    """GRPO of R runs, `updates` further updates of each, in one program.

    The advantage is the reward less its group's mean (`scale=False`): a bounded reward
    pushes less where it is saturated, as it is meant to.

    Args:
        task: worlds, leaves with a leading axis R.
        arms: leaves with a leading axis R.
        states: leaves with a leading axis R.
        updates: of each run.
        prompts: of an update.
        completions: of each prompt.
        lr: learning rate of Adam.
        deviations: of the lower confidence bound.

    Returns:
        The states, and the traces f32[R, updates].
    """

    def one(item: tuple[Task, Arm, TrainState]) -> tuple[TrainState, Trace]:
        task, arm, state = item
        loss = partial(grpo, beta=0.0, clip=CLIP)
        objective = policy_objective(task.config, full, loss, sampling=Sampling())
        step = make_train_step(objective, optimizer(lr))

        def update(state: TrainState, _: Any) -> tuple[TrainState, Trace]:
            ask, act = jax.random.split(jax.random.fold_in(state.key, state.step))
            context = draw_prompts(task, ask, prompts)
            group = sample(task, state.params, context, act, completions=completions)
            reward, ref_logp, found = trace(task, arm, group, deviations)
            advantage = group_advantages(reward, scale=False)
            batch = PolicyBatch(dataclasses.replace(group, reward=reward), advantage, ref_logp)
            return step(state, batch, task.reference)[0], found

        return jax.lax.scan(update, state, length=updates)

    out: tuple[TrainState, Trace] = jax.lax.map(one, (task, arms, states))
    return out


@partial(
    jax.jit,
    static_argnames=("updates", "every", "batch_size", "prompts", "completions", "lr", "beta"),
)
def prefer(
    task: Task,
    arms: Arm,
    pairs: Preference,
    states: TrainState,
    *,
    updates: int,
    every: int,
    batch_size: int,
    prompts: int,
    completions: int,
    lr: float,
    beta: float,
) -> Trace:
    """DPO of R runs on the comparisons that the proxies learned from, in one program.

    Args:
        task: worlds, leaves with a leading axis R.
        arms: proxies that measure; leaves with a leading axis R.
        pairs: leaves with a leading axis R, then N.
        states: leaves with a leading axis R.
        updates: of each run.
        every: updates between measurements; divides `updates`.
        batch_size: pairs of an update.
        prompts: of a measurement.
        completions: of each prompt.
        lr: learning rate of Adam.
        beta: of DPO.

    Returns:
        Traces f32[R, updates / every], each measured before the updates that follow.
    """

    def one(item: tuple[Task, Arm, Preference, TrainState]) -> Trace:
        task, arm, pairs, state = item
        objective = direct_objective(task.config, full, partial(dpo, beta=beta))
        step = make_train_step(objective, optimizer(lr))

        def update(state: TrainState, key: Array) -> tuple[TrainState, Any]:
            rows = jax.random.randint(key, (batch_size,), 0, pairs.weight.shape[0])
            batch = jax.tree.map(lambda x: x[rows], pairs)
            return step(state, batch, task.reference)[0], None

        def stretch(state: TrainState, _: Any) -> tuple[TrainState, Trace]:
            ask, act, draw = jax.random.split(jax.random.fold_in(state.key, state.step), 3)
            context = draw_prompts(task, ask, prompts)
            group = sample(task, state.params, context, act, completions=completions)
            *_, found = trace(task, arm, group, 0.0)
            return jax.lax.scan(update, state, jax.random.split(draw, every))[0], found

        return jax.lax.scan(stretch, state, length=updates // every)[1]

    found: Trace = jax.lax.map(one, (task, arms, pairs, states))
    return found


def take(tree: PyTree, index: Any) -> PyTree:
    """Rows of every leaf's leading axis."""
    return jax.tree.map(lambda x: x[index], tree)
