"""Scores of steps become scores of solutions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from irl_jax.rewards.process import last, mean, minimum, product
from irl_jax.types import InputError

ORACLES = {minimum: min, product: np.prod, last: lambda p: p[-1], mean: np.mean}
every = pytest.mark.parametrize("aggregate", ORACLES, ids=lambda f: f.__name__)


def steps(seed=0, shape=(4, 3, 6)):
    """Logits, and a mask with holes, as at the ends of steps in an array over tokens."""
    rng = np.random.default_rng(seed)
    mask = rng.random(shape) < 0.6
    mask[..., 2] = True
    mask[0, 0, 3:] = mask[0, 0, :2] = False  # a solution of one step
    return 3 * rng.normal(size=shape).astype(np.float32), mask


@every
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_equals_a_loop_over_probabilities(aggregate, seed):
    logit, mask = steps(seed)
    got = aggregate(np.where(mask, logit, np.nan), mask)
    for index in np.ndindex(*got.shape):
        probability = 1 / (1 + np.exp(-np.float64(logit[index][mask[index]])))
        want = np.log(ORACLES[aggregate](list(probability)))
        assert float(got[index]) == pytest.approx(want, rel=1e-5, abs=1e-6)


@every
def test_a_solution_without_steps_is_never_chosen(aggregate):
    logit, mask = steps()
    mask[1, 2] = False
    got = np.asarray(aggregate(logit, mask))
    assert got[1, 2] == -np.inf
    assert np.isfinite(np.delete(got.reshape(-1), 5)).all()


@every
def test_many_hopeless_steps_do_not_tie(aggregate):
    """A product of probabilities would underflow to 0 for both."""
    logit = jnp.stack([jnp.full(200, -60.0), jnp.full(200, -61.0)])
    better, worse = aggregate(logit, jnp.ones((2, 200), bool))
    assert np.isfinite(better) and better > worse


@every
def test_gradients_are_finite_where_padding_is_nan(aggregate):
    logit, mask = steps()
    slope = jax.grad(lambda x: aggregate(x, mask).sum())(np.where(mask, logit, np.nan))
    assert np.isfinite(slope).all() and not np.any(np.asarray(slope)[~mask])


@every
def test_a_mask_of_another_shape_is_named(aggregate):
    logit, mask = steps()
    with pytest.raises(InputError, match=r"^mask: expected shape"):
        aggregate(logit, mask[:1])
