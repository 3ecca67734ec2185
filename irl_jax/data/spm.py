"""SentencePiece models: training, and control symbols written in a text."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

import sentencepiece
from google.protobuf import message
from sentencepiece import sentencepiece_model_pb2
from tokenizers import AddedToken

from irl_jax.data.symbols import FLAGS, Quotes, check_id, cut, pattern
from irl_jax.files import write_atomic
from irl_jax.types import InputError

Prefix = Literal["first", "always", "never"]

_ModelProto: Any = vars(sentencepiece_model_pb2)["ModelProto"]  # made at import by protobuf


@dataclass(frozen=True)
class SentencePieceBackend:
    """A SentencePiece model (tokenizer.model) that finds control symbols in a text.

    SentencePiece itself never finds a control symbol (`</s>`, a role) in a
    text, and knows nothing of added tokens. Here the text is cut at both first,
    and the stretches between are encoded on their own. The space that a model
    may put before a text (its dummy prefix) is put before the first stretch
    alone, or before every one.

    Attributes:
        start: the model, for the beginning of a text.
        inner: the same model without dummy prefix.
        symbols: id -> control symbols and added tokens.
        prefix: stretches that get the dummy prefix, if the model has one.
        source: the file that it came from, for errors.
    """

    start: sentencepiece.SentencePieceProcessor
    inner: sentencepiece.SentencePieceProcessor
    symbols: Mapping[int, AddedToken]
    prefix: Prefix = "first"
    source: str = "tokenizer"

    @classmethod
    def from_bytes(
        cls,
        data: bytes,
        source: str,
        prefix: Prefix = "first",
        added: Iterable[tuple[int | None, AddedToken]] = (),
    ) -> SentencePieceBackend:
        """Loads a serialized model.

        Args:
            data: the model.
            source: names it in errors.
            prefix: stretches that get the model's dummy prefix.
            added: tokens beside the model's pieces, in order, each with its id if known;
                one that is a piece becomes a symbol.

        Raises:
            InputError: it is no SentencePiece model, or an added token gets another id.
        """
        try:
            start = sentencepiece.SentencePieceProcessor(model_proto=data)
            proto = _ModelProto.FromString(data)
            proto.normalizer_spec.add_dummy_prefix = False
            inner = sentencepiece.SentencePieceProcessor(model_proto=proto.SerializeToString())
            pieces = {start.id_to_piece(i): i for i in range(start.vocab_size())}
            inner.encode("a")
        except (RuntimeError, ValueError, message.DecodeError) as error:
            raise InputError(f"{source}: not a SentencePiece model; fetch it again") from error
        symbols = {
            i: AddedToken(piece, special=True, normalized=False)
            for piece, i in pieces.items()
            if start.is_control(i)
        }
        for wanted, token in added:
            place = pieces.setdefault(token.content, len(pieces))
            check_id(token, wanted, place, source)
            symbols[place] = token
        return cls(inner if prefix == "never" else start, inner, symbols, prefix, source)

    @property
    def vocab_size(self) -> int:
        """Number of ids."""
        return max(self.start.vocab_size(), max(self.symbols, default=0) + 1)

    @cached_property
    def quotes(self) -> Quotes:
        """The control symbols."""
        return Quotes(token for token in self.symbols.values() if token.special)

    def encode_batch(self, texts: Sequence[str], quoted: bool = False) -> list[list[int]]:
        """Ids of each text; if quoted, stand-ins are the letters of control symbols."""
        return [self._encode(text, self.start, quoted) for text in texts]

    def encode_continuation(self, text: str, quoted: bool = False) -> list[int]:
        """Ids of a text without the space that the model puts before one."""
        return self._encode(text, self.inner, quoted)

    def decode(self, ids: Sequence[int], skip_special: bool) -> str:
        """Text of the ids; one that is not in the vocabulary is none."""
        parts = []
        known = (i for i in ids if 0 <= i < self.vocab_size)
        for i, (is_symbol, run) in enumerate(groupby(known, self.symbols.__contains__)):
            if not is_symbol:
                parts.append((self.inner if i else self.start).decode(list(run)))
            else:
                found = (self.symbols[j] for j in run)
                parts.extend(s.content for s in found if not (skip_special and s.special))
        return "".join(parts)

    def token_to_id(self, token: str) -> int | None:
        """Id of a token."""
        if token in self._ids:
            return self._ids[token]
        found = self.start.piece_to_id(token)
        return found if self.start.id_to_piece(found) == token else None

    def id_to_token(self, token_id: int) -> str | None:
        """Token of an id."""
        if token_id in self.symbols:
            return self.symbols[token_id].content
        known = 0 <= token_id < self.start.vocab_size()
        return self.start.id_to_piece(token_id) if known else None

    def begins_with(self) -> list[int]:
        """Ids that the model puts before a text: none, the configuration says so."""
        return []

    def configuration(self) -> dict[str, Any]:
        """What tokenizer_config.json has to say for `AutoTokenizer` to read the same ids."""
        proto = _ModelProto.FromString(self.start.serialized_model_proto())
        return {
            "tokenizer_class": "LlamaTokenizer",
            "legacy": self.prefix == "always",
            "add_prefix_space": proto.normalizer_spec.add_dummy_prefix,
            "added_tokens_decoder": {
                str(i): {"content": token.content} | {name: getattr(token, name) for name in FLAGS}
                for i, token in sorted(self.symbols.items())
            },
        }

    def save(self, directory: Path) -> None:
        """Writes tokenizer.model, whole or not at all."""
        write_atomic(directory / "tokenizer.model", self.start.serialized_model_proto())

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {token.content: i for i, token in self.symbols.items()}

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        return pattern(self.symbols)

    def _encode(
        self, text: str, model: sentencepiece.SentencePieceProcessor, quoted: bool
    ) -> list[int]:
        """Ids of a text whose first stretch is for the model that is given."""
        ids: list[int] = []
        for stretch, symbol in cut(text, self._pattern):
            ids += model.encode(self.quotes.letters(stretch) if quoted else stretch)
            if symbol is not None:
                ids.append(symbol)
                model = self.start if self.prefix == "always" else self.inner
        return ids


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
