"""The report of `irl-jax align`, and its closing lines in the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from irl_jax.eval.intervals import Interval
from irl_jax.eval.kl import unmoved
from irl_jax.recipes.policy_training import POLICY
from irl_jax.recipes.quality import LABELS
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
from irl_jax.report.values import as_interval, closing, show
from irl_jax.train.run import RunDirectory

HELD_OUT = "held_out"  # stage of the samples
SHOWN = 12  # samples in the report
AT = ("before", "after")
IMPLICIT = "implicit reward"
CURVES = {  # metric -> label; those that a run has are drawn
    "loss": "loss",
    "member_loss": "loss of a member",
    "reward": "reward of a completion",
    "accuracy": "accuracy",
    "pair_accuracy": "accuracy of pairs",
    "disagreement": "disagreement of the reward's members",
    "kl": "KL to the model, nats",
    "length": "tokens of a completion",
    "grad_norm": "norm of the gradient",
}


def conclusion(summary: dict[str, Any]) -> str:
    """The closing lines in the terminal."""
    return closing(*told(summary), report=summary["report"])


def told(summary: dict[str, Any]) -> list[Any]:
    """What is known of the policy, as `closing` takes it."""
    change = lambda values, digits=3: " -> ".join(f"{v:.{digits}f}" for v in values)
    rows: dict[str, Any] = {}
    if held_out := summary["held_out"]:
        for name in ("loss", "accuracy", "pair_accuracy"):
            if name in held_out["after"]:
                rows[f"{name} on held-out examples"] = change(held_out[at][name] for at in AT)
    rows |= {f"{IMPLICIT}, {LABELS[k].strip()}": v for k, v in implicit(summary).items()}
    if "reward_gain" in summary:
        rows["reward of answers"] = change(summary[f"reward_{at}"][0] for at in AT)
        rows["  paired difference (95 %)"] = summary["reward_gain"]
    if "disagreement_gain" in summary:
        rows["  its members' disagreement"] = change(summary[f"disagreement_{at}"][0] for at in AT)
    rows |= {
        "KL to the model, nats": summary["kl"],
        "tokens of an answer": change((summary[f"length_{at}"] for at in AT), 1),
        "model": summary["export"],
    }
    if "seconds" in summary:
        rows["time"] = f"{sum(summary['seconds'].values()):.0f} s"
    if left_out := list_left_out(summary):
        rows["left out"] = left_out
    return [
        f"{summary['loss']}, {summary['updates']} updates; on {summary['held_out_prompts']} "
        f"held-out prompts ({summary['held_out_examples']} {summary['kind']}):",
        list(rows.items()),
        *filter(None, [unmoved(Interval(*summary["kl"]))]),
    ]


def implicit(summary: dict[str, Any]) -> dict[str, Any]:
    """How log π/π_ref orders held-out completions, without what lengths say."""
    return {k: v for k, v in summary["implicit"].items() if k != "longer_accuracy"}


def list_left_out(summary: dict[str, Any]) -> str:
    """Why examples of the file were left out, and how many; empty if none was.

    Example:
        >>> list_left_out({"left_out": {"over a limit": 2, "with equal sides": 1}})
        '2 over a limit, 1 with equal sides'
    """
    return ", ".join(f"{count} {why}" for why, count in summary["left_out"].items())


def write_report(run: RunDirectory, summary: dict[str, Any]) -> None:
    """report.html: headline numbers, curves, samples, the config, timings."""
    write_study(
        run,
        summary["seconds"],
        f"A policy by {summary['loss']}",
        sections(run, summary),
        files=[summary["export"], str(run.path)],
        subtitle=subtitle(run, summary),
    )


def subtitle(run: RunDirectory, summary: dict[str, Any]) -> str:
    """What was learned from what."""
    left_out = list_left_out(summary)
    return (
        f"{summary['updates']} updates on {summary['examples']} {summary['kind']}; "
        f"{summary['held_out_examples']} held out; "
        + (f"left out: {left_out}; " if left_out else "")
        + f"model {run.config['model']}"
    )


def sections(run: RunDirectory, summary: dict[str, Any], of: str = "") -> list[Markup]:
    """What is known of the policy.

    Args:
        run: whose metrics and samples are shown.
        summary: of the policy.
        of: what headings begin with.
    """
    shown = [
        Sample(r["prompt"], r["before"], r["after"], r["reward_before"], r["reward_after"])
        for r in run.samples()
        if r["stage"] == HELD_OUT
    ]
    return [
        section(f"{of}Results", *results(summary)),
        section(f"{of}Training", curves(run.metrics(), POLICY)),
        section(f"{of}Held out", *measured(summary)),
        section(f"{of}Samples", samples(shown[:SHOWN], reward="reward")),
    ]


def results(summary: dict[str, Any]) -> list[Markup]:
    """Headline numbers."""
    kl = Interval(*summary["kl"])
    shown = []
    if "reward_gain" in summary:
        before, after = (f"{summary[f'reward_{at}'][0]:.3f}" for at in AT)
        shown.append(
            card("reward of answers, after - before", summary["reward_gain"],
                 f"{before} before, {after} after",
                 tone=gain_tone(Interval(*summary["reward_gain"]), kl))
        )  # fmt: skip
    for name, value in implicit(summary).items():
        shown.append(card(f"{IMPLICIT}, {LABELS[name]}", value, "log π/π_ref after training"))
    shown.append(card("KL to the model it started from", kl, "nats a completion"))
    gained = "reward_gain" in summary and gain_tone(Interval(*summary["reward_gain"]), kl) == "good"
    own = "The policy was trained for this reward, or both learned from the same examples. Let "
    own += "people or an independent judge confirm the gain."
    return [cards(*shown), standstill(kl), *([note(own)] if gained else [])]


def curves(rows: Sequence[dict[str, Any]], stage: str) -> Markup:
    """The metrics of a stage over its updates."""
    known = {name for row in rows if row["stage"] == stage for name in row}
    panels = {
        label: [training_curve(rows, name, stage=stage)]
        for name, label in CURVES.items()
        if name in known
    }
    return figure(lines(panels, x="update"), "Metrics on the batch of each update.")


def measured(summary: dict[str, Any]) -> list[Markup]:
    """What was measured on held-out prompts and examples, before and after."""
    rows: dict[str, list[Any]] = {
        "tokens of an answer": [summary[f"length_{at}"] for at in AT],
        "answers that ended by themselves": [summary[f"terminated_{at}"] for at in AT],
    }
    if held_out := summary["held_out"]:
        both = [name for name in held_out["after"] if name in held_out["before"]]
        rows |= {
            f"{name.replace('_', ' ')}, of examples": [held_out[at][name] for at in AT]
            for name in both
        }
    doubt = []
    if "disagreement_gain" in summary:
        rows["disagreement of the reward's members"] = [summary[f"disagreement_{at}"] for at in AT]
        doubt = [
            note(
                "Members learned from the same examples. Where they disagree more about what the "
                f"trained policy writes (by {show(as_interval(summary['disagreement_gain']))}), it "
                "may have gone where the examples say nothing, and its gain is in doubt."
            )
        ]
    return [table(["mean", "before", "after"], rows), *doubt]
