"""What a judge's text says, against rules written out here, and rewards out of its verdicts."""

from __future__ import annotations

import math

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from irl_jax.rewards.reasoning_judge import (
    PAIR,
    RATING,
    check_template,
    parse_rating,
    parse_verdict,
    rewards_of_pairs,
    win_log_odds,
)
from irl_jax.types import InputError

MARKERS = {"[[A]]": 1.0, "[[B]]": 0.0, "[[C]]": 0.5}
LINES = {"Verdict: A": 1.0, "**Verdict:** B": 0.0, "My verdict - : answer B.": 0.0,
         "Final verdict: **tie**": 0.5, "Verdict: [[C]]": 0.5}  # fmt: skip
CHATTER = st.text(alphabet="ABC a.,\n*[]", max_size=20).filter(lambda t: "]]" not in t)


@given(st.lists(st.tuples(CHATTER, st.sampled_from(sorted(MARKERS))), min_size=1), CHATTER)
def test_the_last_marker_decides(parts, end):
    text = "".join(words + marker for words, marker in parts) + end
    assert parse_verdict(text) == MARKERS[parts[-1][1]]


@pytest.mark.parametrize(("line", "said"), LINES.items())
def test_a_line_with_a_verdict_counts_as_a_marker(line, said):
    assert parse_verdict(line) == said
    assert parse_verdict(f"[[A]] or [[B]]?\nSo I say:\n{line}\n\n") == said
    assert parse_verdict(f"{line}\nOn second thoughts [[B]]") == 0.0


@pytest.mark.parametrize(
    "text",
    [
        "", "A", "Answer A is better.", "[A]", "[[D]]", "[[AB]]", "[[a]]", "[[ A ]]",
        "Verdict: A better answer would be shorter", "Verdict: both", "Verdict:\nAnswer",
        "verdict A",
    ],
)  # fmt: skip
def test_what_is_no_verdict_is_not_guessed(text):
    assert parse_verdict(text) is None


@given(st.text())
def test_any_text_says_something_or_nothing(text):
    assert parse_verdict(text) in (None, 0.0, 0.5, 1.0)
    rating = parse_rating(text, -2.0, 3.0)
    assert rating is None or -2.0 <= rating <= 3.0


@given(
    st.lists(st.decimals(-20, 20, places=2).map(float), min_size=1),
    st.sampled_from(["Rating: {}", "rating: [[{}]]", "**Rating:** {}/10", "Rating: **{}** of 10"]),
)
def test_the_last_rating_counts_where_it_is_on_the_scale(ratings, form):
    text = "\n".join(["It is 7.", *(form.format(r) for r in ratings), "That is out of 10."])
    expected = ratings[-1] if 1 <= ratings[-1] <= 10 else None
    assert parse_rating(text, 1, 10) == expected


@pytest.mark.parametrize(
    "text",
    ["", "7", "[[7]]", "Rating 7", "Rating: seven", "Rating: 1-10", "Rating: 1 - 10", "Rating: 7,5",
     "Rating: 70%", "Rating: 0", "Rating: 11", "Rating: -7", "Rating:\n7", "Rating: 7.5.1"],
)  # fmt: skip
def test_what_is_no_rating_is_not_guessed(text):
    assert parse_rating(text, 1, 10) is None


def test_ends_of_the_scale_are_on_it_and_a_scale_has_two():
    assert [parse_rating(f"Rating: {n}", 1, 10) for n in (1, 10.0, 10.01)] == [1, 10, None]
    for scale in ((3, 3), (4, 3), (-math.inf, 3), (1, math.nan)):
        with pytest.raises(InputError, match="lowest: expected a number below highest"):
            parse_rating("Rating: 3", *scale)


SHARE = st.sampled_from([0.0, 0.5, 1.0])


@given(st.lists(st.tuples(SHARE, SHARE), min_size=1, max_size=8))
def test_log_odds_count_wins_by_hand_and_turn_round_with_the_order(readings):
    first, second = zip(*readings, strict=True)
    n, won = 2 * len(readings), 0.0
    for a, b in readings:
        won += a
        won += 1.0 - b
    found = win_log_odds(first, second)
    assert found == pytest.approx(math.log((won + 0.5) / (n - won + 0.5)), abs=1e-12)
    assert win_log_odds(second, first) == -found


def test_a_judge_of_places_says_nothing_and_a_sure_one_is_surer_with_more_readings():
    assert win_log_odds(np.ones((2, 3)), np.ones((2, 3))).tolist() == [0.0, 0.0]
    sure = [float(win_log_odds(np.ones(n), np.zeros(n))) for n in (1, 2, 50)]
    assert sure == pytest.approx([math.log(5), math.log(9), math.log(201)])


@given(st.integers(2, 5), st.integers(0, 2**32 - 1))
def test_rewards_are_the_least_squares_of_all_differences(count, seed):
    rng = np.random.default_rng(seed)
    d = rng.normal(size=(count, count))
    d = d - d.T
    pairs = [(i, j) for i in range(count) for j in range(count) if i < j]
    design = np.zeros((len(pairs), count))
    for row, (i, j) in zip(design, pairs, strict=True):
        row[i], row[j] = 1.0, -1.0
    expected = np.linalg.lstsq(design, [d[i, j] for i, j in pairs], rcond=None)[0]
    np.testing.assert_allclose(rewards_of_pairs(d), expected, atol=1e-12)


def test_differences_of_rewards_come_back_and_two_differ_by_all_of_it():
    r = np.array([0.3, -1.0, 2.5])
    found = rewards_of_pairs(r[:, None] - r)
    np.testing.assert_allclose(found[:, None] - found, r[:, None] - r, atol=1e-12)
    two = rewards_of_pairs([[[0.0, 0.7], [-0.7, 0.0]]])
    assert two[0, 0] - two[0, 1] == pytest.approx(0.7)


def test_shapes_and_ranges_are_checked():
    with pytest.raises(InputError, match=r"swapped: expected shape \[2\], got \[1\]"):
        win_log_odds([1, 0], [1])
    with pytest.raises(InputError, match=r"swapped: expected shares of a win, in \[0, 1\]"):
        win_log_odds([1.0], [math.nan])
    with pytest.raises(InputError, match=r"log_odds: expected shape \[\.\.\., K, K\], got \[2\]"):
        rewards_of_pairs([1.0, 2.0])
    with pytest.raises(InputError, match="log_odds: expected d_ij = -d_ji"):
        rewards_of_pairs([[0.0, 1.0], [1.0, 0.0]])


def test_templates_have_their_fields_and_no_others():
    check_template(PAIR, ("request", "first", "second"), "t")
    check_template(RATING, ("request", "response", "lowest", "highest"), "t")
    check_template("{{x}} {a}", ("a",), "t")
    wrong = {
        "{a}": r"^t\.txt: has no \{b\}; it needs the fields \{a\}, \{b\}",
        "{a} {b} {c}": r"^t\.txt: has a field \{c\} that is not known; its fields are \{a\}, \{b\}",
        "{a} {b.__class__}": r"^t\.txt: has a field \{b\.__class__\} that is not known",
        "{a} {b!r}": r"^t\.txt: has a field \{b\} that is not known",
        "{a} {b:>9}": r"^t\.txt: has a field \{b\} that is not known",
        "{a} {b} {": r"^t\.txt: .*; write \{\{ and \}\} for braces",
    }
    for template, says in wrong.items():
        with pytest.raises(InputError, match=says):
            check_template(template, ("a", "b"), "t.txt")
