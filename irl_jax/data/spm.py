"""SentencePiece models: training, and control symbols written in a text."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import sentencepiece
from sentencepiece import sentencepiece_model_pb2

from irl_jax.types import InputError

_ModelProto: Any = vars(sentencepiece_model_pb2)["ModelProto"]  # made at import by protobuf


@dataclass(frozen=True)
class SentencePieceBackend:
    """A SentencePiece model (tokenizer.model) that parses control symbols.

    SentencePiece itself never finds a control symbol (`</s>`, a role) in a
    text. Here the text is cut at them first, and the stretches between are
    encoded on their own. The space that a model may put before a text (its
    dummy prefix) is put before the first stretch alone.

    Attributes:
        start: the model, for the beginning of a text.
        inner: the same model without dummy prefix, for what follows a symbol.
        pattern: matches the control symbols.
    """

    start: sentencepiece.SentencePieceProcessor
    inner: sentencepiece.SentencePieceProcessor
    pattern: re.Pattern[str]

    @classmethod
    def from_bytes(cls, data: bytes, source: str) -> SentencePieceBackend:
        """Loads a serialized model; `source` names it in errors.

        Raises:
            InputError: it is no SentencePiece model.
        """
        try:
            start = sentencepiece.SentencePieceProcessor(model_proto=data)
        except RuntimeError as error:
            raise InputError(f"{source}: not a SentencePiece model; fetch it again") from error
        proto = _ModelProto.FromString(data)
        proto.normalizer_spec.add_dummy_prefix = False
        inner = sentencepiece.SentencePieceProcessor(model_proto=proto.SerializeToString())
        symbols = [start.id_to_piece(i) for i in range(start.vocab_size()) if start.is_control(i)]
        longest_first = sorted(symbols, key=len, reverse=True)
        pattern = re.compile("|".join(map(re.escape, longest_first)) or "(?!)")
        return cls(start, inner, pattern)

    @property
    def vocab_size(self) -> int:
        """Number of ids."""
        return self.start.vocab_size()

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text."""
        return [self._encode(text) for text in texts]

    def decode(self, ids: Sequence[int], skip_special: bool) -> str:
        """Text of the ids; one that is not in the vocabulary is none."""
        parts = []
        known = (i for i in ids if 0 <= i < self.vocab_size)
        for i, (special, run) in enumerate(groupby(known, self.start.is_control)):
            if not special:
                parts.append((self.inner if i else self.start).decode(list(run)))
            elif not skip_special:
                parts.extend(self.start.id_to_piece(j) for j in run)
        return "".join(parts)

    def token_to_id(self, token: str) -> int | None:
        """Id of a token."""
        found = self.start.piece_to_id(token)
        return found if self.start.id_to_piece(found) == token else None

    def id_to_token(self, token_id: int) -> str | None:
        """Token of an id."""
        return self.start.id_to_piece(token_id) if 0 <= token_id < self.vocab_size else None

    def save(self, directory: Path) -> None:
        """Writes tokenizer.model, whole or not at all."""
        part = directory / f".tokenizer.model.{os.getpid()}"
        part.write_bytes(self.start.serialized_model_proto())
        part.replace(directory / "tokenizer.model")

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = []
        place = 0
        for symbol in self.pattern.finditer(text):
            ids += self._stretch(text, place, symbol.start())
            ids.append(self.start.piece_to_id(symbol.group()))
            place = symbol.end()
        return ids + self._stretch(text, place, len(text))

    def _stretch(self, text: str, begin: int, end: int) -> list[int]:
        return (self.inner if begin else self.start).encode(text[begin:end])


def train(
    texts: Iterable[str], vocab_size: int, *, control_symbols: Sequence[str]
) -> SentencePieceBackend:
    """Trains a BPE model that keeps every text as it is.

    Text is not normalised, spaces are kept, and what the vocabulary lacks is
    spelt in bytes.

    Args:
        texts: corpus, streamed.
        vocab_size: at most this many ids; fewer from a small corpus.
        control_symbols: further symbols that never come from a text's letters.

    Raises:
        InputError: an empty corpus, or a vocabulary too small for it.
    """
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=_lines(texts),
            model_writer=model,
            model_type="bpe",
            vocab_size=vocab_size,
            hard_vocab_limit=False,
            control_symbols=list(control_symbols),
            byte_fallback=True,
            normalization_rule_name="identity",
            add_dummy_prefix=False,
            remove_extra_whitespaces=False,
            split_digits=True,
            pad_id=3,
            minloglevel=2,
        )
    except RuntimeError as error:
        empty = "sentences_.empty()" in str(error)
        reason = "the corpus holds no text" if empty else str(error).rpartition("] ")[2]
        reason = reason.partition(". Increase")[0]
        raise InputError(
            f"training SentencePiece with vocab_size {vocab_size}: {reason}; give more text, or "
            "a vocab_size of 300 or more plus the number of different characters"
        ) from error
    return SentencePieceBackend.from_bytes(model.getvalue(), "trained model")


def _lines(texts: Iterable[str]) -> Iterator[str]:
    """Lines short enough for the trainer, which skips long ones in silence."""
    longest = 1000  # characters; at most 4 bytes each, under the trainer's 4192
    for text in texts:
        for line in text.splitlines(keepends=True):
            for begin in range(0, len(line), longest):
                yield line[begin : begin + longest]
