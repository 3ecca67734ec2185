"""The report of `experiments.reward_transfer`, and its closing lines in the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from experiments.reward_transfer.worlds import ERROR, IMITATION, RENAMED, STATES
from irl_jax.report.page import CORRECTED, figure, figures, section, table
from irl_jax.report.plots import lines
from irl_jax.report.series import Series
from irl_jax.report.study import write_study
from irl_jax.report.values import closing, means_over
from irl_jax.train.run import RunDirectory


def conclusion(summary: dict[str, Any], report: Path) -> str:
    """The closing lines in the terminal."""
    parts: list[Any] = []
    for kind, rows in summary["measured"].items():
        first, *rest = ([name, *row.values()] for name, row in rows.items())
        heads = ["learned", *next(iter(rows.values()))]
        parts += [f"{kind} [95 % over {summary['worlds']} worlds]", [heads, first, *rest]]
    return closing(*parts, report=report)


def write_report(run: RunDirectory, summary: dict[str, Any]) -> None:
    """Writes report.html: what each learned reward is worth, by kind of process.

    Args:
        run: where it goes.
        summary: of the study.
    """
    write_study(
        run,
        summary["seconds"],
        "Which learned rewards transfer, and which only imitate",
        [curves(summary), tables(summary), differences(summary)],
        subtitle=f"{summary['worlds']} random processes of each kind; the expert is known exactly.",
    )


def curves(summary: dict[str, Any]) -> Any:
    """Regret over the share of moves that lead elsewhere, a panel each kind."""
    places = {name: x for name, x in summary["places"].items() if name != RENAMED}
    x = np.array(list(places.values()))
    drawn = []
    for kind, rows in summary["measured"].items():
        curves = [
            Series(method, x, *np.array([row[name] for name in places]).T)
            for method, row in rows.items()
        ]
        panel = lines({f"regret, {kind}": curves}, x="share of the moves that lead elsewhere")
        drawn.append(figure(panel, f"What planning for each learned reward loses: {kind}."))
    return section(
        "Where moves lead elsewhere",
        "Regret is what the best policy of the learned reward loses, in shares of what the worst "
        f"one does. Curves may hide each other. {means_over(summary['worlds'], 'world')}",
        figures(*drawn),
    )


def tables(summary: dict[str, Any]) -> Any:
    """The numbers, a table each kind."""
    return section(
        "Figures",
        f"The {ERROR} is that of all but a constant, as a share of the reward; the {IMITATION} is "
        "the total variation of the visits of its soft policy to the expert's, at home; the other "
        "columns are regrets.",
        *(
            table(
                [kind, *next(iter(rows.values()))], [[m, *row.values()] for m, row in rows.items()]
            )
            for kind, rows in summary["measured"].items()
        ),
    )


def differences(summary: dict[str, Any]) -> Any:
    """How much more each method has than AIRL with a reward of states, in the same worlds."""
    shown = [
        table(
            [f"{kind}, more than {STATES}", *next(iter(rows.values()))],
            [[method, *row.values()] for method, row in rows.items()],
        )
        for kind, rows in summary["behind"].items()
    ]
    corrected = [
        table(
            [f"{kind}, p", *next(iter(rows.values()))],
            [[m, *(summary["p"][kind][f"{m}, {name}"] for name in row)] for m, row in rows.items()],
        )
        for kind, rows in summary["behind"].items()
    ]
    return section("Against AIRL with a reward of states", *shown, CORRECTED, *corrected)
