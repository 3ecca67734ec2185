"""Byte-level BPE in plain Python: the oracle for the tokenizer read from GGUF.

Reference: Radford et al. 2019, "Language Models are Unsupervised Multitask
Learners", section 2.2 (bytes, pre-tokenization); Sennrich et al. 2016, "Neural
Machine Translation of Rare Words with Subword Units", arXiv 1508.07909,
algorithm 1 (merges).
"""

from __future__ import annotations

import itertools
import re
import unicodedata

CONTRACTIONS = ("'s", "'t", "'re", "'ve", "'m", "'ll", "'d")


def byte_symbols() -> dict[int, str]:
    """A printable symbol for each byte: itself where it has one, else 256 + k."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {b: chr(b) for b in printable} | {b: chr(256 + k) for k, b in enumerate(others)}


def kind(char: str) -> str:
    """One of: space, letter, number, other."""
    if char.isspace() and char not in "\x1c\x1d\x1e\x1f":
        return "space"
    category = unicodedata.category(char)[0]
    return {"L": "letter", "N": "number"}.get(category, "other")


def words(text: str) -> list[str]:
    """Cuts a text as GPT-2 does: runs of one kind, with one space before them."""
    found, i = [], 0
    while i < len(text):
        start = i
        contraction = next((c for c in CONTRACTIONS if text.startswith(c, i)), None)
        if contraction:
            i += len(contraction)
        else:
            lead = text[i] == " " and i + 1 < len(text) and kind(text[i + 1]) != "space"
            i += lead
            run = kind(text[i])
            while i < len(text) and kind(text[i]) == run:
                i += 1
            # whitespace before a word leaves its last character to the word
            if run == "space" and i < len(text) and i - start > 1:
                i -= 1
        found.append(text[start:i])
    return found


def isolate_numbers(text: str) -> list[str]:
    """Cuts every numeric character off its neighbours, as SmolLM2 does first."""
    parts, plain = [], ""
    for char in text:
        if kind(char) == "number":
            parts += [plain, char]
            plain = ""
        else:
            plain += char
    return [part for part in [*parts, plain] if part]


class ByteBpe:
    """Encodes with a vocabulary, merges (best first) and special tokens."""

    def __init__(self, tokens: list[str], merges: list[str], special: list[str]):
        self.ids = {token: i for i, token in enumerate(tokens)}
        self.rank = {tuple(merge.split(" ")): i for i, merge in enumerate(merges)}
        self.symbols = byte_symbols()
        longest_first = sorted(special, key=len, reverse=True)
        self.pattern = re.compile("(" + "|".join(map(re.escape, longest_first)) + ")")

    def encode(self, text: str) -> list[int]:
        ids = []
        for i, part in enumerate(self.pattern.split(text)):
            if i % 2:
                ids.append(self.ids[part])
                continue
            for stretch in isolate_numbers(part):
                for word in words(stretch):
                    ids += [self.ids[piece] for piece in self.merge(word)]
        return ids

    def merge(self, word: str) -> list[str]:
        pieces = [self.symbols[byte] for byte in word.encode()]
        while len(pieces) > 1:
            pairs = list(itertools.pairwise(pieces))
            best = min(pairs, key=lambda pair: self.rank.get(pair, len(self.rank)))
            if best not in self.rank:
                break
            merged, i = [], 0
            while i < len(pieces):
                joined = tuple(pieces[i : i + 2]) == best
                merged.append("".join(best) if joined else pieces[i])
                i += 2 if joined else 1
            pieces = merged
        return pieces
