"""The report of `experiments.preference_to_policy`, and its closing lines in the terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from markupsafe import Markup

from irl_jax.eval.intervals import Interval
from irl_jax.eval.kl import unmoved
from irl_jax.recipes.policy_training import POLICY
from irl_jax.recipes.preference_measures import HELD_OUT
from irl_jax.recipes.preference_training import REWARD
from irl_jax.report.page import (
    Sample,
    card,
    cards,
    figure,
    gain_tone,
    note,
    samples,
    section,
    standstill,
    table,
)
from irl_jax.report.plots import lines
from irl_jax.report.series import Series, from_rows, smooth
from irl_jax.report.study import write_study
from irl_jax.train.run import RunDirectory

SHOWN = 12  # samples in the report
SMOOTHED = 20  # points of a smoothed curve that stand for one


def conclusion(summary: dict[str, Any]) -> str:
    """The closing lines in the terminal."""
    show = lambda name: str(Interval(*summary[name]))
    method = summary["method"].upper()
    rows = [
        ("reward model, pair accuracy", show("reward_accuracy")),
        ("  longer is better; chance", f"{show('longer_accuracy')}; {summary['chance']:.3f}"),
    ]
    if members := summary["members"]:
        alone = ", ".join(f"{accuracy[0]:.3f}" for accuracy in members["accuracy"])
        rows += [
            ("  its members alone", alone),
            ("  their disagreement", f"{members['before'][0]:.3f} -> {members['after'][0]:.3f}"),
        ]
    if summary["implicit_accuracy"] is not None:
        rows.append((f"{method}, implicit-reward accuracy", show("implicit_accuracy")))
    if left_out := list_left_out(summary):
        rows.append(("pairs left out", left_out))
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
    lines = [f"{name:<32}  {value}" for name, value in rows]
    return "\n".join(["", held, *lines, *filter(None, [unmoved(Interval(*summary["kl"]))])])


def list_left_out(summary: dict[str, Any]) -> str:
    """Why pairs of the file were left out, and how many; empty if none was.

    Example:
        >>> list_left_out({"left_out": {"over a limit": 2, "with equal sides": 1}})
        '2 over a limit, 1 with equal sides'
    """
    return ", ".join(f"{count} {why}" for why, count in summary["left_out"].items())


def write_report(run: RunDirectory, summary: dict[str, Any]) -> None:
    """report.html: headline numbers, curves, samples, the config, timings."""
    interval = lambda name: Interval(*summary[name])
    gain, accuracy, kl = (interval(name) for name in ("reward_gain", "reward_accuracy", "kl"))
    headline = cards(
        card(
            "learned reward, after - before",
            gain,
            f"{summary['reward_before'][0]:.3f} before, {summary['reward_after'][0]:.3f} after",
            interval=gain,
            tone=gain_tone(gain, kl),
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
    members = summary["members"]
    if members:
        alone = enumerate(members["accuracy"], start=1)
        ranking[1:1] = [[f"member {m} alone", Interval(*accuracy)] for m, accuracy in alone]
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
    loss = "member_loss" if members else "loss"  # a member's, or the sum of all
    shown = [
        Sample(r["prompt"], r["before"], r["after"], r["reward_before"], r["reward_after"])
        for r in run.samples()
        if r["stage"] == HELD_OUT
    ]
    write_study(
        run,
        summary["seconds"],
        "From preferences to a policy",
        [
            section(
                "Results",
                headline,
                standstill(kl),
                note(
                    "The learned reward is what the policy was trained for, or was learned from "
                    "the same pairs: let people or an independent judge confirm the gain."
                ),
            ),
            section(
                "Reward model",
                table(["pairs ranked by", "accuracy on held-out pairs"], ranking),
                figure(
                    curves(REWARD, [("accuracy", "accuracy"), (loss, "loss, nats")]),
                    "Accuracy and loss on the training batches of the reward model.",
                ),
            ),
            *([section("Members", *members_report(summary, curves))] if members else []),
            section(
                f"Policy: {summary['method'].upper()}",
                table(["on held-out prompts", "before", "after"], policy),
                figure(
                    curves(POLICY, [(name, label), ("loss", "loss")]),
                    f"{label.capitalize()} and loss on the training batches of the policy.",
                ),
            ),
            section("Samples", samples(shown[:SHOWN], reward="learned reward")),
        ],
        files=[summary["export"], str(run.path)],
        subtitle=(
            f"{summary['pairs']} pairs to learn from, {summary['held_out_pairs']} held out; "
            + (f"left out: {left_out}; " if (left_out := list_left_out(summary)) else "")
            + f"model {run.config['model']}"
        ),
    )


def members_report(
    summary: dict[str, Any], curves: Callable[[str, list[tuple[str, str]]], str]
) -> list[Markup]:
    """Where an ensemble's members disagree, and whether the policy went there."""
    members = summary["members"]
    rows = [
        [name, Interval(*members[key])]
        for name, key in (
            ("reward of chosen less rejected, held-out pairs", "pairs"),
            ("reward of an answer before", "before"),
            ("reward of an answer after", "after"),
            ("after - before", "gain"),
        )
    ]
    shown = [
        table(["standard deviation over members", "units of reward"], rows),
        note(
            "Members learned from the same pairs. Disagreement that grows with the policy is a "
            "sign that it left what the pairs say something about, and that its gain is in doubt."
        ),
    ]
    if summary["method"] == "grpo":
        label = "disagreement, units of reward"
        plot = curves(POLICY, [("disagreement", label)])
        shown.append(figure(plot, "Disagreement on the completions of each update."))
    return shown


def _curve(rows: Sequence[dict[str, Any]], stage: str, name: str) -> Series:
    """A training metric, smoothed where its updates are many."""
    series = from_rows(rows, name, stage=stage)
    return smooth(series, max(1, len(series.x) // SMOOTHED))
