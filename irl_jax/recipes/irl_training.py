"""Reward and policy from demonstrations: what is read; by turns, the steps and what is learned."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from irl_jax.data.batches import Row, collate_groups
from irl_jax.data.encode import EncodedGroup
from irl_jax.losses.policy import grpo
from irl_jax.losses.table import Published
from irl_jax.masking import check_range, masked_mean, masked_sum
from irl_jax.models.heads import init_scalar_head
from irl_jax.models.mesh import global_batch
from irl_jax.models.sharding import RULES
from irl_jax.recipes.examples import MULTIPLE, Examples
from irl_jax.recipes.export import check_export
from irl_jax.recipes.forms import Options
from irl_jax.recipes.irl_config import DiscriminatorLearning, IrlConfig
from irl_jax.recipes.options import as_options
from irl_jax.recipes.policy_training import Training, optimizer
from irl_jax.recipes.run_reward import RunReward, load_reward
from irl_jax.recipes.training import open_model, policy_start
from irl_jax.rollout.opponents import Demonstrated, with_demonstrations
from irl_jax.rollout.sampling import Sampling
from irl_jax.rollout.session import Session, width_of
from irl_jax.train.adversarial import (
    Discriminator,
    discriminator_objective,
    log_ratios,
    policy_batch,
    rewards,
)
from irl_jax.train.keys import Stage
from irl_jax.train.objectives import lora, policy_objective
from irl_jax.train.progress import Progress
from irl_jax.train.shard import jit_step, place
from irl_jax.train.state import TrainState, init_state, joined
from irl_jax.train.step import Step, make_train_step, minibatch_epochs, side_by_side
from irl_jax.types import Group, InputError, LoopContext, PyTree, Rewarded

CLIP = 0.2  # of GRPO's ratios, which are 1: a batch is learned from once
RANGES = {  # hyper-parameter of a policy that learns alone -> of its values
    "alpha": (0.0, math.inf),
    "beta": (0.0, math.inf),
    "discount": (0.0, 1.0),
    "every": (1.0, math.inf),
}
TELLS: Mapping[str, Literal["completion", "token", "pair"]] = {  # form -> of what v is
    "discriminator": "completion",
    "airl": "completion",
    "airl_token": "token",
    "critic_of_pairs": "pair",
}


@dataclass(frozen=True)
class Ready:
    """What was read and checked before a run writes anything.

    Attributes:
        row: of the loss.
        kind: of the discriminator; None where a policy learns alone.
        training: session, LoRA.
        examples: demonstrations.
        gold: what answers are measured by, if there is something.
    """

    row: Published
    kind: Discriminator | None
    training: Training
    examples: Examples
    gold: RunReward | None


def prepare(config: IrlConfig, row: Published, sha256: str, progress: Progress) -> Ready:
    """Reads data, model and gold reward, checks that they fit, and places the model.

    Args:
        config: of the run.
        row: of its loss.
        sha256: of the data's content.
        progress: shows how long a tiny model takes to make.

    Raises:
        InputError: whatever there is to fix in the data, the model or the flags.
    """
    check_settings(config, row)
    opened = open_model(config, row, (config,), progress, sha256=sha256)
    check_export(config, opened.model)
    examples = opened.examples
    width = width_of(examples.train_prompts, examples.held_out_prompts)
    training = opened.training(
        config,
        width=width,
        new_tokens=new_tokens(config, examples, opened.model.config.max_positions - width),
        sampling=Sampling(temperature=config.sample.temperature),
        train=config.train,
    )
    if len(examples.train) < config.batch_size:
        raise InputError(
            f"batch_size: {config.batch_size} demonstrations an update, but there are only "
            f"{len(examples.train)} to train on; lower it"
        )
    gold = None
    if config.gold is not None:
        prompts = [*examples.train_prompts, *examples.held_out_prompts]
        gold = load_reward(config.gold, training.session, prompts, config.data, progress)
    kind = None if row.reward is None else discriminator_of(row, as_options(config.options))
    return Ready(row, kind, training, examples, gold)


def check_settings(config: IrlConfig, row: Published) -> None:
    """Checks settings that belong to some of the losses.

    Raises:
        InputError: a setting of another loss, or one that is out of its range.
    """
    if row.reward is not None:
        check_range("completions", config.completions, 2)
        return
    others = {
        "beta": (IrlConfig.beta, "KL to the model in its loss"),
        "discriminator": (DiscriminatorLearning(), "discriminator"),
    }
    for name, (default, what) in others.items():
        if getattr(config, name) != default:
            own = ", ".join(f"--loss.{key}" for key in row.defaults)
            raise InputError(f"{name}: {config.loss} has no {what}; leave it out, or set {own}")
    if row.form == "own_soft_q" and config.sample.temperature != 1.0:
        raise InputError(
            f"sample.temperature: expected 1, at which a policy is what its logits say, got "
            f"{config.sample.temperature:g}; {config.loss} reads them as Q"
        )
    for name, value in as_options(config.options).items():
        low, high = RANGES[name]
        check_range(f"loss.{name}", value, low, high, exclusive=low == 0.0 and high > 1.0)


def discriminator_of(row: Published, options: Options) -> Discriminator:
    """The discriminator of a loss of the table.

    Args:
        row: of the loss.
        options: hyper-parameters of its reward, or of what the discriminator learns by.

    Raises:
        InputError: one is out of its range.
    """
    assert row.reward is not None
    known = inspect.signature(row.reward).parameters
    own = {name: value for name, value in options.items() if name in known}
    others = {name: value for name, value in options.items() if name not in known}
    reward = partial(row.reward, **own)
    reward(jnp.zeros(1))
    return Discriminator(
        partial(row.loss, **others), reward, TELLS[row.form], policy=row.form.startswith("airl")
    )


def new_tokens(config: IrlConfig, examples: Examples, room: int) -> int:
    """Tokens of a sampled completion, at most: by default those of the longest demonstration.

    Raises:
        InputError: a demonstration is longer, has several turns, or does not leave room for the
            longest prompt.
    """
    items = [row.items[0] for row in (*examples.train, *examples.held_out)]
    for item in items:
        if item.masks is not None:
            raise InputError(
                f"{item.source}: an answer of several turns, which a policy cannot write alone; "
                "give the last answer as `completion`, what was before as `prompt`"
            )
    longest = max(items, key=lambda item: len(item.completion))
    tokens = config.sample.max_new_tokens
    if tokens is None:
        tokens = min(-(-len(longest.completion) // MULTIPLE) * MULTIPLE, room)
    if len(longest.completion) > tokens:
        raise InputError(
            f"{longest.source}: the completion has {len(longest.completion)} tokens, but answers "
            f"are of {tokens} at most; raise sample.max_new_tokens, or drop longer ones by "
            "--data.max-completion and --data.overlong drop"
        )
    if tokens > room:
        raise InputError(
            f"sample.max_new_tokens: {tokens} exceed the model's context after the longest prompt "
            f"by {tokens - room}; lower it"
        )
    return tokens


def demonstrated(session: Session, rows: Sequence[Row | None]) -> Demonstrated:
    """A batch of prompts and how each was answered; None fills a row."""
    model = session.model
    items = [None if row is None else row.items[0] for row in rows]
    groups = [
        None if x is None else EncodedGroup(x.prompt, [x.completion], x.source) for x in items
    ]
    context, action, mask = collate_groups(
        groups, (session.prompt_width, session.max_new_tokens), pad_id=model.tokenizer.pad_id
    )
    ended = np.array([[x is not None and x.completion[-1] in model.eos_ids] for x in items])
    arrays: dict[str, Any] = {"action": action, "mask": mask, "terminated": ended}
    return Demonstrated(context, **arrays)


def answered(
    ready: Ready, completions: int, writer: PyTree, batch: Demonstrated, key: Array
) -> Group:
    """Answers of a writer, and the demonstration of each prompt last.

    Args:
        ready: of the run.
        completions: K of each prompt.
        writer: what is trained of a policy.
        batch: prompts and demonstrations.
        key: typed PRNG key.
    """
    session = ready.training.session
    own = partial(session.sample, completions=completions)
    batch = global_batch(session.mesh, batch)
    return with_demonstrations(own, session.logp)(ready.training.merged(writer), batch, key)


def updates(config: IrlConfig, ready: Ready) -> int:
    """How many there are."""
    return config.updates(len(ready.examples.train) // config.batch_size)


def begin(config: IrlConfig, ready: Ready) -> tuple[Step, TrainState]:
    """The compiled step of policy and discriminator, and their first state, on the mesh."""
    training, kind = ready.training, ready.kind
    assert kind is not None
    session, model = training.session, training.session.model
    policy_key, own_key, key = jax.random.split(training.key(Stage.POLICY), 3)
    steps, again = updates(config, ready), config.discriminator
    policy_tx, own_tx = optimizer(config.lr, steps), optimizer(again.lr, steps * again.updates)
    learns = partial(grpo, clip=CLIP, beta=config.beta)
    policy = policy_objective(model.config, training.adapt, learns, sampling=session.sampling)
    own = discriminator_objective(model.config, kind, adapt=lora(training.lora.scale))
    own_step = make_train_step(own, own_tx, accumulate=training.accumulate)
    if again.updates > 1:
        own_step = minibatch_epochs(own_step, epochs=again.updates, minibatches=1)
    step = side_by_side(
        policy=make_train_step(policy, policy_tx, accumulate=training.accumulate),
        discriminator=own_step,
    )
    # with a head of 0 no answer is worth more than another before the discriminator knows more
    head = jax.tree.map(jnp.zeros_like, init_scalar_head(own_key, model.config.d_model))
    start = {"decoder": training.lora.init(own_key, model.params), "head": head}
    state = joined(
        key,
        policy=init_state(policy_start(training, policy_key), policy_tx, key),
        discriminator=init_state(start, own_tx, key),
    )
    state = place(session.mesh, state, RULES)
    return jit_step(step, session.mesh, state, RULES, frozen=(model.params,)), state


@dataclass(frozen=True)
class Turns:
    """What happens between two updates: answers, what they are worth, what is learned from them.

    Attributes:
        ready: of the run.
        kind: of its discriminator.
        completions: K of each prompt.
        penalised: whether the policy's loss reads log-probs under the model.
        judge: (discriminator, model, group) -> rewards and metrics, compiled.
    """

    ready: Ready
    kind: Discriminator
    completions: int
    penalised: bool
    judge: Callable[[PyTree, PyTree, Group], tuple[Array, dict[str, Array]]]

    @classmethod
    def of(cls, config: IrlConfig, ready: Ready) -> Turns:
        """Those of a run."""
        kind, adapt = ready.kind, lora(ready.training.lora.scale)
        assert kind is not None
        shape = ready.training.session.model.config

        def judge(params: PyTree, reference: PyTree, group: Group) -> tuple[Array, dict]:
            v = log_ratios(shape, kind, params, reference, group, adapt=adapt)
            return rewards(kind, v, group)

        return cls(ready, kind, config.completions, config.beta > 0, jax.jit(judge))

    def rollout(self, params: PyTree, batch: Demonstrated, key: Array) -> Group:
        """Answers of the policy, and the demonstration of each prompt last."""
        return answered(self.ready, self.completions, params["policy"], batch, key)

    def relative(self, group: Group, ref_logp: Array | None) -> Group:
        """The group with log π/π_ref as its log-probs, where the discriminator reads them."""
        if not self.kind.policy:
            return group
        assert ref_logp is not None
        return replace(group, logp=group.logp - ref_logp)

    def ref_logp(self, group: Group) -> Array:
        """Log-probs of a group under the model, f32[B, K + 1, T] (nats)."""
        session = self.ready.training.session
        return session.logp(session.model.params, group)

    def judged(self, group: Group, context: LoopContext) -> tuple[Array, dict[str, Array]]:
        """Rewards f32[B, K + 1], or of tokens f32[B, K + 1, T], and metrics of a relative group."""
        session = self.ready.training.session
        with jax.set_mesh(session.mesh):
            return self.judge(context.params["discriminator"], session.model.params, group)

    def reward(self, group: Group, context: LoopContext) -> Rewarded:
        """The reward for `train.online.train_online`."""
        ref_logp = self.ref_logp(group) if self.kind.policy else None
        r, metrics = self.judged(self.relative(group, ref_logp), context)
        nll = -masked_mean(group.logp[:, -1], group.mask[:, -1])
        value = masked_sum(r, group.mask, axis=-1) if self.kind.tells == "token" else r
        return Rewarded(value, metrics={**metrics, "demonstration_nll": nll})

    def prepare(self, group: Group, context: LoopContext) -> dict[str, Any]:
        """What the policy and the discriminator learn from."""
        kind = self.kind
        ref_logp = self.ref_logp(group) if kind.policy or self.penalised else None
        relative = self.relative(group, ref_logp)
        r = self.judged(relative, context)[0] if kind.tells == "token" else group.reward
        own = None
        if self.penalised and ref_logp is not None:
            own = ref_logp[:, : self.completions]
        policy = policy_batch(kind, r, group, own)
        return {"policy": policy, "discriminator": relative}
