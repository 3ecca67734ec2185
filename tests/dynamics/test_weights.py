import jax
import jax.numpy as jnp
import numpy as np
import pytest

from irl_jax.dynamics.weights import (
    above,
    best,
    density_ratio,
    distinct,
    exponential_weight,
    has_signal,
    masked_weight,
    rescale_by_signal,
    select_completions,
    staleness_mask,
    truncated_weight,
)
from irl_jax.losses.policy import weighted_sft
from irl_jax.losses.rating import binary_cross_entropy
from irl_jax.types import Group, InputError, Rating
from tests.oracles.language import Language

MASK = np.array([[True, True, False], [True, False, False]])
LOGP = np.float32([[-1.0, -2.0, np.nan], [-0.5, np.nan, np.nan]])
STALE = np.float32([[-1.5, -1.0, np.nan], [-2.0, np.nan, np.nan]])


def test_truncated_weights_are_ratios_up_to_a_cap():
    expected = [[np.exp(0.5), np.exp(-1.0), 0], [2.0, 0, 0]]
    np.testing.assert_allclose(truncated_weight(LOGP, STALE, MASK, cap=2.0), expected, rtol=1e-6)


def test_one_weight_of_a_whole_completion_is_at_each_of_its_tokens():
    """½ − 1 and 1½ nats."""
    weight = truncated_weight(LOGP, STALE, MASK, cap=2.0, whole=True)
    np.testing.assert_allclose(weight, [[np.exp(-0.5)] * 2 + [0], [2.0, 0, 0]], rtol=1e-6)


@pytest.mark.parametrize(
    ("low", "high", "whole", "expected"),
    [
        (0.5, 5.0, False, [[np.exp(0.5), 0, 0], [np.exp(1.5), 0, 0]]),
        (0.0, 2.0, False, [[np.exp(0.5), np.exp(-1.0), 0], [0, 0, 0]]),
        (0.0, 2.0, True, [[np.exp(-0.5)] * 2 + [0], [0, 0, 0]]),
    ],
)
def test_masked_weights_are_ratios_within_bounds_and_nothing_beyond(low, high, whole, expected):
    weight = masked_weight(LOGP, STALE, MASK, low=low, high=high, whole=whole)
    np.testing.assert_allclose(weight, expected, rtol=1e-6)
    with pytest.raises(InputError, match=r"^high: expected a number in \("):
        masked_weight(LOGP, STALE, MASK, low=high, high=high)


def test_weights_of_whole_completions_correct_the_gradient_and_those_of_tokens_do_not():
    """Over every completion of a small language, sampled by another policy, exactly."""
    language = Language(3, 3)
    new, old = language.draw(0), language.draw(1)
    worth = np.random.default_rng(2).standard_normal(len(language.action))
    expected = language.gradient(new, worth)
    scores, chance = language.token_scores(new), language.chance(old)

    def gradient(weigh, **bounds):
        with jax.enable_x64(True):
            weight = weigh(language.logp(new), language.logp(old), language.mask, **bounds)
        return np.einsum("n,nt,ntsv->sv", chance * worth, np.asarray(weight), scores)

    whole = gradient(truncated_weight, cap=np.inf, whole=True)
    np.testing.assert_allclose(whole, expected, rtol=1e-9, atol=1e-12)
    tokens = gradient(truncated_weight, cap=np.inf)
    assert np.abs(tokens - expected).max() > 0.2 * np.abs(expected).max()
    ratio = language.chance(new) / chance
    kept = np.where((ratio >= 0.5) & (ratio <= 2.0), worth, 0.0)
    masked = gradient(masked_weight, low=0.5, high=2.0, whole=True)
    np.testing.assert_allclose(masked, language.gradient(new, kept), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    "weigh",
    [
        lambda *x: truncated_weight(*x, cap=2.0),
        lambda *x: masked_weight(*x, low=0.1, high=2.0, whole=True),
    ],
)
def test_weights_of_stale_samples_are_constants(weigh):
    total = lambda logp, stale: weigh(logp, stale, MASK).sum()
    gradients = jax.grad(total, argnums=(0, 1))(jnp.where(MASK, LOGP, 0), jnp.where(MASK, STALE, 0))
    assert not any(np.any(g) for g in gradients)


