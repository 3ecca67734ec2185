"""Policy gradients in NumPy float64, completion by completion as the papers write them.

Each takes what the loss takes and returns (total, weight, metrics), metrics being
name -> (sum, weight).
"""

import math

import numpy as np


def _sides(clip):
    return clip if isinstance(clip, tuple) else (clip, clip)


def _clipped_token(ratio, gain, clip, dual=math.inf):
    """min(ρ A, clip(ρ, 1 − ε, 1 + ε) A), and whether the second was less.

    Where A < 0, at least c A (Ye et al. 2020).
    """
    low, high = _sides(clip)
    bounded = min(max(ratio, 1 - low), 1 + high)
    least = min(ratio * gain, bounded * gain)
    if gain < 0 and least < dual * gain:
        return dual * gain, True
    return least, bounded * gain < ratio * gain


def _k(name, new, ref):
    x = ref - new
    return {"k1": -x, "k2": x * x / 2, "k3": math.exp(x) - x - 1}[name]


def _run(
    logp, batch, advantage, objective, *, per, length=None, beta=0.0, ref_logp=None, kl="k3",
    entropy=0.0,
):  # fmt: skip
    """Sums over completions.

    objective: (new, old, gains of the tokens of one completion) -> the gain of each token
    and whether it was clipped. per: what is averaged over, "token", "mean" of the tokens of
    a sequence, "sum" of them, "length", or "group", the tokens of a prompt's completions.
    """
    total, weight, sequences, tokens = 0.0, 0.0, 0, 0
    groups = np.asarray(batch.mask).reshape(len(batch.mask), -1).sum(-1)
    names = ["ratio", "clip_fraction", "entropy", "kl_behaviour"]
    names += [] if ref_logp is None else ["kl_token", "kl"]
    sums = dict.fromkeys(names, 0.0)
    for index in np.ndindex(*logp.shape[:-1]):
        at = np.flatnonzero(batch.mask[index])
        if len(at) == 0:
            continue
        new, old = logp[index][at], batch.logp[index][at]
        gains = [np.broadcast_to(advantage[index], logp.shape[-1:])[t] for t in at]
        values, clips = objective(new, old, gains)
        costs = []
        for i in range(len(at)):
            cost = -values[i] + entropy * 0.5 * new[i] ** 2
            ratio = math.exp(new[i] - old[i])
            sums["ratio"] += ratio
            sums["clip_fraction"] += clips[i]
            sums["entropy"] -= new[i]
            sums["kl_behaviour"] += ratio - 1 - (new[i] - old[i])
            if ref_logp is not None:
                divergence = _k(kl, new[i], ref_logp[index][at[i]])
                cost += beta * divergence
                sums["kl_token"] += divergence
                sums["kl"] += divergence
            costs.append(cost)
        total += sum(costs) / {"mean": len(at), "group": groups[index[0]]}.get(per, 1)
        weight += {"token": len(at), "length": length, "group": 0}.get(per, 1)
        sequences, tokens = sequences + 1, tokens + len(at)
    if per == "group":
        weight = np.count_nonzero(groups)
    return total, weight, {k: (v, sequences if k == "kl" else tokens) for k, v in sums.items()}


def grpo(logp, batch, *, advantage, clip, dual=math.inf, **penalties):
    """Shao et al. 2024, eq. 3, with the KL estimate of eq. 4."""

    def objective(new, old, gains):
        tokens = zip(new, old, gains, strict=True)
        each = [_clipped_token(math.exp(n - o), gain, clip, dual) for n, o, gain in tokens]
        return [value for value, _ in each], [clips for _, clips in each]

    return _run(logp, batch, advantage, objective, **({"per": "mean"} | penalties))


def ppo(logp, batch, *, advantage, clip, **penalties):
    """Schulman et al. 2017, eq. 7, the mean over all tokens."""
    return grpo(logp, batch, advantage=advantage, clip=clip, **({"per": "token"} | penalties))


def dapo_by_group(logp, batch, *, advantage, clip):
    """Yu et al. 2025, eq. 8: the expectation over prompts of means over a group's tokens."""
    return ppo(logp, batch, advantage=advantage, clip=clip, per="group")


def cispo_by_group(logp, batch, *, advantage, clip):
    """MiniMax 2025, eq. 4 and 5, as in `dapo_by_group`."""
    return cispo(logp, batch, advantage=advantage, clip=clip, per="group")


def dr_grpo(logp, batch, *, advantage, clip, length, **penalties):
    """Liu et al. 2025: sums over tokens by one constant."""
    options = {"per": "length", "length": length, **penalties}
    return grpo(logp, batch, advantage=advantage, clip=clip, **options)


