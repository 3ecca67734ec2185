"""What preferences taught, measured on held-out prompts: numbers, samples, a report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import jax
import numpy as np
from jax import Array

from experiments.preference_data import as_text
from experiments.preference_training import POLICY, REWARD, Setup
from irl_jax.data.batches import collate_preferences
from irl_jax.data.encode import EncodedPreference, EncodedPrompt
from irl_jax.eval.intervals import Interval, bootstrap, paired_difference
from irl_jax.eval.kl import sequence_kl
from irl_jax.eval.ranking import pair_accuracy
from irl_jax.losses.direct import log_ratio
from irl_jax.masking import check_range
from irl_jax.report.page import (
    Sample,
    Tone,
    card,
    cards,
    command,
    figure,
    key_values,
    note,
    page,
    samples,
    section,
    table,
    timings,
    write,
)  # fmt: skip
from irl_jax.report.plots import lines
from irl_jax.report.series import Series, from_rows, smooth
from irl_jax.train.progress import Advance
from irl_jax.train.run import RunDirectory
from irl_jax.train.shard import fetch
from irl_jax.types import Group, Preference, PyTree

Item = TypeVar("Item")
HELD_OUT = "held_out"  # stage of the samples
SHOWN = 12  # samples in the report
SMOOTHED = 20  # points of a smoothed curve that stand for one


@dataclass(frozen=True)
class EvaluationConfig:
    """How the policy is measured on held-out prompts."""

    prompts: int = 64  # held-out prompts that are answered, at most
    completions: int = 4  # completions of each prompt, before and after
    batch_size: int = 16  # pairs or prompts at a time

    def __post_init__(self) -> None:
        check_range("evaluation.prompts", self.prompts, 2)
        check_range("evaluation.completions", self.completions, 1)
        check_range("evaluation.batch_size", self.batch_size, 1)


@dataclass(frozen=True)
class Answers:
    """What a policy answered to P prompts, K times each.

    Attributes:
        text: [P][K].
        reward: f64[P, K], learned reward.
        mask: bool[P, K, T].
        terminated: bool[P, K], whether the completion ended with EOS.
        logp: f32[P, K, T], log-probs under the policy that answered (nats).
        ref_logp: f32[P, K, T], log-probs under the reference (nats).
    """

    text: list[list[str]]
    reward: np.ndarray
    mask: np.ndarray
    terminated: np.ndarray
    logp: np.ndarray
    ref_logp: np.ndarray

    @property
    def length(self) -> float:
        """Mean number of tokens of a completion."""
        return float(self.mask.sum(-1).mean())


def chunks(items: Sequence[Item], size: int) -> list[tuple[int, list[Item | None]]]:
    """This process's rows of each batch of `size` items: (number of items, rows).

    The last batch is filled up with None.
    """
    share = size // jax.process_count()
    mine = slice(jax.process_index() * share, (jax.process_index() + 1) * share)
    found = []
    for start in range(0, len(items), size):
        rows: list[Item | None] = list(items[start : start + size])
        found.append((len(rows), (rows + [None] * (size - len(rows)))[mine]))
    return found


def score_pairs(
    setup: Setup,
    pairs: Sequence[EncodedPreference],
    rewards: Callable[[Preference], Array],
    *,
    batch_size: int,
    advance: Advance,
) -> np.ndarray:
    """Rewards of pairs, f64[N, 2].

    Args:
        setup: for the shape of batches.
        pairs: N pairs.
        rewards: batch of B pairs -> f32[B, 2].
        batch_size: B.
        advance: told the number of pairs done.
    """
    found: list[np.ndarray] = []
    done = 0
    for count, rows in chunks(pairs, batch_size):
        pad_id = setup.model.tokenizer.pad_id
        batch = collate_preferences(rows, setup.pairs.shapes[-1], pad_id=pad_id)
        found.append(fetch(rewards(batch))[:count])
        done += count
        advance(done, {})
    return np.concatenate(found).astype(np.float64)


def implicit_rewards(setup: Setup, policy: PyTree, beta: float, batch: Preference) -> Array:
    """β log π/π_ref of the sides of pairs, f32[B, 2]; `policy` is a decoder's parameters."""
    logp, ref_logp = (setup.logp(params, batch, 1.0) for params in (policy, setup.model.params))
    return beta * log_ratio(logp, ref_logp, batch.mask)


