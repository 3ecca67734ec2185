"""The study of `experiments.preference_to_policy`: `irl-jax reward`, then `irl-jax align`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax

from experiments import preference_to_policy
from experiments.preference_to_policy.config import CONFIG, Config, with_losses
from irl_jax.files import as_json
from irl_jax.losses.table import Published
from irl_jax.recipes import align, align_report, reward, reward_report
from irl_jax.recipes.cli import exiting, parse
from irl_jax.recipes.distributed import begin
from irl_jax.recipes.launch import Clock
from irl_jax.recipes.training import find_trained, launch_losses, open_model
from irl_jax.report.study import write_study
from irl_jax.report.values import closing
from irl_jax.train.progress import Progress
from irl_jax.train.run import RunDirectory
from irl_jax.types import InputError


@dataclass(frozen=True)
class Ready:
    """What was read and checked before a run writes anything.

    Attributes:
        reward: what the reward is learned from.
        policy: what the policy is learned from; its reward is still to come.
    """

    reward: reward.Ready
    policy: align.Ready


def command(args: Sequence[str] | None = None, config: Config = CONFIG) -> None:
    """Runs the experiment as its command line says.

    Args:
        args: the command line; `sys.argv[1:]` if None.
        config: the defaults.

    Raises:
        SystemExit: as `exiting`.
    """
    with exiting():
        args = begin(sys.argv[1:] if args is None else args)
        main(parse(with_losses(config, args), args, description=preference_to_policy.__doc__))


def main(config: Config) -> None:
    """Runs the experiment, goes on with it, or reports what is there.

    Raises:
        InputError: whatever there is to fix in the data, the model or the flags.
    """
    rows = find_trained(config.reward, "reward"), find_trained(config.policy, "policy")
    launch_losses(
        config,
        (config.reward, config.policy),
        partial(prepare, config, *rows),
        partial(experiment, config),
        conclusion,
    )


def prepare(
    config: Config, rewarding: Published, acting: Published, sha256: str, progress: Progress
) -> Ready:
    """Reads data and model, checks that they fit both losses, and places the model.

    Args:
        config: of the run.
        rewarding: row of the reward's loss.
        acting: row of the policy's loss.
        sha256: of the data's content.
        progress: shows how long a tiny model takes to make.

    Raises:
        InputError: whatever there is to fix in the data, the model or the flags.
    """
    check_together(config, rewarding, acting)
    align.check_online(config.of_policy, acting)
    opened = open_model(config, rewarding, (config.reward, config.policy), progress, sha256=sha256)
    training = align.training_of(config.of_policy, opened)
    judge = replace(training, train="lora")
    return Ready(
        reward.make_ready(config.of_reward, rewarding, judge, opened.examples),
        align.make_ready(config.of_policy, acting, training, opened.examples, None),
    )


def check_together(config: Config, rewarding: Published, acting: Published) -> None:
    """Raises `InputError` unless both losses learn from the data, or the policy from samples."""
    if rewarding.kind == "steps":
        raise InputError(
            f"reward.loss: {config.reward.loss} judges steps, not whole responses; choose another"
        )
    read = lambda row: f"ratings ({row.scale})" if row.kind == "ratings" else row.kind
    if acting.kind != "prompts" and read(acting) != read(rewarding):
        raise InputError(
            f"policy.loss: {config.policy.loss} learns from {read(acting)}, --reward.loss "
            f"{config.reward.loss} from {read(rewarding)}; choose two of one kind, or let the "
            "policy learn from samples, as by --policy.loss grpo"
        )


def experiment(
    config: Config, ready: Ready, run: RunDirectory, progress: Progress
) -> dict[str, Any]:
    """The stages, from the reward model to the report; returns the summary."""
    clock = Clock(run.path / "seconds.json")
    learned, judged = reward.learn(config.of_reward, ready.reward, run, progress, clock)
    policy = replace(ready.policy, reward=learned)
    improved = align.improve(config.of_policy, policy, run, progress, clock)
    summary = as_json(
        {
            "reward": judged,
            "policy": improved,
            "seconds": clock.seconds,
            "exported": improved["exported"],
            "report": run.report,
        }
    )
    if jax.process_index() == 0:
        write_report(run, summary)
    run.finish(summary)
    return summary


def conclusion(summary: dict[str, Any]) -> str:
    """The closing lines in the terminal."""
    policy = summary["policy"] | {"seconds": summary["seconds"]}
    return closing(
        *reward_report.told(summary["reward"]),
        *align_report.told(policy),
        report=summary["report"],
    )


def write_report(run: RunDirectory, summary: dict[str, Any]) -> None:
    """report.html: what is known of the reward and of the policy, the config, timings."""
    write_study(
        run,
        summary["seconds"],
        "From preferences to a policy",
        [
            *align_report.sections(run, summary["policy"], "Policy: "),
            *reward_report.sections(run, summary["reward"], "Reward: "),
        ],
        files=[summary["policy"]["export"], str(run.path)],
        subtitle=f"A reward by {summary['reward']['loss']}, then a policy by "
        f"{summary['policy']['loss']}: {align_report.subtitle(run, summary['policy'])}",
    )
