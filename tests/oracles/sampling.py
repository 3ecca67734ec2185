"""Truncated sampling distributions in NumPy float64, by sorting."""

import numpy as np

from tests.oracles.decoder import log_softmax


def kept(logits, temperature=1.0, top_k=0, top_p=1.0):
    """Which tokens of one vector of logits may be drawn; ties with the last one are.

    Fan et al. 2018 (top-k), then Holtzman et al. 2019, eq. 2 and 3 (nucleus).
    """
    x = np.asarray(logits, np.float64) / temperature
    keep = np.ones(len(x), bool)
    if top_k:
        keep = x >= np.sort(x)[::-1][:top_k][-1]
    if top_p < 1:
        p = np.where(keep, np.exp(x - x.max()), 0.0)
        p /= p.sum()
        order = np.argsort(-np.where(keep, x, -np.inf), kind="stable")  # p may tie where x does not
        reached = np.flatnonzero(np.cumsum(p[order]) >= top_p)
        last = order[reached[0]] if len(reached) else order[-1]
        keep &= x >= x[last]
    return keep


def log_probs(logits, temperature=1.0, top_k=0, top_p=1.0):
    """Log-probs of the sampling distribution, -inf where nothing is drawn."""
    keep = kept(logits, temperature, top_k, top_p)
    return log_softmax(np.where(keep, np.asarray(logits, np.float64) / temperature, -np.inf))


def undecided(logits, temperature, top_k, top_p, margin):
    """Whether rounding may decide which token is the last of the nucleus."""
    if top_p == 1:
        return False
    p = np.sort(np.exp(log_probs(logits, temperature, top_k)))[::-1]
    return np.abs(np.cumsum(p) - top_p).min() < margin
