"""LoRAs from pairs: what the stages are set by, and policies by DPO and GRPO."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import jax
from jax import Array

from irl_jax.data.batches import collate_preferences
from irl_jax.data.feeds import make_feed
from irl_jax.dynamics.advantages import group_advantages
from irl_jax.losses.direct import dpo
from irl_jax.losses.link import logistic, smooth
from irl_jax.losses.policy import grpo
from irl_jax.masking import check_range
from irl_jax.recipes.examples import Examples
from irl_jax.recipes.policy_training import POLICY, Training, Updates, align
from irl_jax.recipes.training import Schedule, fit
from irl_jax.train.keys import Stage
from irl_jax.train.methods import policy_gradient
from irl_jax.train.objectives import direct_objective
from irl_jax.train.progress import Progress
from irl_jax.train.run import RunDirectory
from irl_jax.train.state import TrainState
from irl_jax.types import InputError, Objective, PyTree, Reward

REWARD = "reward"  # stage, and its directory of checkpoints
MOST_EPOCHS = 1e6  # beyond which updates are not counted any more


@dataclass(frozen=True)
class MembersConfig:
    """How many reward models there are, and how they come to one reward."""

    members: int = 1  # LoRAs with heads, each from a start of its own, all on the same batches
    aggregate: Literal["mean", "lower_bound", "worst_case"] = "mean"  # one reward of the members'
    deviations: float = 1.0  # of the members, by which lower_bound is below their mean

    def __post_init__(self) -> None:
        check_range("members", self.members, 1)
        check_range("deviations", self.deviations, 0.0)
        if self.aggregate != "mean" and self.members == 1:
            raise InputError(
                f"aggregate: {self.aggregate} is of several members; give --members 2 or more"
            )


@dataclass(frozen=True)
class RewardConfig:
    """Bradley-Terry reward model: a LoRA and a scalar head, or an ensemble of them."""

    lr: float = 1e-4  # peak learning rate of Adam; 10 % warm-up, cosine decay to 0
    epochs: float = 1.0  # passes over the pairs
    batch_size: int = 16  # pairs of an update
    label_smoothing: float = 0.0  # probability that a label is taken to be flipped
    centering: float = 0.01  # weight of (r_chosen + r_rejected)², which keeps rewards near 0
    margin: float = 0.0  # factor of the data's margins (score differences); 0 leaves them out
    members: int = 1  # LoRAs with heads, each from a start of its own, all on the same batches
    aggregate: Literal["mean", "lower_bound", "worst_case"] = "mean"  # one reward of the members'
    deviations: float = 1.0  # of the members, by which lower_bound is below their mean
    regulariser: float = 0.0  # share of a text loss of the same pairs; 0 leaves it out
    text: Literal["sft", "dpo"] = "sft"  # that loss: chosen likelihood, or DPO without a reference
    text_beta: float = 0.1  # factor of log-probs in that loss, reward a nat

    def __post_init__(self) -> None:
        check_range("reward.lr", self.lr, 0.0, exclusive=True)
        check_range("reward.epochs", self.epochs, 0.0, MOST_EPOCHS, exclusive=True)
        check_range("reward.batch_size", self.batch_size, 1)
        check_range("reward.label_smoothing", self.label_smoothing, 0.0, 0.5)
        check_range("reward.centering", self.centering, 0.0)
        check_range("reward.margin", self.margin, 0.0)
        check_range("reward.members", self.members, 1)
        check_range("reward.deviations", self.deviations, 0.0)
        check_range("reward.regulariser", self.regulariser, 0.0, 1.0)
        check_range("reward.text_beta", self.text_beta, 0.0, exclusive=True)
        if self.aggregate != "mean" and self.members == 1:
            raise InputError(
                f"reward.aggregate: {self.aggregate} is of several members; give "
                "--reward.members 2 or more"
            )


@dataclass(frozen=True)
class DpoConfig:
    """Direct preference optimisation."""

    beta: float = 0.1  # strength of the implied KL penalty, reward a nat
    lr: float = 1e-4  # peak learning rate of Adam; 10 % warm-up, cosine decay to 0
    epochs: float = 1.0  # passes over the pairs
    batch_size: int = 16  # pairs of an update
    label_smoothing: float = 0.0  # probability that a label is taken to be flipped
    margin: float = 0.0  # factor of the data's margins (score differences); 0 leaves them out

    def __post_init__(self) -> None:
        check_range("dpo.beta", self.beta, 0.0, exclusive=True)
        check_range("dpo.lr", self.lr, 0.0, exclusive=True)
        check_range("dpo.epochs", self.epochs, 0.0, MOST_EPOCHS, exclusive=True)
        check_range("dpo.batch_size", self.batch_size, 1)
        check_range("dpo.label_smoothing", self.label_smoothing, 0.0, 0.5)
        check_range("dpo.margin", self.margin, 0.0)


@dataclass(frozen=True)
class GrpoConfig:
    """Group relative policy optimisation against the learned reward."""

    steps: int = 200  # updates of the policy
    prompts: int = 8  # prompts of an update
    completions: int = 8  # completions of each prompt
    lr: float = 1e-4  # peak learning rate of Adam; 10 % warm-up, cosine decay to 0
    beta: float = 0.04  # weight of the KL penalty to the model, reward a nat
    clip: float = 0.2  # clip range of the importance ratio

    def __post_init__(self) -> None:
        check_range("grpo.steps", self.steps, 1)
        check_range("grpo.prompts", self.prompts, 1)
        check_range("grpo.completions", self.completions, 2)
        check_range("grpo.lr", self.lr, 0.0, exclusive=True)
        check_range("grpo.beta", self.beta, 0.0)
        check_range("grpo.clip", self.clip, 0.0, 1.0, exclusive=True)


def align_offline(
    training: Training, pairs: Examples, config: DpoConfig, run: RunDirectory, progress: Progress
) -> TrainState:
    """A policy, a LoRA, by DPO on the pairs."""
    model = training.session.model
    lora_key, key = jax.random.split(training.key(Stage.POLICY))
    loss = partial(dpo, beta=config.beta, link=smooth(logistic, config.label_smoothing))
    objective = direct_objective(model.config, training.adapt, loss)
    adapter = training.lora.init(lora_key, model.params)
    return fit_pairs(training, pairs, config, objective, adapter, key, run, progress, POLICY)


def align_online(
    training: Training,
    pairs: Examples,
    config: GrpoConfig,
    reward: Reward,
    run: RunDirectory,
    progress: Progress,
) -> TrainState:
    """A policy, a LoRA, by GRPO on the prompts of the pairs.

    Args:
        training: session, LoRA.
        pairs: whose prompts are answered.
        config: of GRPO.
        reward: as `irl_jax.train.online.train_online` takes it.
        run: takes metrics and checkpoints.
        progress: shows the loop.
    """
    loss = partial(grpo, beta=config.beta, clip=config.clip)
    updates = Updates(
        policy_gradient(loss, group_advantages, training.session.sampling),
        reference=True,
        steps=config.steps,
        prompts=config.prompts,
        completions=config.completions,
        lr=config.lr,
    )
    return align(training, updates, pairs.train_prompts, reward, run, progress)


def fit_pairs(
    training: Training,
    pairs: Examples,
    config: RewardConfig | DpoConfig,
    objective: Objective,
    params: PyTree,
    key: Array,
    run: RunDirectory,
    progress: Progress,
    stage: str,
    *,
    members: int = 1,
) -> TrainState:
    """Trains on batches of the training pairs; several `members` on a leading axis of `params`."""
    model = training.session.model
    pad_id = model.tokenizer.pad_id
    feed = make_feed(
        [replace(pair, margin=config.margin * pair.margin) for pair in pairs.train],
        partial(collate_preferences, pad_id=pad_id),
        batch_size=config.batch_size,
        shapes=pairs.shapes,
        seed=training.seed,
    )
    schedule = Schedule(max(1, round(config.epochs * feed.batches_per_epoch)), config.lr)
    return fit(
        training, feed, objective, params, key, schedule, run, progress, stage, members=members
    )
