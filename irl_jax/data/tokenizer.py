"""One tokenizer for byte-level BPE (`tokenizers`) and SentencePiece models.

Rules. A text that begins a sequence gets what the model puts before one: BOS where
`add_bos_token` or the post-processor of tokenizer.json says so, and the space that some
models have. A text that continues another gets neither; see `Tokenizer.encode_pieces`.
Special and added tokens are those that transformers reads, see `tokenizer_files`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any, Protocol

from irl_jax.data.gguf_tokenizer import read_gguf
from irl_jax.data.hf_tokenizer import HuggingFaceBackend
from irl_jax.data.spm import Prefix, SentencePieceBackend, train
from irl_jax.data.symbols import Quotes
from irl_jax.data.tokenizer_files import CONFIG, Description, describe
from irl_jax.files import write_atomic
from irl_jax.types import InputError

_ROLE_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|' + message.role + '|>' + message.content + eos_token }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
_ROLE_SYMBOLS = ("<|system|>", "<|user|>", "<|assistant|>")
_OWN = ("eos_token", "bos_token", "pad_token")  # attributes of a tokenizer


class Backend(Protocol):
    """What a tokenizing library has to offer."""

    @property
    def vocab_size(self) -> int:
        """Number of ids: the largest id plus one."""

    @property
    def quotes(self) -> Quotes:
        """The control tokens."""

    def encode_batch(self, texts: Sequence[str], quoted: bool = False) -> list[list[int]]:
        """Ids of each text; control tokens written in it are parsed, stand-ins if quoted not."""

    def encode_continuation(self, text: str, quoted: bool = False) -> list[int]:
        """Ids of a text that continues another: no space is put before it."""

    def decode(self, ids: Sequence[int], skip_special: bool) -> str:
        """Text of the ids."""

    def token_to_id(self, token: str) -> int | None:
        """Id of a token, None if there is none."""

    def id_to_token(self, token_id: int) -> str | None:
        """Token of an id, None if there is none."""

    def begins_with(self) -> list[int]:
        """Ids that the library puts before a text by itself."""

    def configuration(self) -> dict[str, Any]:
        """Fields of tokenizer_config.json that transformers needs to read the same ids."""

    def save(self, directory: Path) -> None:
        """Writes the library's own file."""


