"""How good a learned reward is where gold is known: the three measures that are read together."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from irl_jax.eval.best_of_n import Curve, curve
from irl_jax.eval.intervals import Interval
from irl_jax.eval.ranking import pair_accuracy, spearman, within_prompt


class Quality(NamedTuple):
    """How good a learned reward is on completions of prompts.

    Attributes:
        accuracy: share of a prompt's pairs that it orders as gold does.
        spearman: rank correlation with gold, mean within prompts.
        best_of_n: gold reward of the best of n by the learned reward.
    """

    accuracy: Interval
    spearman: Interval
    best_of_n: Curve


def reward_quality(learned: ArrayLike, gold: ArrayLike) -> Quality:
    """Measures a learned reward against gold, with intervals over prompts.

    Args:
        learned: f[P, K], rewards of K completions of each of P prompts, to be judged.
        gold: f[P, K], the rewards to be matched.

    Raises:
        InputError: as `within_prompt`.
    """
    proxy, truth = np.asarray(learned, np.float64), np.asarray(gold, np.float64)
    clusters = np.repeat(np.arange(len(truth)), truth.shape[1])
    ranks = within_prompt(spearman, proxy.ravel(), truth.ravel(), clusters)
    prompt, better, worse = np.nonzero(truth[:, :, None] > truth[:, None, :])
    pairs = np.stack([proxy[prompt, better], proxy[prompt, worse]], axis=1)
    return Quality(pair_accuracy(pairs, clusters=prompt), ranks, curve(proxy, truth))
