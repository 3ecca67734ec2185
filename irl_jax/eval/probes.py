"""What else a reward listens to: length, the place of a response, edits that mean nothing.

A reward that ranks held-out pairs well may do so for the wrong reason. Each probe
changes or removes one thing that should not matter, and says by how much the reward
moved, with an interval over prompts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from irl_jax.eval.checks import F64, cluster_rows, finite, same_shape
from irl_jax.eval.intervals import LEVEL, RESAMPLES, Interval, bootstrap
from irl_jax.eval.ranking import pair_accuracy
from irl_jax.types import InputError

_ROUNDING = 1e-9  # of the original difference: what is left of it below this is rounding


@dataclass(frozen=True)
class LengthBias:
    """How far a reward goes by length, over pairs.

    Attributes:
        correlation: of reward and length among the responses to one prompt, in [-1, 1].
        explained: its square, the share of the reward's variance within prompts that a
            straight line in length explains; its interval is the square of that one.
        prefers_longer: share of pairs of unequal length in which the longer side has the
            higher reward.
        chosen_longer: share of the same pairs in which the longer side was chosen.
        excess: prefers_longer − chosen_longer; above 0, the reward likes length more
            than people do.
        accuracy_longer: pair accuracy where the chosen side is the longer one; None
            where fewer than two prompts have such pairs.
        accuracy_shorter: pair accuracy where it is the shorter one; None likewise.
        accuracy_without: pair accuracy of the reward once what length explains is taken
            off (`length_residual`).
    """

    correlation: Interval
    explained: Interval
    prefers_longer: Interval
    chosen_longer: Interval
    excess: Interval
    accuracy_longer: Interval | None
    accuracy_shorter: Interval | None
    accuracy_without: Interval


def length_correlation(
    reward: ArrayLike,
    length: ArrayLike,
    clusters: ArrayLike | None = None,
    *,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Correlation of reward and length among the K responses of a row.

    ρ = Σ (r − r̄)(l − l̄) / √(Σ (r − r̄)² Σ (l − l̄)²), with r̄ and l̄ the means of a row,
    sums over all responses of all rows: what prompts that go well have in common does
    not count. With K = 2 it is the correlation of differences through the origin. 0
    where the reward, or the length, is the same throughout every row. Any other
    feature of a response can stand in the place of its length.

    Args:
        reward: f[N, K].
        length: f[N, K], in any unit.
        clusters: [N], label of the prompt of a row; rows are independent if None.
        level: coverage wanted, in (0, 1).
        resamples: number of bootstrap samples.
        seed: of the resampling.

    Reference: Singhal et al. 2023, "A Long Way to Go: Investigating Length Correlations
    in RLHF", arXiv 2310.03716 (rewards correlate with length).
    """
    r, size = _centred(reward, length)
    sums = np.stack([(r * size).sum(1), (r * r).sum(1), (size * size).sum(1)], axis=1)

    def rho(rows: F64) -> float:
        cross, reward, length = rows.sum(0)
        norm = reward * length
        return float(cross / np.sqrt(norm)) if norm > 0 else 0.0

    return bootstrap(sums, rho, clusters, level=level, resamples=resamples, seed=seed)


def length_residual(reward: ArrayLike, length: ArrayLike, clusters: ArrayLike | None = None) -> F64:
    """The reward less what length explains of it.

    r − b (l − l̄), where the slope b = Σ (r − r̄)(l − l̄) / Σ (l − l̄)² of a row is fitted on
    the rows of all other prompts, so that no pair is judged by a line it helped to draw.

    Args:
        reward: f[N, K].
        length: f[N, K].
        clusters: [N], label of the prompt of a row; each row is its own if None.

    Returns:
        f64[N, K]; what rounding left of a row that length explains whole is set to 0
        around the row's mean.

    Raises:
        InputError: shapes differ, or a number is not finite.
    """
    r, size = _centred(reward, length)
    cross, square = (r * size).sum(1), (size * size).sum(1)
    slope = np.zeros(len(r))
    for rows in cluster_rows(len(r), clusters):
        others = square.sum() - square[rows].sum()
        slope[rows] = (cross.sum() - cross[rows].sum()) / others if others > 0 else 0.0
    left = r - slope[:, None] * size
    small = np.abs(left).max(1) <= _ROUNDING * np.abs(r).max(1)
    mean = np.asarray(reward, np.float64).mean(1, keepdims=True)
    return mean + np.where(small[:, None], 0.0, left)


