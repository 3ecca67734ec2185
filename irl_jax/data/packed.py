"""Prompts with their completions packed into rows, each prompt once, whatever their lengths.

A batch that pads every prompt and every completion to one shape is mostly padding where lengths
differ. A row holds some prompts, behind each its completions as branches of it
(`irl_jax.models.decoder.forward`), and is full but for its end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from irl_jax.data.encode import EncodedGroup
from irl_jax.types import Advance

WIDTH = 256  # tokens of a row; one that a group does not fit is twice as wide, or four times, ...
SHARED = 1024  # tokens of a prompt and completions that share it in one row


@dataclass(frozen=True)
class Part:
    """A prompt and some of its completions, as they stand in a row.

    Attributes:
        group: number of the prompt.
        first: number of the first of these completions.
        encoded: the prompt and the completions.
    """

    group: int
    first: int
    encoded: EncodedGroup

    @property
    def tokens(self) -> int:
        """Columns that it takes."""
        return len(self.encoded.prompt) + sum(map(len, self.encoded.completions))


class Rows(NamedTuple):
    """A batch of packed rows, i32[B, W] each.

    Attributes:
        tokens: ids.
        segment: 1, 2, ..., number of the prompt in its row; 0 is padding.
        branch: 0 in a prompt, 1, 2, ... in its completions.
    """

    tokens: np.ndarray
    segment: np.ndarray
    branch: np.ndarray


def parts_of(groups: Sequence[EncodedGroup], limit: int) -> list[Part]:
    """Groups, those above a limit in several parts of the same prompt.

    Args:
        groups: prompts with any number of completions each.
        limit: tokens of a part, where one completion does not need more.
    """
    parts = []
    for number, group in enumerate(groups):
        start, used = 0, len(group.prompt)
        for i, ids in enumerate(group.completions):
            if i > start and used + len(ids) > limit:
                parts.append(_part(number, group, start, i))
                start, used = i, len(group.prompt)
            used += len(ids)
        parts.append(_part(number, group, start, len(group.completions)))
    return parts


def _part(number: int, group: EncodedGroup, start: int, stop: int) -> Part:
    return Part(number, start, replace(group, completions=group.completions[start:stop]))


def pack_rows(parts: Sequence[Part], limit: int) -> list[tuple[int, list[Part]]]:
    """Parts in rows, the longest first, each in the first row that has room.

    Args:
        parts: of at most `limit` tokens.
        limit: tokens of a row.

    Returns:
        (width, parts) of each row; a width is the limit, or `WIDTH` times a power of 2.
    """
    rows: list[tuple[int, list[Part]]] = []
    room = np.zeros(len(parts), np.int64)
    for part in sorted(parts, key=lambda part: -part.tokens):
        fitting = room[: len(rows)] >= part.tokens
        place = int(np.argmax(fitting)) if fitting.any() else len(rows)
        if place == len(rows):
            width = WIDTH
            while width < part.tokens:
                width *= 2
            rows.append((min(width, limit), []))
            room[place] = rows[place][0]
        rows[place][1].append(part)
        room[place] -= part.tokens
    return rows


def collate_rows(rows: Sequence[Sequence[Part]], shape: tuple[int, int], pad_id: int) -> Rows:
    """A batch of the shape (B, W) from at most B rows."""
    zeros = np.zeros(shape, np.int32)
    out = Rows(np.full_like(zeros, pad_id), zeros, zeros.copy())
    for at, row in enumerate(rows):
        column = 0
        for number, part in enumerate(row, start=1):
            for branch, ids in enumerate([part.encoded.prompt, *part.encoded.completions]):
                here = at, slice(column, column := column + len(ids))
                out.tokens[here], out.segment[here], out.branch[here] = ids, number, branch
    return out


def batches_of(
    rows: Sequence[tuple[int, list[Part]]], batch_size: int, pad_id: int
) -> Iterator[tuple[list[list[Part]], Rows]]:
    """Batches of rows of one width, as many tokens in each as `batch_size` rows of `WIDTH`."""
    for width in sorted({width for width, _ in rows}):
        inside = [row for own, row in rows if own == width]
        most = min(len(inside), max(1, batch_size * WIDTH // width))
        for start in range(0, len(inside), most):
            some = inside[start : start + most]
            yield some, collate_rows(some, (most, width), pad_id)


def map_rows(
    function: Callable[[Rows], np.ndarray],
    groups: Sequence[EncodedGroup],
    *,
    limit: int,
    batch_size: int,
    pad_id: int,
    advance: Advance,
) -> list[list[np.ndarray]]:
    """What a function makes of every token of completions.

    Args:
        function: `Rows` of a batch -> f[B, W, ...].
        groups: prompts with any number of completions each.
        limit: tokens of a sequence, at most; a prompt and one completion have no more.
        batch_size: rows of `WIDTH` tokens at a time.
        pad_id: what fills rows.
        advance: told the number of completions done.

    Returns:
        Of each prompt, of each completion: f[T, ...].
    """
    rows = pack_rows(parts_of(groups, min(limit, SHARED)), limit)
    out = [[np.zeros(0)] * len(group.completions) for group in groups]
    done = 0
    for some, batch in batches_of(rows, batch_size, pad_id):
        values = np.asarray(function(batch))
        for at, row in enumerate(some):
            column = 0
            for part in row:
                column += len(part.encoded.prompt)
                for k, ids in enumerate(part.encoded.completions, start=part.first):
                    out[part.group][k] = values[at, column : column + len(ids)]
                    column += len(ids)
                done += len(part.encoded.completions)
        advance(done, {})
    return out
