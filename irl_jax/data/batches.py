"""Token ids to NumPy batches of static shape: padding, buckets, packing.

Prompts are padded on the left, completions on the right. The mask of a completion of several
turns has holes: what others say between is read, and is no action. A padding row (None
among the items) has weight 0, an empty mask, and a prompt of one padding token,
so that every row has something to attend to.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from irl_jax.data.encode import (
    EncodedDemonstration,
    EncodedGroup,
    EncodedPreference,
    EncodedPrompt,
)
from irl_jax.data.encode_judged import (
    EncodedRanking,
    EncodedRating,
    EncodedScored,
    EncodedSteps,
)
from irl_jax.types import (
    Demonstration,
    Group,
    InputError,
    Preference,
    Prompt,
    Ranking,
    Rating,
    StepLabels,
)


def bucket_shape(lengths: tuple[int, ...], shapes: Sequence[tuple[int, ...]], source: str) -> int:
    """Index of the smallest shape that holds an item.

    Args:
        lengths: tokens along each axis, as (prompt, completion).
        shapes: shapes, in any order; the one of fewest tokens that fits wins.
        source: `FILE:LINE` of the item, for the error.

    Raises:
        InputError: no shape holds it.
    """
    fitting = [
        (sum(shape), i)
        for i, shape in enumerate(shapes)
        if all(n <= limit for n, limit in zip(lengths, shape, strict=True))
    ]
    if not fitting:
        raise InputError(
            f"{source}: no shape among {list(shapes)} holds {lengths} tokens; "
            "add a longer one, or lower the limits it was encoded with"
        )
    return min(fitting)[1]


def collate_preferences(
    items: Sequence[EncodedPreference | None], shape: tuple[int, ...], *, pad_id: int
) -> Preference:
    """A batch of pairs.

    Args:
        items: B pairs; None for a padding row.
        shape: (P, T), tokens of prompts and of completions.
        pad_id: what fills the rest.

    Returns:
        `Preference` of NumPy arrays: context [B, P], action i32[B, 2, T].

    Raises:
        InputError: an item is longer than the shape.
    """
    sides = [[x.chosen, x.rejected] if x else [] for x in items]
    context, action, mask = _several_each(items, sides, 2, shape, pad_id)
    return _build(
        Preference,
        context=context,
        action=action,
        mask=mask,
        margin=_floats(x.margin if x else 0.0 for x in items),
        weight=_floats(x.weight if x else 0.0 for x in items),
    )


def collate_groups(
    items: Sequence[EncodedGroup | None], shape: tuple[int, ...], *, pad_id: int
) -> tuple[Prompt, np.ndarray, np.ndarray]:
    """A batch of prompts with K completions each.

    Args:
        items: B prompts, at least one of them not None, which is a padding row.
        shape: (P, T), tokens of prompts and of completions.
        pad_id: what fills the rest.

    Returns:
        The prompts [B, P], their completions i32[B, K, T] and the mask bool[B, K, T].

    Raises:
        InputError: an item is longer than the shape.
    """
    k = next(len(x.completions) for x in items if x)
    rows = [x.completions if x else [] for x in items]
    return _several_each(items, rows, k, shape, pad_id)


def collate_ratings(
    items: Sequence[EncodedRating | None], shape: tuple[int, ...], *, pad_id: int
) -> Rating:
    """A batch of judged completions.

    Args:
        items: B ratings; None for a padding row.
        shape: (P, T), tokens of prompts and of completions.
        pad_id: what fills the rest.

    Returns:
        `Rating` of NumPy arrays: context [B, P], action i32[B, T].

    Raises:
        InputError: an item is longer than the shape.
    """
    context, action, mask = _one_each(items, shape, pad_id)
    return _build(
        Rating,
        context=context,
        action=action,
        mask=mask,
        score=_floats(x.score if x else 0.0 for x in items),
        weight=_floats(x.weight if x else 0.0 for x in items),
    )


def collate_rankings(
    items: Sequence[EncodedRanking | None], shape: tuple[int, ...], *, pad_id: int
) -> Ranking:
    """A batch of rankings, which may differ in how many completions they rank.

    Args:
        items: B rankings, at least one of them not None, which is a padding row.
        shape: (P, T), tokens of prompts and of completions.
        pad_id: what fills the rest.

    Returns:
        `Ranking` of NumPy arrays: context [B, P], action i32[B, K, T], K that of the longest
        ranking that was encoded with these.

    Raises:
        InputError: an item is longer than the shape.
    """
    k = max(x.most for x in items if x)
    rows = [x.completions if x else [] for x in items]
    context, action, mask = _several_each(items, rows, k, shape, pad_id)
    return _build(
        Ranking,
        context=context,
        action=action,
        mask=mask,
        count=np.array([len(row) for row in rows], np.int32),
        weight=_floats(x.weight if x else 0.0 for x in items),
    )


def collate_scored(
    items: Sequence[EncodedScored | None], shape: tuple[int, ...], *, pad_id: int
) -> Group:
    """A batch of scored completions.

    Who wrote them is not known: `logp` is 0, and stands for no policy. A loss that divides
    by the policy they were sampled from needs those log-probs put in its place.

    Args:
        items: B prompts, at least one of them not None, which is a padding row: it has no
            weight, and takes part in no mean for its mask alone.
        shape: (P, T), tokens of prompts and of completions.
        pad_id: what fills the rest.

    Returns:
        `Group` of NumPy arrays: context [B, P], action i32[B, K, T], the scores as reward.

    Raises:
        InputError: an item is longer than the shape.
    """
    k = next(len(x.completions) for x in items if x)
    rows = [x.completions if x else [] for x in items]
    context, action, mask = _several_each(items, rows, k, shape, pad_id)
    return _build(
        Group,
        context=context,
        action=action,
        mask=mask,
        logp=np.zeros(action.shape, np.float32),
        reward=np.array([x.scores if x else [0.0] * k for x in items], np.float32),
        terminated=np.array([x.ended if x else [False] * k for x in items], bool),
    )


def collate_steps(
    items: Sequence[EncodedSteps | None], shape: tuple[int, ...], *, pad_id: int
) -> StepLabels:
    """A batch of completions with judged steps.

    Args:
        items: B completions; None for a padding row.
        shape: (P, T), tokens of prompts and of completions.
        pad_id: what fills the rest.

    Returns:
        `StepLabels` of NumPy arrays: context [B, P], action i32[B, T].

    Raises:
        InputError: an item is longer than the shape.
    """
    context, action, mask = _one_each(items, shape, pad_id)
    end, label = np.zeros(action.shape, bool), np.zeros(action.shape, np.float32)
    for i, item in enumerate(items):
        if item:
            end[i, item.ends] = True
            label[i, item.ends] = item.labels
    weight = _floats(x.weight if x else 0.0 for x in items)
    return _build(
        StepLabels, context=context, action=action, mask=mask, end=end, label=label, weight=weight
    )


def collate_prompts(
    items: Sequence[EncodedPrompt | None], shape: tuple[int], *, pad_id: int
) -> Prompt:
    """A batch of prompts.

    Args:
        items: B prompts; None for a padding row, which is one padding token:
            the caller knows which rows those are.
        shape: (P,), tokens of a row.
        pad_id: what fills the rest.

    Returns:
        `Prompt` of NumPy arrays [B, P].

    Raises:
        InputError: an item is longer than the shape.
    """
    return _prompts(items, shape[0], pad_id)


@dataclass(frozen=True)
class Row:
    """Demonstrations that share a row of a batch.

    Attributes:
        items: one or more demonstrations.
    """

    items: tuple[EncodedDemonstration, ...]

    @property
    def lengths(self) -> tuple[int]:
        """Tokens of the row."""
        return (sum(len(x.prompt) + len(x.completion) for x in self.items),)

    @property
    def source(self) -> str:
        """`FILE:LINE` of the first."""
        return self.items[0].source


def one_per_row(items: Iterable[EncodedDemonstration]) -> list[Row]:
    """Rows of one demonstration each."""
    return [Row((item,)) for item in items]


def pack(items: Iterable[EncodedDemonstration], length: int) -> list[Row]:
    """First-fit packing: each demonstration joins the first row with room.

    Args:
        items: demonstrations, in the order they are placed.
        length: tokens of a row.

    Returns:
        Rows of at most `length` tokens, which hold every item once.

    Raises:
        InputError: an item is longer than a row.
    """
    rows: list[list[EncodedDemonstration]] = []
    room = np.zeros(1024, np.int64)  # tokens left in each row, doubled as rows are added
    for item in items:
        n = len(item.prompt) + len(item.completion)
        if n > length:
            raise InputError(
                f"{item.source}: {n} tokens do not fit a row of {length}; lengthen the rows, "
                "or lower the limits it was encoded with"
            )
        fitting = room[: len(rows)] >= n
        place = int(np.argmax(fitting)) if fitting.any() else len(rows)
        if place == len(rows):
            rows.append([])
            if place == len(room):
                room = np.concatenate([room, np.zeros_like(room)])
            room[place] = length
        rows[place].append(item)
        room[place] -= n
    return [Row(tuple(row)) for row in rows]


def collate_demonstrations(
    items: Sequence[Row | None], shape: tuple[int], *, pad_id: int
) -> Demonstration:
    """A batch of rows of demonstrations, packed or not.

    The first token of a segment is never among those to be predicted: nothing
    precedes it.

    Args:
        items: B rows; None for a padding row.
        shape: (T,), tokens of a row.
        pad_id: what fills the rest.

    Returns:
        `Demonstration` of NumPy arrays [B, T].

    Raises:
        InputError: an item is longer than the shape.
    """
    rows = [row.items if row else () for row in items]
    part = lambda value: [[v for i, x in enumerate(row, 1) for v in value(i, x)] for row in rows]
    width = lambda x: len(x.prompt) + len(x.completion)
    tokens, _ = _pad(
        part(lambda _, x: x.prompt + x.completion), shape[0], pad_id, left=False, sources=items
    )
    segment, _ = _pad(part(lambda i, x: [i] * width(x)), shape[0], 0, left=False, sources=items)
    actions = lambda x: x.masks[0] if x.masks else [True] * len(x.completion)
    predicted = lambda _, x: [False] * len(x.prompt) + actions(x)
    mask, _ = _pad(part(predicted), shape[0], 0, left=False, sources=items)
    return _build(Demonstration, tokens=tokens, mask=mask.astype(bool), segment=segment)


def _one_each(
    items: Sequence[Any], shape: tuple[int, ...], pad_id: int
) -> tuple[Prompt, np.ndarray, np.ndarray]:
    """The prompts [B, P] of items, their completions i32[B, T] and the mask bool[B, T]."""
    rows = [[x.completion] if x else [] for x in items]
    context, action, mask = _several_each(items, rows, 1, shape, pad_id)
    return context, action[:, 0], mask[:, 0]


def _several_each(
    items: Sequence[Any],
    completions: Sequence[Sequence[list[int]]],
    k: int,
    shape: tuple[int, ...],
    pad_id: int,
) -> tuple[Prompt, np.ndarray, np.ndarray]:
    """The prompts [B, P] of items, their at most K completions i32[B, K, T], bool[B, K, T]."""
    rows = [row for x in completions for row in (*x, *[[]] * (k - len(x)))]
    sources = [x for x in items for _ in range(k)]
    action, mask = _pad(rows, shape[1], pad_id, left=False, sources=sources)
    _keep_actions(mask, items, k)
    cut = lambda x: x.reshape(len(items), k, shape[1])
    return _prompts(items, shape[0], pad_id), cut(action), cut(mask)


def _floats(values: Iterable[float]) -> np.ndarray:
    return np.array([*values], np.float32)


def _keep_actions(mask: np.ndarray, items: Sequence[Any], k: int) -> None:
    """Takes what is no action out of the mask bool[B * k, T] of the items' k completions."""
    for i, item in enumerate(items):
        for j, actions in enumerate((item and item.masks) or ()):
            mask[i * k + j, : len(actions)] = actions


def _prompts(items: Sequence[Any], length: int, pad_id: int) -> Prompt:
    rows = [x.prompt if x else [pad_id] for x in items]
    tokens, mask = _pad(rows, length, pad_id, left=True, sources=items)
    return _build(Prompt, tokens=tokens, mask=mask)


def _pad(
    rows: Sequence[Sequence[int]], length: int, fill: int, *, left: bool, sources: Sequence[Any]
) -> tuple[np.ndarray, np.ndarray]:
    """Rows to (i32[B, length], bool[B, length]), padded on one side."""
    values = np.full((len(rows), length), fill, np.int32)
    mask = np.zeros((len(rows), length), bool)
    for i, row in enumerate(rows):
        n = len(row)
        if n > length:
            raise InputError(
                f"{sources[i].source}: {n} tokens do not fit a shape of {length}; "
                "lengthen the shape, or lower the limits it was encoded with"
            )
        span = slice(length - n, length) if left else slice(0, n)
        values[i, span] = row
        mask[i, span] = True
    return values, mask


def _build(kind: Any, **fields: Any) -> Any:
    """A batch of NumPy arrays (the nouns are annotated with jax arrays)."""
    return kind(**fields)
