import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from irl_jax.losses.link import probit
from irl_jax.losses.preference import (
    bradley_terry,
    davidson,
    gaussian,
    order_classification,
    pairwise,
    rao_kupper,
)
from irl_jax.types import InputError, Preference


def pairs(n, margin=0.0, weight=1.0):
    full = lambda x: np.full(n, x, np.float32)
    return Preference(None, action=None, mask=None, margin=full(margin), weight=full(weight))


def array(x):
    return np.asarray(x, np.float32)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


REWARD = array([[1.0, -0.4], [0.3, 2.0]])
SPREAD = array([[0.2, -1.0], [0.5, 0.1]])


def test_equal_rewards_cost_log_two_and_pull_by_one_half():
    total = lambda r: bradley_terry(r, pairs(1)).total
    value, gradient = jax.jit(jax.value_and_grad(total))(np.full([1, 2], 3.0, np.float32))
    assert value == pytest.approx(np.log(2), rel=1e-6)
    assert gradient.tolist() == [[-0.5, 0.5]]


def test_a_margin_is_a_handicap_of_the_chosen():
    margin = array([0.5, 2.0])

    @jax.jit
    def both(reward):
        handicapped = bradley_terry(reward - jnp.stack([margin, 0 * margin], 1), pairs(2))
        return bradley_terry(reward, pairs(2, margin)), handicapped.total

    loss, handicapped = both(array([[1.0, 0.4], [-0.3, 0.2]]))
    np.testing.assert_allclose(loss.total, handicapped, rtol=1e-6)
    assert loss.metrics["accuracy"][0] == 1.0  # the margin is no part of the reward


def test_smoothing_of_one_half_does_not_see_the_label():
    loss = jax.jit(lambda r: bradley_terry(r, pairs(2), label_smoothing=0.5).total)
    np.testing.assert_allclose(loss(REWARD), loss(REWARD[:, ::-1]), rtol=1e-6)


def test_rewards_are_fixed_up_to_a_constant_until_centred():
    total = lambda r, c: bradley_terry(r, pairs(2), centering=c).total
    gradient = jax.jit(jax.grad(total))
    np.testing.assert_allclose(gradient(REWARD + 5, 0.0), gradient(REWARD, 0.0), atol=1e-6)
    # d/dr of c (r_w + r_l)² is 2c (r_w + r_l) on both sides
    added = np.subtract(gradient(REWARD, 0.1), gradient(REWARD, 0.0))
    np.testing.assert_allclose(added, 0.2 * REWARD.sum(1, keepdims=True) * np.ones(2), atol=1e-6)


def test_the_reward_behind_the_preferences_is_stationary():
    """Pairs in the proportions of a Bradley-Terry annotator have their optimum at his reward."""
    reward = array([0.5, -1.0, 2.0, 0.1])
    ordered = np.array(list(itertools.permutations(range(4), 2)))
    proportion = sigmoid(reward[ordered[:, 0]] - reward[ordered[:, 1]])
    total = lambda r: bradley_terry(r[ordered], pairs(len(ordered), weight=proportion)).total
    gradient = jax.jit(jax.grad(total))
    np.testing.assert_allclose(gradient(reward), 0, atol=1e-6)
    np.testing.assert_allclose(gradient(reward + 3), 0, atol=1e-6)
    assert np.abs(gradient(array(1.2) * reward)).max() > 0.05


def test_a_tie_counts_one_half_in_accuracy():
    loss = lambda r: pairwise(r, pairs(3), link=jnp.negative)
    right, mean = jax.jit(lambda r: (loss(r).metrics["accuracy"][0], loss(r).mean))(
        array([[1.0, 1.0], [2.0, 0.0], [0.0, 1.0]])
    )
    assert right == 1.5
    assert mean == -1 / 3


def test_an_ensemble_is_a_vmap():
    reward = np.arange(12, dtype=np.float32).reshape(3, 2, 2) ** array(1.5)
    one = lambda r: bradley_terry(r, pairs(2))
    loss, each = jax.jit(lambda x: (jax.vmap(one)(x), [one(r).total for r in x]))(reward)
    np.testing.assert_allclose(loss.total, each, rtol=1e-6)
    assert loss.metrics["accuracy"][0].shape == (3,)


