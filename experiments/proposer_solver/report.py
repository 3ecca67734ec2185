"""The report of `experiments.proposer_solver`, and its closing lines in the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from irl_jax.report.page import CORRECTED, figure, figures, section, table
from irl_jax.report.plots import intervals, lines
from irl_jax.report.series import Series
from irl_jax.report.study import write_study
from irl_jax.report.values import closing, means_over
from irl_jax.train.run import RunDirectory


def conclusion(summary: dict[str, Any], report: Path) -> str:
    """The closing lines in the terminal."""
    columns = list(next(iter(summary["accuracy"].values())))
    return closing(
        f"accuracy on held-out sums [95 % over {summary['seeds']} models]",
        [["", *columns], *_lines(summary["accuracy"])],
        "after what was proposed, more than",
        [["", *columns], *_lines(summary["gain"])],
        "p over all levels",
        {name: [p] for name, p in summary["p"].items()},
        "proposals in the first and the last fifth of the batches",
        summary["proposals"],
        report=report,
    )


def write_report(run: RunDirectory, summary: dict[str, Any]) -> None:
    """Writes report.html: accuracies by what was practised, and what was proposed.

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
            f"Accuracy on held-out sums, {column}.",
        )
        for column in columns
    ]
    curves = [
        Series(name, np.arange(1.0, len(y) + 1), np.array(y))
        for name, y in summary["curves"].items()
    ]
    write_study(
        run,
        summary["seconds"],
        "A proposer and a solver of sums",
        [
            section("Accuracy", means_over(summary["seeds"], "model"), figures(*drawn)),
            section("Figures", table(["", *columns], _lines(summary["accuracy"]))),
            section(
                "After what was proposed, more than",
                table(["", *columns], _lines(summary["gain"])),
                CORRECTED,
                table(["over all levels", "p"], [[*item] for item in summary["p"].items()]),
            ),
            section(
                "Proposals",
                figure(
                    lines({"share": curves}, x="batch"),
                    "Shares of proposals that are tasks, of tasks that are alone of their kind in "
                    "a batch, of right solutions, and of sums of each level; means over models.",
                ),
                table(["", "first fifth", "last fifth"], _rows(summary["proposals"])),
            ),
        ],
        subtitle=f"{summary['solutions']:,} solutions are practised in every run.",
    )


def _lines(rows: dict[str, dict[str, Any]]) -> list[list[Any]]:
    return [[name, *row.values()] for name, row in rows.items()]


def _rows(rows: dict[str, list[Any]]) -> list[list[Any]]:
    return [[name, *row] for name, row in rows.items()]
