"""The report of `experiments.text_games`, and its closing lines in the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from experiments.text_games.runs import GUESSES, RETURN
from irl_jax.report.page import CORRECTED, figure, figures, section, table
from irl_jax.report.plots import lines
from irl_jax.report.series import Series
from irl_jax.report.study import write_study
from irl_jax.report.values import closing, means_over
from irl_jax.train.run import RunDirectory


def conclusion(summary: dict[str, Any], report: Path) -> str:
    """The closing lines in the terminal."""
    heads = ["advantages", *next(iter(summary["measured"].values())), "least return"]
    rows = [[arm, *row.values(), summary["least"][arm]] for arm, row in summary["measured"].items()]
    apart = {name: [x, summary["p"][name]] for name, x in summary["apart"].items()}
    return closing(
        f"at the end [95 % over {summary['seeds']} seeds], the best return {summary['best']:.3f}",
        [heads, *rows],
        "return more than by advantages of episodes, and p",
        apart,
        report=report,
    )


def curves(summary: dict[str, Any], measure: str, best: float) -> list[Series]:
    """A measure over episodes, a curve of each arm, and the best that there is."""
    x = np.asarray(summary["episodes"])
    found = []
    for arm, measures in summary["curve"].items():
        y, low, high = np.asarray(measures[measure], np.float64).T[:3]
        found.append(Series(arm, x, y, low, high))
    return [*found, Series("halving", x, np.full(len(x), best), reference=True)]


def write_report(run: RunDirectory, summary: dict[str, Any]) -> None:
    """Writes report.html: what an episode earns over episodes, and at the end.

    Args:
        run: where it goes.
        summary: of the study.
    """
    drawn = [
        figure(
            lines({RETURN: curves(summary, RETURN, summary["best"])}, x="episodes"),
            "What an episode earns: 1 for the right guess, less the cost of all guesses.",
        ),
        figure(
            lines({GUESSES: curves(summary, GUESSES, summary["fewest"])}, x="episodes"),
            "Guesses of an episode; one that never finds the number takes all it may.",
        ),
    ]
    heads = ["advantages", *next(iter(summary["measured"].values())), "least return"]
    rows = [[arm, *row.values(), summary["least"][arm]] for arm, row in summary["measured"].items()]
    apart = [[name, x, summary["p"][name]] for name, x in summary["apart"].items()]
    write_study(
        run,
        summary["seconds"],
        "A guessing game in words",
        [
            section("On the way", means_over(summary["seeds"], "seed"), figures(*drawn)),
            section("At the end", table(heads, rows)),
            section(
                "More than by advantages of episodes",
                CORRECTED,
                table(["advantages", RETURN, "p"], apart),
            ),
        ],
        subtitle=f"Halving earns {summary['best']:.3f} an episode.",
    )
