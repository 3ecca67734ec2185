"""`irl-jax reward`: a reward model by any published loss, by its name, or by a loss of your own.

A loss says what it learns from: pairs, ratings, rankings, or the steps of answers. The file of
`--data.path` holds lines of that kind; prompts that are held out measure the reward. `irl-jax
align --reward RUN` trains a policy for it, `irl-jax score --model RUN` says how far to trust it.

Examples:
    irl-jax reward --loss thurstone --data.path prefs.jsonl --model DIR

    irl-jax reward --loss ordinal --data.path stars.jsonl --ensemble.members 4

`irl-jax losses` lists the losses, what each learns from, and its hyper-parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import numpy as np
from jax import Array

from irl_jax.eval.intervals import Interval
from irl_jax.eval.ranking import auc, pair_accuracy, pooled, spearman
from irl_jax.files import as_json
from irl_jax.losses.table import Published
from irl_jax.models.mesh import fetch
from irl_jax.recipes.examples import Examples, prompt_ids
from irl_jax.recipes.forms import init_reward, reward_objective
from irl_jax.recipes.launch import Clock
from irl_jax.recipes.options import as_options
from irl_jax.recipes.policy_training import Training
from irl_jax.recipes.preference_reward import RewardModel
from irl_jax.recipes.preference_training import REWARD
from irl_jax.recipes.reward_config import RewardConfig
from irl_jax.recipes.reward_report import conclusion, write_report
from irl_jax.recipes.training import (
    Schedule,
    check_traces,
    data_feed,
    fit,
    held_out_losses,
    launch_loss,
    open_model,
)
from irl_jax.rollout.session import chunks, width_of
from irl_jax.train.keys import Stage
from irl_jax.train.members import init_members
from irl_jax.train.progress import Progress
from irl_jax.train.run import RunDirectory
from irl_jax.train.state import TrainState
from irl_jax.types import InputError, Objective, PyTree


@dataclass(frozen=True)
class Ready:
    """What was read and checked before a run writes anything.

    Attributes:
        row: of the loss.
        training: session, LoRA.
        examples: of the data.
    """

    row: Published
    training: Training
    examples: Examples


def main(config: RewardConfig) -> None:
    """Trains a reward model, goes on with it, or reports what is there.

    Raises:
        InputError: whatever there is to fix in the data, the model or the flags.
    """
    launch_loss(config, "reward", prepare, experiment, conclusion)


def prepare(config: RewardConfig, row: Published, sha256: str, progress: Progress) -> Ready:
    """Reads data and model, checks that they fit, and places the model on the devices.

    Args:
        config: of the run.
        row: of its loss.
        sha256: of the data's content.
        progress: shows how long a tiny model takes to make.

    Raises:
        InputError: whatever there is to fix in the data, the model or the flags.
    """
    opened = open_model(config, row, progress, sha256=sha256)
    examples = opened.examples
    if row.form == "cutpoints" and categories(examples) < 2:
        raise InputError(f"{config.data.path}: every `score` is 0; give categories 0, 1, ...")
    width = width_of(examples.train_prompts, examples.held_out_prompts)
    ready = Ready(row, opened.training(config, width=width), examples)
    params = jax.eval_shape(partial(start, ready), jax.random.key(0))
    check_traces(ready.training, examples, objective_of(config, ready), params, config.batch_size)
    return ready


def categories(examples: Examples) -> int:
    """How many categories ratings have, 0 to the highest that occurs."""
    return int(max(item.score for item in (*examples.train, *examples.held_out))) + 1


def objective_of(config: RewardConfig, ready: Ready) -> Objective:
    """The objective of one member."""
    shape = ready.training.session.model.config
    return reward_objective(ready.row, as_options(config.options), shape, ready.training.adapt)


def start(ready: Ready, key: Array) -> PyTree:
    """A member before its first update."""
    model = ready.training.session.model
    lora_key, head_key = jax.random.split(key)
    count = categories(ready.examples) if ready.row.form == "cutpoints" else 0
    heads = init_reward(ready.row, head_key, model.config.d_model, count)
    return {"decoder": ready.training.lora.init(lora_key, model.params), **heads}


def members_start(config: RewardConfig, ready: Ready) -> PyTree:
    """All members before their first update; a leading axis where there are several."""
    key = jax.random.split(ready.training.key(Stage.REWARD))[0]
    members = config.ensemble.members
    own = partial(start, ready)
    return own(key) if members == 1 else init_members(own, key, members)


def train(config: RewardConfig, ready: Ready, run: RunDirectory, progress: Progress) -> TrainState:
    """Trains the reward model, or all members of an ensemble."""
    feed = data_feed(ready.training, ready.examples, config.batch_size)
    schedule = Schedule(config.updates(feed.batches_per_epoch), config.lr)
    key = jax.random.split(ready.training.key(Stage.REWARD))[1]
    return fit(
        ready.training, feed, objective_of(config, ready), members_start(config, ready), key,
        schedule, run, progress, REWARD, members=config.ensemble.members,
    )  # fmt: skip


def experiment(
    config: RewardConfig, ready: Ready, run: RunDirectory, progress: Progress
) -> dict[str, Any]:
    """Trains, measures, reports; returns the summary."""
    clock = Clock(run.path / "seconds.json")
    training, examples = ready.training, ready.examples
    with clock("train"):
        state = train(config, ready, run, progress)
    with clock("measure"):
        first = lambda params: params
        if config.ensemble.members > 1:
            first = lambda params: jax.tree.map(lambda x: x[0], params)
        trained = {"before": first(members_start(config, ready)), "after": first(state.params)}
        metrics = held_out_losses(
            training, examples, objective_of(config, ready), trained, config.evaluation.batch_size
        )
        learned = RewardModel(training, config.ensemble, state.params)
        quality = measure(learned, examples, config.evaluation.batch_size, progress)
    summary = as_json(
        {
            "loss": config.loss,
            "kind": examples.kind.name,
            "updates": int(state.step),
            "examples": len(examples.train),
            "held_out_examples": len(examples.held_out),
            "held_out_prompts": len(examples.held_out_prompts),
            "left_out": {why: count for why, count in examples.left_out.items() if count},
            "held_out": metrics,
            "quality": quality,
            "seconds": clock.seconds,
            "report": run.report,
        }
    )
    if jax.process_index() == 0:
        write_report(run, summary)
    run.finish(summary)
    return summary


def measure(
    learned: RewardModel, examples: Examples, batch_size: int, progress: Progress
) -> dict[str, Interval]:
    """How well the reward orders held-out completions, with intervals over prompts.

    Args:
        learned: the reward.
        examples: whose held-out side is measured.
        batch_size: examples at a time.
        progress: shows how many are done.

    Returns:
        Of pairs and rankings `accuracy`, the share of pairs in order, and `longer_accuracy`,
        that of a reader who likes long responses. Of ratings `spearman` with the scores, and
        `auc` where they are 0 and 1. Of steps nothing: their rewards are not of completions.
    """
    kind = examples.kind.name
    if kind == "steps":
        return {}
    rewards = score(learned, examples, batch_size, progress)
    prompts = [repr(prompt_ids(item)) for item in examples.held_out]
    clusters = np.unique(prompts, return_inverse=True)[1]
    if kind == "ratings":
        scores = np.array([item.score for item in examples.held_out])
        if np.ptp(scores) == 0:
            return {}
        found = {"spearman": pooled(spearman, rewards[:, 0], scores, clusters)}
        if set(scores) == {0.0, 1.0}:
            found["auc"] = pooled(auc, rewards[:, 0], scores, clusters)
        return found
    lengths = [[len(ids) for ids in completions_of(item)] for item in examples.held_out]
    order, rows = [], []
    for n, own in enumerate(lengths):
        for i in range(len(own)):
            for j in range(i + 1, len(own)):
                order.append([[rewards[n, i], rewards[n, j]], [own[i], own[j]]])
                rows.append(n)
    by = np.array(order, np.float64)
    weights = [examples.held_out[n].weight for n in rows]
    return {
        name: pair_accuracy(by[:, column], weights, clusters[rows])
        for column, name in enumerate(("accuracy", "longer_accuracy"))
    }


def completions_of(item: Any) -> Sequence[list[int]]:
    """The completions of a pair or a ranking, the best first."""
    return getattr(item, "completions", None) or (item.chosen, item.rejected)


def score(
    learned: RewardModel, examples: Examples, batch_size: int, progress: Progress
) -> np.ndarray:
    """Rewards of the held-out completions, f64[N, K]."""
    session = learned.training.session
    collate = partial(examples.kind.collate, pad_id=session.model.tokenizer.pad_id)
    advance, found, done = progress.stage("held-out examples", len(examples.held_out)), [], 0
    for count, rows in chunks(examples.held_out, batch_size):
        batch = collate(rows, examples.shapes[-1])
        if batch.action.ndim == 2:  # a completion a row
            batch = replace(batch, action=batch.action[:, None], mask=batch.mask[:, None])
        found.append(fetch(learned(batch))[:count])
        done += count
        advance(done, {})
    return np.concatenate(found).astype(np.float64)
