import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irl_jax.eval.best_of_n import (
    best_of_n,
    best_of_n_kl,
    curve,
    kl_bound,
    kl_estimate,
    mean_curves,
    powers_of_two,
    selection_probability,
    vote,
    vote_probability,
)
from irl_jax.types import InputError


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def enumerate_subsets(proxy, gold, n):
    """Mean over all subsets of size n of the mean gold of the subset's best by proxy."""
    means = []
    for subset in itertools.combinations(range(len(proxy)), n):
        best = max(proxy[i] for i in subset)
        means.append(np.mean([gold[i] for i in subset if proxy[i] == best]))
    return np.mean(means)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(-2, 2), st.integers(-50, 50)), min_size=1, max_size=8),
    st.integers(1, 8),
)
def test_is_the_mean_over_all_subsets_with_and_without_ties(rewards, n):
    n = min(n, len(rewards))
    proxy, gold = np.array(rewards, float).T
    expected = enumerate_subsets(proxy, gold, n)
    assert best_of_n([proxy], [gold], n) == pytest.approx([expected], abs=1e-12)


def test_one_is_the_mean_all_is_the_best_and_rows_are_distributions(rng):
    proxy, gold = rng.normal(size=(5, 40)), rng.normal(size=(5, 40))
    assert best_of_n(proxy, gold, 1) == pytest.approx(gold.mean(1), abs=1e-12)
    assert best_of_n(proxy, gold, 40) == pytest.approx(
        gold[np.arange(5), proxy.argmax(1)], abs=1e-12
    )
    for n in (1, 7, 40):
        assert selection_probability(proxy, n).sum(1) == pytest.approx(np.ones(5), abs=1e-12)


def test_maximum_of_uniforms_has_its_known_mean(rng):
    """max of n out of 1..K without replacement: n (K+1) / (n+1)."""
    k = 500
    x = rng.permutation(np.arange(1.0, k + 1))[None]
    for n in (1, 2, 64, 499):
        assert best_of_n(x, x, n) == pytest.approx([n * (k + 1) / (n + 1)], rel=1e-12)


def test_large_k_neither_overflows_nor_loses_digits():
    x = np.arange(1.0, 3001)[None]
    assert best_of_n(x, x, 1500) == pytest.approx([1500 * 3001 / 1501], rel=1e-12)


def exact_kl(p, n):
    """KL(best-of-n || p) of a finite policy, outcomes ranked by index: from its own cdf."""
    cdf = np.concatenate([[0.0], np.cumsum(p)])
    q = cdf[1:] ** n - cdf[:-1] ** n
    q = np.where(q > 0, q, 1e-300)
    return np.sum(q * np.log(q / p))


@pytest.mark.parametrize("n", [1, 2, 5, 32])
def test_kl_bound_holds_and_is_reached_by_a_fine_policy(n, rng):
    for size in (2, 5, 50):
        assert exact_kl(rng.dirichlet(np.ones(size)), n) <= kl_bound(n) + 1e-9
    fine = np.full(200_000, 1 / 200_000)
    assert exact_kl(fine, n) == pytest.approx(kl_bound(n), abs=1e-3)


def drawn_kl(p, reward, n):
    """KL(best-of-n || p) by listing every n-tuple of draws; ties are broken at random."""
    q = np.zeros(len(p))
    for draws in itertools.product(range(len(p)), repeat=n):
        top = [i for i in draws if reward[i] == max(reward[j] for j in draws)]
        for i in top:
            q[i] += np.prod(p[list(draws)]) / len(top)
    seen = q > 0
    return np.sum(q[seen] * np.log(q[seen] / p[seen]))


@pytest.mark.parametrize("n", [1, 2, 4])
def test_the_exact_kl_is_that_of_all_draws_listed(n, rng):
    p = rng.dirichlet(np.ones(5), 4)
    p[3] = [0.5, 0.0, 0.25, 0.25, 0.0]
    reward = rng.integers(0, 3, (4, 5)).astype(float)  # with ties
    want = [drawn_kl(*row, n) for row in zip(p, reward, strict=True)]
    np.testing.assert_allclose(best_of_n_kl(p, reward, n), want, atol=1e-12)
    assert (best_of_n_kl(p, reward, n) <= kl_bound(n) + 1e-12).all()
    distinct = np.arange(5.0)[None]
    assert best_of_n_kl(p[:1], distinct, n) == pytest.approx([exact_kl(p[0], n)], abs=1e-9)
    np.testing.assert_allclose(best_of_n_kl(p, np.ones((4, 5)), n), 0, atol=1e-12)


