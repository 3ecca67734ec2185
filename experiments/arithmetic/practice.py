"""Small models practise chains of sums: for a reward at the end, or after a teacher.

One loop (`irl_jax.train.online`) for both: solutions are sampled, and what is learned from them is
whether the answer is right (GRPO), or what a teacher would have written at each token.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from experiments.arithmetic.chain_sums import (
    EOS,
    Question,
    decode,
    encode,
    prompts,
    solve,
    train_policy,
)
from irl_jax.dynamics.advantages import group_advantages
from irl_jax.losses.distillation import gkd
from irl_jax.losses.policy import grpo
from irl_jax.losses.reduction import token_mean
from irl_jax.models.decoder import DecoderConfig
from irl_jax.models.logprob import completion_divergence
from irl_jax.rewards.contract import of_group
from irl_jax.rollout.generate import generate
from irl_jax.rollout.sampling import Sampling
from irl_jax.train.objectives import PolicyBatch, PolicyLoss, full, policy_objective
from irl_jax.train.online import train_online
from irl_jax.train.progress import Progress
from irl_jax.train.state import init_state
from irl_jax.train.step import Step, make_train_step
from irl_jax.types import Group, Loss, Objective, Prompt, PyTree

SAMPLING = Sampling(temperature=1.0)
GRPO = partial(grpo, clip=0.2)


@dataclass(frozen=True)
class Model:
    """A decoder.

    Attributes:
        config: its shape.
        params: its parameters.
    """

    config: DecoderConfig
    params: PyTree


@dataclass(frozen=True)
class Practice:
    """How a model practises.

    Attributes:
        prompts: questions of a batch.
        completions: solutions of each.
        width: tokens of a question, at most.
        tokens: of a solution, at most.
        lr: peak learning rate of Adam; 10 % warm-up, cosine decay to 0.
        steps: batches, each with one update.
    """

    prompts: int
    completions: int
    width: int
    tokens: int
    lr: float
    steps: int

    @property
    def optimizer(self) -> optax.GradientTransformation:
        """Of one run."""
        schedule = optax.warmup_cosine_decay_schedule(
            0.0, self.lr, max(1, self.steps // 10), max(2, self.steps)
        )
        return optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule, b2=0.95))

    def sample(self, config: DecoderConfig, params: PyTree, batch: Prompt, key: Array) -> Group:
        """Solutions of a batch of questions."""
        return generate(
            config, params, batch, key,
            completions=self.completions, max_new_tokens=self.tokens, sampling=SAMPLING,
            eos_ids=(EOS,),
        )  # fmt: skip

    def accuracy(
        self, model: Model, asked: Sequence[Question], *, attempts: int, seed: int
    ) -> float:
        """The share of attempts at each of some questions that end with the right answer."""
        key = jax.random.fold_in(jax.random.key(seed), 7)
        judged = replace(self, completions=attempts)
        group = judged.sample(model.config, model.params, prompts(asked, self.width), key)
        return float(right_answers(group).mean())

    def batches(self, asked: Sequence[Question], seed: int) -> Iterator[Prompt]:
        """Batches of at least `prompts` questions, in an order of their own each time round."""
        rng = np.random.default_rng([seed, 1])
        while True:
            order = rng.permutation(len(asked))
            for start in range(0, len(order) - self.prompts + 1, self.prompts):
                yield prompts([asked[i] for i in order[start : start + self.prompts]], self.width)


def shown(
    config: DecoderConfig,
    lessons: Sequence[tuple[str, str]],
    *,
    steps: int,
    batch_size: int,
    seed: int,
    progress: Progress,
) -> Model:
    """A new model that was shown worked solutions.

    Args:
        config: its shape.
        lessons: what is given, and what a model should write after it.
        steps: updates.
        batch_size: lessons an update.
        seed: of the parameters and of the order.
        progress: shows the updates.
    """
    ids = [(encode(given), [*encode(wanted), EOS]) for given, wanted in lessons]
    params = train_policy(
        config, ids, steps=steps, batch_size=batch_size, lr=5e-3, seed=seed, progress=progress
    )
    return Model(config, jax.tree.map(jnp.asarray, params))


def right_answers(group: Group) -> Array:
    """1 where a solution ends with the right answer, f32[B, K].

    A prompt is a question, and the beginning of a solution may follow.
    """
    action, mask, ended = map(np.asarray, (group.action, group.mask, group.terminated))
    right = np.zeros(ended.shape, np.float32)
    for row, context in enumerate(np.asarray(group.context.tokens).tolist()):
        question, given = decode(context).split("=", 1)
        answer = solve(question).answer
        for k in range(ended.shape[1]):
            solution = given + decode(action[row, k][mask[row, k]].tolist())
            right[row, k] = ended[row, k] and solution.split("\n")[-1] == answer
    return jnp.asarray(right)


def reinforced(
    model: Model,
    batches: Iterator[Prompt],
    practice: Practice,
    *,
    seed: int,
    progress: Progress,
    stage: str,
    choose: Callable[[Group], Group] = lambda group: group,
    loss: PolicyLoss = GRPO,
    lag: int = 0,
) -> Model:
    """A model after a policy gradient on whether its answers are right.

    Args:
        model: where it begins.
        batches: of questions.
        practice: sizes.
        seed: of the solutions.
        progress: shows the updates.
        stage: name beside the bar.
        choose: takes of each batch with its reward what is learned from.
        loss: what is learned; the same object again needs no new compilation.
        lag: updates by which the model that writes the solutions is older than the one that learns.
    """

    def prepare(group: Group) -> PolicyBatch:
        group = choose(group)
        return PolicyBatch(group, group_advantages(group.reward))

    return _practised(
        model, batches, practice, compiled(rewarded(loss), practice, model.config),
        rollout=delayed(partial(practice.sample, model.config), lag), prepare=prepare, frozen=None,
        seed=seed, progress=progress, stage=stage,
    )  # fmt: skip


def delayed(rollout: Callable[[PyTree, PyTree, Array], Group], lag: int) -> Callable[..., Group]:
    """A rollout by the parameters that it was given so many calls ago, or by the first ones."""
    if lag == 0:
        return rollout
    kept: deque[PyTree] = deque(maxlen=lag + 1)

    def stale(params: PyTree, batch: PyTree, key: Array) -> Group:
        kept.append(jax.tree.map(jnp.array, params))  # a copy: the step donates its state
        return rollout(kept[0], batch, key)

    return stale


def distilled(
    model: Model,
    teacher: Model,
    batches: Iterator[Prompt],
    practice: Practice,
    *,
    on_policy: bool,
    seed: int,
    progress: Progress,
    stage: str,
) -> Model:
    """A model after it was told of each token how a teacher would have gone on.

    Args:
        model: where it begins.
        teacher: reads the same tokens.
        batches: of questions.
        practice: sizes.
        on_policy: KL(policy‖teacher) at the model's own tokens; else KL(teacher‖policy) at the
            teacher's.
        seed: of the solutions.
        progress: shows the updates.
        stage: name beside the bar.
    """
    objective = taught_on_policy if on_policy else taught
    own = partial(practice.sample, model.config)
    theirs = lambda params, batch, key: practice.sample(teacher.config, teacher.params, batch, key)
    return _practised(
        model, batches, practice, compiled(objective, practice, model.config, teacher.config),
        rollout=own if on_policy else theirs, prepare=lambda group: group,
        frozen=teacher.params, seed=seed, progress=progress, stage=stage,
    )  # fmt: skip


def _practised(
    model: Model,
    batches: Iterator[Prompt],
    practice: Practice,
    step: Step,
    *,
    rollout: Callable[[PyTree, PyTree, Array], Group],
    prepare: Callable[[Group], Any],
    frozen: PyTree,
    seed: int,
    progress: Progress,
    stage: str,
) -> Model:
    own = jax.tree.map(jnp.array, model.params)  # a copy: the step donates its state
    state = train_online(
        step,
        init_state(own, practice.optimizer, jax.random.key(seed)),
        batches,
        rollout=rollout,
        reward=of_group(right_answers),
        steps=practice.steps,
        prepare=of_group(prepare),
        frozen=(frozen,),
        progress=progress,
        stage=stage,
    )
    return Model(model.config, state.params)


@cache
def compiled(
    objective: Callable[..., Objective], practice: Practice, *shapes: DecoderConfig
) -> Step:
    """The update of an objective of decoders of these shapes, compiled once."""
    step = make_train_step(objective(*shapes), practice.optimizer)
    return jax.jit(step, donate_argnums=0)


@cache
def rewarded(loss: PolicyLoss) -> Callable[[DecoderConfig], Objective]:
    """Shape -> a policy gradient, `(params, batch: PolicyBatch, key, None) -> Loss`."""
    return lambda config: policy_objective(config, full, loss, sampling=SAMPLING)


def taught(config: DecoderConfig, teacher: DecoderConfig, beta: float = 0.0) -> Objective:
    """The mean of KL(teacher‖policy) over tokens, `(params, batch: Group, key, teacher) -> Loss`.

    Args:
        config: shape of the policy.
        teacher: shape of the teacher.
        beta: as in `losses.distillation.generalised_jsd`.
    """

    def objective(params: PyTree, batch: Group, key: Array, teacher_params: PyTree) -> Loss:
        divergence = completion_divergence(
            config, params, teacher_params, batch.context, batch.action,
            beta=beta, teacher_config=teacher,
        )  # fmt: skip
        return gkd(divergence, batch, aggregate=token_mean)

    return objective


taught_on_policy = partial(taught, beta=1.0)


def flops_per_token(config: DecoderConfig) -> int:
    """Of a forward pass, 2 for each weight of its matmuls; attention over so few is left out."""
    heads = (config.n_heads + config.n_kv_heads) * config.head_dim
    layer = 2 * config.d_model * heads + 3 * config.d_model * config.d_ff
    return 2 * (config.n_layers * layer + config.d_model * config.vocab_size)
