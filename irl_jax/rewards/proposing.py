"""A proposer and a solver: tasks that a policy writes, answers to them, and what each is worth.

The tasks are chains of sums, `12 + 7 - 5`. What the proposer wrote is taken apart into numbers and
signs, and never run; what is anything else is no task.

Reference: Zhao et al. 2025, "Absolute Zero: Reinforced Self-play Reasoning with Zero Data", arXiv
2505.03335; Huang et al. 2025, "R-Zero: Self-Evolving Reasoning LLM from Zero Data", arXiv
2508.05004.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import jax.numpy as jnp
import numpy as np
from jax import Array

from irl_jax.masking import as_float, check_mask, check_range, check_shape
from irl_jax.rewards.text import F64
from irl_jax.types import InputError

RIGHT, WRONG, UNREADABLE = 1.0, -0.5, -1.0  # of an answer; a proposal that is no task: the last
_TOKEN = re.compile(r"[0-9]+|[+-]| +")
_INTEGER = re.compile(r"-?[0-9]{1,18}")


def parse_sum(text: str, *, terms: int, digits: int) -> int | None:
    """The value of a chain of sums, or None for a text that is none.

    sum = number {("+" | "-") number}, number = "0" | digit but 0 {digit}. Spaces may stand between
    numbers and signs, two for each of them at most.

    Args:
        text: any.
        terms: numbers of a chain, from 2 to this many.
        digits: of a number, at most.

    Raises:
        InputError: fewer than 2 terms or than 1 digit are allowed.

    Example:
        >>> parse_sum("12 + 7 - 50", terms=3, digits=2)
        -31
        >>> parse_sum("12 * 7", terms=3, digits=2)
    """
    check_range("terms", terms, 2)
    check_range("digits", digits, 1)
    longest = (2 * terms - 1) * (digits + 2)  # with a space around each of them
    tokens = _tokens(text) if len(text) <= longest else None
    if tokens is None or not 2 <= (len(tokens) + 1) / 2 <= terms:
        return None
    total, sign = 0, 1
    for place, token in enumerate(tokens):
        if place % 2:
            if token not in "+-":
                return None
            sign = 1 if token == "+" else -1
        elif not token.isdigit() or len(token) > digits or (token[0] == "0" and token != "0"):
            return None
        else:
            total += sign * int(token)
    return None if len(tokens) % 2 == 0 else total


def _tokens(text: str) -> list[str] | None:
    """Numbers and signs, without spaces; None if there is anything else."""
    found, place = [], 0
    while place < len(text):
        token = _TOKEN.match(text, place)
        if token is None:
            return None
        found.append(token[0])
        place = token.end()
    return [token for token in found if token[0] != " "]


def solver_reward(answers: Sequence[str], values: Sequence[int]) -> F64:
    """What answers to sums are worth, f64[N]: 1 if right, −0.5 if wrong, −1 if no integer.

    Args:
        answers: N texts.
        values: of the sums that they answer.

    Raises:
        InputError: there are not as many of each.

    Reference: Zhao et al. 2025, arXiv 2505.03335 (composite reward).

    Example:
        >>> solver_reward(["14", "15", "x"], [14, 14, 14]).tolist()
        [1.0, -0.5, -1.0]
    """
    if len(answers) != len(values):
        raise InputError(f"answers: {len(answers)} to {len(values)} sums; give one each")

    def one(answer: str, value: int) -> float:
        if not _INTEGER.fullmatch(answer):
            return UNREADABLE
        return RIGHT if answer == str(value) else WRONG

    return np.array([one(a, v) for a, v in zip(answers, values, strict=True)], np.float64)


def rarely_solved(success: Array) -> Array:
    """1 − p, and 0 where a task is never or always solved: the rarer, the better (Absolute Zero).

    Args:
        success: f32[...], p, the share of a task's answers that are right.

    Reference: Zhao et al. 2025, arXiv 2505.03335 (learnability reward).

    Example:
        >>> rarely_solved(jnp.array([0.0, 0.25, 1.0])).tolist()
        [0.0, 0.75, 0.0]
    """
    p = as_float("success", success, jnp.shape(success))
    return jnp.where(p > 0, 1 - p, 0.0)


def half_solved(success: Array) -> Array:
    """1 − |2p − 1|: most where a task is solved every other time (R-Zero).

    Of K answers its mean is below that of all: E|2p̂ − 1| > |2p − 1| wherever p̂ may fall on either
    side of ½.

    Args:
        success: f32[...], p.

    Reference: Huang et al. 2025, arXiv 2508.05004 (uncertainty reward).

    Example:
        >>> half_solved(jnp.array([0.0, 0.25, 0.5, 1.0])).tolist()
        [0.0, 0.5, 1.0, 0.0]
    """
    p = as_float("success", success, jnp.shape(success))
    return 1 - jnp.abs(2 * p - 1)


def proposer_reward(
    right: Array, valid: Array, *, worth: Callable[[Array], Array] = rarely_solved
) -> Array:
    """What proposals are worth: by how often the solver is right, −1 for what is no task.

    Args:
        right: bool[..., K], of K answers to each task. Read where the proposal is one.
        valid: bool[...], which proposals are tasks.
        worth: p -> reward, `rarely_solved`, `half_solved` or another.

    Returns:
        f32[...].

    Raises:
        InputError: an array has the wrong shape or dtype, or K is 0.

    Reference: Zhao et al. 2025, arXiv 2505.03335 (composite reward).

    Example:
        >>> right = jnp.array([[True, False], [True, True], [False, False]])
        >>> proposer_reward(right, jnp.array([True, True, False])).tolist()
        [0.5, 0.0, -1.0]
    """
    check_mask("right", right, jnp.shape(right))
    check_mask("valid", valid, jnp.shape(right)[:-1])
    check_shape("right", right, (*jnp.shape(valid), None))
    if right.shape[-1] == 0:
        raise InputError("right: a task needs at least one answer")
    return jnp.where(valid, worth(right.mean(-1)), UNREADABLE)
