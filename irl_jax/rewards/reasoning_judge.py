"""A judge that reasons before it decides: what it is asked, and what its text says in the end.

It writes a critique and closes with a verdict on two responses, or with a rating of one. The text
is parsed; one that says nothing that can be read counts as a tie, or as the middle of the scale,
and is counted.

Reference: Zheng et al. 2023, "Judging LLM-as-a-judge with MT-Bench and Chatbot Arena",
arXiv 2306.05685; Lambert et al. 2024, "RewardBench: Evaluating Reward Models for Language
Modeling", arXiv 2403.13787.
"""

from __future__ import annotations

import re
import string
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from irl_jax.types import InputError

PAIR = """Two answers to one request follow. Compare how well each of them does what was asked.
Their order, their length and their form count for nothing.

Request:
{request}

Answer A:
{first}

Answer B:
{second}

Explain your comparison in a few sentences. Then end with one of these on a line of its own:
[[A]] if answer A is better, [[B]] if answer B is better, [[C]] if they are equally good."""

RATING = """A request and an answer to it follow. Judge how well the answer does what was asked.
Its length and its form count for nothing.

Request:
{request}

Answer:
{response}

Explain your judgement in a few sentences. Then end with a line of its own, "Rating: " and a number
from {lowest} (useless) to {highest} (could not be better)."""

SHARES = {"a": 1.0, "b": 0.0, "c": 0.5, "tie": 0.5}  # of the win, for the response shown first

_VERDICT = re.compile(
    r"\[\[([ABC])\]\]|(?i:\bverdict[^\w\n:]*:[^\w\n]*(?:answer )?([abc]|tie)[^\w\n]*$)",
    re.MULTILINE,
)
_RATING = re.compile(
    r"\brating[^\w\n:]*:[^\w\n]*?(-?\d+(?:\.\d+)?)(?![\d%]|[.,]\d|\s*[-–]\s*\d)", re.IGNORECASE
)


def check_template(template: str, fields: Sequence[str], place: str) -> None:
    """Checks what a judge is to be asked.

    Args:
        template: a text with fields, `{request}`; `{{` and `}}` are braces.
        fields: those that it must have.
        place: where it is from, for the message.

    Raises:
        InputError: a field is missing, or there is another.
    """
    wanted = ", ".join(f"{{{name}}}" for name in fields)
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as error:
        raise InputError(f"{place}: {error}; write {{{{ and }}}} for braces") from error
    found = [part[1:] for part in parts if part[1] is not None]
    for name, form, conversion in found:
        if name not in fields or form or conversion:
            raise InputError(
                f"{place}: has a field {{{name}}} that is not known; its fields are {wanted}, and "
                "{{ and }} are braces"
            )
    missing = [name for name in fields if name not in {name for name, *_ in found}]
    if missing:
        raise InputError(f"{place}: has no {{{missing[0]}}}; it needs the fields {wanted}")


def parse_verdict(text: str) -> float | None:
    """What a comparison says: the share of the win of the response shown first.

    The last marker decides: `[[A]]`, `[[B]]`, `[[C]]` for a tie; or a line that ends with
    `Verdict: A`, `B`, `C` or `tie`.

    Args:
        text: what the judge wrote.

    Returns:
        1 for A, 0 for B, ½ for a tie; None where there is no marker.

    Reference: Zheng et al. 2023, arXiv 2306.05685 (the markers).

    Differs: the code of MT-Bench and of RewardBench looks for [[A]] anywhere, then for [[B]], so
    that a critique that names both is a win of the place shown first.

    Example:
        >>> parse_verdict("[[A]] if the first is better... It is not. [[B]]"), parse_verdict("A")
        (0.0, None)
    """
    said = None
    for match in _VERDICT.finditer(text):
        said = SHARES[(match[1] or match[2]).lower()]
    return said


