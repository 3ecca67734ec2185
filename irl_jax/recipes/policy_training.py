"""What a run needs to train a policy: a LoRA or every weight, updates."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import jax
import optax
from jax import Array

from irl_jax.data.encode import EncodedPrompt
from irl_jax.data.feeds import make_feed
from irl_jax.masking import check_range
from irl_jax.models.lora import init_lora, merge
from irl_jax.models.sharding import RULES, stacked
from irl_jax.rollout.session import Session
from irl_jax.train.checkpoint import Checkpointer
from irl_jax.train.keys import Stage, stage_key
from irl_jax.train.loop import Evaluation
from irl_jax.train.members import for_members, per_member
from irl_jax.train.methods import Method, rollout_of
from irl_jax.train.objectives import (
    Adapt,
    full,
    lora,
)
from irl_jax.train.online import train_online
from irl_jax.train.progress import Progress
from irl_jax.train.run import RunDirectory
from irl_jax.train.shard import jit_step, place
from irl_jax.train.state import TrainState, init_state
from irl_jax.train.step import Step, make_train_step, minibatch_epochs
from irl_jax.types import Group, InputError, LoopContext, Objective, PyTree, Reward

POLICY = "policy"  # stage, and its directory of checkpoints


@dataclass(frozen=True)
class LoraConfig:
    """The LoRA that is trained on the model, for the reward as for the policy."""

    rank: int = 16  # of A and B
    alpha: float = 32.0  # scale of A·B times the rank
    targets: str = "attn|mlp"  # regular expression of the kernels; these are all of a layer's

    def __post_init__(self) -> None:
        check_range("lora.alpha", self.alpha, 0.0, exclusive=True)
        try:
            re.compile(self.targets)
        except re.error as error:
            raise InputError(f"lora.targets: {self.targets!r}: {error}; fix it") from error

    @property
    def scale(self) -> float:
        """Factor of A·B."""
        return self.alpha / self.rank

    def init(self, key: Array, params: PyTree) -> PyTree:
        """A LoRA on a decoder's parameters that changes nothing yet."""
        return init_lora(key, params, self.rank, self.targets)

    def check(self, params: PyTree) -> None:
        """Raises `InputError` unless the LoRA fits a decoder's parameters."""
        jax.eval_shape(self.init, jax.random.key(0), params)


@dataclass(frozen=True)
class Training:
    """What every stage of a training trains with.

    Attributes:
        session: the model on its mesh; its parameters are never changed, unless `align` was
            told to need no reference.
        lora: the LoRA of each stage.
        seed: of everything random.
        accumulate: micro-batches of an update.
        save_every: updates between checkpoints.
        train: the LoRA, or every weight of the policy.
    """

    session: Session
    lora: LoraConfig
    seed: int
    accumulate: int = 1
    save_every: int = 50
    train: Literal["lora", "full"] = "lora"

    @property
    def adapt(self) -> Adapt:
        """How what is trained becomes a decoder."""
        return full if self.train == "full" else lora(self.lora.scale)

    def key(self, stage: Stage) -> Array:
        """The typed PRNG key of a stage."""
        return stage_key(self.seed, stage)

    def merged(self, params: PyTree) -> PyTree:
        """The parameters of a decoder: what is trained, or the LoRA inside the kernels."""
        if self.train == "full":
            return params
        return _merge(self.session.model.params, params, self.lora.scale)


@jax.jit
def _merge(params: PyTree, adapter: PyTree, scale: float) -> PyTree:
    return merge(params, adapter, scale)


@dataclass(frozen=True)
class Updates:
    """How a policy learns from its completions.

    Attributes:
        method: objective, and what makes its batch of rewarded completions; its strength is
            not read.
        reference: whether that takes log-probs under the reference.
        steps: rollouts.
        prompts: of a rollout.
        completions: of each prompt, with those that are sampled beside the policy's own.
        lr: peak learning rate of Adam, with 10 % warm-up and cosine decay to 0; or a
            schedule, the learning rate of each update.
        epochs: times that a rollout is learned from.
        minibatches: updates of an epoch.
        resample: rollouts more, to replace prompts whose completions are all worth the same.
        decides: part of the reward that says which are; the whole by default.
        teacher: parameters, on the mesh, that the objective takes last; none by default.
    """

    method: Method
    reference: bool
    steps: int
    prompts: int
    completions: int
    lr: float | optax.Schedule
    epochs: int = 1
    minibatches: int = 1
    resample: int = 0
    decides: str | None = None
    teacher: PyTree = None


