"""The study of `experiments.dense_rewards`: settings, stages, summary."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from experiments.dense_rewards.report import DENSE, LIKELIHOOD, TOKENS, conclusion, write_report
from experiments.sandbox.task import (
    SandboxConfig,
    Task,
    draw_prompts,
    embed,
    gold,
    make_task,
    sample,
)
from irl_jax.eval.intervals import adjusted, t_interval
from irl_jax.eval.ranking import MEASURES, ranking_measures, spearman
from irl_jax.files import as_json
from irl_jax.losses.divergence import discriminator_batch
from irl_jax.losses.policy import weighted_sft
from irl_jax.losses.rating import binary_cross_entropy
from irl_jax.models.logprob import completion_logp
from irl_jax.recipes.launch import Clock, kept, launch
from irl_jax.rewards.embedding import EnsembleConfig, fit_ensemble, fit_members
from irl_jax.rewards.implicit import token_reward
from irl_jax.train.progress import Progress
from irl_jax.train.run import RunDirectory
from irl_jax.types import Group, InputError, Loss, Preference, Prompt, PyTree

TOLD_APART, COMPARED = "discriminator, Jensen-Shannon", "comparisons, Bradley-Terry"
METHODS = (DENSE, LIKELIHOOD, TOLD_APART, COMPARED)


@dataclass(frozen=True)
class Config:
    """Demonstrations, and what is made of them."""

    run_dir: Path = Path("runs/dense_rewards")  # directory of results; a run resumes there
    sandbox: SandboxConfig = field(default_factory=SandboxConfig)
    demonstrations: tuple[int, ...] = (64, 256, 1024)  # prompts with one demonstration each
    best_of: int = 16  # completions of which a demonstration is the best by gold
    held_out: int = 256  # prompts whose completions the rewards order
    completions: int = 16  # completions of each of these prompts
    epochs: int = 4  # passes over the demonstrations in fine-tuning
    batch_size: int = 32  # demonstrations of an update
    lr: float = 1e-3  # peak learning rate of fine-tuning, cosine decay to 0
    reward: EnsembleConfig = field(
        default_factory=lambda: EnsembleConfig(members=4, lr=3e-3, weight_decay=0.1)
    )  # of the discriminator and of Bradley-Terry
    seeds: int = 16  # worlds, each with its demonstrations and models


CONFIG = Config()


def fine_tune(
    task: Task, context: Prompt, action: Array, mask: Array, key: Array, config: Config
) -> PyTree:
    """The reference policy after supervised fine-tuning on completions i32[N, 1, T]."""

    def loss(params: PyTree, rows: tuple[Prompt, Array, Array]) -> Loss:
        context, action, mask = rows
        logp = completion_logp(task.config, params, context, action)
        absent: Any = None
        batch = Group(context, action, mask, logp, absent, absent)
        return weighted_sft(logp, batch, advantage=jnp.ones(action.shape[:2]))

    size = min(config.batch_size, len(action))
    training = EnsembleConfig(
        members=1, steps=config.epochs * len(action) // size, batch_size=size, lr=config.lr,
        weight_decay=0.0, rows="passes",
    )  # fmt: skip
    rows = (context, action, mask)
    params, _ = fit_members(lambda key: task.reference, loss, rows, key, config=training)
    return jax.tree.map(lambda x: x[0], params)


def earned(task: Task, group: Group) -> Array:
    """What each token adds to the gold reward of the prefix, f32[B, K, T]."""
    columns = jnp.arange(group.mask.shape[-1])
    upto = lambda t: gold(task, group.context, group.action, group.mask & (columns <= t))
    worth = jnp.moveaxis(jax.lax.map(upto, columns), 0, -1)
    empty = gold(task, group.context, group.action, jnp.zeros_like(group.mask))
    return jnp.diff(worth, axis=-1, prepend=empty[..., None])


@partial(jax.jit, static_argnames=("config", "count"))
def learn(task: Task, key: Array, *, config: Config, count: int) -> dict[str, Array]:
    """Rewards of held-out completions, learned from `count` demonstrations.

    Args:
        task: the world.
        key: typed PRNG key.
        config: sizes.
        count: demonstrations.

    Returns:
        For each of `METHODS` f32[P, K]; "token" f32[P, K, T], the dense reward; "gold",
        "earned" and "mask".
    """
    keys = jax.random.split(key, 7)
    asked = draw_prompts(task, keys[0], count)
    shown = sample(task, task.reference, asked, keys[1], completions=config.best_of)
    best, worst = shown.reward.argmax(-1), shown.reward.argmin(-1)
    pick = lambda x, k: jnp.take_along_axis(x, k.reshape(-1, 1, *[1] * (x.ndim - 2)), axis=1)
    demonstration = (pick(shown.action, best), pick(shown.mask, best))
    params = fine_tune(task, asked, *demonstration, keys[2], config)

    context = draw_prompts(task, keys[3], config.held_out)
    group = sample(task, task.reference, context, keys[4], completions=config.completions)
    logp, ref = (
        completion_logp(task.config, p, context, group.action) for p in (params, task.reference)
    )
    token = token_reward(logp, ref, group.mask)

    features = embed(task, shown.context, shown.action, shown.mask)
    chosen, rejected = pick(features, best)[:, 0], pick(features, worst)[:, 0]
    drawn = features[:, 0]  # of the reference policy, whatever its gold
    score = jnp.arange(2 * count) < count
    told_apart, _ = fit_ensemble(
        jnp.concatenate([chosen, drawn]), discriminator_batch(score), keys[5], config=config.reward,
        loss=binary_cross_entropy,
    )  # fmt: skip
    compared, _ = fit_ensemble(
        jnp.stack([chosen, rejected], axis=1), Preference.without_tokens(jnp.ones(count)), keys[6],
        config=config.reward,
    )  # fmt: skip
    new = embed(task, context, group.action, group.mask)
    return {
        DENSE: token.sum(-1),
        LIKELIHOOD: jnp.where(group.mask, logp, 0.0).sum(-1),
        TOLD_APART: told_apart(new).mean(0),
        COMPARED: compared(new).mean(0),
        "token": token,
        "gold": group.reward,
        "earned": earned(task, group),
        "mask": group.mask,
    }


def of_tokens(token: np.ndarray, worth: np.ndarray, mask: np.ndarray) -> float:
    """Spearman's correlation of token rewards with what tokens earned, mean over completions."""
    rows = [
        spearman(token[at][mask[at]], worth[at][mask[at]])
        for at in np.ndindex(mask.shape[:2])
        if mask[at].sum() > 2 and np.ptp(worth[at][mask[at]]) > 0
    ]
    return float(np.mean(rows))


