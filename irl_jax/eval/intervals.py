"""Confidence intervals: by the bootstrap, resampling whole prompts; of few seeds; of a share.

Where a table makes many comparisons, `holm` says which of them are sure together.

Completions of one prompt are alike, so a thousand completions of twenty prompts
carry little more than twenty observations' worth of evidence. Give the prompts as
`clusters` and they are drawn with replacement as wholes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import scipy.stats
from numpy.typing import ArrayLike

from irl_jax.eval.checks import F64, cluster_rows, finite, same_shape
from irl_jax.types import InputError

RESAMPLES = 4000
LEVEL = 0.95


class Interval(NamedTuple):
    """An estimate and the ends of its confidence interval."""

    estimate: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.estimate:z.3f} [{self.low:z.3f}, {self.high:z.3f}]"

    def excludes(self, value: float) -> bool:
        """Whether value lies outside the interval."""
        return not self.low <= value <= self.high


def expanded_tail(level: float, n: int) -> float:
    """Tail probability that gives a percentile interval the width of a t interval.

    α'/2 = Φ(-√(n/(n-1)) · t_{(1+level)/2, n-1})

    A plain percentile interval is too narrow for few observations, by the factor
    √((n-1)/n) of the plug-in variance and by z in place of t: at n = 10 and a
    level of 95 % it covers about 90 %.

    Args:
        level: coverage wanted, in (0, 1).
        n: number of independent observations (clusters), at least 2.

    Reference: Hesterberg 2014, "What Teachers Should Know about the Bootstrap",
    arXiv 1411.5279, the expanded percentile interval.

    Example:
        >>> round(expanded_tail(0.95, 10), 4), round(expanded_tail(0.95, 10**6), 4)
        (0.0086, 0.025)
    """
    t = scipy.stats.t.ppf((1 + level) / 2, n - 1)
    return float(scipy.stats.norm.cdf(-np.sqrt(n / (n - 1)) * t))


def bootstrap(
    values: ArrayLike,
    statistic: Callable[[F64], float] = np.mean,
    clusters: ArrayLike | None = None,
    *,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Expanded percentile bootstrap interval of a statistic of the rows of values.

    No resample lies beyond the observations, so that with fewer than about eight of them the
    interval is too narrow: for a mean over few seeds take `t_interval`.

    Args:
        values: f64[N, ...], one row an observation.
        statistic: f64[M, ...] rows -> float.
        clusters: [N], label of the group a row belongs to (its prompt); whole
            groups are resampled. Rows are independent if None.
        level: coverage wanted, in (0, 1).
        resamples: number of bootstrap samples.
        seed: of the resampling; the same seed gives the same interval.

    Returns:
        The statistic of all rows, and the interval's ends. An interval of zero
        width says that no resample differed (say, every pair was right), not that
        there is no uncertainty.

    Raises:
        InputError: fewer than two clusters, or values that are not finite.
    """
    rows = finite("values", values)
    groups = cluster_rows(len(rows), clusters)
    if len(groups) < 2:
        raise InputError("clusters: an interval needs at least 2 clusters (prompts), got 1")
    # scipy.stats.bootstrap draws rows and not clusters, and has no expanded interval
    rng = np.random.default_rng(seed)
    drawn = rng.integers(len(groups), size=(resamples, len(groups)))
    members, sizes = np.concatenate(groups), np.array([len(group) for group in groups])
    alone = len(groups) == len(rows)
    if alone and statistic is np.mean and rows.ndim == 1:
        parts = np.array_split(drawn, -(-drawn.size // 1_000_000))
        distribution = np.concatenate([rows[members[part]].mean(1) for part in parts])
    else:
        samples = (rows[members[draw if alone else _spans(sizes, draw)]] for draw in drawn)
        distribution = np.fromiter((statistic(sample) for sample in samples), np.float64, resamples)
    tail = expanded_tail(level, len(groups))
    low, high = np.quantile(distribution, [tail, 1 - tail])
    return Interval(float(statistic(rows)), float(low), float(high))


def _spans(sizes: np.ndarray, draw: np.ndarray) -> np.ndarray:
    """Places of the members of the groups drawn, one group after the other.

    Args:
        sizes: i64[G], of groups that lie one behind the other.
        draw: i64[G], numbers of groups.
    """
    starts, size = (np.cumsum(sizes) - sizes)[draw], sizes[draw]
    shift = starts - (np.cumsum(size) - size)  # from a place in the sample to the group's
    return np.repeat(shift, size) + np.arange(size.sum())


def paired_difference(
    before: ArrayLike,
    after: ArrayLike,
    clusters: ArrayLike | None = None,
    *,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Interval of mean(after - before), row i of both being the same unit.

    Pairing removes what both share (how hard the prompt is), which is most of the
    variance. With K completions of a prompt before and after, pair their means.

    Args:
        before: f64[N].
        after: f64[N].
        clusters: [N], label of the prompt of a row; rows are independent if None.
        level: coverage wanted, in (0, 1).
        resamples: number of bootstrap samples.
        seed: of the resampling.

    Raises:
        InputError: before and after differ in length or are not finite.
    """
    first, second = finite("before", before, 1), finite("after", after, 1)
    same_shape(before=first, after=second)
    return bootstrap(second - first, clusters=clusters, level=level, resamples=resamples, seed=seed)


def t_interval(values: ArrayLike, *, level: float = LEVEL) -> Interval:
    """Student's interval of the mean of few independent values: of seeds, or of worlds.

    x̄ ± t_{(1+level)/2, n−1} s / √n. Of a difference between methods that were run on the same
    seeds, give the differences.

    Args:
        values: f64[N], N >= 2, one of each seed; about normal.
        level: coverage wanted, in (0, 1).

    Raises:
        InputError: fewer than two values, or one that is not finite.

    Reference: Student 1908, "The probable error of a mean".

    Example:
        >>> print(t_interval([0.0, 1.0, 2.0]))
        1.000 [-1.484, 3.484]
    """
    rows = finite("values", values, 1)
    if len(rows) < 2:
        raise InputError(f"values: an interval needs at least 2 of them, got {len(rows)}")
    # scipy.stats.ttest_1samp warns of equal values, whose interval is a point
    half = scipy.stats.t.ppf((1 + level) / 2, len(rows) - 1) * scipy.stats.sem(rows)
    return Interval(float(rows.mean()), float(rows.mean() - half), float(rows.mean() + half))


def p_value(values: ArrayLike) -> float:
    """Two-sided p of Student's test that the mean is 0; below 1 − level, `t_interval` excludes 0.

    Args:
        values: f64[N], N >= 2, differences of one seed or world each; about normal.

    Raises:
        InputError: fewer than two values, or one that is not finite.
    """
    rows = finite("values", values, 1)
    if len(rows) < 2:
        raise InputError(f"values: a test needs at least 2 of them, got {len(rows)}")
    spread = scipy.stats.sem(rows)
    if spread == 0:
        return float(rows.mean() == 0)
    return float(2 * scipy.stats.t.sf(abs(rows.mean() / spread), len(rows) - 1))


def holm(p: ArrayLike) -> F64:
    """p-values adjusted for their number, by Holm's step-down procedure.

    p̃_(i) = max over j ≤ i of min(1, (M − j + 1) p_(j)), where p_(1) ≤ … ≤ p_(M)

    To call sure what has p̃ ≤ α is to be wrong anywhere among the M in a share α of such
    tables, however the comparisons depend on each other.

    Args:
        p: f64[M], of the M comparisons, in any order.

    Returns:
        f64[M], in the order given.

    Raises:
        InputError: a value outside [0, 1].

    Reference: Holm 1979, "A simple sequentially rejective multiple test procedure".

    Example:
        >>> holm([0.01, 0.04, 0.03])
        array([0.03, 0.06, 0.06])
    """
    rows = finite("p", p, 1) if np.size(p) else np.zeros(0)
    if ((rows < 0) | (rows > 1)).any():
        raise InputError("p: expected numbers in [0, 1]")
    order = np.argsort(rows, kind="stable")
    found = np.empty_like(rows)
    stepped = np.maximum.accumulate((len(rows) - np.arange(len(rows))) * rows[order])
    found[order] = np.minimum(stepped, 1.0)
    return found


def adjusted(differences: Mapping[str, ArrayLike]) -> dict[str, float]:
    """p of each mean difference, of Student's test, adjusted by `holm` for how many there are.

    Args:
        differences: name -> f64[N], of one seed or world each; one family, such as a column of
            a table.
    """
    p = holm([p_value(values) for values in differences.values()])
    return dict(zip(differences, map(float, p), strict=True))


def proportion(values: ArrayLike, *, level: float = LEVEL) -> Interval:
    """Wilson's interval of a proportion, which does not shrink to nothing at 0 and at 1.

    (p + z²/2n ± z √(p (1 − p)/n + z²/4n²)) / (1 + z²/n)

    Args:
        values: f64[N], 0 or 1 a unit; or its share over K tries, in [0, 1], whose variance
            is smaller: the interval is then a little too wide.
        level: coverage wanted, in (0, 1).

    Raises:
        InputError: no values, or one outside [0, 1].

    Reference: Wilson 1927, "Probable inference, the law of succession, and statistical
    inference".

    Example:
        >>> print(proportion([0.0] * 100))
        0.000 [0.000, 0.037]
    """
    rows = finite("values", values, 1)
    if len(rows) == 0 or ((rows < 0) | (rows > 1)).any():
        raise InputError("values: expected one or more numbers in [0, 1]")
    n, p = len(rows), float(rows.mean())  # scipy.stats.binomtest takes counts, and no shares
    z2 = float(scipy.stats.norm.ppf((1 + level) / 2)) ** 2 / n
    half = np.sqrt(z2 * p * (1 - p) + z2**2 / 4)
    low, high = (float((p + z2 / 2 + sign * half) / (1 + z2)) for sign in (-1, 1))
    return Interval(p, 0.0 if low < 0 else low, 1.0 if high > 1 else high)
