"""The report of `experiments.self_play`, and its closing lines in the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from irl_jax.report.page import CORRECTED, figure, figures, section, table
from irl_jax.report.plots import lines
from irl_jax.report.series import Series
from irl_jax.report.study import write_study
from irl_jax.report.values import closing, means_over
from irl_jax.train.run import RunDirectory


def conclusion(summary: dict[str, Any], report: Path) -> str:
    """The closing lines in the terminal."""
    parts: list[Any] = []
    for game in summary["end"]:
        said = f"[95 % over {summary['seeds']} seeds], most, seeds below {summary['bound']}"
        parts += [
            f"{game}: exploitability at the end {said}, in the second half, value",
            {name: row for name, *row in of_arms(summary, game)},
        ]
        apart = summary["apart"][game]
        parts += [f"{game}: differences of exploitability, and p"]
        parts += [{name: [x, summary["p"][game][name]] for name, x in apart.items()}]
    parts += ["exact gradients: exploitability at the end, what the first player earns"]
    return closing(*parts, summary["exact"], report=report)


def of_arms(summary: dict[str, Any], game: str) -> list[list[Any]]:
    """A row of each arm: exploitability at the end, most, seeds below the bound, late, value."""
    names = ("end", "most", "below", "late", "value")
    return [[arm, *(summary[name][game][arm] for name in names)] for arm in summary["end"][game]]


def curves(summary: dict[str, Any], game: str) -> list[Series]:
    """Exploitability over games, a curve of each arm."""
    x = np.asarray(summary["games"][game])
    found = []
    for name, points in summary["curve"][game].items():
        y, low, high = np.asarray(points, np.float64).T[:3]
        found.append(Series(name, x, y, low, high))
    bound = np.full(len(x), summary["bound"])
    return [*found, Series(f"{summary['bound']}", x, bound, reference=True)]


def write_report(run: RunDirectory, summary: dict[str, Any]) -> None:
    """Writes report.html: exploitability over games, and at the end.

    Args:
        run: where it goes.
        summary: of the study.
    """
    drawn = [
        figure(
            lines({"exploitability": curves(summary, game)}, x="games played"),
            f"How much can be won against the policy, exactly: {game}.",
        )
        for game in summary["curve"]
    ]
    bound = f"seeds below {summary['bound']}"
    ends = [
        table(
            [game, "exploitability at the end", "most", bound, "in the second half", "value"],
            of_arms(summary, game),
        )
        for game in summary["end"]
    ]
    apart = [
        table(
            [f"{game}, differences", "exploitability", "p"],
            [[name, x, summary["p"][game][name]] for name, x in rows.items()],
        )
        for game, rows in summary["apart"].items()
    ]
    exact = table(
        ["exact gradients", "exploitability at the end", "value"],
        [[name, *x] for name, x in summary["exact"].items()],
    )
    write_study(
        run,
        summary["seconds"],
        "Self-play",
        [
            section("On the way", means_over(summary["seeds"], "seed"), figures(*drawn)),
            section("At the end", *ends, exact),
            section("Differences", CORRECTED, *apart),
        ],
        subtitle=f"{max(int(x[-1]) for x in summary['games'].values()):,} games a run.",
    )
