"""What reinforcement learning from verifiable rewards changed: measures, tables, figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from irl_jax.eval.intervals import Interval, bootstrap, paired_difference
from irl_jax.eval.pass_at_k import pass_at_k
from irl_jax.report.page import Sample, card, cards, figure, figures, samples, section, table
from irl_jax.report.plots import COLOURS, against_n, lines
from irl_jax.report.series import Series, from_intervals, smooth
from irl_jax.report.study import write_study
from irl_jax.train.run import RunDirectory

BEFORE = "before"  # the policy that was shown worked solutions, and no more
SHOWN = 4  # questions in the report, of each task
DRAWN = ("accuracy", "entropy", "tokens", "cut", "clipped")


@dataclass(frozen=True)
class Result:
    """What came of a task and a seed.

    Attributes:
        held_out: questions, [Q].
        before: `right` bool[Q, n] and `said` str[Q, 1] of the policy at the start.
        after: variant -> the same of the trained policy, and f64[rollouts] of what was drawn
            in training, batch by batch: `accuracy`, `entropy` (nats a token), `tokens`, `cut`,
            and, of batches learned from, `clipped`.
    """

    held_out: list[str]
    before: Mapping[str, np.ndarray]
    after: Mapping[str, Mapping[str, np.ndarray]]


def summarise(
    results: Sequence[Result], *, labels: Mapping[str, str], ks: Sequence[int], per_batch: int
) -> dict[str, Any]:
    """The results of the seeds of a task, as JSON values and intervals over questions.

    Args:
        results: of each seed.
        labels: variant -> its name.
        ks: attempts that pass@k counts.
        per_batch: completions in a batch.
    """
    names = list(results[0].after)
    right = {BEFORE: np.stack([r.before["right"] for r in results])} | {
        name: np.stack([r.after[name]["right"] for r in results]) for name in names
    }  # bool[S, Q, n]
    passed = {
        name: {k: np.stack([pass_at_k(each, k) for each in r]) for k in ks}
        for name, r in right.items()
    }  # f64[S, Q]
    first, last = min(ks), max(ks)
    differences = lambda name, base, k: {
        "interval": paired_difference(passed[base][k].ravel(), passed[name][k].ravel()),
        "by_seed": (passed[name][k] - passed[base][k]).mean(1).tolist(),
    }
    rows = {}
    for name in names:
        drawn = [r.after[name] for r in results]
        rows[name] = {
            "completions": [per_batch * len(d["accuracy"]) for d in drawn],
            "less_before": {str(k): differences(name, BEFORE, k) for k in (first, last)},
            "less_first": {
                str(k): differences(name, names[0], k) for k in (first, last) if name != names[0]
            },
            "drawn": {
                what: np.mean([d[what][: _shortest(drawn)] for d in drawn], 0).tolist()
                for what in DRAWN
            },
        }
    return {
        "labels": {BEFORE: "before", **{name: labels[name] for name in names}},
        "ks": list(ks),
        "per_batch": per_batch,
        "questions": [len(r.held_out) for r in results],
        "passed": {name: [bootstrap(each[k].ravel()) for k in ks] for name, each in passed.items()},
        "by_seed": {name: each[first].mean(1).tolist() for name, each in passed.items()},
        "never": {name: float((~r.any(2)).mean()) for name, r in right.items()},
        "variants": rows,
        "samples": _samples(results[0], names[-1]),
    }


def _shortest(drawn: Sequence[Mapping[str, np.ndarray]]) -> int:
    """Batches that every seed has."""
    return min(len(d["accuracy"]) for d in drawn)


def _samples(result: Result, name: str) -> list[list[Any]]:
    """Question, what was said before and after, and whether it was right, of the first few."""
    sides = (result.before, result.after[name])
    return [
        [
            question,
            *(str(side["said"][i, 0]) for side in sides),
            *(float(side["right"][i, 0]) for side in sides),
        ]
        for i, question in enumerate(result.held_out[:SHOWN])
    ]


def conclusion(summary: dict[str, Any], report: Path) -> str:
    """The closing lines in the terminal."""
    out = []
    for task, found in summary["tasks"].items():
        first, last = min(found["ks"]), max(found["ks"])
        out += ["", f"{task}: share of {sum(found['questions'])} held-out questions solved"]
        out.append(f"  {'':28}{f'pass@{first}':24}{f'pass@{last}':24}{'by seed'}")
        for name, intervals in found["passed"].items():
            ends = (f"{Interval(*intervals[i])!s:24}" for i in (0, -1))
            seeds = " ".join(f"{x:.3f}" for x in found["by_seed"][name])
            out.append(f"  {found['labels'][name]:28}{''.join(ends)}{seeds}")
    return "\n".join([*out, f"report  {report}"])


def write_report(run: RunDirectory, summary: dict[str, Any]) -> None:
    """Writes report.html: for each task headline numbers, figures, the table of variants."""
    sections = [part for task, found in summary["tasks"].items() for part in _sections(task, found)]
    write_study(
        run,
        summary["seconds"],
        "Reinforcement learning from verifiable rewards",
        [
            *sections,
        ],
        subtitle="A small policy that was shown few worked solutions goes on by trial and error; "
        "reasoning-gym's verifiers say what is right.",
    )


def _sections(task: str, found: dict[str, Any]) -> list[Markup]:
    """The results of a task, the table of its variants, and what policies wrote."""
    labels, ks, rows = found["labels"], found["ks"], found["variants"]
    passed = {name: [Interval(*i) for i in each] for name, each in found["passed"].items()}
    first, last = ks.index(min(ks)), ks.index(max(ks))
    gain = {
        k: {name: Interval(*row["less_before"][str(k)]["interval"]) for name, row in rows.items()}
        for k in (ks[first], ks[last])
    }
    top = next(iter(rows))
    headline = cards(
        *(
            card(
                f"pass@{k}, {labels[top]} − before",
                gain[k][top],
                f"{passed[BEFORE][i].estimate:.3f} before, {passed[top][i].estimate:.3f} after; "
                "paired by question",
                interval=gain[k][top],
            )
            for i, k in ((first, ks[first]), (last, ks[last]))
        )
    )
    return [
        section(
            f"Results on {task}",
            headline,
            figures(_learning(found), _pass_curves(found, passed)),
            "Every variant starts from the same policy, draws the same number of completions, and "
            f"is tested on {sum(found['questions'])} questions of {len(found['questions'])} seeds "
            "that it never saw. Intervals are 95 %, over the questions of all seeds; a seed has "
            "a policy and questions of its own, so that the spread of 'by seed' says what luck "
            "in training does.",
        ),
        section(f"Variants on {task}", *_tables(found, passed, gain)),
        section(
            f"Solutions to {task}",
            f"The first attempt at the first held-out questions of seed 0, before and after "
            f"{labels[list(rows)[-1]]}.",
            samples([Sample(*row) for row in found["samples"]], reward="right"),
        ),
    ]


def _learning(found: dict[str, Any]) -> Markup:
    """Accuracy and entropy of what was drawn in training, against completions."""
    labels, per_batch = found["labels"], found["per_batch"]
    colours = list(COLOURS)
    shown = list(found["variants"])[: len(colours)]

    def curve(name: str, what: str) -> Series:
        y = np.array(found["variants"][name]["drawn"][what])
        x = per_batch * np.arange(1, len(y) + 1, dtype=np.float64)
        series = Series(labels[name], x, y, colour=colours[shown.index(name)])
        return smooth(series, 5)

    return figure(
        lines(
            {
                "Right, share of what is drawn": [curve(n, "accuracy") for n in shown],
                "Entropy, nats a token": [curve(n, "entropy") for n in shown],
            },
            x="completions drawn",
        ),
        "Accuracy of the completions drawn in training, means over seeds and over 5 batches. "
        "Completions drawn only to replace others count.",
    )


def _pass_curves(found: dict[str, Any], passed: Mapping[str, list[Interval]]) -> Markup:
    """pass@k before and after, for the first variant and the last of the ablation."""
    labels, ks = found["labels"], found["ks"]
    shown = [BEFORE, *dict.fromkeys([*list(found["variants"])[:1], *_cumulative(found)[-1:]])]
    curves = [from_intervals(labels[n], ks, passed[n], reference=n == BEFORE) for n in shown]
    return figure(
        against_n({"Solved in k attempts, pass@k": curves}, x="attempts, k"),
        "pass@k on held-out questions, without bias from more attempts than k. Where the curves "
        "meet, training made likelier what the policy could already do; where they cross, it "
        "lost some of it.",
        table(
            ["policy", *(f"pass@{k}" for k in ks), "never solved"],
            [[labels[n], *each, found["never"][n]] for n, each in passed.items()],
        ),
    )


def _cumulative(found: dict[str, Any]) -> list[str]:
    """Variants whose label says that they add to the one above."""
    return [name for name in found["variants"] if found["labels"][name].startswith("+")]


def _tables(
    found: dict[str, Any],
    passed: Mapping[str, list[Interval]],
    gain: Mapping[int, Mapping[str, Interval]],
) -> list[Markup | str]:
    """What each variant came to, and how it differs from the start and from the first one."""
    labels, ks, rows = found["labels"], found["ks"], found["variants"]
    k, most = min(ks), max(ks)
    base = labels[next(iter(rows))]
    first, last = ks.index(k), ks.index(most)

    def versus(row: dict[str, Any]) -> Interval | None:
        difference = row["less_first"].get(str(k))
        return None if difference is None else Interval(*difference["interval"])

    start = [labels[BEFORE], passed[BEFORE][first], None, None, passed[BEFORE][last], None]
    reached = [
        [labels[n], passed[n][first], gain[k][n], versus(row), passed[n][last], gain[most][n]]
        for n, row in rows.items()
    ]
    by_seed = lambda row: ", ".join(f"{v:.3f}" for v in row["less_before"][str(k)]["by_seed"])
    return [
        table(
            [
                "variant",
                f"pass@{k}",
                f"pass@{k} minus before",
                f"pass@{k} minus {base}",
                f"pass@{most}",
                f"pass@{most} minus before",
            ],
            [start, *reached],
        ),
        "A row with + has all that the rows above it have. Dynamic sampling draws up to twice as "
        "much for an update, and so makes half the updates from the same completions.",
        table(
            [
                "variant",
                f"pass@{k} minus before, by seed",
                "completions drawn",
                "entropy, nats a token",
                "tokens",
                "cut",
                "clipped",
            ],
            [
                [
                    labels[n],
                    by_seed(row),
                    int(np.mean(row["completions"])),
                    *(_ends(row["drawn"][what]) for what in DRAWN[1:]),
                ]
                for n, row in rows.items()
            ],
        ),
        "Entropy, tokens, the share of completions that was cut and of tokens whose ratio was at "
        "the clip: of the first and of the last five batches.",
    ]


def _ends(values: Sequence[float]) -> str:
    """Means over the first and the last five batches."""
    return " → ".join(f"{np.mean(part):.3g}" for part in (values[:5], values[-5:]))
