"""Credit beside its oracles, and exactly, in a language whose strings are all listed."""

from functools import partial

import jax
import numpy as np
import pytest

from irl_jax.dynamics.credit import (
    attention_credit,
    cutpoint_borders,
    gigpo_advantages,
    redistributed,
    segment_advantages,
    tree_advantages,
    vine_advantages,
)
from irl_jax.dynamics.shaping import potential_shaped
from irl_jax.types import InputError
from tests.oracles import credit as oracles
from tests.oracles.credit import Language

EXACT = {"rtol": 1e-11, "atol": 1e-12}
B, K, T = 5, 3, 6
redistribute = jax.jit(redistributed)
attend = jax.jit(attention_credit)
segment = jax.jit(segment_advantages)
gigpo = jax.jit(gigpo_advantages, static_argnames="scale")


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def draw(seed, shape):
    """Numbers, and a mask with gaps and with a row of no action; NaN outside of it."""
    rng = np.random.default_rng(seed)
    mask = rng.random(shape) < 0.7
    mask[0] = False
    return rng, mask, lambda x: np.where(mask, x, np.nan)


def to_go(reward, mask):
    return np.cumsum(np.where(mask, reward, 0.0)[:, ::-1], 1)[:, ::-1]


@pytest.fixture(scope="module", params=[0, 1])
def language(request):
    """A language, its masks, and its exact advantages and gradient."""
    world = Language(request.param, symbols=3, length=4)
    advantage = world.rows(lambda w, t: world.value(w[: t + 1]) - world.value(w[:t]))
    mask = ~np.isnan(advantage)
    total = np.array([world.reward[w] for w in world.strings])
    exact = world.gradient(np.where(mask, total[:, None], 0.0))
    return world, mask, total, advantage, exact


def test_redistribution_equals_oracle_and_keeps_the_return():
    rng, mask, spoilt = draw(0, (B, T))
    total, initial = rng.standard_normal((2, B))
    g = spoilt(rng.standard_normal((B, T)))
    found = redistribute(total, g, mask, initial=initial)
    np.testing.assert_allclose(found, oracles.redistributed(total, g, mask, initial), **EXACT)
    some = mask.any(-1)
    kept = np.asarray(redistribute(total, g, mask, initial=np.zeros(B))).sum(-1)
    np.testing.assert_allclose(kept, np.where(some, total, 0.0), **EXACT)
    np.testing.assert_allclose(found.sum(-1), np.where(some, total - initial, 0.0), **EXACT)


def test_the_exact_predictor_pays_the_exact_advantage(language):
    """So does a critic's process reward, and nothing is to be expected after an action."""
    world, mask, total, advantage, exact = language
    first = np.full(len(total), world.value(()))
    q = world.rows(lambda w, t: world.value(w[: t + 1]))
    found = redistribute(total, q, mask, initial=first)
    np.testing.assert_allclose(found, np.where(mask, advantage, 0.0), **EXACT)
    v = world.rows(lambda w, t: world.value(w[:t]))
    reward = world.rows(lambda w, t: world.reward[w] * (t == len(w) - 1))
    process = potential_shaped(reward, v, mask, discount=1.0)
    np.testing.assert_allclose(process, np.where(mask, advantage, 0.0), **EXACT)
    np.testing.assert_allclose(world.gradient(np.asarray(found)), exact, **EXACT)


def test_any_predictor_leaves_the_gradient_and_the_best_string_as_they_are(language):
    """The gradient by what follows; if the error is spread evenly, it is another one."""
    world, mask, total, _, exact = language
    rng = np.random.default_rng(3)
    guess = {w[:t]: rng.standard_normal() for w in world.strings for t in range(len(w) + 1)}
    g = world.rows(lambda w, t: guess[w[: t + 1]])
    found = np.asarray(redistribute(total, g, mask, initial=np.zeros(len(total))))
    np.testing.assert_allclose(found.sum(-1), total, **EXACT)
    np.testing.assert_allclose(world.gradient(to_go(found, mask)), exact, **EXACT)
    length = mask.sum(-1)
    missed = total - g[np.arange(len(g)), length - 1]
    spread = found + mask * (missed / length)[:, None]
    spread[np.arange(len(g)), length - 1] -= missed
    np.testing.assert_allclose(spread.sum(-1), total, **EXACT)
    assert np.abs(world.gradient(to_go(spread, mask)) - exact).max() > 1e-2


