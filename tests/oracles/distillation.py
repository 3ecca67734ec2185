"""Distillation in pure Python, token by token as the papers write it."""

import math

import numpy as np

from tests.oracles import policy


def generalised_jsd(teacher, own, beta):
    """Agarwal et al. 2023, of two lists of log-probs; the ends are the KL divergences."""

    def kl(p, q):
        return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a > 0)

    p, q = ([math.exp(x) for x in side] for side in (teacher, own))
    if beta in (0, 1):
        return kl(p, q) if beta == 0 else kl(q, p)
    middle = [beta * a + (1 - beta) * b for a, b in zip(p, q, strict=True)]
    return beta * kl(p, middle) + (1 - beta) * kl(q, middle)


def _tokens(values, mask):
    """Those of each completion that has any."""
    rows = [values[i][np.flatnonzero(mask[i])] for i in np.ndindex(*mask.shape[:-1])]
    return [row for row in rows if len(row)]


def gkd(divergence, batch):
    rows = _tokens(divergence, batch.mask)
    metrics = {"divergence": (sum(map(sum, rows)), sum(map(len, rows)))}
    return sum(sum(row) / len(row) for row in rows), len(rows), metrics


def sdpo(divergence, batch, *, shown):
    rows = _tokens(divergence, batch.mask & shown[..., None])
    total, tokens = sum(map(sum, rows)), sum(map(len, rows))
    metrics = {"divergence": (total, tokens), "shown": (len(rows), batch.mask.any(-1).sum())}
    return total, tokens, metrics


def _gains(batch, teacher_logp, gain):
    """gain(log-ratios of a completion's tokens) at each token, f64[..., T]."""
    out = np.zeros(batch.mask.shape)
    for index in np.ndindex(*batch.mask.shape[:-1]):
        at = np.flatnonzero(batch.mask[index])
        out[index][at] = gain([teacher_logp[index][t] - batch.logp[index][t] for t in at])
    return out


def distil(logp, batch, *, teacher_logp, discount):
    """Gu et al. 2023 without lengths; Lu 2025 at 0."""

    def to_go(r):
        return [sum(discount ** (s - t) * r[s] for s in range(t, len(r))) for t in range(len(r))]

    gains = _gains(batch, teacher_logp, to_go)
    total, weight, metrics = policy.reinforce(logp, batch, advantage=gains)
    gaps = _tokens(_gains(batch, teacher_logp, lambda r: [-x for x in r]), batch.mask)
    return total, weight, metrics | {"divergence": (sum(map(sum, gaps)), sum(map(len, gaps)))}


def minillm(logp, divergence, batch, *, teacher_logp, clip, mean=True):
    """Gu et al. 2023: the single step, and the mean of what comes after it."""

    def later(r):
        return [sum(r[t + 1 :]) / (max(len(r) - t - 1, 1) if mean else 1) for t in range(len(r))]

    gains = _gains(batch, teacher_logp, later)
    total, weight, metrics = policy.ppo(logp, batch, advantage=gains, clip=clip, per="sum")
    steps = _tokens(divergence, batch.mask)
    step = sum(map(sum, steps))
    return total + step, weight, metrics | {"divergence": (step, sum(map(len, steps)))}
