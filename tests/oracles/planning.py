"""All trajectories of a small process, one by one, in float64."""

from collections.abc import Iterator
from itertools import product

import numpy as np


def dense(mdp) -> np.ndarray:
    """P(s' | s, a), f64[S, A, S]."""
    prob = np.asarray(mdp.prob, np.float64)
    if mdp.successor is None:
        return prob
    states, actions, width = prob.shape
    found = np.zeros((states, actions, states))
    for s, a, k in product(range(states), range(actions), range(width)):
        found[s, a, mdp.successor[s, a, k]] += prob[s, a, k]
    return found


def trajectories(mdp, horizon: int) -> Iterator[tuple[list[int], list[int], float, list[float]]]:
    """States and actions of H steps, p₀ Π P(s' | s, a), and the discount before each step."""
    transition, start = dense(mdp), np.asarray(mdp.start, np.float64)
    gamma = np.asarray(mdp.discount, np.float64)
    states, actions = gamma.shape
    for path in product(range(states), repeat=horizon):
        for taken in product(range(actions), repeat=horizon):
            chance, weights, weight = start[path[0]], [], 1.0
            for t in range(horizon):
                weights.append(weight)
                weight *= gamma[path[t], taken[t]]
                if t + 1 < horizon:
                    chance *= transition[path[t], taken[t], path[t + 1]]
            if chance > 0:
                yield list(path), list(taken), chance, weights


def expectation(mdp, logp: np.ndarray, of) -> np.ndarray:
    """E of a function (states, actions, discounts before each step) under log π f64[H, S, A]."""
    total = 0.0
    for path, taken, chance, weights in trajectories(mdp, len(logp)):
        own = sum(logp[t, s, a] for t, (s, a) in enumerate(zip(path, taken, strict=True)))
        total = total + chance * np.exp(own) * of(path, taken, weights)
    return total


def soft_return(mdp, reward: np.ndarray, logp: np.ndarray, temperature: float) -> float:
    """E Σ γᵗ (r(sₜ, aₜ) − τ log π(aₜ | sₜ)); rewards f64[H, S, A]."""

    def of(path, taken, weights):
        return sum(
            w * (reward[t, s, a] - temperature * logp[t, s, a])
            for t, (s, a, w) in enumerate(zip(path, taken, weights, strict=True))
        )

    return expectation(mdp, logp, of)


def occupancy(mdp, logp: np.ndarray) -> np.ndarray:
    """E of the discounted visits, f64[H, S, A]."""

    def of(path, taken, weights):
        visits = np.zeros(logp.shape)
        for t, (s, a, w) in enumerate(zip(path, taken, weights, strict=True)):
            visits[t, s, a] += w
        return visits

    return expectation(mdp, logp, of)
