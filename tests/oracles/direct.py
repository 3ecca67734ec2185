"""Direct alignment in NumPy float64, pair by pair as the papers write it.

Each takes what the loss takes and returns (total, weight, metrics), metrics being
name -> (sum, weight). Log-probs of completions are summed token by token.
"""

import math

import numpy as np


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def log_prob(logp, mask):
    """log π(y|x) of one completion."""
    return math.fsum(logp[t] for t in np.flatnonzero(mask))


def pairs(logp, batch, reward, cost):
    """Σ w · cost(chosen, rejected, margin, row), and what is reported of every pair.

    reward: (row, side) -> implicit reward.
    """
    total, weight = 0.0, math.fsum(batch.weight)
    names = ("accuracy", "reward_margin", "reward_chosen", "reward_rejected")
    sums = dict.fromkeys((*names, "logp_chosen", "logp_rejected"), 0.0)
    for i, w in enumerate(batch.weight):
        c, r = reward(i, 0), reward(i, 1)
        total += w * cost(c, r, batch.margin[i], i)
        sums["accuracy"] += w * (1.0 if c > r else 0.5 if c == r else 0.0)
        sums["reward_margin"] += w * (c - r)
        sums["reward_chosen"] += w * c
        sums["reward_rejected"] += w * r
        sums["logp_chosen"] += w * log_prob(logp[i, 0], batch.mask[i, 0])
        sums["logp_rejected"] += w * log_prob(logp[i, 1], batch.mask[i, 1])
    return total, weight, {k: (v, weight) for k, v in sums.items()}


def ratio(logp, ref_logp, batch):
    """(row, side) -> log π(y|x) / π_ref(y|x)."""

    def at(i, side):
        mask = batch.mask[i, side]
        return log_prob(logp[i, side], mask) - log_prob(ref_logp[i, side], mask)

    return at


def mean_log_prob(logp, batch):
    """(row, side) -> log π(y|x) / |y|, 0 for an empty completion."""

    def at(i, side):
        mask = batch.mask[i, side]
        return log_prob(logp[i, side], mask) / max(1, mask.sum())

    return at


def with_nll(result, batch, nll, coefficient):
    """(total, weight, metrics) and the likelihood of chosen responses; nll: row -> nats."""
    total, weight, metrics = result
    likelihood = math.fsum(w * nll(i) for i, w in enumerate(batch.weight))
    return total + coefficient * likelihood, weight, metrics | {"nll": (likelihood, weight)}


def dpo(logp, ref_logp, batch, *, beta, label_smoothing=0.0):
    """Rafailov et al. 2023, eq. 7; Mitchell 2023 with label_smoothing."""
    at, e = ratio(logp, ref_logp, batch), label_smoothing

    def cost(c, r, m, i):
        z = c - r - m
        return -(1 - e) * math.log(sigmoid(z)) - e * math.log(sigmoid(-z))

    return pairs(logp, batch, lambda i, side: beta * at(i, side), cost)


def hinge(logp, ref_logp, batch, *, beta):
    """Liu et al. 2023 (RSO), the hinge loss on DPO's reward."""
    at = ratio(logp, ref_logp, batch)
    cost = lambda c, r, m, i: max(0.0, 1 - (c - r - m))
    return pairs(logp, batch, lambda i, side: beta * at(i, side), cost)


def robust_dpo(logp, ref_logp, batch, *, beta, flip_rate):
    """Chowdhury et al. 2024: the loss of both labels, so weighted that flips cancel."""
    at, e = ratio(logp, ref_logp, batch), flip_rate

    def cost(c, r, m, i):
        z = c - r - m
        return (-(1 - e) * math.log(sigmoid(z)) + e * math.log(sigmoid(-z))) / (1 - 2 * e)

    return pairs(logp, batch, lambda i, side: beta * at(i, side), cost)


def ropo(logp, ref_logp, batch, *, beta, alpha):
    """Liang et al. 2024: the two parts, each with its coefficient."""
    at = ratio(logp, ref_logp, batch)
    first, second = 4 * alpha / (1 + alpha) ** 2, 4 * alpha**2 / (1 + alpha) ** 2

    def cost(c, r, m, i):
        z = c - r - m
        return -first * math.log(sigmoid(z)) + second * sigmoid(-z)

    return pairs(logp, batch, lambda i, side: beta * at(i, side), cost)


def exo(logp, ref_logp, batch, *, beta, epsilon):
    """Ji et al. 2024, eq. 16: KL from the policy's choice of a pair to the smoothed label."""
    at = ratio(logp, ref_logp, batch)

    def cost(c, r, m, i):
        policy = (sigmoid(c - r - m), sigmoid(r - c + m))
        label = (1 - epsilon, epsilon)
        return sum(q * math.log(q / p) for q, p in zip(policy, label, strict=True))

    return pairs(logp, batch, lambda i, side: beta * at(i, side), cost)


