"""The report of `experiments.fine_grained_feedback`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from experiments.fine_grained_feedback.data import KINDS
from experiments.fine_grained_feedback.rewards import BOTH, DENSE, SEQUENCE
from irl_jax.report.page import UNCORRECTED, card, cards, figure, section, table
from irl_jax.report.plots import against_n
from irl_jax.report.series import Series, curves
from irl_jax.report.study import write_study
from irl_jax.report.values import closing, minus
from irl_jax.train.run import RunDirectory

LISTED, LONGER, MARKED = "listed first", "longer answer", "marked errors of one side"
JUDGE = "language model as a judge"
CURVES = (DENSE, SEQUENCE, BOTH)
GROUPS = {
    "accuracy": "pairs in order",
    "against_whole": "against whole answer",
    "first_answer_auc": "AUC, pairs with the first answer",
}
JUDGED = {
    "accuracy": "pairs in order, both orders balanced",
    "accuracy_of_one_order": "pairs in order, one order at a time",
    "consistent": "both orders name one answer",
    "bias": "log-odds for the place shown first, nats",
}


def conclusion(summary: dict[str, Any], report: Path) -> str:
    """The closing lines in the terminal."""
    rows = dict(summary["accuracy"])
    if "judge" in summary:
        rows[JUDGE] = summary["judge"]["accuracy"]
    head = "held-out pairs in order, mean over splits [95 % interval over splits]"
    return closing(head, list(rows.items()), report=report)


def write_report(run: RunDirectory, summary: dict[str, Any]) -> None:
    """Writes report.html."""
    questions = run.config["questions"]
    sections = [
        results(summary, questions[-1]),
        over_questions(summary, questions),
        errors_found(summary),
    ]
    if "judge" in summary:
        sections.append(judge(summary["judge"]))
    write_study(
        run,
        summary["seconds"],
        "Marked errors against comparisons",
        sections,
        subtitle="Rewards learn from spans that people marked, and from comparisons that they "
        "made.",
    )


def results(summary: dict[str, Any], questions: int) -> Markup:
    """Headline numbers, the table of rewards, how to read it."""
    ahead = summary["against_whole"][DENSE]
    headline = [
        card("Dense against whole", minus(f"{100 * ahead[0]:+.1f} points"),
             f"held-out pairs in order, both from the same {questions} questions", interval=ahead),
        *(
            card(name, summary["accuracy"][name], "held-out pairs in order; chance is 0.5",
                 form=".1%", baseline=0.5)
            for name in (DENSE, SEQUENCE)
        ),
    ]  # fmt: skip
    rows = {
        name: [summary[group].get(name) for group in GROUPS] for name in summary["first_answer_auc"]
    }
    return section(
        "Results",
        cards(*headline),
        table(["reward", *GROUPS.values()], rows),
        f"{summary['pairs']} comparisons of {summary['questions']} questions. The "
        f"{summary['without_preference']:.0%} in which neither answer was preferred are left out. "
        "Figures are means over random splits by question, with 95 % intervals. Splits share "
        "questions: an interval says how much a result depends on the split. Differences are "
        "paired by split.",
        UNCORRECTED,
        "The last column shows how well a reward tells the pairs that the first answer won from "
        "those it lost. There a reward of the first answer's marked errors alone can be compared "
        "with rewards of both answers. All answers come from one sampler. Where the one listed "
        "first wins more often, that tells something of the annotators, which no reward of texts "
        "can learn.",
    )


def over_questions(summary: dict[str, Any], questions: list[int]) -> Markup:
    """Accuracy over the number of questions."""
    flat = np.full(len(questions), summary["accuracy"][LONGER][0])
    longer = Series(LONGER, np.array(questions, float), flat, reference=True)
    rows = zip(
        questions,
        *(summary["curve"][name] for name in CURVES),
        summary["dense_against_whole"],
        strict=True,
    )
    svg = against_n(
        {"held-out pairs in order": [*curves(summary["curve"], questions), longer]},
        x="questions to learn from",
    )
    caption = (
        "Held-out pairs in order, over the number of questions that the rewards learned from. "
        "Dense learns from marked errors of one answer and comparisons among the three others, "
        "whole answer from all six comparisons. Bands are 95 % intervals over splits."
    )
    numbers = table(["questions", *CURVES, "dense − whole"], list(rows))
    return section("Number of questions", figure(svg, caption, numbers))


def errors_found(summary: dict[str, Any]) -> Markup:
    """How well the dense reward finds each kind of error."""
    rows = {kind: [summary["error_rate"][kind], summary["detection_auc"][kind]] for kind in KINDS}
    return section(
        "Errors found",
        table(["kind", "share that is wrong", "AUC"], rows),
        "How well the dense reward's scores tell wrong segments of new answers from right ones. A "
        "segment is a part of a sentence (relevance), a sentence (facts) or a whole answer "
        "(completeness). Chance is 0.5. A reward cannot pay for what it cannot find.",
    )


def judge(said: dict[str, Any]) -> Markup:
    """What the language model said as a judge."""
    return section(
        "Judge",
        table(["", "value"], [[words, said[name]] for name, words in JUDGED.items()]),
        "The language model was asked which answer is better, without the passages and without "
        f"training. It judged {said['pairs']} pairs of different questions. Intervals are over "
        "pairs.",
    )