@dataclass(frozen=True)
class Tokenizer:
    """Text to token ids and back.

    Attributes:
        backend: the library that does it.
        eos_token: text of the token that ends a completion.
        bos_token: text of the token that begins a text, if the model has one.
        pad_token: text of the padding token, if the model has one.
        chat_template: Jinja template of conversations, if the model has one.
        add_bos: whether a text begins with BOS where no chat template writes it.
        special: further special tokens by name (`unk_token`, `sep_token`, ...).
        config: fields of the tokenizer_config.json that it came from; `save` keeps them.
    """

    backend: Backend
    eos_token: str
    bos_token: str | None = None
    pad_token: str | None = None
    chat_template: str | None = None
    add_bos: bool = False
    special: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in _OWN:
            token = getattr(self, name)
            if token is not None and self.backend.token_to_id(token) is None:
                raise InputError(f"tokenizer: {name} {token!r} is not in the vocabulary; fix it")

    @property
    def template_tokens(self) -> dict[str, str]:
        """Special tokens by name, as templates see them: those alone that there are."""
        own = {name: getattr(self, name) for name in _OWN}
        return {name: text for name, text in (dict(self.special) | own).items() if text is not None}

    @property
    def vocab_size(self) -> int:
        """Number of ids, special tokens included."""
        return self.backend.vocab_size

    @property
    def eos_id(self) -> int:
        """Id of the EOS token."""
        return self._id(self.eos_token)

    @property
    def bos_id(self) -> int | None:
        """Id of the BOS token, None if there is none."""
        return None if self.bos_token is None else self._id(self.bos_token)

    @property
    def pad_id(self) -> int:
        """Id of the padding token; that of EOS if there is none."""
        return self._id(self.eos_token if self.pad_token is None else self.pad_token)

    def encode(self, text: str, *, add_bos: bool = False, add_eos: bool = False) -> list[int]:
        """Token ids of a text; special tokens written in it are parsed as such.

        Args:
            text: any text.
            add_bos: begin with BOS.
            add_eos: end with EOS.

        Raises:
            InputError: `add_bos`, and there is no BOS.
        """
        return self.encode_batch([text], add_bos=add_bos, add_eos=add_eos)[0]

    def encode_batch(
        self, texts: Iterable[str], *, add_bos: bool = False, add_eos: bool = False
    ) -> list[list[int]]:
        """Token ids of each text, as `encode`."""
        if add_bos and self.bos_id is None:
            raise InputError("tokenizer: it has no BOS token; encode with add_bos=False")
        head = [self._id(self.bos_token)] if add_bos and self.bos_token is not None else []
        tail = [self.eos_id] if add_eos else []
        return [head + ids + tail for ids in self.backend.encode_batch(list(texts))]

    def encode_pieces(
        self, texts: Sequence[Sequence[str]], *, quoted: bool = False
    ) -> list[list[list[int]]]:
        """Ids of the pieces of texts; a piece continues the pieces before it.

        The ids of the first pieces and of the next are together the ids of the text that
        they make. Where a token of that text would cross the border, what comes before
        keeps the ids that it has alone (a policy is sampled from them), and the piece is
        encoded as a continuation: without the space that some models put before a text.

        Args:
            texts: each in pieces.
            quoted: control tokens that `backend.quotes` has quoted are letters.

        Returns:
            For each text the ids of each piece.
        """
        heads = [self._heads(pieces) for pieces in texts]
        ids = self._ids({text for each in heads for text in each}, quoted)
        found = []
        for pieces, (first, tail, *others) in zip(texts, heads, strict=True):
            before = ids[tail]
            if ids[first][len(ids[first]) - len(before) :] != before:
                tail, *others = accumulate(pieces)
                ids |= self._ids({tail, *others}, quoted)
                before = ids[tail]
            row = [ids[first]]
            for piece, head in zip(pieces[1:], others, strict=True):
                whole = ids[head]
                if whole[: len(before)] == before:
                    row.append(whole[len(before) :])
                else:
                    careful = quoted and self.backend.quotes.is_quoted(piece)
                    row.append(self.backend.encode_continuation(piece, careful))
                before = whole
            found.append(row)
        return found

    def _heads(self, pieces: Sequence[str]) -> list[str]:
        """The first piece, then what it and the next, two next, ... make from a symbol on.

        What follows a control token has the ids that it has in the whole text, so that a
        long prompt need not be encoded again with each completion.
        """
        symbols = [match.start() for match in self.backend.quotes.texts.finditer(pieces[0])]
        start = symbols[-1] if symbols else 0
        return [pieces[0], *accumulate([pieces[0][start:], *pieces[1:]])]

    def _ids(self, texts: set[str], quoted: bool) -> dict[str, list[int]]:
        """Ids of each text; those that hold quoted tokens are encoded with care."""
        is_quoted = self.backend.quotes.is_quoted
        ids: dict[str, list[int]] = {}
        for careful in (False, True) if quoted else (False,):
            part = [text for text in texts if not quoted or is_quoted(text) == careful]
            ids |= zip(part, self.backend.encode_batch(part, careful), strict=True)
        return ids

    def decode(self, ids: Iterable[int], skip_special: bool = True) -> str:
        """Text of token ids, a list or an i32[T] array.

        Args:
            ids: token ids.
            skip_special: leave special tokens out.
        """
        return self.backend.decode([int(i) for i in ids], skip_special)

    def save(self, directory: str | Path) -> None:
        """Writes a directory that `from_directory` and transformers' `AutoTokenizer` load.

        Fields of the tokenizer_config.json that it came from are kept.
        """
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        self.backend.save(directory)
        config = {"clean_up_tokenization_spaces": False, **self.config}
        config |= self.backend.configuration() | {"add_bos_token": self.add_bos}
        own = {name: getattr(self, name) for name in (*_OWN, "chat_template")}
        for name, value in (dict(self.special) | own).items():
            if value is None:
                config.pop(name, None)
            else:
                config[name] = value
        write_atomic(directory / CONFIG, json.dumps(config, indent=2).encode())

    @classmethod
    def from_gguf(cls, path: str | Path) -> Tokenizer:
        """The byte-level BPE in a GGUF file's metadata.

        Raises:
            InputError: the extra `demo` is missing, no such file, no GGUF file,
                another kind of tokenizer or pre-tokenizer, or none named.
        """
        found = read_gguf(Path(path))
        return cls(
            HuggingFaceBackend(found.model, str(path)),
            eos_token=found.eos_token,
            bos_token=found.bos_token,
            pad_token=found.pad_token,
            chat_template=found.chat_template,
            add_bos=found.add_bos and found.bos_token is not None,
            special=found.special,
        )

    @classmethod
    def from_directory(cls, path: str | Path) -> Tokenizer:
        """The tokenizer of a model's directory.

        It holds tokenizer.json or a SentencePiece tokenizer.model, and
        tokenizer_config.json; special_tokens_map.json, added_tokens.json and
        chat_template.jinja are read where they are.

        Raises:
            InputError: a file is missing or broken, no EOS token is named, or a token
                cannot have the id that is declared.
        """
        directory = Path(path)
        found = describe(directory)
        special = dict(found.special)
        tokens = {name: special.pop(name, None) for name in _OWN}
        eos, bos = tokens["eos_token"], tokens["bos_token"]
        if eos is None:
            raise InputError(f"{directory / CONFIG}: no `eos_token`; add one")
        backend = _backend(directory, found)
        begins = bos is not None and (
            found.config.get("add_bos_token") is True
            or backend.begins_with()[:1] == [backend.token_to_id(bos)]
        )
        return cls(
            backend,
            eos_token=eos,
            bos_token=bos,
            pad_token=tokens["pad_token"],
            chat_template=found.chat_template,
            add_bos=begins,
            special=special,
            config=found.config,
        )

    @classmethod
    def train_sentencepiece(
        cls, texts: Iterable[str], vocab_size: int, directory: str | Path
    ) -> Tokenizer:
        """Trains a SentencePiece BPE model with bytes as a fallback, and saves it.

        Every text survives a round trip (except U+2581, which SentencePiece
        writes for a space). The chat template puts one role symbol before each
        message and EOS after it.

        Args:
            texts: corpus.
            vocab_size: at most this many ids; fewer from a small corpus.
            directory: where tokenizer.model and tokenizer_config.json go.

        Raises:
            InputError: an empty corpus, or a vocabulary too small for it.
        """
        backend = train(texts, vocab_size, control_symbols=_ROLE_SYMBOLS)
        tokenizer = cls(
            backend,
            eos_token="</s>",
            bos_token="<s>",
            pad_token="<pad>",
            chat_template=_ROLE_TEMPLATE,
        )
        tokenizer.save(directory)
        return tokenizer

    def _id(self, token: str | None) -> int:
        found = None if token is None else self.backend.token_to_id(token)
        if found is None:
            raise InputError(f"tokenizer: {token!r} is not in the vocabulary")
        return found


def _backend(directory: Path, found: Description) -> Backend:
    file = directory / "tokenizer.json"
    if file.exists():
        return HuggingFaceBackend.from_file(file, found.added)
    file = directory / "tokenizer.model"
    if file.exists():
        return SentencePieceBackend.from_bytes(
            file.read_bytes(), str(file), _prefix(found.config), found.added
        )
    raise InputError(
        f"{directory}: no tokenizer.json and no tokenizer.model; expected a tokenizer's directory"
    )


def _prefix(config: Mapping[str, Any]) -> Prefix:
    """Stretches of a text that get a SentencePiece model's dummy prefix."""
    if config.get("add_prefix_space") is False:
        return "never"
    return "always" if config.get("legacy") else "first"
