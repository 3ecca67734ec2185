from __future__ import annotations

import numpy as np
import pytest

from irl_jax.eval.quality import reward_quality
from irl_jax.types import InputError


def test_measures_are_of_pairs_and_ranks_within_prompts():
    gold = np.array([[0.0, 1.0, 2.0], [5.0, 3.0, 4.0]])
    learned = np.array([[0.0, 2.0, 1.0], [1.0, -1.0, 0.5]])  # one pair of six is turned round
    found = reward_quality(learned, gold)
    assert found.accuracy.estimate == pytest.approx(5 / 6)
    assert found.spearman.estimate == pytest.approx((0.5 + 1.0) / 2)
    assert found.best_of_n.random.estimate == pytest.approx(gold.mean())
    perfect = reward_quality(gold * 3 - 7, gold)
    assert (perfect.accuracy.estimate, perfect.spearman.estimate) == (1.0, 1.0)


def test_equal_gold_has_no_order():
    with pytest.raises(InputError, match="rank correlation within prompts"):
        reward_quality(np.zeros((3, 2)), np.ones((3, 2)))
