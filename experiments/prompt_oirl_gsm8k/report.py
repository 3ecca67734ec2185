"""The report of `prompt_oirl_gsm8k`, and its closing lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from irl_jax.eval.intervals import Interval
from irl_jax.report.page import UNCORRECTED, card, cards, figure, gain_tone, section, table
from irl_jax.report.plots import against_n
from irl_jax.report.series import curves
from irl_jax.report.study import write_study
from irl_jax.report.values import closing
from irl_jax.train.run import RunDirectory


def conclusion(summary: dict[str, Any], report: Path) -> str:
    """The closing lines in the terminal."""
    chosen = summary["kinds"][summary["selected"]]
    figures = {
        "one prompt for all, best in training": summary["best"],
        "one prompt for all, best in hindsight": summary["hindsight"],
        f"chosen: {summary['selected']}": chosen["test"],
        "  against best in training": chosen["gain"],
        "  against best in hindsight": chosen["gain_over_hindsight"],
        "  against a random prompt": chosen["gain_over_random"],
        "oracle": summary["oracle"],
    }
    head = "right answers to the test questions [95 % interval over questions]"
    return closing(head, list(figures.items()), report=report)


def write_report(run: RunDirectory, summary: dict[str, Any]) -> None:
    """Writes report.html."""
    write_study(
        run,
        summary["seconds"],
        "A prompt for each question",
        [
            results(summary),
            ceiling(summary["difficulty"]),
            prompts(summary["prompts"]),
            subsets(summary["subsets"]),
        ],
        subtitle="Llama-2-7b-chat on GSM8K. Reward models read a question and a prompt, and choose "
        "without calling the language model.",
    )


def rows_of(found: Mapping[str, Any], names: Sequence[str]) -> dict[str, list[Any]]:
    """Name -> some of its measures, None where one is missing."""
    return {key: [row.get(name) for name in names] for key, row in found.items()}


def results(summary: dict[str, Any]) -> Markup:
    """What the selected kind of reward model gains, and every kind."""
    selected, best = summary["kinds"][summary["selected"]], summary["best_prompt"]
    gain = Interval(*selected["gain"])
    headline = cards(
        card(f"Chosen by: {summary['selected']}", selected["test"],
             "right answers; of the kinds below it had the most in cross-validation",
             baseline=None),
        card(f"Gain over one prompt for all ({best})", f"{100 * gain.estimate:+.1f} points",
             "paired by question; the prompt is the best one on the training questions",
             interval=gain, tone=gain_tone(gain, None)),
        card("Oracle", summary["oracle"],
             "some prompt was right; the best single one in hindsight: "
             f"{Interval(*summary['hindsight'])}", baseline=None),
        card("Oracle if difficulty were all", f"{summary['difficulty']['any_right']:.1%}",
             "of the training questions, against "
             f"{Interval(*summary['train_any_right'])} observed"),
    )  # fmt: skip
    names = ("folds", "folds_gain", "test", "gain", "preference_auc")
    columns = ["reward model", "folds", "gain, folds", "test", "gain, test", "AUC of two prompts"]
    return section(
        "Results",
        headline,
        table(columns, rows_of(summary["kinds"], names)),
        "Folds are training questions, scored by models that did not see them. Gains are against "
        f"the prompt that is best on the training questions ({best}), paired by question. "
        "Intervals are over questions. Figures of the test questions are means over seeds. A "
        "linear model of question and prompt cannot prefer different prompts for different "
        "questions. The last column is about questions that one of two prompts got right and the "
        "other wrong: how well does the reward tell which one? At 0.5 it does no better than by "
        "knowing the question and the prompt apart.",
        UNCORRECTED,
    )


def ceiling(fit: dict[str, Any]) -> Markup:
    """What an oracle gains by luck, under a model in which only difficulty counts."""
    rows = [
        ["the best single prompt", fit["best"]],
        ["the best prompt for the exact difficulty of each question", fit["informed"]],
        ["an oracle that takes the best of six outcomes", fit["any_right"]],
    ]
    return section(
        "What there was to gain",
        "Each question was asked once under each prompt, with sampling. A model was fitted to the "
        "training log in which a question has a difficulty and nothing else, and each prompt has "
        "an intercept and a slope. Under it a question suits a prompt only through how hard it is.",
        table(["under the model of difficulty alone", "right answers"], rows),
        "Its deviance from the 64 observed patterns of right and wrong is "
        f"{fit['deviance']:.0f} on 51 degrees of freedom (p = {fit['p_value']:.3f}). As far as "
        "this model reproduces the oracle's lead over a single prompt, that lead is the luck of "
        "six draws, which no selector can have. One draw of each prompt cannot rule out that some "
        "prompt suits some question in a way that no two prompts share. The AUC of two prompts "
        "shows whether the embeddings know of such ways.",
    )


def prompts(found: dict[str, Any]) -> Markup:
    """How well the reward of each prompt is known."""
    columns = ["prompt", "right answers", "AUC", "accuracy at ½", "calibration error"]
    return section(
        "The reward of each prompt",
        table(columns, rows_of(found, ("right", "auc", "accuracy", "calibration_error"))),
        "The selected kind of reward model on the test questions. Its probabilities are averaged "
        "over seeds. The accuracy of always saying “wrong” is one minus the share of right "
        "answers.",
    )


def subsets(rows: list[dict[str, Any]]) -> Markup:
    """What logs of fewer prompts are worth."""
    size = [row["prompts"] for row in rows]
    named = lambda names: curves(
        {label: [row[key] for row in rows if key in row] for label, key in names.items()},
        size,
        reference=["random"],
    )
    panels = {
        "right, among prompts with logs": named(
            {"chosen": "seen", "best single": "seen_best", "random": "seen_random"}
        ),
        "right, among the others": named({"chosen": "unseen", "random": "unseen_random"}),
    }
    names = ("seen", "seen_gain", "seen_oracle", "unseen", "unseen_gain", "unseen_auc")
    columns = ["prompts with logs", "chosen among them", "against the best of them", "their oracle",
               "chosen among the others", "against a random other",
               "AUC on the others"]  # fmt: skip
    numbers = table(columns, rows_of({row["prompts"]: row for row in rows}, names))
    caption = (
        "Right answers on the test questions by the number of prompts whose logs were learned "
        "from: means over all sets of that many prompts, with 95 % intervals over questions."
    )
    return section(
        "From the logs of fewer prompts",
        figure(against_n(panels, x="prompts with logs"), caption, numbers),
        "The reward model is the form of the paper: perceptrons on the embeddings of question and "
        "prompt, side by side.",
    )
