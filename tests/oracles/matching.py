"""Matching of occupancies in pure Python."""

import math

from tests.oracles.losses import F_GAN


def h(divergence, ratio):
    """Ni et al. 2020: f(u) − u f′(u)."""
    f, _, _, slope = F_GAN[divergence]
    return f(ratio) - ratio * slope(ratio)


def f_irl(reward, batch, *, logit, divergence, temperature, baseline):
    """Ni et al. 2020, the covariance, the log ratio being the logit itself."""
    total = terms = states = 0.0
    for rewards, logits, mask in zip(reward, logit, batch.mask, strict=True):
        own = [h(divergence, math.exp(v)) for v, m in zip(logits, mask, strict=True) if m]
        total += sum(x - baseline for x in own) * sum(
            r for r, m in zip(rewards, mask, strict=True) if m
        )
        terms += sum(own)
        states += len(own)
    return total / temperature, states, {"h": (terms, states)}


def value_dice(nu, following, initial, batch, *, discount):
    """Kostrikov et al. 2019, the objective with replayed samples."""
    rows = list(zip(nu, following, batch.score, batch.weight, strict=True))
    everything = sum(w for *_, w in rows)
    inside = sum(w * math.exp(one - after) for one, after, _, w in rows) / everything
    alpha = sum(w for _, _, s, w in rows if s == 0) / everything
    total = math.log(inside) - (1 - alpha) * (1 - discount) * sum(initial) / len(initial)
    if alpha:
        replayed = sum(w * (one - after) for one, after, s, w in rows if s == 0)
        total -= alpha * replayed / (alpha * everything)
    return total
