"""The report of `experiments.adversarial_imitation`, and its closing lines in the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from irl_jax.report.page import CORRECTED, figure, section, table
from irl_jax.report.plots import intervals, lines
from irl_jax.report.series import from_intervals
from irl_jax.report.study import write_study
from irl_jax.report.values import closing
from irl_jax.train.run import RunDirectory

EXPERT, ASKED = "the expert, as recorded", "a clone of all its episodes"


def conclusion(summary: dict[str, Any], report: Path) -> str:
    """The closing lines in the terminal."""
    parts: list[Any] = []
    for name, found in summary["tasks"].items():
        parts += [
            f"{name}: return [95 % over {summary['seeds']} seeds], less behaviour cloning's, p",
            methods(found),
            f"{name}: what must fail, its return, less the method's own, p",
            controls(found),
        ]
    return closing(*parts, report=report)


def methods(found: dict[str, Any]) -> list[list[Any]]:
    """A row for each method: its return, and how far it is ahead of cloning."""
    return [
        [EXPERT, found["expert"], None, None],
        [ASKED, found["asked"], None, None],
        *(
            [name, value, found["margins"].get(name), found["p"].get(name)]
            for name, value in found["methods"].items()
        ),
    ]


def controls(found: dict[str, Any]) -> list[list[Any]]:
    """A row for each control: its return, and how far it is behind its method."""
    return [
        [name, value, found["losses"][name], found["p_losses"][name]]
        for name, value in found["controls"].items()
    ]


def write_report(run: RunDirectory, summary: dict[str, Any]) -> None:
    """Writes report.html: returns, learning curves, comparisons and controls of each task."""
    write_study(
        run,
        summary["seconds"],
        "Imitation of recorded experts in a fixed horizon",
        [section_of(name, found) for name, found in summary["tasks"].items()],
        subtitle=f"Mean returns of greedy policies, 95 % over {summary['seeds']} seeds.",
    )


def section_of(name: str, found: dict[str, Any]) -> Any:
    """One task."""
    rows = {EXPERT: found["expert"], ASKED: found["asked"]}
    curves = [
        from_intervals(method, found["steps"][method], values)
        for method, values in found["curves"].items()
    ]
    return section(
        name,
        figure(
            intervals(rows | found["methods"] | found["controls"], x="return"),
            f"Returns on {name}: experts, methods, and below them what must fail",
        ),
        figure(
            lines({"return of the policy that acts": curves}, x="steps in the environment"),
            f"Returns on {name} while learning",
        ),
        table(["method", "return", "less behaviour cloning's", "p"], methods(found)),
        CORRECTED,
        table(["what must fail", "return", "less the method's own", "p"], controls(found)),
    )
