"""Where an answer stands in a response, and whether the response has the form asked for."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from irl_jax.rewards.text import (
    after,
    boxed,
    first_of,
    matches,
    stated,
    structured,
    tagged,
    weighted_text_reward,
)
from irl_jax.types import InputError

R1 = structured("think", "answer")


@pytest.mark.parametrize(
    ("extract", "text", "answer"),
    [
        (after("####"), "a\n#### 18", "18"),
        (after("####"), "#### 1\n#### 2\nmore", "2"),
        (after("####"), "none", None),
        (after("####"), "####   ", None),
        (boxed, r"\boxed{1} then \boxed{ 2 }", "2"),
        (boxed, r"\boxed{\frac{1}{2}}}", r"\frac{1}{2}"),
        (boxed, r"\boxed{a\}b}", r"a\}b"),
        (boxed, r"\boxed{1", None),
        (boxed, r"\boxed{}", None),
        (boxed, "boxed 3", None),
        (stated, "The answer is 3.5 m. So 7 is not.", "3.5 m"),
        (stated, "ANSWER: 1,200, since it is", "1,200"),
        (stated, "My answer is 1. No, the answer is: 2\nand 3", "2"),
        (stated, "answers vary", None),
        (stated, "answer island 5", None),
        (tagged("answer"), "<answer>a</answer><answer>\nb\n</answer> c", "b"),
        (tagged("answer"), "<answer>open", None),
        (tagged("answer"), "</answer><answer>", None),
        (first_of(boxed, stated), r"answer is 1, \boxed{2}", "2"),
        (first_of(boxed, stated), "answer is 1", "1"),
        (first_of(boxed, stated), "1", None),
    ],
)
def test_extracted(extract, text, answer):
    assert extract(text) == answer


@pytest.mark.parametrize(
    ("text", "reward"),
    [
        ("<think>a</think><answer>b</answer>", 1),
        (" <think>a\nb</think>\n\n<answer>b</answer>\n", 1),
        ("<think> </think><answer>b</answer>", 0),
        ("<think>a</think><answer></answer>", 0),
        ("<think>a</think>so<answer>b</answer>", 0),
        ("x<think>a</think><answer>b</answer>", 0),
        ("<think>a</think><answer>b</answer> tail", 0),
        ("<answer>b</answer><think>a</think>", 0),
        ("<think>a</think><answer>b</answer><answer>c</answer>", 0),
        ("<think>a<think>b</think><answer>c</answer>", 0),
        ("<think>a<answer>x</answer></think><answer>c</answer>", 0),
        ("<think>a</think>", 0),
        ("", 0),
    ],
)
def test_the_form_of_reasoning(text, reward):
    assert R1([text]).tolist() == [reward]


PIECES = st.sampled_from(["<think>", "</think>", "<answer>", "</answer>", "a", " ", "\n"])


@given(st.lists(PIECES, max_size=8))
def test_the_form_is_what_a_pattern_says(pieces):
    body = r"(?:(?!</?(?:think|answer)>)[\s\S])*"
    some = lambda name: rf"<{name}>(?=\s*[^\s<]){body}</{name}>"
    pattern = matches(rf"\s*{some('think')}\s*{some('answer')}\s*")
    text = "".join(pieces)
    assert R1([text]) == pattern([text])


def test_rewards_of_texts_add_up():
    both = weighted_text_reward({R1: 0.5, matches(r"(?s).*\d.*"): 1.0})
    texts = ["<think>a</think><answer>b</answer>", "<think>a</think><answer>1</answer>", "2", ""]
    rewards = both(texts)
    assert rewards.dtype == np.float64
    np.testing.assert_allclose(rewards, [0.5, 1.5, 1.0, 0.0])
    assert both([]).shape == (0,)


def test_what_is_missing_is_said():
    with pytest.raises(InputError, match="first_of: no extractor; give at least one"):
        first_of()
    with pytest.raises(InputError, match="structured: no tags; give at least one name"):
        structured()
    with pytest.raises(InputError, match="weighted_text_reward: no rewards; give at least one"):
        weighted_text_reward({})
    with pytest.raises(InputError, match=r"pattern '\(': missing \)"):
        matches("(")
