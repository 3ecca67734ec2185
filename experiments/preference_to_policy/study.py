"""The study of `experiments.preference_to_policy`: settings, stages, summary."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.preference_to_policy.config import Config
from experiments.preference_to_policy.report import conclusion, write_report
from irl_jax.data.kinds import KINDS
from irl_jax.files import as_json, writing
from irl_jax.recipes.examples import Examples, encode, read_file, read_records
from irl_jax.recipes.language_model import load_language_model
from irl_jax.recipes.launch import Clock, given_model, launch_prepared, settings_of
from irl_jax.recipes.policy_training import Training, check_batches, export
from irl_jax.recipes.preference_measures import (
    accuracy_on,
    compare,
    compare_members,
    held_out_rewards,
    implicit_rewards,
    lengths,
    write_samples,
)
from irl_jax.recipes.preference_reward import RewardModel, aggregate, fit_reward
from irl_jax.recipes.preference_training import align_offline, align_online
from irl_jax.rollout.sampling import Sampling
from irl_jax.rollout.session import Session
from irl_jax.train.keys import Stage
from irl_jax.train.progress import Progress
from irl_jax.train.run import SHA256, RunDirectory
from irl_jax.train.state import TrainState
from irl_jax.types import InputError, PyTree

PAIRS = KINDS["pairs"]
ELSEWHERE = ("run_dir", "mesh")  # fields that may change between the launches of a run


def main(config: Config) -> None:
    """Runs the experiment, goes on with it, or reports what is there.

    Nothing is written before the data and the model have been read and checked.
    """
    inputs = {
        "data.path": config.data.file,
        "model": given_model(config.model),
        "tokenizer": config.tokenizer,
    }
    settings = settings_of(config, inputs, ELSEWHERE)
    launch_prepared(
        config.run_dir,
        settings,
        partial(prepare, config, sha256=settings[SHA256]["data.path"]),
        partial(experiment, config),
        conclusion,
    )


def prepare(
    config: Config, progress: Progress, *, sha256: str | None = None
) -> tuple[Training, Examples]:
    """Reads data and model, checks that they fit, and places the model on the devices.

    Args:
        config: of the run.
        progress: shows how long a tiny model takes to make.
        sha256: of the data's content, where it is known.

    Raises:
        InputError: whatever there is to fix in the data, the model or the flags.
    """
    mesh = config.mesh.make()
    updated = {"reward.batch_size": config.reward.batch_size}
    margins = {"reward.margin": config.reward.margin}
    if config.method == "dpo":
        updated["dpo.batch_size"] = config.dpo.batch_size
        margins["dpo.margin"] = config.dpo.margin
    else:
        updated["grpo.prompts"] = config.grpo.prompts
    check_batches(
        updated,
        {"evaluation.batch_size": config.evaluation.batch_size},
        accumulate=config.accumulate,
        ways=mesh.shape["data"] * mesh.shape["fsdp"],
    )
    read, equal = read_file(config.data, PAIRS, margins)
    with writing(config.run_dir):
        model = load_language_model(
            config.model, config.run_dir, seed=config.seed, dtype=config.dtype, progress=progress,
            tokenizer=config.tokenizer,
        )  # fmt: skip
    cache = config.run_dir / "data"
    records = read_records(
        config.data, PAIRS, model.tokenizer, cache, seed=config.seed, records=read, sha256=sha256
    )
    pairs = encode(config.data, PAIRS, model, *records, equal=equal)
    if config.method == "grpo" and len(pairs.train_prompts) < config.grpo.prompts:
        raise InputError(
            f"grpo.prompts: {config.grpo.prompts} prompts an update, but there are only "
            f"{len(pairs.train_prompts)} to train on; lower it"
        )
    width, longest = pairs.shapes[-1]
    new_tokens = config.sample.max_new_tokens or longest
    if width + new_tokens > model.config.max_positions:
        raise InputError(
            f"sample.max_new_tokens: prompts of {width} tokens + {new_tokens} exceed the model's "
            f"context of {model.config.max_positions}; lower it"
        )
    config.lora.check(model.params)
    decoder = replace(model.config, remat=config.remat)
    session = Session.create(
        replace(model, config=decoder),
        mesh,
        prompt_width=width,
        max_new_tokens=new_tokens,
        sampling=Sampling(temperature=config.sample.temperature),
    )
    training = Training(
        session,
        config.lora,
        seed=config.seed,
        accumulate=config.accumulate,
        save_every=config.save_every,
    )
    return training, pairs


def align_policy(
    config: Config,
    training: Training,
    pairs: Examples,
    learned: RewardModel,
    run: RunDirectory,
    progress: Progress,
) -> TrainState:
    """Trains the policy on the pairs, or on what the reward model says of its completions."""
    if config.method == "dpo":
        return align_offline(training, pairs, config.dpo, run, progress)
    return align_online(training, pairs, config.grpo, learned.reward, run, progress)


def implied(
    config: Config, session: Session, pairs: Examples, policy: PyTree, progress: Progress
) -> np.ndarray:
    """What DPO's implicit reward says of the held-out pairs."""
    advance = progress.stage("held-out pairs, DPO", len(pairs.held_out))
    score = partial(implicit_rewards, session, policy, config.dpo.beta)
    return held_out_rewards(session, pairs, score, config.evaluation, advance)


