"""Policies of the sandbox that imitate an expert, by likelihood and as a soft Q."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from experiments.mle_or_inverse_q.config import Config, LearningConfig
from experiments.sandbox.expert import demonstrate
from experiments.sandbox.task import Task, draw_prompts, sample
from irl_jax.eval.diversity import self_bleu
from irl_jax.losses.soft_q import iq_learn_lm
from irl_jax.masking import masked_sum
from irl_jax.models.logprob import sequence_logp
from irl_jax.rollout.opponents import Demonstrated
from irl_jax.train.objectives import full, sft_objective, soft_q_objective
from irl_jax.train.state import TrainState, init_state
from irl_jax.train.step import make_train_step
from irl_jax.types import Demonstration, PyTree

MLE = "MLE"
STOPPED = "MLE, stopped"
BASES = (MLE, STOPPED)  # what arms are compared with
HELD_OUT = 128  # demonstrations whose likelihood is measured, of prompts of their own
VALIDATION = 64  # others, by whose likelihood is stopped


def arms_of(config: Config) -> list[str]:
    """MLE by its own loss, a name for each λ; and MLE and the greatest λ, stopped early."""
    lams = [f"λ = {lam:g}" for lam in config.lams]
    return [MLE, *lams, STOPPED, f"{lams[-1]}, stopped"]


def sentences(shown: Demonstrated) -> Demonstration:
    """Prompts and what was written after them as rows to imitate, i32[..., N, T]."""
    given, written = shown.context.mask, shown.mask[..., 0, :]
    join = lambda x, y: jnp.concatenate([x, y], axis=-1)
    return Demonstration(
        tokens=join(shown.context.tokens, shown.action[..., 0, :]),
        mask=join(jnp.zeros_like(given), written),
        segment=join(given, written).astype(jnp.int32),
    )


def surprise_of(task: Task, rows: Demonstration, policy: PyTree) -> Array:
    """−log π of demonstrations, nats each: the mean over them, f32[]."""
    logp = sequence_logp(task.config, policy, rows.tokens, rows.segment)
    return -masked_sum(logp, rows.mask, axis=-1).mean()


def learn_one(
    task: Task, rows: Demonstration, validation: Demonstration, key: Array, count: Array,
    lam: Array | None, *, config: LearningConfig, discount: float,
) -> dict[str, PyTree]:  # fmt: skip
    """A policy that begins as the reference and imitates the first `count` rows.

    Args:
        task: the world.
        rows: at least `count` demonstrations.
        validation: others, which nothing else learns from.
        key: typed PRNG key; for every λ it draws the same batches.
        count: i32[].
        lam: λ, f32[]; None for `nll` itself.
        config: updates.
        discount: γ.

    Returns:
        "last", after all updates; "stopped", where −log π of the validation was least, at the
        beginning or after every `config.every` updates; and "at", how many updates that was.
    """
    if lam is None:
        own = sft_objective(task.config)
    else:
        loss = partial(iq_learn_lm, lam=lam, discount=discount)
        own = soft_q_objective(task.config, full, loss)
    tx = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(config.lr))
    step = make_train_step(own, tx)

    def body(state: TrainState, _: None) -> tuple[TrainState, None]:
        drawn = jax.random.randint(jax.random.fold_in(key, state.step), (config.rows,), 0, count)
        return step(state, jax.tree.map(lambda x: x[drawn], rows))[0], None

    def look(carry: tuple[TrainState, Array, PyTree], _: None) -> tuple[Any, None]:
        state, least, best = carry
        state, _ = jax.lax.scan(body, state, length=config.every)
        seen = surprise_of(task, validation, state.params)
        now = {"stopped": state.params, "at": state.step}
        best = jax.tree.map(lambda x, y: jnp.where(seen < least, x, y), now, best)
        return (state, jnp.minimum(seen, least), best), None

    state = init_state(task.reference, tx, key)
    first = surprise_of(task, validation, state.params)
    start = state, first, {"stopped": state.params, "at": state.step}
    (state, _, best), _ = jax.lax.scan(look, start, length=config.updates // config.every)
    return {"last": state.params, **best}


@partial(jax.jit, static_argnames=("config", "discount"))
def learn(
    tasks: Task, rows: Demonstration, validation: Demonstration, keys: Array, counts: Array,
    lams: Array, *, config: LearningConfig, discount: float,
) -> tuple[PyTree, Array]:  # fmt: skip
    """Policies of S worlds and C numbers of demonstrations, of the arms of `arms_of`.

    Args:
        tasks: worlds, leaves [S, ...].
        rows: demonstrations of each, leaves [S, N, ...].
        validation: by which is stopped, leaves [S, M, ...].
        keys: of the worlds, [S].
        counts: i32[C].
        lams: f32[A].
        config: updates.
        discount: γ.

    Returns:
        Parameters, leaves [S, C, 1 + A + 2, ...]; and the updates after which the last two were
        stopped, i32[S, C, 2].
    """
    own = partial(learn_one, config=config, discount=discount)

    def one(task: Task, rows: Demonstration, validation: Demonstration, key: Array) -> PyTree:
        run = partial(own, task, rows, validation, key)
        likely = jax.vmap(lambda count: run(count, None))(counts)
        soft = jax.vmap(lambda count: jax.vmap(lambda lam: run(count, lam))(lams))(counts)
        join = lambda x, y: jnp.concatenate([x[:, None], y], axis=1)
        every = jax.tree.map(join, likely, soft)
        ends = jax.tree.map(lambda x: x[:, jnp.array([0, -1])], every)
        policies = jax.tree.map(
            lambda x, y: jnp.concatenate([x, y], axis=1), every["last"], ends["stopped"]
        )
        return policies, ends["at"]

    found: tuple[PyTree, Array] = jax.vmap(one)(tasks, rows, validation, keys)
    return found


@partial(jax.jit, static_argnames=("prompts", "completions", "temperature"))
def write(
    tasks: Task, keys: Array, policies: PyTree, *, prompts: int, completions: int,
    temperature: float,
) -> dict[str, Array]:  # fmt: skip
    """What policies [S, C, A, ...] write: "gold" f32[S, C, A, P, K], "action" and "mask"."""

    def one(task: Task, key: Array, policy: PyTree) -> dict[str, Array]:
        ask, act = jax.random.split(key)
        context = draw_prompts(task, ask, prompts)
        group = sample(task, policy, context, act, completions=completions, temperature=temperature)
        return {"gold": group.reward, "action": group.action, "mask": group.mask}

    arms = jax.vmap(jax.vmap(one, in_axes=(None, None, 0)), in_axes=(None, None, 0))
    found: dict[str, Array] = jax.vmap(arms)(tasks, keys, policies)
    return found


@jax.jit
def surprise(tasks: Task, rows: Demonstration, policies: PyTree) -> Array:
    """−log π of demonstrations, nats each: the mean over them, f32[S, C, A]."""
    arms = jax.vmap(jax.vmap(surprise_of, in_axes=(None, None, 0)), in_axes=(None, None, 0))
    found: Array = jax.vmap(arms)(tasks, rows, policies)
    return found


def likeness(action: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Self-BLEU of the K completions of a prompt, the mean over prompts, f64[...].

    Args:
        action: i32[..., P, K, T]; a symbol is a word.
        mask: bool[..., P, K, T].
    """
    shape = action.shape[:-3]
    flat = lambda x: x.reshape(-1, *x.shape[-3:])
    words = lambda own, counts: " ".join(map(str, own[counts]))
    found = [
        np.mean([self_bleu([*map(words, *row)]) for row in zip(a, m, strict=True)])
        for a, m in zip(flat(action), flat(mask), strict=True)
    ]
    return np.reshape(found, shape)


