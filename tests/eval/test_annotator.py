import itertools

import numpy as np
import pytest

from irl_jax.eval.annotator import (
    agreement,
    annotate,
    beta_of_error_rate,
    error_rate,
    flipping_annotator,
    logistic_annotator,
)
from irl_jax.types import InputError


@pytest.fixture
def rewards():
    rng = np.random.default_rng(0)
    gold = rng.normal(size=(30, 6)).round(1)
    return gold + rng.normal(size=gold.shape), gold


def test_probabilities_by_hand():
    gap = np.array([-1.0, 0.0, 2.0])
    np.testing.assert_allclose(
        logistic_annotator(3.0)(gap), [1 / (1 + np.exp(3)), 0.5, 1 / (1 + np.exp(-6))]
    )
    assert logistic_annotator(np.inf)(gap).tolist() == [0.0, 0.5, 1.0]
    assert logistic_annotator(0.0)(gap).tolist() == [0.5, 0.5, 0.5]
    np.testing.assert_allclose(flipping_annotator(0.2)(gap), [0.2, 0.5, 0.8])


def test_error_rate_is_the_share_of_drawn_labels_that_are_wrong():
    rng = np.random.default_rng(1)
    gap = rng.normal(size=200_000)
    first = rng.random(gap.shape) < logistic_annotator(1.5)(gap)
    wrong = (first != (gap > 0)).mean()
    assert error_rate(logistic_annotator(1.5), gap) == pytest.approx(wrong, abs=0.005)
    assert error_rate(flipping_annotator(0.3), gap) == pytest.approx(0.3)
    assert error_rate(flipping_annotator(0.3), np.append(gap, np.zeros(50))) == pytest.approx(0.3)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
@pytest.mark.parametrize("rate", [0.01, 0.2, 0.45])
def test_beta_gives_the_error_rate_in_any_unit(rate, scale):
    gap = scale * np.random.default_rng(2).normal(size=500)
    beta = beta_of_error_rate(rate, gap)
    assert error_rate(logistic_annotator(beta), gap) == pytest.approx(rate, abs=1e-9)
    one = beta_of_error_rate(rate, [scale])  # σ(−β Δ) = ε
    assert one == pytest.approx(np.log((1 - rate) / rate) / scale)


def test_the_ends_of_the_range():
    assert beta_of_error_rate(0.0, [1.0]) == np.inf
    assert beta_of_error_rate(0.5, [1.0]) == 0.0


@pytest.mark.parametrize("annotator", [logistic_annotator(2.0), flipping_annotator(0.25)])
def test_agreement_is_the_mean_over_pairs(rewards, annotator):
    proxy, gold = rewards
    proxy[3] = proxy[3, 0]  # a prompt whose rewards tie
    found = agreement(proxy, gold, annotator, resamples=50)
    means = {"proxy": [], "ceiling": []}
    for p, g in zip(proxy, gold, strict=True):
        for name, x in (("proxy", p), ("ceiling", g)):
            total = []
            for i, j in itertools.combinations(range(len(g)), 2):
                prefers = float(annotator(np.array(g[i] - g[j])))
                order = 0.5 if x[i] == x[j] else float(x[i] > x[j])
                total.append(order * prefers + (1 - order) * (1 - prefers))
            means[name].append(np.mean(total))
    assert found.proxy.estimate == pytest.approx(np.mean(means["proxy"]))
    assert found.ceiling.estimate == pytest.approx(np.mean(means["ceiling"]))
    assert found.ceiling.estimate > found.proxy.estimate


def test_closed_forms(rewards):
    proxy, gold = rewards
    gold = gold + 1e-6 * np.arange(6)  # no ties
    flipped = agreement(proxy, gold, flipping_annotator(0.2), resamples=50)
    assert flipped.ceiling.estimate == pytest.approx(0.8)
    assert flipped.error == pytest.approx(0.2)
    clean = agreement(proxy, gold, logistic_annotator(np.inf), resamples=50)
    assert clean.ceiling.estimate == 1.0 and clean.error == 0.0
    # uniform flips shrink every agreement towards one half: ½ + (1 − 2ε)(a − ½)
    assert flipped.proxy.estimate == pytest.approx(0.5 + 0.6 * (clean.proxy.estimate - 0.5))
    coin = agreement(proxy, gold, logistic_annotator(0.0), resamples=50)
    assert coin.proxy.estimate == coin.ceiling.estimate == 0.5
    against = agreement(-gold, gold, flipping_annotator(0.2), resamples=50)
    assert against.proxy.estimate == pytest.approx(0.2)


def test_says_what_is_wrong():
    with pytest.raises(InputError, match=r"^beta: "):
        logistic_annotator(-1.0)
    with pytest.raises(InputError, match=r"^rate: "):
        flipping_annotator(0.6)
    with pytest.raises(InputError, match=r"^gap: all gold rewards are equal"):
        error_rate(logistic_annotator(1.0), [0.0, 0.0])
    with pytest.raises(InputError, match=r"^gold: agreement is about pairs"):
        agreement([[1.0], [2.0]], [[1.0], [2.0]], logistic_annotator(1.0))
    with pytest.raises(InputError, match="shapes differ"):
        agreement([[1.0, 2.0]], [[1.0, 2.0, 3.0]], logistic_annotator(1.0))


def test_annotator_follows_bradley_terry():
    gold = np.tile([[0.0, 0.5]], (4000, 1))
    pairs, flipped = annotate(gold, logistic_annotator(2.0), pairs_per_prompt=28, seed=0)
    wrong = 1 / (1 + np.exp(2.0 * 0.5))
    assert len(pairs) == 4000
    assert flipped == pytest.approx(wrong, abs=4 * np.sqrt(wrong * (1 - wrong) / 4000))
    assert np.mean(pairs[:, 1] == 0) == flipped  # the worse response was chosen


def test_annotator_without_noise_and_without_ties():
    gold = np.array([[0.1, 0.1, -0.3], [0.0, 0.0, 0.0]])
    pairs, flipped = annotate(gold, logistic_annotator(np.inf), pairs_per_prompt=28, seed=0)
    assert flipped == 0.0
    assert sorted(map(tuple, pairs)) == [(0, 0, 2), (0, 1, 2)]
    with pytest.raises(InputError, match="gold: all responses to each prompt are worth the same"):
        annotate(gold[1:], logistic_annotator(1.0), pairs_per_prompt=28, seed=0)


def test_annotations_are_those_of_a_loop():
    """One prompt, one pair, one number at a time."""
    gold = np.random.default_rng(3).normal(size=(6, 4)).round(1)
    prefers, rng, want = logistic_annotator(0.7), np.random.default_rng([5, 1]), []
    for prompt, scores in enumerate(gold):
        pairs = [(i, j) for i, j in itertools.combinations(range(4), 2) if scores[i] != scores[j]]
        for index in rng.permutation(len(pairs))[:3]:
            i, j = pairs[index]
            first = rng.random() < prefers(scores[i] - scores[j])
            want.append((prompt, i, j) if first else (prompt, j, i))
    got, flipped = annotate(gold, prefers, pairs_per_prompt=3, seed=5)
    np.testing.assert_array_equal(got, want)
    assert flipped == np.mean([gold[p, i] < gold[p, j] for p, i, j in want])
