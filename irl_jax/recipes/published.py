"""A published reward model: a scorer of texts, and what a policy learns from.

It reads what its publishers had it read: a conversation as its own chat template renders it,
with what the template writes behind the response, at the position that transformers reads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import NamedSharding

from irl_jax.data.batches import collate_groups
from irl_jax.data.encode import EncodedGroup
from irl_jax.data.encode_whole import WholeEncoder
from irl_jax.data.jsonl import GroupRecord
from irl_jax.data.packed import Rows, map_rows
from irl_jax.models.decoder import DecoderConfig, forward
from irl_jax.models.heads import apply_scalar_head, last_value
from irl_jax.models.logprob import completion_hidden
from irl_jax.models.mesh import fetch, make_mesh
from irl_jax.models.reward_files import (
    RewardFiles,
    describe_reward,
    load_reward_model,
    pick_label,
)
from irl_jax.models.sharding import BATCH
from irl_jax.models.vocabulary import check_vocabulary
from irl_jax.recipes.embeddings import MULTIPLE
from irl_jax.recipes.examples import template_of
from irl_jax.recipes.language_model import load_tokenizer
from irl_jax.recipes.parts import Scorer
from irl_jax.recipes.read_config import ReadConfig
from irl_jax.recipes.text_rewards import PromptReader
from irl_jax.train.progress import Progress
from irl_jax.types import Group, InputError, LoopContext, Prompt, PyTree


@partial(jax.jit, static_argnames="config")
def head_rewards(
    config: DecoderConfig, params: PyTree, head: PyTree, context: Prompt, action: Array, mask: Array
) -> Array:
    """What a scalar head says of the last token of each completion, f32[B, K].

    Args:
        config: the shape.
        params: parameters of the decoder.
        head: as `models.heads.init_scalar_head` gives it.
        context: `Prompt` of B rows.
        action: i32[B, K, T], right-padded.
        mask: bool[B, K, T].
    """
    hidden = completion_hidden(config, params, context, action)
    return last_value(apply_scalar_head(head, hidden), mask)


@partial(jax.jit, static_argnames="config")
def token_scores(config: DecoderConfig, params: PyTree, head: PyTree, rows: Rows) -> Array:
    """What a scalar head says of every token of packed rows, f32[B, W]."""
    hidden, _ = forward(config, params, rows.tokens, segment=rows.segment, branch=rows.branch)
    return apply_scalar_head(head, hidden)


def published_scorer(path: Path, config: ReadConfig, progress: Progress) -> Scorer:
    """The reward of a directory, in its own units.

    Args:
        path: the directory.
        config: what of it is read, and how; it has no limits but the model's context.
        progress: shows the scoring.

    Raises:
        InputError: it is no reward model, or has several labels and none is named; a limit or
            a way to cut is given.
    """
    check_read(config, path)
    model = load_reward_model(path, make_mesh(1), config.dtype)
    head = model.scalar_head(pick_label(model.labels, config.label, path))
    encoder = encoder_of(path, config, model)
    shape = replace(model.config, dtype=config.dtype)
    scores = partial(token_scores, shape, model.params, head)

    def score(groups: Sequence[GroupRecord]) -> list[np.ndarray]:
        found = map_rows(
            scores,
            encoder.groups(groups),
            limit=shape.max_positions,
            batch_size=config.batch_size,
            pad_id=encoder.tokenizer.pad_id,
            advance=progress.stage("responses", sum(len(g.completions) for g in groups)),
        )
        return [np.array([each[-1] for each in own], np.float64) for own in found]

    return score


def encoder_of(path: Path, config: ReadConfig, model: RewardFiles) -> WholeEncoder:
    """How a directory's model reads conversations.

    Raises:
        InputError: its tokenizer is missing, or has more ids than its embedding has rows.
    """
    tokenizer = load_tokenizer(path if config.tokenizer is None else config.tokenizer)
    check_vocabulary(path, tokenizer.vocab_size, model.config.vocab_size)
    template = template_of(config.chat or "model", tokenizer)
    return WholeEncoder(tokenizer, model.config.max_positions, template, model.pad_token_id)


@dataclass
class PublishedReward:
    """A published reward model as a policy's reward, see `recipes.run_reward.RunReward`.

    It reads texts, by its own template: its tokens need not be the policy's.

    Attributes:
        rewards: `Prompt` of B rows, i32[B, K, T], bool[B, K, T] -> f32[B, K].
        encoder: of conversations.
        reader: of the policy's prompts and completions.
    """

    rewards: Callable[[Prompt, Array, Array], Array]
    encoder: WholeEncoder
    reader: PromptReader
    _shape: tuple[int, int] = field(default=(0, 0), init=False)  # grows: few programs

    def reward(self, group: Group, context: LoopContext) -> Array:
        """The reward f32[B, K], for `train.online.train_online`; 0 in a row that fills a batch."""
        del context
        return self.reader.place(self._values(group))

    def measure(self, group: Group, texts: list[list[str]]) -> dict[str, np.ndarray]:
        """{"reward": f64[B, K]}, for `Session.respond`."""
        del texts
        return {"reward": self._values(group).astype(np.float64)}

    def _values(self, group: Group) -> np.ndarray:
        records, texts = self.reader.read(group)
        asked = [i for i, record in enumerate(records) if record is not self.reader.nothing]
        read = self.encoder.groups(
            GroupRecord(records[i].prompt, list(texts[i]), {}, records[i].source, records[i].tools)
            for i in asked
        )
        longest = [max(sizes) for sizes in zip(*(one.lengths for one in read), strict=True)]
        rounded = [
            max(before, -(-size // MULTIPLE) * MULTIPLE)
            for before, size in zip(self._shape, longest, strict=True)
        ]
        fits = sum(rounded) <= self.encoder.max_tokens
        prompt, rest = rounded if fits else longest
        self._shape = prompt, rest
        rows: list[EncodedGroup | None] = [None] * len(records)
        for i, one in zip(asked, read, strict=True):
            rows[i] = one
        batch = collate_groups(rows, self._shape, pad_id=self.encoder.tokenizer.pad_id)
        mesh = self.reader.session.mesh
        with jax.set_mesh(mesh):
            placed = jax.device_put(batch, NamedSharding(mesh, BATCH))
            found: np.ndarray = fetch(self.rewards(*placed))
        there = np.array([row is not None for row in rows])
        return np.where(there[:, None], found, 0.0)


def published_reward(path: Path, reader: PromptReader, dtype: str) -> PublishedReward:
    """The reward of a directory, on the mesh of the policy.

    Args:
        path: the directory.
        reader: of the policy's prompts and completions.
        dtype: compute dtype.

    Raises:
        InputError: it is no reward model, or has several labels.
    """
    model = load_reward_model(path, reader.session.mesh)
    if len(model.labels) > 1:
        raise InputError(
            f"reward: {path}: has the labels {', '.join(model.labels)}; a policy learns from a "
            "model with one, or from a FILE.py:FUNCTION"
        )
    encoder = encoder_of(path, ReadConfig(), model)
    head = jax.tree.map(jnp.asarray, model.scalar_head(0))
    rewards = partial(head_rewards, replace(model.config, dtype=dtype), model.params, head)
    return PublishedReward(rewards, encoder, reader)


def check_read(config: ReadConfig, path: Path) -> None:
    """Raises `InputError` for a setting that a reward model's directory does not have."""
    for name in ("max_prompt", "max_completion"):
        if getattr(config, name) is not None:
            raise InputError(
                f"read.{name}: {path}: is a reward model's directory, whose limit is its context; "
                "leave it out"
            )
    if config.overlong != "error":
        raise InputError(
            f"read.overlong: {path}: a reward model reads whole conversations; leave it out, and "
            "longer lines out of the file"
        )


def check_published(path: Path, label: str | None) -> None:
    """Checks that a directory is a reward model's with a reward, before anything is loaded.

    Args:
        path: the directory.
        label: the one that is to be the reward, if any is named.

    Raises:
        InputError: it is none, or has no such label.
    """
    pick_label(describe_reward(path)[0], label, path)


def in_log_odds(path: Path) -> bool:
    """Whether a difference of two scores of a directory is the log-odds of a preference.

    A published reward model with one label is taken for one of Bradley and Terry, as nearly
    all are; of one that a run wrote config.json says by which loss it learned.
    """
    labels, own = describe_reward(path)
    return bool(own.get("log_odds", len(labels) == 1))
