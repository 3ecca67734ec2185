"""A reward model from a directory in Hugging Face's layout, as a function of texts.

It reads what its publishers had it read: a conversation as its own chat template renders it,
with what the template writes behind the response, at the position that transformers reads.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
from jax import Array

from irl_jax.data.encode_whole import WholeEncoder
from irl_jax.files import read_object
from irl_jax.models.decoder import DecoderConfig
from irl_jax.models.heads import apply_scalar_head, last_value
from irl_jax.models.huggingface_config import WHOLE, config_of
from irl_jax.models.logprob import completion_hidden
from irl_jax.models.reward_files import (
    OWN,
    check_architecture,
    load_reward_model,
    pick_label,
    read_labels,
)
from irl_jax.models.vocabulary import check_vocabulary
from irl_jax.recipes.examples import template_of
from irl_jax.recipes.language_model import load_tokenizer
from irl_jax.recipes.parts import Scorer, in_parts
from irl_jax.recipes.read_config import ReadConfig
from irl_jax.train.progress import Progress
from irl_jax.types import InputError, Prompt, PyTree


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
    model = load_reward_model(path)
    head = model.scalar_head(pick_label(model.labels, config.label, path))
    place = path if config.tokenizer is None else config.tokenizer
    tokenizer = load_tokenizer(place)
    check_vocabulary(path, tokenizer.vocab_size, model.config.vocab_size)
    template = template_of(config.chat or "model", tokenizer)
    encoder = WholeEncoder(tokenizer, model.config.max_positions, template, model.pad_token_id)
    shape = replace(model.config, dtype=config.dtype)
    params, head = jax.tree.map(jnp.asarray, (model.params, head))
    return in_parts(
        encoder.groups,
        partial(head_rewards, shape, params, head),
        pad_id=tokenizer.pad_id,
        batch_size=config.batch_size,
        progress=progress,
    )


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
    file = path / "config.json"
    fields = read_object(file, WHOLE)
    config_of(file, fields)
    check_architecture(file, fields)
    pick_label(read_labels(file, fields), label, path)


def in_log_odds(path: Path) -> bool:
    """Whether a difference of two scores of a directory is the log-odds of a preference.

    A published reward model with one label is taken for one of Bradley and Terry, as nearly
    all are; of one that a run wrote config.json says by which loss it learned.
    """
    file = path / "config.json"
    fields = read_object(file, WHOLE)
    own = fields.get(OWN)
    if isinstance(own, dict) and "log_odds" in own:
        return bool(own["log_odds"])
    return len(read_labels(file, fields)) == 1
