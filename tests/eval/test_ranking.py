import itertools

import numpy as np
import pytest
import scipy.stats

from irl_jax.eval.ranking import (
    auc,
    kendall,
    pair_accuracy,
    pooled,
    ranking_measures,
    spearman,
    within_prompt,
)
from irl_jax.types import InputError


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_pair_accuracy_counts_a_tie_half():
    reward = [[2, 1], [1, 2], [3, 3], [5, 0]]
    assert pair_accuracy(reward).estimate == (1 + 0 + 0.5 + 1) / 4


def test_pair_accuracy_weights_and_leaves_out_padding():
    reward = [[2, 1], [1, 2], [np.nan, np.nan]]
    interval = pair_accuracy(reward, weight=[3, 1, 0])
    assert interval.estimate == 0.75
    assert interval == pair_accuracy(reward[:2], weight=[3, 1])


def test_pair_accuracy_of_a_constant_and_of_a_shifted_reward(rng):
    reward = rng.normal(size=(50, 2))
    assert pair_accuracy(np.zeros((50, 2))) == (0.5, 0.5, 0.5)
    shift = rng.normal(size=(50, 1))  # a function of the prompt changes no preference
    assert pair_accuracy(reward + shift) == pair_accuracy(reward)
    flipped = pair_accuracy(reward[:, ::-1])
    assert flipped.estimate == pytest.approx(1 - pair_accuracy(reward).estimate)


def test_pair_accuracy_interval_resamples_prompts():
    prompts = np.repeat(np.arange(10), 40)
    reward = np.where((prompts % 2 == 0)[:, None], [1, 0], [0, 1])  # right or wrong by prompt
    clustered = pair_accuracy(reward, clusters=prompts)
    naive = pair_accuracy(reward)
    assert clustered.estimate == naive.estimate == 0.5
    assert clustered.high - clustered.low > 4 * (naive.high - naive.low)


def kendall_tau_b(x, y):
    concordant = discordant = ties_x = ties_y = 0
    for i, j in itertools.combinations(range(len(x)), 2):
        a, b = np.sign(x[i] - x[j]), np.sign(y[i] - y[j])
        concordant += a * b > 0
        discordant += a * b < 0
        ties_x += a == 0 and b != 0
        ties_y += b == 0 and a != 0
    some = concordant + discordant
    return (concordant - discordant) / np.sqrt((some + ties_x) * (some + ties_y))


def average_ranks(x):
    return np.array([(np.sum(x < v) + np.sum(x <= v) + 1) / 2 for v in x])


def test_correlations_are_the_textbook_ones_with_ties(rng):
    x, y = rng.integers(0, 6, 25).astype(float), rng.integers(0, 6, 25).astype(float)
    rho = np.corrcoef(average_ranks(x), average_ranks(y))[0, 1]
    assert spearman(x, y) == pytest.approx(rho, abs=1e-12)
    assert kendall(x, y) == pytest.approx(kendall_tau_b(x, y), abs=1e-12)
    assert spearman(np.exp(x), y) == pytest.approx(rho, abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_area_is_a_count_of_pairs(seed):
    rng = np.random.default_rng(seed)
    score, right = rng.integers(0, 6, 40), rng.random(40) < 0.4
    strata = rng.integers(0, 5, 40)
    for groups in (None, strata):
        won = pairs = 0.0
        for i, j in itertools.product(np.flatnonzero(right), np.flatnonzero(~right)):
            if groups is None or groups[i] == groups[j]:
                won += 1.0 if score[i] > score[j] else 0.5 if score[i] == score[j] else 0.0
                pairs += 1
        assert auc(score, right, groups) == pytest.approx(won / pairs)


def test_strata_take_away_what_they_hold():
    """A score that knows the prompt alone is perfect over all, and chance within prompts."""
    right = np.array([1, 1, 0, 1, 0, 0])
    prompt = np.array([0, 0, 0, 1, 1, 1])
    assert auc(-prompt, right) > 0.6
    assert auc(-prompt, right, prompt) == 0.5
    assert auc(right, right, prompt) == 1.0


def test_area_where_nothing_can_be_compared():
    assert auc([], []) == auc([1.0, 2.0], [1, 1]) == auc([1.0, 2.0], [1, 0], [0, 1]) == 0.5
    with pytest.raises(InputError, match="right: expected 0 and 1 alone"):
        auc([1.0, 2.0], [1, 0.5])


def test_within_prompt_ignores_what_only_the_prompt_decides(rng):
    prompt = np.repeat(np.arange(12), 6)
    gold = rng.normal(size=72) + 100 * prompt
    between = within_prompt(spearman, 100.0 * prompt, gold, prompt)  # knows the prompt only
    assert between == (0.0, 0.0, 0.0)
    assert pooled(spearman, 100.0 * prompt, gold, prompt).estimate > 0.95
    exact = within_prompt(kendall, gold - 500 * prompt, gold, prompt)  # knows the order only
    assert exact == pytest.approx((1.0, 1.0, 1.0))
    assert pooled(spearman, gold - 500 * prompt, gold, prompt).estimate < 0


def test_within_prompt_is_the_mean_over_prompts_with_an_order(rng):
    gold = np.array([1, 2, 3, 1, 2, 3, 7, 7, 7.0])
    proxy = np.array([1, 2, 3, 1, 3, 2, 1, 2, 3.0])
    labels = np.repeat([4, 5, 6], 3)
    assert within_prompt(kendall, proxy, gold, labels).estimate == pytest.approx((1 + 1 / 3) / 2)
    shuffled = rng.permutation(9)
    again = within_prompt(kendall, proxy[shuffled], gold[shuffled], labels[shuffled])
    assert again.estimate == pytest.approx((1 + 1 / 3) / 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pair_accuracy(np.zeros((3, 3))), r"reward: expected shape \[N, 2\], got \[3, 3\]"),
        (lambda: pair_accuracy(np.zeros((2, 2)), weight=[1]), "shapes differ"),
        (lambda: pair_accuracy(np.zeros((2, 2)), weight=[0, 0]), "weight: expected non-negative"),
        (lambda: pair_accuracy(np.zeros((2, 2)), clusters=[1]), "shapes differ"),
        (lambda: pair_accuracy([[0, np.nan], [0, 1]]), "reward: 1 of 4 not finite"),
        (lambda: pooled(spearman, [1, 2], [1, 2, 3]), "shapes differ"),
        (
            lambda: within_prompt(spearman, [1, 2, 3], [5, 5, 5], [0, 0, 1]),
            "gold: 0 of 2 prompts have gold rewards that differ",
        ),
    ],
)
def test_says_what_is_wrong(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_ranking_measures_by_hand():
    rng = np.random.default_rng(0)
    gold = rng.normal(size=(6, 5)).round(1)
    gold[2] = 0.3
    reward = gold + rng.normal(size=gold.shape)
    found = ranking_measures(reward, gold, best_of=5)
    right = [
        (r[i] > r[j]) == (g[i] > g[j])
        for r, g in zip(reward, gold, strict=True)
        for i in range(5)
        for j in range(i)
        if g[i] != g[j]
    ]
    assert found["pair accuracy"] == pytest.approx(np.mean(right))
    rho = [scipy.stats.spearmanr(reward[p], gold[p]).statistic for p in (0, 1, 3, 4, 5)]
    assert found["rank correlation"] == pytest.approx(np.mean(rho))
    assert found["best of n"] == pytest.approx(gold[np.arange(6), reward.argmax(1)].mean())
