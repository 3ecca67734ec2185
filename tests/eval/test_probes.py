import numpy as np
import pytest

from irl_jax.eval.probes import (
    edit_sensitivity,
    length_bias,
    length_correlation,
    length_residual,
    position_bias,
    without_position,
)
from irl_jax.types import InputError


@pytest.fixture
def rng():
    return np.random.default_rng(0)


# --- length -----------------------------------------------------------------------------


def loop_correlation(reward, length):
    """Σ (r − r̄)(l − l̄) / √(Σ (r − r̄)² Σ (l − l̄)²), term by term."""
    cross = rr = ll = 0.0
    for r_row, l_row in zip(reward, length, strict=True):
        r_mean, l_mean = sum(r_row) / len(r_row), sum(l_row) / len(l_row)
        for r, size in zip(r_row, l_row, strict=True):
            cross += (r - r_mean) * (size - l_mean)
            rr += (r - r_mean) ** 2
            ll += (size - l_mean) ** 2
    return cross / (rr * ll) ** 0.5


@pytest.mark.parametrize("k", [2, 5])
def test_correlation_is_that_of_deviations_from_the_prompt(k, rng):
    length = rng.integers(5, 200, (40, k))
    reward = 0.01 * length + rng.normal(size=(40, k)) + 100 * rng.normal(size=(40, 1))
    found = length_correlation(reward, length, resamples=50)
    assert found.estimate == pytest.approx(loop_correlation(reward, length))


def test_a_reward_that_is_length_is_found_out(rng):
    length = rng.integers(5, 200, (60, 2))
    length[:, 1] += length[:, 0] == length[:, 1]
    bias = length_bias(3.0 * length + rng.normal(size=(60, 1)), length)
    assert bias.correlation == pytest.approx((1, 1, 1))
    assert bias.explained == pytest.approx((1, 1, 1))
    assert bias.prefers_longer == (1, 1, 1)
    assert bias.chosen_longer.estimate == (length[:, 0] > length[:, 1]).mean()
    assert bias.excess.estimate == 1 - bias.chosen_longer.estimate
    assert bias.accuracy_longer == (1, 1, 1)
    assert bias.accuracy_shorter == (0, 0, 0)
    assert bias.accuracy_without == (0.5, 0.5, 0.5)  # nothing is left but ties


def test_a_reward_that_ignores_length_is_cleared(rng):
    length = rng.integers(5, 200, (2000, 2))
    reward = rng.normal(size=(2000, 2)) + np.array([0.5, 0.0])
    bias = length_bias(reward, length, resamples=400)
    assert abs(bias.correlation.estimate) < 0.07
    assert bias.explained.estimate < 0.005
    assert not bias.correlation.excludes(0.0)
    assert not bias.prefers_longer.excludes(0.5)
    right = (reward[:, 0] > reward[:, 1]).mean()
    assert bias.accuracy_longer.estimate == pytest.approx(right, abs=0.04)
    assert bias.accuracy_shorter.estimate == pytest.approx(right, abs=0.04)
    assert bias.accuracy_without.estimate == pytest.approx(right, abs=0.01)


def test_taking_length_off_recovers_what_it_hid(rng):
    """Quality of ±1, buried under a length ten times as large that has no part in it."""
    length = rng.normal(size=(300, 2))
    reward = np.array([1.0, -1.0]) + 10 * length
    bias = length_bias(reward, length, resamples=100)
    assert bias.accuracy_longer.estimate > 0.9 and bias.accuracy_shorter.estimate < 0.3
    assert bias.accuracy_without.estimate > 0.95


def test_no_pair_is_judged_by_a_slope_of_its_own_prompt():
    reward = np.array([[1.0, 0.0], [2.0, 0.0], [0.0, 6.0]])
    length = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 2.0]])
    left = length_residual(reward, length, [0, 0, 1])
    # prompt 0 by the slope of prompt 1, 3; prompt 1 by that of prompt 0, (1 + 2) / 2
    expected = np.array([[-2.0, 0.0], [-1.0, 0.0], [0.0, 3.0]])
    np.testing.assert_allclose(left - left.mean(1, keepdims=True),
                               expected - expected.mean(1, keepdims=True))  # fmt: skip
    np.testing.assert_allclose(left.mean(1), reward.mean(1))


def test_explained_is_the_square_of_the_correlation(rng):
    length = rng.normal(size=(50, 2))
    noise = rng.normal(size=(50, 2))
    for reward in (noise - 3 * length, noise + 3 * length):
        bias = length_bias(reward, length, resamples=200)
        ends = sorted([bias.correlation.low**2, bias.correlation.high**2])
        assert bias.explained == pytest.approx((bias.correlation.estimate**2, *ends))
    none = length_bias(noise, length, resamples=200)
    ends = none.correlation.low**2, none.correlation.high**2
    assert none.explained == pytest.approx((none.correlation.estimate**2, 0.0, max(ends)))


def test_prompts_are_resampled_as_wholes(rng):
    prompt = np.repeat(np.arange(10), 20)
    length = np.tile([[10.0, 20.0]], (200, 1))
    reward = np.where((prompt % 2)[:, None], length, -length)
    naive, clustered = length_bias(reward, length), length_bias(reward, length, prompt)
    assert naive.prefers_longer.estimate == clustered.prefers_longer.estimate == 0.5
    width = lambda x: x.high - x.low
    assert width(clustered.prefers_longer) > 3 * width(naive.prefers_longer)
    assert width(clustered.correlation) > 3 * width(naive.correlation)


