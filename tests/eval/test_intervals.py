from functools import partial

import numpy as np
import pytest
import scipy.stats

from irl_jax.eval.intervals import (
    Interval,
    adjusted,
    bootstrap,
    expanded_tail,
    holm,
    p_value,
    paired_difference,
    proportion,
    t_interval,
)
from irl_jax.types import InputError


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def textbook(x, level=0.95):
    half = scipy.stats.t.ppf((1 + level) / 2, len(x) - 1) * x.std(ddof=1) / np.sqrt(len(x))
    return x.mean() - half, x.mean() + half


@pytest.mark.parametrize("n", [8, 20, 100])
def test_mean_of_symmetric_data_gets_the_t_interval(n):
    half = np.random.default_rng(n).normal(size=n // 2)
    x = 5 + np.concatenate([half, -half])
    interval = bootstrap(x, resamples=40_000, seed=1)
    low, high = textbook(x)
    assert interval.estimate == pytest.approx(5.0, abs=1e-12)
    assert interval.low == pytest.approx(low, abs=0.05 * (high - low))
    assert interval.high == pytest.approx(high, abs=0.05 * (high - low))


def test_covers_as_often_as_it_says():
    rng = np.random.default_rng(2)
    covered = [
        not bootstrap(rng.normal(1.0, 1.0, 12), resamples=600, seed=i).excludes(1.0)
        for i in range(500)
    ]
    # binomial standard error of 500 trials at 0.95 is 0.010; a plain percentile covers 0.91
    assert 0.925 <= np.mean(covered) <= 0.975


def test_clusters_cover_where_rows_are_copies(rng):
    """20 prompts, 30 equal completions each: the evidence of 20 rows, not of 600."""
    prompts = rng.normal(size=20)
    rows, labels = np.repeat(prompts, 30), np.repeat(np.arange(20), 30)
    alone = bootstrap(prompts, seed=3)
    clustered = bootstrap(rows, clusters=labels, seed=3)
    assert clustered == pytest.approx(alone, abs=1e-12)
    naive = bootstrap(rows, seed=3)
    assert naive.high - naive.low < 0.25 * (clustered.high - clustered.low)


def test_clusters_may_be_interleaved_named_and_of_unequal_size():
    rows = np.array([1.0, 10.0, 1.0, 10.0, 10.0])
    interval = bootstrap(rows, clusters=["a", "b", "a", "b", "b"], seed=0)
    # a resample is {a,a}, {a,b} or {b,b}: means 1, 32/5, 10; two clusters reach both ends
    assert interval.estimate == pytest.approx(32 / 5)
    assert (interval.low, interval.high) == (1.0, 10.0)


def test_statistic_of_several_columns(rng):
    rows = np.stack([rng.normal(size=50), rng.normal(size=50) + 3], axis=1)
    interval = bootstrap(rows, lambda r: r[:, 1].mean() - r[:, 0].mean(), seed=0)
    assert interval == pytest.approx(bootstrap(rows[:, 1] - rows[:, 0], seed=0), abs=1e-12)


def test_a_constant_has_no_width_and_the_seed_decides(rng):
    assert bootstrap(np.ones(9)) == Interval(1.0, 1.0, 1.0)
    x = rng.normal(size=30)
    assert bootstrap(x, seed=1) == bootstrap(x, seed=1) != bootstrap(x, seed=2)


def test_paired_difference_drops_what_is_shared(rng):
    difficulty = rng.normal(0, 100, size=40)
    gain = np.tile([0.5, 1.5], 20)
    interval = paired_difference(difficulty, difficulty + gain, seed=0)
    low, high = textbook(gain)
    assert interval.estimate == pytest.approx(1.0)
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=0.02)
    assert interval.excludes(0.0)
    assert not interval.excludes(1.0)


def test_level_widens(rng):
    x = rng.normal(size=30)
    narrow, wide = bootstrap(x, level=0.5), bootstrap(x, level=0.99)
    assert wide.low < narrow.low < narrow.high < wide.high


