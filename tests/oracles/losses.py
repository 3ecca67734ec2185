"""The losses in NumPy float64, sum by sum as the papers write them.

Each takes what the loss takes and returns (total, weight, metrics), metrics being
name -> (sum, weight), over the elements that count.
"""

import math
from dataclasses import replace

import numpy as np

from tests.oracles.direct import dpo


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


def _sigmoid(x):
    return 1 / (1 + math.exp(-x))


def nll(logp, batch):
    total = tokens = rows = 0
    for row, mask in zip(logp, batch.mask, strict=True):
        total -= sum(x for x, m in zip(row, mask, strict=True) if m)
        tokens += sum(mask)
        rows += any(mask)
    return total, tokens, {"nll": (total, tokens), "tokens": (tokens, rows)}


def causal_likelihood(logp, batch, *, discount):
    """Ziebart 2010: the likelihood of the actions that were taken, discounted in time."""
    total = nll = actions = rows = 0
    for row, mask in zip(logp, batch.mask, strict=True):
        taken = [x for x, m in zip(row, mask, strict=True) if m]
        total -= sum(discount**t * x for t, x in enumerate(taken))
        nll -= sum(taken)
        actions += len(taken)
        rows += bool(taken)
    return total, rows, {"nll": (nll, actions)}


def variational_reward(logp, implied, mean, log_variance, batch, *, multiplier):
    """Chan & van der Schaar 2021: likelihood, divergence from the prior, constraint."""
    sums = {"nll": 0.0, "kl": 0.0, "consistency": 0.0}
    for i, t in np.argwhere(batch.mask):
        deviation = math.sqrt(math.exp(log_variance[i, t]))
        m, x = mean[i, t], implied[i, t]
        density = math.exp(-(((x - m) / deviation) ** 2) / 2) / (deviation * math.sqrt(2 * math.pi))
        sums["nll"] -= logp[i, t]
        sums["kl"] += -math.log(deviation) + (deviation**2 + m**2) / 2 - 1 / 2
        sums["consistency"] -= math.log(density)
    actions = batch.mask.sum()
    total = sums["nll"] + sums["kl"] + multiplier * sums["consistency"]
    return total, actions, {name: (x, actions) for name, x in sums.items()}


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


def _pairs(reward, batch, cost):
    """Σ w · cost(r_chosen, r_rejected, margin, row)."""
    rows = zip(reward, batch.margin, batch.weight, strict=True)
    total = math.fsum(w * cost(c, r, m, i) for i, ((c, r), m, w) in enumerate(rows))
    return total, math.fsum(batch.weight), _pair_metrics(reward, batch.weight)


def segment_comparison(reward, batch):
    """Christiano et al. 2017, eq. 1: Bradley-Terry on the sums of the rewards of two segments."""
    inside = lambda row, mask: math.fsum(x for x, m in zip(row, mask, strict=True) if m)
    sums = [
        [inside(*side) for side in zip(row, mask, strict=True)]
        for row, mask in zip(reward, batch.mask, strict=True)
    ]
    return _pairs(sums, batch, lambda c, r, m, i: -_log_sigmoid(c - r - m))


def thurstone(reward, batch):
    """Case V: utilities with normal noise of variance 1/2 each."""
    probability = lambda z: 0.5 * math.erfc(-z / math.sqrt(2))
    return _pairs(reward, batch, lambda c, r, m, i: -math.log(probability(c - r - m)))


def sigmoid(reward, batch):
    """Ghosh et al. 2015: the sigmoid loss of a binary classifier."""
    return _pairs(reward, batch, lambda c, r, m, i: _sigmoid(r - c + m))


def unbiased(reward, batch, *, flip_rate):
    """Chowdhury et al. 2024: E over flips of the loss is the loss of the clean label."""

    def cost(c, r, m, i):
        kept, flipped = -_log_sigmoid(c - r - m), -_log_sigmoid(r - c + m)
        return ((1 - flip_rate) * kept - flip_rate * flipped) / (1 - 2 * flip_rate)

    return _pairs(reward, batch, cost)


def order_classification(reward, batch):
    """Sun et al. 2025: cross-entropy of "was preferred" for each response."""
    cost = lambda c, r, m, i: -math.log(_sigmoid(c - m)) - math.log(1 - _sigmoid(r))
    return _pairs(reward, batch, cost)


def gaussian(mean, log_variance, batch):
    """Siththaranjan et al. 2023: the probability that one normal exceeds another."""

    def cost(c, r, m, i):
        spread = math.sqrt(math.exp(log_variance[i][0]) + math.exp(log_variance[i][1]))
        return -math.log(0.5 * math.erfc(-(c - r - m) / spread / math.sqrt(2)))

    return _pairs(mean, batch, cost)


