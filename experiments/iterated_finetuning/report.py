"""What the study of iterated fine-tuning measures and shows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from experiments.sandbox.runs import interval
from irl_jax.eval.frontier import gold_at_kl
from irl_jax.eval.intervals import Interval, adjusted
from irl_jax.report.page import CORRECTED, card, cards, figure, figures, section, table
from irl_jax.report.plots import lines
from irl_jax.report.series import from_intervals
from irl_jax.report.study import write_study
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
    say = lambda x: "–" if x is None else "{:.2f} [{:.2f}, {:.2f}]".format(*x)
    fields = ("half-way", "against half-way", "gold", "against", "near", "against near", "kl")
    out = ["", f"{summary['seeds']} worlds, {summary['samples'][-1]} samples [95 %]"]
    out.append(f"{'':18}" + "".join(f"{name:24}" for name in fields))
    for row in summary["rows"]:
        cells = "".join(f"{say(row[name]):24}" for name in fields)
        out.append(f"{row['recipe']} on {row['teacher']:10} {cells}")
    out.append("p of the differences by Holm's procedure")
    for to, family in summary["corrected"].items():
        out.append(f"{to:18}" + ", ".join(f"{name} {p:.2g}" for name, p in family.items()))
    return "\n".join([*out, f"report  {report}"])


def drawing(summary: dict[str, Any], teacher: str) -> str:
    """Gold, proxy and KL over the samples drawn, SVG."""
    own = [c for c in summary["curves"] if c["teacher"] == teacher]
    series = lambda field: [
        from_intervals(c["recipe"], summary["samples"], [Interval(*x) for x in c[field]])
        for c in own
    ]
    return lines({label: series(f) for f, label in MEASURES.items()}, x="samples drawn")


def corrected_table(summary: dict[str, Any]) -> Markup:
    """p of every difference to GRPO, after Holm's correction."""
    heads = [f"after {summary['half_way']:,}", f"after {summary['samples'][-1]:,}",
             f"at {EQUAL_KL:g} nats"]  # fmt: skip
    names = [f"{r['recipe']} on {r['teacher']}" for r in summary["rows"] if r["recipe"] != BASE]
    rows = [[name, *(summary["corrected"][to].get(name) for to in AGAINST)] for name in names]
    return table([f"p, less {BASE}", *heads], rows)


def write_report(run: RunDirectory, summary: dict[str, Any]) -> None:
    """Writes report.html: measures over samples, the end against GRPO."""
    pick = lambda x: None if x is None else Interval(*x)
    half, last = summary["half_way"], summary["samples"][-1]
    shown = [
        card(
            f"{r['recipe']} on the {r['teacher']}", pick(r["against"]),
            f"gold after {last:,} samples less that of {BASE}", interval=pick(r["against"]),
        )
        for r in summary["rows"]
        if r["teacher"] == "proxy" and r["against"] is not None
    ]  # fmt: skip
    columns = ["reward", "recipe", f"gold after {half:,}", f"less {BASE}", f"gold after {last:,}",
               f"less {BASE}", f"at {EQUAL_KL:g} nats", f"less {BASE}", "KL, nats", "proxy",
               "length"]  # fmt: skip
    fields = ("half-way", "against half-way", "gold", "against", "near", "against near", "kl",
              "proxy", "length")  # fmt: skip
    rows = [
        [r["teacher"], r["recipe"], *(pick(r[name]) for name in fields)] for r in summary["rows"]
    ]
    write_study(
        run,
        summary["seconds"],
        "Iterated fine-tuning",
        [
            section(
                "Results",
                cards(*shown),
                figures(
                    *(
                        figure(drawing(summary, teacher), f"Rewarded with {words}.")
                        for teacher, words in (("proxy", "the proxy"), ("gold", "gold itself"))
                    )
                ),
                "Gold is in standard deviations of the reference policy's, which has 0; bands and "
                f"intervals are 95 % over {summary['seeds']} worlds, differences paired by world. "
                "All recipes draw the same number of samples and make as many updates on them, but "
                f"some go farther with them: the columns at {EQUAL_KL:g} nats compare them "
                "where they have come as far from the reference, by more or fewer samples.",
                table(columns, rows),
                CORRECTED,
                corrected_table(summary),
            ),
        ],
        subtitle="RAFT, ReST and STaR against GRPO at equal samples, judged by gold.",
    )
