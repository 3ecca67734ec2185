import numpy as np
import pytest

from irl_jax.losses.reduction import (
    group_mean,
    sequence_mean,
    sequence_sum,
    token_mean,
    weighted,
)
from irl_jax.types import InputError

X = np.float32([[[1, 2, np.nan], [3, np.nan, np.nan]], [[4, 5, 9], [np.nan] * 3]])
MASK = ~np.isnan(X)


@pytest.mark.parametrize(
    ("aggregate", "total", "weight"),
    [
        (token_mean, 24, 6),
        (group_mean, 2 + 6, 2),
        (sequence_mean, 1.5 + 3 + 6, 3),
        (sequence_sum, 24, 3),
    ],
)
def test_aggregations(aggregate, total, weight):
    assert tuple(map(float, aggregate(X, MASK))) == (total, weight)


def test_aggregations_agree_on_sequences_of_one_length():
    mask = np.ones([4, 5], bool)
    x = np.random.default_rng(0).standard_normal([4, 5]).astype(np.float32)
    by_token, by_sequence = (np.divide(*f(x, mask)) for f in (token_mean, sequence_mean))
    np.testing.assert_allclose(by_token, by_sequence, rtol=1e-6)


def test_the_mean_of_groups_needs_groups():
    with pytest.raises(InputError, match=r"group_mean: expected completions in groups"):
        group_mean(X[0], MASK[0])


def test_weighted_skips_what_has_no_weight():
    total, weight = weighted(np.float32([2, np.nan, 3]), np.float32([1, 0, 0.5]))
    assert (float(total), float(weight)) == (3.5, 1.5)
