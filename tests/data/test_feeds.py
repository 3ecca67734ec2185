"""Feeds: coverage, shards, buckets, saved positions."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from itertools import islice

import numpy as np
import pytest

from irl_jax.data.batches import collate_preferences
from irl_jax.data.encode import EncodedPreference
from irl_jax.data.feeds import make_feed
from irl_jax.types import InputError

SHAPES = ((4,), (16,), (8,))
LENGTHS = [3, 8, 1, 12, 7, 4, 16, 2, 5, 4, 9, 1, 6, 3, 15, 2, 4, 8, 1]


@dataclass(frozen=True)
class Item:
    number: int
    length: int

    @property
    def lengths(self):
        return (self.length,)

    @property
    def source(self):
        return f"f:{self.number + 1}"


ITEMS = [Item(i, n) for i, n in enumerate(LENGTHS)]


def collate(items, shape):
    """What a batch was made of: its shape and the numbers of its items."""
    assert all(x is None or x.length <= shape[0] for x in items)
    return shape, tuple(-1 if x is None else x.number for x in items)


def feed(**options):
    defaults = {"batch_size": 4, "shapes": SHAPES, "seed": 0, "epochs": 1}
    defaults |= {"process_index": 0, "process_count": 1}
    return make_feed(ITEMS, collate, **{**defaults, **options})


@pytest.mark.parametrize("shapes", [SHAPES, ((16,),)])
@pytest.mark.parametrize("shuffle", [True, False])
def test_an_epoch_holds_every_item_once_in_its_smallest_shape(shapes, shuffle):
    one = feed(shapes=shapes, shuffle=shuffle)
    batches = list(one)
    assert len(batches) == one.batches_per_epoch
    numbers = [n for _, row in batches for n in row if n >= 0]
    assert sorted(numbers) == list(range(len(ITEMS)))
    assert all(len(row) == 4 for _, row in batches)
    for shape, row in batches:
        for n in row:
            assert n < 0 or shape[0] == min(s[0] for s in shapes if s[0] >= LENGTHS[n])
    counts = Counter(shape for shape, _ in batches)
    padding = Counter(shape for shape, row in batches for n in row if n < 0)
    for shape in counts:
        assert padding[shape] < 4  # padding rows in the last batch of a shape alone


def test_dropping_the_remainder():
    batches = list(feed(remainder="drop"))
    assert all(n >= 0 for _, row in batches for n in row)
    kept = Counter(shape for shape, _ in batches)
    sizes = Counter(next(s for s in sorted(SHAPES) if s[0] >= n) for n in LENGTHS)
    assert kept == {shape: n // 4 for shape, n in sizes.items()}


def test_epochs_are_shuffled_anew_and_seeds_differ():
    once = feed().batches_per_epoch
    batches = list(feed(epochs=3))
    assert len(batches) == 3 * once
    first, second = batches[:once], batches[once : 2 * once]
    assert first == list(feed()) and first != second
    assert sorted(n for _, row in first for n in row) == sorted(n for _, row in second for n in row)
    assert first != list(feed(seed=1))
    orders = {tuple(shape for shape, _ in feed(seed=seed)) for seed in range(5)}
    assert len(orders) > 1  # the shapes come in no fixed order
    assert list(islice(feed(epochs=None), 3 * once)) == batches
    in_order = list(feed(shuffle=False, shapes=((16,),), epochs=2))
    assert [n for _, row in in_order for n in row if n >= 0] == 2 * list(range(len(ITEMS)))


@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize("remainder", ["pad", "drop"])
def test_shards_make_up_the_global_batches(count, remainder):
    whole = list(feed(remainder=remainder, epochs=2))
    shards = [
        list(feed(remainder=remainder, epochs=2, process_index=k, process_count=count))
        for k in range(count)
    ]
    assert len({len(shard) for shard in shards}) == 1
    for i, (shape, row) in enumerate(whole):
        assert all(shard[i][0] == shape for shard in shards)
        assert sum((shard[i][1] for shard in shards), ()) == row
    once = len(whole) // 2
    seen = [{n for _, row in shard[:once] for n in row if n >= 0} for shard in shards]
    assert sum(map(len, seen)) == len(set.union(*seen))  # disjoint in an epoch
    if remainder == "pad":
        assert set.union(*seen) == set(range(len(ITEMS)))


@pytest.mark.parametrize("prefetch", [0, 1, 8])
@pytest.mark.parametrize("taken", [0, 1, 4, 9])
def test_restored_feed_goes_on_with_the_same_batches(taken, prefetch):
    one = feed(epochs=3, prefetch=prefetch)
    list(islice(one, taken))
    state = json.loads(json.dumps(one.get_state()))
    rest = list(one)
    other = feed(epochs=3, prefetch=prefetch)
    list(islice(other, 2))  # it may have moved already
    other.set_state(state)
    assert other.get_state() == state
    assert list(other) == rest
    assert len(rest) == 3 * one.batches_per_epoch - taken
    one.set_state(state)
    assert list(one) == rest


def test_restored_on_another_number_of_processes():
    one = feed(epochs=2)
    list(islice(one, 3))
    state = one.get_state()
    halves = [feed(epochs=2, process_index=k, process_count=2) for k in range(2)]
    for half in halves:
        half.set_state(state)
    joined = [(a[0], a[1] + b[1]) for a, b in zip(*halves, strict=True)]
    assert joined == list(one)


@pytest.mark.parametrize(
    "options",
    [
        {"seed": 1},
        {"batch_size": 2},
        {"shapes": ((16,),)},
        {"shuffle": False},
        {"remainder": "drop"},
    ],
)
def test_a_state_of_another_feed_is_refused(options):
    with pytest.raises(InputError, match="the saved position belongs to other data"):
        feed(**options).set_state(feed().get_state())


def test_a_state_of_other_data_is_refused():
    shorter = make_feed(ITEMS[:-1], collate, batch_size=4, shapes=SHAPES, seed=0, epochs=1)
    with pytest.raises(InputError, match="the saved position belongs to other data"):
        shorter.set_state(feed().get_state())


@pytest.mark.parametrize(
    ("items", "options", "message"),
    [
        ([], {}, "feed: no items"),
        (ITEMS, {"batch_size": 6, "process_count": 4}, "6 rows do not divide among 4 processes"),
        (ITEMS, {"batch_size": 0}, "batch_size: 0 rows"),
        (ITEMS, {"batch_size": 12, "remainder": "drop"}, "make no batch of 12"),
        (ITEMS, {"shapes": ((4,), (8,))}, r"f:4: no shape among .* holds \(12,\) tokens"),
        (ITEMS, {"shapes": ()}, "shapes: expected one or more"),
        (ITEMS, {"remainder": "keep"}, "remainder: expected pad or drop, got 'keep'"),
        (ITEMS, {"process_index": 4, "process_count": 4}, "process_index: 4 of 4"),
    ],
)
def test_errors(items, options, message):
    settings = {"batch_size": 4, "shapes": SHAPES, "seed": 0, **options}
    with pytest.raises(InputError, match=message):
        make_feed(items, collate, **settings)


def test_items_are_read_when_due():
    class Lazy:
        read = 0

        def __len__(self):
            return 100

        def __getitem__(self, i):
            Lazy.read += 1
            return Item(i, 3)

    one = make_feed(Lazy(), collate, batch_size=4, shapes=((4,),), seed=0, prefetch=2)
    assert Lazy.read == 0
    next(one)
    one.close()
    assert Lazy.read <= 16


def test_an_error_in_an_item_reaches_the_reader():
    class Broken:
        def __len__(self):
            return 4

        def __getitem__(self, i):
            raise InputError(f"f:{i + 1}: bad line")

    with pytest.raises(InputError, match=r"f:\d: bad line"):
        next(make_feed(Broken(), collate, batch_size=2, shapes=((4,),), seed=0))


def test_feed_of_preferences():
    pairs = [
        EncodedPreference([1] * (1 + i % 3), [2], [3] * (1 + i % 2), 0.0, 1.0, f"f:{i}")
        for i in range(7)
    ]
    batches = list(
        make_feed(
            pairs,
            lambda items, shape: collate_preferences(items, shape, pad_id=0),
            batch_size=2,
            shapes=((2, 2), (4, 2)),
            seed=0,
            epochs=1,
        )
    )
    assert {batch.context.tokens.shape for batch in batches} == {(2, 2), (2, 4)}
    assert all(batch.action.shape == (2, 2, 2) for batch in batches)
    assert np.sum([batch.weight.sum() for batch in batches]) == 7
