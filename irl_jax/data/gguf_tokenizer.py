"""The byte-level BPE tokenizer that a GGUF file carries in its metadata."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from irl_jax.data.refusals import Refusals
from irl_jax.models.gguf import open_gguf
from irl_jax.types import InputError

_CONTROL, _USER_DEFINED = 3, 4  # values of tokenizer.ggml.token_type

# tokenizer.ggml.pre -> how text is cut before the merges
_PRE_TOKENIZERS = {
    "gpt-2": lambda: pre_tokenizers.ByteLevel(add_prefix_space=False),
    "smollm": lambda: pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    ),
}


@dataclass(frozen=True)
class GgufTokenizer:
    """A tokenizer and its special tokens, as read.

    Attributes:
        model: the BPE, special tokens included.
        eos_token: text of the EOS token.
        bos_token: text of the BOS token, if named.
        pad_token: text of the padding token, if named.
        chat_template: Jinja template, if there is one.
        add_bos: whether a text begins with BOS.
        special: further special tokens by name.
    """

    model: tokenizers.Tokenizer
    eos_token: str
    bos_token: str | None
    pad_token: str | None
    chat_template: str | None
    add_bos: bool
    special: dict[str, str]


def read_gguf(path: Path) -> GgufTokenizer:
    """Reads the tokenizer of a GGUF file.

    Raises:
        InputError: the package gguf is missing, no such file, no GGUF file, a
            tokenizer that is no byte-level BPE, an unknown pre-tokenizer or none.
    """
    fields = _metadata(path)
    kind = _require(fields, "tokenizer.ggml.model", path)
    if kind != "gpt2":
        raise InputError(
            f"{path}: tokenizer of kind {kind!r}; only byte-level BPE ('gpt2') is read, "
            "give the directory of the model's tokenizer, --tokenizer DIR"
        )
    pre = fields.get("tokenizer.ggml.pre")
    if pre is None:
        raise InputError(
            f"{path}: no tokenizer.ggml.pre, so it is unknown how a text is cut; give the "
            "directory of the model's tokenizer, --tokenizer DIR"
        )
    if pre not in _PRE_TOKENIZERS:
        raise InputError(
            f"{path}: pre-tokenizer {pre!r} is not among {', '.join(_PRE_TOKENIZERS)}; "
            "give the directory of the model's tokenizer, --tokenizer DIR"
        )
    tokens = _require(fields, "tokenizer.ggml.tokens", path)
    with Refusals(str(path), "take another file of the model"):
        model = _bpe(tokens, _require(fields, "tokenizer.ggml.merges", path))
    model.pre_tokenizer = _PRE_TOKENIZERS[pre]()
    model.decoder = decoders.ByteLevel()
    for token, kind in zip(tokens, fields.get("tokenizer.ggml.token_type", ()), strict=False):
        if kind in (_CONTROL, _USER_DEFINED):
            special = kind == _CONTROL
            added = tokenizers.AddedToken(token, special=special, normalized=False)
            (model.add_special_tokens if special else model.add_tokens)([added])
    token = lambda name: _named_token(fields, tokens, name, path)
    eos = token("eos")
    if eos is None:
        raise InputError(f"{path}: no tokenizer.ggml.eos_token_id; take another file of the model")
    named = {"unk_token": "unknown", "sep_token": "seperator", "cls_token": "cls"}
    return GgufTokenizer(
        model,
        eos,
        bos_token=token("bos"),
        pad_token=token("padding"),
        chat_template=fields.get("tokenizer.chat_template"),
        add_bos=bool(fields.get("tokenizer.ggml.add_bos_token", False)),
        special={name: text for name, key in named.items() if (text := token(key)) is not None},
    )


def _bpe(tokens: list[str], merges: list[str]) -> tokenizers.Tokenizer:
    pairs = [(left, right) for left, _, right in (merge.partition(" ") for merge in merges)]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    return tokenizers.Tokenizer(models.BPE(vocabulary, pairs, fuse_unk=False))


def _named_token(fields: dict[str, Any], tokens: list[str], name: str, path: Path) -> str | None:
    index = fields.get(f"tokenizer.ggml.{name}_token_id")
    if index is None:
        return None
    if not 0 <= index < len(tokens):
        raise InputError(
            f"{path}: tokenizer.ggml.{name}_token_id is {index}, of {len(tokens)} tokens; give "
            "the directory of the model's tokenizer, --tokenizer DIR"
        )
    return tokens[index]


def _require(fields: dict[str, Any], name: str, path: Path) -> Any:
    if name not in fields:
        raise InputError(f"{path}: no {name} in the metadata; take a file with a tokenizer")
    return fields[name]


def _metadata(path: Path) -> dict[str, Any]:
    """The `tokenizer.` fields of a GGUF file."""
    return {
        name: field.contents()
        for name, field in open_gguf(path).fields.items()
        if name.startswith("tokenizer.")
    }
