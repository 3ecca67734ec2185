"""Prompts and completions in rows: every token once, where the decoder expects it."""

from __future__ import annotations

import numpy as np
import pytest

from irl_jax.data.encode import EncodedGroup
from irl_jax.data.packed import WIDTH, batches_of, map_rows, pack_rows, parts_of


def groups(count, most, seed=0):
    rng = np.random.default_rng(seed)
    ids = lambda: rng.integers(1, 1000, rng.integers(1, most)).tolist()
    return [EncodedGroup(ids(), [ids() for _ in range(1 + i % 5)], f"x:{i}") for i in range(count)]


def seen(tokens, segment, branch):
    """What each token has before it in its sequence, itself last, by a loop over columns."""
    np.testing.assert_array_equal(tokens > 0, segment > 0)
    out = np.empty(tokens.shape, object)
    for row, column in np.ndindex(*tokens.shape):
        own = segment[row, column], branch[row, column]
        out[row, column] = [
            int(tokens[row, c]) for c in range(column + 1)
            if (segment[row, c], branch[row, c]) in (own, (own[0], 0))
        ]  # fmt: skip
    return out


@pytest.mark.parametrize(("limit", "batch_size"), [(64, 3), (300, 2)])
def test_every_token_of_a_completion_sees_its_prompt_and_itself(limit, batch_size):
    given = groups(9, limit // 2)
    done = []
    function = lambda rows: seen(*rows)
    found = map_rows(
        function, given, limit=limit, batch_size=batch_size, pad_id=0,
        advance=lambda n, _: done.append(n),
    )  # fmt: skip
    for group, own in zip(given, found, strict=True):
        for ids, values in zip(group.completions, own, strict=True):
            whole = group.prompt + ids
            assert [list(v) for v in values] == [
                whole[: len(group.prompt) + t + 1] for t in range(len(ids))
            ]
    assert done[-1] == sum(len(group.completions) for group in given)


def test_rows_are_full():
    """Of pairs with log-normal lengths little is padding, and no prompt stands twice."""
    rng = np.random.default_rng(1)
    size = lambda: np.ones(int(rng.lognormal(3.8, 0.7)) + 1, int).tolist()
    given = [EncodedGroup(size(), [size(), size()], "") for _ in range(300)]
    parts = parts_of(given, 1024)
    assert len(parts) == 300
    rows = pack_rows(parts, 2048)
    assert sorted({width for width, _ in rows})[0] == WIDTH
    assert all(sum(part.tokens for part in row) <= width for width, row in rows)
    tokens = sum(len(g.prompt) + sum(map(len, g.completions)) for g in given)
    assert sum(part.tokens for _, row in rows for part in row) == tokens
    columns = sum(batch.tokens.size for _, batch in batches_of(rows, 16, 0))
    assert tokens > 0.85 * columns


def test_a_prompt_with_many_completions_is_cut():
    group = EncodedGroup([1] * 10, [[2] * 5] * 7, "")
    parts = parts_of([group], 22)
    assert [(part.first, len(part.encoded.completions)) for part in parts] == [
        (0, 2), (2, 2), (4, 2), (6, 1)
    ]  # fmt: skip
    (alone,) = parts_of([EncodedGroup([1] * 10, [[2] * 50], "")], 22)
    assert alone.tokens == 60
