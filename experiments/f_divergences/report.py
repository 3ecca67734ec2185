"""The report of `experiments.f_divergences`, and its closing lines in the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from experiments.f_divergences.control import EDGES
from experiments.f_divergences.worlds import ALPHAS, ANY, FORWARD
from irl_jax.report.maps import grid_map, maps
from irl_jax.report.page import CORRECTED, figure, figures, section, table
from irl_jax.report.plots import lines
from irl_jax.report.series import Series
from irl_jax.report.study import write_study
from irl_jax.report.values import closing, means_over
from irl_jax.train.run import RunDirectory

MEASURES = {
    "covered": "share of the less covered corner's visits",
    "heavy": "visits to the more frequent corner's cells",
    "light": "visits to the other corner's cells",
    "off": "visits off the expert's support",
    "distance": "total variation to the expert",
}

SETTLED = 0.2  # of `covered`; below it a learner has given up a mode


def conclusion(summary: dict[str, Any], report: Path) -> str:
    """The closing lines in the terminal."""
    parts: list[Any] = []
    for measure, label in MEASURES.items():
        rows = summary["measured"][measure]
        parts += [
            f"{label} [95 % over {summary['worlds']} worlds]",
            [
                ["minimised", *rows],
                *turned(rows),
                ["expert", summary["expert"][measure], *[None] * (len(rows) - 1)],
            ],
        ]
    rows = [[kind, summary["exceeding"][kind], summary["between"][kind]] for kind in rows]
    parts += ["checks", [["learner", "above another's minimum", "between minimisers"], *rows]]
    driven = summary["control"]
    for measure in ("covered", "off"):
        rows = driven["measured"][measure]
        parts += [
            f"control: {of_places(measure)} [95 % over {driven['seeds']} seeds]",
            [["rewarded by", *rows], *turned(rows)],
        ]
    return closing(*parts, report=report)


def turned(rows: Mapping[str, Mapping[str, Any]]) -> list[list[Any]]:
    """Learner -> divergence -> cell as rows, one of each divergence."""
    names = next(iter(rows.values()))
    return [[name, *(row[name] for row in rows.values())] for name in names]


def write_report(
    run: RunDirectory,
    summary: dict[str, Any],
    visits: dict[str, dict[str, np.ndarray]],
    positions: dict[str, dict[str, np.ndarray]],
) -> None:
    """Writes report.html: what each minimiser covers, by learner and divergence.

    Args:
        run: where it goes.
        summary: of the study.
        visits: learner -> title -> f[rows, columns], of the first world.
        positions: learner of control -> reward -> f[seeds, cells]; `expert`: place -> f[cells].
    """
    write_study(
        run,
        summary["seconds"],
        "Which corners an imitator goes to, by what it minimises",
        [
            curves(summary),
            world(visits),
            matrix(summary),
            tables(summary),
            differences(summary),
            checks(summary),
            control(summary["control"], positions),
        ],
        subtitle=f"{summary['worlds']} grids and experts, exactly; then a pole on a cart, learned.",
    )


def curves(summary: dict[str, Any]) -> Any:
    """Three measures over α, a curve each learner."""
    alphas = sorted(ALPHAS.items(), key=lambda item: item[1])
    x = np.array([alpha for _, alpha in alphas])
    panels = {}
    for measure in ("covered", "off", "distance"):
        rows = summary["measured"][measure]
        bands = {kind: np.array([row[name] for name, _ in alphas]).T for kind, row in rows.items()}
        flat = np.full(len(x), summary["expert"][measure][0])
        panels[MEASURES[measure]] = [
            *(Series(kind, x, *band) for kind, band in bands.items()),
            Series("the expert", x, flat, reference=True),
        ]
    return section(
        "From mode seeking to mode covering",
        "α is 2 for χ², 1 for forward KL, ½ for squared Hellinger, 0 for reverse KL and −1 for "
        f"reverse χ². {means_over(summary['worlds'], 'world')}",
        figure(lines(panels, x="α"), "What the minimiser of each α-divergence visits."),
    )


def world(visits: dict[str, dict[str, np.ndarray]]) -> Any:
    """Where the expert of the first world and its imitators are."""
    blocks = [
        figure(
            maps({title: grid_map(x) for title, x in each.items()}, unit="share of visits"),
            f"The expert, and its nearest policy by each divergence: {kind}.",
        )
        for kind, each in visits.items()
    ]
    return section("The first world", figures(*blocks))


def of_places(measure: str) -> str:
    """The label of a measure where the modes are places."""
    return MEASURES[measure].replace("corner", "place")


def control(summary: dict[str, Any], positions: dict[str, dict[str, np.ndarray]]) -> Any:
    """What policies of a cart cover, by what their discriminator rewards."""
    kinds = summary["measured"]["covered"]
    x = 0.5 * (EDGES[1:] + EDGES[:-1])
    panels = {
        f"share of steps; {kind}": [
            *(Series(name, x, rows.mean(0)[:-1]) for name, rows in positions[kind].items()),
            *(
                Series(f"expert, {side}", x, cells[:-1], reference=True)
                for side, cells in positions["expert"].items()
            ),
        ]
        for kind in kinds
    }
    shown = [
        table(
            [of_places(measure), *kinds],
            [
                *turned(rows),
                ["the expert itself", *(summary["expert"][kind][measure] for kind in kinds)],
            ],
        )
        for measure, rows in summary["measured"].items()
    ]
    settled = table(
        [f"seeds with less than {SETTLED:g} of a place's visits", *kinds],
        turned(summary["settled"]),
    )
    against = []
    for measure in ("covered", "off", "distance"):
        for key in ("more", "p"):
            rows = {
                kind: {name: cell[key] for name, cell in row.items()}
                for kind, row in summary["behind"][measure].items()
            }
            label = f"{of_places(measure)}, more than with {FORWARD}"
            against.append(table([label if key == "more" else f"{label}, p", *kinds], turned(rows)))
    return section(
        "On control",
        "PPO by a discriminator's log-ratio, made into what each divergence rewards. "
        f"{means_over(summary['seeds'], 'seed')}",
        figure(lines(panels, x="position of the cart, m"), "Where the carts are, mean of seeds."),
        *shown,
        settled,
        CORRECTED,
        *against,
    )


def matrix(summary: dict[str, Any]) -> Any:
    """Every divergence of every minimiser."""
    blocks = [
        table([f"minimised; {kind}", *rows], [[name, *row.values()] for name, row in rows.items()])
        for kind, rows in summary["matrix"].items()
    ]
    return section(
        "Minimised and measured",
        "Medians over worlds of each divergence, by columns, of what minimises each, by rows. The "
        "diagonal is the least of its column.",
        *blocks,
    )


def tables(summary: dict[str, Any]) -> Any:
    """The measures, and which corner is visited more."""
    shown = [
        table(
            [label, *summary["measured"][measure]],
            [
                *turned(summary["measured"][measure]),
                ["the expert itself", *[summary["expert"][measure]] * len(summary["between"])],
            ],
        )
        for measure, label in MEASURES.items()
    ]
    for key, label in {
        "heavier": "worlds in which the more frequent corner is visited more",
        "alike": "share of the searches that end in the least minimum",
    }.items():
        kinds = limited(summary[key])
        shown.append(table([label, *kinds], turned(kinds)))
    return section("Figures", *shown)


def limited(rows: Mapping[str, Any]) -> dict[str, Any]:
    """What is told of learners that do not hold every policy."""
    return {kind: row for kind, row in rows.items() if kind != ANY}


def differences(summary: dict[str, Any]) -> Any:
    """How much more each divergence's minimiser has than forward KL's, in the same worlds."""
    shown, corrected = [], []
    for measure, label in MEASURES.items():
        kinds = limited(summary["behind"][measure])
        cells = lambda key, kinds=kinds: turned(
            {k: {name: cell[key] for name, cell in rows.items()} for k, rows in kinds.items()}
        )
        shown.append(table([f"{label}, more than with {FORWARD}", *kinds], cells("more")))
        corrected.append(table([f"{label}, p", *kinds], cells("p")))
    return section("Against forward KL", *shown, CORRECTED, *corrected)


def checks(summary: dict[str, Any]) -> Any:
    """Whether minima are minima, and whether any policy is found by all alike."""
    return section(
        "Checks",
        table(
            [
                "learner",
                "most that a minimiser exceeds another in its own divergence",
                "largest total variation between two minimisers of a world",
            ],
            [
                [kind, summary["exceeding"][kind], summary["between"][kind]]
                for kind in summary["between"]
            ],
        ),
    )
