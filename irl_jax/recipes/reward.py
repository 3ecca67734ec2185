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

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from irl_jax.files import as_json
from irl_jax.losses.table import Published
from irl_jax.recipes.card import reward_card
from irl_jax.recipes.examples import Examples
from irl_jax.recipes.export import check_export, export_reward, exported_files
from irl_jax.recipes.forms import init_reward, reward_objective
from irl_jax.recipes.launch import Clock
from irl_jax.recipes.options import as_options
from irl_jax.recipes.policy_training import Training
from irl_jax.recipes.quality import ORDERED, audit, quality, score, spread
from irl_jax.recipes.reward_config import RewardConfig
from irl_jax.recipes.reward_model import REWARD, RewardModel, aggregate
from irl_jax.recipes.reward_report import conclusion, write_report
from irl_jax.recipes.training import (
    Schedule,
    check_traces,
    counts,
    data_feed,
    fit,
    held_out_losses,
    launch_loss,
    open_model,
    with_margins,
)
from irl_jax.rollout.session import width_of
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
    opened = open_model(config, row, (config,), progress, sha256=sha256)
    width = width_of(opened.examples.train_prompts, opened.examples.held_out_prompts)
    return make_ready(config, row, opened.training(config, width=width), opened.examples)


def make_ready(
    config: RewardConfig, row: Published, training: Training, examples: Examples
) -> Ready:
    """What `learn` takes, checked.

    Args:
        config: of the reward.
        row: of its loss.
        training: session, LoRA.
        examples: of the data.

    Raises:
        InputError: data that the loss cannot learn from, a hyper-parameter out of its range.
    """
    check_export(config, training.session.model)
    examples = with_margins(examples, config.margin)
    ready = Ready(row, training, examples)
    if row.form == "cutpoints" and categories(examples) < 2:
        raise InputError(f"{config.data.path}: every `score` is 0; give categories 0, 1, ...")
    params = jax.eval_shape(partial(start, ready), jax.random.key(0))
    check_traces(training, examples, objective_of(config, ready), params, config.batch_size)
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


def learn(
    config: RewardConfig, ready: Ready, run: RunDirectory, progress: Progress, clock: Clock
) -> tuple[RewardModel, dict[str, Any]]:
    """Trains and measures a reward model; returns it, and what is known of it."""
    training, examples = ready.training, ready.examples
    with clock("train the reward"):
        state = train(config, ready, run, progress)
    learned = RewardModel(training, config.ensemble, state.params)
    with clock("measure the reward"):
        first = lambda params: params
        if config.ensemble.members > 1:
            first = lambda params: jax.tree.map(lambda x: x[0], params)
        trained = {"before": first(members_start(config, ready)), "after": first(state.params)}
        losses = held_out_losses(
            training, examples, objective_of(config, ready), trained, config.evaluation.batch_size
        )
        order = measure(
            learned, examples, config.evaluation.batch_size, progress, log_odds=ready.row.log_odds
        )
    return learned, {
        "loss": config.loss,
        "updates": int(state.step),
        **counts(examples),
        "held_out": losses,
        **order,
    }


def experiment(
    config: RewardConfig, ready: Ready, run: RunDirectory, progress: Progress
) -> dict[str, Any]:
    """Trains, measures, exports, reports; returns the summary."""
    clock = Clock(run.path / "seconds.json")
    learned, found = learn(config, ready, run, progress, clock)
    if ready.examples.kind.name in ORDERED:  # a reward of steps is no reward of a text
        with clock("export"):
            exported = export_reward(
                replace(config, run_dir=run.path), learned, log_odds=ready.row.log_odds,
                card=partial(reward_card, config, RewardConfig(), run.config, found),
            )  # fmt: skip
        found |= {"export": exported, "exported": exported_files(exported)}
    summary = as_json({**found, "seconds": clock.seconds, "report": run.report})
    if jax.process_index() == 0:
        write_report(run, summary)
    run.finish(summary)
    return summary


def measure(
    learned: RewardModel, examples: Examples, batch_size: int, progress: Progress, *, log_odds: bool
) -> dict[str, Any]:
    """How well a reward model orders held-out completions.

    Args:
        learned: the reward.
        examples: whose held-out side is measured.
        batch_size: examples at a time.
        progress: shows how many are done.
        log_odds: whether a difference of two rewards is the log-odds of a preference.

    Returns:
        `quality`, as the function of that name; empty of steps, whose rewards are not of
        completions. `audit`, as the function of that name. `members`, None of a single one:
        `quality` of each alone and, of pairs, their `spread`.
    """
    if examples.kind.name not in ORDERED:
        return {"quality": {}, "audit": None, "members": None}
    by_member = score(
        learned.training.session,
        examples,
        lambda batch: jnp.moveaxis(learned.members(batch), 0, 1),
        batch_size=batch_size,
        advance=progress.stage("held-out examples", len(examples.held_out)),
    )
    judged = aggregate(jnp.asarray(by_member.swapaxes(0, 1)), learned.config)
    members = None
    if learned.config.members > 1:
        alone = [quality(examples, by_member[:, m]) for m in range(by_member.shape[1])]
        apart = spread(examples, by_member) if examples.kind.name == "pairs" else None
        members = {"quality": alone, "spread": apart}
    rewards = np.asarray(judged, np.float64)
    return {
        "quality": quality(examples, rewards),
        "audit": audit(examples, rewards, log_odds=log_odds),
        "members": members,
    }
