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
    return AnnotatorBatch(mask=np.asarray(made), weight=np.ones(len(made), np.float32))


def drawn(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


log_likelihood = jax.jit(annotator_log_likelihood)
of_panel = jax.jit(lambda reward, batch, logits: mixture_likelihood(reward, batch, logits=logits))
belief_of = jax.jit(posterior)


def test_one_component_is_bradley_terry():
    reward = drawn(0, 3, 4, 2, 1)
    loss = of_panel(reward, panel(np.ones([3, 4], bool)), np.zeros(1, np.float32))
    pairs = lambda: Preference.without_tokens(jnp.ones(12))
    plain = jax.jit(lambda r: bradley_terry(r, pairs()))(reward.reshape(12, 2))
    assert float(loss.total) == pytest.approx(float(plain.total), rel=1e-6)
    assert loss.metrics["entropy"][0] == 0
    accuracy = float(plain.metrics["accuracy"][0]) / 12
    assert float(loss.metrics["accuracy"][0]) / 3 == pytest.approx(accuracy)


def test_two_opposite_rewards_explain_everybody_at_the_price_of_a_bit():
    """Sure of all comparisons but of which reward: log 2 an annotator, however many there are."""
    sure = 40 * np.array([[1.0, -1.0], [0.0, 0.0]], np.float32)
    reward = np.tile(sure, [2, 5, 1, 1])
    loss = of_panel(reward, panel(np.ones([2, 5], bool)), np.zeros(2, np.float32))
    assert float(loss.total) / float(loss.weight) == pytest.approx(np.log(2), rel=1e-6)
    assert float(loss.metrics["entropy"][0]) == pytest.approx(0, abs=1e-6)


def test_the_gradient_of_a_component_is_its_own_times_the_posterior():
    reward, made = drawn(1, 2, 3, 2, 2), np.array([[1, 1, 0], [1, 1, 1]], bool)
    logits = np.float32([0.3, -0.5])

    @jax.jit
    def compared(reward):
        total = lambda r: mixture_likelihood(r, panel(made), logits=logits).total
        belief = posterior(annotator_log_likelihood(reward, made), logits)
        alone = jax.grad(lambda r: -annotator_log_likelihood(r, made).sum())(reward)
        return jax.grad(total)(reward), belief, alone

    gradient, belief, alone = compared(reward)
    np.testing.assert_allclose(gradient, alone * belief[:, None, None], rtol=1e-4, atol=1e-6)


def test_without_comparisons_the_posterior_is_the_prior():
    none = log_likelihood(drawn(2, 1, 3, 2, 2), np.zeros([1, 3], bool))
    np.testing.assert_array_equal(none, 0.0)
    prior = np.log(np.float32([3.0, 1.0]))
    np.testing.assert_allclose(belief_of(none, prior), [[0.75, 0.25]], rtol=1e-6)


def test_order_of_the_comparisons_does_not_matter():
    reward = drawn(3, 1, 6, 2, 3)
    batch, logits = panel(np.ones([1, 6], bool)), np.zeros(3, np.float32)
    loss = lambda r: of_panel(r, batch, logits).total
    np.testing.assert_allclose(loss(reward), loss(reward[:, ::-1]), rtol=1e-6)


def test_shares_and_rewards_behind_the_population_are_stationary():
    """All outcomes of two comparisons, in the proportions of a mixture of two annotators."""
    ahead = np.float32([[1.5, -0.7], [-0.4, 2.0]])  # of the first side: comparison, component
    logits = np.float32([0.6, -0.2])
    first = np.array([[1, 1], [1, 0], [0, 1], [0, 0]], bool)  # wins of the first side

    def reward(ahead):
        sided = jnp.where(first[..., None], ahead, -ahead)
        return jnp.stack([sided, jnp.zeros_like(sided)], axis=2)

    @jax.jit
    def slopes(moved):
        """The probabilities of the outcomes, and the gradients at moved rewards."""
        likelihood = jnp.exp(annotator_log_likelihood(reward(ahead), np.ones([4, 2], bool)))
        weight = (jax.nn.softmax(logits) * likelihood).sum(-1)
        batch = AnnotatorBatch(mask=jnp.ones([4, 2], bool), weight=weight)
        total = lambda x, share: mixture_likelihood(reward(x), batch, logits=share).total
        return weight, jax.grad(total, argnums=(0, 1))(moved, logits)

    probability, gradients = slopes(ahead)
    assert np.asarray(probability).sum() == pytest.approx(1, rel=1e-6)
    for gradient in gradients:
        np.testing.assert_allclose(gradient, 0, atol=1e-6)
    assert np.abs(slopes(1.5 * ahead)[1][0]).max() > 0.01


def test_annotators_without_comparisons_do_not_count():
    reward = drawn(4, 2, 3, 2, 2)
    made = np.array([[1, 1, 1], [0, 0, 0]], bool)
    logits = np.zeros(2, np.float32)
    loss = of_panel(reward, panel(made), logits)
    alone = of_panel(reward[:1], panel(made[:1]), logits)
    assert loss.weight == 1
    np.testing.assert_allclose(loss.total, alone.total, rtol=1e-6)


def demonstrations(made):
    absent = None
    return Trajectory(absent, absent, made, absent, absent, absent)


def test_one_intention_is_maximum_causal_entropy():
    logp, made = drawn(4, 3, 5, 1), np.arange(5) < np.array([[5], [2], [0]])

    @jax.jit
    def both(logp):
        batch = demonstrations(made)
        several = intention_likelihood(logp, batch, logits=jnp.zeros(1))
        return several, causal_likelihood(logp[..., 0], batch, discount=1.0)

    several, one = both(logp)
    assert float(several.total) == pytest.approx(float(one.total), rel=1e-6)
    assert float(several.weight) == float(one.weight) == 2


def test_an_intention_learns_from_demonstrations_as_far_as_they_are_its_own():
    """The gradient is that of the M step of EM, for rewards and for shares."""
    logp, made = drawn(5, 3, 4, 2), np.arange(4) < np.array([[4], [1], [3]])
    logits, batch = np.float32([0.3, -0.5]), demonstrations(made)
    of = lambda x, share: intention_likelihood(x, batch, logits=share).total
    slope, share_slope = jax.jit(jax.grad(of, (0, 1)))(logp, logits)
    belief = np.asarray(belief_of((logp * made[..., None]).sum(1), logits))
    np.testing.assert_allclose(slope, -belief[:, None] * made[..., None], rtol=1e-5, atol=1e-6)
    expected = 3 * np.exp(logits) / np.exp(logits).sum() - belief.sum(0)
    np.testing.assert_allclose(share_slope, expected, rtol=1e-4, atol=1e-5)
