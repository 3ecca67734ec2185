"""Dense rewards of a fine-tuned policy, in a token MDP that can be solved exactly."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest

from irl_jax.losses.direct import log_ratio
from irl_jax.rewards.implicit import bellman_reward, token_reward
from irl_jax.types import InputError
from tests.oracles.language import Language

A, T = 3, 4  # tokens, length of a completion


def contexts():
    return [c for t in range(T) for c in itertools.product(range(A), repeat=t)]


def soft_policy(reward, base):
    """Context -> log π(.|context), soft-optimal for `reward` relative to `base`, and V."""
    value = {c: 0.0 for c in itertools.product(range(A), repeat=T)}
    policy = {}
    for c in reversed(contexts()):
        q = np.array([reward[c][a] + value[(*c, a)] for a in range(A)])
        value[c] = float(np.log(np.sum(np.exp(base[c] + q))))
        policy[c] = base[c] + q - value[c]
    return policy, value


@pytest.fixture(scope="module")
def solved():
    rng = np.random.default_rng(0)
    reward = {c: rng.normal(size=A) for c in contexts()}
    base = {c: np.log(rng.dirichlet(np.ones(A))) for c in contexts()}
    return reward, base, *soft_policy(reward, base)


def along(table, tokens):
    return np.array([table[tokens[:t]][tokens[t]] for t in range(len(tokens))])


def completions():
    return list(itertools.product(range(A), repeat=T))


def recovered(policy, base):
    """f32[A ** T, T], the dense reward of all completions."""
    logp, baseline = (np.array([along(x, y) for y in completions()]) for x in (policy, base))
    return token_reward(jnp.asarray(logp), jnp.asarray(baseline), jnp.ones([A**T, T], bool))


def test_it_is_the_true_reward_and_a_potential(solved):
    reward, base, policy, value = solved
    for y, dense in zip(completions(), recovered(policy, base), strict=True):
        potential = np.array([value[y[: t + 1]] - value[y[:t]] for t in range(T)])
        np.testing.assert_allclose(dense, along(reward, y) + potential, atol=1e-5)


def test_over_a_completion_the_potential_telescopes(solved):
    reward, base, policy, value = solved
    returns = np.array([along(reward, y).sum() for y in completions()])
    totals = recovered(policy, base).sum(-1)
    np.testing.assert_allclose(totals, returns - value[()], atol=1e-5)


def test_its_soft_optimal_policy_is_the_one_it_came_from(solved):
    _, base, policy, _ = solved
    dense = {c: policy[c] - base[c] for c in contexts()}
    again, value = soft_policy(dense, base)
    assert max(map(abs, value.values())) < 1e-12
    for c in contexts():
        np.testing.assert_allclose(again[c], policy[c], atol=1e-12)


def test_it_is_the_log_ratio_token_by_token_and_padding_may_hold_anything():
    rng = np.random.default_rng(0)
    logp, base = (jnp.asarray(-rng.random((2, 3)), jnp.float32) for _ in range(2))
    mask = jnp.arange(3) < jnp.array([[1], [3]])
    spoiled = jnp.where(mask, logp, jnp.nan), jnp.where(mask, base, -jnp.inf)
    dense = token_reward(*spoiled, mask)
    np.testing.assert_allclose(dense.sum(-1), log_ratio(logp, base, mask), rtol=1e-6)
    assert dense[0, 1:].tolist() == [0.0, 0.0]


def test_wrong_arrays_are_named():
    x, mask = jnp.zeros([2, 3]), jnp.ones([2, 3], bool)
    with pytest.raises(InputError, match=r"^logp: expected shape"):
        token_reward(x[:1], x, mask)
    with pytest.raises(InputError, match=r"^baseline_logp: expected shape"):
        token_reward(x, x[..., None], mask)
    with pytest.raises(InputError, match=r"^mask: expected dtype bool"):
        token_reward(x, x, x)


@pytest.mark.parametrize("discount", [1.0, 0.7])
def test_logits_tell_the_reward_that_they_are_a_soft_q_of(discount):
    """Rewards, planned backwards to Q; and back. At γ = 1 they add up to log π + V."""
    language = Language(3, 3)
    reward = language.draw(0)
    q, value = np.zeros(language.shape), np.zeros(len(reward))
    after = {}
    for i, t in np.argwhere(language.mask):
        after[language.state[i, t], language.action[i, t]] = language.after[i, t]
    for s, a in sorted(after, reverse=True):  # prefixes are in order of length
        then = after[s, a]
        q[s, a] = reward[s, a] + (discount * value[then] if then >= 0 else 0.0)
        if a == 0:
            value[s] = np.log(np.exp(q[s]).sum())
    spoilt = lambda x: np.float32(np.where(language.mask, x, np.nan))
    got = bellman_reward(
        spoilt(q[language.state, language.action]), spoilt(value[language.state]), language.mask,
        discount=discount,
    )  # fmt: skip
    expected = np.where(language.mask, reward[language.state, language.action], 0.0)
    np.testing.assert_allclose(got, expected, atol=1e-5)
    if discount == 1:
        total = np.log(language.chance(q)) + value[0]
        np.testing.assert_allclose(np.asarray(got).sum(-1), total, atol=1e-5)
