import jax
import jax.numpy as jnp
import numpy as np
import pytest

from irl_jax.losses.rating import binary_cross_entropy, increasing, ordinal, regression
from irl_jax.types import Rating


def ratings(score, weight=1.0):
    score = jnp.asarray(score, jnp.float32)
    weight = jnp.broadcast_to(jnp.asarray(weight, jnp.float32), score.shape)
    return Rating(None, action=None, mask=None, score=score, weight=weight)


def test_regression_pulls_to_the_mean_score():
    batch = ratings([1.0, 2.0, 6.0], weight=[1.0, 1.0, 2.0])
    gradient = jax.grad(lambda r: regression(jnp.full(3, r), batch).total)
    assert gradient(15 / 4) == pytest.approx(0, abs=1e-5)
    assert regression(jnp.array([1.0, 2.0, 3.0]), batch).mean == 18 / 4


def test_the_optimal_logit_is_the_log_odds_of_good():
    batch = ratings([1.0, 0.0], weight=[3.0, 1.0])
    gradient = jax.grad(lambda r: binary_cross_entropy(jnp.full(2, r), batch).total)
    assert gradient(np.log(3.0, dtype=np.float32)) == pytest.approx(0, abs=1e-6)


def test_accuracy_of_good_and_bad():
    loss = binary_cross_entropy(jnp.array([2.0, 2.0, -1.0, 0.0]), ratings([1.0, 0.0, 0.0, 1.0]))
    assert loss.metrics["accuracy"][0] == 2.5


def test_two_categories_are_good_and_bad():
    reward, score = jnp.array([0.3, -2.0, 1.0]), [0.0, 1.0, 1.0]
    expected = binary_cross_entropy(reward - 0.4, ratings(score)).total
    actual = ordinal(reward, ratings(score), cutpoints=jnp.array([0.4])).total
    np.testing.assert_allclose(actual, expected, rtol=1e-6)


def test_categories_are_all_there_is():
    cutpoints = jnp.array([-1.0, 0.2, 0.3, 2.0])
    loss = lambda s: ordinal(jnp.array([0.7]), ratings([s]), cutpoints=cutpoints).total
    assert sum(np.exp(-loss(s)) for s in range(5)) == pytest.approx(1, rel=1e-5)


def test_reward_and_cutpoints_behind_the_ratings_are_stationary():
    reward, raw = jnp.array([-1.0, 0.3, 1.5]), jnp.array([-0.8, 0.1, -0.4])
    who = jnp.repeat(jnp.arange(3), 4)
    score = jnp.tile(jnp.arange(4.0), 3)
    one = lambda r, s: ordinal(r[None], ratings(s[None]), cutpoints=increasing(raw)).total
    batch = ratings(score, weight=jnp.exp(-jax.vmap(one)(reward[who], score)))
    total = lambda r, c: ordinal(r[who], batch, cutpoints=increasing(c)).total
    for gradient in jax.grad(total, (0, 1))(reward, raw):
        np.testing.assert_allclose(gradient, 0, atol=2e-6)
    assert np.abs(jax.grad(total)(1.3 * reward, raw)).max() > 0.02


def test_ordinal_accuracy_counts_the_category_that_the_reward_lies_in():
    reward = jnp.array([-5.0, 0.0, 5.0])
    loss = ordinal(reward, ratings([0.0, 0.0, 2.0]), cutpoints=jnp.array([-1.0, 1.0]))
    assert loss.metrics["accuracy"][0] == 2


def test_increasing_increases():
    cutpoints = increasing(jnp.array([3.0, -5.0, 2.0, -9.0]))
    assert cutpoints[0] == 3.0
    assert (jnp.diff(cutpoints) > 0).all()