def discopop(logp, ref_logp, batch, *, beta, temperature):
    """Lu et al. 2024, eq. 5: logistic and exponential, mixed by σ(z/τ)."""
    at = ratio(logp, ref_logp, batch)

    def cost(c, r, m, i):
        z = c - r - m
        share = sigmoid(z / temperature)
        return -(1 - share) * math.log(sigmoid(z)) + share * math.exp(-z)

    return pairs(logp, batch, lambda i, side: beta * at(i, side), cost)


def ln_dpo(logp, ref_logp, batch, *, beta):
    """Lambert et al. 2024: log-ratios a token."""
    own, other = mean_log_prob(logp, batch), mean_log_prob(ref_logp, batch)
    reward = lambda i, side: beta * (own(i, side) - other(i, side))
    return pairs(logp, batch, reward, bradley_terry)


def js_dpo(logp, ref_logp, batch, *, beta):
    """Wang et al. 2023, table 1, Jensen-Shannon: f'(u) = log 2u / (1 + u)."""
    at = ratio(logp, ref_logp, batch)

    def reward(i, side):
        u = math.exp(at(i, side))
        return beta * math.log(2 * u / (1 + u))

    return pairs(logp, batch, reward, bradley_terry)


def ipo(logp, ref_logp, batch, *, tau):
    """Azar et al. 2023, eq. 17."""
    cost = lambda c, r, m, i: (c - r - m - 1 / (2 * tau)) ** 2
    return pairs(logp, batch, ratio(logp, ref_logp, batch), cost)


def simpo(logp, batch, *, beta, gamma):
    """Meng et al. 2024, eq. 6."""
    at = mean_log_prob(logp, batch)
    cost = lambda c, r, m, i: -math.log(sigmoid(c - r - gamma - m))
    return pairs(logp, batch, lambda i, side: beta * at(i, side), cost)


def orpo(logp, batch, *, lam):
    """Hong et al. 2024, eq. 4-7; P at most 1 - 1e-6."""
    at = mean_log_prob(logp, batch)

    def log_odds(i, side):
        log_p = min(at(i, side), -1e-6)
        return log_p - math.log(-math.expm1(log_p))  # 1 - p without cancellation

    cost = lambda c, r, m, i: -lam * math.log(sigmoid(c - r - m))
    return with_nll(pairs(logp, batch, log_odds, cost), batch, lambda i: -at(i, 0), 1.0)


def ratings(logp, ref_logp, batch, cost, *, beta, baseline):
    """Σ w · cost(reward, score), and what is reported of every rating."""
    total, weight = 0.0, math.fsum(batch.weight)
    goods = math.fsum(batch.weight * batch.score)
    sums = dict.fromkeys(("accuracy", "reward_good", "reward_bad", "logp"), 0.0)
    for row, ref, mask, s, w in zip(
        logp, ref_logp, batch.mask, batch.score, batch.weight, strict=True
    ):
        reward = beta * (log_prob(row, mask) - log_prob(ref, mask))
        total += w * cost(reward, s)
        ahead = reward - baseline
        sums["accuracy"] += w * (0.5 if ahead == 0 else (ahead > 0) == (s > 0.5))
        sums["reward_good"] += w * s * reward
        sums["reward_bad"] += w * (1 - s) * reward
        sums["logp"] += w * log_prob(row, mask)
    over = {"reward_good": goods, "reward_bad": weight - goods}
    return total, weight, {k: (v, over.get(k, weight)) for k, v in sums.items()}


def kto(logp, ref_logp, batch, *, beta, kl, good, bad):
    """Ethayarajh et al. 2024, eq. 8: λ_y − v(x, y)."""

    def cost(reward, s):
        z = reward - beta * kl
        return good - good * sigmoid(z) if s == 1 else bad - bad * sigmoid(-z)

    return ratings(logp, ref_logp, batch, cost, beta=beta, baseline=beta * kl)


def ld_dpo(logp, ref_logp, batch, *, beta, alpha):
    """Liu et al. 2024 (LD-DPO): the likelihood of the first l tokens, and that of the rest to α."""

    def reward(i, side):
        shorter = min(batch.mask[i].sum(-1))
        at = np.flatnonzero(batch.mask[i, side])
        each = [logp[i, side, t] - ref_logp[i, side, t] for t in at]
        return beta * (math.fsum(each[:shorter]) + alpha * math.fsum(each[shorter:]))

    return pairs(logp, batch, reward, bradley_terry)


def bradley_terry(c, r, m, i):
    return -math.log(sigmoid(c - r - m))


