"""A reward model's scores do not depend on the batch, over every family."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from flax.traverse_util import unflatten_dict

from irl_jax.data.batches import collate_groups
from irl_jax.data.encode import EncodedGroup
from irl_jax.models.huggingface_config import config_of
from irl_jax.models.layout import param_shapes
from irl_jax.recipes.published import head_rewards
from tests.models.families import FAMILIES

CASES = [(name, i) for name, configs in FAMILIES.items() for i in range(len(configs))]
TIGHT, WIDE = (24, 16), (40, 32)  # tokens of prompts and of completions: two buckets
GROUPS, K = 7, 2


def conversations(vocab_size: int) -> list[EncodedGroup]:
    """Groups of all lengths that fit the smaller bucket, among them the shortest and longest."""
    rng = np.random.default_rng(0)
    draw = lambda size: rng.integers(0, vocab_size, int(size)).tolist()
    prompts = [1, TIGHT[0], *rng.integers(2, TIGHT[0], GROUPS - 2)]
    lengths = rng.integers(1, TIGHT[1] + 1, (GROUPS, K))
    lengths[0], lengths[1] = (1, TIGHT[1]), (TIGHT[1], 1)
    return [
        EncodedGroup(draw(size), [draw(own) for own in row], f"x:{i}")
        for i, (size, row) in enumerate(zip(prompts, lengths, strict=True))
    ]


def scores(model, groups, order, batch_size: int, shape, pad_id: int) -> np.ndarray:
    """Rewards in the order of `groups`, read in another order and in batches."""
    out = np.full((len(groups), K), np.nan)
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        items = [*(groups[i] for i in rows), *[None] * (batch_size - len(rows))]
        batch = collate_groups(items, shape, pad_id=pad_id)
        out[rows] = np.asarray(head_rewards(*model, *batch))[: len(rows)]
    return out


@pytest.mark.parametrize(("name", "number"), CASES)
def test_scores_are_the_same_in_every_batch(name, number):
    """Batch size, order, filling rows, bucket and what pads: 1e-5 of the largest score."""
    config = config_of(Path("config.json"), FAMILIES[name][number].to_dict())
    rng = np.random.default_rng(1)
    draw = lambda shape: rng.normal(size=shape).astype(np.float32) / np.float32(shape[-1] ** 0.5)
    flat = {
        path: draw(shape) * 0.5 + 1 if path.endswith("scale") else draw(shape)
        for path, shape in param_shapes(config).items()
    }
    head = {"kernel": draw((config.d_model,)), "bias": np.float32(0.5)}
    model = config, unflatten_dict(flat, sep="/"), head
    groups = conversations(config.vocab_size)
    alone = scores(model, groups, np.arange(GROUPS), 1, TIGHT, 0)
    assert np.isfinite(alone).all() and np.ptp(alone) > 0.1
    for pad_id in (3, 9):
        found = scores(model, groups, rng.permutation(GROUPS), 5, WIDE, pad_id)
        np.testing.assert_allclose(found, alone, rtol=0, atol=1e-5 * np.abs(alone).max())
