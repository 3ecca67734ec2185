import numpy as np
import pytest

from irl_jax.eval.calibration import calibration_error, pair_confidence, reliability
from irl_jax.types import InputError


def test_bins_by_hand():
    """Eight entries in two bins of four."""
    confidence = [0.5, 0.6, 0.6, 0.7, 0.8, 0.8, 0.9, 0.9]
    right = [1, 0, 1, 0, 1, 1, 1, 0]
    of = reliability(confidence, right, bins=2)
    np.testing.assert_allclose(of.confidence, [0.6, 0.85])
    np.testing.assert_allclose(of.accuracy, [0.5, 0.75])
    assert of.count.tolist() == [4, 4]
    error = calibration_error(confidence, right, bins=2, resamples=50)
    assert error.estimate == pytest.approx((4 * 0.1 + 4 * 0.1) / 8)


def test_equal_confidences_share_a_bin():
    of = reliability([0.7] * 6 + [0.9] * 6, [1, 0, 0, 1, 0, 0] + [1] * 6, bins=5)
    assert of.count.tolist() == [6, 6]
    np.testing.assert_allclose(of.accuracy, [1 / 3, 1])
    one = reliability([0.7] * 4, [1, 0, 1, 1])
    assert one.count.tolist() == [4]


def test_an_annotator_of_the_models_own_scale_is_calibrated_and_a_noisier_one_is_not():
    rng = np.random.default_rng(0)
    logits = 2 * rng.standard_normal(4000)
    errors = {}
    for scale in (1.0, 0.3):
        first = rng.random(4000) < 1 / (1 + np.exp(-scale * logits))
        chosen = np.where(first, logits, -logits) / 2
        confidence, right = pair_confidence(np.stack([chosen, -chosen], 1))
        errors[scale] = calibration_error(confidence, right, resamples=200)
    # E|σ(|z|) - σ(0.3 |z|)| over z ~ N(0, 2²), by quadrature
    z = np.linspace(0, 12, 20001)
    density = np.sqrt(2 / np.pi) / 2 * np.exp(-(z**2) / 8)
    gap = 1 / (1 + np.exp(-z)) - 1 / (1 + np.exp(-0.3 * z))
    exact = np.trapezoid(density * gap, z)
    assert errors[1.0].estimate < 0.03
    assert errors[0.3].estimate == pytest.approx(exact, abs=0.02)
    assert errors[0.3].low > errors[1.0].high


@pytest.mark.parametrize(("deviation", "measured"), [(0.5, 0.0387), (2.0, 0.0300), (3.0, 0.0244)])
def test_a_calibrated_model_has_the_error_that_noise_makes(deviation, measured):
    """1,000 pairs whose labels follow the model, in 10 bins; means of 600 draws."""
    rng, found, expected = np.random.default_rng(0), [], []
    for _ in range(600):
        logits = rng.normal(0, deviation, [1000, 1])
        confidence, _ = pair_confidence(np.hstack([logits, 0 * logits]))
        right = (rng.random(1000) < confidence).astype(float)
        of = reliability(confidence, right)
        found.append((of.count * np.abs(of.accuracy - of.confidence)).sum() / 1000)
        expected.append(np.sqrt(2 / np.pi) * np.sqrt(confidence * (1 - confidence)).mean() * 0.1)
    assert np.mean(found) == pytest.approx(measured, abs=0.0015)
    assert np.mean(found) == pytest.approx(np.mean(expected), rel=0.05)


def test_confidence_is_of_the_order_given_and_a_tie_is_half_right():
    confidence, right = pair_confidence([[1.0, 1.0], [3.0, 0.0], [0.0, 3.0]])
    np.testing.assert_allclose(confidence, [0.5, 1 / (1 + np.exp(-3)), 1 / (1 + np.exp(-3))])
    assert right.tolist() == [0.5, 1.0, 0.0]


def test_prompts_are_resampled_as_wholes():
    prompt = np.repeat(np.arange(10), 40)
    right = (prompt % 2).astype(float)
    confidence = np.full(400, 0.5)
    clustered = calibration_error(confidence, right, prompt, resamples=300)
    naive = calibration_error(confidence, right, resamples=300)
    assert clustered.estimate == naive.estimate == 0
    assert clustered.high > 3 * naive.high


def test_says_what_is_wrong():
    with pytest.raises(InputError, match=r"^confidence: expected values in \[0, 1\], got 0.5 to 2"):
        reliability([0.5, 2.0], [1, 0])
    with pytest.raises(InputError, match=r"^right: expected values in \[0, 1\]"):
        reliability([0.5, 0.6], [1, -1])
    with pytest.raises(InputError, match="shapes differ"):
        calibration_error([0.5, 0.6], [1])
    with pytest.raises(InputError, match=r"^reward: expected shape \[N, 2\], got \[1, 3\]"):
        pair_confidence(np.zeros((1, 3)))