def f_dpo(logp, ref_logp, batch, *, beta, alpha):
    """Wang et al. 2023, table 1, the α-divergence: f'(u) = (1 - u^-α) / α."""
    at = ratio(logp, ref_logp, batch)
    reward = lambda i, side: beta * (1 - math.exp(at(i, side)) ** -alpha) / alpha
    return pairs(logp, batch, reward, bradley_terry)


def alphapo(logp, batch, *, beta, gamma, alpha):
    """Gupta et al. 2025: r = β (1 - π^(-α/|y|)) / α."""
    at = mean_log_prob(logp, batch)
    reward = lambda i, side: beta * (1 - math.exp(at(i, side)) ** -alpha) / alpha
    return pairs(logp, batch, reward, lambda c, r, m, i: bradley_terry(c, r, m + gamma, i))


def cpo(logp, batch, *, beta, alpha):
    """Xu et al. 2024, eq. 5."""
    at = lambda i, side: log_prob(logp[i, side], batch.mask[i, side])
    result = pairs(logp, batch, lambda i, side: beta * at(i, side), bradley_terry)
    return with_nll(result, batch, lambda i: -at(i, 0), alpha)


def r_dpo(logp, ref_logp, batch, *, beta, alpha):
    """Park et al. 2024, from max E[r - α|y|] - β KL: r = β log π/π_ref + α|y| + const."""
    at = ratio(logp, ref_logp, batch)
    reward = lambda i, side: beta * at(i, side) + alpha * sum(batch.mask[i, side])
    return pairs(logp, batch, reward, bradley_terry)


def dpop(logp, ref_logp, batch, *, beta, lam):
    """Pal et al. 2024, eq. 3."""
    at = ratio(logp, ref_logp, batch)

    def cost(c, r, m, i):
        z = beta * (at(i, 0) - at(i, 1) - lam * max(0.0, -at(i, 0)))
        return -math.log(sigmoid(z - m))

    return pairs(logp, batch, lambda i, side: beta * at(i, side), cost)


def rpo(logp, ref_logp, batch, *, beta, alpha, per_token):
    """Pang et al. 2024, eq. 1, and Liu et al. 2024 (per_token=False)."""

    def nll(i):
        mask = batch.mask[i, 0]
        return -log_prob(logp[i, 0], mask) / (max(1, mask.sum()) if per_token else 1)

    return with_nll(dpo(logp, ref_logp, batch, beta=beta), batch, nll, alpha)


def nca(logp, ref_logp, batch, *, beta):
    """Chen et al. 2024: K = 2 of the noise-contrastive loss, the chosen one labelled."""
    at = ratio(logp, ref_logp, batch)
    log = lambda x: math.log(sigmoid(x))
    cost = lambda c, r, m, i: -log(c) - 0.5 * (log(-c) + log(-r))
    return pairs(logp, batch, lambda i, side: beta * at(i, side), cost)


def apo_zero(logp, ref_logp, batch, *, beta):
    """D'Oosterlinck et al. 2024, eq. 7."""
    at = ratio(logp, ref_logp, batch)
    cost = lambda c, r, m, i: -sigmoid(c) + sigmoid(r) + 1
    return pairs(logp, batch, lambda i, side: beta * at(i, side), cost)


def apo_down(logp, ref_logp, batch, *, beta):
    """D'Oosterlinck et al. 2024, eq. 8."""
    at = ratio(logp, ref_logp, batch)
    cost = lambda c, r, m, i: sigmoid(c) - sigmoid(c - r - m) + 1
    return pairs(logp, batch, lambda i, side: beta * at(i, side), cost)


def sppo(logp, ref_logp, batch, *, win, eta):
    """Wu et al. 2024, eq. 4.7."""
    at = ratio(logp, ref_logp, batch)
    cost = lambda c, r, m, i: (
        (c - eta * (win[i, 0] - 1 / 2)) ** 2 + (r - eta * (win[i, 1] - 1 / 2)) ** 2
    )
    return pairs(logp, batch, at, cost)


def wpo(logp, ref_logp, batch, *, share, beta, cap=math.inf):
    """Zhou et al. 2024, eq. 2; the cap as in their code."""
    at = ratio(logp, ref_logp, batch)
    pair = [min(s[0] * s[1], cap) for s in share]
    cost = lambda c, r, m, i: pair[i] * bradley_terry(c, r, m, i)
    total, weight, metrics = pairs(logp, batch, lambda i, side: beta * at(i, side), cost)
    mean = math.fsum(w * p for w, p in zip(batch.weight, pair, strict=True))
    return total, weight, metrics | {"pair_weight": (mean, weight)}


