"""A proposer and a solver: which texts are sums, their values, and what both sides earn."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from irl_jax.rewards.proposing import (
    half_solved,
    parse_sum,
    proposer_reward,
    rarely_solved,
    solver_reward,
)
from irl_jax.types import InputError


def accepts(text, terms, digits):
    """The grammar as a machine of states, character by character: the value, or None."""
    state, numbers, signs = "number or space", [""], [1]
    for c in text:
        if c == " ":
            state = {"digit": "after", "more": "after"}.get(state, state)
        elif c in "+-" and state in ("digit", "more", "after"):
            signs.append(1 if c == "+" else -1)
            numbers.append("")
            state = "number or space"
        elif c in "0123456789" and state in ("number or space", "digit"):
            numbers[-1] += c
            state = "more" if numbers[-1] == "0" else "digit"
        else:
            return None
    if state == "number or space" or not 2 <= len(numbers) <= terms:
        return None
    if max(map(len, numbers)) > digits:
        return None
    return sum(sign * int(number) for sign, number in zip(signs, numbers, strict=True))


def test_every_short_text_is_parsed_as_the_grammar_says():
    """All texts of up to six characters of an alphabet in which any rule may break."""
    found = 0
    for length in range(7):
        for text in map("".join, itertools.product("01+- ", repeat=length)):
            value = parse_sum(text, terms=2, digits=2)
            assert value == accepts(text, 2, 2), repr(text)
            found += value is not None
    assert found > 100


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    numbers=st.lists(st.integers(0, 999), min_size=1, max_size=6),
    signs=st.lists(st.sampled_from("+-"), min_size=5, max_size=5),
    gap=st.sampled_from(["", " "]),
)
def test_chains_have_their_values(numbers, signs, gap):
    text = str(numbers[0])
    total = numbers[0]
    for number, sign in zip(numbers[1:], signs, strict=False):
        text += f"{gap}{sign}{gap}{number}"
        total += number if sign == "+" else -number
    fits = 2 <= len(numbers) <= 4 and max(numbers) < 100
    assert parse_sum(text, terms=4, digits=2) == (total if fits else None)
    assert parse_sum(f"({text})", terms=9, digits=9) is None


def test_spaces_around_the_longest_sum():
    assert parse_sum("12 + 34", terms=2, digits=2) == 46
    assert parse_sum(" 12  -  34  ", terms=2, digits=2) == -22  # 12 characters
    assert parse_sum("  12  -  34  ", terms=2, digits=2) is None


@pytest.mark.parametrize(
    "text",
    ["", "1", "+", "1+", "+1", "-1+2", "1++2", "1 2", "1+2+", "1*2", "1/2", "2**9", "1+2;", "a+1",
     "__import__('os')", "1+1.0", "1+٣", "1+²", "1\n+2", "1e3+2", "0x1+2", "01+2", "1_0+2",
     "1" * 10**6, "1+" * 10**6, " " * 10**6],
)  # fmt: skip
def test_what_is_no_sum(text):
    assert parse_sum(text, terms=6, digits=3) is None


def test_answers():
    answers = ["-31", "31", "-031", "−31", " -31", "+5", "", "-", "5", "5.0", "9" * 40]
    found = solver_reward(answers, [-31] * 5 + [5] * 6)
    expected = [1.0, -0.5, -0.5, -1.0, -1.0, -1.0, -1.0, -1.0, 1.0, -1.0, -1.0]
    assert found.tolist() == expected
    with pytest.raises(InputError, match="answers: 1 to 2 sums"):
        solver_reward(["1"], [1, 2])


def test_what_a_proposal_is_worth():
    """Of every number of right answers among K, as the papers write it."""
    k = 4
    right = np.arange(k) < np.arange(k + 1)[:, None]
    valid = np.ones(k + 1, bool)
    p = [0.0, 0.25, 0.5, 0.75, 1.0]
    rare = [0.0 if x in (0.0, 1.0) else 1 - x for x in p]
    half = [2 * min(x, 1 - x) for x in p]
    run = jax.jit(proposer_reward, static_argnames="worth")
    assert run(right, valid).tolist() == rare
    assert run(right, valid, worth=half_solved).tolist() == half
    assert run(right, ~valid, worth=half_solved).tolist() == [-1.0] * (k + 1)
    mixed = valid & (np.arange(k + 1) != 2)
    assert run(right, mixed).tolist() == [*rare[:2], -1.0, *rare[3:]]
    assert rarely_solved(jnp.array(0.3)) == pytest.approx(0.7)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.8])
def test_few_answers_make_half_solved_tasks_seem_worse(p):
    """The exact mean over K answers is below the reward of p, and comes to it."""
    means = []
    for k in (1, 2, 8, 200):
        right = np.arange(k) < np.arange(k + 1)[:, None]
        chance = scipy.stats.binom.pmf(np.arange(k + 1), k, p)
        means.append(chance @ proposer_reward(right, np.ones(k + 1, bool), worth=half_solved))
    exact = 1 - abs(2 * p - 1)
    assert means[0] == 0.0 and all(np.diff(means) > -1e-6) and max(means) < exact + 1e-6
    assert means[-1] == pytest.approx(exact, abs=0.06)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: parse_sum("1+1", terms=1, digits=2), "terms"),
        (lambda: parse_sum("1+1", terms=2, digits=0), "digits"),
        (lambda: half_solved(jnp.array(1)), "success: expected a floating dtype"),
        (lambda: proposer_reward(np.ones((2, 3)), np.ones(2, bool)), "right: expected dtype bool"),
        (lambda: proposer_reward(np.ones((2, 3), bool), np.ones(3, bool)), "valid"),
        (lambda: proposer_reward(np.ones((2, 0), bool), np.ones(2, bool)), "right: a task needs"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(InputError, match=f"^{message}"):
        call()
