"""Demonstrations, own samples and comparisons, drawn from answers whose gold is known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Draws:
    """What was drawn for S splits of R training prompts; indices of responses.

    Attributes:
        demonstration: i64[S, R, D].
        own: i64[S, R, M], samples of the model that are not among them.
        compared: i64[S, R, D, 2], two samples of the model, the preferred one first.
    """

    demonstration: np.ndarray
    own: np.ndarray
    compared: np.ndarray


def draw(
    gold: np.ndarray, train: np.ndarray, *, demonstrations: int, own: int, temperature: float
) -> Draws:
    """Demonstrations, own samples and comparisons of every split.

    Args:
        gold: f64[P, K].
        train: bool[S, P], true on R prompts of each split.
        demonstrations: D, of a prompt; drawn in proportion to exp(gold / temperature),
            without replacement, and as many pairs of samples are compared.
        own: M, samples of a prompt, uniformly from the rest.
        temperature: in units of gold.
    """
    k = gold.shape[1]
    parts: list[list[np.ndarray]] = [[], [], []]
    for s, inside in enumerate(train):
        rng = np.random.default_rng([s, 1])
        prompt = np.flatnonzero(inside)
        utility = gold[prompt] / temperature
        order = np.argsort(-(utility + rng.gumbel(size=utility.shape)), axis=1)
        rest = rng.permuted(order[:, demonstrations:], axis=1)
        shape = (len(prompt), demonstrations)
        first = rng.integers(k, size=shape)
        pair = np.stack([first, (first + rng.integers(1, k, size=shape)) % k], axis=-1)
        noisy = np.take_along_axis(utility[:, None], pair, axis=2) + rng.gumbel(size=pair.shape)
        pair = np.take_along_axis(pair, np.argsort(-noisy, axis=-1), axis=-1)
        base = k * prompt
        for part, index in zip(parts, (order[:, :demonstrations], rest[:, :own]), strict=False):
            part.append(index + base[:, None])
        parts[2].append(pair + base[:, None, None])
    return Draws(*(np.stack(part) for part in parts))


def matched(draws: Draws) -> np.ndarray:
    """Every own sample with a demonstration of its prompt, in turn; i64[S, R, M, 2]."""
    turn = np.arange(draws.own.shape[2]) % draws.demonstration.shape[2]
    return np.stack([draws.demonstration[:, :, turn], draws.own], axis=-1)
