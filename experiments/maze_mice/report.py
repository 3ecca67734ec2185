"""The report of `experiments.maze_mice`, and its closing lines in the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from experiments.maze_mice.maze import layout
from irl_jax.report.maps import Map, maps
from irl_jax.report.page import UNCORRECTED, card, cards, figure, figures, section, table
from irl_jax.report.plots import lines
from irl_jax.report.series import Series
from irl_jax.report.study import write_study
from irl_jax.report.values import closing
from irl_jax.train.run import RunDirectory


def conclusion(summary: dict[str, Any], report: Path) -> str:
    """The closing lines in the terminal."""
    parts: list[Any] = []
    for at, models in summary["predicted"].items():
        parts += [
            f"{at}: bits a decision of bouts left out; more than by counting; with the last node",
            [[name, found["bits"], *found["against"]] for name, found in models.items()],
        ]
    port = summary["port"]
    rows = [
        [f"  {at}", value, f"rank {summary['rank'][at]}"] for at, value in summary["peak"].items()
    ]
    parts += [
        f"reward of node {port} less that of the other dead ends [95 % over bouts]",
        [*rows, ["  difference", summary["peaks_apart"], f"p {summary['p']:.3f}"]],
    ]
    return closing(*parts, report=report)


def write_report(
    run: RunDirectory,
    summary: dict[str, Any],
    reward: dict[str, np.ndarray],
    visits: dict[str, np.ndarray],
) -> None:
    """Writes report.html: the maze, the reward of the way to the water, predictions.

    Args:
        run: where it goes.
        summary: of the study.
        reward: session -> f[128], of each node and of leaving.
        visits: session -> f[127], of each node in a bout.
    """
    port = summary["port"]
    write_study(
        run,
        summary["seconds"],
        "What mice want in a labyrinth",
        [rewards(summary), maze(summary["port"], reward, visits), predictions(summary)],
        subtitle=", ".join(
            f"{at} {summary['bouts'][at]} bouts, {summary['turns'][at]} turns"
            for at in summary["bouts"]
        )
        + f"; the water was at node {port}.",
    )


def rewards(summary: dict[str, Any]) -> Any:
    """Is there a peak at the water?"""
    port, nodes = summary["port"], summary["way"]["nodes"]
    shown = [
        card(f"Node {port}, {at}", value, f"rank {summary['rank'][at]} of 64 dead ends")
        for at, value in summary["peak"].items()
    ]
    curves = []
    for at in summary["peak"]:
        estimate, low, high = np.array(summary["way"][at]).T
        curves.append(Series(at, np.arange(float(len(nodes))), estimate, low, high))
    return section(
        "Reward of the water's place",
        cards(
            *shown,
            card("Difference", summary["peaks_apart"], f"p {summary['p']:.3f}, permuted bouts"),
        ),
        "A reward is in nats: a place of 1 more is e times as likely, all else equal. Each "
        f"peak is the reward of node {port} less the mean of the other dead ends.",
        figure(
            lines({"reward, nats": curves}, x=f"junctions from the entrance to node {port}"),
            f"Rewards of the nodes {', '.join(map(str, nodes))}, the way to the water.",
        ),
        f"p is the share of {summary['permutations']} random divisions of all bouts into two "
        "sessions whose peaks are at least as far apart.",
    )


def maze(port: int, reward: dict[str, np.ndarray], visits: dict[str, np.ndarray]) -> Any:
    """The labyrinth in both sessions."""
    at, ways = layout()
    names = [f"node {node}" for node in range(len(at))]

    def drawn(values: dict[str, np.ndarray], unit: str) -> str:
        panels = {
            title: Map(at[:, 0], at[:, 1], found[: len(at)], names, ways, [port])
            for title, found in values.items()
        }
        return maps(panels, unit=unit)

    above = {title: found - found[: len(at)].mean() for title, found in reward.items()}
    return section(
        "The maze",
        figures(
            figure(
                drawn(above, "reward less the mean of all nodes, nats"),
                f"Rewards of the nodes; node {port}, where the water was, is framed.",
            ),
            figure(drawn(visits, "visits a bout"), "How often a bout visits each node."),
        ),
        "The entrance is in the middle. Which of two children is to the left is not in the data.",
    )


def predictions(summary: dict[str, Any]) -> Any:
    """How well each model tells what a mouse does next."""
    shown = [
        table(
            [
                f"{at}, turns told by",
                "bits a decision",
                "more than by counting",
                "and with the last node known",
            ],
            [[name, found["bits"], *found["against"]] for name, found in models.items()],
        )
        for at, models in summary["predicted"].items()
    ]
    return section(
        "Decisions of bouts left out",
        *shown,
        "At a junction of three ways chance has −1.585 bits. Intervals are over bouts. The first "
        "two count turns in each state; the others plan for a reward that is inferred from the "
        "turns.",
        UNCORRECTED,
    )
