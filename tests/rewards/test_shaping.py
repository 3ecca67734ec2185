import jax.numpy as jnp
import numpy as np
import pytest

from irl_jax.rewards.composite import CompositeReward, gdpo_advantages, weighted_sum
from irl_jax.rewards.contract import of_group
from irl_jax.rewards.shaping import debias_length, overlong_penalty, preference_as_reward
from irl_jax.types import Group, InputError, LoopContext, Rewarded
from tests.oracles.advantages import group_advantages


def group(b=2, k=3):
    mask = np.ones([b, k, 1], bool)
    return Group(None, mask, mask, mask, mask, mask)


def test_the_overlong_penalty_is_the_papers():
    """DAPO's eq. 13 with L = 20,480 and a buffer of 4,096, in tokens."""
    lengths = np.array([0, 16384, 16385, 18432, 20479, 20480, 20481, 30000])

    def paper(n):
        if n <= 16384:
            return 0.0
        return (16384 - n) / 4096 if n <= 20480 else -1.0

    mask = np.arange(30000) < lengths[:, None]
    got = overlong_penalty(mask, limit=20480, buffer=4096)
    np.testing.assert_allclose(got, [paper(n) for n in lengths], rtol=1e-6)
    with pytest.raises(InputError, match=r"^buffer: expected a number in \[1, 10\], got 11"):
        overlong_penalty(mask, limit=10, buffer=11)


def test_preference_as_reward_is_a_mean_of_probabilities():
    reward, reference = jnp.array([[0.0, 3.0]]), jnp.array([[0.0, 1.0]])
    sigmoid = lambda x: 1 / (1 + np.exp(-x))
    expected = [[(sigmoid(0) + sigmoid(-1)) / 2, (sigmoid(3) + sigmoid(2)) / 2]]
    np.testing.assert_allclose(preference_as_reward(reward, reference), expected, rtol=1e-6)
    with pytest.raises(InputError, match="reference"):
        preference_as_reward(reward, jnp.zeros([2, 2]))


def test_what_length_explains_is_taken_away():
    rng = np.random.default_rng(0)
    length, quality = rng.integers(5, 90, [4, 8]), rng.standard_normal([4, 8])
    reward = np.float32(0.05 * length + quality)
    fair = np.asarray(debias_length(reward, length))
    assert abs(np.corrcoef(fair.ravel(), length.ravel())[0, 1]) < 1e-4
    slope = np.polyfit(length.ravel(), reward.ravel(), 1)[0]
    expected = reward - slope * (length - length.mean())
    np.testing.assert_allclose(fair, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(debias_length(reward, np.full([4, 8], 7)), reward, rtol=1e-6)


def test_decoupled_rewards_keep_apart_what_a_sum_confuses():
    """Two rewards of two completions: who is better in one, or in both, is one to GRPO."""
    rewards = np.float32([[[0, 1], [0, 1]], [[0, 0], [0, 1]]])  # [M, B, K]
    weights = np.ones(2, np.float32)
    summed = [group_advantages(r) for r in np.asarray(weighted_sum(rewards, weights))[:, None]]
    np.testing.assert_allclose(summed[0], summed[1], atol=1e-5)
    expected = sum(group_advantages(r) for r in rewards)
    got = np.asarray(gdpo_advantages(rewards, weights))
    np.testing.assert_allclose(got, expected, rtol=1e-4)
    np.testing.assert_allclose(got[1], 2 * got[0], rtol=1e-4)


def test_several_rewards_are_one():
    first, second = np.float32([[0, 1, 2], [3, 4, 5]]), np.float32([[1, 1, 1], [0, 0, 2]])
    context = LoopContext(1, 0.25, None, None)
    growing = lambda g, context: context.progress * second
    reward = CompositeReward({"a": (of_group(lambda g: first), 0.5), "b": (growing, 2.0)})
    one, each, metrics = reward(group(), context)
    np.testing.assert_allclose(one, 0.5 * first + 0.5 * second)
    assert list(each) == ["a", "b"] and not metrics
    learned = lambda g, context: Rewarded(first, {"member": second}, {"disagreement": 0.5})
    outer = CompositeReward({"inner": (reward, 2.0), "learned": (learned, 1.0)})
    two, each, metrics = outer(group(), context)
    np.testing.assert_allclose(two, 2 * one + first)
    assert list(each) == ["inner", "inner_a", "inner_b", "learned", "learned_member"]
    np.testing.assert_array_equal(each["learned_member"], second)
    assert metrics == {"learned_disagreement": 0.5}
    with pytest.raises(InputError, match=r"^reward 'a': expected shape \[2, 3\], got \[2\]"):
        CompositeReward({"a": (of_group(lambda g: first[:, 0]), 1.0)})(group(), context)
    with pytest.raises(InputError, match=r"^reward 'a': is called as .* takes \(g\): .*of_group"):
        CompositeReward({"a": (lambda g: first, 1.0)})
    with pytest.raises(InputError, match=r"^rewards: give at least one"):
        CompositeReward({})
