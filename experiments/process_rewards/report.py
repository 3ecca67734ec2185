"""What the study of process rewards measures and shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from experiments.arithmetic.chain_sums import Solutions
from irl_jax.eval.best_of_n import best_of_n, powers_of_two, vote
from irl_jax.eval.intervals import Interval, bootstrap, paired_difference
from irl_jax.eval.ranking import auc
from irl_jax.report.page import UNCORRECTED, card, cards, figure, section, table
from irl_jax.report.plots import against_n
from irl_jax.report.series import curves, from_intervals
from irl_jax.report.study import write_study
from irl_jax.report.values import closing
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
    return closing(
        f"right answers, best of {summary['ns'][-1]} [95 % interval over questions]",
        [[name, intervals[-1]] for name, intervals in summary["accuracy"].items()],
        "first errors told from right steps, AUC",
        [[name, interval] for name, (interval, _) in summary["detection"].items()],
        report=report,
    )


def write_report(run: RunDirectory, summary: dict[str, Any]) -> None:
    """Writes report.html: headline numbers, the figure over n, tables, timings."""
    write_study(
        run,
        summary["seconds"],
        "Process rewards: which of n worked solutions is right?",
        [results(summary), selectors(summary), first_errors(summary), cost(summary["tokens"])],
        subtitle="A small policy labels its own steps by rollouts. Judges learn from the labels.",
    )


def by_seed(values: Sequence[float], form: str = ".3f") -> str:
    """A number for each seed."""
    return ", ".join(f"{v:{form}}" for v in values)


def results(summary: dict[str, Any]) -> Markup:
    """The PRM against the others, and the curves over n."""
    ns, accuracy = summary["ns"], summary["accuracy"]
    difference = lambda other: summary["differences"][f"{PRM} − {other}"]
    of_prm, of_orm = (summary["detection"][name][0] for name in ("PRM, soft labels", "ORM"))
    bounds = {"at random": accuracy["at random"], "a judge that knows nothing": accuracy[NOISE]}
    drawn = [
        *curves({"oracle": accuracy["oracle"]}, ns, reference=["oracle"]),
        *(from_intervals(n, ns, accuracy[n], colour=colour) for n, colour in CURVES.items()),
        *curves(bounds, ns, reference=list(bounds)),
    ]
    return section(
        "Results",
        cards(
            *(
                card(f"{PRM} − {other}", difference(other),
                     f"right answers, best of {ns[-1]}, paired by question")
                for other in (ORM, ORM_EQUAL, VOTE)
            ),
            card("First errors found by the PRM", of_prm,
                 f"AUC; the ORM read step by step has {Interval(*of_orm)}", form=".3f",
                 baseline=0.5),
        ),
        figure(
            against_n({"Share of right answers": drawn}),
            "Share of right answers over the number of solutions to choose from: exact means over "
            "subsets of the same solutions, with 95 % intervals over the questions of all seeds. "
            "A judge is worth what lies between its curve and that of the vote, which needs no "
            "training.",
        ),
    )  # fmt: skip


def selectors(summary: dict[str, Any]) -> Markup:
    """Every way to choose, and the differences between them."""
    accuracy, sound = summary["accuracy"], summary["sound"]
    rows = {
        name: [accuracy[name][-1], by_seed(summary["by_seed"][name]), sound.get(name)]
        for name in sorted(accuracy, key=lambda name: -accuracy[name][-1][0])
    }
    return section(
        f"Best of {summary['ns'][-1]}",
        table(["selector", "right answers", "by seed", "every step right"], rows),
        UNCORRECTED,
        "A selector is a judge with a way to make one score of the scores of steps. Noise does "
        "worse than random choice: right solutions are alike and wrong ones differ, so a judge "
        "that knows nothing, but scores equal solutions equally, mostly takes a wrong one. The "
        "last column is the share of chosen solutions without a wrong step: an answer may be "
        "right by luck. Intervals are over the questions of all seeds. “By seed” has a policy, "
        "questions and judges of its own in each figure.",
        table(["difference, paired by question", "right answers"],
              list(summary["differences"].items())),
    )  # fmt: skip


def first_errors(summary: dict[str, Any]) -> Markup:
    """How well judges find the first error."""
    rows = {name: [auc, by_seed(seeds)] for name, (auc, seeds) in summary["detection"].items()}
    labels = [f"{name} labels {Interval(*auc)}" for name, (auc, _) in summary["labels"].items()]
    return section(
        "Where is the first error?",
        table(["judge", "AUC", "by seed"], rows),
        "AUC is the chance that a right step scores above a first error, over all steps of "
        "held-out solutions up to the first error. On the training solutions the labels "
        f"themselves have: {', '.join(labels)}.",
    )


def cost(tokens: dict[str, list[int]]) -> Markup:
    """Tokens that were sampled."""
    return section(
        "What it cost",
        table(["tokens sampled", "by seed"], [[k, by_seed(v, ",")] for k, v in tokens.items()]),
        "At equal solutions, the PRM needs its rollouts besides. At equal tokens, the ORM learned "
        "from as many more solutions as the rollouts cost.",
    )
