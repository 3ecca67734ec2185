"""The report of `experiments.annotation_noise`, and its closing lines in the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from markupsafe import Markup

from irl_jax.report.page import UNCORRECTED, card, cards, figure, figures, section, table
from irl_jax.report.plots import lines
from irl_jax.report.series import curves, from_intervals
from irl_jax.report.study import write_study
from irl_jax.report.values import closing, means_over
from irl_jax.train.run import RunDirectory

FIRST = "Bradley-Terry"
NOISES = ("errs on close calls", "errs on all pairs alike")
COLOURS = ("orange", "green", "purple", "pink")  # of the losses after the first


def conclusion(summary: dict[str, Any], report: Path) -> str:
    """The closing lines in the terminal."""
    rows = [
        [f"{row['noise']}, {row['error_rate']:.0%} wrong", row["loss"], row["best of n"]]
        for row in summary["rows"]
    ]
    head = f"gold reward of the best of {summary['best_of']}, mean over seeds [95 % interval]"
    return closing(head, rows, report=report)


def drawing(summary: dict[str, Any], noise: str) -> Markup:
    """What each loss reaches over error rates, and how far it is ahead of the first."""
    rows = [row for row in summary["rows"] if row["noise"] == noise]
    names = list(dict.fromkeys(row["loss"] for row in rows))
    rates = list(dict.fromkeys(row["error_rate"] for row in rows))
    best = {name: [r["best of n"] for r in rows if r["loss"] == name] for name in names}
    ends = {name: [end] * len(rates) for name, end in summary["ends"].items()}
    against = lambda measure: [
        from_intervals(
            name, rates, [r["against"][measure] for r in rows if r["loss"] == name], colour=colour
        )
        for name, colour in zip(names[1:], COLOURS, strict=True)
    ]
    n = summary["best_of"]
    panels = {
        f"gold reward of the best of {n}": curves(best | ends, rates, reference=list(ends)),
        f"best of {n}, difference to {FIRST}": against("best of n"),
        f"pair accuracy, difference to {FIRST}": against("pair accuracy"),
    }
    return figure(lines(panels, x="share of labels that are wrong"), f"The annotator {noise}.")


def results(summary: dict[str, Any]) -> Markup:
    """What the second loss gains at the middle error rate, and the curves."""
    rows, n = summary["rows"], summary["best_of"]
    middle = min((row["error_rate"] for row in rows), key=lambda rate: abs(rate - 0.3))
    second = next(row["loss"] for row in rows if row["loss"] != FIRST)
    shown = [
        card(f"{second} against {FIRST}", row["against"]["best of n"],
             f"gold reward of the best of {n}; {middle:.0%} of labels wrong, "
             f"annotator {row['noise']}")
        for row in rows
        if (row["error_rate"], row["loss"]) == (middle, second)
    ]  # fmt: skip
    return section(
        "Results",
        cards(*shown),
        figures(*(drawing(summary, noise) for noise in NOISES)),
        f"{means_over(summary['seeds'], 'seed')} Each seed has its own split of the prompts, "
        "pairs, labels and models. A loss whose difference stays around 0 is as good as "
        "Bradley-Terry. Label smoothing and the unbiased loss are told the true rate. Agreement is "
        "the expected share of held-out labels that the reward orders alike. Its ceiling is the "
        "agreement of gold itself.",
        UNCORRECTED,
    )


def numbers(summary: dict[str, Any]) -> Markup:
    """The table of all rows."""
    columns = {
        "annotator": "noise",
        "wrong": lambda row: f"{row['error_rate']:.0%}",
        "loss": "loss",
        "pair accuracy": "pair accuracy",
        f"best of {summary['best_of']}": "best of n",
        "against": lambda r: None if r["loss"] == FIRST else r["against"]["best of n"],
        "agreement with labels": "agreement",
        "its ceiling": "ceiling",
    }
    return section("Numbers", table(columns, summary["rows"]))


def write_report(run: RunDirectory, summary: dict[str, Any]) -> None:
    """Writes report.html: the curves over error rates, and a table of all rows."""
    write_study(
        run,
        summary["seconds"],
        "Annotation noise",
        [results(summary), numbers(summary)],
        subtitle="Reward models learn from annotators of falling quality. Gold judges them.",
    )
