"""What the study of iterated fine-tuning measures and shows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from experiments.sandbox.runs import interval
from irl_jax.eval.frontier import gold_at_kl
from irl_jax.eval.intervals import adjusted
from irl_jax.report.page import CORRECTED, card, cards, figure, figures, section, table
from irl_jax.report.plots import lines
from irl_jax.report.series import curves
from irl_jax.report.study import write_study
from irl_jax.report.values import closing, means_over
from irl_jax.train.run import RunDirectory

BASE = "GRPO"
TEACHERS = ("proxy", "gold")
MEASURES = {
    "gold": "gold reward, standard deviations",
    "proxy": "reward by the proxy, logits",
    "kl": "KL to the reference, nats",
}
EQUAL_KL = 4.0  # nats at which recipes are compared
AGAINST = {"against half-way": "half-way", "against": "gold", "against near": "near"}


def summarise(traces: Mapping[str, Mapping[str, np.ndarray]], samples: int) -> dict[str, Any]:
    """The results as JSON values.

    Args:
        traces: recipe -> field of `Trace` -> f32[S, teachers, rounds].
        samples: completions of a round.

    Returns:
        `rows`: of each teacher and recipe the last round's measures, gold half-way and at
        `EQUAL_KL` (`near`), and the differences of gold to GRPO, paired by world;
        `corrected`: p of these by Holm's procedure, both teachers' together; `curves`: each
        measure after each round.
    """
    rows, curves = [], []
    first = next(iter(traces.values()))["gold"]
    half = (first.shape[-1] + 1) // 2 - 1
    differences: dict[str, dict[str, np.ndarray]] = {name: {} for name in AGAINST}
    for t, teacher in enumerate(TEACHERS):
        for name, trace in traces.items():
            own, base = (landmarks(x, t, half) for x in (trace, traces[BASE]))
            against = {to: own[at] - base[at] for to, at in AGAINST.items()}
            rows.append(
                {
                    "teacher": teacher,
                    "recipe": name,
                    **{field: interval(trace[field][:, t, -1]) for field in (*MEASURES, "length")},
                    **{at: interval(x) for at, x in own.items()},
                    **{to: None if name == BASE else interval(x) for to, x in against.items()},
                }
            )
            for to, x in against.items():
                if name != BASE and np.isfinite(x).all():
                    differences[to][f"{name} on {teacher}"] = x
            curves.append(
                {
                    "teacher": teacher,
                    "recipe": name,
                    **{f: [interval(x) for x in trace[f][:, t].T] for f in MEASURES},
                }
            )
    return {
        "seeds": len(first),
        "samples": [samples * (i + 1) for i in range(first.shape[-1])],
        "half_way": samples * (half + 1),
        "rows": rows,
        "corrected": {to: adjusted(family) for to, family in differences.items()},
        "curves": curves,
    }


def landmarks(trace: Mapping[str, np.ndarray], teacher: int, half: int) -> dict[str, np.ndarray]:
    """Gold f64[S] half-way, at the end (`gold`), and at `EQUAL_KL` (`near`)."""
    kl, gold = trace["kl"][:, teacher], trace["gold"][:, teacher]
    near = gold_at_kl(kl, gold, EQUAL_KL)
    return {"half-way": gold[:, half], "gold": gold[:, -1], "near": near}


def conclusion(summary: dict[str, Any], report: Path) -> str:
    """The closing lines in the terminal."""
    fields = ("half-way", "against half-way", "gold", "against", "near", "against near", "kl")
    rows = [
        [f"{row['recipe']} on {row['teacher']}", *(row[name] for name in fields)]
        for row in summary["rows"]
    ]
    return closing(
        f"{summary['seeds']} worlds, {summary['samples'][-1]} samples [95 %]",
        [["", *fields], *rows],
        "p of the differences by Holm's procedure",
        {"": list(AGAINST)} | corrected(summary),
        report=report,
    )


def drawing(summary: dict[str, Any], teacher: str) -> str:
    """Gold, proxy and KL over the samples drawn, SVG."""
    own = [c for c in summary["curves"] if c["teacher"] == teacher]
    series = lambda field: curves({c["recipe"]: c[field] for c in own}, summary["samples"])
    return lines({label: series(field) for field, label in MEASURES.items()}, x="samples drawn")


def corrected(summary: dict[str, Any]) -> dict[str, list[Any]]:
    """Recipe and reward -> p of each difference to GRPO, after Holm's correction."""
    names = [f"{r['recipe']} on {r['teacher']}" for r in summary["rows"] if r["recipe"] != BASE]
    return {name: [summary["corrected"][to].get(name) for to in AGAINST] for name in names}


def write_report(run: RunDirectory, summary: dict[str, Any]) -> None:
    """Writes report.html: measures over samples, the end against GRPO."""
    last, near = f"after {summary['samples'][-1]:,}", f"at {EQUAL_KL:g} nats"
    half, less = f"after {summary['half_way']:,}", f"less {BASE}"
    shown = [
        card(f"{row['recipe']} on the {row['teacher']}", row["against"],
             f"gold {last} samples less that of {BASE}")
        for row in summary["rows"]
        if row["teacher"] == "proxy" and row["against"] is not None
    ]  # fmt: skip
    columns = ["reward", "recipe", f"gold {half}", less, f"gold {last}", less, near, less,
               "KL, nats", "proxy", "length"]  # fmt: skip
    fields = ("teacher", "recipe", "half-way", "against half-way", "gold", "against", "near",
              "against near", "kl", "proxy", "length")  # fmt: skip
    rewards = {"proxy": "the proxy", "gold": "gold itself"}
    results = section(
        "Results",
        cards(*shown),
        figures(
            *(
                figure(drawing(summary, t), f"Rewarded with {words}.")
                for t, words in rewards.items()
            )
        ),
        f"{means_over(summary['seeds'], 'world')} Gold is in standard deviations of the reference "
        "policy's gold. The reference has 0. All recipes draw the same number of samples and make "
        "as many updates on them, but some go farther with them. The columns "
        f"{near} compare recipes where they are as far from the reference, after more or fewer "
        "samples.",
        table(columns, [[row[name] for name in fields] for row in summary["rows"]]),
        CORRECTED,
        table([f"p, {less}", half, last, near], corrected(summary)),
    )
    write_study(
        run,
        summary["seconds"],
        "Iterated fine-tuning",
        [results],
        subtitle="RAFT, ReST and STaR against GRPO at equal samples. Gold judges them.",
    )
