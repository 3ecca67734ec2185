"""Texts and completions as vectors: from a sentence encoder, and from a language model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from irl_jax.data.batches import bucket_shape, collate_groups
from irl_jax.data.encode import EncodedGroup
from irl_jax.data.hf_tokenizer import HuggingFaceBackend
from irl_jax.models.bert import encode, load_bert
from irl_jax.models.features import completion_features, completion_states
from irl_jax.models.heads import pool_segments
from irl_jax.models.vocabulary import check_vocabulary
from irl_jax.recipes.examples import bucket_shapes
from irl_jax.rollout.session import LanguageModel
from irl_jax.types import Advance, Prompt, PyTree

MULTIPLE = 32  # tokens; lengths of batches of texts are rounded up to it


def group_batches(
    groups: Sequence[EncodedGroup], *, pad_id: int, batch_size: int, advance: Advance
) -> Iterator[tuple[np.ndarray, tuple[Prompt, np.ndarray, np.ndarray]]]:
    """Batches of groups, of at most four shapes; each group is in the smallest that holds it.

    Args:
        groups: N prompts with K completions each.
        pad_id: what fills a batch.
        batch_size: B, prompts at a time.
        advance: told the number of groups done.

    Yields:
        The groups of a batch, i64[R], R ≤ B, each group once in all; and B rows:
        `Prompt`, i32[B, K, T], bool[B, K, T].
    """
    lengths = np.array([group.lengths for group in groups])
    shapes = bucket_shapes(lengths, 4, tuple(-(-lengths.max(0) // MULTIPLE) * MULTIPLE))
    bucket = np.array([bucket_shape(group.lengths, shapes, group.source) for group in groups])
    done = 0
    for number, shape in enumerate(shapes):
        inside = np.flatnonzero(bucket == number)
        for start in range(0, len(inside), batch_size):
            rows = inside[start : start + batch_size]
            items = [*(groups[i] for i in rows), *[None] * (batch_size - len(rows))]
            yield rows, collate_groups(items, shape, pad_id=pad_id)
            done += len(rows)
            advance(done, {})


def map_groups(
    function: Callable[[Prompt, ArrayLike, ArrayLike], Array],
    groups: Sequence[EncodedGroup],
    *,
    pad_id: int,
    batch_size: int,
    advance: Advance,
) -> np.ndarray:
    """What a function makes of groups in batches, f32[N, K, ...], in their order.

    Args:
        function: `Prompt` of B rows, i32[B, K, T], bool[B, K, T] -> f32[B, K, ...].
        groups: as `group_batches` takes them, with what follows.
        pad_id: what fills a batch.
        batch_size: B.
        advance: told the number of groups done.
    """
    out: dict[int, np.ndarray] = {}
    for rows, batch in group_batches(groups, pad_id=pad_id, batch_size=batch_size, advance=advance):
        out.update(zip(rows.tolist(), np.asarray(function(*batch)), strict=False))
    return np.stack([out[i] for i in range(len(groups))])


def embed_groups(
    model: LanguageModel,
    groups: Sequence[EncodedGroup],
    *,
    layers: int,
    batch_size: int,
    advance: Advance,
) -> np.ndarray:
    """Features of K completions of each prompt under a language model, f32[N, K, D].

    Args:
        model: the language model.
        groups: N prompts with K completions each; a prompt is encoded once for all of them.
        layers: layers that the features come from.
        batch_size: prompts at a time.
        advance: told the number of prompts done.
    """
    params = jax.tree.map(jnp.asarray, model.params)
    features = partial(completion_features, model.config, params, layers=layers)
    pad_id = model.tokenizer.pad_id
    return map_groups(features, groups, pad_id=pad_id, batch_size=batch_size, advance=advance)


def embed_segments(
    model: LanguageModel,
    groups: Sequence[EncodedGroup],
    segments: Sequence[Sequence[np.ndarray]],
    *,
    layers: int,
    batch_size: int,
    advance: Advance,
) -> tuple[np.ndarray, np.ndarray]:
    """Features of the segments of K completions of each prompt, and their tokens.

    Args:
        model: the language model.
        groups: N prompts with K completions each; a prompt is encoded once for all of them.
        segments: N × K times i32[T], the segment of each token of a completion, 1, ..., G.
        layers: layers that the features come from.
        batch_size: prompts at a time.
        advance: told the number of prompts done.

    Returns:
        f16[N, K, G, D], means over the tokens of a segment, and i32[N, K, G], how many
        these are; G is the most that a completion has.
    """
    most = max(int(segment.max(initial=0)) for each in segments for segment in each)

    @jax.jit
    def features(params: PyTree, context: Prompt, action: Array, segment: Array) -> Any:
        states = completion_states(model.config, params, context, action, layers=layers)
        return pool_segments(states, segment, most)

    params = jax.tree.map(jnp.asarray, model.params)
    shape = (len(groups), len(groups[0].completions), most)
    out = np.zeros((*shape, model.config.d_model), np.float16)
    count = np.zeros(shape, np.int32)
    for rows, (context, action, mask) in group_batches(
        groups, pad_id=model.tokenizer.pad_id, batch_size=batch_size, advance=advance
    ):
        segment = np.zeros(mask.shape, np.int32)
        for at, i in enumerate(rows):
            for k, each in enumerate(segments[i]):
                segment[at, k, : len(each)] = each
        pooled, tokens = features(params, context, action, segment)
        out[rows], count[rows] = pooled[: len(rows)], tokens[: len(rows)]
    return out, count


def embed_texts(
    directory: Path, texts: Sequence[str], *, max_tokens: int, batch_size: int, advance: Advance
) -> np.ndarray:
    """Unit vectors of texts under a sentence encoder, f32[N, D].

    Args:
        directory: the encoder, in Hugging Face's layout.
        texts: N texts; of a longer one the last `max_tokens` tokens are read.
        max_tokens: tokens of a text, [CLS] and [SEP] included.
        batch_size: texts at a time.
        advance: told the number of texts done.

    Raises:
        InputError: there is no such encoder, its tokenizer is another model's, or a text has
            more tokens than its context.
    """
    config, params = load_bert(directory)
    backend = HuggingFaceBackend.from_file(directory / "tokenizer.json")
    check_vocabulary(directory, backend.vocab_size, config.vocab_size)
    params = jax.tree.map(jnp.asarray, params)
    tokenizer = backend.model
    tokenizer.enable_truncation(max_tokens, direction="left")
    ids = [encoding.ids for encoding in tokenizer.encode_batch(list(texts))]
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    out = np.zeros((len(ids), config.d_model), np.float32)
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        longest = len(ids[rows[-1]])
        width = max(longest, min(-(-longest // MULTIPLE) * MULTIPLE, config.max_positions))
        tokens = np.zeros((batch_size, width), np.int32)
        mask = np.zeros((batch_size, width), bool)
        for at, i in enumerate(rows):
            tokens[at, : len(ids[i])] = ids[i]
            mask[at, : len(ids[i])] = True
        out[rows] = encode(config, params, tokens, mask)[: len(rows)]
        advance(start + len(rows), {})
    return out
