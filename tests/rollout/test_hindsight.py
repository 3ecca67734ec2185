"""Transitions of flipped bits, relabelled: beside loops over the episodes that are in a stream."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from irl_jax.envs.exploration import bit_flip, bit_goals
from irl_jax.rollout.hindsight import chosen_column, hindsight, relabelled
from irl_jax.rollout.replay import transitions
from irl_jax.rollout.unroll import begin, unroll
from irl_jax.types import InputError

BITS, ROWS, STEPS, GAMMA = 2, 6, 17, 0.9


@pytest.fixture(scope="module")
def batch():
    """Episodes of two bits, of which many end, many are cut, and some are not over."""
    env = bit_flip(BITS)

    def coin(observation, key):
        return jax.random.randint(key, (), 0, BITS), jnp.log(0.5)

    @jax.jit
    def play(key):
        running = begin(env, key, ROWS)
        return unroll(env, coin, running, key, steps=STEPS, discount=GAMMA)[1]

    return play(jax.random.key(0))


def episodes(batch):
    """(row, columns of actions, whether it terminated) of each episode."""
    mask, discount = np.asarray(batch.mask), np.asarray(batch.discount)
    for row in range(ROWS):
        begun = 0
        for t in range(STEPS):
            if discount[row, t] == 0 or t == STEPS - 1:
                columns = [c for c in range(begun, t + 1) if mask[row, c]]
                yield row, columns, bool(mask[row, t] and discount[row, t] == 0)
                begun = t + 1


def test_columns_are_of_the_same_episode_and_evenly_drawn(batch):
    last = np.asarray(chosen_column(batch.mask, batch.discount))
    draw = jax.jit(jax.vmap(partial(chosen_column, batch.mask, batch.discount)))
    drawn = np.asarray(draw(jax.random.split(jax.random.key(1), 400)))
    kinds = set()
    for row, columns, over in episodes(batch):
        kinds.add((len(columns), over))
        for t in columns:
            assert last[row, t] == columns[-1]
            later = [c for c in columns if c >= t]
            count = np.array([(drawn[:, row, t] == c).sum() for c in later])
            assert count.sum() == 400
            p = 1 / len(later)
            assert (np.abs(count - 400 * p) <= 4.5 * np.sqrt(400 * p * (1 - p))).all()
    assert {(1, True), (2, True), (2, False)} <= kinds


@pytest.mark.parametrize("future", [False, True])
def test_relabelled_transitions_are_those_of_loops(batch, future):
    """States stay, the goal is one that came later, and rewards and ends are those of that goal."""
    key = jax.random.key(2)
    rows = jax.jit(partial(hindsight, goals=bit_goals(BITS), future=future))(batch, key)
    old = transitions(batch)
    at = np.asarray(chosen_column(batch.mask, batch.discount, key if future else None))
    context, final = np.asarray(batch.context), np.asarray(old.final)
    for row, columns, over in episodes(batch):
        after = {t: final[row * STEPS + t, :BITS] for t in columns}
        if over:  # what follows in the stream is the next episode
            after[columns[-1]] = context[row, columns[-1], BITS:]
        for t in columns:
            n, goal = row * STEPS + t, after[at[row, t]]
            reached = (after[t] == goal).all()
            np.testing.assert_array_equal(rows.context[n, 0], [*context[row, t, :BITS], *goal])
            assert rows.reward[n, 0] == (0.0 if reached else -1.0)
            assert rows.terminated[n] == reached and rows.mask[n, 0]
            np.testing.assert_allclose(rows.discount[n, 0], 0.0 if reached else GAMMA)
            if not reached:
                np.testing.assert_array_equal(rows.final[n], [*after[t], *goal])
        if not future:
            assert rows.terminated[row * STEPS + columns[-1]]
    np.testing.assert_array_equal(rows.action, old.action)
    np.testing.assert_array_equal(rows.mask, old.mask)


def test_instructions_are_kept_if_followed_and_drawn_evenly_if_not():
    satisfied = np.array([[1, 1, 0, 0], [0, 1, 1, 1], [0, 0, 0, 0], [1, 0, 0, 0]], bool)
    given = jnp.array([0, 0, 2, 0])
    draw = jax.jit(jax.vmap(lambda key: relabelled(given, satisfied, key)))
    instruction, kept = draw(jax.random.split(jax.random.key(0), 900))
    assert (instruction[:, 0] == 0).all() and (instruction[:, 3] == 0).all()
    np.testing.assert_array_equal(kept, np.broadcast_to([True, True, False, True], (900, 4)))
    count = np.bincount(instruction[:, 1], minlength=4)
    assert count[0] == 0 and np.abs(count[1:] - 300).max() < 4.5 * np.sqrt(900 * 2 / 9)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: chosen_column(jnp.ones(3, bool), jnp.ones(3)), "mask"),
        (lambda: chosen_column(jnp.ones((1, 3), bool), jnp.ones((1, 2))), "discount"),
        (lambda: relabelled(jnp.zeros(2), jnp.ones((2, 2), bool), jax.random.key(0)), "given"),
        (lambda: relabelled(jnp.zeros(1, int), jnp.ones((2, 2), bool), jax.random.key(0)), "given"),
        (lambda: relabelled(jnp.zeros(1, int), jnp.ones((1, 2)), jax.random.key(0)), "satisfied"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(InputError, match=f"^{message}"):
        call()