def accuracy_on(pairs: Sequence[EncodedPreference], rewards: np.ndarray) -> Interval:
    """Weighted accuracy of rewards f64[N, 2], with an interval over prompts."""
    _, clusters = np.unique([repr(pair.prompt) for pair in pairs], return_inverse=True)
    return pair_accuracy(rewards, [pair.weight for pair in pairs], clusters)


def lengths(pairs: Sequence[EncodedPreference]) -> np.ndarray:
    """Tokens of both sides, f64[N, 2]: the reward of a reader who likes long answers."""
    return np.array([[len(pair.chosen), len(pair.rejected)] for pair in pairs], np.float64)


def answer(
    setup: Setup,
    policy: PyTree,
    prompts: Sequence[EncodedPrompt],
    rewards: Callable[[Group], Array],
    config: EvaluationConfig,
    advance: Advance,
) -> Answers:
    """Samples and scores completions; with the same random numbers for every policy.

    Args:
        setup: model, mesh, sampling.
        policy: parameters of the decoder that answers.
        prompts: P prompts.
        rewards: completions -> f32[B, K].
        config: number of completions, size of batches.
        advance: told the number of prompts done.
    """
    text: list[list[str]] = []
    parts: list[tuple[np.ndarray, ...]] = []
    key = setup.key(3)
    for i, (count, rows) in enumerate(chunks(prompts, config.batch_size)):
        batch_key = jax.random.fold_in(key, i)
        group = setup.sample(policy, setup.prompts(rows), batch_key, config.completions)
        ref_logp = setup.logp(setup.model.params, group, setup.sampling.temperature)
        arrays = (rewards(group), group.mask, group.terminated, group.logp, ref_logp)
        action, *rest = (x[:count] for x in fetch((group.action, *arrays)))
        decode = setup.model.tokenizer.decode
        masks = rest[1]
        text += [
            [decode(a[m]) for a, m in zip(*row, strict=True)]
            for row in zip(action, masks, strict=True)
        ]
        parts.append(tuple(rest))
        advance(len(text), {})
    reward, *others = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Answers(text, reward.astype(np.float64), *others)


def compare(before: Answers, after: Answers) -> dict[str, Any]:
    """How the policy changed, with intervals over prompts."""
    mean = lambda answers: answers.reward.mean(1)
    prompts, completions = after.reward.shape
    flat = lambda x: x.reshape(prompts * completions, -1)
    clusters = np.repeat(np.arange(prompts), completions)
    return {
        "reward_before": bootstrap(mean(before)),
        "reward_after": bootstrap(mean(after)),
        "reward_gain": paired_difference(mean(before), mean(after)),
        "kl": sequence_kl(flat(after.logp), flat(after.ref_logp), flat(after.mask), clusters),
        "length_before": before.length,
        "length_after": after.length,
        "terminated_before": float(before.terminated.mean()),
        "terminated_after": float(after.terminated.mean()),
    }


def write_samples(
    run: RunDirectory, step: int, prompts: Sequence[EncodedPrompt], before: Answers, after: Answers
) -> None:
    """The first completion of each prompt, before and after, to samples.jsonl."""
    run.rewind(0, HELD_OUT)
    for i, prompt in enumerate(prompts):
        row = {
            "prompt": as_text(prompt.record.prompt),
            "before": before.text[i][0],
            "after": after.text[i][0],
            "reward_before": before.reward[i, 0],
            "reward_after": after.reward[i, 0],
        }
        run.sample(step, row, HELD_OUT)


def conclusion(summary: dict[str, Any]) -> str:
    """The closing lines in the terminal."""
    show = lambda name: str(Interval(*summary[name]))
    method = summary["method"].upper()
    rows = [
        ("reward model, pair accuracy", show("reward_accuracy")),
        ("  longer is better; chance", f"{show('longer_accuracy')}; {summary['chance']:.3f}"),
    ]
    if summary["implicit_accuracy"] is not None:
        rows.append((f"{method}, implicit-reward accuracy", show("implicit_accuracy")))
    rows += [
        (
            f"{method}, learned reward",
            f"{summary['reward_before'][0]:.3f} -> {summary['reward_after'][0]:.3f}",
        ),
        ("  paired difference (95 %)", show("reward_gain")),
        ("  KL to the model, nats", show("kl")),
        ("  tokens", f"{summary['length_before']:.1f} -> {summary['length_after']:.1f}"),
        ("time", f"{sum(summary['seconds'].values()):.0f} s"),
        ("model", summary["export"]),
        ("report", summary["report"]),
    ]
    held = f"on {summary['held_out_prompts']} held-out prompts ({summary['held_out_pairs']} pairs):"
    return "\n".join(["", held, *(f"{name:<32}  {value}" for name, value in rows)])


