"""How much texts differ, against BLEU worked out by hand."""

import math

import pytest

from irl_jax.eval.diversity import distinct, self_bleu


def test_bleu_of_each_text_against_the_others():
    texts = ["a b c d e", "a b c d f", "x a b"]
    # first: 4 of 5 words, 3 of 4 pairs, 2 of 3 triples, 1 of 2 quadruples; nearest length 5
    first = (4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** (1 / 4)
    # third: 2 of 3, 1 of 2, 0 of 1
    assert self_bleu(texts) == pytest.approx((2 * first + 0.0) / 3)


def test_a_gram_counts_as_often_as_another_text_has_it():
    # "a a a": one word of three in "a b"; no pair
    assert self_bleu(["a a a", "a b"]) == 0.0
    # "a a" against "a": a word of two, no pair; "a" against "a a": all of it, but shorter
    assert self_bleu(["a a", "a"]) == pytest.approx((0.0 + math.exp(1 - 2)) / 2)


def test_other_texts_are_not_added_up():
    # each of the others has one "a", of the two of the first, and all its longer grams are known
    found = self_bleu(["a b c d a", "a b c d", "b c d a"])
    assert found == pytest.approx(((4 / 5) ** (1 / 4) + 1 + 1) / 3)


@pytest.mark.parametrize(
    "texts, expected",
    [(["a b"] * 3, 1.0), (["a b", "c d"], 0.0), (["", "a"], 0.0), (["", ""], 1.0)],
)
def test_the_ends_of_the_scale(texts, expected):
    assert self_bleu(texts) == expected


def test_repetitions_are_counted():
    assert distinct(["a", "b", "a", "a"]) == 0.5
