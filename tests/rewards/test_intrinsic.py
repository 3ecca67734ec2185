"""Bonuses beside loops, and what they do where optimal values are known exactly."""

from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from irl_jax.dynamics.planning import infinite_horizon
from irl_jax.envs.tabular import random_mdp
from irl_jax.rewards.intrinsic import (
    count_bonus,
    historical_bonus,
    novelty,
    repetition_penalty,
    shifted,
)
from irl_jax.types import InputError


def test_a_count_is_of_the_times_before():
    """Over a run: each visit of a state pays less, β, β/√2, β/√3, ..."""
    visits = np.random.default_rng(0).integers(0, 3, 30)
    before = [np.sum(visits[:t] == s) for t, s in enumerate(visits)]
    paid = np.asarray(count_bonus(jnp.array(before), scale=0.5))
    for state in range(3):
        times = np.arange(1, (visits == state).sum() + 1)
        np.testing.assert_allclose(paid[visits == state], 0.5 / np.sqrt(times), rtol=1e-6)


def test_novelty_is_the_squared_distance():
    f, g = np.random.default_rng(1).standard_normal((2, 4, 3)).astype(np.float32)
    np.testing.assert_allclose(novelty(f, g), np.linalg.norm(f - g, axis=-1) ** 2, rtol=1e-5)
    assert not np.any(novelty(f, f))


def test_a_network_that_was_trained_on_a_state_finds_it_less_new():
    """A linear network, by gradient descent on novelty itself."""
    target = jax.random.normal(jax.random.key(0), (4, 8))
    states = jnp.eye(4)
    loss = lambda w: novelty(states[:2] @ w, states[:2] @ target).mean()
    step = jax.jit(lambda w: w - 0.3 * jax.grad(loss)(w))
    w = jnp.zeros((4, 8))
    for _ in range(20):
        w = step(w)
    new = np.asarray(novelty(states @ w, states @ target))
    np.testing.assert_allclose(new[2:], (np.asarray(target)[2:] ** 2).sum(-1), rtol=1e-5)
    assert new[:2].max() < 0.01 * new[2:].min()


@pytest.mark.parametrize("centre", [False, True])
def test_historical_bonus_equals_loops(centre):
    count = np.random.default_rng(2).integers(0, 6, (3, 5))
    found = np.asarray(historical_bonus(jnp.array(count), centre=centre))
    for row, counts in zip(found, count, strict=True):
        bonus = np.array([min(1.0, n**-0.5) if n else 1.0 for n in counts])
        np.testing.assert_allclose(row, bonus - centre * bonus.mean(), rtol=1e-5, atol=1e-6)


def test_repetition_penalty_equals_loops():
    rng = np.random.default_rng(3)
    answer, mask = rng.integers(0, 3, (4, 6)), rng.random((4, 6)) < 0.7
    found = np.asarray(repetition_penalty(jnp.array(answer), mask))
    for b, k in np.ndindex(answer.shape):
        times = Counter(answer[b][mask[b]].tolist())[int(answer[b, k])]
        assert found[b, k] == pytest.approx(-(times - 1) / 6 if mask[b, k] else 0.0)


def test_a_shift_moves_every_value_by_as_much_and_no_policy():
    with jax.enable_x64(True):
        mdp = random_mdp(jax.random.key(0), 6, 3, discount=0.9, successors=2)
        reward = jax.random.normal(jax.random.key(1), (6, 3))
        moved = shifted(reward, jnp.ones((6, 3), bool), shift=-0.7)
        plan = jax.jit(lambda r: infinite_horizon(mdp, r, temperature=None, tolerance=1e-12))
        before, after = plan(reward), plan(moved)
        np.testing.assert_allclose(after.value - before.value, -0.7 / (1 - 0.9), rtol=1e-9)
        np.testing.assert_array_equal(after.logp, before.logp)
    masked = shifted(jnp.array([1.0, jnp.nan]), jnp.array([True, False]), shift=2.0)
    assert masked.tolist() == [3.0, 0.0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: count_bonus(jnp.zeros(2), scale=-1.0), "scale"),
        (lambda: novelty(jnp.zeros((2, 3)), jnp.zeros((2, 2))), "target"),
        (lambda: historical_bonus(jnp.zeros(3), centre=True), "count"),
        (lambda: repetition_penalty(jnp.zeros((1, 2)), jnp.ones((1, 2))), "mask"),
        (lambda: shifted(jnp.zeros(2), jnp.ones(3, bool), shift=1.0), "reward"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(InputError, match=f"^{message}"):
        call()
