"""One tokenizer for byte-level BPE (`tokenizers`) and SentencePiece models."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal, Protocol

import tokenizers

from irl_jax.data.files import read_object, write_whole
from irl_jax.data.gguf_tokenizer import read_gguf
from irl_jax.data.hf_tokenizer import HuggingFaceBackend
from irl_jax.data.spm import SentencePieceBackend, train
from irl_jax.types import InputError

_ROLE_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|' + message.role + '|>' + message.content + eos_token }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
_ROLE_SYMBOLS = ("<|system|>", "<|user|>", "<|assistant|>")


class Backend(Protocol):
    """What a tokenizing library has to offer."""

    @property
    def vocab_size(self) -> int:
        """Number of ids: the largest id plus one."""

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text; special tokens written in it are parsed."""

    def encode_continuation(self, text: str) -> list[int]:
        """Ids of a text that continues another: no space is put before it."""

    def decode(self, ids: Sequence[int], skip_special: bool) -> str:
        """Text of the ids."""

    def token_to_id(self, token: str) -> int | None:
        """Id of a token, None if there is none."""

    def id_to_token(self, token_id: int) -> str | None:
        """Token of an id, None if there is none."""

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
    """

    backend: Backend
    eos_token: str
    bos_token: str | None = None
    pad_token: str | None = None
    chat_template: str | None = None

    def __post_init__(self) -> None:
        for name in ("eos_token", "bos_token", "pad_token"):
            token = getattr(self, name)
            if token is not None and self.backend.token_to_id(token) is None:
                raise InputError(f"tokenizer: {name} {token!r} is not in the vocabulary; mend it")

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

    def encode_pieces(self, texts: Sequence[Sequence[str]]) -> list[list[list[int]]]:
        """Ids of the pieces of texts; a piece continues the pieces before it.

        The ids of the first pieces and of the next are together the ids of the text that
        they make. Where a token of that text would cross the border, what comes before
        keeps the ids that it has alone (a policy is sampled from them), and the piece is
        encoded as a continuation: without the space that some models put before a text.

        Args:
            texts: each in pieces.

        Returns:
            For each text the ids of each piece.
        """
        heads = [list(accumulate(pieces)) for pieces in texts]
        unique = list(dict.fromkeys(head for each in heads for head in each))
        ids = dict(zip(unique, self.backend.encode_batch(unique), strict=True))
        found = []
        for pieces, each in zip(texts, heads, strict=True):
            before: list[int] = []
            row = []
            for piece, head in zip(pieces, each, strict=True):
                whole = ids[head]
                fits = whole[: len(before)] == before
                row.append(
                    whole[len(before) :] if fits else self.backend.encode_continuation(piece)
                )
                before = whole
            found.append(row)
        return found

    def decode(self, ids: Iterable[int], skip_special: bool = True) -> str:
        """Text of token ids, a list or an i32[T] array.

        Args:
            ids: token ids.
            skip_special: leave special tokens out.
        """
        return self.backend.decode([int(i) for i in ids], skip_special)

    def save(self, directory: str | Path) -> None:
        """Writes a directory that `from_directory` loads.

        A `tokenizers` model is also what transformers' `AutoTokenizer` loads.
        """
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        self.backend.save(directory)
        config: dict[str, Any] = {"clean_up_tokenization_spaces": False}
        if isinstance(self.backend, HuggingFaceBackend):
            config["tokenizer_class"] = "PreTrainedTokenizerFast"
        for name in ("bos_token", "eos_token", "pad_token", "chat_template"):
            value = getattr(self, name)
            if value is not None:
                config[name] = value
        write_whole(directory / "tokenizer_config.json", json.dumps(config, indent=2).encode())

    @classmethod
    def from_gguf(cls, path: str | Path) -> Tokenizer:
        """The byte-level BPE in a GGUF file's metadata.

        Raises:
            InputError: the extra `demo` is missing, no such file, no GGUF file,
                another kind of tokenizer or pre-tokenizer.
        """
        found = read_gguf(Path(path))
        return cls(
            HuggingFaceBackend(found.model),
            eos_token=found.eos_token,
            bos_token=found.bos_token,
            pad_token=found.pad_token,
            chat_template=found.chat_template,
        )

    @classmethod
    def from_directory(cls, path: str | Path) -> Tokenizer:
        """The tokenizer of a model's directory.

        It holds tokenizer.json or a SentencePiece tokenizer.model, and
        tokenizer_config.json; special_tokens_map.json and chat_template.jinja
        are read where they are.

        Raises:
            InputError: a file is missing or broken, or no EOS token is named.
        """
        directory = Path(path)
        config = read_object(directory / "special_tokens_map.json", required=False)
        config |= read_object(directory / "tokenizer_config.json", required=True)
        tokens = {
            name: _token(config.get(name)) for name in ("bos_token", "eos_token", "pad_token")
        }
        eos = tokens["eos_token"]
        if eos is None:
            raise InputError(f"{directory / 'tokenizer_config.json'}: no `eos_token`; add one")
        return cls(
            _backend(directory, config),
            eos_token=eos,
            bos_token=tokens["bos_token"],
            pad_token=tokens["pad_token"],
            chat_template=_template(directory, config),
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


def _backend(directory: Path, config: dict[str, Any]) -> Backend:
    file = directory / "tokenizer.json"
    if file.exists():
        if "model" not in read_object(file, required=True):
            raise InputError(f"{file}: no `model`; expected a file of the tokenizers library")
        model = tokenizers.Tokenizer.from_file(str(file))
        model.no_padding()
        model.no_truncation()
        return HuggingFaceBackend(model)
    file = directory / "tokenizer.model"
    if file.exists():
        return SentencePieceBackend.from_bytes(file.read_bytes(), str(file), _prefix(config))
    raise InputError(
        f"{directory}: no tokenizer.json and no tokenizer.model; expected a tokenizer's directory"
    )


def _prefix(config: dict[str, Any]) -> Literal["first", "always", "never"]:
    """Stretches of a text that get a SentencePiece model's dummy prefix."""
    if config.get("add_prefix_space") is False:
        return "never"
    return "always" if config.get("legacy") else "first"


def _template(directory: Path, config: dict[str, Any]) -> str | None:
    file = directory / "chat_template.jinja"
    if file.exists():
        return file.read_text(encoding="utf-8")
    template = config.get("chat_template")
    if isinstance(template, list):  # several, each with its name
        template = {entry["name"]: entry["template"] for entry in template}.get("default")
    return template


def _token(value: Any) -> str | None:
    """A special token's text, written as a string or an object."""
    return value["content"] if isinstance(value, dict) else value
