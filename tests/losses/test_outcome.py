import jax
import jax.numpy as jnp
import numpy as np
import pytest

from irl_jax.losses.outcome import token_verifier
from irl_jax.losses.rating import binary_cross_entropy
from irl_jax.types import Rating


def responses(score, mask, weight=1.0):
    score, mask = jnp.asarray(score, jnp.float32), jnp.asarray(mask, bool)
    weight = jnp.broadcast_to(jnp.asarray(weight, jnp.float32), score.shape)
    return Rating(None, action=None, mask=mask, score=score, weight=weight)


def test_of_one_token_it_is_the_solution_level_loss():
    logits, score, weight = jnp.array([0.3, -2.0, 5.0]), [1.0, 0.0, 0.0], jnp.array([1.0, 2.0, 0.5])
    batch = responses(score, np.ones([3, 1]), weight)
    one, whole = token_verifier(logits[:, None], batch), binary_cross_entropy(logits, batch)
    np.testing.assert_allclose([one.total, one.weight], [whole.total, whole.weight], rtol=1e-6)
    np.testing.assert_allclose(one.metrics["accuracy_last"], whole.metrics["accuracy"], rtol=1e-6)


def test_the_optimum_is_the_chance_of_a_right_end_given_what_is_written():
    """A policy writes a or b, then c or d; ends are right with the given probability."""
    first = np.array([0, 0, 1, 1])
    probability = np.array([0.1, 0.3, 0.45, 0.15])  # of ac, ad, bc, bd
    right = np.array([0.9, 0.2, 0.5, 0.6])
    value = [
        (probability * right)[first == f].sum() / probability[first == f].sum() for f in (0, 1)
    ]
    logit = lambda p: jnp.log(p) - jnp.log1p(-p)
    optimum = jnp.stack([logit(np.array(value)[first]), logit(right)], axis=1)
    batch = responses(right, np.ones([4, 2]), probability)
    by_prefix = lambda start, end: jnp.stack([start[first], end], axis=1)
    loss = lambda start, end: token_verifier(by_prefix(start, end), batch).total
    for gradient in jax.grad(loss, (0, 1))(optimum[np.array([0, 2]), 0], optimum[:, 1]):
        np.testing.assert_allclose(gradient, 0, atol=1e-6)


def test_of_different_lengths_the_optimum_is_the_value_by_weights_of_the_length():
    """One prefix, then a right end of 1 token or a wrong one of 3, of the same probability."""
    length = np.array([1, 3])
    mask = np.arange(3) < length[:, None]
    start = lambda z: jnp.zeros([2, 3]).at[:, 0].set(z)
    slope = lambda z, w: jax.grad(
        lambda z: token_verifier(start(z), responses([1, 0], mask, w)).total
    )(z)
    assert float(slope(0.0, length)) == pytest.approx(0, abs=1e-6)  # even odds: the value
    assert float(slope(0.0, 1.0)) < -0.1
    assert float(slope(np.log(3.0), 1.0)) == pytest.approx(0, abs=1e-6)


def test_every_response_counts_the_same_however_long():
    mask = np.arange(4) < np.array([[4], [1]])
    logits = jnp.where(mask, jnp.array([[1.0], [-3.0]]), 0.0)
    loss = token_verifier(logits, responses([1.0, 1.0], mask))
    assert loss.mean == pytest.approx((np.log1p(np.exp(-1)) + np.log1p(np.exp(3))) / 2, rel=1e-6)
    by_token = token_verifier(logits, responses([1.0, 1.0], mask, mask.sum(1)))
    expected = (4 * np.log1p(np.exp(-1)) + np.log1p(np.exp(3))) / 5
    assert by_token.mean == pytest.approx(expected, rel=1e-6)


def test_accuracy_at_every_token_and_at_the_last():
    mask = np.arange(3) < np.array([[3], [2]])
    loss = token_verifier(jnp.array([[-1.0, 1.0, 0.0], [-1.0, 2.0, 9.0]]), responses([1, 0], mask))
    assert loss.metrics["accuracy"][0] == pytest.approx((0 + 1 + 0.5) / 3 + 0.5)
    assert loss.metrics["accuracy_last"][0] == 0.5
