"""Distances of rewards, policies one by one and what is identified, in float64."""

from collections.abc import Iterator
from itertools import product

import numpy as np

from tests.oracles.planning import dense


def pearson_distance(x: np.ndarray, y: np.ndarray, weight: np.ndarray) -> float:
    """√((1 − ρ)/2) of the elements of x and y, each as likely as its weight."""
    mean_x, mean_y = (weight * x).sum(), (weight * y).sum()
    cov = (weight * (x - mean_x) * (y - mean_y)).sum()
    spread = (weight * (x - mean_x) ** 2).sum() * (weight * (y - mean_y) ** 2).sum()
    return float(np.sqrt(max(1 - cov / np.sqrt(spread), 0) / 2))


def epic_form(reward: np.ndarray, discount: float, ds: np.ndarray, da: np.ndarray) -> np.ndarray:
    """Gleave et al.: R + E[γ R(s', A, S') − R(s, A, S') − γ R(S, A, S')], term by term."""
    states, actions, _ = reward.shape
    form = np.zeros(reward.shape)
    for s, a, t in np.ndindex(form.shape):
        total = reward[s, a, t]
        for x, b, y in product(range(states), range(actions), range(states)):
            chance = ds[x] * da[b] * ds[y]
            inside = discount * (reward[t, b, y] - reward[x, b, y]) - reward[s, b, y]
            total += chance * inside
        form[s, a, t] = total
    return form


def dard_form(
    reward: np.ndarray, transition: np.ndarray, discount: float, da: np.ndarray
) -> np.ndarray:
    """Wulfe et al.: R + E[γ R(s', A, S'') − R(s, A, S') − γ R(S', A, S'')], term by term."""
    states, actions, _ = reward.shape
    form = np.zeros(reward.shape)
    for s, a, t in np.ndindex(form.shape):
        total = reward[s, a, t]
        for b, x, y in product(range(actions), range(states), range(states)):
            chance = da[b] * transition[s, b, x] * transition[t, b, y]
            inside = discount * (reward[t, b, y] - reward[x, b, y]) - reward[s, b, x]
            total += chance * inside
        form[s, a, t] = total
    return form


def value(mdp, reward: np.ndarray, policy: np.ndarray) -> np.ndarray:
    """V of a policy f64[S, A], by its expected rewards f64[S, A]: 200 backups, γ <= 0.8."""
    ahead, gamma = dense(mdp), np.asarray(mdp.discount, np.float64)
    found = np.zeros(len(reward))
    for _ in range(200):
        found = (policy * (reward + gamma * (ahead @ found))).sum(-1)
    return found


def deterministic_policies(states: int, actions: int) -> Iterator[np.ndarray]:
    """All of them, f64[S, A]."""
    for choice in product(range(actions), repeat=states):
        yield np.eye(actions)[list(choice)]


def returns(mdp, reward: np.ndarray) -> np.ndarray:
    """J of every deterministic policy, by their order; reward f64[S, A, S']."""
    expected = (dense(mdp) * reward).sum(-1)
    start = np.asarray(mdp.start, np.float64)
    policies = deterministic_policies(*expected.shape)
    return np.array([start @ value(mdp, expected, policy) for policy in policies])


def unidentified(mdp, shape: tuple[int, ...], horizon: int | None = None) -> np.ndarray:
    """An orthonormal basis f64[N, K] of the rewards with E R(s, a, S') = v(s) − γ E v(S').

    Each condition is a row: the unknowns are the reward, of a shape f64[S], f64[S, A] or
    f64[S, A, S'], and v; with a horizon, E R(s, a, S') = vₜ(s) − γ E vₜ₊₁(S') and v_H = 0.
    """
    transition, gamma = dense(mdp), np.asarray(mdp.discount, np.float64)
    states, actions = gamma.shape
    size, steps = int(np.prod(shape)), horizon or 1
    rows = np.zeros((steps, states, actions, size + steps * states))
    for k, s, a in np.ndindex(steps, states, actions):
        now, after = size + k * states, size + (k + (horizon is not None)) * states
        rows[k, s, a, now + s] -= 1.0
        for t in range(states):
            at = np.ravel_multi_index((s, a, t)[: len(shape)], shape)
            rows[k, s, a, at] += transition[s, a, t]
            if after < rows.shape[-1]:
                rows[k, s, a, after + t] += gamma[s, a] * transition[s, a, t]
    _, values, vectors = np.linalg.svd(rows.reshape(-1, rows.shape[-1]))
    rank = (values > 1e-10 * values[0]).sum()
    left, values, _ = np.linalg.svd(vectors[rank:, :size].T, full_matrices=False)
    return left[:, values > 1e-10]
