"""The two functional forms: planted coefficients come back, intervals cover, peaks are maxima."""

import math

import numpy as np
import pytest

from irl_jax.eval.overoptimisation import features, fit, peak
from irl_jax.types import InputError

FORMS = ("best-of-n", "reinforcement learning")


def curve(d, alpha, beta, form):
    """R(d) as the paper writes it, one distance at a time."""
    if d == 0:
        return 0.0
    return d * (alpha - beta * (d if form == "best-of-n" else math.log(d)))


@pytest.mark.parametrize("form", FORMS)
def test_planted_coefficients_come_back_exactly(form):
    d = np.linspace(0, 6, 25)
    found = fit(d, [curve(x, 1.3, 0.4, form) for x in d], form, resamples=50)
    assert found.alpha.estimate == pytest.approx(1.3, abs=1e-9)
    assert found.beta.estimate == pytest.approx(0.4, abs=1e-9)
    assert found.r2 == pytest.approx(1.0)
    fine = np.linspace(0.001, 40, 400_000)
    values = [curve(x, 1.3, 0.4, form) for x in fine[::40]]
    assert found.peak.estimate == pytest.approx(fine[::40][np.argmax(values)], abs=0.01)
    inside = [curve(x, 1.3, 0.4, form) for x in np.linspace(0, 6, 6001)]
    assert found.top.estimate == pytest.approx(max(inside), abs=1e-5)
    assert found([2.5]) == pytest.approx([curve(2.5, 1.3, 0.4, form)])


@pytest.mark.parametrize("form", FORMS)
def test_weights_are_those_of_least_squares(form):
    rng = np.random.default_rng(0)
    d, reward, weight = rng.uniform(0, 4, 30), rng.normal(size=30), rng.uniform(0.1, 3, 30)
    root = np.sqrt(weight)
    expected = np.linalg.lstsq(features(d, form) * root[:, None], reward * root)[0]
    found = fit(d, reward, form, weight=weight, resamples=10)
    assert [found.alpha.estimate, found.beta.estimate] == pytest.approx(expected.tolist())
    mean = sum(w * r for w, r in zip(weight, reward, strict=True)) / sum(weight)
    squares = lambda errors: sum(w * e**2 for w, e in zip(weight, errors, strict=True))
    explained = 1 - squares(reward - features(d, form) @ expected) / squares(reward - mean)
    assert found.r2 == pytest.approx(explained)


def test_intervals_over_runs_cover():
    """Runs differ in their alpha: about 95 % of the intervals hold the mean one."""
    rng = np.random.default_rng(1)
    d, covered, trials = np.tile(np.linspace(0, 5, 12), 8), 0, 40
    runs = np.repeat(np.arange(8), 12)
    for trial in range(trials):
        alpha = (1.0 + 0.2 * rng.normal(size=8))[runs]
        mean = features(d, "best-of-n") @ [0.0, 0.3]
        reward = mean + alpha * d + 0.1 * rng.normal(size=len(d))
        found = fit(d, reward, "best-of-n", clusters=runs, resamples=80, seed=trial)
        covered += not found.alpha.excludes(1.0)
    assert covered / trials > 0.95 - 3 * math.sqrt(0.95 * 0.05 / trials)


def test_a_curve_without_a_peak_says_so():
    d = np.linspace(0, 3, 10)
    found = fit(d, d * (1 + 0.2 * d), "best-of-n", resamples=20)
    assert found.peak.estimate == np.inf
    assert found.top.estimate == pytest.approx(3 * 1.6)
    falling = fit(d, -d * (1 + 0.2 * d), "best-of-n", resamples=20)
    assert falling.peak.estimate == 0
    assert peak(0.0, 0.0, "best-of-n") == 0


def test_bad_input():
    with pytest.raises(InputError, match=r"√KL of 0 or more, got -1"):
        fit([-1.0, 1.0], [0.0, 0.0], "best-of-n")
    with pytest.raises(InputError, match="2 or more distances"):
        fit([0.0, 1.0], [0.0, 1.0], "best-of-n")
    with pytest.raises(InputError, match="shapes differ"):
        fit([1.0, 2.0], [0.0], "best-of-n")
    with pytest.raises(InputError, match="positive weights"):
        fit([1.0, 2.0], [0.0, 1.0], "best-of-n", weight=[1.0, 0.0])
    with pytest.raises(InputError, match="form"):
        fit([1.0, 2.0], [0.0, 1.0], "sft")
