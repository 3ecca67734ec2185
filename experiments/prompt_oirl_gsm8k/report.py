"""The report of `prompt_oirl_gsm8k`, and its closing lines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from irl_jax.eval.intervals import Interval
from irl_jax.report.page import UNCORRECTED, card, cards, figure, section, table
from irl_jax.report.plots import against_n
from irl_jax.report.series import from_intervals
from irl_jax.report.study import write_study
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
    lines = ["", "right answers to the test questions [95 % interval over questions]"]
    lines += [f"  {name:44}{Interval(*value)}" for name, value in figures.items()]
    lines.append(f"report                                        {report}")
    return "\n".join(lines)


def write_report(run: RunDirectory, summary: dict[str, Any]) -> None:
    """Writes report.html."""
    selected = summary["kinds"][summary["selected"]]
    difficulty = summary["difficulty"]
    gain = Interval(*selected["gain"])
    write_study(
        run,
        summary["seconds"],
        "A prompt for each question",
        [
            section(
                "Results",
                cards(
                    card(
                        f"Chosen by: {summary['selected']}",
                        Interval(*selected["test"]),
                        "right answers; of the kinds below it had the most in cross-validation",
                    ),
                    card(
                        f"Gain over one prompt for all ({summary['best_prompt']})",
                        f"{100 * gain.estimate:+.1f} points",
                        "paired by question; the prompt is the best one on the training questions",
                        interval=gain,
                        tone="good" if gain.low > 0 else "bad" if gain.high < 0 else "plain",
                    ),
                    card(
                        "Oracle",
                        Interval(*summary["oracle"]),
                        "some prompt was right; the best single one in hindsight: "
                        f"{Interval(*summary['hindsight'])}",
                    ),
                    card(
                        "Oracle if difficulty were all",
                        f"{difficulty['any_right']:.1%}",
                        "of the training questions, against "
                        f"{Interval(*summary['train_any_right'])} observed",
                    ),
                ),
                _kinds(summary["kinds"]),
                "Folds: on training questions, by models that did not see them; gains are against "
                f"the prompt that is best on the training questions ({summary['best_prompt']}), "
                "paired by question. Intervals are over questions, figures of the test questions "
                "means over seeds. A linear model of question and prompt cannot prefer different "
                "prompts for different questions. The last column is about questions that one of "
                "two prompts got right and the other wrong: how well the reward tells which one, "
                "0.5 being no better than knowing the question and the prompt apart.",
                UNCORRECTED,
            ),
            section("What there was to gain", *_ceiling(summary)),
            section("The reward of each prompt", *_prompts(summary["prompts"])),
            section("From the logs of fewer prompts", *_subsets(summary["subsets"])),
        ],
        subtitle="Llama-2-7b-chat on GSM8K: reward models that read a question and a prompt, and "
        "choose without calling the language model.",
    )


def _intervals(row: dict[str, Any], names: Sequence[str]) -> list[Interval | None]:
    return [Interval(*row[name]) if name in row else None for name in names]


def _kinds(kinds: dict[str, Any]) -> Any:
    names = ("folds", "folds_gain", "test", "gain", "preference_auc")
    columns = [
        "reward model",
        "folds",
        "gain, folds",
        "test",
        "gain, test",
    ]
    rows = [[kind, *_intervals(row, names)] for kind, row in kinds.items()]
    return table([*columns, "AUC of two prompts"], rows)


def _ceiling(summary: dict[str, Any]) -> list[Any]:
    fit = summary["difficulty"]
    rows = [
        ["the best single prompt", fit["best"]],
        ["the best prompt for the exact difficulty of each question", fit["informed"]],
        ["an oracle that takes the best of six outcomes", fit["any_right"]],
    ]
    return [
        "Each question was asked once under each prompt, with sampling. A model in which a "
        "question has a difficulty and nothing else, and each prompt an intercept and a slope, was "
        "fitted to the training log; under it no question suits one prompt more than another but "
        "through how hard it is.",
        table(["under the model of difficulty alone", "right answers"], rows),
        "Its deviance from the 64 observed patterns of right and wrong is "
        f"{fit['deviance']:.0f} on 51 degrees of freedom (p = {fit['p_value']:.3f}). What the "
        "oracle has over a single prompt and this model reproduces is the luck of six draws, "
        "which no selector can have. One draw of each cannot exclude that single prompts suit "
        "single questions in ways that no two prompts share; whether the embeddings know of such "
        "is what the AUC of two prompts says.",
    ]


def _prompts(prompts: dict[str, Any]) -> list[Any]:
    names = ("right", "auc", "accuracy", "calibration_error")
    rows = [[prompt, *_intervals(row, names)] for prompt, row in prompts.items()]
    return [
        table(["prompt", "right answers", "AUC", "accuracy at ½", "calibration error"], rows),
        "The selected kind of reward model on the test questions, its probabilities averaged over "
        "seeds. The accuracy of always saying “wrong” is one minus the share of right answers.",
    ]


def _subsets(rows: list[dict[str, Any]]) -> list[Any]:
    size = [row["prompts"] for row in rows]
    curve = lambda label, name, among, **more: from_intervals(
        label, size[: len(among)], [Interval(*row[name]) for row in among], **more
    )
    unseen = [row for row in rows if "unseen" in row]
    panels = {
        "right, among prompts with logs": [
            curve("chosen", "seen", rows),
            curve("best single", "seen_best", rows),
            curve("random", "seen_random", rows, reference=True),
        ],
        "right, among the others": [
            curve("chosen", "unseen", unseen),
            curve("random", "unseen_random", unseen, reference=True),
        ],
    }
    names = ("seen", "seen_gain", "seen_oracle", "unseen", "unseen_gain")
    columns = ["prompts with logs", "chosen among them", "against the best of them", "their oracle"]
    columns += ["chosen among the others", "against a random other", "AUC on the others"]
    numbers = [[row["prompts"], *_intervals(row, names), row.get("unseen_auc")] for row in rows]
    caption = (
        "Right answers on the test questions by the number of prompts whose logs were learned "
        "from: means over all sets of that many prompts, with 95 % intervals over questions."
    )
    return [
        figure(against_n(panels, x="prompts with logs"), caption, table(columns, numbers)),
        "The reward model is the form of the paper: perceptrons on the embeddings of question and "
        "prompt, side by side.",
    ]
