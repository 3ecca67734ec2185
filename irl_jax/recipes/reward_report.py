"""The report of `irl-jax reward`, and its closing lines in the terminal."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from irl_jax.recipes.align_report import AT, curves, list_left_out
from irl_jax.recipes.preference_training import REWARD
from irl_jax.report.page import card, cards, note, section, table
from irl_jax.report.study import write_study
from irl_jax.report.values import closing
from irl_jax.train.run import RunDirectory

QUALITY = {
    "accuracy": "held-out pairs in order",
    "longer_accuracy": "  by length: longer is better",
    "spearman": "rank correlation with the scores",
    "auc": "AUC, good against bad",
}
BASELINE = {"accuracy": 0.5, "spearman": 0.0, "auc": 0.5}


def conclusion(summary: dict[str, Any]) -> str:
    """The closing lines in the terminal."""
    loss = " -> ".join(f"{summary['held_out'][at]['loss']:.3f}" for at in AT)
    rows: dict[str, Any] = {"loss on held-out examples": loss}
    rows |= {QUALITY[name]: value for name, value in summary["quality"].items()}
    rows["time"] = f"{sum(summary['seconds'].values()):.0f} s"
    if left_out := list_left_out(summary):
        rows["left out"] = left_out
    return closing(
        f"{summary['loss']}, {summary['updates']} updates; on {summary['held_out_examples']} "
        f"held-out {summary['kind']} of {summary['held_out_prompts']} prompts:",
        list(rows.items()),
        report=summary["report"],
    )


def write_report(run: RunDirectory, summary: dict[str, Any]) -> None:
    """report.html: headline numbers, curves, the config, timings."""
    left_out = list_left_out(summary)
    write_study(
        run,
        summary["seconds"],
        f"A reward model by {summary['loss']}",
        [results(summary), section("Training", curves(run.metrics(), REWARD)), measured(summary)],
        files=[str(run.path)],
        subtitle=f"{summary['updates']} updates on {summary['examples']} {summary['kind']}; "
        f"{summary['held_out_examples']} held out; "
        + (f"left out: {left_out}; " if left_out else "")
        + f"model {run.config['model']}",
    )


def results(summary: dict[str, Any]) -> Markup:
    """Headline numbers."""
    quality = summary["quality"]
    shown = [
        card(QUALITY[name], quality[name], "on held-out prompts", baseline=baseline)
        for name, baseline in BASELINE.items()
        if name in quality
    ]
    told = []
    if "longer_accuracy" in quality:
        told = [note(f"A reader who likes long responses is right in "
                     f"{quality['longer_accuracy'][0]:.3f} of the pairs.")]  # fmt: skip
    return section("Results", cards(*shown), *told)


def measured(summary: dict[str, Any]) -> Markup:
    """The loss and its metrics on held-out examples, before and after."""
    held_out = summary["held_out"]
    rows = {
        name.replace("_", " "): [held_out[at][name] for at in AT]
        for name in held_out["after"]
        if name in held_out["before"]
    }
    return section("Held out", table(["mean over examples", "before", "after"], rows))
