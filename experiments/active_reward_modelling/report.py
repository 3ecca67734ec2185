"""What active reward modelling shows: curves over labels, and the areas under them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from markupsafe import Markup

from experiments.valence.comparisons import MEASURES
from irl_jax.eval.intervals import Interval
from irl_jax.report.page import UNCORRECTED, card, cards, figure, figures, section, table
from irl_jax.report.plots import lines
from irl_jax.report.series import from_intervals
from irl_jax.report.study import write_study
from irl_jax.train.run import RunDirectory

RANDOM = "random"
DESIGNS = ("D-optimal", "D-optimal, past-aware", "leverage")  # rules by Fisher information


def conclusion(summary: dict[str, Any], report: Path) -> str:
    """The closing lines in the terminal."""
    text = ["", "area under the curve of pair accuracy, and its difference to random pairs"]
    for row in summary["rows"]:
        own, against = (Interval(*row[name]["pair accuracy"]) for name in ("area", "against"))
        text.append(f"  {row['setting']:18}{row['rule']:24}{own}   {against}")
    return "\n".join([*text, f"report  {report}"])


def drawing(summary: dict[str, Any], setting: str, names: list[str]) -> Markup:
    """Curves over labels of some of the rules, and how far they are ahead of random pairs."""
    rows = {row["rule"]: row for row in summary["rows"] if row["setting"] == setting}
    curve = lambda name, kind, m: from_intervals(
        name,
        summary["labels"],
        [Interval(*point) for point in rows[name][kind][m]],
        reference=name == RANDOM,
    )
    accuracy, _, best = MEASURES
    panels = {
        f"held-out {accuracy}": [curve(name, "curve", accuracy) for name in [*names, RANDOM]],
        f"{accuracy}, difference to random": [curve(name, "ahead", accuracy) for name in names],
        f"best of {summary['best_of']}, difference to random": [
            curve(name, "ahead", best) for name in names
        ],
    }
    return figure(lines(panels, x="labels"), f"Pairs: {setting}.")


def write_report(run: RunDirectory, summary: dict[str, Any]) -> None:
    """Writes report.html: curves over labels, and the areas under them."""
    rows = summary["rows"]
    settings = list(dict.fromkeys(row["setting"] for row in rows))
    others = [r["rule"] for r in rows if r["setting"] == settings[0]]
    others = [name for name in others if name not in (RANDOM, *DESIGNS)]
    columns = ["pairs", "rule", "wrong labels"]
    columns += [title for m in MEASURES for title in (m, "against random")]
    body = [
        [row["setting"], row["rule"], Interval(*row["wrong"])]
        + [
            None if name == "against" and row["rule"] == RANDOM else Interval(*row[name][m])
            for m in MEASURES
            for name in ("area", "against")
        ]
        for row in rows
    ]
    headline = [
        card(
            f"{row['rule']}: {row['setting']}",
            Interval(*row["against"]["pair accuracy"]),
            "mean pair accuracy over the curve, difference to random pairs",
            interval=Interval(*row["against"]["pair accuracy"]),
        )
        for row in rows
        if row["rule"] == DESIGNS[1]
    ]
    across = Interval(*summary["across"]["pair accuracy"])
    headline.append(
        card(
            f"random pairs: {settings[1]}, against {settings[0]}",
            across,
            "mean pair accuracy over the curve, held-out answers to the same prompt",
            interval=across,
        )
    )
    write_study(
        run,
        summary["seconds"],
        "Active reward modelling",
        [
            section(
                "Results",
                cards(*headline),
                *(
                    figures(*(drawing(summary, setting, names) for setting in settings))
                    for names in (list(DESIGNS), others)
                ),
                f"Means over {summary['seeds']} seeds (split of the prompts, pool, labels, models) "
                "with 95 % bands over seeds; differences are paired by seed. A rule whose "
                "difference lies above 0 learns more from the same number of labels. All rules "
                "start from the same random batch.",
                UNCORRECTED,
            ),
            section(
                "Areas under the curves",
                "Each measure is the mean over the curve, a difference is paired by seed. Wrong "
                "labels are those of the chosen pairs that contradict gold, toss-ups by half.",
                table(columns, body),
            ),
        ],
        subtitle="Reward models learned from comparisons that a rule chose.",
    )