def parse_rating(text: str, lowest: float, highest: float) -> float | None:
    """The number after the last `Rating:`, in brackets or not.

    Args:
        text: what the judge wrote.
        lowest: end of the scale.
        highest: the other end.

    Returns:
        The rating; None where there is none, or the last lies outside the scale.

    Raises:
        InputError: the scale is empty.

    Reference: Zheng et al. 2023, arXiv 2306.05685 (single answer grading, `Rating: [[5]]`).

    Differs: their code takes the first number in double brackets, wherever it stands, and has no
    limits.

    Example:
        >>> parse_rating("Rating: 9? No. Rating: [[4.5]]", 1, 10), parse_rating("Rating: 11", 1, 10)
        (4.5, None)
    """
    check_scale(lowest, highest)
    found = _RATING.findall(text)
    value = float(found[-1]) if found else None
    return value if value is not None and lowest <= value <= highest else None


def check_scale(lowest: float, highest: float) -> None:
    """Raises `InputError` unless a scale has two ends."""
    if not -np.inf < lowest < highest < np.inf:
        raise InputError(f"lowest: expected a number below highest, got {lowest:g} and {highest:g}")


def win_log_odds(given: ArrayLike, swapped: ArrayLike) -> np.ndarray:
    """Log-odds that the first response is better, of readings in both orders.

    d = log (w + ½) / (n − w + ½), with w the sum of the first response's shares of the win in
    n readings. It is finite for a judge that never wavers, 0 for one that always names a place, and
    changes sign exactly where the responses are swapped.

    Args:
        given: f64[..., N], shares of the win of the place shown first (1, ½ or 0), the first
            response there.
        swapped: f64[..., N], the same with the second response shown first.

    Returns:
        f64[...], nats.

    Raises:
        InputError: shapes differ, or a share is not in [0, 1].

    Reference: Krichevsky & Trofimov 1981, "The performance of universal encoding" (half a win
    for each side).

    Example:
        >>> win_log_odds([1.0, 1.0], [0.0, 0.0]).round(3), win_log_odds([1.0], [1.0])
        (np.float64(2.197), np.float64(0.0))
    """
    given, swapped = np.asarray(given, np.float64), np.asarray(swapped, np.float64)
    if given.shape != swapped.shape:
        raise InputError(f"swapped: expected shape {list(given.shape)}, got {list(swapped.shape)}")
    for name, shares in {"given": given, "swapped": swapped}.items():
        if not ((shares >= 0) & (shares <= 1)).all():
            raise InputError(f"{name}: expected shares of a win, in [0, 1]")
    won = given.sum(-1) + (1 - swapped).sum(-1)
    lost = (1 - given).sum(-1) + swapped.sum(-1)
    return np.log(won + 0.5) - np.log(lost + 0.5)


def rewards_of_pairs(log_odds: ArrayLike) -> np.ndarray:
    """A number for each response out of a judge's preferences between every two of them.

    r_i = 1/K Σ_j d_ij: the rewards whose differences are nearest to the d_ij, in least squares, of
    mean 0. Of two responses they differ by exactly d; of more, the judge may be in a circle, and
    no rewards fit.

    Args:
        log_odds: d, f64[..., K, K], log-odds that response i is better than j (nats), d_ij = −d_ji.

    Returns:
        r, f64[..., K].

    Raises:
        InputError: no square, or d is not antisymmetric.

    Reference: Jiang et al. 2008, "Statistical ranking and combinatorial Hodge theory",
    arXiv 0811.1067 (complete graphs: the solution is Borda's count).

    Example:
        >>> rewards_of_pairs([[0.0, 3.0], [-3.0, 0.0]])
        array([ 1.5, -1.5])
    """
    d = np.asarray(log_odds, np.float64)
    if d.ndim < 2 or d.shape[-1] != d.shape[-2]:
        raise InputError(f"log_odds: expected shape [..., K, K], got {list(d.shape)}")
    if not np.array_equal(d, -d.swapaxes(-1, -2)):
        raise InputError("log_odds: expected d_ij = -d_ji for every two responses")
    return d.mean(-1)
