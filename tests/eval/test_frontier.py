"""Tests of irl_jax.eval.frontier."""

import numpy as np
import pytest
import scipy.optimize

from irl_jax.eval.frontier import frontier, gold_at_kl
from irl_jax.types import InputError


def oracle(kl, gold, level):
    """Follows the path measurement by measurement, and looks for the root of d(t) − √κ."""
    times = np.arange(len(kl) + 1.0)
    d = np.sqrt(np.maximum(np.concatenate([[0.0], kl]), 0.0))
    g = np.concatenate([[0.0], gold])
    short = lambda t: np.interp(t, times, d) - np.sqrt(level)
    for end in range(1, len(times)):
        if short(end) >= 0:
            at = scipy.optimize.brentq(short, end - 1, end, xtol=1e-14)
            return np.interp(at, times, g)
    return np.nan


def test_it_equals_the_oracle():
    rng = np.random.default_rng(0)
    kl, gold = rng.uniform(-0.5, 6.0, (4, 5, 7)), rng.normal(size=(4, 5, 7))
    for level in (0.3, 2.0, 5.5):
        got = gold_at_kl(kl, gold, level)
        want = [[oracle(*run, level) for run in zip(*world, strict=True)]
                for world in zip(kl, gold, strict=True)]  # fmt: skip
        assert got.shape == (4, 5) and got.dtype == np.float64
        np.testing.assert_allclose(got, want, rtol=1e-10)
    assert np.isnan(gold_at_kl(kl, gold, 6.1)).all()


def test_gold_that_is_linear_in_the_root_of_kl_is_read_exactly():
    kl = np.array([0.5, 3.0, 7.0])
    for level in (0.1, 2.0, 7.0):
        assert gold_at_kl(kl, 1.5 * np.sqrt(kl), level) == pytest.approx(1.5 * np.sqrt(level))


def test_the_first_crossing_counts_and_not_what_comes_after():
    assert gold_at_kl([4.0, 1.0, 9.0], [1.0, 0.0, 5.0], 4.0) == 1.0
    assert gold_at_kl([1.0, 0.25, 4.0], [1.0, 0.0, 3.0], 2.25) == pytest.approx(2.0)


def test_what_was_not_measured_is_left_out():
    nan = np.nan
    assert gold_at_kl([1.0, nan, 4.0], [0.5, 7.0, 1.0], 2.25) == 0.75
    assert np.isnan(gold_at_kl([1.0, nan], [0.5, 7.0], 2.25))


def test_a_strength_is_chosen_in_other_worlds():
    rng = np.random.default_rng(1)
    kl, gold = np.ones((6, 3, 1)), rng.normal(size=(6, 3, 1))
    want = []
    for world in range(6):
        others = np.delete(gold[:, :, 0], world, axis=0).mean(0)
        want.append(gold[world, others.argmax(), 0])
    np.testing.assert_allclose(frontier(kl, gold, 1.0), want, rtol=1e-12)


def test_one_lucky_number_of_a_bad_strength_is_not_taken():
    gold = np.array([[9.0, 2.0], [1.0, 2.0], [1.0, 2.0]])[..., None]
    found = frontier(np.ones((3, 2, 1)), gold, 1.0)
    assert found.tolist() == [2.0, 1.0, 1.0]  # others see the 9, its own world does not


def test_a_strength_must_get_there_in_every_world():
    kl = np.array([[[1.0], [4.0]], [[4.0], [4.0]]])
    gold = np.array([[[9.0], [1.0]], [[9.0], [2.0]]])
    assert frontier(kl, gold, 4.0).tolist() == [1.0, 2.0]
    assert np.isnan(frontier(kl[:, :1], gold[:, :1], 4.0)).all()


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: gold_at_kl([1.0], [1.0, 2.0], 1.0), "shapes differ: kl"),
        (lambda: gold_at_kl([1.0], [np.nan], 1.0), "gold: 1 of 1 not finite"),
        (lambda: gold_at_kl([1.0], [1.0], 0.0), "level: a KL above 0 nats is asked for, got 0"),
        (lambda: gold_at_kl([1.0], [1.0], np.nan), "level: a KL above 0 nats"),
        (lambda: frontier([1.0], [1.0], 1.0), "gold: expected 3 axes"),
    ],
)
def test_what_cannot_be_measured_is_refused(call, says):
    with pytest.raises(InputError, match=says):
        call()
