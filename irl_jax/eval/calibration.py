"""Whether a reward model is right as often as it says it is.

A Bradley-Terry reward gives each pair a probability σ(r_a − r_b). Of the pairs that
it orders with confidence 0.8, four in five should be ordered as people ordered them.
A scale that is too large says that it has seen fewer, or noisier, labels than it
takes itself to have; best-of-n does not notice, a KL-regularised policy does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from irl_jax.eval.checks import F64, finite, same_shape
from irl_jax.eval.intervals import LEVEL, RESAMPLES, Interval, bootstrap
from irl_jax.types import InputError


@dataclass(frozen=True)
class Reliability:
    """Bins of a reliability diagram, in order of confidence; every one has entries.

    Attributes:
        confidence: f64[M], mean confidence of a bin.
        accuracy: f64[M], share of a bin that was right.
        count: i64[M], entries of a bin.
    """

    confidence: F64
    accuracy: F64
    count: np.ndarray


def pair_confidence(reward: ArrayLike) -> tuple[F64, F64]:
    """How sure a Bradley-Terry reward is of each pair, and whether it is right.

    Args:
        reward: f[N, 2], of chosen (0) and rejected (1), in logits.

    Returns:
        f64[N] confidence σ(|r_chosen − r_rejected|) in [½, 1), and f64[N]: 1 if the
        chosen side has the higher reward, 0 if the rejected, ½ for a tie.

    Raises:
        InputError: another shape, or a reward that is not finite.

    Example:
        >>> confidence, right = pair_confidence([[2.0, 0.0], [0.0, 2.0]])
        >>> confidence.round(3).tolist(), right.tolist()
        ([0.881, 0.881], [1.0, 0.0])
    """
    pairs = finite("reward", reward, 2)
    if pairs.shape[1] != 2:
        raise InputError(f"reward: expected shape [N, 2], got {list(pairs.shape)}")
    ahead = pairs[:, 0] - pairs[:, 1]
    return 1 / (1 + np.exp(-np.abs(ahead))), (np.sign(ahead) + 1) / 2


def reliability(confidence: ArrayLike, right: ArrayLike, *, bins: int = 10) -> Reliability:
    """A reliability diagram in bins of about equal numbers of entries.

    Entries of one confidence stay in one bin.

    Args:
        confidence: f[N], probabilities that were given.
        right: f[N], outcomes, in [0, 1].
        bins: number of bins, at most.

    Raises:
        InputError: lengths differ, a value is not finite or not in [0, 1].

    Reference: Nguyen & O'Connor 2015, "Posterior calibration and exploratory analysis
    for natural language processing models", arXiv 1508.05154 (adaptive bins).
    """
    confidence, right = _probabilities(confidence, right)
    edges = np.unique(np.quantile(confidence, np.arange(1, bins) / bins, method="higher"))
    index = np.searchsorted(edges, confidence, side="right")
    count = np.bincount(index, minlength=len(edges) + 1)
    used = count > 0
    mean = lambda x: np.bincount(index, x, len(edges) + 1)[used] / count[used]
    return Reliability(mean(confidence), mean(right), count[used])


def calibration_error(
    confidence: ArrayLike,
    right: ArrayLike,
    clusters: ArrayLike | None = None,
    *,
    bins: int = 10,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Expected calibration error, Σ_m count_m / N |accuracy_m − confidence_m|.

    It is biased upwards: of a model that is calibrated it is not 0 but about
    √(2/π) E[√(c (1 − c))] √(M / N), c the confidences and M the bins, at most 0.4 √(M / N):
    of 1,000 pairs in 10 bins 0.025 (logits of deviation 3) to 0.039 (of ½), measured on
    simulated labels. The interval lies higher still, since a resample adds noise again.

    Args:
        confidence: f[N], probabilities that were given.
        right: f[N], outcomes, in [0, 1].
        clusters: [N], label of the prompt of an entry, resampled as wholes.
        bins: number of bins, at most.
        level: coverage wanted, in (0, 1).
        resamples: number of bootstrap samples.
        seed: of the resampling.

    Raises:
        InputError: lengths differ, a value is not finite or not in [0, 1].

    Reference: Guo et al. 2017, "On calibration of modern neural networks",
    arXiv 1706.04599, eq. 3.

    Differs: bins of equal numbers, not of equal widths.
    """

    def error(rows: F64) -> float:
        of = reliability(rows[:, 0], rows[:, 1], bins=bins)
        return float((of.count * np.abs(of.accuracy - of.confidence)).sum() / len(rows))

    both = np.stack(_probabilities(confidence, right), axis=1)
    return bootstrap(both, error, clusters, level=level, resamples=resamples, seed=seed)


def _probabilities(confidence: ArrayLike, right: ArrayLike) -> tuple[F64, F64]:
    arrays = {"confidence": finite("confidence", confidence, 1), "right": finite("right", right, 1)}
    same_shape(**arrays)
    for name, x in arrays.items():
        low, high = float(np.min(x)), float(np.max(x))
        if low < 0 or high > 1:
            raise InputError(f"{name}: expected values in [0, 1], got {low:g} to {high:g}")
    return arrays["confidence"], arrays["right"]
