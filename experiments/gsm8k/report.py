"""The report of `experiments.gsm8k`, and its closing lines in the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

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
from irl_jax.report.series import Series, from_intervals, from_rows, smooth
from irl_jax.report.study import write_study
from irl_jax.train.run import RunDirectory

SHOWN = 12  # samples in the report
SMOOTHED = 20  # points of a smoothed curve that stand for one


def measured(summary: dict[str, Any]) -> list[tuple[int, dict[str, Any]]]:
    """Rollouts done and what was measured then, in order."""
    return sorted((int(step), result) for step, result in summary["evaluations"].items())


def moved(summary: dict[str, Any]) -> Interval | None:
    """KL of the policy to the model it started from, nats; None if it was not measured."""
    return None if summary["kl"] is None else Interval(*summary["kl"])


def conclusion(summary: dict[str, Any]) -> str:
    """The closing lines in the terminal."""
    (_, before), (last, after) = measured(summary)[0], measured(summary)[-1]
    kl = moved(summary)
    change = lambda name: f"{before[name]:.3f} -> {after[name]:.3f}"
    rows = [
        ("pass@1 before", str(Interval(*before["pass_at_1"]))),
        ("pass@1 after", str(Interval(*after["pass_at_1"]))),
        ("  paired difference (95 %)", str(Interval(*summary["gain"]))),
    ]
    if before["majority"] is not None:
        votes = f"{before['majority'][0]:.3f} -> {after['majority'][0]:.3f}"
        rows.append(("majority of the completions", votes))
    rows += [
        ("answer marked", change("marked")),
        ("ended by itself", change("ended")),
        ("tokens", f"{before['tokens']:.1f} -> {after['tokens']:.1f}"),
        ("KL to the model, nats", "not measured" if kl is None else str(kl)),
        ("time", f"{sum(summary['seconds'].values()):.0f} s"),
        ("model", summary["export"]),
        ("report", summary["report"]),
    ]
    head = (
        f"{summary['algorithm']}, {last} rollouts; on {summary['test_questions']} test questions:"
    )
    said = [] if kl is None else filter(None, [unmoved(kl)])
    return "\n".join(["", head, *(f"{name:<28}  {value}" for name, value in rows), *said])


def write_report(run: RunDirectory, summary: dict[str, Any]) -> None:
    """report.html: headline numbers, curves, answers, the config, timings."""
    steps = measured(summary)
    (_, before), (_, after) = steps[0], steps[-1]
    gain, kl = Interval(*summary["gain"]), moved(summary)
    accuracy = lambda result: Interval(*result["pass_at_1"])
    headline = cards(
        card("pass@1 after", accuracy(after), f"{summary['test_questions']} test questions",
             interval=accuracy(after), baseline=before["pass_at_1"][0]),
        card("pass@1, after - before", gain, "same questions", interval=gain,
             tone=gain_tone(gain, kl)),
        card("answer marked", after["marked"], f"{before['marked']:.3f} before"),
        card("KL to the model it started from", kl, "nats a sampled completion" if kl else
             "not measured: all weights were trained, and no reference kept", interval=kl),
    )  # fmt: skip
    rows = [
        [step, accuracy(r), Interval(*r["majority"]) if r["majority"] else None]
        + [r[name] for name in ("marked", "ended", "tokens")]
        for step, r in steps
    ]
    heads = ["rollouts", "pass@1", "majority", "answer marked", "ended by itself", "tokens"]
    write_study(
        run,
        summary["seconds"],
        "Reinforcement learning from verifiable rewards: GSM8K",
        [
            section(
                "Results",
                headline,
                standstill(kl),
                table(heads, rows),
                test_curve(steps),
                note(
                    "Intervals (95 %) are over questions and hold for these weights: another "
                    "seed would train other ones. The difference is of paired questions. "
                    "Only questions whose completions differ in reward move the policy: see "
                    "'moves' below."
                ),
            ),
            section("Training", training_curves(run)),
            section("Answers", answers(run, steps[0][0], steps[-1][0])),
        ],
        files=[summary["export"], str(run.path)],
        subtitle=(
            f"{summary['algorithm']} on {summary['train_questions']} training questions; model "
            f"{run.config['model']}"
        ),
    )


def test_curve(steps: Sequence[tuple[int, dict[str, Any]]]) -> Any:
    """Accuracy on the test questions over the rollouts."""
    names = {"pass@1": "pass_at_1"}
    if steps[0][1]["majority"] is not None:
        names["majority"] = "majority"
    x = [step for step, _ in steps]
    series = [
        from_intervals(label, x, [Interval(*result[name]) for _, result in steps])
        for label, name in names.items()
    ]
    plot = lines({"share of test questions right": series}, x="rollouts learned from")
    return figure(plot, "Accuracy on the test questions, with 95 % intervals over questions.")


def training_curves(run: RunDirectory) -> Any:
    """What the metrics of the updates say."""
    rows = [row for row in run.metrics() if row["stage"] == POLICY]
    terms = [name for name in rows[0] if name.startswith("reward_")]
    panels = [
        (["reward", *terms], "reward and its terms", "Mean reward of sampled completions."),
        (["solved", "has_signal", "moves"], "share of questions",
         "Questions of which a completion is right, of which another is wrong, and of which "
         "rewards differ."),
        (["length"], "tokens of a completion", "Length of sampled completions."),
        (["entropy"], "entropy, nats a token", "Entropy of the policy, estimated on its samples."),
    ]  # fmt: skip
    if "kl" in rows[0]:
        panels.append((["kl"], "KL, nats a completion", "KL to the model that was started from."))
    plot = lambda names, label: lines({label: [_curve(rows, n) for n in names]}, x="rollout")
    return figures(*(figure(plot(names, label), text) for names, label, text in panels))


def _curve(rows: Sequence[dict[str, Any]], name: str) -> Series:
    """A training metric, smoothed where its updates are many."""
    series = from_rows(rows, name, stage=POLICY)
    return smooth(series, max(1, len(series.x) // SMOOTHED))


def answers(run: RunDirectory, first: int, last: int) -> Any:
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