def test_pairs_of_one_kind_only():
    bias = length_bias([[2.0, 1.0], [3.0, 1.0]], [[5, 4], [5, 4]])
    assert bias.accuracy_longer == (1, 1, 1)
    assert bias.accuracy_shorter is None
    assert bias.excess == (0, 0, 0)


# --- place ------------------------------------------------------------------------------


def test_a_judge_of_places_alone_and_one_of_content_alone(rng):
    places = position_bias(np.full((30, 2), 2.0))
    assert (places.flipped, places.first, places.bias) == ((1,) * 3, (1,) * 3, (2,) * 3)
    preference = rng.normal(size=30)
    content = position_bias(np.stack([preference, -preference], axis=1))
    assert (content.flipped, content.first) == ((0,) * 3, (0.5,) * 3)
    assert content.bias == pytest.approx((0,) * 3)


def test_a_planted_bias_and_preference_are_told_apart(rng):
    preference, bias = rng.normal(size=4000), 0.7
    log_odds = np.stack([bias + preference, bias - preference], axis=1)
    found = position_bias(log_odds, resamples=100)
    assert found.bias == pytest.approx((bias,) * 3)
    # both orders say "first" where |preference| < bias
    assert found.flipped.estimate == (np.abs(preference) < bias).mean()
    np.testing.assert_allclose(without_position(log_odds), preference)


def test_biases_that_cancel_still_flip():
    found = position_bias([[1.0, 1.0], [-1.0, -1.0]] * 10)
    assert found.flipped == (1, 1, 1)
    assert found.first.estimate == 0.5


def test_a_tie_in_one_order_is_half_a_flip():
    assert position_bias([[1.0, 0.0], [0.0, 0.0]]).flipped.estimate == 0.25


# --- edits ------------------------------------------------------------------------------


def test_size_is_in_standard_deviations_between_answers():
    """Differences of ±2 are a standard deviation of √2; the edit takes 1 off, or nothing."""
    reward = np.array([[2.0, 0.0], [0.0, 2.0], [5.0, 3.0], [1.0, 3.0]])
    changed = np.array([[1, 0], [0, 0], [1, 1], [0, 0]], bool)
    edited = np.where(changed, reward - 1, np.nan)
    found = edit_sensitivity(reward, edited, changed)
    assert found.changed == 3
    assert found.size == pytest.approx((1 / np.sqrt(2),) * 3)
    assert found.shift == pytest.approx((-1 / np.sqrt(2),) * 3)
    assert found.flipped == (0, 0, 0)


def test_orders_that_change_are_counted_among_changed_pairs():
    reward = np.array([[2.0, 1.0], [2.0, 1.0], [2.0, 1.0], [2.0, 1.0]])
    edited = np.array([[0.0, 0.0], [1.0, 0.0], [2.5, 0.0], [np.nan, np.nan]])
    changed = np.array([[1, 0], [1, 0], [1, 0], [0, 0]], bool)
    found = edit_sensitivity(reward, edited, changed)
    assert found.flipped.estimate == (1 + 0.5 + 0) / 3
    assert found.shift.estimate == pytest.approx((-2 - 1 + 0.5) / 3 * np.sqrt(2))


def test_edits_are_resampled_by_prompt(rng):
    prompt = np.repeat(np.arange(10), 20)
    reward = np.tile([[1.0, 0.0]], (200, 1))
    edited = reward + np.stack([prompt % 2, 3 * (prompt % 2)], axis=1)
    changed = np.ones((200, 2), bool)
    naive, clustered = (edit_sensitivity(reward, edited, changed, c) for c in (None, prompt))
    for name in ("size", "shift", "flipped"):
        few, many = getattr(clustered, name), getattr(naive, name)
        assert few.estimate == pytest.approx(many.estimate)
        assert few.high - few.low > 3 * (many.high - many.low), name


def test_an_edit_of_one_prompt_has_no_interval():
    found = edit_sensitivity([[1.0, 0.0], [1.0, 0.0]], [[2.0, 0.0], [0.0, 0.0]], [[1, 0], [0, 0]])
    assert found.changed == 1
    assert found.size is found.shift is found.flipped is None


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: length_bias(np.ones((3, 3)), np.ones((3, 3))), r"reward: expected shape \[N, 2\]"),
        (lambda: length_bias(np.ones((3, 2)), np.ones((2, 2))), "shapes differ"),
        (lambda: length_bias(np.ones((3, 2)), np.ones((3, 2))), "pairs of unequal length"),
        (lambda: length_correlation([1.0], [1.0]), "reward: expected 2 axes"),
        (lambda: position_bias([[1.0, np.nan]]), "log_odds: 1 of 2 not finite"),
        (
            lambda: edit_sensitivity(np.ones((2, 2)), np.ones((2, 2)), np.ones((2, 2))),
            "the same on both sides of every pair",
        ),
        (
            lambda: edit_sensitivity(np.eye(2), np.ones((3, 2)), np.ones((2, 2))),
            "shapes differ",
        ),
    ],
)
def test_says_what_is_wrong(call, message):
    with pytest.raises(InputError, match=message):
        call()
