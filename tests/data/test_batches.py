"""Collation, buckets and packing, against what was put in."""

from __future__ import annotations

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given

from irl_jax.data.batches import (
    bucket_shape,
    collate_demonstrations,
    collate_groups,
    collate_preferences,
    collate_prompts,
    one_per_row,
    pack,
)
from irl_jax.data.encode import (
    EncodedDemonstration,
    EncodedGroup,
    EncodedPreference,
    EncodedPrompt,
)
from irl_jax.data.jsonl import PromptRecord
from irl_jax.losses.demonstration import nll
from irl_jax.losses.scores import log_ratio, mean_log_ratio
from irl_jax.models.decoder import forward
from irl_jax.models.heads import last_value
from irl_jax.models.logprob import completion_hidden_logp, sequence_logp
from irl_jax.types import InputError
from tests.models.cases import CONFIG, random_params

PAD = 9
PAIRS = [
    EncodedPreference([1, 2, 3], [4, 5], [6], 0.5, 2.0, "f:1"),
    EncodedPreference([7], [8], [1, 2, 3], 0.0, 1.0, "f:2"),
]


def test_preferences_are_padded_left_and_right():
    batch = collate_preferences([*PAIRS, None], (4, 3), pad_id=PAD)
    assert batch.context.tokens.tolist() == [[9, 1, 2, 3], [9, 9, 9, 7], [9, 9, 9, 9]]
    assert batch.context.mask.astype(int).tolist() == [[0, 1, 1, 1], [0, 0, 0, 1], [0, 0, 0, 1]]
    assert batch.action.tolist() == [
        [[4, 5, 9], [6, 9, 9]],
        [[8, 9, 9], [1, 2, 3]],
        [[9, 9, 9], [9, 9, 9]],
    ]
    assert batch.mask.astype(int).tolist() == [
        [[1, 1, 0], [1, 0, 0]],
        [[1, 0, 0], [1, 1, 1]],
        [[0, 0, 0], [0, 0, 0]],
    ]
    assert batch.margin.tolist() == [0.5, 0, 0]
    assert batch.weight.tolist() == [2, 1, 0]
    dtypes = [leaf.dtype.name for leaf in jax.tree.leaves(batch)]
    assert dtypes == ["int32", "bool", "int32", "bool", "float32", "float32"]
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(batch))


def test_groups_are_the_pairs_without_their_order():
    groups = [EncodedGroup(x.prompt, [x.chosen, x.rejected], x.source) for x in PAIRS]
    context, action, mask = collate_groups([groups[0], None, groups[1]], (4, 3), pad_id=PAD)
    want = collate_preferences([PAIRS[0], None, PAIRS[1]], (4, 3), pad_id=PAD)
    jax.tree.map(
        np.testing.assert_array_equal,
        (context, action, mask),
        (want.context, want.action, want.mask),
    )
    assert groups[1].lengths == (1, 3)
    with pytest.raises(InputError, match=r"f:2: 3 tokens do not fit a shape of 2"):
        collate_groups(groups, (4, 2), pad_id=PAD)


def test_prompts():
    prompts = [EncodedPrompt([1, 2], PromptRecord("p", {}, "f:1")), None]
    batch = collate_prompts(prompts, (3,), pad_id=PAD)
    assert batch.tokens.tolist() == [[9, 1, 2], [9, 9, 9]]
    assert batch.mask.tolist() == [[False, True, True], [False, False, True]]


def test_demonstrations_in_a_row():
    first = EncodedDemonstration([1, 2], [3, 4], "f:1")
    second = EncodedDemonstration([5], [6], "f:2")
    batch = collate_demonstrations([*pack([first, second], 7), None], (7,), pad_id=PAD)
    assert batch.tokens.tolist() == [[1, 2, 3, 4, 5, 6, 9], [9] * 7]
    assert batch.segment.tolist() == [[1, 1, 1, 1, 2, 2, 0], [0] * 7]
    assert batch.mask.astype(int).tolist() == [[0, 0, 1, 1, 0, 1, 0], [0] * 7]
    assert batch.mask.dtype == bool and batch.tokens.dtype == batch.segment.dtype == np.int32


@pytest.mark.parametrize(
    ("collate", "items", "shape"),
    [
        (collate_preferences, PAIRS, (2, 3)),
        (collate_preferences, PAIRS[1:], (3, 2)),
        (collate_prompts, [EncodedPrompt([1] * 3, PromptRecord("", {}, "f:1"))], (2,)),
        (collate_demonstrations, one_per_row([EncodedDemonstration([1], [2, 3], "f:1")]), (2,)),
    ],
)
def test_items_longer_than_the_shape(collate, items, shape):
    with pytest.raises(InputError, match=r"f:[12]: 3 tokens do not fit a shape of 2"):
        collate(items, shape, pad_id=PAD)


def test_buckets():
    shapes = [(8, 64), (32, 8), (32, 64)]
    assert bucket_shape((8, 8), shapes, "f:1") == 1  # of fewest tokens
    assert bucket_shape((8, 9), shapes, "f:1") == 0
    assert bucket_shape((9, 9), shapes, "f:1") == 2
    with pytest.raises(InputError, match=r"f:1: no shape among .* holds \(33, 1\) tokens"):
        bucket_shape((33, 1), shapes, "f:1")