@pytest.mark.parametrize("n", [1, 3, 16])
def test_the_estimate_is_exact_for_one_likely_best_above_a_continuum(n):
    """What it assumes: an atom of probability ε, and below it many that are unlikely."""
    for epsilon in (0.02, 0.4):
        rest = np.full(200_000, (1 - epsilon) / 200_000)
        p = np.append(rest, epsilon)[None]
        want = best_of_n_kl(p, np.arange(p.size, dtype=float)[None], n)
        assert kl_estimate([np.log(epsilon)], n) == pytest.approx(want, abs=1e-3)
    np.testing.assert_allclose(kl_estimate([-40.0, -2000.0, 0.0], n), [kl_bound(n)] * 2 + [0])


def test_the_estimate_is_closer_than_the_bound(rng):
    """Means over what best-of-8 keeps, for policies of few outcomes."""
    n, p = 8, rng.dirichlet(np.ones(6), 50)
    reward = np.tile(np.arange(6.0), (50, 1))
    cdf = np.cumsum(p, axis=1)
    kept = cdf**n - (cdf - p) ** n
    estimate = (kept * kl_estimate(np.log(p).reshape(-1), n).reshape(p.shape)).sum(1)
    exact = best_of_n_kl(p, reward, n)
    assert np.abs(estimate - exact).mean() < 0.2 * np.abs(kl_bound(n) - exact).mean()


def test_mean_curves_are_the_estimates_of_curves(rng):
    proxy, gold = rng.standard_normal((2, 3, 5, 8))
    found = mean_curves(proxy, gold)
    for world in range(3):
        want = curve(proxy[world], gold[world], resamples=2)
        assert found["kl"][world].tolist() == list(want.kl)
        for name in ("gold", "proxy"):
            means = [interval.estimate for interval in getattr(want, name)]
            np.testing.assert_allclose(found[name][world], means, rtol=1e-12)
    assert mean_curves(proxy, gold, [2, 3])["gold"].shape == (3, 2)
    with pytest.raises(InputError, match="shapes differ"):
        mean_curves(proxy, gold[:2])


def test_curve_reports_gain_between_random_and_oracle(rng):
    gold = rng.normal(size=(30, 16))
    perfect = curve(2 * gold + 5, gold)
    assert perfect.n == (1, 2, 4, 8, 16)
    assert perfect.gold == perfect.oracle
    assert perfect.gain == pytest.approx((0.0, 1.0, 1.0, 1.0, 1.0))
    assert perfect.gold[0] == perfect.random
    assert perfect.kl == tuple(kl_bound(n) for n in perfect.n)
    worst = curve(-gold, gold, ns=[1, 16])
    assert worst.gold[1].estimate == pytest.approx(gold.min(1).mean())
    assert worst.gain[1] < 0
    assert worst.proxy[1].estimate == pytest.approx((-gold).max(1).mean())
    flat = curve(gold, np.ones_like(gold), ns=[1, 4])
    assert flat.gain == (0.0, 0.0)