def length_bias(
    reward: ArrayLike,
    length: ArrayLike,
    clusters: ArrayLike | None = None,
    *,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> LengthBias:
    """Every measure of `LengthBias`.

    Args:
        reward: f[N, 2], of chosen (0) and rejected (1).
        length: f[N, 2], of the same responses, in any unit.
        clusters: [N], label of the prompt of a pair; pairs are independent if None.
        level: coverage wanted, in (0, 1).
        resamples: number of bootstrap samples.
        seed: of the resampling.

    Raises:
        InputError: shapes differ, a number is not finite, or no two prompts have pairs
            of unequal length.
    """
    reward, length = _pairs("reward", reward), _pairs("length", length)
    same_shape(reward=reward, length=length)
    how: dict[str, Any] = {"level": level, "resamples": resamples, "seed": seed}
    labels = np.arange(len(reward)) if clusters is None else np.asarray(clusters)
    same_shape(reward=reward[:, 0], clusters=labels)
    longer = np.sign(length[:, 0] - length[:, 1])
    unequal = longer != 0
    if len(np.unique(labels[unequal])) < 2:
        raise InputError("length: fewer than 2 prompts have pairs of unequal length")
    ahead = np.sign(reward[:, 0] - reward[:, 1])
    prefers = (ahead * longer + 1)[unequal] / 2
    chosen = (longer + 1)[unequal] / 2
    share = lambda x: bootstrap(x, clusters=labels[unequal], **how)

    def accuracy(rows: np.ndarray) -> Interval | None:
        if len(np.unique(labels[rows])) < 2:
            return None
        return pair_accuracy(reward[rows], clusters=labels[rows], **how)

    correlation = length_correlation(reward, length, labels, **how)
    return LengthBias(
        correlation=correlation,
        explained=_squared(correlation),
        prefers_longer=share(prefers),
        chosen_longer=share(chosen),
        excess=share(prefers - chosen),
        accuracy_longer=accuracy(longer > 0),
        accuracy_shorter=accuracy(longer < 0),
        accuracy_without=pair_accuracy(
            length_residual(reward, length, labels), clusters=labels, **how
        ),
    )


@dataclass(frozen=True)
class PositionBias:
    """How far a pairwise judge goes by the place of a response.

    Attributes:
        flipped: share of pairs whose verdict depends on the order in which they were
            shown; a tie in one order and a verdict in the other count one half.
        first: share of verdicts, over both orders, for what was shown first; a fair judge
            has 0.5, and so has one whose biases cancel.
        bias: mean log-odds (nats) given to the first place; 0 is fair.
    """

    flipped: Interval
    first: Interval
    bias: Interval


def position_bias(
    log_odds: ArrayLike,
    clusters: ArrayLike | None = None,
    *,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> PositionBias:
    """Every measure of `PositionBias`.

    With s₀ and s₁ the log-odds that the response shown first is the better one, a shown
    first and b shown first, the bias of a pair is (s₀ + s₁) / 2, and the verdict flips
    where the two have one sign.

    Args:
        log_odds: f[N, 2], s₀ and s₁ of each pair, nats; 0 is a tie. A judge that only
            names a winner gives +1 and −1, and `bias` is then no log-odds.
        clusters: [N], label of the prompt of a pair; pairs are independent if None.
        level: coverage wanted, in (0, 1).
        resamples: number of bootstrap samples.
        seed: of the resampling.

    Reference: Wang et al. 2023, "Large Language Models are not Fair Evaluators", arXiv
    2305.17926 (the conflict rate is `flipped`).
    """
    shown_first = _pairs("log_odds", log_odds)
    sign = np.sign(shown_first)
    interval = lambda x: bootstrap(
        x, clusters=clusters, level=level, resamples=resamples, seed=seed
    )
    return PositionBias(
        flipped=interval(np.abs(sign.sum(1)) / 2),
        first=interval((sign.mean(1) + 1) / 2),
        bias=interval(shown_first.mean(1)),
    )


def without_position(log_odds: ArrayLike) -> F64:
    """Log-odds that a is better than b, the bias for a place taken off: (s₀ − s₁) / 2.

    Args:
        log_odds: f[N, 2], as in `position_bias`.

    Returns:
        f64[N], nats.

    Reference: Wang et al. 2023, "Large Language Models are not Fair Evaluators", arXiv
    2305.17926 (balanced position calibration, which averages scores of both orders).
    """
    shown_first = _pairs("log_odds", log_odds)
    return (shown_first[:, 0] - shown_first[:, 1]) / 2


@dataclass(frozen=True)
class EditSensitivity:
    """How a reward takes an edit that keeps the meaning.

    Attributes:
        changed: number of responses that the edit changes; all else is over these.
        size: mean |Δr|, in standard deviations of the reward between responses to one
            prompt; None where fewer than two prompts have a changed response.
        shift: mean Δr in the same unit: above 0, the edit is rewarded; None likewise.
        flipped: share of pairs with a changed side whose order is another one once both
            sides are edited; to or from a tie counts one half; None likewise.
    """

    changed: int
    size: Interval | None
    shift: Interval | None
    flipped: Interval | None


def edit_sensitivity(
    reward: ArrayLike,
    edited: ArrayLike,
    changed: ArrayLike,
    clusters: ArrayLike | None = None,
    *,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> EditSensitivity:
    """Every measure of `EditSensitivity`.

    The unit is √(mean over pairs of (r₀ − r₁)² / 2), the standard deviation between two
    responses to one prompt: an edit of size 1 moves a reward as far as another answer.

    Args:
        reward: f[N, 2], of both sides of pairs.
        edited: f[N, 2], of the same after the edit; read only where `changed`.
        changed: bool[N, 2], whether the edit changed the text.
        clusters: [N], label of the prompt of a pair; pairs are independent if None.
        level: coverage wanted, in (0, 1).
        resamples: number of bootstrap samples.
        seed: of the resampling.

    Raises:
        InputError: shapes differ, a number is not finite, or the reward tells the sides
            of no pair apart.

    Reference: Wu et al. 2025, "reWordBench: Benchmarking and Improving the Robustness of
    Reward Models with Transformed Inputs", arXiv 2503.11751 (rewards of inputs whose
    meaning is kept).
    """
    before, mask = _pairs("reward", reward), np.asarray(changed, bool)
    same_shape(reward=before, changed=mask, edited=np.asarray(edited))
    after = _pairs("edited", np.where(mask, edited, before))
    labels = np.arange(len(before)) if clusters is None else np.asarray(clusters)
    same_shape(reward=before[:, 0], clusters=labels)
    unit = np.sqrt(np.mean((before[:, 0] - before[:, 1]) ** 2) / 2)
    if unit == 0:
        raise InputError("reward: the same on both sides of every pair; an edit has no unit")
    pairs = mask.any(1)
    if len(np.unique(labels[pairs])) < 2:
        return EditSensitivity(int(mask.sum()), None, None, None)
    moved = ((after - before) / unit)[mask]
    owner = np.stack([labels, labels], axis=1)[mask]
    order = lambda x: np.sign(x[:, 0] - x[:, 1])
    interval = lambda x, of: bootstrap(x, clusters=of, level=level, resamples=resamples, seed=seed)
    return EditSensitivity(
        changed=int(mask.sum()),
        size=interval(np.abs(moved), owner),
        shift=interval(moved, owner),
        flipped=interval(np.abs(order(after) - order(before))[pairs] / 2, labels[pairs]),
    )


def _squared(x: Interval) -> Interval:
    """The interval of a square: from 0 where that of its root holds 0."""
    ends = x.low**2, x.high**2
    return Interval(x.estimate**2, min(ends) if x.excludes(0.0) else 0.0, max(ends))


def _pairs(name: str, x: ArrayLike) -> F64:
    pairs = finite(name, x, 2)
    if pairs.shape[1] != 2:
        raise InputError(f"{name}: expected shape [N, 2], got {list(pairs.shape)}")
    return pairs


def _centred(reward: ArrayLike, length: ArrayLike) -> tuple[F64, F64]:
    """Both less the means of their rows."""
    r, size = finite("reward", reward, 2), finite("length", length, 2)
    same_shape(reward=r, length=size)
    return r - r.mean(1, keepdims=True), size - size.mean(1, keepdims=True)
