r"""What can be told of an answer from its text alone: where the answer stands, and its form.

An extractor takes the answer out of a response; extractors compose by `first_of`. A
reward of form looks at nothing but the response, N texts -> f64[N]; rewards add up
with `weighted_text_reward`. Nothing here runs what a model wrote.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from irl_jax.types import InputError

F64 = NDArray[np.float64]
Extractor = Callable[[str], str | None]  # response -> its answer; None if there is none
TextReward = Callable[[Sequence[str]], F64]  # N responses -> f64[N]

_STATED = re.compile(r"\banswer\s*+(?:is\b|are\b|=|:)[:=]?", re.IGNORECASE)
_CLAUSE = re.compile(r"[.,;!?](?=\s|$)|\n")


def after(marker: str) -> Extractor:
    """What follows the last marker on its line: `####` of GSM8K, `A:`, `Answer:`.

    Example:
        >>> after("####")("6 * 3 = 18\\n#### 18")
        '18'
    """

    def extract(text: str) -> str | None:
        _, found, rest = text.rpartition(marker)
        return rest.partition("\n")[0].strip() or None if found else None

    return extract


def boxed(text: str) -> str | None:
    r"""What the last `\boxed{...}` holds, its own braces balanced.

    Example:
        >>> boxed(r"so \boxed{2} and \boxed{\frac{1}{2}}.")
        '\\frac{1}{2}'
    """
    _, found, rest = text.rpartition(r"\boxed{")
    depth = 1
    for brace in re.finditer(r"\\.|[{}]", rest) if found else ():
        depth += {"{": 1, "}": -1}.get(brace[0], 0)
        if depth == 0:
            return rest[: brace.start()].strip() or None
    return None


def stated(text: str) -> str | None:
    """What the last "answer is ...", "answer: ..." says, to the end of the clause.

    Example:
        >>> stated("Thus the answer is 1,200 eggs, since 3 hens laid 400 each.")
        '1,200 eggs'
    """
    last = deque(_STATED.finditer(text), maxlen=1)
    if not last:
        return None
    rest = text[last[0].end() :].lstrip()
    end = _CLAUSE.search(rest)
    return rest[: end.start() if end else len(rest)].strip() or None


def tagged(name: str) -> Extractor:
    """What the last `<name>...</name>` encloses.

    Example:
        >>> tagged("answer")("<think>2 + 2</think> <answer> 4 </answer>")
        '4'
    """
    opening, closing = f"<{name}>", f"</{name}>"

    def extract(text: str) -> str | None:
        before, found, _ = text.rpartition(closing)
        _, opened, inside = before.rpartition(opening) if found else ("", "", "")
        return inside.strip() or None if opened else None

    return extract


def first_of(*extractors: Extractor) -> Extractor:
    """The answer of the first extractor that finds one.

    Example:
        >>> first_of(boxed, after("####"))("#### 7")
        '7'
    """
    if not extractors:
        raise InputError("first_of: no extractor; give at least one")

    def extract(text: str) -> str | None:
        return next((a for a in (e(text) for e in extractors) if a is not None), None)

    return extract


def matches(pattern: str | re.Pattern) -> TextReward:
    r"""1 where a regular expression matches the whole response, else 0.

    The time that a pattern may take is the caller's concern: nested repetition of what
    a model writes can take exponential time.

    Raises:
        InputError: the pattern is no regular expression.

    Example:
        >>> matches(r"yes|no")(["yes", "yes!"]).tolist()
        [1.0, 0.0]
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise InputError(f"pattern {pattern!r}: {error}; fix it") from error
    return lambda texts: np.array([compiled.fullmatch(t) is not None for t in texts], np.float64)


def structured(*names: str) -> TextReward:
    """1 where a response is these tags in order, each once, and nothing but space outside.

    Every tag must enclose something. `structured("think", "answer")` is the format that
    DeepSeek-R1-Zero was rewarded for; it takes linear time, unlike most patterns for it.

    Args:
        names: of the tags.

    Raises:
        InputError: no names.

    Reference: DeepSeek-AI 2025, "DeepSeek-R1", arXiv 2501.12948, section 2.2.2.

    Example:
        >>> reward = structured("think", "answer")
        >>> reward(["<think>a</think>\\n<answer>b</answer>", "<answer>b</answer>"]).tolist()
        [1.0, 0.0]
    """
    if not names:
        raise InputError("structured: no tags; give at least one name")
    tags = [tag for name in names for tag in (f"<{name}>", f"</{name}>")]

    def well_formed(text: str) -> bool:
        for number, tag in enumerate(tags):
            before, found, text = text.partition(tag)
            inside = number % 2 == 1
            if not found or bool(before.strip()) != inside or any(t in before for t in tags):
                return False
        return not text.strip()

    return lambda texts: np.array([well_formed(text) for text in texts], np.float64)


def weighted_text_reward(weights: Mapping[TextReward, float]) -> TextReward:
    """Σᵢ wᵢ rᵢ, of rewards that look at responses alone.

    Args:
        weights: reward -> its weight.

    Example:
        >>> weighted_text_reward({matches(".*a.*"): 1.0, matches(".*b"): 0.5})(["ab", "b"]).tolist()
        [1.5, 0.5]
    """
    if not weights:
        raise InputError("weighted_text_reward: no rewards; give at least one")
    return lambda texts: np.sum([w * reward(texts) for reward, w in weights.items()], axis=0)