def rao_kupper(reward, batch, *, tie, threshold):
    """Rao & Kupper 1967 in their worths π = exp(r) and θ = exp(η)."""
    theta = math.exp(threshold)

    def cost(c, r, m, i):
        one, other = math.exp(c - m), math.exp(r)
        if tie[i]:
            both = (one + theta * other) * (other + theta * one)
            return -math.log((theta**2 - 1) * one * other / both)
        return -math.log(one / (one + theta * other))

    return _pairs(reward, batch, cost)


def davidson(reward, batch, *, tie, log_nu):
    """Davidson 1970 in worths π = exp(r)."""

    def cost(c, r, m, i):
        one, other = math.exp(c - m), math.exp(r)
        draw = math.exp(log_nu) * math.sqrt(one * other)
        return -math.log((draw if tie[i] else one) / (one + other + draw))

    return _pairs(reward, batch, cost)


def _rankings(reward, batch, cost):
    """Σ w · cost(rewards of the ranked, best first), rankings of one left out."""
    total = weight = pairs = top = 0.0
    for row, n, w in zip(reward, batch.count, batch.weight, strict=True):
        if n < 2:
            continue
        r = row[:n]
        half = lambda a, b: 1.0 if a > b else 0.5 if a == b else 0.0
        right = [half(r[i], r[j]) for i in range(n) for j in range(i + 1, n)]
        total += w * cost(r)
        weight += w
        pairs += w * sum(right) / len(right)
        top += w * half(r[0], max(r[1:]))
    return total, weight, {"pair_accuracy": (pairs, weight), "top_accuracy": (top, weight)}


def plackett_luce(reward, batch, *, position_weight=None):
    """Xia et al. 2008, the likelihood loss: one choice after the other."""

    def cost(r):
        c = np.ones(len(r)) if position_weight is None else position_weight
        return -sum(
            c[k] * math.log(math.exp(r[k]) / sum(map(math.exp, r[k:]))) for k in range(len(r))
        )

    return _rankings(reward, batch, cost)


def all_pairs(reward, batch):
    """Ouyang et al. 2022, eq. 1."""

    def cost(r):
        n = len(r)
        each = [-_log_sigmoid(r[i] - r[j]) for i in range(n) for j in range(i + 1, n)]
        return 2 / (n * (n - 1)) * sum(each)

    return _rankings(reward, batch, cost)


def _ratings(reward, batch, cost, right=None):
    rows = list(zip(reward, batch.score, batch.weight, strict=True))
    mean = lambda f: (math.fsum(w * f(r, s) for r, s, w in rows), math.fsum(batch.weight))
    metrics = {"reward": mean(lambda r, s: r), "score": mean(lambda r, s: s)}
    if right is not None:
        metrics["accuracy"] = mean(right)
    return *mean(cost), metrics


def regression(reward, batch):
    return _ratings(reward, batch, lambda r, s: (r - s) ** 2)


def binary_cross_entropy(reward, batch):
    cost = lambda r, s: -s * _log_sigmoid(r) - (1 - s) * _log_sigmoid(-r)
    return _ratings(reward, batch, cost, lambda r, s: 0.5 if r == 0 else (r > 0) == (s > 0.5))


def gradient_penalty(slope, batch, *, target):
    """Gulrajani et al. 2017, eq. 3, its second term without λ."""
    norm = [math.sqrt(math.fsum(x * x for x in row)) for row in slope]
    mean = lambda values: (
        math.fsum(w * x for w, x in zip(batch.weight, values, strict=True)),
        math.fsum(batch.weight),
    )
    return *mean([(x - target) ** 2 for x in norm]), {"slope": mean(norm)}


def process_cross_entropy(reward, batch):
    """Wang et al. 2023, the PRM's cross-entropy; the mean over steps, not solutions."""
    at = [
        (i, t)
        for i, t in np.ndindex(*reward.shape)
        if batch.mask[i, t] and batch.end[i, t] and batch.weight[i] > 0
    ]
    mean = lambda f: (
        math.fsum(batch.weight[i] * f(reward[i, t], batch.label[i, t]) for i, t in at),
        math.fsum(batch.weight[i] for i, _ in at),
    )

    def cost(r, y):
        probability = _sigmoid(r)
        return -(y * math.log(probability) + (1 - y) * math.log(1 - probability))

    metrics = {
        "accuracy": mean(lambda r, y: (r > 0) == (y > 0.5)),
        "reward": mean(lambda r, y: r),
        "score": mean(lambda r, y: y),
    }
    return *mean(cost), metrics


