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
