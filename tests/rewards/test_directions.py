"""Directions of preferences, and weights of a user, against NumPy and SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from irl_jax.rewards.directions import map_weights, principal_directions, softmax_weights
from irl_jax.types import InputError


def differences(seed=0, n=40, d=5):
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((n, d)) * np.array([3.0, 2.0, 1.0, 0.6, 0.3]) + 0.4).astype("f4")


def ones(n):
    return jnp.ones(n, jnp.float32)


@pytest.mark.parametrize("centred", [True, False])
def test_directions_are_those_of_the_covariance(centred):
    z = differences()
    got, variance = principal_directions(z, ones(40), count=3, centred=centred)
    about = z - z.mean(0) if centred else z
    _, singular, vectors = np.linalg.svd(about.astype(np.float64))
    np.testing.assert_allclose(variance, singular[:3] ** 2 / 40, rtol=1e-4)
    np.testing.assert_allclose(np.abs((got * vectors[:3]).sum(1)), 1, atol=1e-5)
    np.testing.assert_allclose(got @ got.T, np.eye(3), atol=1e-5)
    assert ((got @ z.mean(0)) > 0).all()  # the chosen side scores higher


def test_weights_repeat_rows_and_0_hides_them():
    z = differences(1)
    weight = np.random.default_rng(0).integers(0, 3, 40).astype("f4")
    spoilt = np.where(weight[:, None] == 0, np.nan, z).astype("f4")
    got, variance = principal_directions(spoilt, weight, count=2, centred=True)
    twice = np.repeat(z, weight.astype(int), axis=0)
    want, same = principal_directions(twice, ones(len(twice)), count=2, centred=True)
    np.testing.assert_allclose(variance, same, rtol=1e-4)
    np.testing.assert_allclose(np.abs((got * want).sum(1)), 1, atol=1e-4)


def test_labels_enter_through_the_mean_alone():
    """Without centring, flipping any labels changes nothing but signs."""
    z = differences(2)
    flipped = z * np.random.default_rng(3).choice([-1, 1], (40, 1)).astype("f4")
    spectra = {}
    for centred in (False, True):
        (one, before), (other, after) = (
            principal_directions(x, ones(40), count=3, centred=centred) for x in (z, flipped)
        )
        spectra[centred] = np.abs(before - after).max()
        if not centred:
            np.testing.assert_allclose(np.abs((one * other).sum(1)), 1, atol=1e-5)
    assert spectra[False] < 1e-4 < 0.05 < spectra[True]
    # and that part has rank one: Σ about 0 is Σ about the mean + mean meanᵀ
    about = lambda x: np.cov(x.T, bias=True)
    rank = np.linalg.matrix_rank(about(flipped.astype("f8")) - z.T @ z / 40, tol=1e-5)
    assert rank == 1


@pytest.mark.parametrize("count", [0, 6])
def test_a_wrong_count_is_named(count):
    with pytest.raises(InputError, match=r"^count: expected 1 to 5 \(features\), got"):
        principal_directions(differences(), ones(40), count=count, centred=True)


def test_softmax_weights():
    ahead = np.array([[2.0, -1.0, 0.0], [1.0, 3.0, 0.0]])
    weight = np.array([1.0, 0.5])
    loss = (weight[:, None] * np.log1p(np.exp(-ahead))).sum(0)
    want = np.exp(-loss / 0.7) / np.exp(-loss / 0.7).sum()
    got = softmax_weights(ahead.astype("f4"), weight.astype("f4"), temperature=0.7)
    np.testing.assert_allclose(got, want, rtol=1e-5)
    # nothing seen: all alike; what has no weight may be anything
    spoilt = np.full((2, 3), np.nan, np.float32)
    np.testing.assert_allclose(
        softmax_weights(spoilt, 0 * ones(2), temperature=1.0), 1 / 3, rtol=1e-6
    )


def test_a_head_and_its_opposite_cancel_until_a_comparison_tells():
    ahead = np.array([[1.0, -1.0]] * 3, np.float32)
    weights = softmax_weights(ahead, ones(3), temperature=1.0)
    odds = 3 * (np.log1p(np.e) - np.log1p(np.exp(-1)))  # difference of the two losses
    assert float(jnp.log(weights[0] / weights[1])) == pytest.approx(odds, rel=1e-5)


def case(seed, n=30, k=4, scale=1.0):
    rng = np.random.default_rng(seed)
    root = rng.standard_normal((k, k))
    ahead = scale * rng.standard_normal((n, k))
    return ahead, rng.uniform(0, 2, n), rng.standard_normal(k), root @ root.T + 0.1 * np.eye(k)


def mode(ahead, weight, mean, precision):
    """The same minimum by SciPy, float64."""

    def objective(v):
        off = v - mean
        z = ahead @ v
        slope = precision @ off - (weight / (1 + np.exp(z))) @ ahead
        return weight @ np.logaddexp(0, -z) + 0.5 * off @ precision @ off, slope

    return scipy.optimize.minimize(objective, mean, jac=True, method="BFGS", tol=1e-10).x


SOLVE = jax.jit(map_weights)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("scale", [0.5, 20.0])
def test_map_weights_are_the_mode(seed, scale):
    ahead, weight, mean, precision = case(seed, scale=scale)
    f4 = [x.astype("f4") for x in (ahead, weight, mean, precision)]
    got = SOLVE(f4[0], f4[1], mean=f4[2], precision=f4[3])
    want = mode(ahead, weight, mean, precision)
    np.testing.assert_allclose(got, want, rtol=2e-3, atol=2e-3)


def test_map_weights_in_one_dimension():
    """One comparison that is 1 ahead, prior N(0, 1): v = σ(−v), the omega of the logistic."""
    v = float(map_weights(jnp.ones([1, 1]), ones(1), mean=jnp.zeros(1), precision=jnp.eye(1))[0])
    assert v == pytest.approx(1 / (1 + np.exp(v)), abs=1e-6)


def test_without_comparisons_the_prior_mean_stays():
    ahead, weight, mean, precision = (x.astype("f4") for x in case(5))
    spoilt = np.full_like(ahead, np.nan)
    np.testing.assert_array_equal(SOLVE(spoilt, 0 * weight, mean=mean, precision=precision), mean)


def test_a_strong_prior_holds_and_a_weak_one_lets_go():
    ahead, weight, mean, _ = (x.astype("f4") for x in case(6))
    at = lambda p: SOLVE(ahead, weight, mean=mean, precision=np.float32(p * np.eye(4)))
    assert np.abs(at(1e5) - mean).max() < 1e-3
    moved = np.linalg.norm(at(1.0) - mean), np.linalg.norm(at(0.1) - mean)
    assert 0.1 < moved[0] < moved[1]
