"""Edits of a response that keep its meaning: what a reward should not notice.

Each is a pure function of a text, which it returns as it is where there is nothing to
edit. Code, fenced or in backticks, is left alone: there a space or a quote has a
meaning. The rules are those of English.

Reference: Wu et al. 2025, "reWordBench: Benchmarking and Improving the Robustness of
Reward Models with Transformed Inputs", arXiv 2503.11751.

Differs: edits of their kind (input that keeps its meaning), smaller than theirs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import cast

from irl_jax.data.chat import Message, Text

Edit = Callable[[str], str]

_CODE = re.compile(r"(```.*?(?:```|\Z)|`[^`\n]*`)", re.DOTALL)
_INDENT = re.compile(r"^(?: {4}|\t)", re.MULTILINE)
_BOLD = re.compile(r"(?<![\w*\\])\*\*(?=[^\s*])(.+?)(?<=[^\s*\\])\*\*(?![\w*])")
_ITALIC = re.compile(r"(?<![\w*\\])\*(?=[^\s*])([^*\n]+?)(?<=[^\s*\\])\*(?![\w*])")
_GROUPED = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?!\d|,\d)")
_PAIR = re.compile(r'"([^"\n]+)"')
_SENTENCE = re.compile(r"(?<=[a-z][.!?])(?<!\b(?:Dr|Mr|Ms|St)\.)(?<!\bMrs\.) (?=[A-Z])")
_INNER = re.compile(r"(?<=[^\W\d_])'(?=[^\W\d_])")
# "Don't you ...?" is no question any more once it is "Do not you ...?".
_SUBJECT = r"(?!\s+(?:i|you|he|she|it|we|they|there|this|that|these|those)\b)"
_NOT = re.compile(rf"\b(\w+)n['’]t\b{_SUBJECT}", re.IGNORECASE)
_VERB = re.compile(r"\b(i|you|we|they|he|she|it|that|there|who)['’](m|re|ve|ll)\b", re.IGNORECASE)
_LET = re.compile(r"\b(let)['’]s\b", re.IGNORECASE)
_IRREGULAR = {"wo": "will", "sha": "shall", "ca": "can"}
_KNOWN = re.compile(
    r"(?:are|could|did|do|does|had|has|have|is|might|must|need|should|was|were|would|wo|sha|ca)\Z",
    re.IGNORECASE,
)
_FULL = {"m": "am", "re": "are", "ve": "have", "ll": "will"}


def outside_code(edit: Edit) -> Edit:
    """The edit, of what is not code: not in a fence, not in backticks."""

    def edited(text: str) -> str:
        parts = _CODE.split(text)
        return "".join(part if i % 2 else edit(part) for i, part in enumerate(parts))

    return edited


def blank_lines(text: str) -> str:
    """Single line breaks become blank lines; not in a text with indented lines, or code."""
    if _CODE.search(text) or _INDENT.search(text):
        return text
    return re.sub(r"(?<!\n)\n(?!\n)", "\n\n", text)


def trailing_break(text: str) -> str:
    """A line break is added at the end."""
    return text + "\n" if text else text


@outside_code
def two_spaces(text: str) -> str:
    """Two spaces between sentences, as on a typewriter."""
    return _SENTENCE.sub("  ", text)


def no_final_stop(text: str) -> str:
    """A full stop that ends the text goes."""
    return re.sub(r"(?<=[^\W_])\.(?=\s*\Z)", "", text)


def lower_first(text: str) -> str:
    """The first letter of the text becomes small, but for "I" and acronyms."""
    if re.match(r"[A-Z][a-z]", text):
        return text[0].lower() + text[1:]
    return re.sub(r"\AA(?= [a-z])", "a", text)


@outside_code
def curly_quotes(text: str) -> str:
    """Straight quotes around words, and apostrophes within them, become curly."""
    return _INNER.sub("’", _PAIR.sub(r"“\1”", text))


@outside_code
def full_forms(text: str) -> str:
    """Contractions are written out: "don't" becomes "do not".

    Left as they are: 's and 'd, which stand for more than one word, and questions that
    begin with a negation.
    """
    text = _NOT.sub(_negation, text)
    text = _VERB.sub(_auxiliary, text)
    return _LET.sub(lambda m: m[1] + (" US" if m[1].isupper() else " us"), text)


@outside_code
def ungrouped_numbers(text: str) -> str:
    """Thousands lose their commas: 1,000 becomes 1000."""
    return _GROUPED.sub(lambda m: m[0].replace(",", ""), text)


@outside_code
def no_emphasis(text: str) -> str:
    """Markdown's stars around bold and italic words go."""
    return _ITALIC.sub(r"\1", _BOLD.sub(r"\1", text))


EDITS: Mapping[str, Edit] = {
    "blank lines": blank_lines,
    "trailing break": trailing_break,
    "two spaces": two_spaces,
    "no final stop": no_final_stop,
    "lower first": lower_first,
    "curly quotes": curly_quotes,
    "full forms": full_forms,
    "ungrouped numbers": ungrouped_numbers,
    "no emphasis": no_emphasis,
}
"""Name -> edit."""


def edit_response(edit: Edit, response: Text) -> Text:
    """A response after an edit: its text, or what the assistant says in its messages."""
    if isinstance(response, str):
        return edit(response)
    return [
        cast(Message, m | {"content": edit(m["content"])}) if m["role"] == "assistant" else m
        for m in response
    ]


def _negation(match: re.Match) -> str:
    """Both words of a contracted negation, in its case; the contraction if it is none."""
    stem = match[1]
    if not _KNOWN.match(stem):
        return match[0]
    whole = _IRREGULAR.get(stem.lower(), stem)
    if stem.isupper():
        return f"{whole.upper()}NOT" if whole == "can" else f"{whole.upper()} NOT"
    if stem[0].isupper():
        whole = whole[0].upper() + whole[1:]
    return f"{whole}not" if whole.lower() == "can" else f"{whole} not"


def _auxiliary(match: re.Match) -> str:
    """A pronoun and its auxiliary in full, in their case; "it'm" and the like stay."""
    subject, verb = match.groups()
    if verb.lower() == "m" and subject.lower() != "i":
        return match[0]
    full = _FULL[verb.lower()]
    return f"{subject} {full.upper() if verb.isupper() else full}"