@pytest.mark.parametrize("shape", [(3, 1), (1, 3), (3, 3), (1,), ()])
def test_a_margin_never_broadcasts(shape):
    batch = pairs(3).replace(margin=np.zeros(shape, np.float32))
    with pytest.raises(InputError, match=r"^batch.margin: expected shape \[3\], got"):
        bradley_terry(np.zeros([3, 2], np.float32), batch)


@pytest.mark.parametrize("shape", [(3,), (3, 1), (3, 3), (2, 3)])
def test_rewards_come_in_pairs(shape):
    with pytest.raises(InputError, match=r"^reward: expected shape \[_, 2\], got"):
        bradley_terry(np.zeros(shape, np.float32), pairs(3))


def test_negative_centering_is_named():
    with pytest.raises(InputError, match=r"^centering: expected a number in \[0.0, inf\], got -1"):
        bradley_terry(np.zeros([1, 2], np.float32), pairs(1), centering=-1)


TIES = [
    pytest.param(rao_kupper, {"threshold": 0.6}, id="rao_kupper"),
    pytest.param(davidson, {"log_nu": -0.3}, id="davidson"),
]


@functools.partial(jax.jit, static_argnums=0)
def outcomes(loss, z, params):
    """Probabilities that the first wins, that the second wins, and of a tie."""
    one = lambda r, t: loss(r[None], pairs(1), tie=t[None], **params).total
    reward = z * jnp.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    return jnp.exp(-jax.vmap(one)(reward, jnp.array([False, False, True])))


@pytest.mark.parametrize(("loss", "params"), TIES)
@pytest.mark.parametrize("z", [-2.0, 0.0, 0.7])
def test_win_loss_and_tie_are_all_there_is(loss, params, z):
    assert np.sum(outcomes(loss, z, params)) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(("loss", "params"), TIES)
def test_a_tie_is_as_likely_from_either_side_and_most_likely_between_equals(loss, params):
    tie = [float(outcomes(loss, z, params)[2]) for z in (-1.0, 0.0, 1.0)]
    assert tie[0] == pytest.approx(tie[2], rel=1e-6)
    assert tie[1] > tie[0]


def test_without_ties_both_are_bradley_terry():
    none = np.zeros(2, bool)
    plain, *rare = jax.jit(
        lambda reward: (
            bradley_terry(reward, pairs(2)).total,
            davidson(reward, pairs(2), tie=none, log_nu=-40.0).total,
            rao_kupper(reward, pairs(2), tie=none, threshold=1e-7).total,
        )
    )(REWARD)
    np.testing.assert_allclose(rare, [plain] * 2, rtol=1e-6)


@pytest.mark.parametrize(("loss", "params"), TIES)
def test_reward_and_ties_behind_the_outcomes_are_stationary(loss, params):
    """In the proportions of the model, its own reward and parameter are the optimum."""
    reward = array([0.5, -1.0, 2.0, 0.1])
    first, second = np.array(list(itertools.combinations(range(4), 2))).T
    chosen = np.concatenate([first, second, first])
    rejected = np.concatenate([second, first, second])
    tie = np.arange(18) >= 12
    of_pairs = [outcomes(loss, z, params) for z in reward[first] - reward[second]]
    weight = np.transpose(of_pairs).ravel()
    ((name, value),) = params.items()

    @jax.jit
    @functools.partial(jax.grad, argnums=(0, 1))
    def slopes(r, v):
        sides = jnp.stack([r[chosen], r[rejected]], 1)
        return loss(sides, pairs(18, weight=weight), tie=tie, **{name: v}).total

    by_reward, by_value = slopes(reward, value)
    np.testing.assert_allclose(by_reward, 0, atol=2e-6)
    np.testing.assert_allclose(by_value, 0, atol=2e-6)
    assert np.abs(slopes(array(1.2) * reward, value)[0]).max() > 0.05


