"""What reinforcement learning from verifiable rewards changed: measures, tables, figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from irl_jax.eval.intervals import bootstrap, paired_difference
from irl_jax.eval.pass_at_k import pass_at_k
from irl_jax.report.page import Sample, card, cards, figure, figures, samples, section, table
from irl_jax.report.plots import COLOURS, against_n, lines
from irl_jax.report.series import Series, curves, smooth
from irl_jax.report.study import write_study
from irl_jax.report.values import closing
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
    out: list[Any] = []
    for task, found in summary["tasks"].items():
        out.append(f"{task}: share of {sum(found['questions'])} held-out questions solved")
        head = ["", f"pass@{min(found['ks'])}", f"pass@{max(found['ks'])}", "by seed"]
        rows = [
            [found["labels"][name], passed[0], passed[-1], by_seed(found["by_seed"][name], " ")]
            for name, passed in found["passed"].items()
        ]
        out.append([head, *rows])
    return closing(*out, report=report)


def write_report(run: RunDirectory, summary: dict[str, Any]) -> None:
    """Writes report.html: for each task headline numbers, figures, the table of variants."""
    parts = (results, variants, solutions)
    write_study(
        run,
        summary["seconds"],
        "Reinforcement learning from verifiable rewards",
        [part(task, found) for task, found in summary["tasks"].items() for part in parts],
        subtitle="A small policy was shown few worked solutions and goes on by trial and error. "
        "reasoning-gym's verifiers say what is right.",
    )


def results(task: str, found: dict[str, Any]) -> Markup:
    """What the first variant gains, and the curves of all."""
    ks, passed = found["ks"], found["passed"]
    top, row = next(iter(found["variants"].items()))
    headline = [
        card(f"pass@{k}, {found['labels'][top]} − before",
             row["less_before"][str(k)]["interval"],
             f"{passed[BEFORE][ks.index(k)][0]:.3f} before, {passed[top][ks.index(k)][0]:.3f} "
             "after; paired by question")
        for k in (min(ks), max(ks))
    ]  # fmt: skip
    return section(
        f"Results on {task}",
        cards(*headline),
        figures(learning(found), pass_curves(found)),
        "Every variant starts from the same policy and draws the same number of completions. It is "
        f"tested on {sum(found['questions'])} questions of {len(found['questions'])} seeds that it "
        "never saw. Intervals are 95 %, over the questions of all seeds. Each seed has a policy "
        "and questions of its own: the spread of “by seed” shows what luck in training does.",
    )


def solutions(task: str, found: dict[str, Any]) -> Markup:
    """What the policies wrote."""
    last = found["labels"][list(found["variants"])[-1]]
    return section(
        f"Solutions to {task}",
        f"The first attempt at the first held-out questions of seed 0, before and after {last}.",
        samples([Sample(*row) for row in found["samples"]], reward="right"),
    )


def learning(found: dict[str, Any]) -> Markup:
    """Accuracy and entropy of what was drawn in training, against completions."""
    labels, per_batch = found["labels"], found["per_batch"]
    shown = dict(zip(found["variants"], COLOURS, strict=False))

    def curve(name: str, what: str) -> Series:
        y = np.array(found["variants"][name]["drawn"][what])
        x = per_batch * np.arange(1, len(y) + 1, dtype=np.float64)
        return smooth(Series(labels[name], x, y, colour=shown[name]), 5)

    panels = {
        "Right, share of what is drawn": [curve(name, "accuracy") for name in shown],
        "Entropy, nats a token": [curve(name, "entropy") for name in shown],
    }
    return figure(
        lines(panels, x="completions drawn"),
        "Accuracy of the completions drawn in training, means over seeds and over 5 batches. "
        "Completions that were drawn to replace others count too.",
    )


def pass_curves(found: dict[str, Any]) -> Markup:
    """pass@k before and after, for the first variant and the last of the ablation."""
    labels, ks, passed = found["labels"], found["ks"], found["passed"]
    added = [name for name in found["variants"] if labels[name].startswith("+")]
    shown = dict.fromkeys([BEFORE, *list(found["variants"])[:1], *added[-1:]])
    drawn = curves({labels[n]: passed[n] for n in shown}, ks, reference=[labels[BEFORE]])
    return figure(
        against_n({"Solved in k attempts, pass@k": drawn}, x="attempts, k"),
        "pass@k on held-out questions, an unbiased estimate from more attempts than k. Where the "
        "curves meet, training made likelier what the policy could already do. Where they cross, "
        "it lost some of it.",
        table(
            ["policy", *(f"pass@{k}" for k in ks), "never solved"],
            {labels[n]: [*each, found["never"][n]] for n, each in passed.items()},
        ),
    )


def variants(task: str, found: dict[str, Any]) -> Markup:
    """What each variant came to, and how it differs from the start and from the first one."""
    labels, ks, rows, passed = found["labels"], found["ks"], found["variants"], found["passed"]
    k, most = min(ks), max(ks)
    at = lambda name, k: passed[name][ks.index(k)]
    less = lambda row, to, k: row.get(to, {}).get(str(k), {}).get("interval")
    reached = {
        labels[n]: [
            *(at(n, k), less(row, "less_before", k), less(row, "less_first", k)),
            *(at(n, most), less(row, "less_before", most)),
        ]
        for n, row in ({BEFORE: {}} | rows).items()
    }
    first = f"pass@{k}"
    columns = ["variant", first, f"{first} minus before", f"{first} minus "
               f"{labels[next(iter(rows))]}", f"pass@{most}",
               f"pass@{most} minus before"]  # fmt: skip
    trained = {
        labels[n]: [
            by_seed(row["less_before"][str(k)]["by_seed"]),
            int(np.mean(row["completions"])),
            *(ends(row["drawn"][what]) for what in DRAWN[1:]),
        ]
        for n, row in rows.items()
    }
    drawn = ["completions drawn", "entropy, nats a token", "tokens", "cut", "clipped"]
    return section(
        f"Variants on {task}",
        table(columns, reached),
        "A row with + has all that the rows above it have. Dynamic sampling draws up to twice as "
        "much for an update, and so makes half the updates from the same completions.",
        table(["variant", f"{first} minus before, by seed", *drawn], trained),
        "The last four columns are means over the first and over the last five batches. “Cut” is "
        "the share of completions that were cut, “clipped” that of tokens whose ratio was at the "
        "clip.",
    )


def by_seed(values: Sequence[float], between: str = ", ") -> str:
    """A number for each seed."""
    return between.join(f"{v:.3f}" for v in values)


def ends(values: Sequence[float]) -> str:
    """Means over the first and the last five batches."""
    return " → ".join(f"{np.mean(part):.3g}" for part in (values[:5], values[-5:]))
