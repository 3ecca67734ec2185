"""Responses scored in batches of few shapes, whatever number of them a prompt has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from jax import Array
from jax.typing import ArrayLike

from irl_jax.data.encode import EncodedGroup
from irl_jax.data.jsonl import GroupRecord
from irl_jax.recipes.embeddings import map_groups
from irl_jax.train.progress import Progress
from irl_jax.types import Prompt

# N prompts, each with responses -> f64[K] of each, the rewards of its K responses
Scorer = Callable[[Sequence[GroupRecord]], list[np.ndarray]]
TOGETHER = (4, 2)  # responses that share the encoding of their prompt, the most first


def in_parts(
    encode: Callable[[Sequence[GroupRecord]], list[EncodedGroup]],
    rewards: Callable[[Prompt, ArrayLike, ArrayLike], Array],
    *,
    pad_id: int,
    batch_size: int,
    progress: Progress,
) -> Scorer:
    """A scorer of prompts with any number of responses.

    Args:
        encode: prompts with as many responses each, to token ids.
        rewards: `Prompt` of B rows, i32[B, K, T], bool[B, K, T] -> f32[B, K].
        pad_id: what fills a batch.
        batch_size: B.
        progress: shows the scoring.
    """

    def score(groups: Sequence[GroupRecord]) -> list[np.ndarray]:
        out = [np.zeros(len(group.completions)) for group in groups]
        parts = list(shares([len(group.completions) for group in groups]))
        for size in TOGETHER:
            own = [(i, rows) for i, rows in parts if len(rows) == size]
            if not own:
                continue
            encoded = encode(
                [
                    replace(groups[i], completions=[groups[i].completions[k] for k in rows])
                    for i, rows in own
                ]
            )
            values = map_groups(
                rewards,
                encoded,
                pad_id=pad_id,
                batch_size=batch_size,
                advance=progress.stage(f"{size} responses at a time", len(own)),
            )
            for (i, rows), found in zip(own, values, strict=True):
                out[i][rows] = found
        return out

    return score


def shares(counts: Sequence[int]) -> list[tuple[int, list[int]]]:
    """Each group's responses in parts of the sizes of `TOGETHER`; the last is filled up.

    Args:
        counts: number of responses of each group.

    Returns:
        (number of the group, numbers of its responses), the last of them repeated.

    Example:
        >>> shares([2, 5])
        [(0, [0, 1]), (1, [0, 1, 2, 3]), (1, [4, 4])]
    """
    parts = []
    for i, count in enumerate(counts):
        start = 0
        while start < count:
            size = next((n for n in TOGETHER if n <= count - start), TOGETHER[-1])
            parts.append((i, [min(start + k, count - 1) for k in range(size)]))
            start += size
    return parts
