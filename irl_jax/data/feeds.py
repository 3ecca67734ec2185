"""Feeds: shuffled, bucketed, sharded batches whose position can be saved.

A feed follows a plan: which items make up global batch i. The plan depends on
the items' lengths, the seed and i alone, so a feed resumes at any batch, on any
number of processes, and process k of n takes the k-th n-th of every global
batch. Each epoch is shuffled anew. All items of a batch fit one of the given
shapes, and the batch has that shape, so a step compiles once a shape.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any, Generic, Literal, Protocol, TypeVar

import grain
import jax
import numpy as np

from irl_jax.data.batches import bucket_shape
from irl_jax.types import InputError

B = TypeVar("B")
Shape = tuple[int, ...]


class Items(Protocol):
    """A random-access collection of encoded items."""

    def __len__(self) -> int:
        """Number of items."""

    def __getitem__(self, index: int, /) -> Any:
        """An item, with `lengths` (tokens along each axis) and `source`."""


class Plan:
    """Which items make up each global batch.

    Items that share a shape are batched together. An epoch holds every item
    once; what is left over in a shape becomes a batch with padding rows, or is
    dropped (other items each epoch, if shuffled).

    Attributes:
        batches_per_epoch: global batches of an epoch.
        fingerprint: of all that the plan depends on, hexadecimal.
    """

    def __init__(
        self,
        items: Items,
        shapes: Sequence[Shape],
        *,
        batch_size: int,
        seed: int,
        shuffle: bool,
        remainder: Literal["pad", "drop"],
    ):
        self.shapes = [tuple(shape) for shape in shapes]
        self._batch_size = batch_size
        self._seed = seed
        self._shuffle = shuffle
        self._drop = remainder == "drop"
        self._bucket = _buckets(items, self.shapes)
        counts = np.bincount(self._bucket, minlength=len(self.shapes))
        full, rest = np.divmod(counts, batch_size)
        self.batches_per_epoch = int((full if self._drop else full + (rest > 0)).sum())
        if self.batches_per_epoch == 0:
            raise InputError(
                f"feed: {len(items)} items make no batch of {batch_size} a shape; "
                "lower batch_size, take fewer shapes, or set remainder to pad"
            )
        settings = (self.shapes, batch_size, seed, shuffle, remainder)
        digest = hashlib.sha256(repr(settings).encode() + self._bucket.tobytes())
        self.fingerprint = digest.hexdigest()[:16]
        self._epoch = lru_cache(maxsize=2)(self._plan_epoch)

    def batch(self, i: int) -> tuple[Shape, np.ndarray]:
        """Shape and item indices, i64[batch_size], of global batch i; -1 pads."""
        epoch, place = divmod(i, self.batches_per_epoch)
        bucket, indices = self._epoch(epoch)[place]
        return self.shapes[bucket], indices

    def _plan_epoch(self, epoch: int) -> list[tuple[int, np.ndarray]]:
        rng = np.random.default_rng([self._seed, epoch])
        n = len(self._bucket)
        order = rng.permutation(n) if self._shuffle else np.arange(n)
        batches = []
        for bucket in range(len(self.shapes)):
            members = order[self._bucket[order] == bucket]
            short = -len(members) % self._batch_size
            if short and self._drop:
                members = members[: len(members) + short - self._batch_size]
            elif short:
                members = np.concatenate([members, np.full(short, -1)])
            batches += [(bucket, row) for row in members.reshape(-1, self._batch_size)]
        if self._shuffle:
            batches = [batches[i] for i in rng.permutation(len(batches))]
        return batches


class _Source:
    """The batches of one process, in order, for grain to read."""

    def __init__(self, items: Items, collate: Callable, plan: Plan, rows: slice, length: int):
        self._items, self._collate, self._plan = items, collate, plan
        self._rows, self._length = rows, length

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, i: int) -> Any:
        shape, indices = self._plan.batch(i)
        chosen = [self._items[int(j)] if j >= 0 else None for j in indices[self._rows]]
        return self._collate(chosen, shape)

    def __repr__(self) -> str:
        return f"feed {self._plan.fingerprint}"


class Feed(Iterator[B], Generic[B]):
    """An iterator over a process's batches, which can be saved and restored.

    Made by `make_feed`. A state is a dict that JSON can hold; it says how many
    batches were taken, whatever was read ahead.
    """

    def __init__(self, source: _Source, plan: Plan, prefetch: int):
        options = grain.ReadOptions(num_threads=min(prefetch, 2), prefetch_buffer_size=prefetch)
        self._plan = plan
        self._batches = iter(grain.MapDataset.source(source).to_iter_dataset(options))

    @property
    def batches_per_epoch(self) -> int:
        """Batches of an epoch, the same on every process."""
        return self._plan.batches_per_epoch

    def __next__(self) -> B:
        return next(self._batches)

    def get_state(self) -> dict[str, Any]:
        """The position after the last batch taken."""
        return {"plan": self._plan.fingerprint, "iterator": self._batches.get_state()}

    def set_state(self, state: dict[str, Any]) -> None:
        """Goes to a saved position.

        Raises:
            InputError: the state is that of other items, shapes, batch size or
                seed.
        """
        if state["plan"] != self._plan.fingerprint:
            raise InputError(
                "feed: the saved position belongs to other data, shapes, batch_size, seed or "
                "remainder; restore with those of the saved run, or begin anew"
            )
        self._batches.set_state(state["iterator"])

    def close(self) -> None:
        """Ends the threads that read ahead."""
        self._batches.close()


def make_feed(
    items: Items,
    collate: Callable[[list[Any], Any], B],
    *,
    batch_size: int,
    shapes: Sequence[Shape],
    seed: int,
    shuffle: bool = True,
    epochs: int | None = None,
    remainder: Literal["pad", "drop"] = "pad",
    process_index: int | None = None,
    process_count: int | None = None,
    prefetch: int = 2,
) -> Feed[B]:
    """Batches of this process, epoch after epoch.

    Args:
        items: encoded items. With one shape they are read only when their batch
            is due, so they may be encoded on the way.
        collate: (items, shape) -> batch, as `collate_preferences`; None among
            the items stands for a padding row.
        batch_size: rows of a global batch, over all processes.
        shapes: tokens along each axis of the batches, as ((64, 32), (256, 128))
            for prompts and completions.
        seed: of the shuffle.
        shuffle: anew each epoch; otherwise in order, shape by shape.
        epochs: how many; None for no end.
        remainder: what becomes of the last, partial batch of each shape in an
            epoch: filled with padding rows of weight 0, or dropped.
        process_index: this process; `jax.process_index()` by default.
        process_count: processes; `jax.process_count()` by default.
        prefetch: batches made ahead, by threads; 0 for none.

    Raises:
        InputError: no items, an item that no shape holds, a batch size that
            the processes cannot share.
    """
    index = jax.process_index() if process_index is None else process_index
    count = jax.process_count() if process_count is None else process_count
    if len(items) == 0:
        raise InputError("feed: no items; check the file and the length limits")
    if not 0 <= index < count:
        raise InputError(f"process_index: {index} of {count} processes; expected 0 to {count - 1}")
    if not shapes:
        raise InputError("shapes: expected one or more")
    if remainder not in ("pad", "drop"):
        raise InputError(f"remainder: expected pad or drop, got {remainder!r}")
    if batch_size < 1 or batch_size % count:
        raise InputError(
            f"batch_size: {batch_size} rows do not divide among {count} processes; "
            f"take a multiple of {count}"
        )
    plan = Plan(
        items, shapes, batch_size=batch_size, seed=seed, shuffle=shuffle, remainder=remainder
    )
    share = batch_size // count
    rows = slice(index * share, (index + 1) * share)
    length = sys.maxsize if epochs is None else epochs * plan.batches_per_epoch
    return Feed(_Source(items, collate, plan, rows, length), plan, prefetch)


def _buckets(items: Items, shapes: Sequence[Shape]) -> np.ndarray:
    """Index of each item's shape, i32[n]."""
    if len(shapes) == 1:
        return np.zeros(len(items), np.int32)
    found = (items[i] for i in range(len(items)))
    return np.array([bucket_shape(x.lengths, shapes, x.source) for x in found], np.int32)
