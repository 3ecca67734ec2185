"""The report of `experiments.reward_of_an_aligned_model`, and its closing lines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from markupsafe import Markup

from irl_jax.eval.intervals import Interval
from irl_jax.eval.kl import unmoved
from irl_jax.report.page import (
    CORRECTED,
    card,
    cards,
    figure,
    figures,
    gain_tone,
    section,
    standstill,
    table,
)
from irl_jax.report.plots import against_n
from irl_jax.report.series import from_intervals
from irl_jax.report.study import write_study
from irl_jax.report.values import closing
from irl_jax.train.run import RunDirectory

LENGTH, LIKELIHOOD, VADER = "length", "log π_ref", "comparisons by VADER"
KINDS = {
    "aligned": "of the policy",
    "unmoved": "of a policy that has not moved",
    "baseline": "of something else",
}


def conclusion(summary: dict[str, Any], report: Path) -> str:
    """The closing lines in the terminal."""
    moved = f"{summary['gold_before'][0]:.3f} -> {summary['gold_after'][0]:.3f}"
    parts: list[Any] = [
        [
            ["gold reward on the prompts of training", moved],
            ["  paired difference (95 %)", summary["gold_gain"]],
            ["  KL to the untuned model, nats", summary["kl"]],
        ],
        *filter(None, [unmoved(Interval(*summary["kl"]))]),
    ]
    heads = ["samples of each side", *map(str, summary["pairs"])]
    for where, kinds in summary["orders"].items():
        parts.append(f"{where}: rank correlation with VADER [95 %]")
        rows = [
            [f"{name}, {KINDS[kind]}", *values]
            for kind, readings in kinds.items()
            for name, values in readings.items()
        ]
        less = [
            [f"{name} less its control", *values]
            for name, values in summary["less_control"][where].items()
        ]
        parts.append([heads, *rows, *less])
    return closing(*parts, report=report)


def results(summary: dict[str, Any], where: str) -> Markup:
    """What the readings order on one kind of prompts."""
    kinds, counts = summary["orders"][where], summary["pairs"]
    heads = [str(n) for n in counts]
    labels = {"aligned": "", "unmoved": ", nothing moved", "baseline": ""}
    drawn = {
        kind: [from_intervals(f"{name}{labels[kind]}", counts, values, reference=kind == "baseline")
               for name, values in kinds[kind].items()]
        for kind in KINDS
    }  # fmt: skip
    panels = {
        "Rank correlation with VADER": drawn["aligned"] + drawn["baseline"],
        "The same of controls": drawn["unmoved"],
    }
    p = summary["corrected"][where]
    return section(
        f"On {where}",
        f"Spearman's correlation with VADER among {summary['judged']} answers of the reference to "
        f"a prompt, the mean over {summary['prompts'][where]} prompts, with 95 % intervals by the "
        "bootstrap over prompts.",
        figures(
            figure(
                against_n(panels, x="samples of each side that are read"),
                "Readings by the number of samples, and their controls: samples of the reference "
                "in place of the policy's, and for log π/π_ref a LoRA with its numbers shuffled.",
            )
        ),
        *(
            table([KINDS[kind], *heads], readings) for kind, readings in kinds.items()
        ),
        "A reading less its control, by prompt:",
        table(["less its control", *heads], summary["less_control"][where]),
        CORRECTED,
        table(["less its control", "p"], {name: [value] for name, value in p.items()}),
        "A reading less that by log π/π_ref, by prompt:",
        table(["less log π/π_ref", *heads], summary["less_weights"][where]),
    )  # fmt: skip


def write_report(run: RunDirectory, summary: dict[str, Any]) -> None:
    """Writes report.html: the policy, and what was read of its reward."""
    gain, kl = Interval(*summary["gold_gain"]), Interval(*summary["kl"])
    policy = section(
        "The policy",
        cards(
            card("Gold reward, training prompts",
                 f"{summary['gold_before'][0]:.2f} → {summary['gold_after'][0]:.2f}",
                 f"gain {gain}, paired over prompts, 95 %", interval=gain,
                 tone=gain_tone(gain, kl)),
            card("KL to the untuned model", kl, "nats an answer", form=".3f"),
        ),
        standstill(kl),
        f"An answer had {summary['length_before']:.1f} tokens before and "
        f"{summary['length_after']:.1f} after.",
    )  # fmt: skip
    write_study(
        run,
        summary["seconds"],
        "The reward of an aligned model",
        [policy, *(results(summary, where) for where in summary["orders"])],
        subtitle="A language model was trained to please VADER. Its reward is read from its "
        "weights, and from its samples against its reference's.",
    )
