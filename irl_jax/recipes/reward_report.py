"""The report of `irl-jax reward`, and its closing lines in the terminal."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from irl_jax.recipes.align_report import AT, curves, list_left_out, subtitle
from irl_jax.recipes.quality import LABELS
from irl_jax.recipes.reward_model import REWARD
from irl_jax.report.page import card, cards, note, section, table
from irl_jax.report.study import write_study
from irl_jax.report.values import closing
from irl_jax.train.run import RunDirectory

BASELINE = {"accuracy": 0.5, "spearman": 0.0, "auc": 0.5}


def conclusion(summary: dict[str, Any]) -> str:
    """The closing lines in the terminal."""
    return closing(*told(summary), report=summary["report"])


def told(summary: dict[str, Any]) -> list[Any]:
    """What is known of the reward model, as `closing` takes it."""
    loss = " -> ".join(f"{summary['held_out'][at]['loss']:.3f}" for at in AT)
    rows: dict[str, Any] = {"loss on held-out examples": loss}
    rows |= {LABELS[name]: value for name, value in summary["quality"].items()}
    if members := summary["members"]:
        for name in BASELINE:
            if name in summary["quality"]:
                alone = ", ".join(f"{own[name][0]:.3f}" for own in members["quality"])
                rows[f"  each member alone, {LABELS[name]}"] = alone
    if "seconds" in summary:
        rows["time"] = f"{sum(summary['seconds'].values()):.0f} s"
    if left_out := list_left_out(summary):
        rows["left out"] = left_out
    return [
        f"{summary['loss']}, {summary['updates']} updates; on {summary['held_out_examples']} "
        f"held-out {summary['kind']} of {summary['held_out_prompts']} prompts:",
        list(rows.items()),
    ]


def write_report(run: RunDirectory, summary: dict[str, Any]) -> None:
    """report.html: headline numbers, curves, the config, timings."""
    write_study(
        run,
        summary["seconds"],
        f"A reward model by {summary['loss']}",
        sections(run, summary),
        files=[str(run.path)],
        subtitle=subtitle(run, summary),
    )


def sections(run: RunDirectory, summary: dict[str, Any], of: str = "") -> list[Markup]:
    """What is known of the reward model.

    Args:
        run: whose metrics are drawn.
        summary: of the reward model.
        of: what headings begin with.
    """
    return [
        section(f"{of}Results", *results(summary)),
        section(f"{of}Training", curves(run.metrics(), REWARD)),
        section(f"{of}Held out", measured(summary)),
        *([section(f"{of}Members", *members(summary))] if summary["members"] else []),
    ]


def results(summary: dict[str, Any]) -> list[Markup]:
    """Headline numbers."""
    quality = summary["quality"]
    shown = [
        card(LABELS[name], quality[name], "on held-out prompts", baseline=baseline)
        for name, baseline in BASELINE.items()
        if name in quality
    ]
    notes = []
    if "longer_accuracy" in quality:
        notes = [note(f"A reader who likes long responses is right in "
                     f"{quality['longer_accuracy'][0]:.3f} of the pairs.")]  # fmt: skip
    return [cards(*shown), *notes]


def measured(summary: dict[str, Any]) -> Markup:
    """The loss and its metrics on held-out examples, before and after."""
    held_out = summary["held_out"]
    rows = {
        name.replace("_", " "): [held_out[at][name] for at in AT]
        for name in held_out["after"]
        if name in held_out["before"]
    }
    return table(["mean over examples", "before", "after"], rows)


def members(summary: dict[str, Any]) -> list[Markup]:
    """What the members of an ensemble say alone, and how far apart."""
    each = summary["members"]["quality"]
    names = [name for name in BASELINE if name in summary["quality"]]
    rows = {f"member {m} alone": [own[n] for n in names] for m, own in enumerate(each, start=1)}
    rows = {"all together": [summary["quality"][n] for n in names]} | rows
    shown = [table(["reward", *(LABELS[n] for n in names)], rows)] if names else []
    if spread := summary["members"]["spread"]:
        named = {"reward of chosen less rejected, held-out pairs": [spread]}
        shown.append(table(["standard deviation over members", "units of reward"], named))
    return shown
