"""The report of `experiments.fine_grained_feedback`."""

from __future__ import annotations

from typing import Any

import numpy as np
from markupsafe import Markup

from experiments.fine_grained_feedback.data import KINDS
from experiments.fine_grained_feedback.rewards import BOTH, DENSE, SEQUENCE
from irl_jax.eval.intervals import Interval
from irl_jax.report.page import UNCORRECTED, card, cards, figure, section, table
from irl_jax.report.plots import against_n
from irl_jax.report.series import Series, from_intervals
from irl_jax.report.study import write_study
from irl_jax.train.run import RunDirectory

LISTED, LONGER, MARKED = "listed first", "longer answer", "marked errors of one side"
JUDGE = "language model as a judge"
CURVES = (DENSE, SEQUENCE, BOTH)


def write_report(run: RunDirectory, summary: dict[str, Any]) -> None:
    """Writes report.html."""
    write_study(
        run,
        summary["seconds"],
        "Marked errors against comparisons",
        [
            section("Results", *_results(summary, run.config["questions"][-1])),
            section("Number of questions", _curve_figure(summary, run.config["questions"])),
            section("Errors found", *_detection(summary)),
            *([_judge_section(summary["judge"])] if "judge" in summary else []),
        ],
        subtitle="Rewards from spans that people marked, and from comparisons that they made.",
    )


def _results(summary: dict[str, Any], questions: int) -> tuple[Markup | str, ...]:
    """Headline numbers, the table of rewards, how to read it."""

    def value(group: str, name: str) -> Interval | None:
        return Interval(*summary[group][name]) if name in summary[group] else None

    ahead = Interval(*summary["against_whole"][DENSE])
    points = f"{100 * ahead.estimate:+.1f} points".replace("-", "\u2212")
    detail = f"held-out pairs in order, both from the same {questions} questions"
    headlines = [
        card(
            name,
            f"{summary['accuracy'][name][0]:.1%}",
            "held-out pairs in order; chance is 0.5",
            interval=value("accuracy", name),
            baseline=0.5,
        )
        for name in (DENSE, SEQUENCE)
    ]
    groups = {
        "accuracy": "pairs in order",
        "against_whole": "against whole answer",
        "first_answer_auc": "AUC, pairs with the first answer",
    }
    rows = [
        [name, *(value(group, name) for group in groups)] for name in summary["first_answer_auc"]
    ]
    return (
        cards(card("Dense against whole", points, detail, interval=ahead), *headlines),
        table(["reward", *groups.values()], rows),
        f"{summary['pairs']} comparisons of {summary['questions']} questions; the "
        f"{summary['without_preference']:.0%} in which neither answer was preferred are left out. "
        "Means over random splits by question, with 95 % intervals over splits; these share "
        "questions, so the intervals say how much a result depends on the split. Differences are "
        "paired by split.",
        UNCORRECTED,
        "The last column asks how well a reward tells the pairs that the first answer won from "
        "those it lost: there, its marked errors, known of that side alone, can be held against "
        "rewards of both sides. All answers come from one sampler: that the one listed first wins "
        "more often says something of the annotators, which no reward of texts can learn.",
    )


def _curve_figure(summary: dict[str, Any], questions: list[int]) -> Markup:
    curves = [
        from_intervals(name, questions, [Interval(*v) for v in values])
        for name, values in summary["curve"].items()
    ]
    flat = lambda name: Series(
        name,
        np.array(questions, float),
        np.full(len(questions), summary["accuracy"][name][0]),
        reference=True,
    )
    rows = [
        [
            n,
            *(Interval(*summary["curve"][name][i]) for name in CURVES),
            Interval(*summary["dense_against_whole"][i]),
        ]
        for i, n in enumerate(questions)
    ]
    svg = against_n(
        {"held-out pairs in order": [*curves, flat(LONGER)]}, x="questions to learn from"
    )
    caption = (
        "Held-out pairs in order against the number of questions that a reward learned from, the "
        "same for all: marked errors of one answer and comparisons among the three others (dense), "
        "all six comparisons (whole answer). Bands are 95 % intervals over splits."
    )
    return figure(svg, caption, table(["questions", *CURVES, "dense − whole"], rows))


def _detection(summary: dict[str, Any]) -> tuple[Markup, str]:
    rows = [
        [kind, summary["error_rate"][kind], Interval(*summary["detection_auc"][kind])]
        for kind in KINDS
    ]
    return (
        table(["kind", "share that is wrong", "AUC"], rows),
        "How well the dense reward's scores tell wrong segments of new answers from right ones: "
        "parts of sentences (relevance), sentences (facts), whole answers (completeness). 0.5 is "
        "chance. What it cannot find it cannot pay for.",
    )


def _judge_section(said: dict[str, Any]) -> Markup:
    names = {
        "accuracy": "pairs in order, both orders balanced",
        "accuracy_of_one_order": "pairs in order, one order at a time",
        "consistent": "both orders name one answer",
        "bias": "log-odds for the place shown first, nats",
    }
    return section(
        "Judge",
        table(["", "value"], [[text, Interval(*said[name])] for name, text in names.items()]),
        f"The language model, asked which answer is better, on {said['pairs']} pairs of different "
        "questions, without the passages and without training. Intervals are over pairs.",
    )
