"""The report of `experiments.rubrics`, and its closing lines in the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from markupsafe import Markup

from irl_jax.report.page import CORRECTED, card, cards, figure, section, table
from irl_jax.report.plots import against_n
from irl_jax.report.series import curves
from irl_jax.report.study import write_study
from irl_jax.report.values import closing, means_over
from irl_jax.train.run import RunDirectory


def conclusion(summary: dict[str, Any], report: Path) -> str:
    """The closing lines in the terminal."""
    parts: list[Any] = []
    for name, what in (("accuracy", "share of pairs in order"), ("ahead", "less perceptrons")):
        for place, arms in summary[name].items():
            rows = [["pairs", *map(str, summary["pairs"])]]
            rows += [[arm, *values] for arm, values in arms.items()]
            parts += [f"{what}, {place} the distribution", rows]
    return closing(*parts, report=report)


def place_section(place: str, summary: dict[str, Any]) -> Markup:
    """Accuracy by the number of comparisons, and what it is ahead of the perceptrons."""
    counts = summary["pairs"]
    heads = [f"{n} pairs" for n in counts]
    score, ahead, p = (summary[name][place] for name in ("accuracy", "ahead", "p"))
    return section(
        f"{place.capitalize()} the distribution",
        figure(
            against_n({"pairs in order": curves(score, counts)}, x="comparisons"),
            "Share of new pairs, of unequal gold, that are ordered right.",
            table(["reward", *heads], score),
        ),
        "Less the perceptrons' share:",
        table(["reward", *heads], ahead),
        CORRECTED,
        table(["p, adjusted", *heads], p),
    )


def write_report(run: RunDirectory, summary: dict[str, Any]) -> None:
    """Writes report.html: a section for each distribution."""
    fewest = {place: summary["ahead"][place] for place in summary["ahead"]}
    shown = cards(
        *(
            card(f"{arm}, {place}", values[0], f"after {summary['pairs'][0]} comparisons",
                 form="+.3f", tone="good" if values[0][1] > 0 else "plain")
            for place, arms in fewest.items() for arm, values in list(arms.items())[1:2]
        )
    )  # fmt: skip
    write_study(
        run,
        summary["seconds"],
        "Rubrics with learned weights",
        [
            section("Ahead of perceptrons", shown, means_over(run.config["seeds"], "world")),
            *(place_section(place, summary) for place in summary["accuracy"]),
        ],
        subtitle="Weights of criteria and rewards on embeddings, from as many comparisons.",
    )
