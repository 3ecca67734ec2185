"""The published numbers of benchmarks of reward models, by each publisher's own rule.

A rule takes the mean of every subset, and gives the parts that the publisher reports and
`overall`. `published` says what one known model reached, and where that is written; a benchmark
of which no such number was found has none.

The files: `irl_jax.data.benchmarks`, `irl_jax.data.process_files`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from irl_jax.data.benchmarks import BENCHMARKS, PRIOR_SETS, REWARDBENCH
from irl_jax.eval.checks import F64, finite
from irl_jax.eval.intervals import LEVEL, RESAMPLES, Interval, bootstrap
from irl_jax.eval.subsets import all_above
from irl_jax.types import InputError

COUNTS = dict(zip(REWARDBENCH, (
    100, 95, 95, 28, 40, 37, 100, 134, 92, 47, 46, 100, 100, 250, 154, 136, 984, 164, 164, 164,
    164, 164, 164,
), strict=True))  # fmt: skip
"""Weight of each subset in its section: its records; math-prm counts as much as the code."""
SECTIONS = {
    "Chat": REWARDBENCH[:5],
    "Chat Hard": REWARDBENCH[5:11],
    "Safety": REWARDBENCH[11:16],
    "Reasoning": REWARDBENCH[16:],
}
OVERALL = "overall"


@dataclass(frozen=True)
class Aggregate:
    """What a benchmark reports of a reward.

    Attributes:
        overall: its one number, in [0, 1]; an interval over prompts, but for RewardBench 2.
        parts: name -> what it reports beside that.
        missing: subsets of the benchmark of which there is no record.
    """

    overall: Interval | float
    parts: dict[str, float] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)


def rewardbench(means: Mapping[str, float]) -> dict[str, float]:
    """RewardBench 1: sections Σ n_s a_s / Σ n_s with published n_s, and the mean of the sections.

    Prior Sets, the mean of four older test sets, is a fifth section of half the weight where
    there are any of them.

    Args:
        means: subset -> accuracy a_s, of the subsets that there are.

    The weights are those of `rewardbench/constants.py` and `analysis/get_benchmark_results.py` in
    the authors' code, https://github.com/allenai/reward-bench.

    Reference: Lambert et al. 2024, "RewardBench", arXiv 2403.13787.

    Example:
        >>> rewardbench({"math-prm": 1.0, "hep-go": 0.0, "donotanswer": 1.0})["Reasoning"]
        0.8571428571428571
    """
    sections = {}
    for section, subsets in SECTIONS.items():
        there = [subset for subset in subsets if subset in means]
        if there:
            total = sum(COUNTS[subset] for subset in there)
            sections[section] = sum(COUNTS[s] * means[s] for s in there) / total
    weights = dict.fromkeys(sections, 2)
    prior = [means[subset] for subset in PRIOR_SETS if subset in means]
    if prior:
        sections["Prior Sets"], weights["Prior Sets"] = sum(prior) / len(prior), 1
    overall = sum(weights[s] * sections[s] for s in sections) / sum(weights.values())
    return {**sections, OVERALL: overall}


def rewardbench_2(means: Mapping[str, float]) -> dict[str, float]:
    """RewardBench 2: the mean over subsets.

    Args:
        means: subset -> accuracy of one chosen against three rejected responses; of Ties the
            score of `irl_jax.eval.ties`.

    Reference: Malik et al. 2025, "RewardBench 2", arXiv 2506.01937.
    """
    return {**means, OVERALL: float(np.mean(list(means.values())))}


def rm_bench(means: Mapping[str, ArrayLike]) -> dict[str, float]:
    """RM-Bench: easy, normal and hard accuracy, and the mean over four domains.

    Entry (i, j) of a matrix is the share of prompts whose chosen response of style i is above
    the rejected one of style j; the styles are concise, detailed, detailed with markdown. Hard is
    the mean above the diagonal, normal on it, easy below it. A domain's accuracy is the mean of
    the three; safety is the mean of its two halves.

    Args:
        means: domain -> matrix f[3, 3], or its nine entries.

    A prompt's matrix is that of `compute_accuracy` in https://github.com/THU-KEG/RM-Bench.

    Reference: Liu et al. 2024, "RM-Bench", arXiv 2410.16184.

    Example:
        >>> found = rm_bench({"chat": [[1, 0, 0], [1, 1, 0], [1, 1, 1]]})
        >>> [found[name] for name in ("easy", "normal", "hard")]
        [1.0, 1.0, 0.0]
    """
    halves: dict[str, list[F64]] = {}
    for name, matrix in means.items():
        m = finite(name, np.reshape(matrix, (3, 3)))
        levels = (m[np.tril_indices(3, -1)], np.diag(m), m[np.triu_indices(3, 1)])
        halves.setdefault(name.partition("-")[0], []).append(np.mean(levels, axis=1))
    domains = {name: np.mean(values, axis=0) for name, values in halves.items()}
    parts = {name: float(values.mean()) for name, values in domains.items()}
    styles = np.mean(list(domains.values()), axis=0)
    parts |= dict(zip(("easy", "normal", "hard"), map(float, styles), strict=True))
    return {**parts, OVERALL: float(styles.mean())}


def in_both_orders(decisions: ArrayLike) -> float:
    """JudgeBench's accuracy of a judge that sees each pair in both orders.

    A pair is right where the two verdicts together favour the better response: two right ones,
    or one and a tie.

    Args:
        decisions: i[N, 2], 1 where a verdict is for the better response, −1 for the worse, 0 for
            neither.

    Raises:
        InputError: another shape or another number.

    As `compute_final_metrics` in https://github.com/ScalerLab/JudgeBench counts them.

    Reference: Tan et al. 2024, "JudgeBench", arXiv 2410.12784.

    Example:
        >>> in_both_orders([[1, 1], [1, 0], [1, -1], [0, 0]])
        0.5
    """
    found = finite("decisions", decisions, 2)
    if found.shape[1] != 2 or not np.isin(found, (-1, 0, 1)).all():
        raise InputError("decisions: expected two of −1, 0 and 1 for each pair")
    return float((found.sum(1) > 0).mean())


def first_error(scores: ArrayLike, threshold: float = 0.5) -> int:
    """The first step that is judged to be wrong, from 0; −1 if there is none.

    Args:
        scores: f[S], probability that each step is right.
        threshold: a step below it is wrong.
    """
    wrong = finite("scores", scores, 1) < threshold
    return int(np.argmax(wrong)) if wrong.any() else -1


def processbench(predicted: ArrayLike, label: ArrayLike) -> dict[str, float]:
    """ProcessBench's F1 of a subset: 2 e c / (e + c), 0 where both are 0.

    Args:
        predicted: i[N], the first wrong step that was predicted, −1 for none.
        label: i[N], the one that people found.

    Returns:
        `error` e, the share of the answers with an error whose first error was found; `correct`
        c, the share of the others in which none was found; `f1`. The benchmark's one number is
        the mean of f1 over gsm8k, math, olympiadbench and omnimath.

    Raises:
        InputError: lengths differ, or there are no answers with or none without an error.

    As `code/run_eval_prm_trl.py` in https://github.com/QwenLM/ProcessBench computes it.

    Reference: Zheng et al. 2024, "ProcessBench", arXiv 2412.06559.

    Example:
        >>> processbench([1, 2, -1, 0], [1, 1, -1, -1])
        {'error': 0.5, 'correct': 0.5, 'f1': 0.5}
    """
    guess, truth = finite("predicted", predicted, 1), finite("label", label, 1)
    if guess.shape != truth.shape:
        raise InputError(f"predicted: {len(guess)} answers, and {len(truth)} labels")
    wrong = truth != -1
    if wrong.all() or not wrong.any():
        raise InputError("label: expected answers with an error and answers without")
    match = guess == truth
    error, correct = float(match[wrong].mean()), float(match[~wrong].mean())
    return {"error": error, "correct": correct, "f1": harmonic(error, correct)}


def harmonic(first: float, second: float) -> float:
    """The harmonic mean of two shares, 0 where both are 0."""
    both = first + second
    return 2 * first * second / both if both else 0.0


def right(name: str, rewards: ArrayLike, chosen: int, scores: ArrayLike | None) -> F64:
    """How right the rewards of a record are, as its benchmark counts it.

    Args:
        name: of the benchmark.
        rewards: f[K], the chosen responses first.
        chosen: number of chosen responses; 0 if there are scores.
        scores: f[K], or None.

    Returns:
        f64[1]; of RM-Bench f64[9], the matrix of `rm_bench`. A pair of equal rewards is wrong in
        RewardBench 1, RM-Bench and JudgeBench, and shared in the others. Of PPE's correctness the
        share of the pairs of a right and a wrong response; NaN if there is no such pair.

    Differs: PPE's correctness is of all pairs, not of a sample of them.
    """
    r = finite("rewards", rewards, 1)
    if scores is not None:
        s = finite("scores", scores, 1)
        better = s[:, None] > s[None]
        order = (np.sign(r[:, None] - r[None]) + 1) / 2
        return np.array([order[better].mean() if better.any() else np.nan])
    if name == "rm-bench":
        return (r[:3, None] > r[None, 3:]).astype(float).ravel()
    if name in ("rewardbench", "judgebench"):
        return np.array([float(np.min(r[:chosen]) > np.max(r[chosen:]))])
    return np.array([all_above(r, chosen)])


def aggregate(
    name: str,
    values: Sequence[F64],
    subset: Sequence[str],
    clusters: ArrayLike,
    *,
    replaced: Mapping[str, float] | None = None,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Aggregate:
    """A benchmark's numbers from its records.

    Args:
        name: of the benchmark.
        values: of N records, `right`.
        subset: [N], name of each record's subset.
        clusters: [N], label of each record's prompt, resampled as wholes.
        replaced: subset -> what stands in the place of its mean; then there is no interval.
        level: coverage wanted, in (0, 1).
        resamples: number of bootstrap samples.
        seed: of the resampling.

    Raises:
        InputError: no record counts, or fewer than 2 prompts.
    """
    there = [i for i, value in enumerate(values) if np.isfinite(value).all()]
    if not there:
        raise InputError(f"{name}: no record has responses whose order is known; give more")
    table = np.stack([values[i] for i in there])
    names, number = np.unique([subset[i] for i in there], return_inverse=True)

    def rule(rows: F64) -> dict[str, float]:
        index = rows[:, 0].astype(int)
        count = np.bincount(index, minlength=len(names))
        total = np.stack(
            [np.bincount(index, column, len(names)) for column in rows[:, 1:].T], axis=1
        )
        means = {str(n): total[i] / count[i] for i, n in enumerate(names) if count[i]}
        if name == "rm-bench":
            return rm_bench(means)
        single = {n: float(mean[0]) for n, mean in means.items()} | dict(replaced or {})
        if name in RULES:
            return RULES[name](single)
        return {**(single if len(names) > 1 else {}), OVERALL: float(rows[:, 1].mean())}

    rows = np.concatenate([number[:, None], table], axis=1)
    parts = rule(rows)
    overall: Interval | float = parts.pop(OVERALL)
    if not replaced:
        labels = np.asarray(clusters)[there]
        overall = bootstrap(
            rows, lambda sample: rule(sample)[OVERALL], labels, level=level, resamples=resamples,
            seed=seed,
        )  # fmt: skip
    missing = [s for s in BENCHMARKS[name].subsets if s not in set(names)]
    return Aggregate(overall, parts, missing)


RULES: Mapping[str, Callable[[Mapping[str, float]], dict[str, float]]] = {
    "rewardbench": rewardbench,
    "rewardbench-2": rewardbench_2,
}
"""Benchmark -> its rule of the accuracies of subsets; of the others it is the mean of records."""


@dataclass(frozen=True)
class Published:
    """What a known model reached.

    Attributes:
        model: its name.
        value: the benchmark's one number, in [0, 1].
        where: the page or paper that says so.
    """

    model: str
    value: float
    where: str


_NEMOTRON = "nvidia/Llama-3.3-Nemotron-70B-Reward-Multilingual"
PUBLISHED: Mapping[str, Published] = {
    "rewardbench": Published(
        "nvidia/Llama-3.1-Nemotron-70B-Reward",
        0.941,
        "the leaderboard in the card of meta-metrics/MetaMetrics-RM-v1.0, without Prior Sets",
    ),
    "rewardbench-2": Published(
        "allenai/Llama-3.1-Tulu-3-70B-SFT-RM-RB2", 0.722, "the model's card, revision main"
    ),
    "rm-bench": Published(_NEMOTRON, 0.824, "the model's card, 15 May 2025"),
    "judgebench": Published(_NEMOTRON, 0.694, "the model's card, 15 May 2025"),
    "processbench": Published("Qwen/Qwen2.5-Math-PRM-7B", 0.735, "arXiv 2501.07301, table 7"),
}
"""Benchmark -> a number to put one's own beside."""
