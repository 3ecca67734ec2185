import jax
import jax.numpy as jnp
import numpy as np
import pytest

from irl_jax.losses.inverse import causal_likelihood
from irl_jax.losses.mixture import (
    annotator_log_likelihood,
    intention_likelihood,
    mixture_likelihood,
    posterior,
)
from irl_jax.losses.preference import bradley_terry
from irl_jax.types import AnnotatorBatch, Preference, Trajectory


def panel(made):
    return AnnotatorBatch(mask=jnp.asarray(made), weight=jnp.ones(len(made)))


def drawn(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def test_one_component_is_bradley_terry():
    reward = drawn(0, 3, 4, 2, 1)
    loss = mixture_likelihood(reward, panel(np.ones([3, 4], bool)), logits=jnp.zeros(1))
    plain = bradley_terry(
        reward.reshape(12, 2), Preference.without_tokens(jnp.ones(12, jnp.float32))
    )
    assert float(loss.total) == pytest.approx(float(plain.total), rel=1e-6)
    assert loss.metrics["entropy"][0] == 0
    accuracy = plain.metrics["accuracy"][0] / 12
    assert float(loss.metrics["accuracy"][0]) / 3 == pytest.approx(float(accuracy))


def test_two_opposite_rewards_explain_everybody_at_the_price_of_a_bit():
    """Sure of all comparisons but of which reward: log 2 an annotator, however many there are."""
    sure = 40.0 * jnp.array([[1.0, -1.0], [0.0, 0.0]])
    reward = jnp.tile(sure, [2, 5, 1, 1])
    loss = mixture_likelihood(reward, panel(np.ones([2, 5], bool)), logits=jnp.zeros(2))
    assert float(loss.mean) == pytest.approx(np.log(2), rel=1e-6)
    assert float(loss.metrics["entropy"][0]) == pytest.approx(0, abs=1e-6)


def test_the_gradient_of_a_component_is_its_own_times_the_posterior():
    reward, made = drawn(1, 2, 3, 2, 2), np.array([[1, 1, 0], [1, 1, 1]], bool)
    logits = jnp.array([0.3, -0.5])
    gradient = jax.grad(lambda r: mixture_likelihood(r, panel(made), logits=logits).total)(reward)
    belief = posterior(annotator_log_likelihood(reward, jnp.asarray(made)), logits)
    alone = jax.grad(lambda r: -annotator_log_likelihood(r, jnp.asarray(made)).sum())(reward)
    np.testing.assert_allclose(gradient, alone * belief[:, None, None], rtol=1e-4, atol=1e-6)


def test_without_comparisons_the_posterior_is_the_prior():
    none = annotator_log_likelihood(drawn(2, 1, 3, 2, 2), jnp.zeros([1, 3], bool))
    np.testing.assert_array_equal(none, 0.0)
    np.testing.assert_allclose(
        posterior(none, jnp.log(jnp.array([3.0, 1.0]))), [[0.75, 0.25]], rtol=1e-6
    )


def test_order_of_the_comparisons_does_not_matter():
    reward = drawn(3, 1, 6, 2, 3)
    loss = lambda r: mixture_likelihood(r, panel(np.ones([1, 6], bool)), logits=jnp.zeros(3)).total
    np.testing.assert_allclose(loss(reward), loss(reward[:, ::-1]), rtol=1e-6)


def test_shares_and_rewards_behind_the_population_are_stationary():
    """All outcomes of two comparisons, in the proportions of a mixture of two annotators."""
    ahead = jnp.array([[1.5, -0.7], [-0.4, 2.0]])  # of the first side: comparison, component
    logits = jnp.array([0.6, -0.2])
    first = jnp.array([[1, 1], [1, 0], [0, 1], [0, 0]], bool)  # wins of the first side

    def reward(ahead):
        sided = jnp.where(first[..., None], ahead, -ahead)
        return jnp.stack([sided, jnp.zeros_like(sided)], axis=2)

    probability = jax.nn.softmax(logits) * jnp.exp(
        annotator_log_likelihood(reward(ahead), jnp.ones([4, 2], bool))
    )
    batch = AnnotatorBatch(mask=jnp.ones([4, 2], bool), weight=probability.sum(-1))
    assert float(batch.weight.sum()) == pytest.approx(1, rel=1e-6)
    total = lambda ahead, logits: mixture_likelihood(reward(ahead), batch, logits=logits).total
    for gradient in jax.grad(total, argnums=(0, 1))(ahead, logits):
        np.testing.assert_allclose(gradient, 0, atol=1e-6)
    assert np.abs(jax.grad(total)(1.5 * ahead, logits)).max() > 0.01


def test_annotators_without_comparisons_do_not_count():
    reward = drawn(4, 2, 3, 2, 2)
    made = np.array([[1, 1, 1], [0, 0, 0]], bool)
    loss = mixture_likelihood(reward, panel(made), logits=jnp.zeros(2))
    alone = mixture_likelihood(reward[:1], panel(made[:1]), logits=jnp.zeros(2))
    assert loss.weight == 1
    np.testing.assert_allclose(loss.total, alone.total, rtol=1e-6)


def demonstrations(made):
    absent = None
    return Trajectory(absent, absent, jnp.asarray(made), absent, absent, absent)


def test_one_intention_is_maximum_causal_entropy():
    logp, made = drawn(4, 3, 5, 1), np.arange(5) < np.array([[5], [2], [0]])
    several = intention_likelihood(logp, demonstrations(made), logits=jnp.zeros(1))
    one = causal_likelihood(logp[..., 0], demonstrations(made), discount=1.0)
    assert float(several.total) == pytest.approx(float(one.total), rel=1e-6)
    assert float(several.weight) == float(one.weight) == 2


def test_an_intention_learns_from_demonstrations_as_far_as_they_are_its_own():
    """The gradient is that of the M step of EM, for rewards and for shares."""
    logp, made = drawn(5, 3, 4, 2), np.arange(4) < np.array([[4], [1], [3]])
    logits, batch = jnp.array([0.3, -0.5]), demonstrations(made)
    of = lambda x, share: intention_likelihood(x, batch, logits=share).total
    slope, share_slope = jax.grad(of, (0, 1))(logp, logits)
    belief = posterior((logp * made[..., None]).sum(1), logits)
    np.testing.assert_allclose(slope, -belief[:, None] * made[..., None], rtol=1e-5, atol=1e-6)
    expected = 3 * jax.nn.softmax(logits) - belief.sum(0)
    np.testing.assert_allclose(share_slope, expected, rtol=1e-4, atol=1e-5)
