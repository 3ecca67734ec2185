"""The report of `experiments.gsm8k_outcome_reward`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from irl_jax.eval.intervals import Interval
from irl_jax.report.page import UNCORRECTED, card, cards, figure, section, table
from irl_jax.report.plots import against_n
from irl_jax.report.series import from_intervals
from irl_jax.report.study import write_study
from irl_jax.train.run import RunDirectory

SHOWN = ("right or wrong", "pairs of a question")  # heads of each embedding


def conclusion(summary: dict[str, Any], report: Path) -> str:
    """The closing lines in the terminal."""
    lines = ["", "accuracy of the chosen solution [95 % interval over questions]"]
    for name, interval in summary["accuracy"].items():
        lines.append(f"  {name:60}{Interval(*interval)}")
    lines.append(f"{'report':62}{report}")
    return "\n".join(lines)


def write_report(run: RunDirectory, summary: dict[str, Any]) -> None:
    """Writes report.html: what is chosen, what the rewards know, best-of-n."""
    read = lambda name: {k: Interval(*v) for k, v in summary[name].items()}
    accuracy, splits = read("accuracy"), read("over_splits")
    writer, vote = read("against_best_writer"), read("against_vote")
    shown = [name for name in accuracy if name.split(" / ")[1] in SHOWN]
    rows = [
        [*name.split(" / "), accuracy[name], splits[name], writer[name], vote[name]]
        for name in accuracy
    ]
    areas = {n: {k: Interval(*v) for k, v in row.items()} for n, row in summary["auc"].items()}
    write_study(
        run,
        summary["seconds"],
        "Outcome rewards on GSM8K",
        [
            section(
                "Results",
                cards(
                    *(
                        card(
                            name,
                            f"{accuracy[name].estimate:.1%}",
                            "held-out questions whose chosen solution is right; the line is a "
                            "solution at random",
                            interval=accuracy[name],
                            baseline=accuracy["baseline / random"].estimate,
                        )
                        for name in shown
                    )
                ),
                table(
                    [
                        "embedding",
                        "reward",
                        "accuracy",
                        "over splits",
                        "against the best writer",
                        "against the vote",
                    ],
                    rows,
                ),
                f"One of four solutions is chosen for each question. {summary['questions']} "
                f"questions, {len(next(iter(summary['by_split'].values())))} random splits; "
                f"{summary['held_out_once']} questions are held out by one split or more, and "
                "count with their mean over those. Intervals of accuracy and the paired "
                "differences are over questions (95 %, bootstrap); the column over splits says "
                "how much a result depends on the split. The best writer is the one of the "
                "highest accuracy on the questions trained on, known, not recognised; a vote "
                "breaks ties at random; random and oracle are the bounds. Recorded labels and "
                f"those from comparing final answers agree on {summary['label_agreement']:.2%} "
                "of the solutions.",
                UNCORRECTED,
            ),
            section(
                "What the rewards know",
                table(
                    ["embedding", "reward", *next(iter(areas.values()))],
                    [[*name.split(" / "), *row.values()] for name, row in areas.items()],
                ),
                "Chance that a right solution scores above a wrong one (area under the ROC "
                "curve; 0.5 is chance), means over splits with intervals over splits. Over all, "
                "a reward may go by how hard the question is and by who wrote the solution. "
                "Among solutions of the same writer, the first is left; among those to the same "
                "question, the second. In the last column neither is: of the questions that one "
                "of two writers solved, which one was it?",
            ),
            section(
                "Best of n",
                figure(
                    against_n({"accuracy of the chosen solution": _curves(summary, shown)}),
                    "Accuracy when n of the four solutions are drawn at random and the reward "
                    "chooses among them, with 95 % intervals over questions; dashed: a majority "
                    "vote of the n, and the oracle, which errs only where all n are wrong.",
                ),
            ),
        ],
        subtitle="Reward models on fixed embeddings, trained on whether solutions were right.",
    )


def _curves(summary: dict[str, Any], shown: list[str]) -> list:
    reference = ("baseline / majority vote", "baseline / oracle")
    return [
        from_intervals(
            name.removeprefix("baseline / "),
            range(1, len(intervals) + 1),
            [Interval(*i) for i in intervals],
            reference=name in reference,
        )
        for name, intervals in summary["best_of_n"].items()
        if name in (*shown, *reference)
    ]
