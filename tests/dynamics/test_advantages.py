import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

from irl_jax.dynamics.advantages import (
    baseline_advantages,
    group_advantages,
    leave_one_out,
    nash_advantages,
    whiten,
)
from irl_jax.masking import masked_mean
from irl_jax.types import InputError
from tests.oracles import advantages as oracles


@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**16),
    shape=st.sampled_from([(1, 2), (3, 4)]),
    scale=st.booleans(),
    eps=st.sampled_from([0.0, 1e-6, 1e-1]),
)
def test_equals_oracle(seed, shape, scale, eps):
    reward = np.random.default_rng(seed).standard_normal(shape)
    expected = oracles.group_advantages(reward, scale=scale, eps=eps)
    actual = group_advantages(reward.astype(np.float32), scale=scale, eps=eps)
    np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=1e-4)
    with jax.enable_x64(True):
        actual = group_advantages(reward, scale=scale, eps=eps)
        np.testing.assert_allclose(actual, expected, rtol=1e-9, atol=1e-12)


def test_two_completions_are_at_one_over_root_two():
    reward = jnp.array([[3.0, 7.0]])
    np.testing.assert_allclose(group_advantages(reward), [[-(0.5**0.5), 0.5**0.5]], rtol=1e-5)
    np.testing.assert_allclose(group_advantages(reward, scale=False), [[-2.0, 2.0]])


@settings(max_examples=20, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**16))
def test_zero_mean_unit_deviation_and_affine_invariance(seed):
    reward = np.random.default_rng(seed).standard_normal([2, 5]).astype(np.float32)
    advantage = np.asarray(group_advantages(reward, eps=0.0))
    np.testing.assert_allclose(advantage.mean(-1), 0, atol=1e-5)
    np.testing.assert_allclose(advantage.std(-1, ddof=1), 1, rtol=1e-4)
    np.testing.assert_allclose(
        group_advantages(10 * reward - 3, eps=0.0), advantage, rtol=1e-3, atol=1e-3
    )


@pytest.mark.parametrize("value", [0.0, 0.1, -1e4 / 3, 1e30])
@pytest.mark.parametrize("scale", [True, False])
@pytest.mark.parametrize("eps", [0.0, 1e-6])
def test_equal_rewards_are_exactly_zero_with_a_zero_gradient(value, scale, eps):
    reward = jnp.full([1, 7], value)
    advantage = lambda r: group_advantages(r, scale=scale, eps=eps)
    assert not np.any(advantage(reward))
    assert not np.any(jax.jacobian(advantage)(reward))


def test_almost_equal_rewards_are_finite():
    reward = jnp.array([[0.0, 0.0, 1e-30]])
    advantage = lambda r: group_advantages(r, eps=0.0)
    assert np.isfinite(advantage(reward)).all()
    assert np.isfinite(jax.jacobian(advantage)(reward)).all()


def test_gradient_equals_differences():
    with jax.enable_x64(True):
        reward = np.random.default_rng(0).standard_normal([2, 3])
        check_grads(group_advantages, [reward], order=1, eps=1e-6)


def test_a_bad_group_stays_alone():
    reward = jnp.array([[np.nan, 1.0, 2.0], [1.0, 2.0, 3.0]])
    np.testing.assert_allclose(group_advantages(reward)[1], [-1, 0, 1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("reward", "message"),
    [
        (jnp.zeros([3]), r"reward: expected shape \[_, _\], got \[3\]"),
        (jnp.zeros([2, 3], jnp.int32), "reward: expected a floating dtype, got int32"),
        (jnp.zeros([4, 1]), r"reward: a group needs at least 2 completions, got shape \[4, 1\]"),
    ],
)
def test_bad_rewards_are_named(reward, message):
    with pytest.raises(InputError, match=f"^{message}$"):
        group_advantages(reward)


def test_negative_eps_is_named():
    with pytest.raises(InputError, match=r"^eps: expected a number in"):
        group_advantages(jnp.zeros([1, 2]), eps=-1.0)


def test_leave_one_out_equals_oracle():
    reward = np.random.default_rng(0).standard_normal([3, 4])
    np.testing.assert_allclose(
        leave_one_out(reward.astype(np.float32)),
        oracles.leave_one_out(reward),
        rtol=1e-4,
        atol=1e-5,
    )
    assert not np.any(leave_one_out(jnp.full([1, 3], 0.1)))


def test_group_of_two_without_deviation_is_half_of_leave_one_out():
    reward = np.random.default_rng(1).standard_normal([5, 2]).astype(np.float32)
    np.testing.assert_allclose(
        2 * group_advantages(reward, scale=False), leave_one_out(reward), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("centre", [True, False])
def test_whiten_equals_oracle(centre):
    rng = np.random.default_rng(2)
    advantage, mask = rng.standard_normal([3, 4]) + 2, rng.random([3, 4]) < 0.7
    expected = oracles.whiten(advantage, mask, centre=centre)
    spoilt = np.where(mask, advantage, np.nan).astype(np.float32)
    actual = whiten(spoilt, mask, centre=centre)
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)


def test_whitening_what_is_equal_or_nothing_is_zero():
    ones = np.ones([2, 3], bool)
    assert not np.any(whiten(jnp.full([2, 3], 0.1), ones))
    assert not np.any(whiten(jnp.full([2, 3], jnp.nan), ~ones))
    mask = np.arange(800).reshape(2, 400) < 777
    rounded = jnp.where(mask, 0.3, jnp.nan)  # in float32 the mean of 777 of 0.3 is not 0.3
    assert masked_mean(rounded, mask) != np.float32(0.3)
    assert not np.any(whiten(rounded, mask, eps=0.0))
    gradient = jax.grad(lambda x: whiten(x, ones).sum())(jnp.full([2, 3], 0.1))
    assert np.isfinite(gradient).all()


def test_nash_advantages_equal_oracle():
    rng = np.random.default_rng(3)
    preference, ratio = rng.random([2, 3, 4]), rng.standard_normal([2, 3])
    actual = nash_advantages(np.float32(preference), np.float32(ratio), tau=0.3)
    np.testing.assert_allclose(actual, oracles.nash(preference, ratio, tau=0.3), rtol=1e-4)
    with pytest.raises(InputError, match=r"^log_ratio: expected shape \[2, 3\]"):
        nash_advantages(np.float32(preference), np.float32(ratio[:, :1]), tau=0.3)
    with pytest.raises(InputError, match=r"^tau: "):
        nash_advantages(np.float32(preference), np.float32(ratio), tau=-0.1)


def test_a_baseline_of_another_size_is_named():
    with pytest.raises(InputError, match=r"^baseline: expected shape \[2\], got \[1\]"):
        baseline_advantages(jnp.zeros([2, 3]), jnp.zeros([1]))