def align(
    training: Training,
    updates: Updates,
    prompts: Sequence[EncodedPrompt],
    reward: Reward,
    run: RunDirectory,
    progress: Progress,
    *,
    observe: Callable[[Group, LoopContext], Mapping[str, Any]] | None = None,
    evaluate: Evaluation | None = None,
    evaluate_every: int = 0,
) -> TrainState:
    """A policy, a LoRA or all weights, trained on its own completions.

    Args:
        training: session, LoRA. Of a fully trained policy whose method reads no reference the
            session's parameters are given up at the start: updates need their memory.
        updates: method, sizes.
        prompts: what is answered.
        reward: as `irl_jax.train.online.train_online` takes it.
        run: takes metrics and checkpoints.
        progress: shows the loop.
        observe: as `train_online` takes it.
        evaluate: as `train_online` takes it; of a LoRA, `context.params` are the LoRA's.
        evaluate_every: rollouts between evaluations, as `train_online` takes it.

    Returns:
        The state; its parameters are those of `Method.start`.
    """
    session, model, method = training.session, training.session.model, updates.method
    step, state, frozen = start(training, updates)
    feed = make_feed(
        prompts,
        lambda items, shape: session.collate(items),
        batch_size=updates.prompts,
        shapes=[(session.prompt_width,)],
        seed=training.seed,
        remainder="drop",
    )

    sample = rollout_of(
        session.sample, method.beside, updates.completions, model.config, model.params
    )
    make_batch: Callable[..., Any] = partial(method.batch, model.config, training.adapt)
    if method.critic:
        make_batch = jax.jit(make_batch)

    def prepare(group: Group, context: LoopContext) -> Any:
        ref_logp = session.logp(model.params, group) if updates.reference else None
        with jax.set_mesh(session.mesh):
            return make_batch(context.params, model.params, group, ref_logp, None, context.key)

    with closing(feed), Checkpointer(run.checkpoints / POLICY, run.config) as checkpoints:
        return train_online(
            step,
            state,
            feed,
            rollout=lambda params, prompts, key: sample(
                training.merged(method.policy(params)), prompts, key
            ),
            reward=reward,
            prepare=prepare,
            observe=observe,
            evaluate=evaluate,
            evaluate_every=evaluate_every,
            steps=updates.steps,
            resample=updates.resample,
            decides=updates.decides,
            frozen=frozen,
            run=run,
            checkpoints=checkpoints,
            save_every=training.save_every,
            progress=progress,
            stage=POLICY,
        )


def start(training: Training, updates: Updates) -> tuple[Step, TrainState, tuple[PyTree, ...]]:
    """The compiled step of a policy, its first state, and the step's further arguments.

    A fully trained policy starts as a copy of the session's model. Where no reference is read,
    nothing needs the model any more, and its arrays are deleted.
    """
    model, method = training.session.model, updates.method
    init_key, key = jax.random.split(training.key(Stage.POLICY))
    objective = method.objective(model.config, training.adapt, None)
    whole = training.train == "full"
    alone = whole and not method.compares  # the step reads no frozen parameters
    teachers = () if updates.teacher is None else (updates.teacher,)
    frozen = teachers if alone else (model.params, *teachers)
    policy = model.params if whole else training.lora.init(init_key, model.params)
    step, state = begin(
        training,
        _without_reference(objective) if alone else objective,
        method.start(model.config, policy, init_key),
        key,
        lr=updates.lr,
        steps=updates.steps,
        epochs=updates.epochs,
        minibatches=updates.minibatches,
        frozen=frozen,
    )
    if alone and not updates.reference:
        jax.tree.map(lambda x: x.delete(), model.params)
    return step, state, frozen


def _without_reference(objective: Objective) -> Objective:
    """An objective of a fully trained policy, called without the reference's parameters."""
    return lambda params, batch, key, *teacher: objective(params, batch, key, None, *teacher)


def begin(
    training: Training,
    objective: Objective,
    params: PyTree,
    key: Array,
    *,
    lr: float | optax.Schedule,
    steps: int,
    members: int = 1,
    epochs: int = 1,
    minibatches: int = 1,
    frozen: tuple[PyTree, ...],
) -> tuple[Step, TrainState]:
    """The compiled step and the first state of a stage, on the mesh.

    Args:
        training: session, micro-batches.
        objective: of one member.
        params: what is trained, copied; of several members on a leading axis.
        key: of the state.
        lr: as of `Updates`.
        steps: of the stage.
        members: trained side by side.
        epochs: as `minibatch_epochs` takes it.
        minibatches: as `minibatch_epochs` takes it.
        frozen: the step's further arguments.
    """
    tx = optimizer(lr, steps * epochs * minibatches)
    rules, mesh = RULES, training.session.mesh
    if members > 1:
        objective, tx = for_members(objective), per_member(tx)
        rules = stacked(RULES, *params) + RULES
    state = place(mesh, init_state(params, tx, key), rules)
    step = make_train_step(objective, tx, accumulate=training.accumulate)
    if epochs * minibatches > 1:
        step = minibatch_epochs(step, epochs=epochs, minibatches=minibatches)
    return jit_step(step, mesh, state, rules, frozen=frozen), state


def optimizer(lr: float | optax.Schedule, count: int) -> optax.GradientTransformation:
    """Adam on gradients of norm 1 at most.

    Args:
        lr: as of `Updates`.
        count: updates in all.
    """
    schedule = lr if callable(lr) else _warmup_cosine(lr, count)
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule))


def _warmup_cosine(peak: float, count: int) -> optax.Schedule:
    """Learning rates of `count` updates: 10 % warm-up, cosine decay to 0."""
    warmup = max(1, count // 10)
    return optax.warmup_cosine_decay_schedule(
        peak / (warmup + 1), peak, warmup, max(count, warmup + 1)
    )


def check_batches(
    updated: Mapping[str, int], measured: Mapping[str, int], *, accumulate: int, ways: int
) -> None:
    """Checks that batches divide over devices, those of updates also into micro-batches.

    Args:
        updated: flag -> rows of an update.
        measured: flag -> rows of a batch that teaches nothing.
        accumulate: micro-batches of an update.
        ways: devices that have rows of their own.

    Raises:
        InputError: naming the flag.
    """
    check_range("accumulate", accumulate, 1)
    for name, size in updated.items():
        if size % accumulate:
            raise InputError(
                f"accumulate: {accumulate} does not divide {name} {size}; change one of them"
            )
    for name, size in {**updated, **measured}.items():
        if size % ways:
            raise InputError(
                f"{name}: {size} does not divide over {ways} devices (mesh.data x mesh.fsdp); "
                f"choose a multiple of {ways}, or fewer devices"
            )
