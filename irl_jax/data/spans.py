"""Feedback on parts of a text: segments, the tokens in them, the errors that touch them.

People mark errors as spans of characters, a model writes tokens, and a dense reward is
given for a segment (a sentence, a part of one). All three meet in characters: a
text is cut into segments, a token belongs to the segment that holds its last character,
and a segment is wrong if a marked span touches it.

Reference: Wu et al. 2023, "Fine-Grained Human Feedback Gives Better Rewards for
Language Model Training", arXiv 2306.01693.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from irl_jax.types import InputError

_SENTENCE = re.compile(r"[.!?][\"'”’)\]]*(?=\s+[\"'“‘(\[]?[A-Z0-9])")
_INITIAL = re.compile(r"(?:^|[\s.(])(?:[A-Z]|Mr|Mrs|Ms|Dr|St|No|vs|Jr)\.$")
MOST_OF_A_CHARACTER = 32  # tokens: an emoji may be a family of them, each of four bytes
_PAUSE = re.compile(r"[,;!?](?=\s)")


@dataclass(frozen=True)
class Span:
    """Characters [start, end) of a text, marked as being of a kind."""

    start: int
    end: int
    kind: str


def sentence_ends(text: str) -> list[int]:
    """Where each sentence of a text ends, in characters; the last is the text's length.

    A sentence ends after . ! or ? before a capital or a digit, but not after an initial
    or a title.

    Args:
        text: any text; an empty one has no sentence.

    Example:
        >>> sentence_ends("J. R. Smith left. He came back.")
        [17, 31]
    """
    ends = [m.end() for m in _SENTENCE.finditer(text) if not _INITIAL.search(text[: m.start() + 1])]
    return [*ends, len(text)] if text else []


def part_ends(text: str, *, min_words: int) -> list[int]:
    """Where each part of a sentence ends; those of a sentence end with it.

    A sentence is cut after , ; ! or ? where the part before it and the rest of the
    sentence have `min_words` words at least.

    Args:
        text: any text; an empty one has no part.
        min_words: words of a part, at least, unless its sentence has fewer.

    Differs: the paper finds sentences with a parser (spaCy) and merges short parts by a
    rule of its code; the least length, five words, is the same.

    Example:
        >>> part_ends("He went away, and she stayed. Why, you?", min_words=2)
        [13, 29, 39]
    """
    ends, start = [], 0
    for stop in sentence_ends(text):
        for pause in _PAUSE.finditer(text, start, stop):
            before, rest = text[start : pause.end()], text[pause.end() : stop]
            if min(len(before.split()), len(rest.split())) >= min_words:
                ends.append(pause.end())
                start = pause.end()
        ends.append(stop)
        start = stop
    return ends


def token_ends(decode: Callable[[Sequence[int]], str], ids: Sequence[int]) -> np.ndarray:
    """Where each token of a text ends, in characters, i64[T].

    Works with any tokenizer, for it asks what the first t tokens say. A token that ends
    within a character ends where the tokens that complete it do, or one before; one
    that says nothing (EOS) ends where the one before it does.

    Args:
        decode: ids -> text, special tokens left out.
        ids: T tokens.
    """
    ends = np.array([len(decode(ids[: t + 1])) for t in range(len(ids))], np.int64)
    return np.minimum.accumulate(ends[::-1])[::-1]


def end_tokens(
    decode: Callable[[Sequence[int]], str],
    ids: Sequence[int],
    text: str,
    ends: Sequence[int],
) -> list[int]:
    """The token of the last visible character of each part of a text.

    White space does not count, which templates and tokenizers may add or take away.

    Args:
        decode: ids -> text, special tokens included.
        ids: tokens of the text; others may come before and after, or the text be cut.
        text: in parts, each with a character that is not white space.
        ends: where each part ends, in characters, increasing.

    Returns:
        Places in `ids`, of the parts that the tokens hold as the text has them. The first
        that they do not, and those after it, are left out.

    Example:
        >>> end_tokens("".join, ["<", "ab", " c", "d\\n", "e", ">"], "ab cd\\ne", [5, 7])
        [3, 4]
    """
    said = _visible(decode(ids))
    starts = [said.find(_visible(part)) for part in (text, text[: ends[0]])]
    before = said[: max(0, starts[0] if starts[0] >= 0 else starts[1])]
    told = _visible_ends(decode, ids, said)
    found: list[int] = []
    for end in ends:
        part = before + _visible(text[:end])
        place = bisect_left(told, len(part))
        if place == len(told) or not said.startswith(part):
            break
        found.append(place)
    return found


def _visible_ends(
    decode: Callable[[Sequence[int]], str], ids: Sequence[int], said: str
) -> list[int]:
    """How many visible characters the first 1, 2, ... tokens hold whole.

    Ends early where tokens, one by one or a few together, do not say what all say.
    """
    told: list[int] = []
    done, group = 0, 0  # tokens of a character that takes several
    for t in range(len(ids)):
        group += 1
        text = _visible(decode(ids[t + 1 - group : t + 1]))
        if said.startswith(text, done):
            done, group = done + len(text), 0
        elif group == MOST_OF_A_CHARACTER:
            return told[: t + 1 - group]
        told.append(done)
    return told


def _visible(text: str) -> str:
    """A text in its composed form, without white space (and without the mark ▁ for it)."""
    return "".join(unicodedata.normalize("NFKC", text.replace("▁", " ")).split())


def segment_of(ends: np.ndarray, segment_ends: Sequence[int]) -> np.ndarray:
    """The segment of each token, i32[T]: 1, 2, ..., that of its last character.

    Args:
        ends: i64[T], as `token_ends` gives them.
        segment_ends: where segments end, increasing; tokens beyond the last belong to it.

    Example:
        >>> segment_of(np.array([3, 7, 8, 12]), [8, 12]).tolist()
        [1, 1, 1, 2]
    """
    found = np.searchsorted(np.asarray(segment_ends), ends, side="left")
    return (np.minimum(found, len(segment_ends) - 1) + 1).astype(np.int32)


def touched(segment_ends: Sequence[int], spans: Iterable[Span]) -> np.ndarray:
    """Which segments a span touches, bool[G]: shares a character with.

    Args:
        segment_ends: where the G segments of a text end, increasing.
        spans: what was marked in the text.

    Raises:
        InputError: a span is empty, or reaches out of the text.

    Example:
        >>> touched([5, 9, 12], [Span(4, 6, "false")]).tolist()
        [True, True, False]
    """
    ends = np.asarray(segment_ends, np.int64)
    starts = np.concatenate([[0], ends[:-1]]) if len(ends) else ends
    out = np.zeros(len(ends), bool)
    for span in spans:
        if not 0 <= span.start < span.end <= (ends[-1] if len(ends) else 0):
            raise InputError(
                f"span {span.start}..{span.end} ({span.kind}): not within the text's "
                f"{ends[-1] if len(ends) else 0} characters; fix or remove it"
            )
        out |= (starts < span.end) & (ends > span.start)
    return out
