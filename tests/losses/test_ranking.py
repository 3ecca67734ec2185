import functools
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
    count = np.asarray(count, np.int32)
    weight = jnp.broadcast_to(jnp.asarray(weight, jnp.float32), count.shape)
    return Ranking(None, action=None, mask=None, count=count, weight=weight)


def pairs(n):
    return Preference(None, action=None, mask=None, margin=jnp.zeros(n), weight=jnp.ones(n))


@pytest.mark.parametrize("loss", [plackett_luce, all_pairs])
def test_two_responses_are_a_bradley_terry_pair(loss):
    reward = np.float32([[1.0, -0.4], [0.3, 2.0]])
    both = jax.jit(lambda r: (bradley_terry(r, pairs(2)), loss(r, rankings([2, 2]))))
    expected, actual = both(reward)
    np.testing.assert_allclose(actual.total, expected.total, rtol=1e-6)
    for name in ("pair_accuracy", "top_accuracy"):
        assert actual.metrics[name][0] == expected.metrics["accuracy"][0]


def test_probabilities_of_all_orders_sum_to_one():
    reward = np.float32([0.5, -1.0, 2.0, 0.1])
    orders = np.array(list(itertools.permutations(range(4))))
    one = lambda r: plackett_luce(r[None], rankings([4])).total
    cost = jax.jit(jax.vmap(one))(reward[orders])
    assert np.exp(-np.asarray(cost)).sum() == pytest.approx(1, rel=1e-5)


def test_the_reward_behind_the_rankings_is_stationary():
    reward = np.float32([0.5, -1.0, 2.0, 0.1])
    orders = np.array(list(itertools.permutations(range(4))))

    @jax.jit
    @jax.grad
    def gradient(r):
        one = lambda order: plackett_luce(order[None], rankings([4])).total
        weight = jnp.exp(-jax.vmap(one)(jnp.asarray(reward[orders])))
        return plackett_luce(r[orders], rankings([4] * 24, weight=weight)).total

    np.testing.assert_allclose(gradient(reward), 0, atol=2e-6)
    assert np.abs(gradient(np.float32(1.2) * reward)).max() > 0.02


def test_the_first_position_alone_is_softmax_classification():
    reward, first = np.float32([[0.5, -1.0, 2.0, 0.1]]), np.float32([1.0, 0.0, 0.0, 0.0])
    loss = lambda r: plackett_luce(r, rankings([4]), position_weight=first).total
    total, logp = jax.jit(lambda r: (loss(r), jax.nn.log_softmax(r)[0, 0]))(reward)
    np.testing.assert_allclose(total, -np.asarray(logp), rtol=1e-6)


def test_accuracies_of_a_half_sorted_ranking():
    """Pairs of (2, 3, 1, 1): 2<3 wrong, the last two tie, the other four right."""
    reward = np.float32([[2.0, 3.0, 1.0, 1.0]])
    loss = jax.jit(lambda r: plackett_luce(r, rankings([4])))(reward)
    assert loss.metrics["pair_accuracy"][0] == pytest.approx(4.5 / 6)
    assert loss.metrics["top_accuracy"][0] == 0


@pytest.mark.parametrize("loss", [plackett_luce, all_pairs])
def test_what_was_not_ranked_and_rankings_of_one_do_not_count(loss):
    nan = np.nan
    reward = np.float32([[1.0, 0.2, nan, nan], [3.0, nan, nan, nan]])

    @jax.jit
    @functools.partial(jax.value_and_grad, has_aux=True)
    def total_and_weight(r):
        of = loss(r, rankings([2, 1]))
        return of.total, of.weight

    (value, weight), gradient = total_and_weight(reward)
    assert value == pytest.approx(np.log1p(np.exp(-0.8)), rel=1e-6)
    assert np.count_nonzero(np.asarray(gradient)) == 2
    assert weight == 1


def test_a_long_ranking_counts_as_much_as_a_short_one():
    loss = jax.jit(lambda r: all_pairs(r, rankings([2, 4]), link=probit))(np.zeros([2, 4]))
    assert loss.total == pytest.approx(2 * np.log(2), rel=1e-6)
    assert loss.weight == 2