def implicit_step_rewards(logp, ref_logp, mask, end, *, beta):
    """Yuan et al. 2024: q at the end of each step, less q at the end of the one before."""
    out = np.zeros_like(logp)
    for index in np.ndindex(*logp.shape[:-1]):
        q = before = 0.0
        for t in range(logp.shape[-1]):
            if mask[index][t]:
                q += beta * (logp[index][t] - ref_logp[index][t])
            if mask[index][t] and end[index][t]:
                out[index][t] = q - before
                before = q
    return out


def implicit_process(logp, ref_logp, batch, *, beta):
    """Yuan et al. 2024, the cross-entropy of the outcome with r = β log π/π_ref."""
    rewards = []
    for row, ref_row, mask in zip(logp, ref_logp, batch.mask, strict=True):
        rewards.append(beta * sum(row[t] - ref_row[t] for t in np.flatnonzero(mask)))
    return binary_cross_entropy(rewards, batch)


def ordinal(reward, batch, *, cutpoints):
    """McCullagh 1980, the proportional-odds model."""
    bounds = [-math.inf, *cutpoints, math.inf]
    below = lambda bound, r: 0.5 * (1 + math.tanh(0.5 * (bound - r)))
    cost = lambda r, s: -math.log(below(bounds[int(s) + 1], r) - below(bounds[int(s)], r))
    right = lambda r, s: bounds[int(s)] < r <= bounds[int(s) + 1]
    return _ratings(reward, batch, cost, right)


def token_verifier(logits, batch):
    """Cobbe et al. 2021, section 4.3: the outcome is predicted after each token."""
    total = weight = 0.0
    sums = {"accuracy": 0.0, "accuracy_last": 0.0, "score": 0.0}
    for row, mask, s, w in zip(logits, batch.mask, batch.score, batch.weight, strict=True):
        at = np.flatnonzero(mask)
        if len(at) == 0:
            continue
        losses = [-s * _log_sigmoid(row[t]) - (1 - s) * _log_sigmoid(-row[t]) for t in at]
        right = [(row[t] > 0) == (s > 0.5) for t in at]
        total += w * sum(losses) / len(at)
        weight += w
        sums["accuracy"] += w * sum(right) / len(at)
        sums["accuracy_last"] += w * right[-1]
        sums["score"] += w * s
    return total, weight, {k: (v, weight) for k, v in sums.items()}


def mixture(reward, batch, *, logits):
    """Chakraborty et al. 2024: a latent component for each annotator, here summed out."""
    share = [math.exp(x) for x in logits]
    total = weight = right = entropy = 0.0
    for rows, mask, w in zip(reward, batch.mask, batch.weight, strict=True):
        made = [row for row, m in zip(rows, mask, strict=True) if m]
        if not made:
            continue
        joint = []
        for m, pi in enumerate(share):
            p = pi / sum(share)
            for chosen, rejected in made:
                p *= _sigmoid(chosen[m] - rejected[m])
            joint.append(p)
        belief = [p / sum(joint) for p in joint]
        ahead = [sum(b * (c - r) for b, c, r in zip(belief, *row, strict=True)) for row in made]
        total -= w * math.log(sum(joint))
        right += w * sum(1.0 if a > 0 else 0.5 if a == 0 else 0.0 for a in ahead) / len(made)
        entropy -= w * sum(b * math.log(b) for b in belief)
        weight += w
    return total, weight, {"accuracy": (right, weight), "entropy": (entropy, weight)}


def intentions(logp, batch, *, logits):
    """Babeş-Vroman et al. 2011: which intention a demonstration has is summed out."""
    share = [math.exp(x) for x in logits]
    total = entropy = actions = rows = 0.0
    for row, mask in zip(logp, batch.mask, strict=True):
        taken = [x for x, m in zip(row, mask, strict=True) if m]
        if not taken:
            continue
        joint = [
            s / sum(share) * math.prod(math.exp(x[m]) for x in taken) for m, s in enumerate(share)
        ]
        belief = [p / sum(joint) for p in joint]
        total -= math.log(sum(joint))
        entropy -= sum(b * math.log(b) for b in belief)
        actions += len(taken)
        rows += 1
    return total, rows, {"nll": (total, actions), "entropy": (entropy, rows)}


