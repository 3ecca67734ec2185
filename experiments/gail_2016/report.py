"""The report of `experiments.gail_2016`, and its closing lines in the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from irl_jax.report.page import CORRECTED, figure, section, table
from irl_jax.report.plots import lines
from irl_jax.report.series import from_intervals
from irl_jax.report.study import write_study
from irl_jax.report.values import closing
from irl_jax.train.run import RunDirectory

NAMES = {"bclone": "behaviour cloning", "ga": "GAIL"}
WHOSE = ("theirs", "ours")


def rows_of(found: dict[str, Any]) -> list[list[Any]]:
    """A row for each learner of a task, the authors' and ours."""
    return [[f"{NAMES[a]}, {whose}", *found[whose][a]] for a in NAMES for whose in WHOSE]


def controls(found: dict[str, Any]) -> list[list[Any]]:
    """What else was learned from one demonstration of a task."""
    return [
        ["the expert", found["expert"]],
        ["behaviour cloning of every step", found["whole"]],
        ["GAIL of every step in a fixed horizon", found["fixed"]],
        ["GAIL with the opposite sign", found["opposite"]],
        *([f"pushing left, {name}", value] for name, value in found["left"].items()),
    ]


def conclusion(summary: dict[str, Any], report: Path) -> str:
    """The closing lines in the terminal."""
    parts: list[Any] = []
    heads = ["", *(f"{n} shown" for n in summary["demonstrations"])]
    for name, found in summary["tasks"].items():
        parts += [
            f"{name}: return [95 % over {summary['seeds']} seeds], by demonstrations",
            [heads, *rows_of(found)],
            f"{name}: from the fewest demonstrations",
            controls(found),
            [[margin, value, found["p"][margin]] for margin, value in found["margins"].items()],
        ]
    return closing(*parts, report=report)


def write_report(run: RunDirectory, summary: dict[str, Any]) -> None:
    """Writes report.html: theirs and ours by demonstrations, and the controls."""
    write_study(
        run,
        summary["seconds"],
        "GAIL beside its authors' results",
        [section_of(name, found, summary) for name, found in summary["tasks"].items()],
        subtitle=f"Mean returns, 95 % over 7 runs of the authors and {summary['seeds']} seeds.",
    )


def section_of(name: str, found: dict[str, Any], summary: dict[str, Any]) -> Any:
    """One task."""
    shown = summary["demonstrations"]
    curves = [
        from_intervals(f"{NAMES[a]}, {whose}", shown, found[whose][a])
        for a in NAMES
        for whose in WHOSE
    ]
    margins = [[margin, value, found["p"][margin]] for margin, value in found["margins"].items()]
    return section(
        name,
        figure(lines({"return": curves}, x="demonstrations"), f"returns on {name}"),
        table(["return, by demonstrations", *map(str, shown)], rows_of(found)),
        table(["from the fewest demonstrations", "return"], controls(found)),
        CORRECTED,
        table(["difference", "return", "p"], margins),
    )