def reinforce(logp, batch, *, advantage, **penalties):
    """Williams 1992: Σ A log π over the tokens of an episode."""

    def objective(new, old, gains):
        return [a * n for a, n in zip(gains, new, strict=True)], [False] * len(new)

    return _run(logp, batch, advantage, objective, **({"per": "sum"} | penalties))


def weighted_sft(logp, batch, *, advantage, **penalties):
    """Peng et al. 2019, algorithm 1: the log-likelihood, weighted; the mean over tokens."""
    return reinforce(logp, batch, advantage=advantage, per="token", **penalties)


def gspo(logp, batch, *, advantage, clip, **penalties):
    """Zheng et al. 2025, eq. 5 to 7: the likelihoods of whole sequences, the length-th root."""

    def objective(new, old, gains):
        s = (math.prod(map(math.exp, new)) / math.prod(map(math.exp, old))) ** (1 / len(new))
        value, clips = _clipped_token(s, gains[0], clip)
        return [value] * len(new), [clips] * len(new)

    return _run(logp, batch, advantage, objective, per="mean", **penalties)


def luspo(logp, batch, *, advantage, clip, **penalties):
    """Liu et al. 2026: a sequence of GSPO's, times its length."""

    def objective(new, old, gains):
        s = (math.prod(map(math.exp, new)) / math.prod(map(math.exp, old))) ** (1 / len(new))
        value, clips = _clipped_token(s, gains[0], clip)
        return [value] * len(new), [clips] * len(new)

    return _run(logp, batch, advantage, objective, per="sum", **penalties)


def sapo(logp, batch, *, advantage, positive, negative, **penalties):
    """Gao et al. 2025: f(x) = 4/τ σ(τ (x − 1)) of each ratio, τ by the sign of the advantage."""

    def objective(new, old, gains):
        values = []
        for n, o, gain in zip(new, old, gains, strict=True):
            tau = positive if gain > 0 else negative
            values.append(gain * 4 / tau / (1 + math.exp(-tau * (math.exp(n - o) - 1))))
        return values, [False] * len(new)

    return _run(logp, batch, advantage, objective, per="mean", **penalties)


def vespo(logp, batch, *, advantage, positive, negative, **penalties):
    """Shen et al. 2026: W^k e^(λ (1 − W)) of the ratio W of whole completions, a constant."""

    def objective(new, old, gains):
        ratio = math.prod(math.exp(n - o) for n, o in zip(new, old, strict=True))
        k, rate = positive if gains[0] >= 0 else negative
        weight = ratio**k * math.exp(rate * (1 - ratio))
        return [weight * gains[0] * n for n in new], [False] * len(new)

    return _run(logp, batch, advantage, objective, per="token", **penalties)


def gmpo(logp, batch, *, advantage, clip, **penalties):
    """Zhao et al. 2025: the ratios raised to sgn(A), clipped, the less of the two, and back."""
    low, high = _sides(clip)

    def objective(new, old, gains):
        sign, product, clips = np.sign(gains[0]), 1.0, []
        for n, o in zip(new, old, strict=True):
            ratio = math.exp(n - o)
            bounded = min(max(ratio, math.exp(-low)), math.exp(high))
            least = min(ratio**sign, bounded**sign)
            product *= least**sign
            clips.append(least < ratio**sign)
        return [gains[0] * product ** (1 / len(new))] * len(new), clips

    return _run(logp, batch, advantage, objective, per="mean", **penalties)


def cispo(logp, batch, *, advantage, clip, **penalties):
    """MiniMax 2025, eq. 4 and 5."""
    low, high = _sides(clip)

    def objective(new, old, gains):
        values, clips = [], []
        for n, o, a in zip(new, old, gains, strict=True):
            ratio = math.exp(n - o)
            weight = min(max(ratio, 1 - low), 1 + high)
            values.append(weight * a * n)
            clips.append(weight != ratio)
        return values, clips

    return _run(logp, batch, advantage, objective, **({"per": "token"} | penalties))


def clipped_value(value, batch, *, target, old_value, clip):
    """Huang et al. 2024: the greater of the squared errors of V and of V clipped around V_old."""
    total, sums, tokens = (
        0.0,
        dict.fromkeys(["value", "value_error", "value_clip_fraction"], 0.0),
        0,
    )
    for index in np.argwhere(batch.mask):
        v, g, old = (x[tuple(index)] for x in (value, target, old_value))
        near = max(old - clip, min(old + clip, v))
        free, bounded = (v - g) ** 2, (near - g) ** 2
        total += 0.5 * max(free, bounded)
        sums["value"] += v
        sums["value_error"] += free
        sums["value_clip_fraction"] += bounded > free
        tokens += 1
    return total, tokens, {name: (x, tokens) for name, x in sums.items()}
