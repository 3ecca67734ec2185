r"""Numbers as people write them, read exactly, and compared: a reward for the right answer.

A number is read as a `Fraction`, so 0.1 is 1/10 and no tolerance is needed. Read are
integers, decimals, thousands in groups of three (1,234), a/b, mixed numbers (1 1/2, 1½),
`\frac{a}{b}`, scientific notation (1.5e3, 1.5 × 10^3), percentages, hundred to trillion as
words, either sign, with currency and units around it; not number words (five), decimal
commas, or numbers beyond 400 characters or 10^±1000, however long the text around them.
Nothing is evaluated: 3 + 4 is no number. Time is linear in the length of a text.
"""

from __future__ import annotations

import re
import unicodedata
from collections import deque
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import islice

import numpy as np

from irl_jax.data.jsonl import PromptRecord
from irl_jax.rewards.text import F64, Extractor
from irl_jax.types import InputError

# N responses and the records of their prompts -> f64[N]
Verifier = Callable[[Sequence[str], Sequence[PromptRecord]], F64]

LONGEST = 400  # characters of a number: to read its digits takes time quadratic in them
GREATEST_EXPONENT = 1000  # of ten

# A quantifier with a + gives nothing back, so that no text takes more than linear time.
_WHOLE = r"(?:[0-9]{1,3}(?:,[0-9]{3})++(?![0-9])|[0-9]++)"
_DECIMAL = rf"(?:{_WHOLE}(?:\.[0-9]*+)?|\.[0-9]++)"
_FRAC = rf"\\[dt]?frac\s*+\{{\s*+([-+]?{_DECIMAL})\s*+\}}\s*+\{{\s*+([-+]?{_DECIMAL})\s*+\}}"
_TIMES_TEN = r"\s*+(?:×|x|\*|\\times|\\cdot)\s*+10\^\{?+\s*+"
_POWER = rf"(?:[eE]|{_TIMES_TEN})([-+]?[0-9]++)\}}?+"
_NUMBER = re.compile(
    rf"((?<![\w)\]}}])[-+])?+(?:\\?[$€£¥])?+(?:"
    rf"(?:({_WHOLE})\s*+)?{_FRAC}"
    rf"|(?:({_WHOLE})\s++(?={_WHOLE}\s*+/))?({_DECIMAL})\s*+/\s*+({_DECIMAL})"
    rf"|({_DECIMAL})(?:{_POWER})?)"
)
_SCALE = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12}
_MINUS = dict.fromkeys(map(ord, "−‐‑‒–—―﹣－"), "-")
_LATEX_SPACE = re.compile(r"\\[!,;: ]|\\left|\\right|\^\\circ|\^\{\\circ\}|°")
_LATEX_TEXT = re.compile(r"\\(?:text|textbf|mathrm|mathbf|mbox)\s*+\{([^{}]*+)\}")
_SQUARE_OR_CUBE = re.compile(r"(?<=[A-Za-z])(?:[²³]|\^[23]|\^\{[23]\})")
_VULGAR = re.compile(r"[¼-¾⅐-⅞]")
_OPERATORS = frozenset("+*^<>|×÷√\\")
_GLUED_BEFORE = re.compile(r"[\w/.]$|-(?![A-Za-z])")  # A5, 1/.., a sign that is not the number's
_GLUED_AFTER = re.compile(r"[/_-]|[xyzni](?![A-Za-z])")  # 3/.., 3-.., 3x
_SIGN_APART = re.compile(r"^([-+])\s*+[$€£¥]?\s*+(?=[0-9.\\])|^[$€£¥]\s*+([-+])\s*+")


def number(text: str) -> Fraction | None:
    r"""The value of a text that is a number, currency and units aside; else None.

    Of `x = 5` and `2 + 3 = 5` the right side counts. Two numbers are no answer. A
    percentage is a hundredth: 50% is 1/2.

    Example:
        >>> [str(number(t)) for t in ("$1,234.50", "-3/4 cup", r"\frac{1}{2}", "3 or 4")]
        ['2469/2', '-3/4', '1/2', 'None']
    """
    read = _read(text)
    return None if read is None else read[0]


def equivalent(text: str, other: str) -> bool:
    """Whether two texts are one number.

    A percentage also equals the number before its sign, since "what percentage" is
    answered either way: 25% is 25 and is 0.25. Those two are not equal to each other.

    Example:
        >>> equivalent("$18.00", "18 dollars"), equivalent("25%", "25"), equivalent("25", "0.25")
        (True, True, False)
    """
    one, two = _read(text), _read(other)
    if one is None or two is None:
        return False
    (a, a_percent), (b, b_percent) = one, two
    return a == b or (a_percent != b_percent and (100 * a == b if a_percent else a == 100 * b))