def test_powers_of_two_end_with_k():
    assert powers_of_two(1) == (1,)
    assert powers_of_two(8) == (1, 2, 4, 8)
    assert powers_of_two(12) == (1, 2, 4, 8, 12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: best_of_n([[1.0, 2.0]], [[1.0, 2.0]], 3), r"n: expected 1 to 2 .*, got 3"),
        (lambda: best_of_n([[1.0, 2.0]], [[1.0, 2.0]], 0), r"n: expected 1 to 2 .*, got 0"),
        (lambda: best_of_n([[1.0, 2.0]], [[1.0]], 1), "shapes differ"),
        (lambda: best_of_n([1.0, 2.0], [1.0, 2.0], 1), "proxy: expected 2 axes"),
        (lambda: best_of_n_kl([[0.5, 0.4]], [[1.0, 2.0]], 2), "probability: expected rows"),
        (lambda: best_of_n_kl([[0.5, 0.5]], [[1.0, 2.0]], 0), "n: must be at least 1, got 0"),
        (lambda: kl_estimate([0.1], 2), "logp: a log-prob is above 0"),
        (lambda: best_of_n([[1.0, np.nan]], [[1.0, 2.0]], 1), r"proxy: 1 of 2 not finite"),
    ],
)
def test_says_what_is_wrong(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_a_vote_equals_a_loop_over_all_subsets():
    rng = np.random.default_rng(0)
    answer = rng.integers(0, 3, (4, 6))
    gold = (answer == 1).astype(float)
    weight = rng.random((4, 6))
    for votes in (np.ones((4, 6)), weight):
        want = np.zeros(4)
        for p in range(4):
            each = []
            for drawn in itertools.combinations(range(6), 3):
                count = {
                    a: votes[p, [i for i in drawn if answer[p, i] == a]].sum() for a in range(3)
                }
                top = [a for a in count if np.isclose(count[a], max(count.values()))]
                each.append(np.mean([a == 1 for a in top]))
            want[p] = np.mean(each)
        np.testing.assert_allclose(vote(answer, gold, 3, weight=votes), want)
        some = vote(answer, gold, 3, weight=votes, subsets=19)  # of 20
        np.testing.assert_allclose(some, want, atol=0.5)


def test_a_vote_of_one_or_of_all():
    answer = np.array([[0, 0, 1, 2], [0, 1, 1, 0]])
    gold = np.array([[0, 0, 1.0, 0], [1, 0, 0, 1]])
    np.testing.assert_allclose(vote(answer, gold, 1), gold.mean(1))
    np.testing.assert_array_equal(vote(answer, gold, 4), [0.0, 0.5])
    heavy = np.array([[1, 1, 2.5, 1], [1, 1, 1, 2.0]])
    np.testing.assert_array_equal(vote(answer, gold, 4, weight=heavy), [1.0, 1.0])
    silent, right = [[0, 0, 2, -1]], [[1, 1, 0, 0]]
    assert vote(silent, right, 2)[0] == pytest.approx((1 + 4 * 0.5 + 0) / 6 + 2 * 0.5 / 6)
    with pytest.raises(InputError, match="n: expected 1 to 4"):
        vote(answer, gold, 5)
    with pytest.raises(InputError, match="shapes differ"):
        vote(answer[:1], gold, 2)


def test_a_vote():
    answer = [[5, 5, 2, 3], [1, 2, 3, 3], [1, 1, 2, 2], [-1, -1, -1, 4], [-1, -1, -1, -1]]
    expected = [
        [0.5, 0.5, 0, 0],
        [0, 0, 0.5, 0.5],
        [0.25, 0.25, 0.25, 0.25],
        [0, 0, 0, 1],
        [0.25, 0.25, 0.25, 0.25],
    ]
    np.testing.assert_allclose(vote_probability(answer), expected)
    weight = np.array([[0.1, 0.2, 0.9, 0.3]])
    np.testing.assert_allclose(vote_probability([[5, 5, 2, 3]], weight), [[0, 0, 1, 0]])
    np.testing.assert_allclose(vote_probability([[1, 1, 2, -1]], weight), [[0, 0, 1, 0]])
    level = [[0.5, 0.5, 1.0, 0.1]]  # two answers tie, whatever the numbers of their completions
    np.testing.assert_allclose(vote_probability([[1, 1, 2, 3]], level), [[0.25, 0.25, 0.5, 0]])


@settings(max_examples=60)
@given(st.lists(st.lists(st.integers(-1, 3), min_size=4, max_size=4), min_size=1, max_size=4))
def test_a_vote_is_a_distribution_that_permutes_with_its_voters(answer):
    probability = vote_probability(answer)
    np.testing.assert_allclose(probability.sum(1), 1)
    assert (probability >= 0).all()
    turned = np.roll(answer, 1, axis=1)
    np.testing.assert_allclose(vote_probability(turned), np.roll(probability, 1, axis=1))


def test_votes_that_cannot_be():
    with pytest.raises(InputError, match="shapes differ"):
        vote_probability([[1, 2]], [[1.0]])
    with pytest.raises(InputError, match="weight: expected non-negative"):
        vote_probability([[1, 2]], [[1.0, -1.0]])