def test_expanded_tail_is_the_t_quantile_in_normal_units():
    for n in (2, 5, 50):
        z = scipy.stats.norm.ppf(expanded_tail(0.9, n))
        assert -z * np.sqrt((n - 1) / n) == pytest.approx(scipy.stats.t.ppf(0.95, n - 1), rel=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bootstrap([]), "values: is empty"),
        (
            lambda: bootstrap([1.0, np.nan, np.inf]),
            r"values: 2 of 3 not finite, the first at \[1\]",
        ),
        (lambda: bootstrap([1.0]), "at least 2 clusters"),
        (lambda: bootstrap([1.0, 2.0], clusters=[7, 7]), "at least 2 clusters"),
        (
            lambda: bootstrap([1.0, 2.0], clusters=[7]),
            r"clusters: expected 2 labels, got shape \[1\]",
        ),
        (lambda: paired_difference([1.0, 2.0], [1.0]), r"shapes differ: before \[2\], after \[1\]"),
        (lambda: paired_difference([[1.0]], [[1.0]]), "before: expected 1 axes"),
    ],
)
def test_says_what_is_wrong(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_reads_as_text():
    assert str(Interval(0.1234, -0.5, 2.0)) == "0.123 [-0.500, 2.000]"


def test_a_resample_is_as_large_as_the_sample(rng):
    assert bootstrap(rng.normal(size=7), len) == (7, 7, 7)
    assert bootstrap(rng.normal(size=6), len, clusters=[0, 0, 1, 1, 2, 2]) == (6, 6, 6)


@pytest.mark.parametrize(("right", "n"), [(0, 12), (1, 30), (77, 200), (8, 8)])
def test_proportion_is_wilsons_interval(right, n):
    found = proportion(np.arange(n) < right, level=0.9)
    theirs = scipy.stats.binomtest(right, n).proportion_ci(0.9, method="wilson")
    assert found == pytest.approx((right / n, theirs.low, theirs.high))


def test_proportion_takes_shares_and_nothing_else():
    assert proportion([0.5, 0.5]) == proportion([0.0, 1.0])
    for values in ([], [0.0, 1.5], [-0.1]):
        with pytest.raises(InputError, match="values"):
            proportion(values)


def test_students_interval_is_that_of_the_t_test(rng):
    x = rng.normal(2.0, 3.0, 5)
    for level in (0.8, 0.95):
        known = scipy.stats.ttest_1samp(x, 0.0).confidence_interval(level)
        assert t_interval(x, level=level) == pytest.approx((x.mean(), known.low, known.high))


def test_of_four_seeds_only_students_interval_covers_as_often_as_it_says():
    rng = np.random.default_rng(3)
    draws = rng.normal(1.0, 1.0, (2000, 4))
    covers = lambda interval, x: not interval(x).excludes(1.0)
    assert np.mean([covers(t_interval, x) for x in draws]) == pytest.approx(0.95, abs=0.012)
    resampled = partial(bootstrap, resamples=400)
    assert np.mean([covers(resampled, x) for x in draws[:300]]) < 0.9


def test_a_single_seed_has_no_interval():
    with pytest.raises(InputError, match="values: an interval needs at least 2 of them, got 1"):
        t_interval([1.0])


def test_the_p_value_is_that_of_the_t_test(rng):
    for n in (2, 5, 24):
        x = rng.normal(0.5, 1.0, n)
        assert p_value(x) == pytest.approx(scipy.stats.ttest_1samp(x, 0.0).pvalue, rel=1e-9)
        assert (p_value(x) < 0.05) == t_interval(x).excludes(0.0)
    assert p_value([0.0, 0.0]) == 1.0
    assert p_value([2.0, 2.0]) == 0.0
    with pytest.raises(InputError, match="values: a test needs at least 2 of them, got 1"):
        p_value([1.0])


def holm_oracle(p, alpha):
    """What Holm 1979 rejects: sorted, while p_(i) <= alpha / (M - i + 1), and then no more."""
    rejected = set()
    for rank, i in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        if p[i] > alpha / (len(p) - rank):
            break
        rejected.add(i)
    return rejected


@pytest.mark.parametrize("m", [1, 2, 7, 20])
def test_holm_rejects_what_the_procedure_of_the_paper_does(m, rng):
    for _ in range(50):
        p = rng.beta(0.3, 2.0, m)
        for alpha in (0.01, 0.05, 0.3):
            assert set(np.flatnonzero(holm(p) <= alpha)) == holm_oracle(p, alpha)


def test_holm_by_hand():
    assert holm([0.04, 0.01, 0.03, 0.005]) == pytest.approx([0.06, 0.03, 0.06, 0.02])
    assert holm([0.02, 0.02]) == pytest.approx([0.04, 0.04])
    assert holm([0.9, 0.8]) == pytest.approx([1.0, 1.0])
    assert holm([0.03]) == pytest.approx([0.03])
    assert holm([]).shape == (0,)
    for p in ([-0.1], [1.1], [np.nan]):
        with pytest.raises(InputError, match="p: "):
            holm(p)


def test_a_column_is_adjusted_by_name(rng):
    column = {name: rng.normal(m, 1.0, 8) for name, m in (("a", 0.0), ("b", 3.0), ("c", 1.0))}
    p = [scipy.stats.ttest_1samp(x, 0.0).pvalue for x in column.values()]
    assert adjusted(column) == pytest.approx(dict(zip(column, holm(p), strict=True)))
    assert adjusted({}) == {}


def test_holm_is_seldom_wrong_anywhere_where_single_intervals_often_are(rng):
    """20 comparisons of 8 worlds, in none of which there is a difference."""
    tables = rng.normal(size=(300, 20, 8))
    p = np.array([[p_value(row) for row in table] for table in tables])
    assert np.mean((p < 0.05).any(1)) > 0.5  # 1 - 0.95**20 = 0.64
    wrong = np.mean([(holm(row) <= 0.05).any() for row in p])
    assert wrong < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 300)
