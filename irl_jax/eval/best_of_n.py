"""Best-of-n: what a reward is worth as a selector, without sampling again.

From K scored completions of a prompt the expected gold reward of "draw n, keep
the one the proxy likes best" follows exactly, as the mean over all C(K, n)
subsets. It costs a sort, and shows over-optimisation before any policy is
trained: the proxy's own curve keeps rising where the gold one turns.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from irl_jax.eval.checks import F64, finite, same_shape
from irl_jax.eval.intervals import LEVEL, RESAMPLES, Interval, bootstrap
from irl_jax.types import InputError


def selection_probability(proxy: ArrayLike, n: int) -> F64:
    """Probability that each completion is kept, over all subsets of size n.

    With completions sorted by proxy, number i (from 1) is kept with probability
    C(i-1, n-1) / C(K, n). Of a run of equal proxies at numbers a+1..b each gets
    an equal share of [C(b, n) - C(a, n)] / C(K, n): a tie is broken at random.

    Args:
        proxy: f[P, K], rewards that select.
        n: completions drawn, without replacement, 1 <= n <= K.

    Returns:
        f64[P, K], rows sum to 1.

    Raises:
        InputError: n is not in 1..K, or proxy is not finite.

    Reference: Nakano et al. 2021, "WebGPT", arXiv 2112.09332, appendix I; used by
    Gao et al. 2022, "Scaling Laws for Reward Model Overoptimization", arXiv
    2210.10760. Differs: ties, which they leave to the order of the sort.

    Example:
        >>> selection_probability([[3.0, 1.0, 2.0]], 2).round(3).tolist()
        [[0.667, 0.0, 0.333]]
    """
    proxy = finite("proxy", proxy, 2)
    k = proxy.shape[1]
    if not 1 <= n <= k:
        raise InputError(f"n: expected 1 to {k} (completions a prompt), got {n}")
    total = math.comb(k, n)
    below = np.array([math.comb(i, n) / total for i in range(k + 1)])  # all n among the i lowest
    ordered = np.sort(proxy, axis=1)
    ranks = lambda side: np.stack(
        [np.searchsorted(row, x, side) for row, x in zip(ordered, proxy, strict=True)]
    )
    a, b = ranks("left"), ranks("right")
    return (below[b] - below[a]) / (b - a)


def best_of_n(proxy: ArrayLike, gold: ArrayLike, n: int) -> F64:
    """Expected gold reward of the completion the proxy likes best of n, a prompt each.

    Args:
        proxy: f[P, K], rewards that select.
        gold: f[P, K], rewards that count.
        n: completions drawn, 1 <= n <= K.

    Returns:
        f64[P].

    Raises:
        InputError: shapes differ, n is not in 1..K, or a reward is not finite.
    """
    proxy, gold = finite("proxy", proxy, 2), finite("gold", gold, 2)
    same_shape(proxy=proxy, gold=gold)
    return (selection_probability(proxy, n) * gold).sum(1)


def vote_probability(answer: ArrayLike, weight: ArrayLike | None = None) -> F64:
    """Probability that each completion's answer wins the vote among those to its prompt.

    The answer of the greatest weight wins; of several, one at random. Its probability is
    shared by the completions that gave it. Where nobody votes, any completion may win.

    Args:
        answer: i64[P, K], equal numbers for equal answers; below 0 where a completion gives
            none, and does not vote.
        weight: f[P, K], of each vote, non-negative; 1 if None.

    Returns:
        f64[P, K], rows sum to 1; `(vote_probability(a) * gold).sum(1)` is the expected
        gold reward of a vote.

    Raises:
        InputError: shapes differ, or a weight is negative or not finite.

    Reference: Wang et al. 2022, "Self-consistency improves chain of thought reasoning in
    language models", arXiv 2203.11171.

    Example:
        >>> vote_probability([[7, 7, 3, -1], [1, 2, -1, -1]]).tolist()
        [[0.5, 0.5, 0.0, 0.0], [0.5, 0.5, 0.0, 0.0]]
    """
    answer = np.asarray(answer)
    votes = np.ones(answer.shape) if weight is None else finite("weight", weight, 2)
    same_shape(answer=answer, weight=votes)
    if (votes < 0).any():
        raise InputError("weight: expected non-negative weights")
    votes = np.where(answer < 0, 0.0, votes)
    same = answer[:, :, None] == answer[:, None, :]
    total = (same * votes[:, None, :]).sum(2)
    wins = np.isclose(total, total.max(1, keepdims=True), rtol=1e-12, atol=0.0)
    share = np.where(wins, 1.0 / same.sum(2), 0.0)
    return share / share.sum(1, keepdims=True)


def vote(
    answer: ArrayLike,
    gold: ArrayLike,
    n: int,
    *,
    weight: ArrayLike | None = None,
    subsets: int = 200,
    seed: int = 0,
) -> F64:
    """Expected gold reward of the answer with most votes among n completions, a prompt each.

    Args:
        answer: i64[P, K], as `vote_probability` reads it.
        gold: f[P, K], gold reward of that answer.
        n: completions that vote, 1 <= n <= K.
        weight: f[P, K], of each vote; 1 if None.
        subsets: subsets of size n over which the mean is taken: all of them where they are
            no more, else random ones.
        seed: of the subsets.

    Returns:
        f64[P].

    Raises:
        InputError: shapes differ, n is not in 1..K, a number is not finite.

    Example:
        >>> vote([[7, 7, 3]], [[1, 1, 0]], 3).tolist()
        [1.0]
    """
    answers, gold = np.asarray(answer), finite("gold", gold, 2)
    weights = np.ones(gold.shape) if weight is None else finite("weight", weight, 2)
    same_shape(answer=answers, gold=gold, weight=weights)
    k = gold.shape[1]
    if not 1 <= n <= k:
        raise InputError(f"n: expected 1 to {k} (completions a prompt), got {n}")
    if math.comb(k, n) <= subsets:
        draws = [list(draw) for draw in itertools.combinations(range(k), n)]
    else:
        order = np.argsort(np.random.default_rng(seed).random((subsets, k)), axis=1)
        draws = order[:, :n].tolist()
    won = [(vote_probability(answers[:, d], weights[:, d]) * gold[:, d]).sum(1) for d in draws]
    return np.mean(won, axis=0)


def kl_bound(n: int | float) -> float:
    """KL(best-of-n || policy) <= log n - (n-1)/n, nats.

    An equality if no two completions tie and none is likely to be drawn twice,
    far too large for a policy of few completions: `best_of_n_kl` where these can be
    listed, `kl_estimate` where their log-probs are known.

    Reference: Stiennon et al. 2020, "Learning to summarize from human feedback",
    arXiv 2009.01325, appendix G.3; Beirami et al. 2024, "Theoretical guarantees
    on the best-of-n alignment policy", arXiv 2401.01879, for the inequality.

    Example:
        >>> kl_bound(1), round(kl_bound(16), 3)
        (0.0, 1.835)
    """
    return math.log(n) - (n - 1) / n


def best_of_n_kl(probability: ArrayLike, proxy: ArrayLike, n: int) -> F64:
    """KL(best-of-n || policy) of a finite policy, exactly, nats.

    With outcomes of equal reward taken together, P the probability of such a class, F that
    of it and all below: Q = Fⁿ − (F − P)ⁿ and KL = Σ Q log(Q / P). Equal rewards are broken
    by a fair draw among the n, so that Q / P is the same for all outcomes of a class.

    Args:
        probability: f[P, M], of every outcome of each prompt; rows sum to 1.
        proxy: f[P, M], rewards that select.
        n: completions drawn, at least 1.

    Returns:
        f64[P], at most `kl_bound(n)`.

    Raises:
        InputError: shapes differ, a row is no distribution, or n is below 1.

    Reference: Beirami et al. 2024, "Theoretical guarantees on the best-of-n alignment
    policy", arXiv 2401.01879 (the best-of-n policy of finite outcomes).

    Differs: they assume that no two rewards are equal.

    Example:
        >>> best_of_n_kl([[0.5, 0.5]], [[0.0, 1.0]], 2).round(4).tolist()
        [0.1308]
    """
    p, reward = finite("probability", probability, 2), finite("proxy", proxy, 2)
    same_shape(probability=p, proxy=reward)
    if (p < 0).any() or not np.allclose(p.sum(1), 1.0, atol=1e-6):
        raise InputError("probability: expected rows that are non-negative and sum to 1")
    if n < 1:
        raise InputError(f"n: must be at least 1, got {n}")
    out = []
    for row, value in zip(p / p.sum(1, keepdims=True), reward, strict=True):
        _, number = np.unique(value, return_inverse=True)
        mass = np.bincount(number, weights=row)
        mass = mass[mass > 0]
        upper = np.minimum(np.cumsum(mass), 1.0)
        lower = np.concatenate([[0.0], upper[:-1]])
        q = upper**n - lower**n
        inside = q > 0
        out.append((q[inside] * np.log(q[inside] / mass[inside])).sum())
    return np.array(out)


def kl_estimate(logp: ArrayLike, n: int) -> F64:
    """KL(best-of-n || policy) guessed from the completions that were kept, nats.

    (1 − ε)ⁿ [log n + (n − 1) log(1 − ε) − (n − 1) / n] + [1 − (1 − ε)ⁿ] log([1 − (1 − ε)ⁿ] / ε)

    with ε the probability of the completion kept: what the KL is if this is the best of all,
    and each of the others unlikely. Its mean over kept completions is an estimate, neither a
    bound nor unbiased; it goes to `kl_bound(n)` as ε goes to 0 and to −log ε as n grows.

    Args:
        logp: f[N], log-probs of whole completions that best-of-n kept, nats, at most 0.
        n: completions drawn, at least 1.

    Returns:
        f64[N].

    Raises:
        InputError: a log-prob is positive or not finite, or n is below 1.

    Reference: Beirami et al. 2024, "Theoretical guarantees on the best-of-n alignment
    policy", arXiv 2401.01879, section 4.

    Example:
        >>> kl_estimate([-50.0, -0.1], 4).round(4).tolist()
        [0.6363, 0.0994]
    """
    logp = finite("logp", logp, 1)
    if (logp > 0).any():
        raise InputError("logp: a log-prob is above 0; give those of whole completions, in nats")
    if n < 1:
        raise InputError(f"n: must be at least 1, got {n}")
    with np.errstate(divide="ignore"):
        log_rest = np.log1p(-np.exp(logp))  # log(1 − ε)
    none = np.exp(n * log_rest)  # that no draw is the best
    some = -np.expm1(n * log_rest)
    below = kl_bound(n) + (n - 1) * np.where(none > 0, log_rest, 0.0)
    at_best = np.where(some > 0, np.log(np.where(some > 0, some, 1.0)) - logp, 0.0)
    return none * below + some * at_best


@dataclass(frozen=True)
class Curve:
    """Best-of-n as n grows, each mean over prompts with its interval.

    Attributes:
        n: completions drawn.
        kl: `kl_bound` of each n, nats.
        gold: gold reward of what the proxy selects.
        proxy: proxy reward of what the proxy selects, in the proxy's units.
        oracle: gold reward of what gold itself would select; no proxy does better.
        random: gold reward of a random completion, the same for every n.
        gain: (gold - random) / (oracle - random), the share of the attainable
            gain; 0 at n = 1, and where there is nothing to gain.
    """

    n: tuple[int, ...]
    kl: tuple[float, ...]
    gold: tuple[Interval, ...]
    proxy: tuple[Interval, ...]
    oracle: tuple[Interval, ...]
    random: Interval
    gain: tuple[float, ...]


def powers_of_two(k: int) -> tuple[int, ...]:
    """1, 2, 4, ... up to k, and k itself."""
    return tuple(sorted({2**i for i in range(k.bit_length()) if 2**i <= k} | {k}))


def mean_curves(
    proxy: ArrayLike, gold: ArrayLike, ns: Sequence[int] | None = None
) -> dict[str, F64]:
    """Best-of-n for several n in each of S worlds or splits, means over prompts.

    Args:
        proxy: f[S, P, K], rewards that select.
        gold: f[S, P, K], rewards that count.
        ns: numbers of completions, each in 1..K; powers of two and K if None.

    Returns:
        f64[S, N] each: `kl`, `kl_bound` of each n, nats; `gold` and `proxy`, rewards of what
        the proxy selects.

    Raises:
        InputError: shapes differ, an n is not in 1..K, a reward is not finite.

    Example:
        >>> mean_curves([[[3.0, 1.0]]], [[[1.0, 0.0]]])["gold"].tolist()
        [[0.5, 1.0]]
    """
    proxy, gold = finite("proxy", proxy, 3), finite("gold", gold, 3)
    same_shape(proxy=proxy, gold=gold)
    ns = powers_of_two(proxy.shape[2]) if ns is None else tuple(ns)
    means = lambda worth: np.array(
        [[best_of_n(r, x, n).mean() for n in ns] for r, x in zip(proxy, worth, strict=True)]
    )
    kl = np.tile([kl_bound(n) for n in ns], (len(proxy), 1))
    return {"kl": kl, "gold": means(gold), "proxy": means(proxy)}


def curve(
    proxy: ArrayLike,
    gold: ArrayLike,
    ns: Sequence[int] | None = None,
    *,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Curve:
    """Best-of-n for several n, with intervals over prompts.

    Args:
        proxy: f[P, K], rewards that select, at least 2 prompts.
        gold: f[P, K], rewards that count.
        ns: numbers of completions, each in 1..K; powers of two and K if None.
        level: coverage wanted, in (0, 1).
        resamples: number of bootstrap samples, of prompts.
        seed: of the resampling; the same prompts are drawn for every n.

    Raises:
        InputError: shapes differ, an n is not in 1..K, a reward is not finite.
    """
    proxy, gold = finite("proxy", proxy, 2), finite("gold", gold, 2)
    ns = powers_of_two(proxy.shape[1]) if ns is None else tuple(ns)
    interval = lambda x: bootstrap(x, level=level, resamples=resamples, seed=seed)
    chosen = tuple(interval(best_of_n(proxy, gold, n)) for n in ns)
    oracle = tuple(interval(best_of_n(gold, gold, n)) for n in ns)
    random = interval(gold.mean(1))
    gain = tuple(
        (c.estimate - random.estimate) / (o.estimate - random.estimate)
        if n > 1 and o.estimate > random.estimate
        else 0.0
        for n, c, o in zip(ns, chosen, oracle, strict=True)
    )
    return Curve(
        n=ns,
        kl=tuple(kl_bound(n) for n in ns),
        gold=chosen,
        proxy=tuple(interval(best_of_n(proxy, proxy, n)) for n in ns),
        oracle=oracle,
        random=random,
        gain=gain,
    )
