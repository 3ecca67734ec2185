"""How much the answers to one prompt differ from each other."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

ORDER = 4  # longest n-gram of BLEU


def distinct(texts: Sequence[str]) -> float:
    """Share of the texts that are no repetition of another, in (0, 1].

    Example:
        >>> distinct(["a b", "a b", "c"])
        0.6666666666666666
    """
    return len(set(texts)) / len(texts)


def self_bleu(texts: Sequence[str]) -> float:
    """Mean BLEU of each text against the others, in [0, 1]; 1 where all are equal.

    BLEU = min(1, exp(1 − r/c)) (p₁ … p_m)^(1/m), pₙ the share of a text's n-grams that another
    text has too (as often, at most), c its length and r that of the other text nearest in length.
    m = 4, or the number of words of a shorter text. Words are parted by white space.

    Args:
        texts: K >= 2 answers to one prompt; an empty one counts 0, 1 if all are empty.

    Reference: Zhu et al. 2018, "Texygen: A Benchmarking Platform for Text Generation Models",
    arXiv 1802.01886; Papineni et al. 2002, "BLEU: a Method for Automatic Evaluation of Machine
    Translation".

    Differs: texts of fewer than four words are compared by their shorter n-grams; no smoothing.

    Example:
        >>> self_bleu(["a b c d", "a b c d"]), self_bleu(["a b", "c d"])
        (1.0, 0.0)
    """
    words = [text.split() for text in texts]
    scores = [_bleu(own, words[:i] + words[i + 1 :]) for i, own in enumerate(words)]
    return math.fsum(scores) / len(scores)


def _bleu(own: list[str], others: list[list[str]]) -> float:
    if not own:
        return float(not any(others))
    order = min(ORDER, len(own))
    shares = []
    for n in range(1, order + 1):
        counts = _grams(own, n)
        known: Counter[tuple[str, ...]] = Counter()
        for other in others:
            known |= _grams(other, n)
        shares.append((counts & known).total() / counts.total())
    nearest = min((abs(len(other) - len(own)), len(other)) for other in others)[1]
    brevity = min(1.0, math.exp(1.0 - nearest / len(own)))
    return brevity * math.prod(shares) ** (1.0 / order)


def _grams(words: list[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))
