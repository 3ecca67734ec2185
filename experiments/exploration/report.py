"""The report of `experiments.exploration`, and its closing lines in the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from irl_jax.report.page import CORRECTED, figure, figures, section, table
from irl_jax.report.plots import intervals
from irl_jax.report.study import write_study
from irl_jax.report.values import closing, means_over
from irl_jax.train.run import RunDirectory

FOUND, SOLVED = "episodes until it was found", "episodes until solved"


def conclusion(summary: dict[str, Any], report: Path) -> str:
    """The closing lines in the terminal."""
    parts: list[Any] = []
    for size, rows in summary["measured"].items():
        first, *rest = ([name, *row.values()] for name, row in rows.items())
        heads = ["explores by", *next(iter(rows.values()))]
        fewer = {name: [x, summary["p"][size][name]] for name, x in summary["fewer"][size].items()}
        parts += [f"{size} [95 % over {summary['seeds']} seeds]", [heads, first, *rest]]
        parts += [f"{size}, {SOLVED}, fewer than by dithering, and p", fewer]
    return closing(*parts, report=report)


def write_report(run: RunDirectory, summary: dict[str, Any]) -> None:
    """Writes report.html: episodes until the sea was solved, by the way of exploring.

    Args:
        run: where it goes.
        summary: of the study.
    """
    drawn = [
        figure(
            intervals({name: row[SOLVED] for name, row in rows.items()}, x=f"{SOLVED}, {size}"),
            f"{SOLVED.capitalize()}: {size}.",
        )
        for size, rows in summary["measured"].items()
    ]
    fewer = [
        table(
            [f"{size}, fewer than by dithering", SOLVED, "p"],
            [[name, x, summary["p"][size][name]] for name, x in rows.items()],
        )
        for size, rows in summary["fewer"].items()
    ]
    measured = [
        table([size, *next(iter(rows.values()))], [[n, *row.values()] for n, row in rows.items()])
        for size, rows in summary["measured"].items()
    ]
    write_study(
        run,
        summary["seconds"],
        "Bonuses for what is new, in DeepSea",
        [
            section("Episodes", means_over(summary["seeds"], "seed"), figures(*drawn), *measured),
            section("Against dithering", CORRECTED, *fewer),
        ],
        subtitle=f"{summary['episodes']:,} episodes a run, which count where it was not solved.",
    )
