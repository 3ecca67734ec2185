"""Gold against KL: what policies are worth at the same distance from their reference.

A policy buys reward with KL, and a method that goes farther looks better than it is. Methods
are compared where their runs first come to a KL, each at the strength of its penalty that is
best in other worlds.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from irl_jax.eval.checks import F64, finite, same_shape
from irl_jax.types import InputError


def gold_at_kl(kl: ArrayLike, gold: ArrayLike, level: float) -> F64:
    """Gold where a run first comes to a KL; NaN where it never does.

    A run is a path from the reference, (KL, gold) = (0, 0), through its measurements. With m
    the first measurement of KLₘ ≥ κ, and d = √KL, in which gold is linear near the reference,

    g(κ) = gₘ₋₁ + (gₘ − gₘ₋₁) (√κ − dₘ₋₁) / (dₘ − dₘ₋₁)

    Args:
        kl: f[..., T], nats, in the order of measurement; below 0 counts as 0, and NaN says
            that nothing was measured.
        gold: f[..., T], gold reward less that of the reference.
        level: κ > 0, nats.

    Returns:
        f64[...], one a run.

    Raises:
        InputError: shapes differ, gold is not finite, or κ is not above 0.

    Reference: Gao et al. 2022, "Scaling Laws for Reward Model Overoptimization", arXiv
    2210.10760, section 3 (gold as a function of √KL).

    Example:
        >>> float(gold_at_kl([1.0, 4.0, 2.0], [0.5, 1.0, 9.0], 2.25))
        0.75
    """
    distance, reward = np.asarray(kl, np.float64), finite("gold", gold)
    same_shape(kl=distance, gold=reward)
    if not level > 0:
        raise InputError(f"level: a KL above 0 nats is asked for, got {level}")
    runs = zip(
        distance.reshape(-1, distance.shape[-1]), reward.reshape(-1, reward.shape[-1]), strict=True
    )
    found = [_first_crossing(*run, float(np.sqrt(level))) for run in runs]
    return np.reshape(found, distance.shape[:-1])


def _first_crossing(kl: F64, gold: F64, level: float) -> float:
    known = ~np.isnan(kl)
    d = np.append(0.0, np.sqrt(np.maximum(kl[known], 0.0)))
    gold = np.append(0.0, gold[known])
    there = np.flatnonzero(d >= level)
    if not len(there):
        return float("nan")
    i = there[0]
    share = (level - d[i - 1]) / (d[i] - d[i - 1])
    return float(gold[i - 1] + share * (gold[i] - gold[i - 1]))


def frontier(kl: ArrayLike, gold: ArrayLike, level: float) -> F64:
    """Gold of a method at a KL in each world; NaN if no strength of it gets there in all worlds.

    g_s(κ) = g_{s, a(s)}(κ), a(s) = argmax_a Σ_{s' ≠ s} g_{s'a}(κ)

    The strength is the one that is best in the other worlds: the best of several noisy
    numbers is no estimate of the best.

    Args:
        kl: f[S, A, T], nats, of S worlds and A strengths of a penalty; as `gold_at_kl` reads it.
        gold: f[S, A, T], gold reward less that of the reference.
        level: κ > 0, nats.

    Returns:
        f64[S].

    Raises:
        InputError: shapes differ or are of another rank, or κ is not above 0.

    Example:
        >>> kl = [[[1.0], [1.0]]] * 3
        >>> frontier(kl, [[[3.0], [1.0]], [[0.0], [1.0]], [[0.0], [1.0]]], 1.0).tolist()
        [1.0, 0.0, 0.0]
    """
    values = gold_at_kl(kl, finite("gold", gold, 3), level)
    values = values[:, np.isfinite(values).all(0)]
    if not values.shape[1]:
        return np.full(len(values), np.nan)
    others = values.sum(0) - values
    return values[np.arange(len(values)), others.argmax(1)]
