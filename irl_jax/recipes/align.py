"""`irl-jax align`: a policy by any published loss, by its name, or by a loss of your own.

A loss says what it learns from: pairs, ratings, rankings, scored responses, demonstrations, or
completions that the policy samples and a reward or a teacher judges. The file of `--data.path`
holds lines of that kind; prompts that are held out measure the policy before and after. What
comes out is a directory that other libraries load.

Examples:
    irl-jax align --loss simpo --data.path prefs.jsonl --model DIR

    irl-jax align --loss grpo --data.path prompts.jsonl --reward rewards.py:my_reward

    irl-jax align --loss gkd --data.path prompts.jsonl --model SMALL --teacher LARGE

`irl-jax losses` lists the losses, what each learns from, and its hyper-parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax

from irl_jax.data.encode import EncodedPrompt
from irl_jax.eval.intervals import bootstrap, paired_difference
from irl_jax.files import as_json
from irl_jax.losses.table import Published
from irl_jax.recipes.align_config import AlignConfig
from irl_jax.recipes.align_report import HELD_OUT, conclusion, write_report
from irl_jax.recipes.card import policy_card
from irl_jax.recipes.examples import Examples, as_text, limits
from irl_jax.recipes.export import check_export, export_policy, exported_files
from irl_jax.recipes.forms import offline_objective, online_method
from irl_jax.recipes.launch import Clock, given_model
from irl_jax.recipes.movement import policy_kl
from irl_jax.recipes.options import as_options, find_loss
from irl_jax.recipes.policy_training import POLICY, Training, Updates, align
from irl_jax.recipes.quality import ORDERED, implicit_rewards, quality, score
from irl_jax.recipes.run_reward import RunReward, load_reward, reward_identity
from irl_jax.recipes.teacher import Teacher, load_teacher
from irl_jax.recipes.training import (
    Opened,
    Schedule,
    check_traces,
    counts,
    data_feed,
    fit,
    held_out_losses,
    launch_loss,
    open_model,
    policy_start,
    with_margins,
)
from irl_jax.rollout.sampling import Sampling
from irl_jax.rollout.session import Completions, width_of
from irl_jax.train.inputs import identities
from irl_jax.train.keys import Stage
from irl_jax.train.methods import Method
from irl_jax.train.progress import Progress
from irl_jax.train.run import RunDirectory
from irl_jax.types import InputError, Objective, PyTree


@dataclass(frozen=True)
class Ready:
    """What was read and checked before a run writes anything.

    Attributes:
        row: of the loss.
        training: session, LoRA.
        examples: of the data.
        reward: of completions, if there is one.
        teacher: of the policy, if its loss learns from one.
    """

    row: Published
    training: Training
    examples: Examples
    reward: RunReward | None
    teacher: Teacher | None = None

    @property
    def online(self) -> bool:
        """Whether the policy learns from what it samples."""
        return self.row.kind == "prompts"

    @property
    def judge(self) -> RunReward | None:
        """What completions are measured by: the reward, or how likely the teacher finds them."""
        return self.teacher or self.reward


def main(config: AlignConfig) -> None:
    """Trains a policy, goes on with it, or reports what is there.

    Raises:
        InputError: whatever there is to fix in the data, the model or the flags.
    """
    row = find_loss(config.loss)
    if row.kind == "prompts" and not row.taught and config.reward is None:
        raise InputError(
            f"reward: --loss {config.loss} learns from completions that a reward judges; give "
            "--reward FILE.py:FUNCTION, or the directory of a run of irl-jax reward"
        )
    check_online(config, row)
    digests = {}
    if config.reward is not None:
        digests["reward"] = reward_identity(config.reward)
    if config.teacher is not None:
        digests |= identities({"teacher": given_model(config.teacher)})
    launch_loss(config, "policy", prepare, experiment, conclusion, digests)


def prepare(config: AlignConfig, row: Published, sha256: str, progress: Progress) -> Ready:
    """Reads data, model and reward, checks that they fit, and places them on the devices.

    Args:
        config: of the run.
        row: of its loss.
        sha256: of the data's content.
        progress: shows how long a tiny model takes to make.

    Raises:
        InputError: whatever there is to fix in the data, the model or the flags.
    """
    opened = open_model(config, row, (config,), progress, sha256=sha256)
    training, examples = training_of(config, opened), opened.examples
    prompts = [*examples.train_prompts, *examples.held_out_prompts]
    reward = None
    if config.reward is not None:
        reward = load_reward(config.reward, training.session, prompts, config.data, progress)
    ready = make_ready(config, row, training, examples, reward)
    if config.teacher is None:
        return ready
    return replace(ready, teacher=load_teacher(config, training.session, progress))


def training_of(config: AlignConfig, opened: Opened) -> Training:
    """The model on its mesh, with room for the prompts and for what is sampled.

    Raises:
        InputError: they do not fit the model's context, or the LoRA does not fit the model.
    """
    examples = opened.examples
    width = width_of(examples.train_prompts, examples.held_out_prompts)
    return opened.training(
        config,
        width=width,
        new_tokens=new_tokens(config, examples, width, opened.model.config.max_positions),
        sampling=Sampling(temperature=config.sample.temperature),
        train=config.train,
    )


def make_ready(
    config: AlignConfig,
    row: Published,
    training: Training,
    examples: Examples,
    reward: RunReward | None,
) -> Ready:
    """What `improve` takes, checked.

    Args:
        config: of the policy.
        row: of its loss.
        training: session, LoRA.
        examples: of the data.
        reward: of completions, if there is one.

    Raises:
        InputError: data that the loss cannot learn from, a hyper-parameter out of its range.
    """
    check_export(config, training.session.model)
    examples = with_margins(examples, config.margin)
    ready = Ready(row, training, examples, reward)
    if not ready.online:
        params = jax.eval_shape(partial(policy_start, training), jax.random.key(0))
        objective = offline_objective_of(config, ready)
        check_traces(training, examples, objective, params, config.batch_size)
    elif len(examples.train_prompts) < config.batch_size:
        raise InputError(
            f"batch_size: {config.batch_size} prompts an update, but there are only "
            f"{len(examples.train_prompts)} to train on; lower it"
        )
    return ready


def check_online(config: AlignConfig, row: Published) -> None:
    """Raises `InputError` unless the flags say what a loss of samples needs beside a reward."""
    if row.taught != (config.teacher is not None):
        raise InputError(
            f"teacher: --loss {config.loss} learns from one; give --teacher a model directory"
            if row.taught
            else f"teacher: --loss {config.loss} has none; leave --teacher out, or give --loss gkd"
        )
    if row.taught and config.reward is not None:
        raise InputError(
            f"reward: --loss {config.loss} learns from its teacher alone; leave --reward out"
        )
    if row.kind != "prompts" or row.taught:
        return
    even = row.form == "judged"
    if config.completions < 2 or (even and config.completions % 2):
        raise InputError(
            f"completions: {config.completions}; --loss {config.loss} needs "
            + ("an even number" if even else "2 or more")
        )
    opponents = as_options(config.options).get("opponents")
    if opponents is not None and not 0 < opponents < config.completions:
        raise InputError(
            f"loss.opponents: {opponents} of --completions {config.completions} are drawn by the "
            "opponent, the others by the policy; give at least one of each"
        )
    attempts = as_options(config.options).get("k")
    if attempts is not None and not 1 <= attempts <= config.completions:
        raise InputError(
            f"loss.k: {attempts}; --loss {config.loss} takes the best of k of --completions "
            f"{config.completions}: give 1 to {config.completions}"
        )
    if row.form == "exploring" and config.completions != 2:
        raise InputError(
            f"completions: {config.completions}; --loss {config.loss} compares one of the policy "
            "with one of the reference; give --completions 2"
        )


def new_tokens(config: AlignConfig, examples: Examples, width: int, context: int) -> int:
    """Tokens of a sampled completion, at most.

    Raises:
        InputError: they do not fit the model's context after the longest prompt.
    """
    tokens = config.sample.max_new_tokens
    if tokens is None and len(examples.shapes[-1]) == 2:
        tokens = examples.shapes[-1][1]  # the longest completion of the data
    tokens = min(limits(config.data, context)[1], context - width) if tokens is None else tokens
    if width + tokens > context:
        raise InputError(
            f"sample.max_new_tokens: prompts of {width} tokens + {tokens} exceed the model's "
            f"context of {context}; lower it"
        )
    return tokens


def offline_objective_of(config: AlignConfig, ready: Ready) -> Objective:
    """The objective of a policy that learns from the data."""
    shape = ready.training.session.model.config
    options = as_options(config.options)
    return offline_objective(ready.row, options, shape, ready.training.adapt)


def train(
    config: AlignConfig, ready: Ready, run: RunDirectory, progress: Progress
) -> tuple[int, PyTree]:
    """Trains the policy; returns the number of updates, and what was trained of the policy."""
    training, examples = ready.training, ready.examples
    if not ready.online:
        init_key, key = jax.random.split(training.key(Stage.POLICY))
        feed = data_feed(training, examples, config.batch_size)
        schedule = Schedule(config.updates(feed.batches_per_epoch), config.lr)
        state = fit(
            training, feed, offline_objective_of(config, ready),
            policy_start(training, init_key), key, schedule, run, progress, POLICY,
        )  # fmt: skip
        return int(state.step), state.params
    options = as_options(config.options)
    session, teacher = training.session, ready.teacher
    method: Method = online_method(
        ready.row, options, session.sampling, length=session.max_new_tokens,
        teacher=None if teacher is None else teacher.session.model.config,
    )  # fmt: skip
    penalised = not ready.row.taught and (
        ready.row.form not in ("group", "greedy") or options.get("beta") != 0
    )
    updates = Updates(
        method,
        # without it a fully trained policy gives up the model, which the answers are compared with
        reference=not method.compares and (penalised or training.train == "full"),
        steps=config.updates(len(examples.train_prompts) // config.batch_size),
        prompts=config.batch_size,
        completions=config.completions,
        lr=config.lr,
        teacher=None if teacher is None else teacher.session.model.params,
    )
    judge = ready.judge
    assert judge is not None
    state = align(training, updates, examples.train_prompts, judge.reward, run, progress)
    return int(state.step), method.policy(state.params)


def answer(
    config: AlignConfig, ready: Ready, policy: PyTree, progress: Progress, name: str
) -> Completions:
    """Answers of a policy to held-out prompts, and what judges them, if anything does."""
    training, evaluation = ready.training, config.evaluation
    prompts = ready.examples.held_out_prompts[: evaluation.prompts]
    return training.session.respond(
        policy,
        prompts,
        training.key(Stage.ANSWERS),
        completions=evaluation.completions,
        batch_size=evaluation.batch_size,
        advance=progress.stage(name, len(prompts)),
        measure=None if ready.judge is None else ready.judge.measure,
    )


def compare(before: Completions, after: Completions) -> dict[str, Any]:
    """How the answers changed, with intervals over prompts."""
    found: dict[str, Any] = {"kl": policy_kl(after)}
    for at, answers in (("before", before), ("after", after)):
        found[f"length_{at}"] = answers.length
        found[f"terminated_{at}"] = float(answers.terminated.mean())
    for name in ("reward", "gold", "disagreement"):  # the last of a learned reward's members
        if name in before.values:
            each = [answers.values[name].mean(1) for answers in (before, after)]
            found[f"{name}_before"], found[f"{name}_after"] = map(bootstrap, each)
            found[f"{name}_gain"] = paired_difference(*each)
    return found


def write_samples(
    run: RunDirectory,
    step: int,
    prompts: Sequence[EncodedPrompt],
    before: Completions,
    after: Completions,
) -> None:
    """The first answer to each prompt, before and after, to samples.jsonl."""
    run.rewind(0, HELD_OUT)
    for i, texts in enumerate(zip(before.text, after.text, strict=True)):
        row: dict[str, Any] = {"prompt": as_text(prompts[i].record.prompt)}
        for at, text, answers in zip(("before", "after"), texts, (before, after), strict=True):
            row[at] = text[0]
            row[f"reward_{at}"] = answers.values["reward"][i, 0] if answers.values else None
        run.sample(step, row, HELD_OUT)


def implied(ready: Ready, policy: PyTree, batch_size: int, progress: Progress) -> dict[str, Any]:
    """How the reward that a policy is best for, log π/π_ref, orders the held-out completions."""
    session, examples = ready.training.session, ready.examples
    if ready.online or examples.kind.name not in ORDERED:
        return {}
    rewards = score(
        session,
        examples,
        partial(implicit_rewards, session, policy),
        batch_size=batch_size,
        advance=progress.stage("held-out examples", len(examples.held_out)),
    )
    return quality(examples, rewards)


def improve(
    config: AlignConfig, ready: Ready, run: RunDirectory, progress: Progress, clock: Clock
) -> dict[str, Any]:
    """Trains, measures and exports a policy; returns what is known of it."""
    training, examples, evaluation = ready.training, ready.examples, config.evaluation
    with clock("train the policy"):
        step, params = train(config, ready, run, progress)
    policy = training.merged(params)
    with clock("measure the policy"):
        before = answer(config, ready, training.session.model.params, progress, "answers before")
        after = answer(config, ready, policy, progress, "answers after")
        write_samples(run, step, examples.held_out_prompts, before, after)
        losses = None
        if not ready.online:
            start = policy_start(training, jax.random.split(training.key(Stage.POLICY))[0])
            losses = held_out_losses(
                training, examples, offline_objective_of(config, ready),
                {"before": start, "after": params}, evaluation.batch_size,
            )  # fmt: skip
        implicit = implied(ready, policy, evaluation.batch_size, progress)
    found = {
        "loss": config.loss,
        "updates": step,
        **counts(examples),
        "held_out_prompts": len(before.text),
        "held_out": losses,
        "implicit": implicit,
        **compare(before, after),
    }
    with clock("export"):
        card = policy_card("align", config, AlignConfig(), run.config, found)
        exported = export_policy(replace(config, run_dir=run.path), training, params, card)
    return {**found, "export": exported, "exported": exported_files(exported)}


def experiment(
    config: AlignConfig, ready: Ready, run: RunDirectory, progress: Progress
) -> dict[str, Any]:
    """Trains, measures, exports, reports; returns the summary."""
    clock = Clock(run.path / "seconds.json")
    found = improve(config, ready, run, progress, clock)
    summary = as_json({**found, "seconds": clock.seconds, "report": run.report})
    if jax.process_index() == 0:
        write_report(run, summary)
    run.finish(summary)
    return summary
