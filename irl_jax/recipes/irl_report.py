"""The report of `irl-jax irl`, and its closing lines in the terminal."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from irl_jax.eval.intervals import Interval
from irl_jax.eval.kl import unmoved
from irl_jax.recipes.align_report import AT, HELD_OUT, SHOWN, list_left_out, subtitle
from irl_jax.report.page import (
    Sample,
    card,
    cards,
    figure,
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

TOLD = {  # name in the summary -> label
    "gold": "gold reward of answers",
    "told_apart": "answers with less reward than the demonstration",
    "reward": "learned reward of answers",
    "distinct": "distinct answers to a prompt",
    "self_bleu": "self-BLEU of the answers to a prompt",
}
CURVES = {  # metric -> label; those that a run has are drawn
    "told": "samples told from the demonstration",
    "discriminator_loss": "loss of the discriminator",
    "demonstration_nll": "NLL of demonstrations, nats a token",
    "reward_policy": "reward of samples",
    "reward_demonstration": "reward of demonstrations",
    "token_reward_policy": "reward of a token of samples",
    "token_reward_demonstration": "reward of a token of demonstrations",
    "kl": "KL to the model, nats",
    "length": "tokens of a completion",
    "grad_norm": "norm of the policy's gradient",
}


def conclusion(summary: dict[str, Any]) -> str:
    """The closing lines in the terminal."""
    return closing(*told(summary), report=summary["report"])


def told(summary: dict[str, Any]) -> list[Any]:
    """What is known of reward and policy, as `closing` takes it."""
    change = lambda values, digits=3: " -> ".join(f"{v:.{digits}f}" for v in values)
    nll = (summary["held_out"][at]["loss"] for at in AT)
    rows: dict[str, Any] = {"NLL of held-out demonstrations, nats a token": change(nll)}
    for name in (name for name in TOLD if f"{name}_gain" in summary):
        rows[TOLD[name]] = change(summary[f"{name}_{at}"][0] for at in AT)
        rows[f"  paired difference (95 %), {name.replace('_', ' ')}"] = summary[f"{name}_gain"]
    rows |= {
        "KL to the model, nats": summary["kl"],
        "tokens of an answer": change((summary[f"length_{at}"] for at in AT), 1),
        "model": summary["export"],
        "time": f"{sum(summary['seconds'].values()):.0f} s",
    }
    if left_out := list_left_out(summary):
        rows["left out"] = left_out
    return [
        f"{summary['loss']}, {summary['updates']} updates; on {summary['held_out_prompts']} "
        f"held-out prompts ({summary['held_out_examples']} {summary['kind']}):",
        list(rows.items()),
        *filter(None, [unmoved(Interval(*summary["kl"]))]),
    ]


def write_report(run: RunDirectory, summary: dict[str, Any]) -> None:
    """report.html: headline numbers, curves, samples, the config, timings."""
    write_study(
        run,
        summary["seconds"],
        f"A reward and a policy by {summary['loss']}",
        sections(run, summary),
        files=[summary["export"], str(run.path)],
        subtitle=subtitle(run, summary),
    )


def sections(run: RunDirectory, summary: dict[str, Any]) -> list[Markup]:
    """What is known of reward and policy."""
    rows = [
        Sample(r["prompt"], r["before"], r["after"], r["reward_before"], r["reward_after"])
        for r in run.samples()
        if r["stage"] == HELD_OUT
    ]
    return [
        section("Results", *results(summary)),
        section("Training", curves(run)),
        section("Held out", measured(summary)),
        section("Samples", samples(rows[:SHOWN], reward="learned reward")),
    ]


def results(summary: dict[str, Any]) -> list[Markup]:
    """Headline numbers."""
    kl = Interval(*summary["kl"])
    shown = [
        card(
            f"{TOLD[name]}, after",
            summary[f"{name}_after"],
            f"{summary[f'{name}_before'][0]:.3f} before",
        )
        for name in ("gold", "told_apart", "self_bleu")
        if f"{name}_gain" in summary
    ]
    shown.append(card("KL to the model it started from", kl, "nats a completion"))
    about = note(
        "An answer is told from a demonstration where the learned reward is less for it: 0.5 is "
        "the policy that cannot be told from its expert, or a reward that knows no difference."
    )
    return [cards(*shown), standstill(kl), about]


def curves(run: RunDirectory) -> Markup:
    """The metrics over the updates."""
    rows = run.metrics()
    known = {name for row in rows for name in row}
    stage = rows[0]["stage"]
    panels = {
        label: [training_curve(rows, name, stage=stage)]
        for name, label in CURVES.items()
        if name in known
    }
    return figure(lines(panels, x="update"), "Metrics on the batch of each update.")


def measured(summary: dict[str, Any]) -> Markup:
    """What was measured on held-out prompts and demonstrations, before and after."""
    rows: dict[str, list[Any]] = {
        "NLL of demonstrations, nats a token": [summary["held_out"][at]["loss"] for at in AT]
    }
    rows |= {
        label: [summary[f"{name}_{at}"] for at in AT]
        for name, label in TOLD.items()
        if f"{name}_gain" in summary
    }
    rows["tokens of an answer"] = [summary[f"length_{at}"] for at in AT]
    rows["answers that ended by themselves"] = [summary[f"terminated_{at}"] for at in AT]
    return table(["mean", "before", "after"], rows)
