"""Choices of tasks, beside loops and closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from irl_jax.data.curriculum import learnable, level_logp, level_values, reverse_start
from irl_jax.dynamics.advantages import group_advantages
from irl_jax.types import InputError


def test_what_is_learnable_is_the_mean_square_of_the_advantage():
    right = np.random.default_rng(0).random((30, 4)) < 0.5
    kept, much = learnable(jnp.array(right), low=0.25, high=0.5)
    advantage = group_advantages(right.astype(np.float32), scale=False)
    np.testing.assert_allclose(much, (np.asarray(advantage) ** 2).mean(-1), atol=1e-6)
    np.testing.assert_array_equal(kept, [row.sum() in (1, 2) for row in right])


def test_levels_have_the_moving_mean_of_their_advantages():
    rng = np.random.default_rng(1)
    value, level = rng.random(4), rng.integers(0, 3, 9)
    advantage = rng.standard_normal((9, 5))
    found = level_values(np.float32(value), jnp.array(level), np.float32(advantage), rate=0.3)
    for c in range(4):
        sizes = [np.abs(a).mean() for a, of in zip(advantage, level, strict=True) if of == c]
        expected = 0.3 * np.mean(sizes) + 0.7 * value[c] if sizes else value[c]
        assert found[c] == pytest.approx(expected, rel=1e-5)
    assert 3 not in level
    p = np.exp(value / 0.2) / np.exp(value / 0.2).sum()
    np.testing.assert_allclose(np.exp(level_logp(np.float32(value), temperature=0.2)), p, rtol=1e-5)


@pytest.mark.parametrize("stages", [1, 3, 5])
def test_starts_go_back_to_the_beginning(stages):
    """Of rows with columns that are none, in even stages."""
    mask = np.random.default_rng(2).random((6, 9)) < 0.6
    start = jax.jit(reverse_start, static_argnames="stages")
    for stage in range(1, stages + 1):
        found = np.asarray(start(mask, stage=jnp.array(stage), stages=stages))
        for row, at in zip(mask, found, strict=True):
            own = row[at:].sum()
            assert row[:at].sum() == row.sum() * (stages - stage) // stages
            assert own == 0 or row[at]
            assert stage < stages or own == row.sum()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: learnable(jnp.zeros((1, 2)), low=0.1, high=0.9), "right"),
        (lambda: learnable(jnp.ones((1, 2), bool), low=0.9, high=0.1), "high"),
        (lambda: level_values(jnp.zeros(2), jnp.zeros(3, int), jnp.zeros((2, 2)), rate=0.5), "lev"),
        (lambda: level_values(jnp.zeros(2), jnp.zeros(2, int), jnp.zeros((2, 2)), rate=0.0), "rat"),
        (lambda: level_logp(jnp.zeros(2), temperature=0.0), "temperature"),
        (lambda: reverse_start(jnp.ones(3, bool), stage=4, stages=3), "stage"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(InputError, match=f"^{message}"):
        call()
