"""The report of `experiments.credit_assignment`, and its closing lines in the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from experiments.credit_assignment.runs import ERROR, LEARNED
from irl_jax.report.page import CORRECTED, figure, figures, section, table
from irl_jax.report.plots import intervals
from irl_jax.report.study import write_study
from irl_jax.report.values import closing, means_over
from irl_jax.train.run import RunDirectory


def conclusion(summary: dict[str, Any], report: Path) -> str:
    """The closing lines in the terminal."""
    parts: list[Any] = []
    for kind, rows in summary["measured"].items():
        first, *rest = ([arm, *row.values()] for arm, row in rows.items())
        heads = ["credit", *next(iter(rows.values()))]
        saved = {arm: [x, summary["p"][kind][arm]] for arm, x in summary["saved"][kind].items()}
        parts += [f"{kind} [95 % over {summary['seeds']} corridors]", [heads, first, *rest]]
        parts += [f"{kind}, {LEARNED} fewer than by the terminal reward, and p", saved]
    return closing(*parts, report=report)


def write_report(run: RunDirectory, summary: dict[str, Any]) -> None:
    """Writes report.html: steps until a policy has learned, by the way credit is assigned.

    Args:
        run: where it goes.
        summary: of the study.
    """
    write_study(
        run,
        summary["seconds"],
        "Credit for a reward at the end",
        [drawn(summary), tables(summary), differences(summary)],
        subtitle=f"{summary['seeds']} corridors of each kind, {summary['budget']:,} steps a run.",
    )


def drawn(summary: dict[str, Any]) -> Any:
    """Steps and errors, a figure each kind."""
    made = []
    for kind, rows in summary["measured"].items():
        for name in (LEARNED, ERROR):
            plot = intervals({arm: row[name] for arm, row in rows.items()}, x=f"{name}, {kind}")
            made.append(figure(plot, f"{name.capitalize()}: {kind}."))
    return section(
        "Steps until a policy has learned, and errors of its credit",
        "Steps are all that were taken in the corridor, those of rollouts among them; a run that "
        f"did not learn counts as its budget. {means_over(summary['seeds'], 'corridor')}",
        figures(*made),
    )


def tables(summary: dict[str, Any]) -> Any:
    """The numbers, a table each kind."""
    return section(
        "Figures",
        *(
            table(
                [kind, *next(iter(rows.values()))], [[a, *row.values()] for a, row in rows.items()]
            )
            for kind, rows in summary["measured"].items()
        ),
    )


def differences(summary: dict[str, Any]) -> Any:
    """Steps that each way saves over the terminal reward, in the same corridors."""
    return section(
        "Against the terminal reward",
        CORRECTED,
        *(
            table(
                [kind, f"{LEARNED} fewer", "p"],
                [[arm, x, summary["p"][kind][arm]] for arm, x in saved.items()],
            )
            for kind, saved in summary["saved"].items()
        ),
    )
