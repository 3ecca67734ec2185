"""The report of `experiments.stale_samples`, and its closing lines in the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from experiments.stale_samples.arms import PLAIN
from irl_jax.report.page import CORRECTED, figure, figures, section, table
from irl_jax.report.plots import intervals
from irl_jax.report.study import write_study
from irl_jax.report.values import closing, means_over
from irl_jax.train.run import RunDirectory


def conclusion(summary: dict[str, Any], report: Path) -> str:
    """The closing lines in the terminal."""
    parts: list[Any] = [
        f"accuracy on practised questions [95 % over {summary['seeds']} models]",
        {name: [x] for name, x in summary["ends"].items()},
    ]
    for lag, rows in summary["stale"].items():
        gains = {name: [x, summary["p"][lag][name]] for name, x in summary["gain"][lag].items()}
        parts += [
            f"samples of {lag} updates ago", {name: [x] for name, x in rows.items()},
            f"samples of {lag} updates ago, more than {PLAIN}, and p", gains,
        ]  # fmt: skip
    return closing(*parts, report=report)


def write_report(run: RunDirectory, summary: dict[str, Any]) -> None:
    """Writes report.html: accuracies by what was made of stale samples.

    Args:
        run: where it goes.
        summary: of the study.
    """
    drawn = [
        figure(
            intervals(summary["ends"] | rows, x=f"accuracy, samples of {lag} updates ago"),
            f"Accuracy on practised questions, from samples of the policy {lag} updates ago.",
        )
        for lag, rows in summary["stale"].items()
    ]
    accuracies = [
        table([f"{lag} updates old", "accuracy"], [*rows.items()])
        for lag, rows in summary["stale"].items()
    ]
    gains = [
        table(
            [f"{lag} updates old", "accuracy", "p"],
            [[name, x, summary["p"][lag][name]] for name, x in rows.items()],
        )
        for lag, rows in summary["gain"].items()
    ]
    write_study(
        run,
        summary["seconds"],
        "Stale samples",
        [
            section("Accuracy", means_over(summary["seeds"], "model"), figures(*drawn)),
            section("Figures", table(["", "accuracy"], [*summary["ends"].items()]), *accuracies),
            section(f"More than {PLAIN}", CORRECTED, *gains),
        ],
        subtitle="A policy learns from samples of the policy that it was some updates ago.",
    )
