"""The report of `experiments.gsm8k_outcome_reward`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from markupsafe import Markup

from irl_jax.report.page import UNCORRECTED, card, cards, figure, section, table
from irl_jax.report.plots import against_n
from irl_jax.report.series import curves
from irl_jax.report.study import write_study
from irl_jax.report.values import closing
from irl_jax.train.run import RunDirectory

SHOWN = ("right or wrong", "pairs of a question")  # heads of each embedding
BOUNDS = ("baseline / majority vote", "baseline / oracle")


def conclusion(summary: dict[str, Any], report: Path) -> str:
    """The closing lines in the terminal."""
    head = "accuracy of the chosen solution [95 % interval over questions]"
    return closing(head, list(summary["accuracy"].items()), report=report)


def write_report(run: RunDirectory, summary: dict[str, Any]) -> None:
    """Writes report.html: what is chosen, what the rewards know, best-of-n."""
    shown = [name for name in summary["accuracy"] if name.split(" / ")[1] in SHOWN]
    write_study(
        run,
        summary["seconds"],
        "Outcome rewards on GSM8K",
        [results(summary, shown), knowledge(summary["auc"]), best_of_n(summary, shown)],
        subtitle="Reward models on fixed embeddings learn whether solutions were right.",
    )


def results(summary: dict[str, Any], shown: list[str]) -> Markup:
    """How often the chosen solution is right."""
    accuracy = summary["accuracy"]
    headline = [
        card(name, accuracy[name], "held-out questions whose chosen solution is right; the line "
             "is a solution at random", form=".1%", baseline=accuracy["baseline / random"][0])
        for name in shown
    ]  # fmt: skip
    groups = ("accuracy", "over_splits", "against_best_writer", "against_vote")
    heads = ["embedding", "reward", "accuracy", "over splits", "against the best writer",
             "against the vote"]  # fmt: skip
    rows = [[*name.split(" / "), *(summary[group][name] for group in groups)] for name in accuracy]
    return section(
        "Results",
        cards(*headline),
        table(heads, rows),
        "A reward chooses one of four solutions to each question. There are "
        f"{summary['questions']} questions and {len(next(iter(summary['by_split'].values())))} "
        f"random splits. {summary['held_out_once']} questions are held out by one split or more, "
        "and count with their mean over those. Intervals of accuracy and of the paired "
        "differences are over questions (95 %, bootstrap). The column over splits says how much a "
        "result depends on the split. The best writer has the highest accuracy on the training "
        "questions; it is known, not recognised. A vote breaks ties at random. Random and oracle "
        "are the bounds. Recorded labels and those from comparing final answers agree on "
        f"{summary['label_agreement']:.2%} of the solutions.",
        UNCORRECTED,
    )


def knowledge(areas: dict[str, Any]) -> Markup:
    """How well the rewards tell right solutions from wrong ones."""
    columns = ["embedding", "reward", *next(iter(areas.values()))]
    return section(
        "What the rewards know",
        table(columns, [[*name.split(" / "), *row.values()] for name, row in areas.items()]),
        "The area under the ROC curve is the chance that a right solution scores above a wrong "
        "one; 0.5 is chance. Figures are means over splits, with intervals over splits. Over all "
        "solutions, a reward may go by how hard the question is and by who wrote the solution. "
        "Among solutions of one writer, only the first is left. Among those to one question, only "
        "the second is. The last column leaves neither: of the questions that one of two writers "
        "solved, which one was it?",
    )


def best_of_n(summary: dict[str, Any], shown: list[str]) -> Markup:
    """Accuracy over the number of solutions to choose from."""
    named = {k: v for k, v in summary["best_of_n"].items() if k in (*shown, *BOUNDS)}
    labels = {name.removeprefix("baseline / "): values for name, values in named.items()}
    most = range(1, max(map(len, named.values())) + 1)
    drawn = curves(labels, most, reference=[name.removeprefix("baseline / ") for name in BOUNDS])
    return section(
        "Best of n",
        figure(
            against_n({"accuracy of the chosen solution": drawn}),
            "Accuracy when n of the four solutions are drawn at random and the reward chooses "
            "among them, with 95 % intervals over questions. Dashed are a majority vote of the n, "
            "and the oracle, which errs only where all n are wrong.",
        ),
    )