def one_seed(config: Config, seed: int) -> dict[str, np.ndarray]:
    """Measures f64[methods, counts, 3] and the order of tokens f64[counts] in one world."""
    task = make_task(config.sandbox, seed)
    found: list[list[list[float]]] = []
    tokens = []
    for number, count in enumerate(config.demonstrations):
        key = jax.random.fold_in(jax.random.key(seed), number)
        got = jax.device_get(learn(task, key, config=config, count=count))
        quality = partial(ranking_measures, gold=got["gold"], best_of=config.completions)
        by_method = [quality(got[method]) for method in METHODS]
        found.append([[values[name] for name in MEASURES] for values in by_method])
        tokens.append(of_tokens(got["token"], got["earned"], got["mask"]))
    return {"measures": np.array(found).transpose(1, 0, 2), "tokens": np.array(tokens)}


def main(config: Config) -> None:
    """Runs the experiment, goes on with it, or reports what is there."""
    if not config.demonstrations or min(config.demonstrations) < 2:
        raise InputError(f"demonstrations: expected 2 or more, got {config.demonstrations}")
    if config.seeds < 2:
        raise InputError(f"seeds: an interval needs 2 or more, got {config.seeds}")
    launch(config, partial(experiment, config), conclusion)


def experiment(config: Config, run: RunDirectory, progress: Progress) -> None:
    """Runs every world, and reports."""
    clock = Clock(run.path / "seconds.json")
    advance = progress.stage("worlds", config.seeds)
    worlds = []
    with clock("worlds"):
        for seed in range(config.seeds):
            worlds.append(kept(run, f"world_{seed}", partial(one_seed, config, seed)))
            advance(seed + 1, {})
    measures = np.stack([world["measures"] for world in worlds])  # [S, methods, counts, 3]
    tokens = np.stack([world["tokens"] for world in worlds])
    summary = as_json(summarise(config, measures, tokens) | {"seconds": clock.seconds})
    write_report(run, summary)
    run.finish(summary)


def summarise(config: Config, measures: np.ndarray, tokens: np.ndarray) -> dict[str, Any]:
    """Means over worlds with their intervals.

    `against` is the dense reward less the others, `corrected` the p of these differences by
    Holm's procedure.
    """
    counts = range(len(config.demonstrations))
    table_of = lambda i, m: [t_interval(measures[:, i, c, m]) for c in counts]
    less = {
        method: [measures[:, 0, c, 1] - measures[:, i, c, 1] for c in counts]
        for i, method in enumerate(METHODS)
        if i
    }
    p = adjusted({f"{m} {c}": x for m, of_counts in less.items() for c, x in enumerate(of_counts)})
    return {
        "demonstrations": config.demonstrations,
        "measures": {
            name: {method: table_of(i, m) for i, method in enumerate(METHODS)}
            for m, name in enumerate(MEASURES)
        },
        "against": {
            method: [t_interval(x) for x in of_counts] for method, of_counts in less.items()
        },
        "corrected": {method: [p[f"{method} {c}"] for c in counts] for method in less},
        TOKENS: [t_interval(tokens[:, c]) for c in counts],
    }
