import jax
import numpy as np
import pytest
from scipy import special

from irl_jax.losses.link import (
    ahead_by,
    discopop_link,
    exo_link,
    hinge,
    logistic,
    probit,
    ropo_link,
    smooth,
    smoothed_zero_one,
    square,
    unbiased,
)
from irl_jax.types import InputError


def test_logistic_at_zero_and_in_the_tails():
    assert logistic(0.0) == pytest.approx(np.log(2), rel=1e-6)
    assert logistic(1e4) == 0
    assert logistic(-1e4) == 1e4
    assert jax.grad(logistic)(0.0) == -0.5


def test_no_smoothing_is_the_link():
    z = np.linspace(-3, 3, 7, dtype=np.float32)
    np.testing.assert_array_equal(smooth(logistic, 0.0)(z), logistic(z))


def test_half_smoothing_is_symmetric():
    z = np.linspace(-3, 3, 7, dtype=np.float32)
    link = smooth(logistic, 0.5)
    np.testing.assert_allclose(link(z), link(-z), rtol=1e-6)


@pytest.mark.parametrize("error", [0.05, 0.3])
def test_smoothed_logistic_is_least_at_the_log_odds(error):
    least = np.float32(np.log((1 - error) / error))
    assert jax.grad(smooth(logistic, error))(least) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("value", [-0.1, 0.6, float("nan"), "0.1"])
def test_smoothing_out_of_range_is_named(value):
    with pytest.raises(InputError, match=r"^label_smoothing: expected a number in"):
        smooth(logistic, value)


def test_probit_and_its_gradient_keep_their_digits_far_out():
    z = np.concatenate([np.linspace(-12, 6, 181), [-1e2, -1e4]]).astype(np.float32)
    exact = special.log_ndtr(z.astype(np.float64))
    np.testing.assert_allclose(probit(z), -exact, rtol=2e-6, atol=5e-8)
    # φ / Φ, by the scaled complementary error function
    mills = np.sqrt(2 / np.pi) / special.erfcx(-z.astype(np.float64) / np.sqrt(2))
    gradient = jax.vmap(jax.grad(probit))(z)
    np.testing.assert_allclose(gradient, -mills, rtol=2e-5, atol=1e-30)


@pytest.mark.parametrize("flip_rate", [0.0, 0.1, 0.4])
@pytest.mark.parametrize("link", [logistic, probit])
def test_unbiased_over_flips_is_the_link(link, flip_rate):
    z = np.linspace(-3, 3, 7, dtype=np.float32)
    corrected = unbiased(link, flip_rate)
    mean = (1 - flip_rate) * corrected(z) + flip_rate * corrected(-z)
    np.testing.assert_allclose(mean, link(z), rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("value", [-0.1, 0.5, 0.6])
def test_flip_rates_that_cannot_be_undone_are_named(value):
    with pytest.raises(InputError, match=r"^flip_rate: "):
        unbiased(logistic, value)


def test_flips_of_labels_scale_the_gradient_of_the_sigmoid_link_alone():
    z = np.linspace(-3, 3, 7, dtype=np.float32)
    slope = jax.vmap(jax.grad(smoothed_zero_one))
    noisy = jax.vmap(jax.grad(lambda x: 0.7 * smoothed_zero_one(x) + 0.3 * smoothed_zero_one(-x)))
    np.testing.assert_allclose(noisy(z), 0.4 * slope(z), rtol=1e-4, atol=1e-7)
    other = jax.vmap(jax.grad(lambda x: 0.7 * logistic(x) + 0.3 * logistic(-x)))
    assert np.ptp(other(z) / jax.vmap(jax.grad(logistic))(z)) > 0.1


def test_sigmoid_link_counts_wrong_orders():
    assert smoothed_zero_one(np.array([50.0, -50.0, 0.0], np.float32)).tolist() == pytest.approx(
        [0, 1, 0.5]
    )


def test_slope_of_ropo_is_at_most_one_and_small_where_the_label_is_contradicted():
    z = np.linspace(-30, 30, 60_001, dtype=np.float32)
    for alpha in (2.0, 6.0, 14.0):
        slope = -jax.vmap(jax.grad(ropo_link(alpha)))(z)
        assert slope.max() == pytest.approx(1.0, abs=1e-4)
        wrong = 1 / (1 + np.exp(z[slope.argmax()]))
        assert wrong == pytest.approx((1 + alpha) / (2 * alpha), abs=0.01)
        assert slope[0] == pytest.approx(4 * alpha / (1 + alpha) ** 2, rel=1e-4)
        assert slope[-1] == pytest.approx(0, abs=1e-4)


def test_ropo_is_symmetric_but_for_its_logistic_part():
    """ℓ(z) + ℓ(−z) is constant: with flips, the expected loss keeps its optimum."""
    z = np.linspace(-5, 5, 11, dtype=np.float32)
    for alpha in (6.0, 1e6):
        scale = 4 * alpha / (1 + alpha) ** 2
        rest = lambda x, a=alpha, s=scale: ropo_link(a)(x) - s * logistic(x)
        np.testing.assert_allclose(rest(z) + rest(-z), alpha * scale, rtol=1e-4)
    np.testing.assert_allclose(ropo_link(1e6)(z), 4 * smoothed_zero_one(z), atol=1e-4)


@pytest.mark.parametrize("value", [1.0, 0.5, float("nan")])
def test_alpha_of_ropo_out_of_range_is_named(value):
    with pytest.raises(InputError, match=r"^alpha: expected a number in"):
        ropo_link(value)


def test_hinge_asks_for_one():
    assert hinge(np.array([2.0, 1.0, 0.0, -1.0], np.float32)).tolist() == [0, 0, 1, 2]


def test_ahead_by_and_square():
    assert ahead_by(hinge, 0.5)(1.0) == 0.5
    assert square(2.0)(-1.0) == 9.0


@pytest.mark.parametrize("epsilon", [0.05, 0.3])
def test_exo_is_least_at_the_log_odds_and_zero_there(epsilon):
    least = np.float32(np.log((1 - epsilon) / epsilon))
    assert exo_link(epsilon)(least) == pytest.approx(0, abs=1e-6)
    assert jax.grad(exo_link(epsilon))(least) == pytest.approx(0, abs=1e-6)


def test_discopop_is_logistic_on_the_left_and_exponential_on_the_right():
    link = discopop_link(0.05)
    assert link(-3.0) == pytest.approx(float(logistic(-3.0)), rel=1e-5)
    assert link(3.0) == pytest.approx(np.exp(-3.0), rel=1e-5)
    slope = jax.grad(link)
    assert all(np.isfinite(slope(z)) for z in (-1e5, -100.0, 0.0, 100.0, 1e5))
