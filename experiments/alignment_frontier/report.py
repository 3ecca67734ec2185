"""The report of `experiments.alignment_frontier`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from markupsafe import Markup

from irl_jax.eval.intervals import Interval
from irl_jax.report.page import CORRECTED, card, cards, figure, figures, section, table
from irl_jax.report.plots import COLOURS, against_kl
from irl_jax.report.series import Series, from_intervals
from irl_jax.report.study import write_study
from irl_jax.train.run import RunDirectory

TEACHERS = {"comparisons": "from comparisons", "proxy": "on the proxy", "gold": "on gold"}


def pick(row: Any) -> Interval | None:
    """An interval that may have been read back from JSON."""
    return None if row is None else Interval(*row)


def conclusion(summary: dict[str, Any], report: Path) -> str:
    """The closing lines in the terminal."""
    say = lambda x: "–" if x is None else "{:.2f} [{:.2f}, {:.2f}]".format(*x)
    heads = [f"gold at {kl:g} nats" for kl in summary["equal_kl"]]
    heads += [f"less {summary['base']} at {kl:g}" for kl in summary["equal_kl"]]
    lines = ["", f"{summary['seeds']} worlds; standard deviations of the reference's gold [95 %]"]
    lines.append(f"{'':24}" + "".join(f"{head:22}" for head in heads))
    for row in summary["rows"]:
        cells = [say(x) for x in (*row["gold"], *row["against"])]
        name = f"{row['method']} {TEACHERS[row['teacher']]}"
        lines.append(f"{name:24}" + "".join(f"{cell:22}" for cell in cells))
    best = [
        say(dict(zip(summary["optimum"]["kl"], summary["optimum"]["gold"], strict=True)).get(kl))
        for kl in summary["equal_kl"]
    ]
    lines.append(f"{'the optimum':24}" + "".join(f"{cell:22}" for cell in best))
    lines.append(f"p of the differences to {summary['base']} by Holm's procedure")
    for kl, family in zip(summary["equal_kl"], summary["corrected"], strict=True):
        lines.append(f"at {kl:g}: " + ", ".join(f"{name} {p:.2g}" for name, p in family.items()))
    return "\n".join([*lines, f"report  {report}"])


def drawing(summary: dict[str, Any]) -> str:
    """The frontiers, a panel for what teaches, SVG."""
    best = from_intervals(
        "the optimum", summary["optimum"]["kl"], [Interval(*x) for x in summary["optimum"]["gold"]],
        reference=True,
    )  # fmt: skip
    of = {(c["method"], c["teacher"]): c for c in summary["curves"] if c["kl"]}
    base = of.get((summary["base"], "comparisons"))

    def series(key: tuple[str, str], label: str, colour: str | None = None) -> Series:
        values = [Interval(*x) for x in of[key]["gold"]]
        return from_intervals(label, of[key]["kl"], values, colour=colour)

    panels = {}
    for teacher, words in TEACHERS.items():
        own = [key for key in of if key[1] == teacher]
        colours = [c for c in COLOURS if teacher == "comparisons" or c != "pink"]
        lines = [
            series(key, key[0], colour)
            for key, colour in zip(own, colours * len(own), strict=False)
        ]
        if base is not None and teacher != "comparisons":
            lines.append(series((summary["base"], "comparisons"), summary["base"], "pink"))
        panels[f"gold reward of what learns {words}"] = [*lines, best]
    return against_kl(panels)


def corrected_table(summary: dict[str, Any]) -> Markup:
    """p of every difference to the base, after Holm's correction."""
    rows = [
        [f"{r['method']} {TEACHERS[r['teacher']]}",
         *(family.get(f"{r['method']} {r['teacher']}") for family in summary["corrected"])]
        for r in summary["rows"]
        if any(r["against"])
    ]  # fmt: skip
    return table(
        [f"p, less {summary['base']}", *(f"at {kl:g} nats" for kl in summary["equal_kl"])], rows
    )


def write_report(run: RunDirectory, summary: dict[str, Any]) -> None:
    """Writes report.html: frontiers, gold at equal KL, every run."""
    at, base = summary["equal_kl"], summary["base"]
    middle = len(at) // 2
    ranked = sorted(
        (r for r in summary["rows"] if r["against"][middle] is not None and r["teacher"] != "gold"),
        key=lambda r: -r["against"][middle].estimate,
    )
    shown = [
        card(
            f"{r['method']} {TEACHERS[r['teacher']]}", r["against"][middle],
            f"gold at {at[middle]:g} nats less that of {base}", interval=r["against"][middle],
        )
        for r in ranked[:4]
    ]  # fmt: skip
    columns = ["method", "learns", *[f"gold at {kl:g} nats" for kl in at]]
    columns += [f"less {base} at {kl:g}" for kl in at]
    rows = [
        [r["method"], TEACHERS[r["teacher"]], *map(pick, r["gold"]), *map(pick, r["against"])]
        for r in summary["rows"]
    ]
    runs = [
        [r["method"], TEACHERS[r["teacher"]], "–" if r["strength"] is None else r["strength"],
         r["kl"][-1], r["gold"][-1]]
        for r in summary["runs"]
    ]  # fmt: skip
    write_study(
        run,
        summary["seconds"],
        "The alignment frontier",
        [
            section(
                "Results",
                cards(*shown),
                figures(figure(drawing(summary), "Gold reward over KL to the reference.")),
                "Gold is in standard deviations of the reference policy's, which has 0 at a KL of "
                "0; intervals are 95 % over worlds. A curve is what a method reaches at a KL, at "
                "the strength of its pull to the reference that was best in the other worlds. "
                "The optimum is the reference reweighted by exp(λ gold), which no policy exceeds, "
                "estimated from samples (from few, too low); best-of-n is drawn at the bound of "
                "its KL. Strengths that do not reach a KL in every world are left out there, so "
                "that a curve may dip where a strong pull ends.",
                table(columns, rows),
                f"Differences are paired by world. An empty cell: no strength of the method "
                f"gets that far in every world, or it is {base} itself.",
                CORRECTED,
                corrected_table(summary),
            ),
            section(
                "Every run",
                "Where runs of each strength end, means over worlds. The strength is β of the "
                "method's paper (τ of IPO), and means another thing in each.",
                table(["method", "learns", "strength", "KL at the end", "gold at the end"], runs),
            ),
        ],
        subtitle="Every method at equal KL, from the same noisy comparisons or on the gold reward.",
    )
