"""What a model and a tokenizer must agree on: the ids there are, and those that end a completion.

An embedding often has more rows than the tokenizer has ids, since a round number is faster.
Those rows were never trained, and stand for no text: they are no part of what a policy can
choose (`DecoderConfig.used_vocab`). The reverse is a mistake: a row that is not there would be
read as the last one, without a word.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from irl_jax.files import read_object
from irl_jax.models.decoder import DecoderConfig
from irl_jax.models.gguf import open_gguf
from irl_jax.models.huggingface_config import GENERATION, WHOLE
from irl_jax.types import InputError

GGUF_ENDS = tuple(f"tokenizer.ggml.{name}_token_id" for name in ("eos", "eot", "eom"))
"""The tokens at which llama.cpp stops: the end of a text, of a turn, of a message."""


def check_vocabulary(place: str | Path, ids: int, rows: int) -> None:
    """Raises `InputError` if a tokenizer has ids for which an embedding has no rows.

    Args:
        place: the model, named in the message.
        ids: of the tokenizer, the largest plus one.
        rows: of the embedding.
    """
    if ids > rows:
        raise InputError(
            f"{place}: the tokenizer has {ids} ids, the embedding {rows} rows; take the tokenizer "
            "that belongs to this model, or resize its embedding"
        )


def with_vocabulary(config: DecoderConfig, ids: int, place: str | Path) -> DecoderConfig:
    """The configuration of a decoder whose tokens a tokenizer gives.

    Log-probs, and what is sampled, are over the ids that the tokenizer has; rows of the
    embedding behind them have probability 0. Without such rows nothing changes.

    Args:
        config: the shape.
        ids: of the tokenizer, the largest plus one.
        place: the model, named in messages.

    Raises:
        InputError: the tokenizer has more ids than the embedding has rows.
    """
    check_vocabulary(place, ids, config.vocab_size)
    return replace(config, used_vocab=None if ids == config.vocab_size else ids)


def read_eos_ids(path: str | Path, rows: int) -> tuple[int, ...]:
    """The tokens at which the model that lies at `path` stops, in the order of its files.

    Of a Hugging Face directory they are what `generate` of transformers takes: the
    `eos_token_id` of generation_config.json, or of config.json where there is no such file. Of
    a GGUF file they are the ends of a text, of a turn and of a message.

    Args:
        path: a GGUF file or a Hugging Face directory.
        rows: of the embedding.

    Returns:
        Different ids, none if the files name none; the tokenizer's own EOS belongs to them,
        too.

    Raises:
        InputError: naming the file, if it holds something else than ids of the embedding.
    """
    path = Path(path)
    if path.is_file():
        fields = open_gguf(path).fields
        given = {name: fields[name].contents() for name in GGUF_ENDS if name in fields}
    else:
        own = path / GENERATION
        path = own if own.exists() else path / "config.json"
        given = eos_of(path, read_object(path, WHOLE))
    for name, value in given.items():
        if type(value) is not int or not 0 <= value < rows:
            raise InputError(
                f"{path}: {name}: expected ids from 0 to {rows - 1}, the last row of the "
                f"embedding, found {json.dumps(value)}"
            )
    return tuple(dict.fromkeys(given.values()))


def eos_of(path: Path, fields: Mapping[str, Any]) -> dict[str, Any]:
    """What `eos_token_id` holds, by its place; it may be missing, one id or a list of them."""
    value = fields.get("eos_token_id")
    if value == []:
        raise InputError(f"{path}: eos_token_id: is empty; name an id, or leave it out")
    if isinstance(value, list):
        return {f"eos_token_id[{i}]": item for i, item in enumerate(value)}
    return {} if value is None else {"eos_token_id": value}