@pytest.mark.parametrize(
    ("advantage", "limit", "expected"),
    [
        ([-1, -1], 0.2, [False, True]),
        ([1, 1], 0.2, [True, True]),
        ([0, 0], 0.2, [True, True]),
        ([-1, -1], 0.3, [True, True]),
    ],
)
def test_only_stale_completions_of_negative_advantage_are_left_out(advantage, limit, expected):
    """KL estimates a token: ¼ and −1½ nats."""
    got = staleness_mask(LOGP, STALE, np.float32(advantage), MASK, limit=limit)
    assert got.tolist() == expected


def test_exponential_weights():
    weight = exponential_weight(jnp.array([0.0, 2.0, 1e6]), temperature=2.0, cap=20.0)
    np.testing.assert_allclose(weight, [1, np.e, 20], rtol=1e-6)


def test_a_density_ratio_turns_prompts_of_one_kind_into_those_of_the_other():
    """Three prompts, each kind with its shares of them; the classifier is at its optimum."""
    good, bad = jnp.array([0.6, 0.3, 0.1]), jnp.array([0.1, 0.3, 0.6])
    logit = jnp.log(good / bad)
    kinds = Rating(None, None, None, score=jnp.repeat(jnp.array([1.0, 0.0]), 3),
                   weight=jnp.concatenate([good, bad]))  # fmt: skip
    slope = jax.grad(lambda x: binary_cross_entropy(jnp.tile(x, 2), kinds).total)(logit)
    np.testing.assert_allclose(slope, 0, atol=1e-7)
    np.testing.assert_allclose(bad * density_ratio(logit, low=0.0, high=100.0), good, rtol=1e-6)


def test_a_density_ratio_is_bounded():
    logit = jnp.array([-jnp.inf, -1e4, 0.0, 1e4])
    assert density_ratio(logit, low=0.25, high=8.0).tolist() == [0.25, 0.25, 1.0, 8.0]
    assert density_ratio(logit, low=0.0, high=8.0).tolist() == [0.0, 0.0, 1.0, 8.0]
    with pytest.raises(InputError, match=r"^high: expected a number in \(2.0"):
        density_ratio(logit, low=2.0, high=1.0)


def test_groups_that_teach_nothing_are_made_up_for():
    advantage = jnp.array([[0.0, 0.0], [1.0, -1.0], [0.0, 0.0], [2.0, -2.0]])
    np.testing.assert_allclose(rescale_by_signal(advantage), 2 * advantage, rtol=1e-6)
    assert not np.any(rescale_by_signal(0 * advantage))
    assert has_signal(jnp.array([[0.1, 0.1], [0.0, 1.0]])).tolist() == [False, True]


def test_selection_makes_the_mean_over_what_is_kept():
    """RAFT of right and distinct completions, by hand."""
    action = jnp.array([[[3, 4, 9], [3, 4, 7], [5, 9, 9], [6, 6, 6]]])
    mask = jnp.arange(3) < jnp.array([[2, 2, 1, 3]])[..., None]
    reward = jnp.array([[1.0, 1.0, 1.0, 0.0]])
    logp = -jnp.arange(1.0, 13.0).reshape(1, 4, 3)
    group = Group(None, action, mask, jnp.zeros_like(logp), reward, reward > 0)
    keep = above(reward, threshold=1.0) & distinct(action, mask)
    assert keep.tolist() == [[True, False, True, False]]
    loss = weighted_sft(logp, select_completions(group, keep), advantage=jnp.ones([1, 4]))
    assert loss.mean == pytest.approx((1 + 2 + 7) / 3)
    assert best(reward).tolist() == [[True, False, False, False]]
    with pytest.raises(InputError, match=r"^keep: expected shape"):
        select_completions(group, keep[:, :1])
