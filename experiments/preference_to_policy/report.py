"""The report of `experiments.preference_to_policy`, and its closing lines in the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from irl_jax.report.series import training_curve
from irl_jax.report.study import write_study
from irl_jax.report.values import closing
from irl_jax.train.run import RunDirectory

SHOWN = 12  # samples in the report
AT = ("before", "after")
LEARNED = {"dpo": ("accuracy", "implicit-reward accuracy"), "grpo": ("reward", "learned reward")}
UNSURE = {
    "reward of chosen less rejected, held-out pairs": "pairs",
    "reward of an answer before": "before",
    "reward of an answer after": "after",
    "after - before": "gain",
}


def conclusion(summary: dict[str, Any]) -> str:
    """The closing lines in the terminal."""
    method = summary["method"].upper()
    change = lambda values, digits=3: " -> ".join(f"{v:.{digits}f}" for v in values)
    rows = {
        "reward model, pair accuracy": summary["reward_accuracy"],
        "  longer is better": summary["longer_accuracy"],
        "  chance": summary["chance"],
    }
    if members := summary["members"]:
        rows["  its members alone"] = ", ".join(f"{a[0]:.3f}" for a in members["accuracy"])
        rows["  their disagreement"] = change(members[at][0] for at in AT)
    if summary["implicit_accuracy"] is not None:
        rows[f"{method}, implicit-reward accuracy"] = summary["implicit_accuracy"]
    if left_out := list_left_out(summary):
        rows["pairs left out"] = left_out
    rows |= {
        f"{method}, learned reward": change(summary[f"reward_{at}"][0] for at in AT),
        "  paired difference (95 %)": summary["reward_gain"],
        "  KL to the model, nats": summary["kl"],
        "  tokens": change((summary[f"length_{at}"] for at in AT), 1),
        "time": f"{sum(summary['seconds'].values()):.0f} s",
        "model": summary["export"],
    }
    return closing(
        f"on {summary['held_out_prompts']} held-out prompts ({summary['held_out_pairs']} pairs):",
        list(rows.items()),
        *filter(None, [unmoved(Interval(*summary["kl"]))]),
        report=summary["report"],
    )


def list_left_out(summary: dict[str, Any]) -> str:
    """Why pairs of the file were left out, and how many; empty if none was.

    Example:
        >>> list_left_out({"left_out": {"over a limit": 2, "with equal sides": 1}})
        '2 over a limit, 1 with equal sides'
    """
    return ", ".join(f"{count} {why}" for why, count in summary["left_out"].items())


def write_report(run: RunDirectory, summary: dict[str, Any]) -> None:
    """report.html: headline numbers, curves, samples, the config, timings."""
    rows, members = run.metrics(), summary["members"]
    shown = [
        Sample(r["prompt"], r["before"], r["after"], r["reward_before"], r["reward_after"])
        for r in run.samples()
        if r["stage"] == HELD_OUT
    ]
    left_out = list_left_out(summary)
    write_study(
        run,
        summary["seconds"],
        "From preferences to a policy",
        [
            results(summary),
            reward_model(rows, summary),
            *([disagreement(rows, summary)] if members else []),
            policy(rows, summary),
            section("Samples", samples(shown[:SHOWN], reward="learned reward")),
        ],
        files=[summary["export"], str(run.path)],
        subtitle=f"{summary['pairs']} pairs to learn from, {summary['held_out_pairs']} held out; "
        + (f"left out: {left_out}; " if left_out else "")
        + f"model {run.config['model']}",
    )


def results(summary: dict[str, Any]) -> Markup:
    """Headline numbers."""
    kl = Interval(*summary["kl"])
    return section(
        "Results",
        cards(
            card("learned reward, after - before", summary["reward_gain"],
                 f"{summary['reward_before'][0]:.3f} before, {summary['reward_after'][0]:.3f} "
                 "after", tone=gain_tone(Interval(*summary["reward_gain"]), kl)),
            card("reward model, pair accuracy", summary["reward_accuracy"],
                 f"longer is better: {summary['longer_accuracy'][0]:.3f}",
                 baseline=summary["chance"]),
            card("KL to the model it started from", kl, "nats a completion"),
        ),
        standstill(kl),
        note(
            "The policy was trained for the learned reward, or the reward was learned from the "
            "same pairs. Let people or an independent judge confirm the gain."
        ),
    )  # fmt: skip


def drawn(rows: Sequence[dict[str, Any]], stage: str, panels: Mapping[str, str]) -> str:
    """Metrics of a stage over its updates, SVG; panels: metric -> label."""
    own = lambda name: [training_curve(rows, name, stage=stage)]
    return lines({label: own(name) for name, label in panels.items()}, x="update")


def reward_model(rows: Sequence[dict[str, Any]], summary: dict[str, Any]) -> Markup:
    """What ranks the held-out pairs how well, and the training of the reward model."""
    members = summary["members"]
    ranked = {"learned reward": summary["reward_accuracy"]}
    if members:
        alone = enumerate(members["accuracy"], start=1)
        ranked |= {f"member {m} alone": accuracy for m, accuracy in alone}
    if summary["implicit_accuracy"] is not None:
        ranked["DPO's implicit reward"] = summary["implicit_accuracy"]
    ranked |= {"longer is better": summary["longer_accuracy"], "chance": summary["chance"]}
    loss = "member_loss" if members else "loss"  # a member's, or the sum of all
    return section(
        "Reward model",
        table(["pairs ranked by", "accuracy on held-out pairs"], list(ranked.items())),
        figure(
            drawn(rows, REWARD, {"accuracy": "accuracy", loss: "loss, nats"}),
            "Accuracy and loss on the training batches of the reward model.",
        ),
    )


def policy(rows: Sequence[dict[str, Any]], summary: dict[str, Any]) -> Markup:
    """What the policy writes before and after, and its training."""
    name, label = LEARNED[summary["method"]]
    measures = {"tokens of a completion": "length", "ended by itself": "terminated"}
    change = {k: [summary[f"{v}_{at}"] for at in AT] for k, v in measures.items()}
    return section(
        f"Policy: {summary['method'].upper()}",
        table(["on held-out prompts", "before", "after"], change),
        figure(
            drawn(rows, POLICY, {name: label, "loss": "loss"}),
            f"{label.capitalize()} and loss on the training batches of the policy.",
        ),
    )


def disagreement(rows: Sequence[dict[str, Any]], summary: dict[str, Any]) -> Markup:
    """Where an ensemble's members disagree, and whether the policy went there."""
    unsure = [[name, summary["members"][key]] for name, key in UNSURE.items()]
    shown = [
        table(["standard deviation over members", "units of reward"], unsure),
        note(
            "Members learned from the same pairs. If they disagree more about what the trained "
            "policy writes, it may have gone where the pairs say nothing, and its gain is in "
            "doubt."
        ),
    ]
    if summary["method"] == "grpo":
        plot = drawn(rows, POLICY, {"disagreement": "disagreement, units of reward"})
        shown.append(figure(plot, "Disagreement on the completions of each update."))
    return section("Members", *shown)
