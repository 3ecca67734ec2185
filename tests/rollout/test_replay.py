"""Transitions of a stream of episodes, and a buffer that holds exactly the last of them."""

from collections import deque
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from irl_jax.envs.environment import Environment, Step
from irl_jax.rollout.replay import draw, empty_replay, store, transitions
from irl_jax.rollout.unroll import begin, unroll
from irl_jax.types import InputError

LIMIT = 5
# counts its steps from 10 on; the action 1 adds one more, and 17 is an end
COUNTER = Environment(
    reset=lambda key: jnp.asarray(10.0),
    step=lambda state, action, key: Step(
        state + 1.0 + action, 100.0 * state + action, state + 1.0 + action >= 17.0
    ),
    observe=lambda state: state[None],
    observation=(1,),
    action=2,
    time_limit=LIMIT,
)


def coin(observation, key):
    return jax.random.bernoulli(key).astype(jnp.int32), jnp.log(0.5)


def test_a_transition_has_the_state_it_led_to_and_knows_an_end_from_a_cut():
    running = begin(COUNTER, jax.random.key(0), 3)
    batch = unroll(COUNTER, coin, running, jax.random.key(1), steps=40, discount=0.9)[1]
    rows = transitions(batch)
    assert rows.action.shape == rows.mask.shape == rows.discount.shape == (120, 1)
    taken = np.asarray(rows.mask[:, 0])
    state, action = (np.asarray(x)[taken, 0] for x in (rows.context[..., 0], rows.action))
    np.testing.assert_array_equal(rows.reward[taken, 0], 100 * state + action)
    ended = state + 1 + action >= 17
    np.testing.assert_array_equal(rows.discount[taken, 0], np.where(ended, 0.0, np.float32(0.9)))
    np.testing.assert_array_equal(rows.terminated[taken], ended)
    led = np.asarray(rows.final)[taken, 0]
    np.testing.assert_array_equal(led[~ended], (state + 1 + action)[~ended])
    assert ended.sum() > 3 and (~taken).sum() > 3
    with pytest.raises(InputError, match=r"^batch: transitions need"):
        transitions(replace(batch, final=None))


@pytest.mark.parametrize("capacity", [1, 3, 7])
def test_a_buffer_holds_exactly_the_last_rows(capacity):
    """Beside a deque, over batches that are smaller, as large, and larger than the buffer."""
    rng = np.random.default_rng(capacity)
    add = jax.jit(store)
    row = {"x": jnp.zeros((1, 2)), "n": jnp.zeros(1, jnp.int32)}
    replay, last, counter = empty_replay(row, capacity), deque(maxlen=capacity), 0
    assert int(replay.size) == 0
    for _ in range(12):
        number = counter + np.arange(5)
        mask = rng.uniform(size=5) < 0.6
        rows = {"x": jnp.stack([number, -number], -1).astype(float), "n": jnp.asarray(number)}
        replay = add(replay, rows, jnp.asarray(mask))
        last.extend(number[mask].tolist())
        counter += 5
        size = int(replay.size)
        assert size == len(last)
        assert sorted(np.asarray(replay.rows["n"])[:size].tolist()) == list(last)
        np.testing.assert_array_equal(replay.rows["x"][:size, 1], -replay.rows["n"][:size])


def test_rows_are_drawn_evenly_from_what_is_there():
    replay = empty_replay(jnp.zeros(1, jnp.int32), 10)
    replay = store(replay, jnp.array([4, 5, 6, 7]), jnp.array([True, True, False, True]))
    drawn = np.asarray(draw(replay, jax.random.key(0), 3000))
    values, counts = np.unique(drawn, return_counts=True)
    assert values.tolist() == [4, 5, 7]
    assert abs(counts - 1000).max() < 4.5 * np.sqrt(3000 * 2 / 9)


def test_bad_input():
    with pytest.raises(InputError, match=r"^capacity"):
        empty_replay(jnp.zeros(1), 0)
    with pytest.raises(InputError, match=r"^mask"):
        store(empty_replay(jnp.zeros(1), 2), jnp.zeros(3), jnp.ones(2, bool))