def test_attention_equals_oracle_and_keeps_the_return():
    rng, mask, spoilt = draw(1, (B, T))
    total, attention = rng.standard_normal(B), rng.random((B, T))
    attention[1] = 0.0
    for beta in (0.0, 0.3, 1.0):
        found = attend(total, spoilt(attention), mask, beta=beta)
        expected = oracles.attention_credit(total, attention, mask, beta)
        np.testing.assert_allclose(found, expected, **EXACT)
        np.testing.assert_allclose(found.sum(-1), np.where(mask.any(-1), total, 0.0), **EXACT)


def test_attention_that_knows_the_past_only_scales_the_gradient_of_each_state(language):
    world, mask, total, _, exact = language
    n = world.length
    share = world.rows(lambda w, t: 1 / n if t < len(w) - 1 else (n - len(w) + 1) / n)
    found = np.asarray(attend(total, share, mask, beta=0.8))
    factor = np.array([1 - 0.8 * len(prefix) / n for prefix in world.policy])
    actual = world.gradient(to_go(found, mask))
    np.testing.assert_allclose(actual, factor[:, None] * exact, **EXACT)
    rng = np.random.default_rng(0)  # of the whole string: in some states it points elsewhere
    found = np.asarray(attend(total, rng.random(mask.shape) ** 8, mask, beta=1.0))
    actual = world.gradient(to_go(found, mask))
    cosine = (actual * exact).sum(-1) / np.linalg.norm(actual, axis=-1)
    assert (cosine / np.linalg.norm(exact, axis=-1)).min() < 0.99


def test_segments_equal_oracle():
    rng, mask, spoilt = draw(2, (B, T))
    reward, value = rng.standard_normal((2, B, T))
    border, final = rng.random((B, T)) < 0.4, rng.standard_normal(B)
    expected = oracles.segment_advantages(reward, value, mask, border, final)
    spoilt_value = np.where(mask & (border | (mask.cumsum(-1) == 1)), value, np.nan)
    found = segment(spoilt(reward), spoilt_value, mask, border, final_value=final)
    np.testing.assert_allclose(found, expected, **EXACT)


def test_segments_of_exact_values_have_the_exact_gradient(language):
    """Of one action: the exact advantage. Of cutpoints: unbiased, if none sees its first action."""
    world, mask, total, advantage, exact = language
    value = world.rows(lambda w, t: world.value(w[:t]))
    reward = world.rows(lambda w, t: world.reward[w] * (t == len(w) - 1))
    zeros = np.zeros(len(total))
    found = segment(reward, value, mask, mask, final_value=zeros)
    np.testing.assert_allclose(found, np.where(mask, advantage, 0.0), **EXACT)
    probability = world.rows(lambda w, t: world.policy[w[:t]][w[t]])
    cut_at = jax.jit(partial(cutpoint_borders, threshold=0.4, cutpoints=1))
    border, cut = cut_at(np.log(probability), mask)
    assert 0 < np.asarray(border).sum() < mask.sum()
    found = np.asarray(segment(reward, value, mask, border, final_value=zeros))
    np.testing.assert_allclose(world.gradient(found), exact, **EXACT)
    seen = np.asarray(segment(reward, value, mask, cut, final_value=zeros))
    assert np.abs(world.gradient(seen) - exact).max() > 1e-3


@pytest.mark.parametrize("cutpoints", [1, 2])
def test_cutpoints_equal_oracle(cutpoints):
    rng, mask, spoilt = draw(4, (B, T))
    probability = rng.random((B, T))
    found = cutpoint_borders(spoilt(np.log(probability)), mask, threshold=0.5, cutpoints=cutpoints)
    expected = oracles.cutpoint_borders(probability, mask, 0.5, cutpoints)
    np.testing.assert_array_equal(found, expected)


