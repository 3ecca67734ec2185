"""The report of `experiments.alignment_frontier`, and its closing lines in the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from irl_jax.report.page import CORRECTED, card, cards, figure, figures, section, table
from irl_jax.report.plots import COLOURS, against_kl
from irl_jax.report.series import Series, curves, from_intervals
from irl_jax.report.study import write_study
from irl_jax.report.values import closing
from irl_jax.train.run import RunDirectory

TEACHERS = {"comparisons": "from comparisons", "proxy": "on the proxy", "gold": "on gold"}


def named(row: Mapping[str, Any]) -> str:
    """A method and what taught it."""
    return f"{row['method']} {TEACHERS[row['teacher']]}"


def corrected(summary: dict[str, Any]) -> dict[str, list[Any]]:
    """Method -> p of its differences to the base after Holm's correction, one a KL."""
    return {
        named(row): [p.get(f"{row['method']} {row['teacher']}") for p in summary["corrected"]]
        for row in summary["rows"]
        if any(row["against"])
    }


def conclusion(summary: dict[str, Any], report: Path) -> str:
    """The closing lines in the terminal."""
    at, base = [f"{kl:g} nats" for kl in summary["equal_kl"]], summary["base"]
    best = dict(zip(summary["optimum"]["kl"], summary["optimum"]["gold"], strict=True))
    optimum = [best.get(kl) for kl in summary["equal_kl"]]
    gold = [[named(row), *row["gold"], *row["against"]] for row in summary["rows"]]
    head = ["", *(f"gold at {kl}" for kl in at), *(f"less {base} at {kl}" for kl in at)]
    return closing(
        f"{summary['seeds']} worlds; standard deviations of the reference's gold [95 %]",
        [head, *gold, ["the optimum", *optimum, *[""] * len(at)]],
        f"p of the differences to {base} by Holm's procedure",
        {"": at} | corrected(summary),
        report=report,
    )


def drawing(summary: dict[str, Any]) -> str:
    """The frontiers, a panel for what teaches, SVG."""
    optimum = summary["optimum"]
    best = curves({"the optimum": optimum["gold"]}, optimum["kl"], reference=["the optimum"])
    of = {(c["method"], c["teacher"]): c for c in summary["curves"] if c["kl"]}
    base = (summary["base"], "comparisons")

    def series(key: tuple[str, str], colour: str) -> Series:
        return from_intervals(key[0], of[key]["kl"], of[key]["gold"], colour=colour)

    panels = {}
    for teacher, words in TEACHERS.items():
        own = [key for key in of if key[1] == teacher]
        colours = [c for c in COLOURS if teacher == "comparisons" or c != "pink"]
        drawn = [series(k, c) for k, c in zip(own, colours * len(own), strict=False)]
        if base in of and teacher != "comparisons":
            drawn.append(series(base, "pink"))
        panels[f"gold reward of what learns {words}"] = [*drawn, *best]
    return against_kl(panels)


def results(summary: dict[str, Any]) -> Markup:
    """The best methods, the frontiers, gold at equal KL."""
    at, base = summary["equal_kl"], summary["base"]
    middle = len(at) // 2
    compared = [r for r in summary["rows"] if r["against"][middle] and r["teacher"] != "gold"]
    ranked = sorted(compared, key=lambda r: -r["against"][middle][0])
    less = f"gold at {at[middle]:g} nats less that of {base}"
    rows = [
        [r["method"], TEACHERS[r["teacher"]], *r["gold"], *r["against"]] for r in summary["rows"]
    ]
    columns = ["method", "learns", *(f"gold at {kl:g} nats" for kl in at)]
    return section(
        "Results",
        cards(*(card(named(r), r["against"][middle], less) for r in ranked[:4])),
        figures(figure(drawing(summary), "Gold reward over KL to the reference.")),
        "Gold is in standard deviations of the reference policy's gold. The reference has 0 at a "
        "KL of 0. Intervals are 95 % over worlds. A curve shows what a method reaches at a KL. "
        "Its strength is the one that was best in the other worlds. The optimum is the reference "
        "reweighted by exp(λ gold), which no policy exceeds. It is estimated from samples; from "
        "few samples it comes out too low. Best-of-n is drawn at the bound of its KL. A strength "
        "that does not reach a KL in every world is left out there, so a curve may dip where a "
        "strong pull ends.",
        table([*columns, *(f"less {base} at {kl:g}" for kl in at)], rows),
        "Differences are paired by world. A cell is empty where no strength of the method gets "
        f"that far in every world, and for {base} itself.",
        CORRECTED,
        table([f"p, less {base}", *(f"at {kl:g} nats" for kl in at)], corrected(summary)),
    )


def every_run(summary: dict[str, Any]) -> Markup:
    """Where the runs of each method and strength end."""
    columns = {
        "method": "method",
        "learns": lambda run: TEACHERS[run["teacher"]],
        "strength": lambda run: "–" if run["strength"] is None else run["strength"],
        "KL at the end": lambda run: run["kl"][-1],
        "gold at the end": lambda run: run["gold"][-1],
    }
    return section(
        "Every run",
        "The table shows where runs of each strength end, as means over worlds. The strength is β "
        "of the method's paper (τ of IPO), which means something else in each.",
        table(columns, summary["runs"]),
    )


def write_report(run: RunDirectory, summary: dict[str, Any]) -> None:
    """Writes report.html: frontiers, gold at equal KL, every run."""
    write_study(
        run,
        summary["seconds"],
        "The alignment frontier",
        [results(summary), every_run(summary)],
        subtitle="Methods learn from the same noisy comparisons or on the gold reward. They are "
        "compared at equal KL.",
    )
