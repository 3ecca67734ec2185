"""Accuracy on a benchmark of several subsets, each of them and all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from irl_jax.eval.checks import F64, finite, same_shape
from irl_jax.eval.intervals import LEVEL, RESAMPLES, Interval, bootstrap
from irl_jax.types import InputError


def all_above(reward: ArrayLike, chosen: int) -> float:
    """Whether every chosen response has a higher reward than every rejected one.

    1 if min r_chosen > max r_rejected, 0 if it is below. Where the two are equal, c chosen
    and m rejected responses share that reward, and a random order of them puts the chosen
    first with probability 1 / C(c + m, c): one half for a pair that ties.

    Args:
        reward: f[K], the chosen responses first.
        chosen: number of chosen responses, in 1..K−1.

    Returns:
        In [0, 1].

    Raises:
        InputError: there are no chosen or no rejected responses, or a reward is not finite.

    Reference: Malik et al. 2025, "RewardBench 2", arXiv 2506.01937 (the chosen response
    against three rejected ones).

    Differs: several chosen responses, which there have a measure of their own, Ties.

    Example:
        >>> all_above([2.0, 1.0, 0.0], 1), all_above([1.0, 1.0, 1.0, 0.0], 1)
        (1.0, 0.3333333333333333)
    """
    r = finite("reward", reward, 1)
    if not 0 < chosen < len(r):
        raise InputError(f"chosen: expected 1 to {len(r) - 1} of {len(r)} responses, got {chosen}")
    low, high = np.min(r[:chosen]), np.max(r[chosen:])
    if low != high:
        return float(low > high)
    return chance((r[:chosen] == low).sum(), (r[chosen:] == low).sum())


def chance(chosen: int, rejected: int) -> float:
    """Probability that a random order puts all chosen responses before all rejected ones."""
    return 1 / math.comb(int(chosen + rejected), int(chosen))


@dataclass(frozen=True)
class SubsetAccuracy:
    """A subset's row of a table.

    Attributes:
        records: number of records.
        accuracy: mean over records. Of a subset with a single prompt nothing is known but
            that its accuracy lies between 0 and 1, and the interval says so.
        chance: what a random reward would reach.
    """

    records: int
    accuracy: Interval
    chance: float


def by_subset(
    right: ArrayLike,
    by_chance: ArrayLike,
    subset: Sequence[str],
    clusters: ArrayLike | None = None,
    *,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, SubsetAccuracy]:
    """The table: subset -> accuracy, in the order in which the subsets first appear.

    Args:
        right: f[N], how right each record is, in [0, 1].
        by_chance: f[N], how right a random reward would be.
        subset: [N], name of each record's subset.
        clusters: [N], label of the prompt of a record; records are independent if None.
        level: coverage wanted, in (0, 1).
        resamples: number of bootstrap samples.
        seed: of the resampling.

    Raises:
        InputError: lengths differ, or a number is not finite.
    """
    values, guess, names, labels = _columns(right, by_chance, subset, clusters)
    table = {}
    for name in dict.fromkeys(subset):
        rows = names == name
        if len(np.unique(labels[rows])) < 2:
            accuracy = Interval(float(values[rows].mean()), 0.0, 1.0)
        else:
            accuracy = bootstrap(
                values[rows], clusters=labels[rows], level=level, resamples=resamples, seed=seed
            )
        table[name] = SubsetAccuracy(int(rows.sum()), accuracy, float(guess[rows].mean()))
    return table


def mean_over_subsets(
    right: ArrayLike,
    subset: Sequence[str],
    clusters: ArrayLike | None = None,
    *,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Mean of the subsets' accuracies: a small subset counts as much as a large one.

    Args:
        right: f[N], how right each record is, in [0, 1].
        subset: [N], name of each record's subset.
        clusters: [N], label of the prompt of a record, resampled as wholes; a resample
            without any record of a subset is averaged over the others.
        level: coverage wanted, in (0, 1).
        resamples: number of bootstrap samples.
        seed: of the resampling.

    Raises:
        InputError: lengths differ, a number is not finite, or there are fewer than 2 prompts.

    Reference: Malik et al. 2025, "RewardBench 2", arXiv 2506.01937 (the mean over
    six subsets); Lambert et al. 2024, "RewardBench", arXiv 2403.13787 (the mean over
    sections, each a mean over records: name the section as the subset).

    Differs: RewardBench weights the subset math-prm of its section Reasoning up, see
    `irl_jax.eval.benchmarks.rewardbench`.
    """
    values, _, names, labels = _columns(right, right, subset, clusters)
    _, number = np.unique(names, return_inverse=True)

    def macro(rows: F64) -> float:
        index = rows[:, 1].astype(int)
        count, total = np.bincount(index), np.bincount(index, rows[:, 0])
        return float((total[count > 0] / count[count > 0]).mean())

    rows = np.stack([values, number], axis=1)
    return bootstrap(rows, macro, labels, level=level, resamples=resamples, seed=seed)


def _columns(
    right: ArrayLike, by_chance: ArrayLike, subset: Sequence[str], clusters: ArrayLike | None
) -> tuple[F64, F64, np.ndarray, np.ndarray]:
    values, guess = finite("right", right, 1), finite("by_chance", by_chance, 1)
    names = np.asarray(subset)
    labels = np.arange(len(values)) if clusters is None else np.asarray(clusters)
    same_shape(right=values, by_chance=guess, subset=names, clusters=labels)
    return values, guess, names, labels