def on_policy_weight(logp, log_collision, mask):
    """Zhou et al. 2024: the geometric mean of π(y_t) / Σ_v π(v)² of a completion."""
    at = np.flatnonzero(mask)
    product = math.prod(math.exp(logp[t]) / math.exp(log_collision[t]) for t in at)
    return product ** (1 / max(1, len(at)))


def tdpo(logp, kl, ref_logp, batch, *, beta, alpha):
    """Zeng et al. 2024, eq. 17 (the stopped gradient has no part in the value)."""
    at = ratio(logp, ref_logp, batch)
    along = lambda i, side: log_prob(kl[i, side], batch.mask[i, side])
    cost = lambda c, r, m, i: (
        -math.log(sigmoid(c - r - m - alpha * (beta * along(i, 1) - beta * along(i, 0))))
    )
    total, weight, metrics = pairs(logp, batch, lambda i, side: beta * at(i, side), cost)
    for side, name in enumerate(("kl_chosen", "kl_rejected")):
        value = math.fsum(w * along(i, side) for i, w in enumerate(batch.weight))
        metrics[name] = (value, weight)
    return total, weight, metrics


def xpo(logp, ref_logp, batch, *, explore, beta, alpha):
    """Xie et al. 2024, algorithm 1."""
    total, weight, metrics = dpo(logp, ref_logp, batch, beta=beta)
    own = 0.0
    for i, w in enumerate(batch.weight):
        for side in np.flatnonzero(explore[i]):
            own += w * log_prob(logp[i, side], batch.mask[i, side])
    return total + alpha * own, weight, metrics | {"optimism": (own, weight)}


def bco(logp, ref_logp, batch, *, beta, delta):
    """Jung et al. 2024: the cross-entropy of "good" with logit r - δ."""
    cost = lambda reward, s: (
        -(s * math.log(sigmoid(reward - delta)) + (1 - s) * math.log(sigmoid(delta - reward)))
    )
    return ratings(logp, ref_logp, batch, cost, beta=beta, baseline=delta)


def rewards(logp, ref_logp, batch, beta):
    """f64[B, K] of β log π/π_ref."""
    out = np.zeros(logp.shape[:2])
    for i, k in np.ndindex(*out.shape):
        mask = batch.mask[i, k]
        out[i, k] = beta * (log_prob(logp[i, k], mask) - log_prob(ref_logp[i, k], mask))
    return out


def lambda_pairs(reward, batch, *, grade):
    """Liu et al. 2024 (LiPO-λ), eq. 9: G = 2^g - 1, D = log(1 + place)."""
    total = weight = right = pairs = 0.0
    for row, g, n, w in zip(reward, grade, batch.count, batch.weight, strict=True):
        if n < 2:
            continue
        order = sorted(range(n), key=lambda i, row=row: -row[i])
        place = {i: p for p, i in enumerate(order, start=1)}
        weight += w
        for i in range(n):
            for j in range(n):
                if g[i] > g[j]:
                    gain = abs((2 ** g[i] - 1) - (2 ** g[j] - 1))
                    discount = abs(1 / math.log(1 + place[i]) - 1 / math.log(1 + place[j]))
                    total += w * gain * discount * math.log(1 + math.exp(-(row[i] - row[j])))
                    right += w * (1.0 if row[i] > row[j] else 0.5 if row[i] == row[j] else 0.0)
                    pairs += w
    return total, weight, {"pair_accuracy": (right, pairs)}


def tpo(logp, batch, *, beta, gamma, alpha, per_token):
    """Saeidi et al. 2024: the gold response, then the others in order."""
    half = lambda a, b: 1.0 if a > b else 0.5 if a == b else 0.0
    sums = dict.fromkeys(("pair_accuracy", "top_accuracy", "nll"), 0.0)
    total = weight = 0.0
    for row, mask, n, w in zip(logp, batch.mask, batch.count, batch.weight, strict=True):
        if n < 3:
            continue
        lengths = [max(1, mask[k].sum()) for k in range(n)]
        logs = [log_prob(row[k], mask[k]) for k in range(n)]
        r = [beta * logs[k] / (lengths[k] if per_token else 1) for k in range(1, n)]
        each = [(r[i], r[j]) for i in range(n - 1) for j in range(i + 1, n - 1)]
        compared = [-math.log(sigmoid(a - b - gamma)) for a, b in each]
        nll = -logs[0] / lengths[0]
        total += w * (sum(compared) / len(each) + alpha * nll)
        weight += w
        sums["pair_accuracy"] += w * sum(half(a, b) for a, b in each) / len(each)
        sums["top_accuracy"] += w * half(r[0], max(r[1:]))
        sums["nll"] += w * nll
    return total, weight, {k: (v, weight) for k, v in sums.items()}
