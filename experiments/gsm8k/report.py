"""The report of `experiments.gsm8k`, and its closing lines in the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from experiments.gsm8k.tasks import EVALUATION
from irl_jax.eval.intervals import Interval
from irl_jax.eval.kl import unmoved
from irl_jax.recipes.policy_training import POLICY
from irl_jax.report.page import (
    Sample,
    card,
    cards,
    figure,
    figures,
    gain_tone,
    note,
    samples,
    section,
    standstill,
    table,
)
from irl_jax.report.plots import lines
from irl_jax.report.series import curves, training_curve
from irl_jax.report.study import write_study
from irl_jax.report.values import closing
from irl_jax.train.run import RunDirectory

SHOWN = 12  # samples in the report


def measured(summary: dict[str, Any]) -> list[tuple[int, dict[str, Any]]]:
    """Rollouts done and what was measured then, in order."""
    return sorted((int(step), result) for step, result in summary["evaluations"].items())


def moved(summary: dict[str, Any]) -> Interval | None:
    """KL of the policy to the model it started from, nats; None if it was not measured."""
    return None if summary["kl"] is None else Interval(*summary["kl"])


def conclusion(summary: dict[str, Any]) -> str:
    """The closing lines in the terminal."""
    (_, before), (last, after) = measured(summary)[0], measured(summary)[-1]
    change = lambda name, digits=3: f"{before[name]:.{digits}f} -> {after[name]:.{digits}f}"
    rows = {
        "pass@1 before": before["pass_at_1"],
        "pass@1 after": after["pass_at_1"],
        "  paired difference (95 %)": summary["gain"],
        "answer marked": change("marked"),
        "ended by itself": change("ended"),
        "tokens": change("tokens", 1),
        "KL to the model, nats": summary["kl"] or "not measured",
        "time": f"{sum(summary['seconds'].values()):.0f} s",
        "model": summary["export"],
    }
    if before["majority"] is not None:
        votes = f"{before['majority'][0]:.3f} -> {after['majority'][0]:.3f}"
        rows["majority of the completions"] = votes
    kl = moved(summary)
    return closing(
        f"{summary['algorithm']}, {last} rollouts; on {summary['test_questions']} test questions:",
        list(rows.items()),
        *filter(None, [kl and unmoved(kl)]),
        report=summary["report"],
    )


def write_report(run: RunDirectory, summary: dict[str, Any]) -> None:
    """report.html: headline numbers, curves, answers, the config, timings."""
    steps = measured(summary)
    write_study(
        run,
        summary["seconds"],
        "Reinforcement learning from verifiable rewards: GSM8K",
        [
            results(summary),
            section("Training", training_curves(run)),
            section("Answers", answers(run, steps[0][0], steps[-1][0])),
        ],
        files=[summary["export"], str(run.path)],
        subtitle=f"{summary['algorithm']} on {summary['train_questions']} training questions; "
        f"model {run.config['model']}",
    )


def results(summary: dict[str, Any]) -> Markup:
    """Headline numbers, every evaluation, and how to read them."""
    steps, kl = measured(summary), moved(summary)
    (_, before), (_, after) = steps[0], steps[-1]
    tested = f"{summary['test_questions']} test questions"
    from_model = "nats a sampled completion"
    if kl is None:
        from_model = "not measured: all weights were trained, and no reference was kept"
    columns = {
        "rollouts": lambda step: step[0],
        "pass@1": lambda step: step[1]["pass_at_1"],
        "majority": lambda step: step[1]["majority"],
        "answer marked": lambda step: step[1]["marked"],
        "ended by itself": lambda step: step[1]["ended"],
        "tokens": lambda step: step[1]["tokens"],
    }
    return section(
        "Results",
        cards(
            card("pass@1 after", after["pass_at_1"], tested, baseline=before["pass_at_1"][0]),
            card("pass@1, after - before", summary["gain"], "same questions",
                 tone=gain_tone(Interval(*summary["gain"]), kl)),
            card("answer marked", after["marked"], f"{before['marked']:.3f} before"),
            card("KL to the model it started from", kl, from_model),
        ),
        standstill(kl),
        table(columns, steps),
        test_curve(steps),
        note(
            "Intervals (95 %) are over questions and hold for these weights. Another seed would "
            "train other weights. The difference is of paired questions. Only questions whose "
            "completions differ in reward move the policy: see 'moves' below."
        ),
    )  # fmt: skip


def test_curve(steps: Sequence[tuple[int, dict[str, Any]]]) -> Markup:
    """Accuracy on the test questions over the rollouts."""
    named = {"pass@1": [result["pass_at_1"] for _, result in steps]}
    if steps[0][1]["majority"] is not None:
        named["majority"] = [result["majority"] for _, result in steps]
    drawn = {"share of test questions right": curves(named, [step for step, _ in steps])}
    plot = lines(drawn, x="rollouts learned from")
    return figure(plot, "Accuracy on the test questions, with 95 % intervals over questions.")


def training_curves(run: RunDirectory) -> Markup:
    """What the metrics of the updates say."""
    rows = [row for row in run.metrics() if row["stage"] == POLICY]
    terms = [name for name in rows[0] if name.startswith("reward_")]
    panels = [
        (["reward", *terms], "reward and its terms", "Mean reward of sampled completions."),
        (["solved", "has_signal", "moves"], "share of questions",
         "Solved: a completion is right. Useful: another one is wrong. Moves: rewards differ."),
        (["length"], "tokens of a completion", "Length of sampled completions."),
        (["entropy"], "entropy, nats a token", "Entropy of the policy, estimated on its samples."),
    ]  # fmt: skip
    if "kl" in rows[0]:
        panels.append((["kl"], "KL, nats a completion", "KL to the model that it started from."))
    own = lambda names: [training_curve(rows, name, stage=POLICY) for name in names]
    plot = lambda names, label: lines({label: own(names)}, x="rollout")
    return figures(*(figure(plot(names, label), text) for names, label, text in panels))


def answers(run: RunDirectory, first: int, last: int) -> Markup:
    """Answers to the same test questions before and after."""
    found = [row for row in run.samples() if row["stage"] == EVALUATION]
    side = lambda step: {row["source"]: row for row in found if row["step"] == step}
    before, after = side(first), side(last)
    shown = [
        Sample(
            f"{row['question']}\n(answer: {row['answer']})",
            row["completions"][0],
            after[source]["completions"][0],
            row["correct"][0],
            after[source]["correct"][0],
        )
        for source, row in list(before.items())[:SHOWN]
    ]
    return samples(shown, reward="1 if right")
