"""The report of `experiments.mle_or_inverse_q`, and its closing lines in the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from experiments.mle_or_inverse_q.worlds import BASES
from irl_jax.report.page import CORRECTED, figure, figures, section, table
from irl_jax.report.plots import lines
from irl_jax.report.series import Series, from_intervals
from irl_jax.report.study import write_study
from irl_jax.report.values import closing, means_over
from irl_jax.train.run import RunDirectory

NAMES = {
    "surprise": "−log π of human solutions, nats a token",
    "likeness": "self-BLEU",
    "marked": "marks an answer",
    "right": "is right",
    "tokens": "tokens",
}


def of_count(summary: dict[str, Any], count: int) -> list[dict[str, Any]]:
    """The sandbox's rows with so many demonstrations."""
    return [row for row in summary["sandbox"]["rows"] if row["demonstrations"] == count]


def conclusion(summary: dict[str, Any], report: Path) -> str:
    """The closing lines in the terminal."""
    own = summary["sandbox"]
    shown = [f"{t:g}" for t in own["temperatures"]]
    parts: list[Any] = [f"{own['worlds']} worlds [95 %]"]
    for count in own["demonstrations"]:
        rows = of_count(summary, count)
        parts += [f"{count} demonstrations: gold by temperature",
                  [["", *shown], *([r["arm"], *r["gold"]] for r in rows)],
                  "self-BLEU by temperature",
                  [["", *shown], *([r["arm"], *r["likeness"]] for r in rows)],
                  "−log π of held-out demonstrations, and the updates of what was stopped",
                  [[r["arm"], r["surprise"], r.get("at", "")] for r in rows]]  # fmt: skip
        for base in BASES:
            others = [(r["arm"], r["less"][base]) for r in rows if base in r["less"]]
            parts += [f"−log π less that of {base}; gold less its, where self-BLEU is its at",
                      [["", "−log π", *map(str, own["equal_temperatures"])],
                       *([arm, x["surprise"], *x["equal"]] for arm, x in others)],
                      f"less {base} at its temperature: gold, self-BLEU",
                      [[arm, f"{t}", x["gold"][i], x["likeness"][i]]
                       for arm, x in others for i, t in enumerate(own["temperatures"])
                       if t in own["equal_temperatures"]]]  # fmt: skip
    parts.append([["greatest difference of a parameter, MLE and λ = 0", own["apart"]]])
    if summary["solutions"]:
        shown = [f"{t:g}" for t in summary["solutions"]["temperatures"]]
        for key, about in NAMES.items():
            head = [] if key == "surprise" else [["", *shown]]
            for end, kind in (("", ""), ("_less", ", less MLE's")):
                rows = [r for r in summary["solutions"]["rows"] if key + end in r]
                own_rows = [[r["arm"], *r[key + end]] for r in rows]
                parts += [f"GSM8K: {about}{kind}", [*head, *own_rows]]
    return closing(*parts, report=report)


def frontier(rows: list[dict[str, Any]], about: str, key: str) -> str:
    """Quality over self-BLEU, a curve an arm; a point is a temperature."""
    drawn = []
    for row in rows:
        x, y = (np.array([values[0] for values in row[k]]) for k in ("likeness", key))
        order = np.argsort(x, kind="stable")
        drawn.append(Series(row["arm"], x[order], y[order]))
    return lines({about: drawn}, x="self-BLEU: 0 diverse, 1 all the same")


def less(rows: list[dict[str, Any]], base: str, equal: list[float]) -> Markup:
    """What arms have less a base."""
    return table(
        [f"less {base}", "−log π", *(f"gold at its self-BLEU of {t:g}" for t in equal)],
        {
            row["arm"]: [row["less"][base]["surprise"], *row["less"][base]["equal"]]
            for row in rows
            if base in row["less"]
        },
    )


def of_sandbox(summary: dict[str, Any]) -> list[Markup]:
    """A section for each number of demonstrations."""
    own, made = summary["sandbox"], []
    temperatures = own["temperatures"]
    shown = [f"{t:g}" for t in temperatures]
    for count, p in zip(own["demonstrations"], own["corrected"], strict=True):
        rows = of_count(summary, count)
        by_temperature = {
            about: [from_intervals(r["arm"], temperatures, r[key]) for r in rows]
            for key, about in (("gold", "Gold"), ("likeness", "Self-BLEU"))
        }
        made.append(
            section(
                f"Sandbox, {count} demonstrations",
                means_over(own["worlds"], "world"),
                figures(
                    figure(
                        frontier(rows, "Gold", "gold"),
                        "Gold, in standard deviations of the reference's, over how alike the "
                        "samples of a prompt are. A curve runs from the highest temperature, left, "
                        "to the lowest.",
                    ),
                    figure(
                        lines(by_temperature, x="temperature"),
                        "Gold and self-BLEU by temperature, with 95 % intervals over worlds.",
                    ),
                ),
                table(["gold at", *shown], {r["arm"]: r["gold"] for r in rows}),
                table(["self-BLEU at", *shown], {r["arm"]: r["likeness"] for r in rows}),
                table(
                    ["", "−log π of held-out demonstrations, nats", "updates, where stopped"],
                    [[r["arm"], r["surprise"], r.get("at")] for r in rows],
                ),
                *(less(rows, base, own["equal_temperatures"]) for base in BASES),
                CORRECTED,
                table(["difference", "p"], {name: [value] for name, value in p.items()}),
            )
        )
    return made


def of_language_model(summary: dict[str, Any]) -> Markup:
    """What SmolLM2 learned of human solutions."""
    own = summary["solutions"]
    shown, parts = [f"{t:g}" for t in own["temperatures"]], []
    for key, about in NAMES.items():
        head = [about, *([""] if key == "surprise" else shown)]
        parts.append(table(head, {r["arm"]: r[key] for r in own["rows"]}))
        less = {r["arm"]: r[f"{key}_less"] for r in own["rows"] if f"{key}_less" in r}
        parts.append(table([f"{about}, less MLE's", *head[1:]], less))
    return section(
        "GSM8K's human solutions",
        f"After {own['updates']} updates of each, on {own['questions']} test questions, with 95 % "
        "intervals by the bootstrap over questions. One run each: how much another order of the "
        "data would change is not in the intervals. Columns are temperatures.",
        *parts,
    )


def write_report(run: RunDirectory, summary: dict[str, Any]) -> None:
    """Writes report.html: frontiers of quality and diversity, and their tables."""
    sections = of_sandbox(summary)
    if summary["solutions"]:
        sections.append(of_language_model(summary))
    control = section(
        "Control",
        "The greatest difference between a parameter of MLE and of the first λ, over all worlds, "
        f"after training: {summary['sandbox']['apart']:.2g}.",
    )
    write_study(
        run,
        summary["seconds"],
        "Likelihood or an inverse soft Q",
        [*sections, control],
        subtitle="Policies that imitate demonstrations by likelihood and by IQ-Learn, at equal "
        "updates.",
    )
