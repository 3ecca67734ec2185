"""The report of `experiments.hindsight`, and its closing lines in the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from irl_jax.report.page import CORRECTED, figure, figures, section, table
from irl_jax.report.plots import intervals
from irl_jax.report.study import write_study
from irl_jax.report.values import closing, means_over
from irl_jax.train.run import RunDirectory


def conclusion(summary: dict[str, Any], report: Path) -> str:
    """The closing lines in the terminal."""
    parts: list[Any] = []
    for bits, rows in summary["success"].items():
        gains = {name: [x, summary["p"][bits][name]] for name, x in summary["gain"][bits].items()}
        parts += [f"{bits}: success [95 % over {summary['seeds']} seeds]"]
        parts += [{name: [x] for name, x in rows.items()}]
        parts += [f"{bits}: more than without hindsight, and p", gains]
    return closing(*parts, report=report)


def write_report(run: RunDirectory, summary: dict[str, Any]) -> None:
    """Writes report.html: how often episodes end at their goal, by kind of hindsight.

    Args:
        run: where it goes.
        summary: of the study.
    """
    drawn = [
        figure(intervals(rows, x=f"success, {bits}"), f"Episodes that end at their goal: {bits}.")
        for bits, rows in summary["success"].items()
    ]
    gains = [
        table(
            [f"{bits}, more than without hindsight", "success", "p"],
            [[name, x, summary["p"][bits][name]] for name, x in rows.items()],
        )
        for bits, rows in summary["gain"].items()
    ]
    write_study(
        run,
        summary["seconds"],
        "Goals in hindsight",
        [
            section("Success", means_over(summary["seeds"], "seed"), figures(*drawn)),
            section("Gains", CORRECTED, *gains),
        ],
        subtitle=f"{summary['steps']:,} steps a run.",
    )
