"""What the study of process rewards measures and shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from experiments.arithmetic.chain_sums import Solutions
from irl_jax.eval.best_of_n import best_of_n, powers_of_two, vote
from irl_jax.eval.intervals import Interval, bootstrap, paired_difference
from irl_jax.eval.ranking import auc
from irl_jax.report.page import UNCORRECTED, card, cards, figure, section, table
from irl_jax.report.plots import against_n
from irl_jax.report.series import from_intervals
from irl_jax.report.study import write_study
from irl_jax.train.run import RunDirectory

PRM, ORM, ORM_EQUAL = "PRM, soft labels / min", "ORM / last", "ORM, equal tokens / last"
VOTE, WEIGHTED = "majority vote", "majority vote weighted by the PRM (soft, min)"
IMPLICIT = "implicit PRM, q / last"
CURVES = {
    PRM: "blue",
    "PRM, hard labels / min": "teal",
    ORM: "orange",
    ORM_EQUAL: "pink",
    IMPLICIT: "purple",
    VOTE: "green",
}
NOISE, LIKELIHOOD = "noise, the same for equal solutions", "policy's log-prob"


@dataclass(frozen=True)
class Result:
    """What came of a seed.

    Attributes:
        train: solutions that judges learned from.
        labels: `soft` and `hard` f32[Q, K, T] of their steps, and `tokens` spent on them.
        more_tokens: tokens of the solutions that the judges at equal tokens learned from.
        held_out: solutions to choose from.
        says: judge -> logits f64[Q, K, T] at the ends of steps, or f64[Q, K].
        scores: selector -> f64[Q, K].
    """

    train: Solutions
    labels: Mapping[str, np.ndarray]
    more_tokens: int
    held_out: Solutions
    says: Mapping[str, np.ndarray]
    scores: Mapping[str, np.ndarray]


def selected(result: Result, gold: np.ndarray, n: int) -> dict[str, np.ndarray]:
    """Selector -> expected gold of what it takes from n solutions, f64[Q].

    Args:
        result: of a seed.
        gold: f64[Q, K].
        n: solutions to choose from.
    """
    chosen = {name: best_of_n(score, gold, n) for name, score in result.scores.items()}
    return {**chosen, "at random": gold.mean(1), "oracle": best_of_n(gold, gold, n)}


def voted(result: Result, n: int) -> dict[str, np.ndarray]:
    """Kind of vote -> expected share of right answers among n solutions, f64[Q]."""
    texts, gold = result.held_out.answers(), result.held_out.right()
    answers = np.unique(texts, return_inverse=True)[1].reshape(texts.shape)
    weight = np.exp(result.scores[PRM])
    return {
        VOTE: vote(answers, gold, n),
        WEIGHTED: vote(answers, gold, n, weight=weight),
    }


def up_to_first_error(solutions: Solutions) -> np.ndarray:
    """bool[Q, K, T], ends of steps up to the first that is wrong, that one included."""
    wrong = solutions.end & ~solutions.still_right()
    return solutions.end & (np.cumsum(wrong, -1) - wrong == 0)


def detection(
    solutions: Sequence[Solutions], scores: Sequence[np.ndarray], *, resamples: int = 400
) -> tuple[Interval, list[float]]:
    """AUC of steps that are right against first errors: the mean over seeds, and of each.

    Args:
        solutions: of each seed.
        scores: f64[Q, K, T] of each seed, at the ends of steps.
        resamples: of questions, within all seeds together.
    """
    rows, clusters = [], []
    for seed, (solution, score) in enumerate(zip(solutions, scores, strict=True)):
        at = up_to_first_error(solution)
        right = solution.still_right()[at]
        rows.append(np.stack([score[at], right, np.full(len(right), seed)], axis=1))
        clusters.append(np.nonzero(at)[0] + seed * len(score))

    def mean_auc(drawn: np.ndarray) -> float:
        seeds = [drawn[drawn[:, 2] == seed] for seed in range(len(rows))]
        return float(np.mean([auc(part[:, 0], part[:, 1]) for part in seeds]))

    whole, labels = np.concatenate(rows), np.concatenate(clusters)
    interval = bootstrap(whole, mean_auc, labels, resamples=resamples)
    return interval, [auc(part[:, 0], part[:, 1]) for part in rows]


def summarise(results: Sequence[Result]) -> dict[str, Any]:
    """The results of all seeds, as JSON values and intervals over questions."""
    k = results[0].held_out.mask.shape[1]
    ns = powers_of_two(k)
    over = lambda parts: {
        name: np.stack([part[name] for part in parts]) for name in parts[0]
    }  # [S, Q]
    right = {
        n: over([{**selected(r, r.held_out.right(), n), **voted(r, n)} for r in results])
        for n in ns
    }
    sound = over([selected(r, _sound(r.held_out), k) for r in results])
    most = right[k]
    train, held_out = [r.train for r in results], [r.held_out for r in results]
    return {
        "questions": [len(train[0].questions), len(held_out[0].questions)],
        "ns": ns,
        "accuracy": {name: [bootstrap(right[n][name].ravel()) for n in ns] for name in right[k]},
        "by_seed": {name: values.mean(1).tolist() for name, values in most.items()},
        "sound": {name: bootstrap(values.ravel()) for name, values in sound.items()},
        "differences": {
            f"{name} − {other}": paired_difference(most[other].ravel(), most[name].ravel())
            for name in (PRM, "PRM, hard labels / min", WEIGHTED, IMPLICIT)
            for other in (ORM, ORM_EQUAL, VOTE, LIKELIHOOD)
        },
        "detection": {
            name: detection(held_out, [r.says[name] for r in results])
            for name, said in results[0].says.items()
            if said.ndim == 3
        },
        "labels": {
            name: detection(train, [r.labels[name] for r in results]) for name in ("soft", "hard")
        },
        "tokens": {
            "solutions": [r.train.tokens for r in results],
            "rollouts": [int(r.labels["tokens"]) for r in results],
            "solutions at equal tokens": [r.more_tokens for r in results],
        },
    }


def _sound(solutions: Solutions) -> np.ndarray:
    """f64[Q, K], 1 where every step is right."""
    return (~(solutions.end & ~solutions.still_right()).any(-1)).astype(np.float64)


def conclusion(summary: dict[str, Any], report: Path) -> str:
    """The closing lines in the terminal."""
    show = lambda interval: "{:.3f} [{:.3f}, {:.3f}]".format(*interval)
    lines = ["", f"right answers, best of {summary['ns'][-1]} [95 % interval over questions]"]
    for name, intervals in summary["accuracy"].items():
        lines.append(f"  {name:48}{show(intervals[-1])}")
    lines.append("first errors told from right steps, AUC")
    for name, (interval, _) in summary["detection"].items():
        lines.append(f"  {name:48}{show(interval)}")
    lines.append(f"report  {report}")
    return "\n".join(lines)


def write_report(run: RunDirectory, summary: dict[str, Any]) -> None:
    """Writes report.html: headline numbers, the figure over n, tables, timings."""
    ns, names = summary["ns"], list(summary["accuracy"])
    accuracy = {n: [Interval(*i) for i in each] for n, each in summary["accuracy"].items()}
    differences = {name: Interval(*i) for name, i in summary["differences"].items()}
    found = {name: (Interval(*i), seeds) for name, (i, seeds) in summary["detection"].items()}
    curves = against_n(
        {
            "Share of right answers": [
                from_intervals("oracle", ns, accuracy["oracle"], reference=True),
                *(from_intervals(n, ns, accuracy[n], colour=c) for n, c in CURVES.items()),
                from_intervals("at random", ns, accuracy["at random"], reference=True),
                from_intervals("a judge that knows nothing", ns, accuracy[NOISE], reference=True),
            ]
        }
    )
    short = lambda values: ", ".join(f"{v:.3f}" for v in values)
    sound = {name: Interval(*i) for name, i in summary["sound"].items()}
    rows = [
        [n, accuracy[n][-1], short(summary["by_seed"][n]), sound.get(n)]
        for n in sorted(names, key=lambda n: -accuracy[n][-1].estimate)
    ]
    tokens = summary["tokens"]
    write_study(
        run,
        summary["seconds"],
        "Process rewards: which of n worked solutions is right?",
        [
            section(
                "Results",
                cards(
                    *(
                        card(
                            f"{PRM} − {other}",
                            differences[f"{PRM} − {other}"],
                            f"right answers, best of {ns[-1]}, paired by question",
                            interval=differences[f"{PRM} − {other}"],
                        )
                        for other in (ORM, ORM_EQUAL, VOTE)
                    ),
                    card(
                        "First errors found by the PRM",
                        f"{found['PRM, soft labels'][0].estimate:.3f}",
                        f"AUC; the ORM read step by step has {found['ORM'][0]}",
                        interval=found["PRM, soft labels"][0],
                        baseline=0.5,
                    ),
                ),
                figure(
                    curves,
                    "Share of right answers as the number of solutions to choose from grows: "
                    "exact means over subsets of the same solutions, 95 % intervals over "
                    "the questions of all seeds. A judge is worth what lies between its "
                    "curve and the vote's, which needs no training.",
                ),
            ),
            section(
                f"Best of {ns[-1]}",
                table(["selector", "right answers", "by seed", "every step right"], rows),
                UNCORRECTED,
                "A judge and how it makes one score of those of the steps. Noise is below "
                "random choice: right solutions are alike and wrong ones differ, so a judge that "
                "knows nothing, but scores equal solutions equally, mostly takes a wrong one. "
                "The last column "
                "is the share of chosen solutions without a wrong step: an answer may be "
                "right by luck. Intervals are over the questions of all seeds; 'by seed' "
                "has a policy, questions and judges of its own in each figure.",
                table(
                    ["difference, paired by question", "right answers"],
                    [[name, interval] for name, interval in differences.items()],
                ),
            ),
            section(
                "Where is the first error?",
                table(
                    ["judge", "AUC", "by seed"],
                    [[name, i, short(seeds)] for name, (i, seeds) in found.items()],
                ),
                "The chance that a right step scores above a first error, over all steps of "
                "held-out solutions up to the first error. On the training solutions, the "
                + ", ".join(
                    f"{name} labels themselves have {Interval(*i)}"
                    for name, (i, _) in summary["labels"].items()
                )
                + ".",
            ),
            section(
                "What it cost",
                table(
                    ["tokens sampled", "by seed"],
                    [[name, ", ".join(f"{v:,}" for v in each)] for name, each in tokens.items()],
                ),
                "At equal solutions, the PRM has its rollouts on top; at equal tokens, the ORM "
                "learned from as many more solutions as the rollouts cost.",
            ),
        ],
        subtitle="A small policy labels its own steps by rollouts; judges learn from them.",
    )
