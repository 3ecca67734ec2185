"""The report of `experiments.curriculum`, and its closing lines in the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from experiments.curriculum.arms import UNIFORM
from irl_jax.report.page import CORRECTED, figure, figures, section, table
from irl_jax.report.plots import intervals
from irl_jax.report.study import write_study
from irl_jax.report.values import closing, means_over
from irl_jax.train.run import RunDirectory


def conclusion(summary: dict[str, Any], report: Path) -> str:
    """The closing lines in the terminal."""
    parts: list[Any] = [
        f"accuracy on practised questions [95 % over {summary['seeds']} models]",
        [["", *next(iter(summary["accuracy"].values()))], *_lines(summary["accuracy"])],
    ]
    for column, rows in summary["gain"].items():
        gains = {name: [x, summary["p"][column][name]] for name, x in rows.items()}
        parts += [f"{column}, more than of {UNIFORM}, and p", gains]
    return closing(*parts, report=report)


def write_report(run: RunDirectory, summary: dict[str, Any]) -> None:
    """Writes report.html: accuracies by the way questions were chosen.

    Args:
        run: where it goes.
        summary: of the study.
    """
    columns = list(next(iter(summary["accuracy"].values())))
    drawn = [
        figure(
            intervals(
                {name: row[column] for name, row in summary["accuracy"].items()},
                x=f"accuracy, {column}",
            ),
            f"Accuracy on practised questions, {column}.",
        )
        for column in columns
    ]
    write_study(
        run,
        summary["seconds"],
        "Curriculum",
        [
            section("Accuracy", means_over(summary["seeds"], "model"), figures(*drawn)),
            section("Figures", table(["", *columns], _lines(summary["accuracy"]))),
            section(
                f"More than of {UNIFORM}",
                CORRECTED,
                *(
                    table(
                        [column, "accuracy", "p"],
                        [[name, x, summary["p"][column][name]] for name, x in rows.items()],
                    )
                    for column, rows in summary["gain"].items()
                ),
            ),
        ],
        subtitle=f"{summary['solutions']:,} solutions are drawn in every run.",
    )


def _lines(rows: dict[str, dict[str, Any]]) -> list[list[Any]]:
    return [[name, *row.values()] for name, row in rows.items()]
