"""Where the values of prefixes have their minimum."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from irl_jax.losses.prefix import linex, prefix_bellman, prefix_regression, squared
from irl_jax.types import InputError, Rating

SCORE = jnp.array([0.0, 1.0, 3.0])


def ratings(score, columns=1):
    return Rating(
        context=None,
        action=None,
        mask=jnp.ones((len(score), columns), bool),
        score=score,
        weight=jnp.ones(len(score)),
    )


@pytest.mark.parametrize(
    ("cost", "best"),
    [(squared, 4 / 3), (linex(0.5), 0.5 * np.log(np.mean(np.exp(SCORE / 0.5))))],
    ids=["mean", "log-mean-exp"],
)
def test_the_least_is_at_the_mean_or_the_soft_value(cost, best):
    """Three completions share a prefix: one value for all of them."""
    slope = jax.grad(
        lambda v: prefix_regression(jnp.full((3, 1), v), ratings(SCORE), cost=cost).mean
    )
    assert float(slope(best)) == pytest.approx(0, abs=1e-5)
    assert float(slope(best - 0.1)) < 0 < float(slope(best + 0.1))


def test_of_different_lengths_the_least_is_at_the_mean_by_weights_of_the_length():
    """After one prefix a reward of 4 in 1 token, or of 0 in 3: the mean is 2."""
    length = jnp.array([1.0, 3.0])
    batch = ratings(jnp.array([4.0, 0.0]), 3)
    batch = batch.replace(mask=jnp.arange(3) < length[:, None])

    def slope(v, weight):
        value = lambda v: jnp.zeros((2, 3)).at[:, 0].set(v)
        rated = batch.replace(weight=weight)
        return float(jax.grad(lambda v: prefix_regression(value(v), rated, cost=squared).mean)(v))

    assert slope(2.0, length) == pytest.approx(0, abs=1e-6)
    assert slope(2.0, jnp.ones(2)) < -0.1
    assert slope(3.0, jnp.ones(2)) == pytest.approx(0, abs=1e-6)


def test_linex_is_its_tangent_far_out():
    z = jnp.array([14.9, 15.0, 15.1, 1e4])
    cost, slope = jax.vmap(jax.value_and_grad(linex(2.0)))(2.0 * z)
    np.testing.assert_allclose(cost[:2], np.exp(z[:2]) - z[:2] - 1, rtol=1e-5)
    np.testing.assert_allclose(slope, (np.exp(np.minimum(z, 15)) - 1) / 2, rtol=1e-5)
    assert np.isfinite(cost).all()


def test_bellman_looks_one_token_on_and_lets_no_gradient_through():
    value = jnp.array([[1.0, 2.0, 4.0]])
    score = jnp.array([7.0])
    loss = lambda v, f: prefix_bellman(v, f, ratings(score, 3), cost=squared).mean
    following = jnp.roll(value, -1, axis=1)
    assert float(loss(value, following)) == pytest.approx((1 + 4 + 9) / 2 / 3)
    np.testing.assert_allclose(jax.grad(loss)(value, following), [[-1 / 3, -2 / 3, -1]], rtol=1e-6)
    np.testing.assert_array_equal(jax.grad(loss, 1)(value, following), [[0, 0, 0]])


def test_beta_is_positive():
    with pytest.raises(InputError, match="beta"):
        linex(0.0)
