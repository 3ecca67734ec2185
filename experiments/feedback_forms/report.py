"""The report of `experiments.feedback_forms`."""

from __future__ import annotations

from typing import Any

from irl_jax.eval.intervals import Interval
from irl_jax.report.page import UNCORRECTED, card, cards, figure, figures, section, table
from irl_jax.report.plots import COLOURS, against_n
from irl_jax.report.series import from_intervals
from irl_jax.report.study import write_study
from irl_jax.train.run import RunDirectory

ATTRIBUTE_COLOURS = ("blue", "teal", "orange", "purple")


def write_report(run: RunDirectory, summary: dict[str, Any]) -> None:
    """Writes report.html: forms in every condition, attributes, models a minute."""
    write_study(
        run,
        summary["seconds"],
        "Forms of feedback",
        [
            _results(summary),
            _attributes(summary),
            _rate(summary),
        ],
        subtitle="The same impressions of answers, told as comparisons, rankings, marks or "
        "numbers: what a reward learns from each, judged by gold.",
    )


def _results(summary: dict[str, Any]) -> Any:
    rows, n = summary["rows"], summary["best_of"]
    first = rows[0]["form"]
    differ = [r for r in rows if r["condition"] == "people differ"]
    apart = {r["form"]: r for r in differ}
    curve = [r for r in rows if r["curve"]]
    shown = {r["form"]: r for r in sorted(curve, key=lambda r: r["answers"])}  # the most read
    headline = [
        card(
            name,
            Interval(*shown[name]["against"]["best of n"]),
            f"best of {n} less that of {first}, as many answers read; where people differ in "
            f"scale and offset {Interval(*apart[name]['against']['best of n'])}",
            interval=Interval(*shown[name]["against"]["best of n"]),
        )
        for name in shown
        if name != first
    ]
    columns = ["condition", "form", "answers read", "decisions", f"best of {n}", "against",
               "rank correlation"]  # fmt: skip
    body = [
        [r["condition"], r["form"], r["answers"], r["decisions"], Interval(*r["best of n"]),
         None if r["form"] == first else Interval(*r["against"]["best of n"]),
         Interval(*r["rank correlation"])]
        for r in rows
    ]  # fmt: skip
    return section(
        "Results",
        cards(*headline),
        figures(_curves(summary, "answers"), _curves(summary, "decisions")),
        f"Means over {summary['seeds']} seeds (split of the prompts, groups, noise, people) with "
        f"95 % intervals over seeds. Against is the difference to {first}, paired by seed, which "
        "takes out how easy the held-out prompts are. All forms follow from the same "
        "impressions of the same answers. A decision is one "
        "mark, or one comparison of the most that are needed to sort a ranking: 5 for four "
        "answers, 16 for eight.",
        UNCORRECTED,
        table(columns, body),
    )


def _curves(summary: dict[str, Any], cost: str) -> Any:
    own = sorted((r for r in summary["rows"] if r["curve"]), key=lambda r: r["answers"])
    names = list(dict.fromkeys(r["form"] for r in own))
    costs = sorted({r[cost] for r in own})
    curves = [
        from_intervals(
            name,
            [r[cost] for r in own if r["form"] == name],
            [Interval(*r["best of n"]) for r in own if r["form"] == name],
        )
        for name in names
    ]
    ends = [
        from_intervals(name, costs, [Interval(*end)] * len(costs), reference=True)
        for name, end in summary["ends"].items()
    ]
    unit = {"answers": "answers read", "decisions": "decisions made"}[cost]
    best = f"best of {summary['best_of']}"
    panels = {f"gold reward of the {best}": [*curves, *ends]}
    if cost == "answers":
        panels[f"{best}, difference to {names[0]}"] = [
            from_intervals(
                name,
                [r[cost] for r in own if r["form"] == name],
                [Interval(*r["against"]["best of n"]) for r in own if r["form"] == name],
                colour=colour,
            )
            for name, colour in zip(names[1:], list(COLOURS)[1:], strict=False)
        ]
    return figure(against_n(panels, x=unit), f"What a form teaches, over {unit}; held-out prompts.")


def _attributes(summary: dict[str, Any]) -> Any:
    rows, n = summary["attributes"]["rows"], summary["best_of"]
    ways = list(dict.fromkeys(r["from"] for r in rows))
    pick = lambda way: [r for r in rows if r["from"] == way]
    drawing = against_n(
        {
            f"overall reward of the best of {n}, standard deviations": [
                from_intervals(
                    way,
                    [r["comparisons"] for r in pick(way)],
                    [Interval(*r["best of n"]) for r in pick(way)],
                    colour=colour,
                )
                for way, colour in zip(ways, ATTRIBUTE_COLOURS, strict=True)
            ]
        },
        x="overall comparisons",
    )
    columns = ["comparisons", "learned from", "decisions", f"best of {n}", "against alone",
               "against as many decisions", "rank correlation"]  # fmt: skip
    body = [
        [r["comparisons"], r["from"], r["decisions"], Interval(*r["best of n"]),
         None if r["from"] == ways[0] else Interval(*r["against"]["best of n"]),
         None if r["from"] == ways[1] else Interval(*r["against decisions"]["best of n"]),
         Interval(*r["rank correlation"])]
        for r in rows
    ]  # fmt: skip
    return section(
        "Attributes",
        figures(figure(drawing, "Attributes that were rated, and weights from comparisons.")),
        "Each seed is a person who weighs valence, brevity, plain words and variety in their own "
        "way. Four ratings of each of some answers teach the attributes, overall comparisons "
        "their weights. Comparisons alone have the same comparisons, or as many more as there "
        "were ratings.",
        table(columns, body),
    )


def _rate(summary: dict[str, Any]) -> Any:
    rows = summary["models a minute"]
    columns = ["model", "parameters", "steps", "pairs a step", "models a minute",
               "a minute of CPU"]  # fmt: skip
    body = [
        [r["model"], r["parameters"], r["steps"], r["pairs a step"], round(r["a minute"]),
         round(r["a CPU minute"])]
        for r in rows
    ]  # fmt: skip
    return section(
        "Reward models a minute",
        "Trained at once in one program, each in an order of its own; without compilation.",
        table(columns, body),
    )
