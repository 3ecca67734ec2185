import math

import numpy as np
import pytest

from irl_jax.eval.intervals import Interval
from irl_jax.report.series import Series, curves, from_intervals, from_rows, smooth, thin
from irl_jax.types import InputError

ROWS = [
    {"stage": "reward", "step": 1, "time": 0.0, "loss": 9.0},
    {"stage": "train", "step": 1, "time": 0.0, "loss": 1.0, "kl": 0.5, "error": 0.1},
    {"stage": "train", "step": 2, "time": 0.0, "loss": None, "kl": 0.7, "error": 0.1},
    {"stage": "train", "step": 3, "time": 0.0, "gold": 2.0},
    {"stage": "train", "step": 4, "time": 0.0, "loss": 4.0, "kl": None, "error": 0.5},
]


def test_from_rows_takes_one_stage_and_leaves_gaps():
    series = from_rows(ROWS, "loss", spread="error", label="training loss", colour="blue")
    assert series.x.tolist() == [1, 2, 4]
    assert np.array_equal(series.y, [1.0, math.nan, 4.0], equal_nan=True)
    assert np.array_equal(series.low, [0.9, math.nan, 3.5], equal_nan=True)
    assert np.array_equal(series.high, [1.1, math.nan, 4.5], equal_nan=True)
    assert (series.label, series.colour) == ("training loss", "blue")
    assert from_rows(ROWS, "loss", stage="reward").y.tolist() == [9.0]


def test_from_rows_over_another_metric():
    series = from_rows(ROWS, "loss", x="kl")
    assert series.x.tolist() == [0.5, 0.7]


def test_from_rows_names_what_there_is():
    with pytest.raises(InputError, match=r"no row of stage 'train' has 'los'.*has error, gold, kl"):
        from_rows(ROWS, "los")
    with pytest.raises(InputError, match="it has no rows"):
        from_rows(ROWS, "loss", stage="policy")


def test_from_intervals():
    series = from_intervals("gold", [1, 2], [Interval(1, 0, 2), Interval(3, 2, 5)])
    assert (series.y.tolist(), series.low.tolist(), series.high.tolist()) == (
        [1, 3], [0, 2], [2, 5],
    )  # fmt: skip


def test_thin_is_the_mean_of_blocks():
    x = np.arange(10.0)
    few = thin(Series("s", x, x**2, x**2 - 1, x**2 + 1, "blue"), most=4)
    assert few.x.tolist() == [1, 4, 7, 9]
    assert few.y == pytest.approx([5 / 3, 50 / 3, (36 + 49 + 64) / 3, 81])
    assert few.high - few.low == pytest.approx([2, 2, 2, 2])
    assert few.colour == "blue"
    short = Series("s", x, x)
    assert thin(short, most=10) is short


@pytest.mark.parametrize("window", [1, 2, 5, 30])
def test_smooth_is_the_mean_of_what_is_near(window):
    y = np.array([1.0, 2, math.nan, 4, 5, 7, 1, 0])
    got = smooth(Series("s", np.arange(8.0), y), window).y
    for i in range(8):
        near = y[max(0, i - window // 2) : i + (window - 1) // 2 + 1]
        near = near[np.isfinite(near)]
        assert (math.isnan(got[i]) and not near.size) or got[i] == pytest.approx(near.mean())


@pytest.mark.parametrize(
    ("y", "low", "high"),
    [
        (np.zeros(2), None, None),
        (np.zeros(3), np.zeros(3), None),
        (np.zeros(3), np.zeros(2), np.zeros(3)),
        (np.zeros((3, 1)), None, None),
    ],
)
def test_one_shape(y, low, high):
    with pytest.raises(InputError, match="series 'a': x, y, low and high need one shape"):
        Series("a", np.zeros(3), y, low, high)


def test_curves_take_intervals_as_json_has_them_and_may_end_early():
    found = curves({"long": [[1.0, 0.5, 1.5], [2.0, 1.0, 3.0]], "short": [(4.0, 3.0, 5.0)]},
                   [10, 20], reference=["short"])  # fmt: skip
    assert [c.label for c in found] == ["long", "short"]
    assert [c.reference for c in found] == [False, True]
    np.testing.assert_array_equal(found[0].x, [10, 20])
    np.testing.assert_array_equal(found[0].high, [1.5, 3.0])
    np.testing.assert_array_equal(found[1].x, [10])
