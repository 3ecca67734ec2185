"""The report of `experiments.gridworld_irl`, and its closing lines in the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from irl_jax.report.maps import grid_map, maps
from irl_jax.report.page import CORRECTED, figure, figures, section, table
from irl_jax.report.plots import against_n
from irl_jax.report.series import Series
from irl_jax.report.study import write_study
from irl_jax.report.values import closing
from irl_jax.train.run import RunDirectory

MEASURES = {
    "identified": "error of what is identified, as a share of it",
    "whole": "error of the whole reward, as a share of it",
    "starc": "STARC distance",
    "epic": "EPIC distance",
    "here": "regret in the grid of the demonstrations",
    "walled": "regret in a grid with new walls",
    "turned": "regret in a grid whose moves are turned",
}


def conclusion(summary: dict[str, Any], report: Path) -> str:
    """The closing lines in the terminal."""
    parts: list[Any] = []
    for measure, label in MEASURES.items():
        heads = ["", *(f"{size:,} demonstrations" for size in summary["sizes"])]
        parts += [
            f"{label} [95 % over {summary['worlds']} worlds]",
            [heads, *([name, *row] for name, row in summary["measured"][measure].items())],
        ]
    return closing(*parts, report=report)


def write_report(
    run: RunDirectory, summary: dict[str, Any], rewards: dict[str, np.ndarray]
) -> None:
    """Writes report.html: each measure over the number of demonstrations, and differences.

    Args:
        run: where it goes.
        summary: of the study.
        rewards: title -> f[rows, columns], of the first world.
    """
    write_study(
        run,
        summary["seconds"],
        "What demonstrations tell of a reward",
        [curves(summary), world(rewards), tables(summary), differences(summary)],
        subtitle=f"{summary['worlds']} worlds; rewards are of cells, drawn and known.",
    )


def curves(summary: dict[str, Any]) -> Any:
    """Every measure against the number of demonstrations."""
    x = np.array(summary["sizes"], float)
    panels = {
        label: [
            Series(name, x, *np.array(row).T) for name, row in summary["measured"][measure].items()
        ]
        for measure, label in MEASURES.items()
    }
    drawn = lambda *labels: against_n(
        {label: panels[label] for label in labels}, x="demonstrations"
    )
    errors, regrets = list(panels)[:4], list(panels)[4:]
    return section(
        "Against demonstrations",
        "What is identified is what the soft policy of a reward depends on. Regret is what the "
        "best policy of the learned reward loses, in shares of what the worst one does.",
        figures(
            figure(drawn(*errors), "How far the learned reward is from the true one."),
            figure(drawn(*regrets), "What the learned reward is worth, here and elsewhere."),
        ),
    )


def world(rewards: dict[str, np.ndarray]) -> Any:
    """The rewards of the first world."""
    shown = {title: grid_map(reward) for title, reward in rewards.items()}
    return section(
        "The first world",
        figure(
            maps(shown, unit="reward less its mean, nats"),
            "The true reward, and what was learned of so many demonstrations; of rewards of cells "
            "and moves the mean over moves.",
        ),
    )


def tables(summary: dict[str, Any]) -> Any:
    """The numbers of the curves."""
    heads = [f"{size:,}" for size in summary["sizes"]]
    return section(
        "Figures",
        *(
            table(
                [f"{label}, by demonstrations", *heads],
                [[name, *row] for name, row in summary["measured"][measure].items()],
            )
            for measure, label in MEASURES.items()
        ),
    )


def differences(summary: dict[str, Any]) -> Any:
    """How much more each arm has than rewards of cells, in the same worlds."""
    heads = [f"{size:,}" for size in summary["sizes"]]
    shown = []
    for measure, label in MEASURES.items():
        shown.append(
            table(
                [f"{label}, more than rewards of cells", *heads],
                [[name, *row] for name, row in summary["behind"][measure].items()],
            )
        )
    corrected = [
        table([label, "p"], [[name, p] for name, p in summary["p"][measure].items()])
        for measure, label in MEASURES.items()
    ]
    return section("Against rewards of cells", *shown, CORRECTED, *corrected)
