import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from irl_jax.losses.link import probit
from irl_jax.losses.preference import bradley_terry
from irl_jax.losses.ranking import all_pairs, plackett_luce
from irl_jax.types import Preference, Ranking


def rankings(count, weight=1.0):
    count = jnp.asarray(count, jnp.int32)
    weight = jnp.broadcast_to(jnp.asarray(weight, jnp.float32), count.shape)
    return Ranking(None, action=None, mask=None, count=count, weight=weight)


def pairs(n):
    return Preference(None, action=None, mask=None, margin=jnp.zeros(n), weight=jnp.ones(n))


@pytest.mark.parametrize("loss", [plackett_luce, all_pairs])
def test_two_responses_are_a_bradley_terry_pair(loss):
    reward = jnp.array([[1.0, -0.4], [0.3, 2.0]])
    expected = bradley_terry(reward, pairs(2))
    actual = loss(reward, rankings([2, 2]))
    np.testing.assert_allclose(actual.total, expected.total, rtol=1e-6)
    for name in ("pair_accuracy", "top_accuracy"):
        assert actual.metrics[name][0] == expected.metrics["accuracy"][0]


def test_probabilities_of_all_orders_sum_to_one():
    reward = jnp.array([0.5, -1.0, 2.0, 0.1])
    orders = jnp.array(list(itertools.permutations(range(4))))
    one = lambda order: plackett_luce(reward[order][None], rankings([4])).total
    assert jnp.exp(-jax.vmap(one)(orders)).sum() == pytest.approx(1, rel=1e-5)


def test_the_reward_behind_the_rankings_is_stationary():
    reward = jnp.array([0.5, -1.0, 2.0, 0.1])
    orders = jnp.array(list(itertools.permutations(range(4))))
    one = lambda order: plackett_luce(reward[order][None], rankings([4])).total
    batch = rankings([4] * 24, weight=jnp.exp(-jax.vmap(one)(orders)))
    gradient = jax.grad(lambda r: plackett_luce(r[orders], batch).total)
    np.testing.assert_allclose(gradient(reward), 0, atol=2e-6)
    assert np.abs(gradient(1.2 * reward)).max() > 0.02


def test_the_first_position_alone_is_softmax_classification():
    reward = jnp.array([[0.5, -1.0, 2.0, 0.1]])
    loss = plackett_luce(reward, rankings([4]), position_weight=jnp.array([1.0, 0.0, 0.0, 0.0]))
    np.testing.assert_allclose(loss.total, -jax.nn.log_softmax(reward)[0, 0], rtol=1e-6)


def test_accuracies_of_a_half_sorted_ranking():
    """Pairs of (2, 3, 1, 1): 2<3 wrong, the last two tie, the other four right."""
    loss = plackett_luce(jnp.array([[2.0, 3.0, 1.0, 1.0]]), rankings([4]))
    assert loss.metrics["pair_accuracy"][0] == pytest.approx(4.5 / 6)
    assert loss.metrics["top_accuracy"][0] == 0


@pytest.mark.parametrize("loss", [plackett_luce, all_pairs])
def test_what_was_not_ranked_and_rankings_of_one_do_not_count(loss):
    reward = jnp.array([[1.0, 0.2, jnp.nan, jnp.nan], [3.0, jnp.nan, jnp.nan, jnp.nan]])
    total = lambda r: loss(r, rankings([2, 1])).total
    value, gradient = jax.value_and_grad(total)(reward)
    assert value == pytest.approx(np.log1p(np.exp(-0.8)), rel=1e-6)
    assert np.count_nonzero(gradient) == 2
    assert loss(reward, rankings([2, 1])).weight == 1


def test_a_long_ranking_counts_as_much_as_a_short_one():
    reward = jnp.zeros([2, 4])
    loss = all_pairs(reward, rankings([2, 4]), link=probit)
    assert loss.total == pytest.approx(2 * np.log(2), rel=1e-6)
    assert loss.weight == 2