def test_classification_keeps_the_order_and_fixes_the_zero():
    """Pairs in the proportions of an annotator: the optimal logits are in his order."""
    gold = array([0.5, -1.0, 2.0, 0.1])
    ordered = np.array(list(itertools.permutations(range(4), 2)))
    weight = sigmoid(gold[ordered[:, 0]] - gold[ordered[:, 1]])
    total = lambda r: order_classification(r[ordered], pairs(12, weight=weight)).total
    gradient = jax.jit(jax.grad(total))
    reward = np.zeros(4, np.float32)
    for _ in range(300):
        reward -= array(0.5) * gradient(reward)
    np.testing.assert_allclose(gradient(reward), 0, atol=1e-5)
    assert np.argsort(reward).tolist() == np.argsort(gold).tolist()
    # each response was preferred in a share of its comparisons, and that is its probability
    won = np.bincount(ordered[:, 0], weight) / 3
    np.testing.assert_allclose(sigmoid(reward), won, atol=1e-4)


def test_a_classified_pair_that_is_sure_costs_nothing():
    total = jax.jit(lambda r: order_classification(r, pairs(1)).total)
    assert total(array([[50.0, -50.0]])) == pytest.approx(0, abs=1e-20)
    # far apart but on one side of zero: the order is right, the classes are not
    assert total(array([[50.0, 20.0]])) == pytest.approx(20)


def test_variances_of_one_half_are_thurstone():
    half = np.full([2, 2], np.log(0.5), np.float32)
    thurstone = lambda m: pairwise(m, pairs(2, 0.25), link=probit).total
    both = jax.jit(lambda m: (gaussian(m, half, pairs(2, 0.25)).total, thurstone(m)))
    np.testing.assert_allclose(*both(REWARD), rtol=1e-6)


def test_a_gaussian_reward_by_hand():
    """Ahead by 5 where variances are 9 and 16: z = 1. And the share of draws that agree."""
    mean, log_variance = array([[5.0, 0.0]]), np.log(array([[9.0, 16.0]]))
    total = jax.jit(lambda m, v: gaussian(m, v, pairs(1)).total)(mean, log_variance)
    probability = np.exp(-float(total))
    assert probability == pytest.approx(0.841345, abs=1e-5)
    rng = np.random.default_rng(0)
    drawn = 5 + 3 * rng.standard_normal(200_000) > 4 * rng.standard_normal(200_000)
    assert drawn.mean() == pytest.approx(probability, abs=0.005)


def test_comparisons_do_not_tell_the_scale_of_a_gaussian_reward():
    total = jax.jit(lambda m, v: gaussian(m, v, pairs(2)).total)
    scaled = total(3 * REWARD, SPREAD + 2 * np.log(array(3.0)))
    np.testing.assert_allclose(scaled, total(REWARD, SPREAD), rtol=1e-5)


def test_variances_are_learned():
    """Gradient by differences; a wrong order costs less the more is uncertain."""
    total = jax.jit(lambda v: gaussian(REWARD, v, pairs(2)).total)
    check_grads(total, [SPREAD], order=1, modes=["rev"], eps=1e-2, rtol=2e-2)
    gradient = np.asarray(jax.jit(jax.grad(total))(SPREAD))
    assert (gradient[0] > 0).all() and (gradient[1] < 0).all()


def test_means_and_variances_behind_the_preferences_are_stationary():
    mean, spread = array([0.5, -1.0, 2.0]), array([0.3, -0.8, 0.6])
    ordered = np.array(list(itertools.permutations(range(3), 2)))

    @jax.jit
    def slopes(learned):
        one = lambda m, v: gaussian(m[None], v[None], pairs(1)).total
        weight = jnp.exp(-jax.vmap(one)(mean[ordered], spread[ordered]))
        total = lambda m, v: gaussian(m[ordered], v[ordered], pairs(6).replace(weight=weight)).total
        return jax.grad(total, argnums=(0, 1))(jnp.asarray(mean), learned)

    for gradient in slopes(spread):
        np.testing.assert_allclose(gradient, 0, atol=1e-6)
    assert np.abs(slopes(spread + 1)[1]).max() > 0.01
