"""Models of the `tokenizers` library (tokenizer.json), and texts that continue others.

A model may put a space before a text: a Prepend normalizer (Llama-2), Metaspace with
`prepend_scheme` first or always, ByteLevel with `add_prefix_space`. A text that continues
another gets none; what follows an added token in it is encoded as the model does it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import models

from irl_jax.data.refusals import Refusals
from irl_jax.data.symbols import FLAGS, Quotes, check_id
from irl_jax.files import read_object, write_atomic
from irl_jax.types import InputError

_NO_ID = 2**31  # in no vocabulary


@dataclass(frozen=True)
class HuggingFaceBackend:
    """A `tokenizers` model.

    Attributes:
        model: the model, its added tokens included.
        source: the file that it came from, for errors.
    """

    model: tokenizers.Tokenizer
    source: str = "tokenizer"

    @classmethod
    def from_file(
        cls, file: Path, added: Iterable[tuple[int | None, tokenizers.AddedToken]] = ()
    ) -> HuggingFaceBackend:
        """Reads tokenizer.json.

        Args:
            file: the file.
            added: tokens to be added where the file lacks them or has them otherwise, in
                order, each with its id if that is known.

        Raises:
            InputError: it is no such file, or an added token gets another id.
        """
        if "model" not in read_object(file, "fetch the file again"):
            raise InputError(f"{file}: no `model`; expected a file of the tokenizers library")
        with Refusals(str(file), "fetch the file again"):
            model = tokenizers.Tokenizer.from_file(str(file))
            model.no_padding()
            model.no_truncation()
            _add(model, added, file)
        return cls(model, str(file))

    @property
    def vocab_size(self) -> int:
        """Number of ids."""
        return max(self.model.get_vocab(with_added_tokens=True).values()) + 1

    @cached_property
    def quotes(self) -> Quotes:
        """The special added tokens."""
        added = self.model.get_added_tokens_decoder().values()
        return Quotes(token for token in added if token.special)

    def encode_batch(self, texts: Sequence[str], quoted: bool = False) -> list[list[int]]:
        """Ids of each text; if quoted, stand-ins are the letters of control tokens."""
        if quoted:
            return self._plain.encode_batch([self.quotes.swap(text) for text in texts])
        with Refusals(self.source, "it cannot encode this text"):
            encodings = self.model.encode_batch(list(texts), add_special_tokens=False)
        return [encoding.ids for encoding in encodings]

    def encode_continuation(self, text: str, quoted: bool = False) -> list[int]:
        """Ids of a text without the space that the model puts before one."""
        if quoted:
            return self._plain.encode_continuation(self.quotes.swap(text))
        with Refusals(self.source, "it cannot encode this text"):
            encoding = self._inner.encode(text, add_special_tokens=False)
        for n, (token, (begin, end)) in enumerate(zip(encoding.ids, encoding.offsets, strict=True)):
            added = self._added.get(token)
            if added is not None and added in text[begin:end]:
                return encoding.ids[:n] + self.encode_batch([text[begin:]])[0]
        return encoding.ids

    def decode(self, ids: Sequence[int], skip_special: bool) -> str:
        """Text of the ids."""
        with Refusals(self.source, "it cannot decode these ids"):
            return self.model.decode(list(ids), skip_special_tokens=skip_special)

    def token_to_id(self, token: str) -> int | None:
        """Id of a token."""
        return self.model.token_to_id(token)

    def id_to_token(self, token_id: int) -> str | None:
        """Token of an id."""
        return self.model.id_to_token(token_id)

    def begins_with(self) -> list[int]:
        """Ids that the post-processor puts before a text."""
        if self.model.post_processor is None:
            return []
        any_text = tokenizers.Tokenizer(models.WordLevel({"a": _NO_ID}, unk_token="a")).encode("a")
        with Refusals(self.source, "fetch the file again"):
            ids = self.model.post_processor.process(any_text, None, True).ids
        return ids[: ids.index(_NO_ID)]

    def configuration(self) -> dict[str, Any]:
        """What tokenizer_config.json has to say for `AutoTokenizer` to read the file as it is."""
        return {"tokenizer_class": "PreTrainedTokenizerFast"}

    def save(self, directory: Path) -> None:
        """Writes tokenizer.json."""
        write_atomic(directory / "tokenizer.json", self.model.to_str(pretty=True).encode())

    @cached_property
    def _added(self) -> dict[int, str]:
        return {i: token.content for i, token in self.model.get_added_tokens_decoder().items()}

    @cached_property
    def _inner(self) -> tokenizers.Tokenizer:
        """The same model without a space before the text."""
        state = json.loads(self.model.to_str())
        state["normalizer"] = _without_prefix(state["normalizer"])
        state["pre_tokenizer"] = _without_prefix(state["pre_tokenizer"])
        return tokenizers.Tokenizer.from_str(json.dumps(state))

    @cached_property
    def _plain(self) -> HuggingFaceBackend:
        """The same model, whose control tokens are written as their stand-ins."""
        state = json.loads(self.model.to_str())
        name = dict(zip(self.quotes.contents, self.quotes.stand_ins, strict=True))
        model, vocabulary = state["model"], state["model"]["vocab"]
        if isinstance(vocabulary, dict):
            model["vocab"] = {name.get(piece, piece): i for piece, i in vocabulary.items()}
        else:
            model["vocab"] = [[name.get(piece, piece), score] for piece, score in vocabulary]
        if model.get("unk_token") in name:
            model["unk_token"] = name[model["unk_token"]]
        for token in state["added_tokens"]:
            if token["special"]:
                token |= {"content": name[token["content"]], "special": False, "normalized": False}
        with Refusals(self.source, "its control tokens cannot be told from letters"):
            plain = tokenizers.Tokenizer.from_str(json.dumps(state | {"post_processor": None}))
        return HuggingFaceBackend(plain, self.source)


def _add(
    model: tokenizers.Tokenizer,
    added: Iterable[tuple[int | None, tokenizers.AddedToken]],
    file: Path,
) -> None:
    """Adds the tokens that a model lacks or has otherwise."""
    known = {token.content: token for token in model.get_added_tokens_decoder().values()}
    for wanted, token in added:
        own = known.get(token.content)
        if wanted is None and own is not None and own.special:
            continue  # named as special, which it is; its flags are those of the file
        if own is None or any(getattr(own, f) != getattr(token, f) for f in FLAGS):
            (model.add_special_tokens if token.special else model.add_tokens)([token])
            known[token.content] = token
        check_id(token, wanted, model.token_to_id(token.content), str(file))


def _without_prefix(part: dict[str, Any] | None) -> dict[str, Any] | None:
    """A normalizer or a pre-tokenizer that puts nothing before a text."""
    if part is None or part["type"] == "Prepend":
        return None
    if part["type"] == "Sequence":
        name = "normalizers" if "normalizers" in part else "pretokenizers"
        return part | {name: [kept for each in part[name] if (kept := _without_prefix(each))]}
    if part["type"] == "Metaspace":
        return part | {"prepend_scheme": "never"}
    return part | {"add_prefix_space": False} if "add_prefix_space" in part else part
