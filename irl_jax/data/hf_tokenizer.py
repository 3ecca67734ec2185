"""Models of the `tokenizers` library (tokenizer.json), and texts that continue others.

A model may put a space before a text: a Prepend normalizer (Llama-2), Metaspace with
`prepend_scheme` first or always, ByteLevel with `add_prefix_space`. A text that continues
another gets none; what follows an added token in it is encoded as the model does it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import tokenizers

from irl_jax.data.files import write_whole


@dataclass(frozen=True)
class HuggingFaceBackend:
    """A `tokenizers` model (tokenizer.json)."""

    model: tokenizers.Tokenizer

    @property
    def vocab_size(self) -> int:
        """Number of ids."""
        return max(self.model.get_vocab(with_added_tokens=True).values()) + 1

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text."""
        encodings = self.model.encode_batch(list(texts), add_special_tokens=False)
        return [encoding.ids for encoding in encodings]

    def encode_continuation(self, text: str) -> list[int]:
        """Ids of a text without the space that the model puts before one."""
        encoding = self._inner.encode(text, add_special_tokens=False)
        for n, (token, (begin, end)) in enumerate(zip(encoding.ids, encoding.offsets, strict=True)):
            added = self._added.get(token)
            if added is not None and added in text[begin:end]:
                rest = self.model.encode(text[begin:], add_special_tokens=False)
                return encoding.ids[:n] + rest.ids
        return encoding.ids

    def decode(self, ids: Sequence[int], skip_special: bool) -> str:
        """Text of the ids."""
        return self.model.decode(list(ids), skip_special_tokens=skip_special)

    def token_to_id(self, token: str) -> int | None:
        """Id of a token."""
        return self.model.token_to_id(token)

    def id_to_token(self, token_id: int) -> str | None:
        """Token of an id."""
        return self.model.id_to_token(token_id)

    def save(self, directory: Path) -> None:
        """Writes tokenizer.json."""
        write_whole(directory / "tokenizer.json", self.model.to_str(pretty=True).encode())

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