demonstrations = st.lists(
    st.tuples(st.integers(1, 5), st.integers(1, 5)).map(
        lambda n: EncodedDemonstration(list(range(n[0])), list(range(50, 50 + n[1])), "f:1")
    ),
    min_size=1,
    max_size=30,
)


@given(demonstrations, st.integers(10, 25))
def test_packed_rows_hold_what_the_unpacked_hold(items, length):
    rows = pack(items, length)
    assert all(row.lengths[0] <= length for row in rows)
    packed = collate_demonstrations(rows, (length,), pad_id=PAD)
    single = collate_demonstrations(one_per_row(items), (length,), pad_id=PAD)

    def contents(batch):
        """(tokens, mask) of every segment, each of which is contiguous."""
        found = []
        for row in range(len(batch.tokens)):
            for number in range(1, batch.segment[row].max() + 1):
                (here,) = np.nonzero(batch.segment[row] == number)
                assert (np.diff(here) == 1).all()
                parts = (batch.tokens, batch.mask)
                found.append(tuple(tuple(part[row][here].tolist()) for part in parts))
        return sorted(found)

    assert contents(packed) == contents(single)
    assert len(contents(packed)) == len(items)
    outside = packed.segment == 0
    assert (packed.tokens[outside] == PAD).all() and not packed.mask[outside].any()


def test_packing_is_first_fit():
    items = [EncodedDemonstration([0], [0] * (n - 1), f"f:{n}") for n in (6, 5, 4, 3, 2)]
    rows = pack(items, 10)
    assert [[x.source for x in row.items] for row in rows] == [
        ["f:6", "f:4"],
        ["f:5", "f:3", "f:2"],
    ]


def test_packing_many_rows():
    items = [EncodedDemonstration([0], [0], f"f:{i}") for i in range(5000)]
    assert len(pack(items, 3)) == 5000  # one each: more rows than the first table holds
    assert len(pack(items, 4)) == 2500


def test_packing_an_item_longer_than_a_row():
    with pytest.raises(InputError, match="f:7: 5 tokens do not fit a row of 4"):
        pack([EncodedDemonstration([1, 2], [3, 4, 5], "f:7")], 4)


HOLES = [True, True, False, False, True]  # the second turn of a completion is another's


def test_holes_of_the_encoded_are_holes_of_the_batch():
    ids = [4, 5, 6, 7, 8]
    pair = EncodedPreference([1], ids, [3], 0.0, 1.0, "f:1", masks=[HOLES, [True]])
    batch = collate_preferences([None, pair, PAIRS[0]], (3, 6), pad_id=PAD)
    assert batch.action[1, 0].tolist() == [*ids, PAD]
    assert batch.mask[1].tolist() == [[*HOLES, False], [True, *[False] * 5]]
    assert batch.mask[2].tolist() == [[True, True, *[False] * 4], [True, *[False] * 5]]
    assert not batch.mask[0].any()
    group = EncodedGroup([1], [[3], ids], "f:1", masks=[[True], HOLES])
    _, action, mask = collate_groups([group], (3, 6), pad_id=PAD)
    assert (action[0, 1].tolist(), mask[0, 1].tolist()) == ([*ids, PAD], [*HOLES, False])
    alone = EncodedDemonstration([1, 2], ids, "f:1", masks=[HOLES])
    demonstrations = collate_demonstrations([*one_per_row([alone]), None], (8,), pad_id=PAD)
    assert demonstrations.tokens[0].tolist() == [1, 2, *ids, PAD]
    assert demonstrations.mask[0].tolist() == [False, False, *HOLES, False]
    assert demonstrations.segment[0].tolist() == [1] * 7 + [0]


def test_scores_of_completions_with_holes_are_those_of_their_spans():
    """Σ log π over the assistant's tokens of the whole, and the state after the last."""
    params = random_params(CONFIG)
    prompt, ids = [1, 2], [4, 5, 6, 7, 8]
    whole = jnp.asarray([prompt + ids])
    hidden, _ = forward(CONFIG, params, whole)
    logp = np.asarray(sequence_logp(CONFIG, params, whole, jnp.ones_like(whole)))[0, len(prompt) :]
    expected = sum(logp[t] for t, action in enumerate(HOLES) if action)
    pair = EncodedPreference(prompt, ids, [3], 0.0, 1.0, "f:1", masks=[HOLES, [True]])
    batch = collate_preferences([pair], (4, 8), pad_id=0)
    states, found = completion_hidden_logp(CONFIG, params, batch.context, batch.action)
    zeros = jnp.zeros_like(found)
    np.testing.assert_allclose(log_ratio(found, zeros, batch.mask)[0, 0], expected, rtol=1e-4)
    np.testing.assert_allclose(
        mean_log_ratio(found, zeros, batch.mask)[0, 0], expected / sum(HOLES), rtol=1e-4
    )
    value = last_value(states[..., 0], batch.mask)[0, 0]
    np.testing.assert_allclose(value, hidden[0, -1, 0], rtol=1e-3, atol=1e-4)
    item = EncodedDemonstration(prompt, ids, "f:1", masks=[HOLES])
    rows = collate_demonstrations(one_per_row([item]), (9,), pad_id=0)
    all_logp = sequence_logp(CONFIG, params, rows.tokens, rows.segment)
    total = nll(all_logp, rows).total
    np.testing.assert_allclose(total, -expected, rtol=1e-4)
