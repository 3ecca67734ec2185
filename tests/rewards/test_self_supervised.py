"""Rewards without a verifier, and how each of them fails, exactly: by every group there is."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from irl_jax.losses.policy import reinforce
from irl_jax.rewards.self_supervised import (
    certainty_reward,
    majority_reward,
    reference_probability,
    verifree_advantages,
)
from irl_jax.types import Group, InputError
from tests.oracles.language import Language, log_softmax


@pytest.fixture(autouse=True)
def in_float64():
    with jax.enable_x64(True):
        yield


LANGUAGE = Language(3, 2)  # a reasoning of one symbol, and an answer of one
LOGITS = LANGUAGE.draw(3)
RIGHT = 1  # the answer


def accuracy_gradient():
    """∇ P(the second symbol is right), the first one not EOS; exactly."""
    right = LANGUAGE.mask[:, 1] & (LANGUAGE.action[:, 1] == RIGHT)
    return LANGUAGE.gradient(LOGITS, right.astype(float))


def test_verifree_has_the_gradient_of_accuracy():
    """Of groups of two reasonings, every pair of them; EOS at once is a reasoning, too."""
    table = log_softmax(LOGITS)
    firsts = list(itertools.product(range(3), repeat=2))
    chance = np.array([np.exp(table[0][list(pair)].sum()) for pair in firsts])
    first = np.array(firsts)
    action = np.stack([first, np.full_like(first, RIGHT)], -1)  # [pairs, 2, 2]
    state = np.array([[LANGUAGE.index.get((z,), -1) for z in pair] for pair in firsts])
    mask = np.stack([np.ones_like(state, bool), state >= 0], -1)
    answer = np.broadcast_to([False, True], mask.shape) & (state >= 0)[..., None]
    absent = jnp.zeros(first.shape)

    def logp(logits):
        rows = jax.nn.log_softmax(logits)
        both = jnp.stack([rows[0][action[..., 0]], rows[state, RIGHT]], -1)
        return jnp.where(mask, both, 0.0)

    now = logp(LOGITS)
    advantage = verifree_advantages(now, answer, mask)
    reward = np.where(state >= 0, np.exp(table[state, RIGHT]), 0.0)
    np.testing.assert_allclose(advantage[..., 0], reward - reward[:, ::-1], rtol=1e-12)

    def mean(logits):
        batch = Group(None, None, jnp.asarray(mask), now, absent, absent > 0)
        each = lambda i: reinforce(
            logp(logits)[i][None], jax.tree.map(lambda x: x[i][None], batch),
            advantage=advantage[i][None],
        ).mean  # fmt: skip
        return -(chance @ jax.vmap(each)(jnp.arange(len(chance))))

    gradient = jax.jit(jax.grad(mean))(jnp.asarray(LOGITS))
    np.testing.assert_allclose(gradient, accuracy_gradient(), rtol=1e-9, atol=1e-12)


def test_a_mean_probability_pays_for_an_impossible_answer():
    logp = jnp.log(jnp.array([[[0.9, 0.9, 1e-9], [0.5, 0.5, 0.5]]]))
    answer = jnp.ones(logp.shape, bool)
    mean = reference_probability(logp, answer)[0]
    assert mean[0] > mean[1]  # though the second answer is a hundred million times likelier
    np.testing.assert_allclose(mean, [0.6, 0.5], rtol=1e-6)
    assert np.exp(logp[0, 0].sum()) < 1e-8 * np.exp(logp[0, 1].sum())
    less = reference_probability(logp, answer, plain=jnp.array([0.2]))
    np.testing.assert_allclose(less[0], [0.4, 0.3], rtol=1e-6)
    spoilt = jnp.where(answer.at[0, 0, 2].set(False), logp, jnp.nan)
    kept = reference_probability(spoilt, ~jnp.isnan(spoilt))
    np.testing.assert_allclose(kept[0], [0.9, 0.5], rtol=1e-6)


@pytest.mark.parametrize(
    ("chance", "rises"), [([0.35, 0.45, 0.2], False), ([0.45, 0.35, 0.2], True)]
)
def test_a_majority_that_is_wrong_lowers_what_is_right(chance, rises):
    """Answer 0 is right. The expected gradient of groups of five, by every one of them."""
    chance = np.array(chance)
    every = np.array(list(itertools.product(range(3), repeat=5)))
    reward = np.asarray(majority_reward(every))
    advantage = reward - reward.mean(-1, keepdims=True)
    scores = np.eye(3)[every] - chance
    slope = np.einsum("g,gk,gkv->v", chance[every].prod(-1), advantage / 5, scores)
    step = chance * (slope - chance @ slope)  # of the probabilities, by a small step
    assert (step[0] > 0) == rises
    assert step[chance.argmax()] > 0.01
    verified = chance * ((np.arange(3) == 0) - chance[0])
    assert (chance * (verified - chance @ verified))[0] > 0.01  # with a verifier it rises


def test_votes():
    votes = jnp.array([[4, -1, -1, 4, 2], [1, 2, 2, 1, 3], [-1, -1, -1, -1, -1]])
    expected = [[1, 0, 0, 1, 0], [1, 0, 0, 1, 0], [0] * 5]
    assert majority_reward(votes).tolist() == expected
    with pytest.raises(InputError, match=r"^votes: expected an integer dtype"):
        majority_reward(jnp.zeros([1, 2]))


@pytest.mark.parametrize("right_is_sure", [True, False])
def test_certainty_draws_a_policy_to_where_it_is_sure_right_or_wrong(right_is_sure):
    """Gradient ascent, exactly; after 0 the next symbol is nearly sure, after 1 it is open."""
    language = Language(3, 2)
    logits = np.array([[0.0, 0.4, -2.0], [4.0, 0.0, 0.0], [0.2, 0.0, 0.1]])
    own = logits.copy()
    for _ in range(400):
        table = log_softmax(own)
        certainty = (np.exp(table) * table).sum(-1)[language.state]
        reward = np.asarray(certainty_reward(jnp.asarray(certainty), jnp.asarray(language.mask)))
        own = own + 5.0 * language.gradient(own, reward)
    first = lambda x: np.exp(log_softmax(x))[0]
    right = 0 if right_is_sure else 1
    before, after = first(logits)[right], first(own)[right]
    assert after > 0.95 if right_is_sure else after < 0.05 < before
    assert first(logits)[1] > first(logits)[0]  # 1 was the likelier


def test_of_one_token_certainty_teaches_nothing():
    language = Language(4, 1)
    logits = language.draw(0)
    table = log_softmax(logits)
    certainty = jnp.asarray((np.exp(table) * table).sum(-1)[language.state])
    reward = np.asarray(certainty_reward(certainty, jnp.asarray(language.mask)))
    np.testing.assert_allclose(language.gradient(logits, reward), 0.0, atol=1e-12)


def test_the_last_share_of_the_tokens():
    certainty = jnp.array([[1.0, 2.0, 3.0, 4.0], [5.0, 7.0, jnp.nan, jnp.nan]])
    mask = ~jnp.isnan(certainty)
    assert certainty_reward(certainty, mask).tolist() == [2.5, 6.0]
    assert certainty_reward(certainty, mask, last=0.3).tolist() == [3.5, 7.0]
    assert certainty_reward(certainty, ~mask & mask).tolist() == [0.0, 0.0]
    with pytest.raises(InputError, match=r"^last: expected a number in \(0"):
        certainty_reward(certainty, mask, last=0.0)