def write_report(run: RunDirectory, summary: dict[str, Any]) -> None:
    """report.html: headline numbers, curves, samples, the config, timings."""
    interval = lambda name: Interval(*summary[name])
    gain, accuracy, kl = (interval(name) for name in ("reward_gain", "reward_accuracy", "kl"))
    tone: Tone = "good" if gain.low > 0 else "bad" if gain.high < 0 else "plain"
    headline = cards(
        card(
            "learned reward, after - before",
            gain,
            f"{summary['reward_before'][0]:.3f} before, {summary['reward_after'][0]:.3f} after",
            interval=gain,
            tone=tone,
        ),
        card(
            "reward model, pair accuracy",
            accuracy,
            f"longer is better: {summary['longer_accuracy'][0]:.3f}",
            interval=accuracy,
            baseline=summary["chance"],
        ),
        card("KL to the model it started from", kl, "nats a completion", interval=kl),
    )
    ranking = [
        ["learned reward", accuracy],
        ["longer is better", interval("longer_accuracy")],
        ["chance", summary["chance"]],
    ]
    if summary["implicit_accuracy"] is not None:
        ranking.insert(1, ["DPO's implicit reward", interval("implicit_accuracy")])
    policy = [
        [name, summary[f"{key}_before"], summary[f"{key}_after"]]
        for name, key in (("tokens of a completion", "length"), ("ended by itself", "terminated"))
    ]
    rows = run.metrics()
    named = {"dpo": ("accuracy", "implicit-reward accuracy"), "grpo": ("reward", "learned reward")}
    name, label = named[summary["method"]]
    curves = lambda stage, panels: lines(
        {label: [_curve(rows, stage, name)] for name, label in panels}, x="update"
    )
    shown = [
        Sample(r["prompt"], r["before"], r["after"], r["reward_before"], r["reward_after"])
        for r in run.samples()
        if r["stage"] == HELD_OUT
    ]
    html = page(
        "From preferences to a policy",
        [
            section(
                "Results",
                headline,
                note(
                    "The learned reward is what the policy was trained for, or was learned from "
                    "the same pairs: let people or an independent judge confirm the gain."
                ),
            ),
            section(
                "Reward model",
                table(["pairs ranked by", "accuracy on held-out pairs"], ranking),
                figure(
                    curves(REWARD, [("accuracy", "accuracy"), ("loss", "loss, nats")]),
                    "Accuracy and loss on the training batches of the reward model.",
                ),
            ),
            section(
                f"Policy: {summary['method'].upper()}",
                table(["on held-out prompts", "before", "after"], policy),
                figure(
                    curves(POLICY, [(name, label), ("loss", "loss")]),
                    f"{label.capitalize()} and loss on the training batches of the policy.",
                ),
            ),
            section("Samples", samples(shown[:SHOWN], reward="learned reward")),
            section("Configuration", key_values(run.config)),
            section("Time", timings(summary["seconds"])),
            section("Files", command(f"{summary['export']}\n{run.path}")),
        ],
        subtitle=(
            f"{summary['pairs']} pairs to learn from, {summary['held_out_pairs']} held out; "
            f"model {run.config['model']}"
        ),
    )
    write(run.report, html)


def _curve(rows: Sequence[dict[str, Any]], stage: str, name: str) -> Series:
    """A training metric, smoothed where its updates are many."""
    series = from_rows(rows, name, stage=stage)
    return smooth(series, max(1, len(series.x) // SMOOTHED))


def held_out_accuracy(
    setup: Setup, rewards: Callable[[Preference], Array], config: EvaluationConfig, advance: Advance
) -> Interval:
    """Accuracy of rewards on the held-out pairs."""
    pairs = setup.pairs.held_out
    score = partial(score_pairs, setup, pairs, rewards, batch_size=config.batch_size)
    return accuracy_on(pairs, score(advance=advance))
