"""The report of `experiments.dense_or_sparse`, and its closing lines in the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from experiments.dense_or_sparse.arms import SPARSE
from irl_jax.report.page import CORRECTED, figure, figures, section, table
from irl_jax.report.plots import intervals
from irl_jax.report.study import write_study
from irl_jax.report.values import closing, means_over
from irl_jax.train.run import RunDirectory

HEADS = ("accuracy, practised", "accuracy, held out")


def conclusion(summary: dict[str, Any], report: Path) -> str:
    """The closing lines in the terminal."""
    lines = lambda rows: [[name, *row.values()] for name, row in rows.items()]
    parts: list[Any] = [
        f"before [95 % over {summary['seeds']} students]",
        [["", *HEADS], *lines(summary["before"])],
    ]
    for budget, rows in summary["after"].items():
        gains = {arm: [x, summary["p"][budget][arm]] for arm, x in summary["gain"][budget].items()}
        parts += [f"after compute of {budget} batches of GRPO", [["", *HEADS], *lines(rows)]]
        parts += [f"practised, more than by {SPARSE}, and p", gains]
    return closing(*parts, report=report)


def write_report(run: RunDirectory, summary: dict[str, Any]) -> None:
    """Writes report.html: accuracies by the way compute was spent.

    Args:
        run: where it goes.
        summary: of the study.
    """
    drawn = [
        figure(
            intervals(
                {arm: row["practised"] for arm, row in rows.items()},
                x=f"accuracy on practised questions, {budget} batches",
            ),
            f"Accuracy on practised questions after compute of {budget} batches of GRPO.",
        )
        for budget, rows in summary["after"].items()
    ]
    lines = lambda rows: [[name, *row.values()] for name, row in rows.items()]
    write_study(
        run,
        summary["seconds"],
        "Dense or sparse",
        [
            section("Accuracy", means_over(summary["seeds"], "student"), figures(*drawn)),
            section(
                "Figures",
                table(["before", *HEADS], lines(summary["before"])),
                *(
                    table([f"after {budget} batches", *HEADS], lines(rows))
                    for budget, rows in summary["after"].items()
                ),
            ),
            section(
                f"Practised, more than by {SPARSE}",
                CORRECTED,
                *(
                    table(
                        [f"{budget} batches", "accuracy", "p"],
                        [[arm, x, summary["p"][budget][arm]] for arm, x in rows.items()],
                    )
                    for budget, rows in summary["gain"].items()
                ),
            ),
            section(
                "Compute",
                table(
                    ["a batch of", "in batches of GRPO of the student"], [*summary["costs"].items()]
                ),
            ),
        ],
        subtitle="A student practises sums at equal compute.",
    )
