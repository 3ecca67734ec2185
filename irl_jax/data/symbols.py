"""Symbols that are found in a text before it is cut into pieces, and quoted ones.

A symbol (`</s>`, a role, a tool's tag) is one token wherever it is written. A special one
is a control token: it ends a turn or begins one. Control tokens that stand in users' texts
can be quoted: each is replaced by a character of its own, a stand-in, that survives the
rendering of a template, and is encoded as the letters that it stands for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from tokenizers import AddedToken

from irl_jax.types import InputError

_FIRST, _LAST = 0x100000, 0x10FFFD  # plane 16, for private use


FLAGS = ("special", "single_word", "lstrip", "rstrip", "normalized")  # of an AddedToken


def check_id(token: AddedToken, wanted: int | None, found: int | None, place: str) -> None:
    """Refuses a symbol whose id is not the declared one.

    Raises:
        InputError: naming the file `place` and the symbol.
    """
    if wanted is not None and found != wanted:
        raise InputError(
            f"{place}: the added token {token.content!r} should be id {wanted} and would be "
            f"{found}; fix added_tokens_decoder or added_tokens.json beside it"
        )


def pattern(symbols: Mapping[int, AddedToken]) -> re.Pattern[str]:
    """Matches the symbols, longest first; the name of the group tells the symbol's id."""
    parts = []
    for i, symbol in sorted(symbols.items(), key=lambda item: -len(item[1].content)):
        part = re.escape(symbol.content)
        if symbol.single_word:
            part = rf"(?<!\w){part}(?!\w)"
        before, after = (r"\s*" if strips else "" for strips in (symbol.lstrip, symbol.rstrip))
        parts.append(f"(?P<s{i}>{before}{part}{after})")
    return re.compile("|".join(parts) or "(?!)")


def cut(text: str, found: re.Pattern[str]) -> Iterator[tuple[str, int | None]]:
    """Yields the stretches of a text with the id of the symbol after each, None last."""
    place = 0
    for match in found.finditer(text):
        yield text[place : match.start()], int((match.lastgroup or "s")[1:])
        place = match.end()
    yield text[place:], None


class Quotes:
    """Control tokens of a tokenizer, and characters that stand for them where quoted."""

    def __init__(self, control: Iterable[AddedToken]) -> None:
        """`control`: the special symbols."""
        symbols = list(control)
        if len(symbols) > _LAST - _FIRST:
            raise InputError(f"tokenizer: {len(symbols)} control tokens are too many to quote")
        self.contents = [symbol.content for symbol in symbols]
        self.stand_ins = [chr(_FIRST + i) for i in range(len(symbols))]
        self.texts = re.compile("|".join(_longest_first(self.contents)) or "(?!)")
        self._stand_in = dict(zip(self.contents, self.stand_ins, strict=True))
        self._letters = str.maketrans(dict(zip(self.stand_ins, self.contents, strict=True)))
        self._quoted = re.compile(f"[{''.join(self.stand_ins)}]" if symbols else "(?!)")

    def quote(self, text: str) -> str:
        """The text with a stand-in for each control token.

        Raises:
            InputError: it holds a character that is a stand-in.
        """
        if self.is_quoted(text):
            raise InputError(
                "the text holds a private character beyond U+FFFFF, which stands for control "
                "tokens here; remove it"
            )
        return self.texts.sub(lambda match: self._stand_in[match.group()], text)

    def is_quoted(self, text: str) -> bool:
        """Whether a text holds stand-ins."""
        return self._quoted.search(text) is not None

    def letters(self, text: str) -> str:
        """The text with what each stand-in stands for."""
        return text.translate(self._letters)

    def swap(self, text: str) -> str:
        """The text with stand-ins for control tokens, and letters for its own stand-ins."""
        parts, place = [], 0
        for match in self.texts.finditer(text):
            parts += [self.letters(text[place : match.start()]), self._stand_in[match.group()]]
            place = match.end()
        return "".join([*parts, self.letters(text[place:])])


def _longest_first(texts: Iterable[str]) -> list[str]:
    return [re.escape(text) for text in sorted(texts, key=len, reverse=True)]
