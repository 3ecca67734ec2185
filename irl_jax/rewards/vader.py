"""A gold reward that people made: the valence ratings of the VADER lexicon.

Ten raters scored each of some 7,500 words from -4 to 4; rules for negation,
intensifiers and punctuation combine them into a score for a text.

Reference: Hutto & Gilbert 2014, "VADER: A Parsimonious Rule-based Model for
Sentiment Analysis of Social Media Text", ICWSM.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np

from irl_jax.types import InputError


@cache
def vader() -> Callable[[Sequence[str]], np.ndarray]:
    """The valence of texts as a function: N texts -> f64[N] in [-1, 1], 0 if neutral.

    Raises:
        InputError: if `vaderSentiment` is not installed.
    """
    try:
        from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer
    except ImportError as error:
        raise InputError(
            'the gold reward needs vaderSentiment: pip install "irl_jax[demo]"'
        ) from error
    analyzer = SentimentIntensityAnalyzer()
    return lambda texts: np.array([analyzer.polarity_scores(text)["compound"] for text in texts])


def valence(texts: Sequence[Sequence[str]]) -> np.ndarray:
    """The valence of rows of texts, [B][K] -> f64[B, K].

    Raises:
        InputError: if `vaderSentiment` is not installed.
    """
    return np.stack([vader()(row) for row in texts])
