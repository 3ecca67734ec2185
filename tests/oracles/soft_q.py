"""Soft-Q imitation in pure Python, sum by sum as the papers write it."""

import math

STEEPEST = 30.0  # the largest ratio ρ_π/ρ_E that a φ tells


def _tangent_where_steep(phi, slope, least):
    """φ, and below the point where its slope is `STEEPEST` the line through that point."""
    assert abs(slope(least) / STEEPEST - 1) < 1e-9
    return lambda x: phi(x) if x > least else phi(least) + STEEPEST * (x - least)


# Garg et al. 2021: φ(x) = −f*(−x) of D_f(ρ_π‖ρ_E)
PHI = {
    "chi-square": lambda x: x - x * x / (4 * 0.7),
    "total variation": lambda x: (
        min(x, 0.5) if x >= -0.5 else -0.5 + STEEPEST * (x + 0.5)
    ),
    "forward KL": _tangent_where_steep(
        lambda x: 1 + math.log(x), lambda x: 1 / x, 1 / STEEPEST
    ),
    "reverse KL": _tangent_where_steep(
        lambda x: -math.exp(-(x + 1)), lambda x: math.exp(-(x + 1)), -1 - math.log(STEEPEST)
    ),
    "Hellinger": _tangent_where_steep(
        lambda x: x / (1 + x), lambda x: 1 / (1 + x) ** 2, 1 / math.sqrt(STEEPEST) - 1
    ),
    "Jensen-Shannon": _tangent_where_steep(
        lambda x: math.log(2 - math.exp(-x)),
        lambda x: math.exp(-x) / (2 - math.exp(-x)),
        math.log((1 + STEEPEST) / (2 * STEEPEST)),
    ),
}  # fmt: skip


def iq_learn(q, value, following, batch, *, phi):
    """Garg et al. 2021, the mean over expert transitions of −φ(Q − γV′) and of V − γV′."""
    total = reward = advantage = actions = 0.0
    for row in zip(q, value, following, batch.mask, strict=True):
        for one, v, after, taken in zip(*row, strict=True):
            if taken:
                total += v - after - PHI[phi](one - after)
                reward += one - after
                advantage += one - v
                actions += 1
    return total, actions, {"reward": (reward, actions), "advantage": (advantage, actions)}


def iq_learn_lm(q, value, batch, *, lam, discount):
    """Wulfmeier et al. 2024: −log π and λ (Q − γV′)² of the demonstrated tokens."""
    total = surprise = reward = tokens = rows = 0.0
    for b, row in enumerate(batch.mask):
        at = [t for t, known in enumerate(row) if known]
        for t, then in zip(at, [*at[1:], None], strict=True):
            same = then is not None and batch.segment[b][t] == batch.segment[b][then]
            r = q[b][t] - (discount * value[b][then] if same else 0.0)
            surprise += value[b][t] - q[b][t]
            total += value[b][t] - q[b][t] + lam * r * r
            reward += r
        tokens, rows = tokens + len(at), rows + bool(at)
    metrics = {"nll": (surprise, tokens), "tokens": (tokens, rows), "reward": (reward, tokens)}
    return total, tokens, metrics


def _sides(batch, values):
    """Σ w x and Σ w, of demonstrations and of the policy's samples."""
    sums = []
    for side in (1, 0):
        own = [w * (s == side) for w, s in zip(batch.weight, batch.score, strict=True)]
        total = math.fsum(w * x for w, x in zip(own, values, strict=True))
        sums.append((total, math.fsum(own)))
    return sums


def iq_learn_online(q, value, following, batch, *, alpha):
    """Al-Hafez et al. 2023: −E_E[r] and, on both sides, r²/4α and V − γV′."""
    reward = [one - after for one, after in zip(q, following, strict=True)]
    total = 0.0
    for i, r in enumerate(reward):
        both = r * r / (4 * alpha) + value[i] - following[i]
        total += batch.weight[i] * (both - 2 * r if batch.score[i] else both)
    expert, policy = _sides(batch, reward)
    weight = math.fsum(batch.weight)
    return total, weight, {"reward_expert": expert, "reward_policy": policy}


def sqil(q, following, batch):
    """Reddy et al. 2019: the squared soft Bellman error, rewards 1 and 0."""
    error = []
    for one, after, score in zip(q, following, batch.score, strict=True):
        error.append((one - ((1 if score else 0) + after)) ** 2)
    expert, policy = _sides(batch, error)
    total = math.fsum(w * e for w, e in zip(batch.weight, error, strict=True))
    return total, math.fsum(batch.weight), {"error_expert": expert, "error_policy": policy}
