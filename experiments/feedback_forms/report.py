"""The report of `experiments.feedback_forms`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from markupsafe import Markup

from irl_jax.report.page import UNCORRECTED, card, cards, figure, figures, section, table
from irl_jax.report.plots import COLOURS, against_n
from irl_jax.report.series import curves, from_intervals
from irl_jax.report.study import write_study
from irl_jax.report.values import as_interval, closing, means_over
from irl_jax.train.run import RunDirectory

ATTRIBUTE_COLOURS = ("blue", "teal", "orange", "purple")


def conclusion(summary: dict[str, Any], report: Path) -> str:
    """The closing lines in the terminal."""
    forms = [
        [r["condition"], r["form"], r["best of n"], r["against"]["best of n"]]
        for r in summary["rows"]
    ]
    told = [
        [f"{r['comparisons']} comparisons", r["from"], r["best of n"]]
        for r in summary["attributes"]["rows"]
    ]
    speed = [
        [r["model"], f"{r['a minute']:.0f} reward models a minute",
         f"{r['a CPU minute']:.0f} a minute of CPU"]
        for r in summary["models a minute"]
    ]  # fmt: skip
    head = f"gold reward of the best of {summary['best_of']}, mean over seeds [95 % interval]"
    return closing(head, forms, told, speed, report=report)


def write_report(run: RunDirectory, summary: dict[str, Any]) -> None:
    """Writes report.html: forms in every condition, attributes, models a minute."""
    write_study(
        run,
        summary["seconds"],
        "Forms of feedback",
        [results(summary), attributes(summary), rate(summary["models a minute"])],
        subtitle="The same impressions of answers are told as comparisons, rankings, marks or "
        "numbers. Gold judges what a reward learns from each.",
    )


def results(summary: dict[str, Any]) -> Markup:
    """Every form in every condition, against the first form."""
    rows, n = summary["rows"], summary["best_of"]
    first = rows[0]["form"]
    gain = lambda row: None if row["form"] == first else row["against"]["best of n"]
    differ = {r["form"]: as_interval(gain(r)) for r in rows if r["condition"] == "people differ"}
    by_cost = sorted((r for r in rows if r["curve"]), key=lambda r: r["answers"])
    shown = {r["form"]: gain(r) for r in by_cost}  # where most answers are read
    headline = [
        card(form, ahead, f"best of {n} less that of {first}, as many answers read; where people "
             f"differ in scale and offset {differ[form]}")
        for form, ahead in shown.items()
        if form != first
    ]  # fmt: skip
    columns = {
        "condition": "condition",
        "form": "form",
        "answers read": "answers",
        "decisions": "decisions",
        f"best of {n}": "best of n",
        "against": gain,
        "rank correlation": "rank correlation",
    }
    return section(
        "Results",
        cards(*headline),
        figures(drawing(summary, by_cost, "answers"), drawing(summary, by_cost, "decisions")),
        f"{means_over(summary['seeds'], 'seed')} Each seed has its own split of the prompts, "
        f"groups, noise and people. “Against” is the difference to {first}, which takes out how "
        "easy the held-out prompts are. All forms follow from the same impressions of the same "
        "answers. A decision is one mark, or one comparison of the most that sorting a ranking "
        "needs: 5 for four answers, 16 for eight.",
        UNCORRECTED,
        table(columns, rows),
    )


def drawing(summary: dict[str, Any], rows: list[dict[str, Any]], cost: str) -> Markup:
    """What each form teaches over what it costs."""
    own = {form: [r for r in rows if r["form"] == form] for form in [r["form"] for r in rows]}
    costs = sorted({r[cost] for r in rows})
    ends = {name: [end] * len(costs) for name, end in summary["ends"].items()}
    unit = {"answers": "answers read", "decisions": "decisions made"}[cost]
    best = f"best of {summary['best_of']}"
    x = lambda form: [r[cost] for r in own[form]]
    reached = [from_intervals(f, x(f), [r["best of n"] for r in own[f]]) for f in own]
    panels = {f"gold reward of the {best}": [*reached, *curves(ends, costs, reference=list(ends))]}
    first, *others = own
    if cost == "answers":
        panels[f"{best}, difference to {first}"] = [
            from_intervals(f, x(f), [r["against"]["best of n"] for r in own[f]], colour=colour)
            for f, colour in zip(others, list(COLOURS)[1:], strict=False)
        ]
    return figure(against_n(panels, x=unit), f"What a form teaches, over {unit}; held-out prompts.")


def attributes(summary: dict[str, Any]) -> Markup:
    """Attributes that were rated, with weights from comparisons, against comparisons alone."""
    rows, n = summary["attributes"]["rows"], summary["best_of"]
    ways = {way: [r for r in rows if r["from"] == way] for way in [r["from"] for r in rows]}
    alone, as_many = list(ways)[:2]
    drawn = [
        from_intervals(way, [r["comparisons"] for r in own], [r["best of n"] for r in own],
                       colour=colour)
        for (way, own), colour in zip(ways.items(), ATTRIBUTE_COLOURS, strict=True)
    ]  # fmt: skip
    best = f"overall reward of the best of {n}, standard deviations"
    less = lambda key, other: lambda r: None if r["from"] == other else r[key]["best of n"]
    columns = {
        "comparisons": "comparisons",
        "learned from": "from",
        "decisions": "decisions",
        f"best of {n}": "best of n",
        "against alone": less("against", alone),
        "against as many decisions": less("against decisions", as_many),
        "rank correlation": "rank correlation",
    }
    return section(
        "Attributes",
        figures(
            figure(
                against_n({best: drawn}, x="overall comparisons"),
                "Attributes that were rated, and weights from comparisons.",
            )
        ),
        "Each seed is a person who weighs valence, brevity, plain words and variety in their own "
        "way. Four ratings of each of some answers teach the attributes. Overall comparisons "
        "teach their weights. Comparisons alone have the same comparisons, or as many more as "
        "there were ratings.",
        table(columns, rows),
    )


def rate(rows: list[dict[str, Any]]) -> Markup:
    """How many reward models a minute trains."""
    columns = {
        **{name: name for name in ("model", "parameters", "steps", "pairs a step")},
        "models a minute": lambda row: round(row["a minute"]),
        "a minute of CPU": lambda row: round(row["a CPU minute"]),
    }
    return section(
        "Reward models a minute",
        "One program trains all models at once, each in an order of its own. Compilation is not "
        "counted.",
        table(columns, rows),
    )