def test_all_rollouts_in_their_shares_are_the_exact_values():
    """VinePPO of 16 rollouts, of which each string has its share, is the exact advantage."""
    world = Language(2, symbols=3, length=3, quarters=True)
    advantage = world.rows(lambda w, t: world.value(w[: t + 1]) - world.value(w[:t]))
    mask = ~np.isnan(advantage)
    count = 4**world.length
    rollouts = np.full((*mask.shape, count), np.nan)
    for n, word in enumerate(world.strings):
        for t in range(len(word)):
            rest = [w for w in world.strings if w[:t] == word[:t]]
            times = [round(count * world.probability(w, word[:t])) for w in rest]
            rollouts[n, t] = np.repeat([world.reward[w] for w in rest], times)
    reward = world.rows(lambda w, t: world.reward[w] * (t == len(w) - 1))
    found = jax.jit(vine_advantages)(reward, rollouts, mask, mask)
    np.testing.assert_allclose(found, np.where(mask, advantage, 0.0), **EXACT)


def test_a_tree_equals_oracle_and_adds_up():
    reward, branching = np.random.default_rng(5).standard_normal((2, 12)), (2, 3, 2)
    found = np.asarray(tree_advantages(reward, branching=branching))
    for row, leaves in zip(found, reward, strict=True):
        np.testing.assert_allclose(row, oracles.tree_advantages(leaves, branching), **EXACT)
    apart = reward - reward.mean(-1, keepdims=True)
    np.testing.assert_allclose(found.sum(-1), apart, **EXACT)


@pytest.mark.parametrize("scale", [False, True])
def test_gigpo_equals_oracle(scale):
    rng, mask, spoilt = draw(6, (2, K, T))
    mask[:, 1, 2] = True
    reward, state = rng.standard_normal((2, K, T)), rng.integers(-2, 3, (2, K, T))
    found = gigpo(spoilt(reward), state, mask, omega=0.7, discount=0.9, scale=scale)
    expected = oracles.gigpo_advantages(reward, state, mask, 0.7, 0.9, scale)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-10)


def test_gigpo_of_states_met_once_is_that_of_episodes_and_of_equal_returns_nothing():
    rng = np.random.default_rng(7)
    reward, mask = rng.standard_normal((2, K, T)), np.ones((2, K, T), bool)
    state = np.arange(2 * K * T).reshape(2, K, T)
    found = gigpo(reward, state, mask, omega=1.0, discount=1.0, scale=False)
    total = reward.sum(-1, keepdims=True)
    np.testing.assert_allclose(found, (total - total.mean(1, keepdims=True)) * mask, **EXACT)
    same = np.full((2, K, T), 0.1)
    state = np.broadcast_to(np.arange(T), (2, K, T))
    with jax.enable_x64(False):
        assert not np.any(gigpo(np.float32(same), state, mask, omega=1.0, discount=0.9, scale=True))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda r, m: redistributed(r, r, m), "total: expected shape"),
        (lambda r, m: attention_credit(r[:, 0], r, m, beta=1.5), "beta"),
        (lambda r, m: segment_advantages(r, r, m, m[:, :1]), "border"),
        (lambda r, m: vine_advantages(r, r, m, m), "rollouts"),
        (lambda r, m: cutpoint_borders(r, m, threshold=0.0, cutpoints=1), "threshold"),
        (lambda r, m: tree_advantages(r, branching=(3, 1)), "branching"),
        (lambda r, m: tree_advantages(r, branching=(2, 2)), "reward: expected shape"),
        (lambda r, m: gigpo_advantages(r, r, m, omega=1.0, discount=1.0, scale=True), "mask"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(InputError, match=f"^{message}"):
        call(np.zeros((2, 3)), np.ones((2, 3), bool))
