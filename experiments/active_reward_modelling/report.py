"""What active reward modelling shows: curves over labels, and the areas under them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from markupsafe import Markup

from irl_jax.eval.ranking import MEASURES
from irl_jax.report.page import UNCORRECTED, card, cards, figure, figures, section, table
from irl_jax.report.plots import lines
from irl_jax.report.series import curves
from irl_jax.report.study import write_study
from irl_jax.report.values import closing, means_over
from irl_jax.train.run import RunDirectory

RANDOM = "random"
DESIGNS = ("D-optimal", "D-optimal, past-aware", "leverage")  # rules by Fisher information
AREA = "mean pair accuracy over the curve"


def conclusion(summary: dict[str, Any], report: Path) -> str:
    """The closing lines in the terminal."""
    pair = lambda row: [row[kind]["pair accuracy"] for kind in ("area", "against")]
    rows = [[row["setting"], row["rule"], *pair(row)] for row in summary["rows"]]
    head = "area under the curve of pair accuracy, and its difference to random pairs"
    return closing(head, rows, report=report)


def drawing(summary: dict[str, Any], setting: str, names: list[str]) -> Markup:
    """Curves over labels of some of the rules, and how far they are ahead of random pairs."""
    rows = {row["rule"]: row for row in summary["rows"] if row["setting"] == setting}
    drawn = lambda rules, kind, measure: curves(
        {rule: rows[rule][kind][measure] for rule in rules}, summary["labels"], reference=[RANDOM]
    )
    accuracy, _, best = MEASURES
    panels = {
        f"held-out {accuracy}": drawn([*names, RANDOM], "curve", accuracy),
        f"{accuracy}, difference to random": drawn(names, "ahead", accuracy),
        f"best of {summary['best_of']}, difference to random": drawn(names, "ahead", best),
    }
    return figure(lines(panels, x="labels"), f"Pairs: {setting}.")


def results(summary: dict[str, Any]) -> Markup:
    """How far the past-aware design is ahead of random pairs, and the curves of all rules."""
    rows = summary["rows"]
    settings = list(dict.fromkeys(row["setting"] for row in rows))
    rules = dict.fromkeys(row["rule"] for row in rows)
    others = [rule for rule in rules if rule not in (RANDOM, *DESIGNS)]
    headline = [
        card(f"{row['rule']}: {row['setting']}", row["against"]["pair accuracy"],
             f"{AREA}, difference to random pairs")
        for row in rows
        if row["rule"] == DESIGNS[1]
    ]  # fmt: skip
    across = card(
        f"random pairs: {settings[1]}, against {settings[0]}",
        summary["across"]["pair accuracy"],
        f"{AREA}, held-out answers to the same prompt",
    )
    return section(
        "Results",
        cards(*headline, across),
        *(
            figures(*(drawing(summary, setting, names) for setting in settings))
            for names in (list(DESIGNS), others)
        ),
        f"{means_over(summary['seeds'], 'seed')} Each seed has its own split of the prompts, pool, "
        "labels and models. All rules start from the same random batch. A rule whose difference "
        "lies above 0 learns more from the same number of labels.",
        UNCORRECTED,
    )


def areas(summary: dict[str, Any]) -> Markup:
    """Every measure's mean over the curve."""
    own = lambda m: lambda row: row["area"][m]
    ahead = lambda m: lambda row: None if row["rule"] == RANDOM else row["against"][m]
    columns: dict[str, Any] = {"pairs": "setting", "rule": "rule", "wrong labels": "wrong"}
    for m in MEASURES:
        columns |= {m: own(m), f"{m}, against random": ahead(m)}
    return section(
        "Areas under the curves",
        "Each measure is the mean over the curve. Wrong labels are the share of chosen pairs "
        "whose label contradicts gold; a toss-up counts half.",
        table(columns, summary["rows"]),
    )


def write_report(run: RunDirectory, summary: dict[str, Any]) -> None:
    """Writes report.html: curves over labels, and the areas under them."""
    write_study(
        run,
        summary["seconds"],
        "Active reward modelling",
        [results(summary), areas(summary)],
        subtitle="Reward models learn from the comparisons that a rule chose.",
    )