def experiment(
    config: Config, prepared: tuple[Training, Examples], run: RunDirectory, progress: Progress
) -> dict[str, Any]:
    """The stages, from the reward model to the report; returns the summary."""
    clock = Clock(run.path / "seconds.json")
    (training, pairs), evaluation = prepared, config.evaluation
    session = training.session
    held_out = pairs.held_out_prompts[: evaluation.prompts]
    with clock("reward model"):
        params = fit_reward(training, pairs, config.reward, run, progress).params
        learned = RewardModel(training, config.reward, params)
    with clock("measure the reward model"):
        advance = progress.stage("held-out pairs", len(pairs.held_out))
        by_member = lambda batch: jnp.moveaxis(learned.members(batch), 0, 1)
        rewards = held_out_rewards(session, pairs, by_member, evaluation, advance)
        judged = np.asarray(aggregate(jnp.asarray(rewards.swapaxes(0, 1)), config.reward))
    with clock("policy"):
        state = align_policy(config, training, pairs, learned, run, progress)
        policy = training.merged(state.params)
    with clock("measure the policy"):
        named = {"answers before": session.model.params, "answers after": policy}
        answers = [
            session.respond(
                params,
                held_out,
                training.key(Stage.ANSWERS),
                completions=evaluation.completions,
                batch_size=evaluation.batch_size,
                advance=progress.stage(name, len(held_out)),
                measure=learned.measure,
            )
            for name, params in named.items()
        ]
        implicit = None
        if config.method == "dpo":
            rewarded = implied(config, session, pairs, policy, progress)
            implicit = accuracy_on(pairs.held_out, rewarded)
        write_samples(run, int(state.step), held_out, *answers)
    with clock("export"):
        exported = export(config.run_dir, session.model, policy, dtype=config.export_dtype)
    summary = as_json(
        {
            "method": config.method,
            "pairs": len(pairs.train),
            "held_out_pairs": len(pairs.held_out),
            "left_out": {why: count for why, count in pairs.left_out.items() if count},
            "held_out_prompts": len(held_out),
            "reward_accuracy": accuracy_on(pairs.held_out, judged),
            "longer_accuracy": accuracy_on(pairs.held_out, lengths(pairs.held_out)),
            "chance": 0.5,
            "implicit_accuracy": implicit,
            **compare(*answers),
            "members": compare_members(pairs.held_out, rewards, *answers),
            "seconds": clock.seconds,
            "export": exported,
            "exported": [f"export/{path.name}" for path in sorted(exported.glob("*"))],
            "report": run.report,
        }
    )
    if jax.process_index() == 0:
        write_report(run, summary)
    run.finish(summary)
    return summary