def chosen_likelihood(logp, batch, *, beta):
    """Yang et al. 2024, the SFT regulariser in the form of DPO."""
    inside = lambda i, side: math.fsum(logp[i, side, np.flatnonzero(batch.mask[i, side])])
    rewards = [[beta * inside(i, side) for side in (0, 1)] for i in range(len(logp))]
    return _pairs(rewards, batch, lambda c, r, m, i: math.log(1 + math.exp(-c)))


def regularised(logp, reward, batch, *, alpha, beta, text, **options):
    """Yang et al. 2024: the shares of a Bradley-Terry and a text loss, sums over pairs."""
    total, weight, metrics = bradley_terry(reward, batch, **options)
    text_total, _, text_metrics = text(logp, batch, beta=beta)
    metrics = metrics | {f"text_{name}": value for name, value in text_metrics.items()}
    metrics |= {"reward_loss": (total, weight), "text_loss": (text_total, weight)}
    return (1 - alpha) * total + alpha * text_total, weight, metrics


def dpo_without_reference(logp, batch, *, beta):
    """Rafailov et al. 2023, eq. 7, with a reference that likes all responses the same."""
    plain = replace(batch, margin=np.zeros_like(batch.margin))
    return dpo(logp, np.zeros_like(logp), plain, beta=beta)


def ropo(reward, batch, *, alpha):
    """Liang et al. 2024: the two parts, each with its coefficient."""
    first, second = 4 * alpha / (1 + alpha) ** 2, 4 * alpha**2 / (1 + alpha) ** 2
    cost = lambda z: -first * _log_sigmoid(z) + second * _sigmoid(-z)
    return _pairs(reward, batch, lambda c, r, m, i: cost(c - r - m))


# Nowozin et al. 2016, tables 1 and 2: f, output activation g, conjugate f*, f'.
F_GAN = {
    "KL": (
        lambda u: u * math.log(u),
        lambda v: v,
        lambda t: math.exp(t - 1),
        lambda u: 1 + math.log(u),
    ),
    "reverse KL": (
        lambda u: -math.log(u),
        lambda v: -math.exp(-v),
        lambda t: -1 - math.log(-t),
        lambda u: -1 / u,
    ),
    "Jensen-Shannon": (
        lambda u: -(u + 1) * math.log((1 + u) / 2) + u * math.log(u),
        lambda v: math.log(2) - math.log(1 + math.exp(-v)),
        lambda t: -math.log(2 - math.exp(t)),
        lambda u: math.log(2 * u / (u + 1)),
    ),
    "squared Hellinger": (
        lambda u: (math.sqrt(u) - 1) ** 2,
        lambda v: 1 - math.exp(-v),
        lambda t: t / (1 - t),
        lambda u: (math.sqrt(u) - 1) * math.sqrt(1 / u),
    ),
    "Pearson chi-squared": (
        lambda u: (u - 1) ** 2,
        lambda v: v,
        lambda t: t * t / 4 + t,
        lambda u: 2 * (u - 1),
    ),
}


def alpha_divergence(alpha):
    """Minka 2005, section 2, in his notation of α: f, T of a log ratio, f* and f′."""
    return (
        lambda u: (u**alpha - alpha * u + alpha - 1) / (alpha * (alpha - 1)),
        lambda v: (math.exp((alpha - 1) * v) - 1) / (alpha - 1),
        lambda t: ((1 + (alpha - 1) * t) ** (alpha / (alpha - 1)) - 1) / alpha,
        lambda u: (u ** (alpha - 1) - 1) / (alpha - 1),
    )


F_GAN |= {f"alpha {alpha:g}": alpha_divergence(alpha) for alpha in (-0.5, 0.5, 2.0)}


def variational(logit, batch, *, divergence):
    """Nowozin et al. 2016, eq. 6, as a sum to be least; p/q = (f*)'(g(v)) by differences."""
    _, g, conjugate, _ = F_GAN[divergence]
    expert, policy, right = [], [], []
    for v, s, w in zip(logit, batch.score, batch.weight, strict=True):
        t = g(v)
        expert.append(w * s * t)
        policy.append(w * (1 - s) * conjugate(t))
        ratio = (conjugate(t + 1e-6) - conjugate(t - 1e-6)) / 2e-6
        right.append(w * ((ratio > 1) == (s > 0.5)))
    experts = math.fsum(batch.weight * batch.score)
    weight = math.fsum(batch.weight)
    metrics = {
        "expert": (math.fsum(expert), experts),
        "policy": (math.fsum(policy), weight - experts),
        "accuracy": (math.fsum(right), weight),
    }
    return math.fsum(policy) - math.fsum(expert), weight, metrics