def keys_of(config: Config, purpose: int) -> Array:
    """A key for each world and purpose, [S]."""
    seeds = config.first_seed + jnp.arange(config.seeds)
    return jax.vmap(lambda s: jax.random.fold_in(jax.random.key(s), purpose))(seeds)


def imitate(config: Config, tasks: Task) -> dict[str, np.ndarray]:
    """Policies of all arms, measured.

    Returns:
        "gold" and "likeness" f64[S, C, A, temperatures], A as `arms_of`; "surprise" f64[S, C, A];
        "stopped" f64[S, C, 2], the updates of the two arms that are stopped;
        "expert" f64[S], gold of the demonstrations; "apart" f64[], the greatest difference between
        a parameter of MLE and of the first λ.
    """
    draw = lambda purpose, count: demonstrate(
        tasks, keys_of(config, purpose), count=count, config=config.expert
    )
    shown, expert = draw(1, max(config.demonstrations))
    unseen, validation = draw(3, HELD_OUT)[0], draw(5, VALIDATION)[0]
    policies, stopped = learn(
        tasks, sentences(shown), sentences(validation), keys_of(config, 2),
        jnp.array(config.demonstrations), jnp.array(config.lams), config=config.learning,
        discount=config.discount,
    )  # fmt: skip
    gold, alike = [], []
    for temperature in config.temperatures:
        texts = jax.device_get(
            write(
                tasks, keys_of(config, 4), policies, prompts=config.measuring.prompts,
                completions=config.measuring.completions, temperature=temperature,
            )
        )  # fmt: skip
        gold.append(texts["gold"].mean((-2, -1)))
        alike.append(likeness(texts["action"], texts["mask"]))
    gaps = [float(jnp.abs(x[:, :, 0] - x[:, :, 1]).max()) for x in jax.tree.leaves(policies)]
    return {
        "gold": np.stack(gold, -1).astype(np.float64),
        "likeness": np.stack(alike, -1),
        "surprise": np.asarray(surprise(tasks, sentences(unseen), policies), np.float64),
        "stopped": np.asarray(stopped, np.float64),
        "expert": np.asarray(expert, np.float64),
        "apart": np.array(max(gaps)),
    }


def gold_at_likeness(likeness: np.ndarray, gold: np.ndarray, level: float) -> float:
    """Gold of a policy where its self-BLEU is `level`; NaN beyond its temperatures.

    Straight lines between temperatures, in the order of self-BLEU.

    Args:
        likeness: f64[temperatures].
        gold: f64[temperatures].
        level: self-BLEU.
    """
    order = np.argsort(likeness, kind="stable")
    return float(np.interp(level, likeness[order], gold[order], left=np.nan, right=np.nan))