def last_number(text: str) -> str | None:
    """The last number in a text: a guess, where no other extractor found an answer.

    Example:
        >>> last_number("3 hens lay 400 eggs each, which makes 1,200 eggs.")
        '1,200'
    """
    last = deque(_NUMBER.finditer(text.translate(_MINUS)), maxlen=1)
    return last[0][0].strip().rstrip(".") if last else None


def numeric_verifier(
    extract: Extractor, *, field: str, extract_truth: Extractor = lambda text: text
) -> Verifier:
    r"""1 where the number that a response gives is the right one, else 0.

    Args:
        extract: takes the answer out of a response, such as
            `first_of(boxed, stated, last_number)`.
        field: field of a record that holds the right answer.
        extract_truth: takes the number out of that field; GSM8K's needs `after("####")`.

    Returns:
        (N responses, the records of their prompts) -> f64[N].

    Raises:
        InputError: when called: lengths differ, a record has no such field, or what it
            holds is no number.

    Reference: Cobbe et al. 2021, "Training verifiers to solve math word problems", arXiv
    2110.14168 (a solution is correct if its final answer is).

    Example:
        >>> from irl_jax.rewards.text import after
        >>> gsm8k = numeric_verifier(last_number, field="answer", extract_truth=after("####"))
        >>> gsm8k(["It is $18."], [PromptRecord("...", {"answer": "6 * 3\\n#### 18"}, "")])
        array([1.])
    """

    def verify(texts: Sequence[str], records: Sequence[PromptRecord]) -> F64:
        if len(texts) != len(records):
            raise InputError(f"{len(texts)} responses for {len(records)} records; give one each")
        truths = [_truth(record, field, extract_truth) for record in records]
        answers = [extract(text) for text in texts]
        pairs = zip(answers, truths, strict=True)
        return np.array([a is not None and equivalent(a, t) for a, t in pairs], np.float64)

    return verify


def _truth(record: PromptRecord, field: str, extract: Extractor) -> str:
    if field not in record.fields:
        has = ", ".join(record.fields) or "none"
        raise InputError(f"{record.source}: no field `{field}` (fields: {has}); name the right one")
    answer = extract(str(record.fields[field]))
    if answer is None or number(answer) is None:
        raise InputError(f"{record.source}: `{field}` gives no number; fix it, or extract_truth")
    return answer


def _read(text: str) -> tuple[Fraction, bool] | None:
    """The value, and whether it was written as a percentage."""
    text = _plain(text)
    found = list(islice(_NUMBER.finditer(text), 2))
    if len(found) != 1 or len(found[0][0]) > LONGEST:
        return None
    match = found[0]
    before, rest = text[: match.start()], text[match.end() :]
    if any(c.isnumeric() or c in _OPERATORS for c in before + rest):
        return None
    value = None if _GLUED_BEFORE.search(before) or _GLUED_AFTER.match(rest) else _value(match)
    if value is None:
        return None
    words = rest.split()
    scale = _SCALE.get(words[0].strip(".,").lower(), 0) if words else 0
    percent = "%" in rest or (bool(words) and words[0].strip(".,").lower() == "percent")
    return value * 10**scale / (100 if percent else 1), percent


def _plain(text: str) -> str:
    """The right side of the last =, without LaTeX's spacing, in ASCII signs."""
    text = text.translate(_MINUS).rpartition("=")[2]
    text = text.replace(r"\%", "%").replace(r"\$", "$").replace("{,}", ",")
    text = _LATEX_TEXT.sub(r" \1 ", _LATEX_SPACE.sub("", text))
    text = _SQUARE_OR_CUBE.sub("", text)
    text = _VULGAR.sub(lambda m: " " + unicodedata.normalize("NFKC", m[0]).replace("⁄", "/"), text)
    text = text.strip(" \t\n*_`()[]").strip()
    if text.startswith("$") and text.endswith("$"):
        text = text[1:-1].strip()  # mathematics, not dollars
    return _SIGN_APART.sub(lambda m: m[1] or m[2], text)


def _value(match: re.Match) -> Fraction | None:
    sign, *groups = match.groups()
    parts = [part and part.replace(",", "") for part in groups]
    frac_whole, over, under, whole, top, bottom, decimal, power = parts
    exponent = int(power or 0)
    if abs(exponent) > GREATEST_EXPONENT:
        return None
    if decimal:
        value = Fraction(decimal) * Fraction(10) ** exponent
    else:
        denominator = Fraction(under or bottom)
        if denominator == 0:
            return None
        value = Fraction(frac_whole or whole or 0) + Fraction(over or top) / denominator
    return -value if sign == "-" else value
