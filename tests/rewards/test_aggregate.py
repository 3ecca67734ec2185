import jax
import jax.numpy as jnp
import numpy as np
import pytest

from irl_jax.rewards.aggregate import (
    disagreement,
    lower_confidence_bound,
    uncertainty_weighted,
    worst_case,
)
from irl_jax.types import InputError

REWARD = np.random.default_rng(0).standard_normal((4, 3, 5))


def by_hand(members, kind):
    """Coste et al. 2023, eqs. 4 and 5, and the bound, for one response."""
    mean = sum(members) / len(members)
    variance = sum((r - mean) ** 2 for r in members) / len(members)
    return {
        "worst": min(members),
        "weighted": mean - 0.3 * variance,
        "deviation": variance**0.5,
        "bound": mean - 1.5 * variance**0.5,
    }[kind]


@pytest.mark.parametrize(
    ("kind", "aggregate"),
    [
        ("worst", worst_case),
        ("weighted", lambda r: uncertainty_weighted(r, penalty=0.3)),
        ("deviation", disagreement),
        ("bound", lambda r: lower_confidence_bound(r, deviations=1.5)),
    ],
)
def test_an_aggregate_equals_its_definition(kind, aggregate):
    got = aggregate(jnp.asarray(REWARD, jnp.float32))
    assert got.shape == (3, 5)
    for index in np.ndindex(3, 5):
        want = by_hand(list(REWARD[(slice(None), *index)]), kind)
        np.testing.assert_allclose(got[index], want, rtol=1e-4, atol=1e-5)


def test_members_that_agree_have_every_aggregate_in_common():
    reward = jnp.full([3, 2], 1.25)
    for value in (
        worst_case(reward),
        uncertainty_weighted(reward, penalty=9.0),
        lower_confidence_bound(reward, deviations=9.0),
    ):
        np.testing.assert_array_equal(value, 1.25)
    gradient = jax.grad(lambda r: disagreement(r).sum())(reward)
    np.testing.assert_array_equal(gradient, 0.0)


def test_units_change_the_order_of_one_aggregate_and_not_of_the_other():
    """Two responses: the first is better on average, the members are at odds over it."""
    reward = jnp.array([[3.0, 1.0], [0.0, 1.0]])
    ahead = lambda aggregate, unit: float(jnp.subtract(*aggregate(unit * reward)))
    bound = lambda r: lower_confidence_bound(r, deviations=0.2)
    variance = lambda r: uncertainty_weighted(r, penalty=0.2)
    assert ahead(bound, 1.0) > 0 and ahead(bound, 10.0) > 0
    assert ahead(variance, 1.0) > 0 > ahead(variance, 10.0)


def test_a_negative_weight_is_named():
    with pytest.raises(InputError, match=r"^penalty: expected a number in \[0.0, inf\], got -1"):
        uncertainty_weighted(jnp.ones([2, 1]), penalty=-1)
    with pytest.raises(InputError, match=r"^deviations: expected a number in \[0.0, inf\]"):
        lower_confidence_bound(jnp.ones([2, 1]), deviations=-1)
