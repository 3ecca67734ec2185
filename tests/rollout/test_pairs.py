import jax
import jax.numpy as jnp
import numpy as np
import pytest

from irl_jax.rollout.pairs import best_and_worst, in_twos, sampled_pair, win_probability, win_rate
from irl_jax.types import Group, InputError

REWARD = jnp.array([[0.1, 0.9, -0.3], [2.0, 2.0, 2.0]])
ACTION = jnp.arange(2 * 3 * 4).reshape(2, 3, 4)
GROUP = Group(
    context=None,
    action=ACTION,
    mask=ACTION % 2 == 0,
    logp=jnp.zeros([2, 3, 4]),
    reward=REWARD,
    terminated=jnp.ones([2, 3], bool),
)


def test_the_best_is_chosen_and_the_worst_rejected():
    pairs = best_and_worst(GROUP)
    np.testing.assert_array_equal(pairs.action[0], ACTION[0, jnp.array([1, 2])])
    np.testing.assert_array_equal(pairs.mask[0], GROUP.mask[0, jnp.array([1, 2])])
    assert pairs.margin.tolist() == [0, 0]


def test_a_prompt_whose_completions_tie_teaches_nothing():
    assert best_and_worst(GROUP).weight.tolist() == [1, 0]


def test_a_missing_reward_is_named():
    with pytest.raises(InputError, match=r"^group.reward: expected shape \[2, 3\]"):
        best_and_worst(GROUP.replace(reward=REWARD[:, 0]))


def test_a_noisy_judge_prefers_by_bradley_terry():
    reward = jnp.tile(jnp.array([[1.0, 0.0]]), (4000, 1))
    group = GROUP.replace(
        action=jnp.tile(jnp.array([[[7], [8]]]), (4000, 1, 1)),
        mask=jnp.ones([4000, 2, 1], bool),
        reward=reward,
    )
    pairs = sampled_pair(group, jax.random.key(0))
    first = pairs.action[:, 0, 0] == 7
    assert ((pairs.action[:, 1, 0] == 8) == first).all()
    assert first.mean() == pytest.approx(1 / (1 + np.exp(-1.0)), abs=0.03)


def test_win_rates_are_of_the_group():
    rate = win_rate(REWARD)
    p = lambda a, b: 1 / (1 + np.exp(b - a))
    assert rate[0, 0] == pytest.approx((0.5 + p(0.1, 0.9) + p(0.1, -0.3)) / 3, rel=1e-5)
    assert rate[1].tolist() == [0.5] * 3
    np.testing.assert_allclose(rate.mean(-1), 0.5, rtol=1e-6)


def test_a_win_is_of_a_completion_against_a_rival():
    reward, opponents = jnp.array([[1.0, 0.0]]), jnp.array([[0.0, 3.0, -1.0]])
    win = win_probability(reward, opponents)
    expected = 1 / (1 + np.exp(np.array([[[-1.0, 2.0, -2.0], [0.0, 3.0, -1.0]]])))
    np.testing.assert_allclose(win, expected, rtol=1e-5)


def test_a_group_of_four_is_two_of_two():
    """Rewards and prompts go with their completions; an odd number is refused."""
    action = jnp.arange(2 * 4 * 3).reshape(2, 4, 3)
    zeros = jnp.zeros([2, 4, 3])
    group = Group(jnp.array([[7], [8]]), action, action >= 0, zeros, action[..., 0] + 0.5,
                  jnp.ones([2, 4], bool))  # fmt: skip
    twos = in_twos(group)
    assert twos.context[:, 0].tolist() == [7, 7, 8, 8]
    np.testing.assert_array_equal(twos.action, action.reshape(4, 2, 3))
    np.testing.assert_array_equal(twos.reward, twos.action[..., 0] + 0.5)
    with pytest.raises(InputError, match=r"^group: 3 completions of a prompt are no pairs"):
        in_twos(GROUP)
