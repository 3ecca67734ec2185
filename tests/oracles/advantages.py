"""Advantages in NumPy float64."""

import numpy as np


def group_advantages(reward, *, scale=True, eps=1e-6):
    """Shao et al. 2024, section 4.1.2, with the sample standard deviation."""
    rows = []
    for row in np.asarray(reward, np.float64):
        centred = row - np.mean(row)
        rows.append(centred / (np.std(row, ddof=1) + eps) if scale else centred)
    return np.array(rows)


def leave_one_out(reward):
    """Ahmadian et al. 2024, eq. 6: the mean of the others is the baseline."""
    out = np.zeros(np.shape(reward))
    for b, k in np.ndindex(*out.shape):
        others = [r for j, r in enumerate(reward[b]) if j != k]
        out[b, k] = reward[b][k] - sum(others) / len(others)
    return out


def nash(preference, log_ratio, *, tau):
    """Munos et al. 2023, Nash-MD-PG: P(y ≻ y') − 1/2 − τ log π/π_ref, the mean over y'."""
    b, k, j = np.shape(preference)
    out = np.zeros((b, k))
    for row, i in np.ndindex(b, k):
        for rival in range(j):
            out[row, i] += (preference[row][i][rival] - 1 / 2 - tau * log_ratio[row][i]) / j
    return out


def whiten(advantage, mask, *, centre=True, eps=1e-6):
    """Hu et al. 2025: the mean and the deviation of the whole batch."""
    if np.ndim(advantage) < np.ndim(mask):  # of completions, each of their tokens counting
        advantage = np.repeat(np.asarray(advantage)[..., None], np.shape(mask)[-1], axis=-1)
    inside = [a for a, m in zip(np.ravel(advantage), np.ravel(mask), strict=True) if m]
    out = np.zeros(np.shape(advantage))
    for index in np.ndindex(*out.shape):
        if mask[index]:
            shift = np.mean(inside) if centre else 0.0
            out[index] = (advantage[index] - shift) / (np.std(inside) + eps)
    return out


def gae(reward, value, mask, *, discount, gae_lambda, final_value):
    """Schulman et al. 2015, eq. 16, as the double sum over later actions.

    Columns outside the mask are taken out first.
    """
    out = np.zeros(np.shape(reward))
    for row in np.ndindex(*out.shape[:-1]):
        at = np.flatnonzero(mask[row])
        n, r = len(at), np.asarray(reward[row])[at]
        v = [*np.asarray(value[row])[at], final_value[row]]
        delta = [r[t] + discount * v[t + 1] - v[t] for t in range(n)]
        for t in range(n):
            later = ((discount * gae_lambda) ** (s - t) * delta[s] for s in range(t, n))
            out[row][at[t]] = sum(later)
    return out


def stream_gae(reward, value, mask, discount, *, gae_lambda, final_value):
    """Schulman et al. 2015, eq. 16, of the episodes that follow each other in one row.

    Each is taken out and summed alone, with the product of its own discounts.
    """
    out, begin, columns = np.zeros(len(reward)), 0, len(reward)
    for t in range(columns):
        cut, last = not mask[t] and discount[t] == 0, t == columns - 1
        if not (cut or last or (mask[t] and discount[t] == 0)):
            continue
        episode = [s for s in range(begin, t + 1) if mask[s]]
        after = value[t] if cut else final_value
        v = [*(value[s] for s in episode), after]
        delta = [reward[s] + discount[s] * v[i + 1] - v[i] for i, s in enumerate(episode)]
        for i, s in enumerate(episode):
            trace = 1.0
            for j in range(i, len(episode)):
                out[s] += trace * delta[j]
                trace *= gae_lambda * discount[episode[j]]
        begin = t + 1
    return out


def role_advantages(reward, role, baseline, decay):
    """R − b of the role, whose b then moves towards R; game after game."""
    b, advantage = np.array(baseline, np.float64), []
    for earned, r in zip(reward, role, strict=True):
        advantage.append(earned - b[r])
        b[r] = decay * b[r] + (1 - decay) * earned
    return np.array(advantage), b
