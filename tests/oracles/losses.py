"""The losses in NumPy float64, sum by sum as the papers write them.

Each takes what the loss takes and returns (total, weight, metrics), metrics being
name -> (sum, weight), over the elements that count.
"""

import math

import numpy as np


def _log_sigmoid(x):
    return -math.log1p(math.exp(-x)) if x > 0 else x - math.log1p(math.exp(x))


def _pair_metrics(rewards, weights):
    """Sums over (chosen, rejected) of weight w; a tie is half right."""
    right = [1.0 if c > r else 0.5 if c == r else 0.0 for c, r in rewards]
    each = {
        "accuracy": right,
        "reward_margin": [c - r for c, r in rewards],
        "reward_chosen": [c for c, _ in rewards],
        "reward_rejected": [r for _, r in rewards],
    }
    return {k: (math.fsum(np.multiply(weights, v)), math.fsum(weights)) for k, v in each.items()}


def nll(logp, batch):
    total = tokens = rows = 0
    for row, mask in zip(logp, batch.mask, strict=True):
        total -= sum(x for x, m in zip(row, mask, strict=True) if m)
        tokens += sum(mask)
        rows += any(mask)
    return total, tokens, {"nll": (total, tokens), "tokens": (tokens, rows)}


def bradley_terry(reward, batch, *, label_smoothing=0.0, centering=0.0):
    """Touvron et al. 2023, eq. 2, the labels flipped with probability label_smoothing."""
    total, penalty = 0.0, 0.0
    for (chosen, rejected), m, w in zip(reward, batch.margin, batch.weight, strict=True):
        z = chosen - rejected - m
        total -= w * (1 - label_smoothing) * _log_sigmoid(z)
        total -= w * label_smoothing * _log_sigmoid(-z)
        penalty += w * (chosen + rejected) ** 2
    weight = math.fsum(batch.weight)
    metrics = _pair_metrics(reward, batch.weight) | {"centering": (penalty, weight)}
    return total + centering * penalty, weight, metrics


def dpo(logp, ref_logp, batch, *, beta, label_smoothing=0.0):
    """Rafailov et al. 2023, eq. 7."""
    total = 0.0
    rewards, sums = [], {"logp_chosen": 0.0, "logp_rejected": 0.0}
    for i, w in enumerate(batch.weight):
        log_pi, log_ref = [0.0, 0.0], [0.0, 0.0]
        for side in (0, 1):
            for t in np.flatnonzero(batch.mask[i, side]):
                log_pi[side] += logp[i, side, t]
                log_ref[side] += ref_logp[i, side, t]
        rewards.append([beta * (p - q) for p, q in zip(log_pi, log_ref, strict=True)])
        z = rewards[-1][0] - rewards[-1][1] - batch.margin[i]
        total -= w * (1 - label_smoothing) * _log_sigmoid(z)
        total -= w * label_smoothing * _log_sigmoid(-z)
        sums["logp_chosen"] += w * log_pi[0]
        sums["logp_rejected"] += w * log_pi[1]
    weight = math.fsum(batch.weight)
    metrics = {k: (v, weight) for k, v in sums.items()}
    return total, weight, _pair_metrics(rewards, batch.weight) | metrics


def grpo(logp, batch, *, advantage, clip, beta, ref_logp=None, token_level=False):
    """Shao et al. 2024, eq. 3, with the KL estimate of eq. 4; token_level as in DAPO's eq. 8."""
    low, high = clip if isinstance(clip, tuple) else (clip, clip)
    total, weight, sequences, tokens = 0.0, 0, 0, 0
    names = ["ratio", "clip_fraction", "entropy", "kl_behaviour"]
    names += [] if ref_logp is None else ["kl_token", "kl"]
    sums = dict.fromkeys(names, 0.0)
    for index in np.ndindex(*logp.shape[:2]):
        at = np.flatnonzero(batch.mask[index])
        if len(at) == 0:
            continue
        objective = 0.0
        for t in at:
            new, old, gain = logp[index][t], batch.logp[index][t], advantage[index]
            ratio = math.exp(new - old)
            bounded = min(max(ratio, 1 - low), 1 + high)
            objective += min(ratio * gain, bounded * gain)
            sums["ratio"] += ratio
            sums["clip_fraction"] += bounded * gain < ratio * gain
            sums["entropy"] -= new
            sums["kl_behaviour"] += ratio - 1 - (new - old)
            if ref_logp is not None:
                inverse = math.exp(ref_logp[index][t] - new)
                divergence = inverse - math.log(inverse) - 1
                objective -= beta * divergence
                sums["kl_token"] += divergence
                sums["kl"] += divergence
        total -= objective if token_level else objective / len(at)
        weight += len(at) if token_level else 1
        sequences, tokens = sequences + 1, tokens + len(at)
    return total, weight, {k: (v, sequences if k == "kl" else tokens) for k, v in sums.items()}
